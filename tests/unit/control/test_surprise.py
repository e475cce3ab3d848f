"""How much the load moves unannounced, and what a free channel is worth for it."""

from dataclasses import replace
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equalizer.control.image import LoopImage
from equalizer.control.settings import ControlSettings
from equalizer.control.surprise import UNSURPRISED, Surprise, advance, worth_w
from tests.unit.control.test_step import IMAGE, VIEW

SETTINGS = ControlSettings(delay_s=15.0)


def seen(*loads_w: float, begin: Surprise = UNSURPRISED, settings: ControlSettings = SETTINGS) -> Surprise:
    """What is known after a load that was measured once a second."""
    surprise, now_s = begin, max(begin.taken_s, 0.0)
    for load_w in loads_w:
        now_s += 1.0
        surprise = advance(surprise, showing(load_w), settings, now_s)
    return surprise


def showing(load_w: float, *, transferred_w: float = 0.0) -> LoopImage:
    return replace(IMAGE, remainder_power_w=load_w, transferred_power_w=transferred_w, equalization=(VIEW,))


def test_a_load_that_swings_moves_by_its_swing() -> None:
    swings = [20_000.0 if n // 15 % 2 else -20_000.0 for n in range(3000)]
    assert seen(*swings).moved_w == pytest.approx(40_000.0, rel=0.01)


def test_a_load_that_stands_does_not_move() -> None:
    assert seen(*[50_000.0] * 100).moved_w == 0.0


def test_nothing_is_known_before_a_delay_is_over() -> None:
    assert seen(*[1000.0 * n for n in range(15)]).moved_w == 0.0
    assert seen(*[1000.0 * n for n in range(16)]).moved_w > 0.0


def test_what_was_long_ago_counts_little() -> None:
    restless = seen(*[20_000.0 if n // 15 % 2 else 0.0 for n in range(600)])
    later = seen(*[0.0] * 1200, begin=restless)
    assert later.moved_w < 0.05 * restless.moved_w


def test_a_plan_that_ends_is_no_movement_of_the_load() -> None:
    surprise = seen(*[10_000.0] * 20)
    moved = advance(surprise, showing(40_000.0, transferred_w=30_000.0), SETTINGS, 21.0)
    assert moved.moved_w == 0.0


def test_what_is_no_number_and_what_was_not_seen_is_left_out() -> None:
    surprise = seen(*[10_000.0] * 20)
    assert advance(surprise, showing(nan), SETTINGS, 21.0) == surprise
    after = advance(surprise, showing(90_000.0), SETTINGS, 60.0)
    assert seen(*[90_000.0] * 20, begin=after).moved_w == 0.0


def test_a_long_delay_is_kept_in_few_samples() -> None:
    settings = ControlSettings(delay_s=600.0)
    assert len(seen(*map(float, range(2000)), settings=settings).samples_w) <= 15


@given(
    st.floats(0.0, 1e6),
    st.integers(1, 50).flatmap(lambda n: st.tuples(st.just(n), st.floats(0.0, n), st.floats(0.0, n))),
)
def test_the_more_are_away_the_more_a_channel_is_worth(moved_w: float, halls: tuple[int, float, float]) -> None:
    channels, *away = halls
    surprise = Surprise(moved_w=moved_w)
    few_w, many_w = (worth_w(surprise, some, channels) for some in sorted(away))
    assert 0.0 <= few_w <= many_w
    assert worth_w(surprise, 0.0, channels) == 0.0
