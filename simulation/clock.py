"""Virtual time: a clock that moves only from one event to the next."""

from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil

BEGIN_S = 1000.0
"""Where virtual time begins: a monotonic clock starts anywhere, and code that takes 0 for "never" would show."""
UNIX_BEGIN_S = 1_795_392_000.0
"""What the labels begin with."""
TICK_S = 0.1
"""The stations' own tick; everything that is sampled falls on this grid."""
_TICKS_PER_S = round(1.0 / TICK_S)
_TICKS_BEFORE = round(BEGIN_S * _TICKS_PER_S)
_PER_TICK = 1e-4
"""Of a tick: rounding is less, and no event is meant to lie so close beside the grid."""


class Timeline:
    """Events in the order of their time; those of one time in the order in which they were asked for."""

    def __init__(self, begin_s: float = BEGIN_S) -> None:
        self.now_s = begin_s
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0

    def clock(self) -> float:
        """Return the monotonic time."""
        return self.now_s

    def utc(self) -> float:
        """Return a label."""
        return UNIX_BEGIN_S + self.now_s - BEGIN_S

    def at(self, at_s: float, call: Callable[[], None]) -> None:
        """Have something called at a time; what lies in the past is called next."""
        self._asked += 1
        heappush(self._events, (max(at_s, self.now_s), self._asked, call))

    def run(self, until_s: float) -> None:
        """Let time pass up to, and without, `until_s`."""
        events = self._events
        while events and events[0][0] < until_s:
            self.now_s, _, call = heappop(events)
            call()
        self.now_s = max(self.now_s, until_s)


def tick_s(number: int) -> float:
    """Return the time of a tick, counted from the beginning; the same float wherever it is computed."""
    return (_TICKS_BEFORE + number) / _TICKS_PER_S


def tick_from(at_s: float) -> int:
    """Return the first tick that is not before a time."""
    return ceil((at_s - BEGIN_S) / TICK_S - _PER_TICK)
