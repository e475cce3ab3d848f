"""The loop's past, in virtual time."""

import pytest

from dashboard.history import TIERS, Bucket, History, Mark, Tier, with_gaps


def filled(history: History, seconds: int, *, start_s: float = 1_000_000.0, total_w: float = 100.0) -> float:
    for second in range(seconds):
        history.add(start_s + second, 500.0, total_w - 500.0, total_w)
    return start_s + seconds


def test_a_minute_is_the_mean_of_its_seconds_and_keeps_its_peak() -> None:
    history = History()
    start_s = 1_000_020.0
    for second in range(60):
        history.add(start_s + second, 0.0, 0.0, 900.0 if second == 30 else 0.0)
    (bucket,) = history.window(start_s, 60)
    assert bucket == Bucket(1_000_020, 0.0, 0.0, 15.0, 0.0, 900.0)


def test_the_bucket_that_is_being_filled_is_shown_too() -> None:
    history = History()
    filled(history, 3)
    assert [bucket.unix_time_s for bucket in history.window(0.0, 1)] == [1_000_000, 1_000_001, 1_000_002]


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_is_bounded(tier: Tier) -> None:
    history = History()
    width_s, keep_s = tier.width_s, tier.keep_s
    for step in range(keep_s // width_s + 100):
        history.add(step * width_s, 0.0, 0.0, 0.0)
    assert len(history.window(-1.0, width_s)) == keep_s // width_s + 1


def test_what_was_stored_comes_back_and_is_stored_once() -> None:
    before, after = History(), History()
    filled(before, 130)
    before.mark(Mark(1_000_005.0, "decision", "load_step"))
    kept, marks = before.drain(everything=True)
    assert before.drain() == ([], [])
    after.restore(kept, marks)
    for width_s, _ in TIERS:
        assert after.window(0.0, width_s) == before.window(0.0, width_s)
    assert after.marks_since(1_000_000.0) == marks
    assert after.drain(everything=True) == ([], [])


def test_a_clock_that_was_set_back_leaves_nothing_in_the_future() -> None:
    history = History()
    filled(history, 600)
    history.add(1_000_000.0 - 3_600.0, 0.0, 0.0, 7.0)
    assert [bucket.total_w for bucket in history.window(0.0, 1)] == [7.0]


def test_where_nothing_was_heard_the_line_is_broken() -> None:
    buckets = [Bucket(second, 0.0, 0.0, 0.0, 0.0, 0.0) for second in (0, 1, 2, 60, 61)]
    assert [item if isinstance(item, int) else None for item in with_gaps(buckets, 1)] == [None] * 3 + [3, None, None]
