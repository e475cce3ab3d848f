"""One cycle a batch, one at its time, none when stopped; in virtual time."""

import asyncio
import time
from collections.abc import Callable

import pytest

from equalizer.rhythm import Cycle, Rhythm
from simulation.clock import Timeline
from simulation.trials.eventloop import VirtualLoop
from tests.patience import PATIENCE_S

Call = tuple[float, float | None, float | None]


class Cycles:
    """Records the cycles; each asks for the next after a time."""

    def __init__(self, next_s: float = 60.0) -> None:
        self.calls: list[Call] = []
        self.next_s = next_s

    def __call__(self, now_s: float, asked_s: float | None, gap_s: float | None) -> float:
        self.calls.append((now_s, asked_s, gap_s))
        return now_s + self.next_s

    @property
    def gaps_s(self) -> list[float]:
        return [gap_s for _, _, gap_s in self.calls if gap_s is not None]


class Process:
    """A process of its own, whose time passes when the experiment says so."""

    def __init__(self) -> None:
        self._timeline = Timeline()
        self._loop = VirtualLoop(self._timeline, 0.0)
        self._stood_s = 0.0

    def clock(self) -> float:
        return self._loop.time() + self._stood_s

    def run(self, seconds: float) -> None:
        self._timeline.run(self._timeline.now_s + seconds)

    def do(self, *calls: Callable[[], object]) -> None:
        """Have the process do something now."""
        for call in calls:
            self._loop.call_soon(call)
        self.run(1e-6)

    def rhythm(self, cycle: Cycle, *, longest_s: float, stalled_s: float = 60.0) -> Rhythm:
        """Return one that has just begun."""
        begun: list[Rhythm] = []
        self.do(lambda: begun.append(Rhythm(cycle, clock=self.clock, longest_s=longest_s, stalled_s=stalled_s)))
        self.do(begun[0].start)
        return begun[0]

    def freeze(self, seconds: float) -> None:
        """Let it stand still between two callbacks."""
        self._loop.frozen = True
        self.run(seconds)
        self._loop.thaw()

    def stand_still(self, seconds: float) -> None:
        """Let it stand still within a callback."""
        self._stood_s += seconds


def test_a_batch_of_messages_brings_one_cycle_that_knows_when_it_was_asked_for() -> None:
    process, cycles = Process(), Cycles()
    rhythm = process.rhythm(cycles, longest_s=60.0)
    process.run(0.05)
    asked_s = process.clock()
    process.do(*[lambda: rhythm.soon(process.clock())] * 1000)
    process.run(0.05)
    assert [asked for _, asked, _ in cycles.calls] == [None, asked_s]
    assert cycles.calls[1][0] >= asked_s


def test_the_next_cycle_comes_when_it_is_due_and_no_later_than_the_longest_time() -> None:
    process, due, patient = Process(), Cycles(next_s=0.02), Cycles(next_s=60.0)
    for cycles in (due, patient):
        process.rhythm(cycles, longest_s=0.1)
    process.run(0.35)
    assert len(due.calls) == 18
    assert len(patient.calls) == 4


def test_a_standstill_is_noticed_at_the_first_cycle_after_it() -> None:
    process, cycles = Process(), Cycles(next_s=0.01)
    rhythm = process.rhythm(cycles, longest_s=1.0, stalled_s=0.3)
    process.run(0.05)
    assert not rhythm.is_stalled(process.clock())
    process.freeze(0.5)
    assert rhythm.is_stalled(process.clock())
    process.run(0.1)
    assert cycles.gaps_s == [pytest.approx(0.5, abs=0.011)]


def test_a_standstill_within_a_cycle_is_noticed_after_no_more_than_the_longest_time() -> None:
    process, cycles = Process(), Cycles(next_s=60.0)

    def frozen_once(now_s: float, asked_s: float | None, gap_s: float | None) -> float:
        if not cycles.calls:
            process.stand_still(0.5)
        return cycles(now_s, asked_s, gap_s)

    process.rhythm(frozen_once, longest_s=0.1, stalled_s=0.3)
    process.run(0.9)
    assert cycles.calls[1][2] == pytest.approx(0.6, abs=0.01)
    assert len(cycles.gaps_s) == 1


def test_after_the_stop_nothing_runs() -> None:
    process, cycles = Process(), Cycles(next_s=0.01)
    rhythm = process.rhythm(cycles, longest_s=1.0)
    process.run(0.03)
    process.do(rhythm.stop)
    count = len(cycles.calls)
    assert count > 1
    process.do(lambda: rhythm.soon(process.clock()))
    process.run(0.05)
    assert len(cycles.calls) == count


async def test_a_cycle_that_fails_is_the_last_and_tells() -> None:
    def broken(*call: float | None) -> float:
        raise ArithmeticError(f"no decision at {call[0]}")

    rhythm = Rhythm(broken, clock=time.monotonic, longest_s=0.01, stalled_s=60.0)
    rhythm.start()
    with pytest.raises(ArithmeticError, match="no decision"):
        await asyncio.wait_for(rhythm.until_failure(), PATIENCE_S)
