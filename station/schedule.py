"""When what happens regularly is due: without drift, without bursts after a hold-up, and evenly spread."""

from dataclasses import dataclass
from math import floor


@dataclass(slots=True)
class Cycle:
    """One regular event.

    `due_s` is when it comes next (monotonic seconds); it moves in whole periods from where it began, so that no delay
    of one event shifts those after it.
    """

    due_s: float
    period_s: float

    def take(self, now_s: float) -> int:
        """Move to the next time after now, and return how many were missed for good (0: none)."""
        passed = max(0, floor((now_s - self.due_s) / self.period_s))
        self.due_s += (passed + 1) * self.period_s
        return passed


def spread(begin_s: float, period_s: float, count: int) -> list[Cycle]:
    """Return cycles of one period whose events are evenly spread over it."""
    return [Cycle(begin_s + period_s * number / count, period_s) for number in range(count)]
