"""What the best possible controller would leave: one that knows the whole load, and obeys the same change budget.

Why `least_residual_w` is a true lower bound for K channels, each changed at most once in any time of `delay_s`, and a
power that stands between changes:

- Cut time into windows of `delay_s`, half open, from the beginning. Each channel changes at most once in each of
  them, so the aggregate changes at most K times. Dropping all other rules (which channel changes, gaps across a
  window's edge, the single channels' limits, charge, messages on their way) only adds freedom.
- The least cost under "at most K changes a window" is found exactly by dynamic programming over (level, changes made in
  this window), tick by tick. The load is known in ticks. A tick in which one change falls costs the cheaper of its two
  levels, and one with several changes the cheapest of all levels: whatever the moments, the true cost is not less.
- The best level for a stretch is the median of what is asked in it: one of the values asked (or 0 W, at the beginning).
  Where these are too many, neighbours share a cell. A cell's cost is what is left over at its nearest point, so any
  true level is at least as costly as its cell.

Ramps: a ramp of Δ at R W/s is not a step, and follows a load that itself ramps better by at most Δ²/4R, the area
between the ramp and a step in its middle. `ramp_credit_w` sums that up for the changes that a run has made: a
controller whose residual came below the bound by less than this has not disproved it. `step_residual_ws` is the other
side: a step of the load that is known ahead leaves at least that much at a total ramp of R.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from equalizer.control.bound import LeastResidual, levels_of
from simulation.clock import TICK_S

Floats = npt.NDArray[np.float64]

CELLS = 400
"""Levels that are tried."""


def least_residual_w(load_w: Floats, *, channels: int, delay_s: float, limit_w: float) -> float:
    """Return the least mean |total| that `channels` can leave; W.

    Args:
        load_w: the loads' power, a value for each tick.
        channels: K, how many equalization channels there are.
        delay_s: the time in which each changes at most once; 0: whenever it likes.
        limit_w: what all of them can do together, in either direction.
    """
    wanted_w = -load_w
    if channels == 0 or len(load_w) == 0:
        return float(np.abs(load_w).mean()) if len(load_w) else 0.0
    possible_w = np.clip(wanted_w, -limit_w, limit_w)
    beyond_w = float(np.abs(wanted_w - possible_w).mean())
    window = round(delay_s / TICK_S)
    if window < 1:
        return beyond_w
    game = LeastResidual(*levels_of([*possible_w, 0.0], CELLS), channels=channels, window=window)
    game.begin_at_rest()
    game.advance(possible_w)
    return beyond_w + game.mean_w()


def step_residual_ws(step_w: float, ramp_w_per_s: float) -> float:
    """Return what a known step of the load leaves at the least: the ramp lies half before it and half after it."""
    return step_w * step_w / (4.0 * ramp_w_per_s)


def ramp_credit_w(changes_w: Iterable[float], ramp_w_per_s: float, duration_s: float) -> float:
    """Return by how much ramps may have followed a ramping load better than steps, in the mean; W."""
    return sum(step_residual_ws(change_w, ramp_w_per_s) for change_w in changes_w) / duration_s
