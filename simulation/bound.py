"""What the best possible controller would leave: one that knows the whole load, and obeys the same rules.

Why `least_residual_w` is a true lower bound for K channels, each changed at most once in any time D = `delay_s`, no two
of them ever of opposite signs, whose power stands between changes:

- **Budget.** Cut time into halves of D, half open, from the beginning. In any two neighbouring halves (together D)
  each channel changes at most once, so the aggregate changes at most K times in them.
- **Signs.** Let the aggregate be above 0 at a time s. Then some channel j is above 0 at s. It took that power at some
  c ≤ s and leaves it at some d > s, and d - c ≥ D. From c to d all others are at 0 or above, because of j; so the
  aggregate is above 0 in all of [c, d). Hence every longest stretch of one strict sign lasts at least D (unless the
  beginning or the end of the run cuts it). A stretch of at least D contains five boundaries of a grid of D/5; the
  aggregate may leave a sign only after as many.
- Dropping all other rules (which channel changes, the single channels' limits, charge, messages on their way) only adds
  freedom. The least cost under these two is found exactly by dynamic programming, tick by tick, over the level, the
  changes made in this half and the one before, and the boundaries since the sign was taken.
- The load is known in ticks. A tick in which one change falls costs the cheaper of its two levels, and one with several
  changes the cheapest of all levels: whatever the moments, the true cost is not less.
- The best level for a stretch is the median of what is asked in it, or next to 0 W where that has the other sign: one
  of the values asked, or 0 W. Where these are too many, neighbours of one sign share a cell. A cell's cost is what is
  left over at its nearest point, so any true level is at least as costly as its cell.

A run of more than `LONG_TICKS` is held against the budget of whole windows alone (`equalizer.control.bound`,
`least_by_windows_w`), which is quicker and lower. What `simulation.shares` finds is higher, at two minutes of
computing for four hours: of two true bounds, the higher one counts (`closely`).

Ramps: a ramp of Δ at R W/s is not a step, and follows a load that itself ramps better by at most Δ²/4R, the area
between the ramp and a step in its middle. `ramp_credit_w` sums that up for the changes that a run has made: a
controller whose residual came below the bound by less than this has not disproved it. `step_residual_ws` is the other
side: a step of the load that is known ahead leaves at least that much at a total ramp of R.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from equalizer.control.bound import LeastResidual, levels_of
from simulation.clock import TICK_S

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

CELLS = 400
"""Levels that are tried."""
AGES = 5
"""Boundaries that a stretch of one sign contains at the least."""
LONG_TICKS = 150_000
CLOSE_TICKS = 2400
"""To load the compiled code takes a second (the very first time, a quarter of a minute): less is not worth it."""
CLOSE_CHANNELS = 6
"""With more, a channel's share binds little, and takes long to follow."""
NEGATIVE, POSITIVE = 0, 1


def least_residual_w(load_w: Floats, *, channels: int, delay_s: float, limit_w: float, closely: bool = False) -> float:
    """Return the least mean |total| that `channels` can leave; W.

    Args:
        load_w: the loads' power, a value for each tick.
        channels: K, how many equalization channels there are.
        delay_s: the time in which each changes at most once; 0: whenever it likes.
        limit_w: what all of them can do together, in either direction.
        closely: whether to spend more time on it, where there is something to win (extra `simulation`).
    """
    asked = _Asked.of(load_w, channels, delay_s, limit_w)
    if asked.window < 1:
        return asked.beyond_w
    if len(load_w) > LONG_TICKS or asked.window < AGES:
        return asked.beyond_w + asked.by_windows_w()
    game = _Game(asked.possible_w, channels=channels, window=asked.window)
    for tick, asked_w in enumerate(asked.possible_w.tolist()):
        game.advance(tick, asked_w)
    least_w = game.least_ws() / len(load_w)
    if closely and len(load_w) >= CLOSE_TICKS and channels <= CLOSE_CHANNELS:
        least_w = max(least_w, asked.by_shares_w())
    return asked.beyond_w + least_w


def least_by_windows_w(load_w: Floats, *, channels: int, delay_s: float, limit_w: float) -> float:
    """Return the same by the budget of whole windows alone, the simplest of the bounds, and the lowest; W.

    At most K changes in each window of D, counted from the beginning. The arguments are those of `least_residual_w`.
    """
    asked = _Asked.of(load_w, channels, delay_s, limit_w)
    return asked.beyond_w + (asked.by_windows_w() if asked.window >= 1 else 0.0)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the channels together would best do."""

    possible_w: Floats
    """As far as they can."""
    beyond_w: float
    """The mean of what they cannot."""
    channels: int
    window: int
    """In ticks; 0: there is nothing that a budget could stand in the way of."""

    @classmethod
    def of(cls, load_w: Floats, channels: int, delay_s: float, limit_w: float) -> Self:
        reach_w = limit_w if channels > 0 else 0.0
        possible_w = np.clip(-load_w, -reach_w, reach_w)
        beyond_w = float(np.abs(load_w + possible_w).mean()) if len(load_w) else 0.0
        window = round(delay_s / TICK_S) if channels > 0 and len(load_w) else 0
        return cls(possible_w, beyond_w, channels, window)

    def by_windows_w(self) -> float:
        whole = LeastResidual(*levels_of([*self.possible_w, 0.0], CELLS), channels=self.channels, window=self.window)
        whole.begin_at_rest()
        whole.advance(self.possible_w)
        return whole.mean_w()

    def by_shares_w(self) -> float:
        """Return what the shares allow; 0 W where the compiler is not there."""
        try:
            from simulation import shares  # noqa: PLC0415 - an extra, and slow to import
        except (ImportError, RuntimeError):
            return 0.0
        return shares.least_w(self.possible_w, channels=self.channels, half=self.window // 2)


@dataclass(frozen=True, slots=True)
class _Budget:
    """The changes made in the half window before and in this one, as rows."""

    count: int
    once: tuple[Indices, Indices]
    """From which row to which one change leads."""
    twice: tuple[Indices, Indices]
    rolled: Indices
    """The row of each when a new half begins."""


def _budget(channels: int) -> _Budget:
    pairs = [(before, now) for before in range(channels + 1) for now in range(channels + 1 - before)]
    rows = {pair: row for row, pair in enumerate(pairs)}

    def led(changes: int) -> tuple[Indices, Indices]:
        found = [(rows[b, n], rows[b, n + changes]) for b, n in pairs if (b, n + changes) in rows]
        return np.array([was for was, _ in found], np.intp), np.array([becomes for _, becomes in found], np.intp)

    return _Budget(len(pairs), led(1), led(2), np.array([rows[now, 0] for _, now in pairs], np.intp))


class _Game:
    """The least costs by budget row, age of the sign, and level; those at 0 W by budget row alone."""

    def __init__(self, possible_w: Floats, *, channels: int, window: int) -> None:
        negative_w, positive_w = possible_w[possible_w < 0.0], possible_w[possible_w > 0.0]
        share = CELLS * len(negative_w) // max(len(possible_w), 1)
        below = levels_of([*negative_w, 0.0], max(share, 1))
        above = levels_of([*positive_w, 0.0], max(CELLS - share, 1))
        self._levels_w, self._halves_w = (np.concatenate(pair) for pair in zip(below, above, strict=True))
        self._signs = (slice(0, len(below[0])), slice(len(below[0]), None))
        self._budget = _budget(channels)
        self._half, self._age = window // 2, window // AGES
        self._costs = np.full((self._budget.count, AGES + 1, len(self._levels_w)), np.inf)
        self._idle = np.full(self._budget.count, np.inf)
        self._idle[0] = 0.0

    def least_ws(self) -> float:
        """Return the least sum of what is left, in W and ticks."""
        return min(float(self._costs.min()), float(self._idle.min()))

    def advance(self, tick: int, asked_w: float) -> None:
        """Go on by one tick in which this is asked."""
        if tick % self._half == 0 and tick > 0:
            self._roll()
        if tick % self._age == 0 and tick > 0:
            costs = self._costs
            ripe = np.minimum(costs[:, AGES], costs[:, AGES - 1])
            costs[:, 1:AGES] = costs[:, : AGES - 1].copy()
            costs[:, AGES], costs[:, 0] = ripe, np.inf
        self._play(asked_w)

    def _roll(self) -> None:
        """Begin a new half window."""
        costs, idle = np.full_like(self._costs, np.inf), np.full_like(self._idle, np.inf)
        for was, becomes in enumerate(self._budget.rolled):
            np.minimum(costs[becomes], self._costs[was], out=costs[becomes])
            idle[becomes] = min(idle[becomes], self._idle[was])
        self._costs, self._idle = costs, idle

    def _play(self, asked_w: float) -> None:
        left_w = np.maximum(np.abs(self._levels_w - asked_w) - self._halves_w, 0.0)
        idle_w = abs(asked_w)
        best_w = min(float(left_w.min()), idle_w)
        before, idle_before = self._least(), self._idle.copy()
        costs, idle = self._costs + left_w, self._idle + idle_w
        self._costs, self._idle = costs, idle
        after, idle_after = self._least(), idle.copy()
        once_from, once_to = self._budget.once
        twice_from, twice_to = self._budget.twice
        for sign, levels in enumerate(self._signs):
            own = costs[:, :, levels]
            # Within the sign, which keeps its age …
            made = np.minimum(after[sign][once_from][:, :, None], before[sign][once_from][:, :, None] + left_w[levels])
            own[once_to] = np.minimum(own[once_to], made)
            own[twice_to] = np.minimum(own[twice_to], (before[sign][twice_from] + best_w)[:, :, None])
            # … and into it, from 0 W or from the other sign, once that was kept for long enough.
            from_before = np.minimum(idle_before, before[1 - sign][:, AGES])
            from_after = np.minimum(idle_after, after[1 - sign][:, AGES])
            made = np.minimum(from_after[once_from][:, None], from_before[once_from][:, None] + left_w[levels])
            own[once_to, 0] = np.minimum(own[once_to, 0], made)
            own[twice_to, 0] = np.minimum(own[twice_to, 0], (from_before[twice_from] + best_w)[:, None])
        ripe_before = np.minimum(before[NEGATIVE][:, AGES], before[POSITIVE][:, AGES])
        ripe_after = np.minimum(after[NEGATIVE][:, AGES], after[POSITIVE][:, AGES])
        made_idle = np.minimum(ripe_after[once_from], ripe_before[once_from] + idle_w)
        idle[once_to] = np.minimum(idle[once_to], made_idle)
        idle[twice_to] = np.minimum(idle[twice_to], ripe_before[twice_from] + best_w)

    def _least(self) -> tuple[Floats, Floats]:
        """Return the least costs over the levels of each sign, by budget row and age."""
        negative, positive = (self._costs[:, :, levels] for levels in self._signs)
        return negative.min(axis=2), positive.min(axis=2)


def step_residual_ws(step_w: float, ramp_w_per_s: float) -> float:
    """Return what a known step of the load leaves at the least: the ramp lies half before it and half after it."""
    return step_w * step_w / (4.0 * ramp_w_per_s)


def ramp_credit_w(changes_w: Iterable[float], ramp_w_per_s: float, duration_s: float) -> float:
    """Return by how much ramps may have followed a ramping load better than steps, in the mean; W."""
    return sum(step_residual_ws(change_w, ramp_w_per_s) for change_w in changes_w) / duration_s
