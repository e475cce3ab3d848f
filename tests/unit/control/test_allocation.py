"""Sharing a power out."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equalizer.control.allocation import Allocation, Slot, allocate, efficiency_ratio


def slot(
    name: str, power_w: float = 0.0, *, locked: bool = False, soc_ratio: float = 0.5, limit_w: float = 60e3
) -> Slot:
    return Slot(("s", name), power_w, limit_w, limit_w, locked=locked, soc_ratio=soc_ratio)


def powers_w(allocation: Allocation) -> dict[str, float]:
    return {key[1]: power_w for key, power_w in allocation.powers_w.items()}


@pytest.mark.parametrize(
    ("asked_w", "slots", "expected"),
    [
        (-20e3, [slot("a"), slot("b")], {"a": -20e3, "b": 0.0}),
        (-90e3, [slot("a"), slot("b")], {"a": -60e3, "b": -30e3}),
        (-20e3, [slot("a", soc_ratio=0.3), slot("b", soc_ratio=0.8)], {"a": 0.0, "b": -20e3}),
        (20e3, [slot("a", soc_ratio=0.3), slot("b", soc_ratio=0.8)], {"a": 20e3, "b": 0.0}),
        (-20e3, [slot("a", locked=True), slot("b")], {"a": 0.0, "b": -20e3}),
        (-30e3, [slot("a", -20e3, locked=True), slot("b")], {"a": -20e3, "b": -10e3}),
        (10e3, [slot("a", -20e3), slot("b")], {"a": 10e3, "b": 0.0}),
        (10e3, [slot("a", -20e3, locked=True), slot("b")], {"a": -20e3, "b": 0.0}),
        (0.0, [slot("a", -20e3), slot("b", -5e3)], {"a": 0.0, "b": 0.0}),
        (-20e3, [slot("a", -12e3), slot("b", -8e3)], {"a": -12e3, "b": -8e3}),
        (-10e3, [slot("a", -12e3), slot("b", -8e3)], {"a": -2e3, "b": -8e3}),
        (
            -70e3,
            [slot("a", limit_w=20e3), slot("b", limit_w=40e3), slot("c", limit_w=50e3)],
            {"a": 0.0, "b": -20e3, "c": -50e3},
        ),
    ],
)
def test_who_gives_how_much(asked_w: float, slots: list[Slot], expected: dict[str, float]) -> None:
    assert powers_w(allocate(asked_w, slots)) == expected


def test_a_rest_that_is_not_worth_a_change_is_left() -> None:
    allocation = allocate(-60_200.0, [slot("a"), slot("b")], least_w=300.0)
    assert allocation.changed == (("s", "a"),)
    assert allocation.shortfall_w == pytest.approx(-200.0)


kilowatts = st.floats(-100e3, 100e3)
limits_w = st.floats(0.0, 80e3)


@st.composite
def pools(draw: st.DrawFn) -> list[Slot]:
    """Channels within their limits, the locked ones of one sign."""
    sign = draw(st.sampled_from([-1.0, 1.0]))
    made = []
    for n in range(draw(st.integers(0, 6))):
        charge_w, discharge_w = draw(limits_w), draw(limits_w)
        power_w = sign * draw(st.floats(0.0, 1.0)) * (charge_w if sign > 0.0 else discharge_w)
        soc_ratio = draw(st.one_of(st.none(), st.floats(0.0, 1.0)))
        made.append(
            Slot(("s", str(n)), power_w, charge_w, discharge_w, locked=draw(st.booleans()), soc_ratio=soc_ratio)
        )
    return made


@given(kilowatts, pools())
def test_every_channel_stays_within_its_limits_and_locked_ones_stand(asked_w: float, slots: list[Slot]) -> None:
    allocation = allocate(asked_w, slots)
    for item in slots:
        power_w = allocation.powers_w[item.key]
        assert -item.discharge_limit_w <= power_w <= item.charge_limit_w
        if item.locked:
            assert power_w == item.power_w


@given(kilowatts, pools())
def test_allocated_and_shortfall_are_what_was_asked(asked_w: float, slots: list[Slot]) -> None:
    allocation = allocate(asked_w, slots)
    assert sum(allocation.powers_w.values()) + allocation.shortfall_w == pytest.approx(asked_w, abs=1e-3)


@given(kilowatts, pools())
def test_there_are_never_two_signs(asked_w: float, slots: list[Slot]) -> None:
    given_w = list(allocate(asked_w, slots).powers_w.values())
    assert min(given_w, default=0.0) >= 0.0 or max(given_w, default=0.0) <= 0.0


@given(kilowatts, pools(), st.randoms(use_true_random=False))
def test_the_order_of_the_channels_does_not_matter(asked_w: float, slots: list[Slot], shuffler: random.Random) -> None:
    shuffled = list(slots)
    shuffler.shuffle(shuffled)
    one, other = allocate(asked_w, slots), allocate(asked_w, shuffled)
    assert one.changed == other.changed
    for key, power_w in one.powers_w.items():
        assert other.powers_w[key] == pytest.approx(power_w, abs=1e-3)


@given(kilowatts, pools())
def test_nothing_is_left_that_a_free_channel_could_take(asked_w: float, slots: list[Slot]) -> None:
    allocation = allocate(asked_w, slots)
    rest_w = allocation.shortfall_w
    total_w = asked_w - rest_w
    for item in slots:
        power_w = allocation.powers_w[item.key]
        if item.locked or abs(rest_w) < 1e-3 or total_w * rest_w <= 0.0:
            continue
        room_w = item.charge_limit_w - power_w if rest_w > 0.0 else power_w + item.discharge_limit_w
        assert room_w <= 1e-3


@given(st.integers(-100_000, 100_000), st.lists(st.integers(0, 80_000), min_size=1, max_size=6))
def test_no_more_channels_are_changed_than_must_be(asked_w: int, limits: list[int]) -> None:
    slots = [slot(str(n), limit_w=float(limit_w)) for n, limit_w in enumerate(limits)]
    needed = covered_w = 0
    for limit_w in sorted(limits, reverse=True):
        if covered_w >= abs(asked_w) or limit_w == 0:
            break
        covered_w += limit_w
        needed += 1
    assert len(allocate(float(asked_w), slots).changed) <= needed


GOOD_AT_HALF = ((10e3, 0.90), (30e3, 0.97), (60e3, 0.94))
GOOD_AT_FULL = ((10e3, 0.85), (30e3, 0.93), (60e3, 0.97))


@pytest.mark.parametrize(("asked_w", "taken"), [(-30e3, "a"), (30e3, "a"), (-60e3, "b"), (60e3, "b")])
def test_among_equals_the_one_that_loses_least_is_taken(asked_w: float, taken: str) -> None:
    slots = [replace(slot("a"), curve=GOOD_AT_HALF), replace(slot("b"), curve=GOOD_AT_FULL)]
    assert [key[1] for key in allocate(asked_w, slots).changed] == [taken]


def test_a_charge_further_off_the_middle_outweighs_a_few_per_cent() -> None:
    slots = [replace(slot("a"), curve=GOOD_AT_HALF), replace(slot("b", soc_ratio=0.7), curve=GOOD_AT_FULL)]
    assert [key[1] for key in allocate(-30e3, slots).changed] == ["b"]


@pytest.mark.parametrize(("power_w", "ratio"), [(0.0, 0.90), (10e3, 0.90), (20e3, 0.935), (60e3, 0.94), (90e3, 0.94)])
def test_a_curve_is_straight_between_its_points_and_flat_beyond(power_w: float, ratio: float) -> None:
    assert efficiency_ratio(GOOD_AT_HALF, power_w) == pytest.approx(ratio)
