"""Charge recovery: only what is left over anyway, and never at the cost of the loop."""

from itertools import pairwise

import pytest

from schemas.messages import Policy
from tests.scenario.hall import Plant


def hall(policy: Policy = Policy.CONFIRM, *, equalizers: int = 2, on: bool = True) -> Plant:
    plant = Plant(policy=policy, equalizers=equalizers, engage_w=1000.0, release_w=300.0, charge_recovery=on)
    return plant.settled()


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize(("soc_ratio", "load_w"), [(0.2, -800.0), (0.8, 800.0)])
def test_what_is_left_over_within_the_band_goes_to_the_battery_that_needs_it(
    policy: Policy, soc_ratio: float, load_w: float
) -> None:
    plant = hall(policy)
    plant.eq(2).soc_ratio = soc_ratio
    plant.load(ch=1, power_w=load_w)
    plant.run(30)
    ((_, order),) = plant.changes
    assert (order.channel, order.reason, order.steps[0].power_w) == ("e2", "charge", -load_w)
    assert abs(plant.total_w) < 1.0


@pytest.mark.parametrize(
    ("on", "equalizers", "soc_ratio"),
    [(False, 2, 0.2), (True, 1, 0.2), (True, 2, 0.8), (True, 2, 0.5)],
    ids=["switched off", "no other channel is free", "the wrong way", "in the middle"],
)
def test_it_costs_nothing_or_is_left(on: bool, equalizers: int, soc_ratio: float) -> None:
    plant = hall(equalizers=equalizers, on=on)
    plant.eq(1).soc_ratio = soc_ratio
    plant.load(ch=1, power_w=-800.0)
    plant.run(60)
    assert plant.changes == []


def test_nothing_is_spent_shortly_before_an_announced_edge() -> None:
    plant = hall()
    plant.eq(2).soc_ratio = 0.2
    plant.load(ch=1, power_w=-800.0)
    plant.announce(2, (0.0, 0.0), (28.0, 20_000.0))
    plant.run(27)
    assert "charge" not in {order.reason for _, order in plant.changes}


def test_a_battery_in_recovery_binds_nobody_to_its_sign() -> None:
    plant = hall(Policy.DWELL, equalizers=3)
    plant.eq(2).soc_ratio = 0.2
    plant.load(ch=1, power_w=-800.0)
    plant.run(17)
    assert plant.eq(2).power_w == 800.0
    plant.load(ch=1, power_w=30_000.0)
    plant.run(4)
    assert abs(plant.total_w) < 300.0


def test_a_long_day_of_small_rests_keeps_the_delay_and_the_band() -> None:
    plant = hall(Policy.DWELL, equalizers=3)
    plant.eq(1).soc_ratio, plant.eq(2).soc_ratio = 0.2, 0.8
    for n in range(30):
        plant.load(ch=1, power_w=900.0 if n % 3 else -900.0, after_s=20.0 * n)
    plant.run(620)
    assert "charge" in {order.reason for _, order in plant.changes}
    for n in (1, 2, 3):
        told_s = [at_s for at_s, _ in plant.eq(n).commanded]
        assert all(b - a >= plant.settings.delay_s for a, b in pairwise(told_s))


@pytest.mark.parametrize("policy", list(Policy))
def test_between_the_steps_of_a_busy_hall_recovery_runs_and_costs_nothing(policy: Policy) -> None:
    """Announced steps every minute, each met; what a noisy rest leaves between them may as well serve a battery."""
    left_ws: dict[bool, float] = {}
    for on in (False, True):
        plant = hall(policy, equalizers=3, on=on)
        plant.eq(1).soc_ratio = plant.eq(2).soc_ratio = plant.eq(3).soc_ratio = 0.2
        plant.load(ch=1, power_w=-800.0)
        left_ws[on] = 0.0
        for minute in range(8):
            power_w = 20_000.0 if minute % 2 else 0.0
            plant.announce(2, (0.0, power_w), (60.0, 20_000.0 - power_w))
            plant.load(ch=2, power_w=power_w)
            for _ in range(60):
                plant.run(1)
                left_ws[on] += abs(plant.total_w)
        reasons = [order.reason for _, order in plant.changes]
        assert ("charge" in reasons) is on
        for n in (1, 2, 3):
            told_s = [at_s for at_s, _ in plant.eq(n).commanded]
            assert all(b - a >= plant.settings.delay_s for a, b in pairwise(told_s))
    assert left_ws[True] < left_ws[False]
