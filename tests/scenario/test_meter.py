"""The grid meter's slow trim."""

import pytest

from schemas.messages import Policy
from tests.scenario.hall import Plant


def metered(plant: Plant, seconds: float, *, losses_w: float, late_s: float = 0.0) -> None:
    """Let time pass with a meter that sees the losses too, `late_s` late."""
    seen: list[float] = []
    for _ in range(round(seconds)):
        plant.run(1)
        seen.append(plant.total_w + losses_w)
        late = round(late_s)
        if len(seen) > late:
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
