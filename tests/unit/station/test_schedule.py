"""What happens regularly: without drift, without bursts, evenly spread."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.schedule import Cycle, spread


def test_a_cycle_that_is_always_a_little_late_does_not_drift() -> None:
    cycle = Cycle(0.0, 1.0)
    for number in range(1000):
        assert cycle.due_s == number
        assert cycle.take(number + 0.3) == 0


def test_after_a_hold_up_the_missed_ones_are_left_out_and_the_phase_is_kept() -> None:
    cycle = Cycle(0.25, 0.5)
    assert cycle.take(2.0) == 3
    assert cycle.due_s == pytest.approx(2.25)


@given(
    period_s=st.floats(0.1, 60.0),
    late_s=st.lists(st.floats(0.0, 200.0), min_size=1, max_size=30),
)
def test_whatever_the_delays_the_next_is_ahead_and_never_further_than_a_period(
    period_s: float, late_s: list[float]
) -> None:
    cycle = Cycle(0.0, period_s)
    for delay_s in late_s:
        now_s = cycle.due_s + delay_s
        cycle.take(now_s)
        assert now_s - 1e-9 < cycle.due_s <= now_s + period_s + 1e-6


@given(period_s=st.floats(0.1, 60.0), count=st.integers(1, 300))
def test_events_are_evenly_spread_over_their_period(period_s: float, count: int) -> None:
    due_s = [cycle.due_s for cycle in spread(100.0, period_s, count)]
    assert due_s[0] == 100.0
    assert all(b - a == pytest.approx(period_s / count, rel=1e-6) for a, b in pairwise(due_s))
    assert due_s[-1] < 100.0 + period_s
