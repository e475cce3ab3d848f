"""Which channels answer what nobody announced."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from equalizer.control.allocation import Slot
from equalizer.control.lookahead import Move, Unit
from equalizer.control.turns import turns


def unit(name: str, power_w: float = 0.0, *, locked: bool = False, soc_ratio: float = 0.5) -> Unit:
    slot = Slot(("s", name), power_w, 60e3, 60e3, locked=locked, soc_ratio=soc_ratio)
    return Unit(slot, 20.0 if locked else 0.0)


def made(mismatch_w: float, *units: Unit, worth_w: float = 0.0) -> dict[str, float]:
    """The powers that channels are told, by name."""
    moves = turns(10.0, mismatch_w, units, least_w=300.0, worth_w=lambda _: worth_w)
    return {move.key[1]: move.power_w for move in moves}


def test_one_channel_answers_what_it_can_alone() -> None:
    assert made(20e3, unit("1"), unit("2", 5e3)) == {"1": 20e3}


def test_more_follow_where_one_is_not_enough() -> None:
    assert made(100e3, unit("1"), unit("2")) == {"1": 60e3, "2": 40e3}


def test_nobody_is_changed_for_less_than_a_channel_is_worth() -> None:
    assert made(20e3, unit("1"), worth_w=17_000.0) == {}
    assert made(20e3, unit("1"), worth_w=15_000.0) == {"1": 20e3}


def test_where_channels_are_worth_nothing_any_imbalance_is_answered() -> None:
    assert made(400.0, unit("1", 50e3)) == {"1": 50_400.0}


def test_a_channel_that_carries_much_does_not_wait_where_little_is_to_be_expected() -> None:
    # A fifth of what it carries is more than the imbalance; but the channel is worth next to nothing.
    assert made(3000.0, unit("1", 50e3), worth_w=10.0) == {"1": 53e3}


def test_a_second_change_must_be_worth_it_for_itself() -> None:
    assert made(80e3, unit("1"), unit("2"), worth_w=25e3) == {"1": 60e3}


def test_a_falling_load_is_followed_no_further_than_to_0_w_while_others_are_bound() -> None:
    assert made(-30e3, unit("1", 10e3), unit("2", 20e3, locked=True)) == {"1": 0.0}


def test_over_zero_go_all_that_carry_power_together() -> None:
    assert made(-80e3, unit("1", 20e3), unit("2", 10e3)) == {"1": -50e3, "2": 0.0}


def test_a_rest_that_is_worth_nothing_alone_bars_nobody_from_the_other_sign() -> None:
    # Each would give less than the band, and held the other to its sign.
    assert sum(made(-40e3, unit("1", 200.0), unit("2", 200.0)).values()) == -39_600.0


def test_the_load_is_shared_evenly() -> None:
    assert made(20e3, unit("1", 30e3), unit("2", 5e3)) == {"2": 25e3}


def test_among_equals_the_emptier_battery_is_charged_and_the_fuller_discharged() -> None:
    assert made(20e3, unit("1", soc_ratio=0.7), unit("2", soc_ratio=0.3)) == {"2": 20e3}
    assert made(-20e3, unit("1", soc_ratio=0.7), unit("2", soc_ratio=0.3)) == {"1": -20e3}


def test_at_partial_load_the_one_that_loses_less_is_taken() -> None:
    lossy = unit("1")
    lossy = replace(lossy, slot=replace(lossy.slot, curve=((0.0, 0.5), (60e3, 0.5))))
    assert made(20e3, lossy, unit("2")) == {"2": 20e3}


@given(
    st.floats(-500e3, 500e3),
    st.sampled_from([-1.0, 1.0]),
    st.lists(st.tuples(st.floats(0.0, 60e3), st.booleans(), st.floats(0.0, 1.0)), min_size=1, max_size=8),
    st.floats(0.0, 100e3),
)
def test_what_is_made_is_within_limits_of_one_sign_and_never_for_nothing(
    mismatch_w: float, sign: float, channels: list[tuple[float, bool, float]], least_worth_w: float
) -> None:
    units = [
        unit(str(n), sign * power_w, locked=locked, soc_ratio=soc_ratio)
        for n, (power_w, locked, soc_ratio) in enumerate(channels)
    ]
    moves = turns(0.0, mismatch_w, units, least_w=300.0, worth_w=lambda _: least_worth_w)
    powers_w = {one.slot.key: one.slot.power_w for one in units}
    free = {one.slot.key for one in units if not one.slot.locked}
    assert len({move.key for move in moves}) == len(moves)
    assert all(move.key in free and abs(move.power_w) <= 60e3 for move in moves)
    after_w = after(powers_w, moves)
    assert not (min(after_w) < -1e-3 and max(after_w) > 1e-3)
    covered_w = abs(mismatch_w) - abs(mismatch_w - (sum(after_w) - sum(powers_w.values())))
    assert covered_w >= len(moves) * least_worth_w - 1e-6


def after(powers_w: dict[tuple[str, str], float], moves: list[Move]) -> list[float]:
    return list((powers_w | {move.key: move.power_w for move in moves}).values())
