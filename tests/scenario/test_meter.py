"""The grid meter's slow trim."""

import pytest

from equalizer.control.losses import Efficiencies, Efficiency
from schemas.messages import Policy
from tests.scenario.hall import Plant


def metered(
    plant: Plant, seconds: float, *, losses_w: float, late_s: float = 0.0, every_s: int = 1, noise_w: float = 0.0
) -> None:
    """Let time pass with a meter that sees the losses too, `late_s` late, and speaks `every_s`."""
    seen: list[float] = []
    for second in range(round(seconds)):
        plant.run(1)
        seen.append(plant.total_w + losses_w + plant.random.gauss(0.0, noise_w))
        late = round(late_s)
        if len(seen) > late and second % every_s == 0:
            plant.book.meter(seen[-1 - late], plant.now_s)


def test_losses_that_only_the_meter_sees_are_trimmed_slowly() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    metered(plant, 15, losses_w=1000.0)
    assert plant.total_w > -400
    metered(plant, 200, losses_w=1000.0)
    assert plant.total_w == pytest.approx(-1000.0, abs=plant.settings.engage_w)


def test_a_late_meter_does_not_make_the_loop_swing() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=2).settled()
    plant.load(ch=1, power_w=30_000.0, after_s=30.0)
    plant.load(ch=1, power_w=-10_000.0, after_s=90.0)
    metered(plant, 150, losses_w=0.0, late_s=2.0)
    assert len(plant.changes) <= 4
    assert abs(plant.total_w) < 50


def test_a_meter_that_fell_silent_is_not_followed() -> None:
    plant = Plant().settled()
    metered(plant, 12, losses_w=1000.0)
    before_w = plant.state.trim.power_w
    plant.run(60)
    assert plant.state.trim.power_w == pytest.approx(before_w, abs=600.0)


def test_no_gain_no_trim() -> None:
    plant = Plant(meter_gain=0.0).settled()
    metered(plant, 60, losses_w=5000.0)
    assert plant.changes == []


@pytest.mark.parametrize("every_s", [1, 4, 8])
def test_a_slow_meter_is_held_against_what_the_channels_said_at_its_time(every_s: int) -> None:
    # The load stands only while the meter does not look: an old reading beside the present total would be 20 kW off.
    plant = Plant(delay_s=60.0).settled()
    for n in range(40):
        plant.load(ch=1, power_w=20_000.0, after_s=8.0 * n + 2.5)
        plant.load(ch=1, power_w=0.0, after_s=8.0 * n + 6.5)
    metered(plant, 300, losses_w=0.0, every_s=every_s)
    assert abs(plant.state.trim.power_w) < 1000.0


@pytest.mark.parametrize("every_s", [1, 4, 8])
def test_a_slow_meter_still_trims_what_only_it_sees(every_s: int) -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    metered(plant, 400, losses_w=1000.0, every_s=every_s, noise_w=50.0)
    assert plant.total_w == pytest.approx(-1000.0, abs=plant.settings.engage_w)


@pytest.mark.parametrize("every_s", [1, 5])
@pytest.mark.parametrize("known_s", [0.0, 2.0])
def test_a_meter_two_seconds_late_does_not_make_a_busy_loop_swing(known_s: float, every_s: int) -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=3, meter_delay_s=known_s).settled()
    for n in range(30):
        plant.load(ch=1 + n % 4, power_w=15_000.0 * (-1) ** (n // 4), after_s=6.0 * n)
    metered(plant, 200, losses_w=0.0, late_s=2.0, every_s=every_s)
    assert abs(plant.state.trim.power_w) < 1500.0
    plant.run(20)
    assert abs(plant.total_w) < 1500.0


def test_a_saturated_loop_does_not_wind_its_trim_up() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.load(ch=1, power_w=90_000.0)
    metered(plant, 200, losses_w=5000.0)
    assert plant.phase == "saturated"
    assert abs(plant.state.trim.power_w) < 1000.0


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("load_w", [20_000.0, -20_000.0])
def test_with_known_efficiencies_it_is_the_grids_side_that_comes_to_zero(policy: Policy, load_w: float) -> None:
    said = Efficiencies({("*", "*"): Efficiency(0.95, 0.93), ("s", "e1"): Efficiency(0.9, 0.92)})
    plant = Plant(policy=policy, efficiencies=said).settled()
    plant.load(ch=1, power_w=load_w)
    plant.run(40)
    grid_w = sum(said.of(("s", name)).at_grid_w(channel.power_w) for name, channel in plant.channels.items())
    assert abs(grid_w) <= plant.settings.release_w
    assert abs(plant.total_w) > 1000.0
    assert len(plant.changes) == 1
