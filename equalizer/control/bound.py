"""What the best possible controller leaves, as a computation that can be taken up and put down.

`simulation.bound` says why it is a lower bound. Here it is done tick by tick, so that a running server can spend a
fraction of a millisecond on it every second.

What is left over is an absolute value, so the best level for a stretch of time is the median of what is asked in it:
one of the values asked. These are all the levels that need trying; where they are too many, neighbours share one, which
counts for the whole range between them.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

AT_REST_W = 1e-9
Floats: TypeAlias = npt.NDArray[np.float64]


def levels_of(asked_w: Sequence[float], most: int) -> tuple[Floats, Floats]:
    """Return the levels that need trying, and how far each counts on either side; W."""
    distinct_w: Floats = np.unique(np.asarray(asked_w, dtype=np.float64))
    if len(distinct_w) <= most:
        return distinct_w, np.zeros(len(distinct_w))
    cell_w = (distinct_w[-1] - distinct_w[0]) / most
    cells = np.minimum(np.floor((distinct_w - distinct_w[0]) / cell_w), most - 1)
    firsts = np.flatnonzero(np.diff(cells, prepend=-1.0))
    low_w, high_w = distinct_w[firsts], distinct_w[np.append(firsts[1:], len(distinct_w)) - 1]
    return 0.5 * (low_w + high_w), 0.5 * (high_w - low_w)


class LeastResidual:
    """Dynamic programming over (level, changes made in this window), tick by tick.

    Args:
        levels_w: what the equalization channels together may do.
        halves_w: how far each level counts on either side.
        channels: how many of them there are.
        window: the ticks in which each changes at most once.
    """

    def __init__(self, levels_w: Floats, halves_w: Floats, *, channels: int, window: int) -> None:
        self._levels_w, self._halves_w, self._window = levels_w, halves_w, window
        # Row k: the least cost with k changes made in this window. The channels begin at any level: what they did
        # before is not known here, and costs nothing.
        self._costs: Floats = np.full((channels + 1, len(levels_w)), np.inf)
        self._costs[0] = 0.0
        self._ticks = 0

    def begin_at_rest(self) -> None:
        """Have the channels begin at 0 W, which must be one of the levels."""
        self._costs[0] = np.where(np.abs(self._levels_w) <= self._halves_w + AT_REST_W, 0.0, np.inf)

    def advance(self, asked_w: Iterable[float]) -> None:
        """Go on by one tick for each power that the best controller would have the channels do; W."""
        costs, levels_w, halves_w, least_of = self._costs, self._levels_w, self._halves_w, np.minimum.reduce
        for asked in asked_w:
            if self._ticks % self._window == 0 and self._ticks > 0:
                costs[0] = least_of(costs, 0)
                costs[1:] = np.inf
            self._ticks += 1
            left_w = np.maximum(np.abs(levels_w - asked) - halves_w, 0.0)
            least = least_of(costs, 1)
            costs += left_w
            once = np.minimum(least_of(costs[:-1], 1)[:, None], least[:-1, None] + left_w)
            np.minimum(costs[1:], once, out=costs[1:])
            np.minimum(costs[2:], least[:-2, None] + least_of(left_w), out=costs[2:])

    def mean_w(self) -> float:
        """Return the least mean that is left so far; W."""
        return float(self._costs.min()) / self._ticks if self._ticks > 0 else 0.0
