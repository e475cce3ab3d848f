"""What the best possible controller leaves, as a computation that can be taken up and put down.

`simulation.bound` says why it is a lower bound. Here it is done tick by tick, so that a running server can spend a
fraction of a millisecond on it every second.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class LeastResidual:
    """Dynamic programming over (level, changes made in this window), tick by tick.

    Args:
        low_w: the lowest total of the equalization channels that can be of use.
        high_w: the highest.
        channels: how many of them there are.
        window: the ticks in which each changes at most once.
        cells: levels between the lowest and the highest.
    """

    def __init__(self, low_w: float, high_w: float, *, channels: int, window: int, cells: int) -> None:
        self._window = window
        self._half_w = 0.5 * (high_w - low_w) / cells
        self._levels_w: Floats = np.asarray(low_w + self._half_w * (2.0 * np.arange(cells) + 1.0), dtype=np.float64)
        # Row k: the least cost with k changes made in this window. The channels begin at any level: what they did
        # before is not known here, and costs nothing.
        self._costs: Floats = np.full((channels + 1, cells), np.inf)
        self._costs[0] = 0.0
        self._ticks = 0

    def begin_at_rest(self) -> None:
        """Have the channels begin at 0 W."""
        self._costs[0] = np.where(np.abs(self._levels_w) <= self._half_w * 1.001, 0.0, np.inf)

    def advance(self, asked_w: Iterable[float]) -> None:
        """Go on by one tick for each power that the best controller would have the channels do; W."""
        costs, levels_w, half_w = self._costs, self._levels_w, self._half_w
        for asked in asked_w:
            if self._ticks % self._window == 0 and self._ticks > 0:
                costs[0] = costs.min(axis=0)
                costs[1:] = np.inf
            self._ticks += 1
            left_w = np.maximum(np.abs(levels_w - asked) - half_w, 0.0)
            least = costs.min(axis=1)
            costs += left_w
            once = np.minimum(costs[:-1].min(axis=1)[:, None], least[:-1, None] + left_w)
            np.minimum(costs[1:], once, out=costs[1:])
            np.minimum(costs[2:], least[:-2, None] + left_w.min(), out=costs[2:])

    def mean_w(self) -> float:
        """Return the least mean that is left so far; W."""
        return float(self._costs.min()) / self._ticks if self._ticks > 0 else 0.0
