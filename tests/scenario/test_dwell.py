"""Policy `dwell`: acts at once, and then holds."""

import pytest

from schemas.messages import Policy
from tests.scenario.hall import Plant


def test_a_step_is_corrected_by_the_telemetry_that_shows_it() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    begun_s = plant.now_s
    plant.load(ch=3, power_w=20_000.0)
    plant.run(3)
    ((at_s, _),) = plant.changes
    assert at_s - begun_s <= plant.settings.period_s + 0.1
    assert abs(plant.total_w) < 50


def test_the_channel_then_holds_for_the_delay() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.load(ch=3, power_w=20_000.0)
    plant.load(ch=3, power_w=5000.0, after_s=4.0)
    plant.run(14)
    assert len(plant.changes) == 1
    assert plant.reason == "dwell"
    plant.run(4)
    (first_s, _), (second_s, _) = plant.changes
    assert second_s - first_s >= plant.settings.delay_s
    assert abs(plant.total_w) < 50


def test_another_channel_takes_its_turn_meanwhile() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=2).settled()
    plant.load(ch=3, power_w=20_000.0)
    plant.load(ch=3, power_w=30_000.0, after_s=4.0)
    plant.run(8)
    assert [order.channel for _, order in plant.changes] == ["e1", "e2"]
    assert abs(plant.total_w) < 50


def test_what_is_within_the_band_is_left_alone() -> None:
    plant = Plant(policy=Policy.DWELL, engage_w=1000.0, release_w=300.0).settled()
    plant.load(ch=1, power_w=950.0)
    plant.run(30)
    assert plant.changes == []


def test_an_order_is_not_given_twice_while_its_effect_is_on_its_way() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=3).settled()
    for n in (1, 2, 3):
        plant.eq(n).ramp_w_per_s = 2000.0
    plant.run(2)
    plant.load(ch=1, power_w=10_000.0)
    plant.run(40)
    assert len(plant.changes) == 1
    assert abs(plant.total_w) < 50


@pytest.mark.parametrize("load_w", [90_000.0, 70_000.0, 110_000.0])
def test_a_channel_takes_a_sign_only_once_another_has_turned_away_from_the_opposite(load_w: float) -> None:
    # Hall 1795421115: the order to turn got lost three times, and the other had been told to begin in the same moment.
    plant = Plant(policy=Policy.DWELL, equalizers=2).settled()
    plant.load(ch=1, power_w=-4000.0)
    plant.run(20)
    turns = next(n for n in (1, 2) if plant.eq(n).power_w > 0.0)
    plant.eq(turns).deaf = True
    plant.load(ch=1, power_w=load_w)
    plant.run(7)
    assert plant.eq(3 - turns).power_w == 0.0
    plant.eq(turns).deaf = False
    plant.run(5)
    turned_s, turned_w = plant.eq(turns).commanded[-1]
    begun_s, begun_w = plant.eq(3 - turns).commanded[-1]
    assert turned_w < 0.0
    assert begun_w < 0.0
    assert begun_s > turned_s


def busy(**settings: object) -> Plant:
    """A hall with four channels, in which the load has moved by 20 kW within the delay, and stands again."""
    plant = Plant(policy=Policy.DWELL, equalizers=4, **settings).settled()
    for n in range(20):
        plant.load(ch=1 + n % 3, power_w=20_000.0 * (-1) ** (n // 3), after_s=8.0 * n)
    plant.run(200)
    assert abs(plant.total_w) < 50
    return plant


def test_where_much_comes_unannounced_a_channel_is_kept_for_it() -> None:
    plant = busy()
    changes = len(plant.changes)
    plant.load(ch=4, power_w=20_000.0)
    plant.load(ch=4, power_w=22_000.0, after_s=2.0)
    plant.run(5)
    assert len(plant.changes) == changes + 1
    assert plant.reason == "passed_over"
    assert plant.total_w == pytest.approx(2000.0, abs=50)
    plant.load(ch=4, power_w=40_000.0)
    plant.run(3)
    assert len(plant.changes) == changes + 2
    assert abs(plant.total_w) < 50


def test_a_small_imbalance_is_answered_within_the_delay_all_the_same() -> None:
    plant = busy()
    plant.load(ch=4, power_w=20_000.0)
    plant.load(ch=4, power_w=22_000.0, after_s=2.0)
    plant.run(2.0 + plant.settings.delay_s + 1.0)
    assert abs(plant.total_w) < 50


def test_while_no_channel_is_away_a_small_imbalance_is_answered_at_once() -> None:
    plant = busy()
    plant.load(ch=4, power_w=2000.0)
    plant.run(3)
    assert abs(plant.total_w) < 50


def test_an_operators_target_does_not_wait() -> None:
    plant = busy()
    plant.load(ch=4, power_w=20_000.0)
    plant.run(2)
    plant.target(2000.0)
    plant.run(2)
    assert plant.total_w == pytest.approx(2000.0, abs=50)


def test_all_channels_cross_over_zero_together_though_each_gives_little() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=3, engage_w=1000.0, release_w=300.0).settled()
    for n, power_w in enumerate((-1200.0, -2400.0, -3600.0), start=1):
        plant.load(ch=1, power_w=power_w, after_s=4.0 * n)
    plant.load(ch=1, power_w=-700.0, after_s=40.0)
    plant.run(60)
    plant.load(ch=1, power_w=50_000.0)
    plant.run(20)
    assert abs(plant.total_w) < plant.settings.engage_w
