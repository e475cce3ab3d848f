"""One cycle a batch, one at its time, none when stopped."""

import asyncio
import time

import pytest

from equalizer.rhythm import Rhythm

Call = tuple[float, float | None, float | None]


class Cycles:
    """Records the cycles; each asks for the next after a time."""

    def __init__(self, next_s: float = 60.0) -> None:
        self.calls: list[Call] = []
        self.next_s = next_s

    def __call__(self, now_s: float, asked_s: float | None, gap_s: float | None) -> float:
        self.calls.append((now_s, asked_s, gap_s))
        return now_s + self.next_s


async def test_a_batch_of_messages_brings_one_cycle_that_knows_when_it_was_asked_for() -> None:
    cycles = Cycles()
    rhythm = Rhythm(cycles, clock=time.monotonic, longest_s=60.0, stalled_s=60.0)
    rhythm.start()
    await asyncio.sleep(0.05)
    first_s = time.monotonic()
    for _ in range(1000):
        rhythm.soon(time.monotonic())
    await asyncio.sleep(0.05)
    rhythm.stop()
    assert len(cycles.calls) == 2
    assert cycles.calls[0][1] is None
    asked_s = cycles.calls[1][1]
    assert asked_s is not None
    assert first_s <= asked_s <= cycles.calls[1][0]


async def test_the_next_cycle_comes_when_it_is_due_and_no_later_than_the_longest_time() -> None:
    due, patient = Cycles(next_s=0.02), Cycles(next_s=60.0)
    rhythms = [Rhythm(cycles, clock=time.monotonic, longest_s=0.1, stalled_s=60.0) for cycles in (due, patient)]
    for rhythm in rhythms:
        rhythm.start()
    await asyncio.sleep(0.35)
    for rhythm in rhythms:
        rhythm.stop()
    assert len(due.calls) >= 8
    assert 3 <= len(patient.calls) <= 4


async def test_a_standstill_is_noticed_at_the_first_cycle_after_it() -> None:
    cycles = Cycles(next_s=0.01)
    rhythm = Rhythm(cycles, clock=time.monotonic, longest_s=1.0, stalled_s=0.3)
    rhythm.start()
    await asyncio.sleep(0.05)
    time.sleep(0.5)  # noqa: ASYNC251 - the whole process stands still: that is the experiment
    rhythm.soon(time.monotonic())
    await asyncio.sleep(0.1)
    rhythm.stop()
    gaps = [gap_s for _, _, gap_s in cycles.calls if gap_s is not None]
    assert len(gaps) == 1
    assert gaps[0] == pytest.approx(0.5, abs=0.1)


async def test_a_standstill_within_a_cycle_is_noticed_after_no_more_than_the_longest_time() -> None:
    cycles = Cycles(next_s=60.0)

    def frozen_once(now_s: float, asked_s: float | None, gap_s: float | None) -> float:
        if not cycles.calls:
            time.sleep(0.5)
        return cycles(now_s, asked_s, gap_s)

    rhythm = Rhythm(frozen_once, clock=time.monotonic, longest_s=0.1, stalled_s=0.3)
    rhythm.start()
    await asyncio.sleep(0.9)
    rhythm.stop()
    assert cycles.calls[1][2] == pytest.approx(0.6, abs=0.15)
    assert [gap_s for _, _, gap_s in cycles.calls[2:] if gap_s is not None] == []


async def test_after_the_stop_nothing_runs() -> None:
    cycles = Cycles(next_s=0.01)
    rhythm = Rhythm(cycles, clock=time.monotonic, longest_s=1.0, stalled_s=60.0)
    rhythm.start()
    await asyncio.sleep(0.03)
    rhythm.stop()
    count = len(cycles.calls)
    rhythm.soon(time.monotonic())
    await asyncio.sleep(0.05)
    assert len(cycles.calls) == count


async def test_a_cycle_that_fails_is_the_last_and_tells() -> None:
    def broken(*call: float | None) -> float:
        raise ArithmeticError(f"no decision at {call[0]}")

    rhythm = Rhythm(broken, clock=time.monotonic, longest_s=0.01, stalled_s=60.0)
    rhythm.start()
    with pytest.raises(ArithmeticError, match="no decision"):
        await asyncio.wait_for(rhythm.until_failure(), 1.0)
