"""A course of action made better: one channel after another gets the best that it can do beside the others.

What is known ahead is cut into stretches; a plan is what each channel does in each. What the others do being given, the
best for one channel is found exactly, by dynamic programming over its changes: which of the powers that are asked of
it, from which stretch to which, with the delay between. When no channel gains alone any more, the plan is shaken: what
is asked is falsified for a while, or a sign is forced; then it is brought to rest again. Many are shaken at once, as
rows of arrays. Whoever begins with the best plan of the look before keeps what was found, and makes it better.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Flags: TypeAlias = npt.NDArray[np.bool_]
Indices: TypeAlias = npt.NDArray[np.intp]
Curve: TypeAlias = tuple[list[float], list[float]]
"""Efficiency by power: powers (W, rising), and ratios."""

ROWS = 24
"""Plans that are tried side by side; the first is not shaken."""
ROUNDS = 2
"""How often every channel gets its best, after plans were shaken."""
LEVELS = 40
"""Powers that are tried for a channel: so many of those that are asked of it, by rank; with 0 W and its present one."""
BARRED_RATIO = 100.0
"""Two channels of opposite signs count as so much left over, of the widest range of a channel."""
SHAKEN_DELAYS = (0.2, 2.7)
"""For how long a plan is shaken, in delays."""
FALSIFIED_RATIO = (0.015, 0.225)
"""By how much what is asked is falsified, of the widest range of a channel."""
FALSIFIED_STRETCHES = 3
"""So many in a row are falsified alike."""
FORCED_SHARE = 0.35
"""Part of the plans in which a sign is forced."""
LOSS_PRICE_RATIO = 0.5
"""All of a power lost, or a battery full or empty, weighs as much as this part of a change."""
LEAST_W = 1.0
"""Less than this is 0 W."""
SAME_S = 1e-6
SAME_WS = 1e-3


@dataclass(frozen=True)
class Task:
    """What is asked in every stretch, and of whom: K channels, n stretches. What follows from it is worked out once."""

    times_s: Floats
    """When each stretch begins; and the end of the last."""
    asked_w: Floats
    """Of all together, by stretch."""
    no_positive: Flags
    """By stretch: somebody who takes no part is below 0 W."""
    no_negative: Flags
    powers_w: Floats
    """What each channel does until it is changed."""
    unlock_s: Floats
    lowest_w: Floats
    highest_w: Floats
    sign_w: Floats
    """A power up to this binds nobody to its sign."""
    price_ws: float
    """Of a change."""
    charge: Floats
    """By how much each battery is above the middle; a ratio."""
    curves: tuple[Curve | None, ...]
    lock_s: float
    """Between two changes of a channel."""

    @cached_property
    def spans_s(self) -> Floats:
        """How long each stretch is."""
        return np.diff(self.times_s)

    @cached_property
    def widest_w(self) -> float:
        """The widest range of a channel."""
        return float(np.max(self.highest_w - self.lowest_w))

    @cached_property
    def last(self) -> Indices:
        """The last moment at which the change before one at each moment may have been made; -1: there is none."""
        last = np.searchsorted(self.times_s, self.times_s - self.lock_s + SAME_S, side="right") - 1
        return np.minimum(last, np.arange(-1, len(self.asked_w)))

    def first(self, column: int) -> int:
        """Return the first moment at which a channel may be changed."""
        return int(np.searchsorted(self.times_s, self.unlock_s[column] - SAME_S))

    def costs_ws(self, plans_w: Floats) -> Floats:
        """Return what plans (rows, channels, stretches) leave over, with the price of their changes."""
        left_w, prices_ws = weighed(self, plans_w)
        costs_ws = left_w @ self.spans_s
        paid_ws = prices_ws.sum(axis=2)
        for column in range(len(self.powers_w)):
            costs_ws = costs_ws + paid_ws[:, column]
        return np.asarray(costs_ws)

    def prices_ws(self, levels_w: Floats, columns: slice = slice(None)) -> Floats:
        """Return what it costs to bring channels to powers, what that does to their charge and what is lost included.

        Args:
            levels_w: the powers: rows, channels, any number.
            columns: which channels these are.
        """
        ranges_w = np.maximum(self.highest_w - self.lowest_w, LEAST_W)[columns]
        dear = self.charge[columns, None] * levels_w / ranges_w[:, None]
        for column, curve in enumerate(self.curves[columns]):
            if curve is not None:
                some_w = levels_w[:, column]
                dear[:, column] += np.where(some_w == 0.0, 0.0, 1.0 - np.interp(np.abs(some_w), *curve))
        return np.asarray(self.price_ws * (1.0 + LOSS_PRICE_RATIO * dear))


def weigh(task: Task, plans_w: Floats) -> tuple[Floats, Floats]:
    """Return what plans leave over (rows, stretches), and the price of each change (rows, channels, stretches)."""
    above, below = (plans_w > task.sign_w[:, None]).any(axis=1), (plans_w < -task.sign_w[:, None]).any(axis=1)
    barred = (above & (below | task.no_positive)) | (below & task.no_negative)
    left_w = np.abs(task.asked_w - plans_w.sum(axis=1)) + BARRED_RATIO * task.widest_w * barred
    changed = np.empty(plans_w.shape, dtype=np.bool_)
    changed[:, :, 0] = plans_w[:, :, 0] != task.powers_w
    np.not_equal(plans_w[:, :, 1:], plans_w[:, :, :-1], out=changed[:, :, 1:])
    return left_w, np.where(changed, task.prices_ws(plans_w), 0.0)


weighed: Callable[[Task, Floats], tuple[Floats, Floats]] = weigh
"""How plans are weighed: long halls in virtual time have it done by compiled code."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What luck says of how plans are shaken; by row."""

    from_s: Floats
    until_s: Floats
    forced: Flags
    """A sign is forced; else what is asked is falsified."""
    sign: Indices
    """Which; 0: none."""
    size_w: Floats
    """By how much is falsified, at the most."""
    noise: Floats
    """Parts of that: turns, rows, some stretches together."""
    every_other: Flags
    """Whether it is, in a turn: turns, rows."""
    turns: tuple[int, ...]
    """The channels, in the order in which each gets its best; in every plan alike."""


@dataclass(frozen=True, slots=True)
class Trials:
    """Plans that are made better side by side; the first was not shaken."""

    plans_w: Floats
    """Rows, channels, stretches."""
    turns: tuple[int, ...]
    """The channels, in the order in which each gets its best; in every plan alike."""
    falsified_w: Floats
    """By how much what is asked is falsified in each of the first turns: turns, rows, stretches."""
    not_above: Flags
    """Where nobody must be above 0 W in these turns: rows, stretches."""
    not_below: Flags


def refined(task: Task, plan_w: Floats, number: int) -> Floats:
    """Return the best plan that is found (channels, stretches): no worse than the one given.

    Args:
        task: what is to be done.
        plan_w: the plan to begin with; it must keep the locks.
        number: the seed of what is tried.
    """
    plans_w = settled(task, plan_w, drawn(task, np.random.default_rng(number)))
    costs_ws = task.costs_ws(plans_w)
    best = int(np.argmin(costs_ws))
    return plans_w[best] if costs_ws[best] < task.costs_ws(plan_w[None])[0] - SAME_WS else plan_w


def drawn(task: Task, random: np.random.Generator) -> Draws:
    """Draw how plans are shaken."""
    rows, channels, stretches = ROWS, len(task.powers_w), len(task.asked_w)
    for_s: Floats = task.lock_s * random.uniform(*SHAKEN_DELAYS, (rows,))
    first_s: Floats = task.times_s[0] - for_s
    from_s = first_s + (task.times_s[-1] - first_s) * random.random((rows,))
    forced: Flags = random.random((rows,)) < FORCED_SHARE
    sign: Indices = random.integers(-1, 2, (rows,), dtype=np.intp)
    size_w: Floats = task.widest_w * random.uniform(*FALSIFIED_RATIO, (rows,))
    turns: list[int] = random.permutation(channels).tolist()
    noise = np.empty((channels, rows, -(-stretches // FALSIFIED_STRETCHES)))
    every_other = np.empty((channels, rows), dtype=np.bool_)
    for turn in range(channels):
        noise[turn] = random.uniform(-1.0, 1.0, noise[turn].shape)
        every_other[turn] = random.integers(0, 2, (rows,), dtype=np.bool_)
    for _ in range(ROUNDS):
        turns += random.permutation(channels).tolist()
    return Draws(from_s, from_s + for_s, forced, sign, size_w, noise, every_other, tuple(turns))


def shaken(task: Task, plan_w: Floats, draws: Draws) -> Trials:
    """Shake all plans but the first: what is asked of some channels is falsified for a while, or a sign is forced."""
    plans_w = np.repeat(plan_w[None], ROWS, axis=0)
    rows, _, stretches = plans_w.shape
    middles_s = 0.5 * (task.times_s[1:] + task.times_s[:-1])
    there = (middles_s > draws.from_s[:, None]) & (middles_s < draws.until_s[:, None])
    there[0] = False
    not_above, not_below = np.zeros((2, rows, stretches), dtype=np.bool_)
    (some,) = draws.forced.nonzero()
    not_above[some], not_below[some] = up, down = _forced(task, plan_w, there[some], draws.sign[some])
    free_w = np.where(up[:, None], np.minimum(plans_w[some], 0.0), plans_w[some])
    plans_w[some] = np.where(down[:, None], np.maximum(free_w, 0.0), free_w)
    sizes_w = np.where(draws.every_other & ~draws.forced, draws.size_w, 0.0)[:, :, None]
    falsified_w = there * sizes_w * np.repeat(draws.noise, FALSIFIED_STRETCHES, axis=2)[:, :, :stretches]
    return Trials(plans_w, draws.turns, falsified_w, not_above, not_below)


def _forced(task: Task, plan_w: Floats, there: Flags, sign: Indices) -> tuple[Flags, Flags]:
    """Return where channels must not be above 0 W, and where not below, by row and stretch.

    In some stretches a sign is forced, or 0 W; in the others of these rows, the signs stay.
    """
    above, below = (plan_w > task.sign_w[:, None]).any(axis=0), (plan_w < -task.sign_w[:, None]).any(axis=0)
    shaken = there.any(axis=1, keepdims=True)
    not_above = np.where(there, sign[:, None] <= 0, below & shaken)
    not_below = np.where(there, sign[:, None] >= 0, above & shaken)
    return not_above, not_below


def settle(task: Task, plan_w: Floats, draws: Draws) -> Floats:
    """Shake a plan, and let one channel after another do the best that it can beside the others; return the plans."""
    trials = shaken(task, plan_w, draws)
    plans_w = trials.plans_w
    for turn, column in enumerate(trials.turns):
        wanted_w = _wanted_w(task, plans_w, column)
        no_positive, no_negative = _barred(task, plans_w, column)
        if turn < len(trials.falsified_w):
            wanted_w = wanted_w + trials.falsified_w[turn]
            no_positive, no_negative = no_positive | trials.not_above, no_negative | trials.not_below
        plans_w[:, column] = _best(task, column, wanted_w, (no_positive, no_negative))
    return plans_w


settled: Callable[[Task, Floats, Draws], Floats] = settle
"""How plans are settled: long halls in virtual time have it done by compiled code."""


def _wanted_w(task: Task, plans_w: Floats, column: int) -> Floats:
    """Return what the others leave over for a channel."""
    wanted_w: Floats = task.asked_w - (plans_w.sum(axis=1) - plans_w[:, column])
    return wanted_w


def _barred(task: Task, plans_w: Floats, column: int) -> tuple[Flags, Flags]:
    """Return where a channel must not be above 0 W, and where not below, because of the others."""
    above, below = plans_w > task.sign_w[:, None], plans_w < -task.sign_w[:, None]
    above[:, column] = below[:, column] = False
    return below.any(axis=1) | task.no_positive, above.any(axis=1) | task.no_negative


def _best(task: Task, column: int, wanted_w: Floats, barred: tuple[Flags, Flags]) -> Floats:
    """Return the best that a channel can do (rows, stretches); exact among the levels that are tried."""
    levels_w = _levels_w(task, column, wanted_w)
    spans_s, sign_w = task.spans_s.astype(np.float32), task.sign_w[column]
    prices_ws = task.prices_ws(levels_w[:, None].astype(np.float64), slice(column, column + 1))
    best_w = answer(
        Question(
            wanted_w=wanted_w.astype(np.float32),
            levels_w=levels_w,
            spans_s=spans_s,
            barred=barred,
            binds=(levels_w > sign_w, levels_w < -sign_w),
            barred_ws=np.float32(BARRED_RATIO * task.widest_w) * spans_s,
            prices_ws=prices_ws[:, 0].astype(np.float32),
            last=task.last,
            first=task.first(column),
        )
    ).astype(np.float64)
    present_w = task.powers_w[column]
    best_w[np.abs(best_w) < LEAST_W] = 0.0
    best_w[np.abs(best_w - present_w) < LEAST_W] = present_w
    return best_w


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one channel, by row. Single precision: what is left over in a minute is known well enough."""

    wanted_w: Singles
    levels_w: Singles
    """That are tried; the first is the present one."""
    spans_s: Singles
    barred: tuple[Flags, Flags]
    """Where it must not be above 0 W, and where not below."""
    binds: tuple[Flags, Flags]
    """Which levels are above 0 W, and which below."""
    barred_ws: Singles
    """What that counts as, by stretch."""
    prices_ws: Singles
    """Of each level, when it is begun."""
    last: Indices
    """The last moment at which the change before one at each moment may have been made; -1: there is none."""
    first: int
    """The first moment at which it may be changed."""


def answer(question: Question) -> Singles:
    """Return the powers that lead to the least cost (rows, stretches), by dynamic programming over the moments."""
    sums_ws, last, first = _sums_ws(question), question.last, question.first
    stretches, rows = len(sums_ws) - 1, len(question.levels_w)
    # changed_ws[j]: the least up to a change at j. begun_ws[j + 1]: the least with a level that was begun at j or
    # before, without what that leaves over up to then.
    changed_ws = np.full((stretches + 1, rows), np.inf, dtype=np.float32)
    begun_ws = np.empty(sums_ws.shape, dtype=np.float32)
    begun_ws[:2] = np.inf
    if first == 0:
        changed_ws[0], begun_ws[1] = 0.0, question.prices_ws
    at = 1
    while at < stretches:  # all moments at once whose predecessors are known
        until = min(max(int(np.searchsorted(last, at)), at + 1), stretches)
        ways_ws = (sums_ws[at:until] + begun_ws[last[at:until] + 1]).min(axis=2)
        held = min(max(at, first), until)
        np.minimum(ways_ws[held - at :], sums_ws[held:until, :, 0], out=ways_ws[held - at :])
        changed_ws[at:until] = ways_ws
        begun = begun_ws[at + 1 : until + 1]
        np.subtract(ways_ws[:, :, None], sums_ws[at:until], out=begun)
        begun += question.prices_ws
        np.minimum(begun[0], begun_ws[at], out=begun[0])
        np.minimum.accumulate(begun, axis=0, out=begun)
        at = until
    return _traced(sums_ws, begun_ws, changed_ws, levels_w=question.levels_w, last=last, first=first)


def _levels_w(task: Task, column: int, wanted_w: Floats) -> Singles:
    """Return the powers that are tried, by row: the present one, 0 W, and what is asked.

    The best power for a while is the median of what is asked in it, and so one of the powers asked.
    """
    rows, stretches = wanted_w.shape
    ranked_w = np.sort(np.clip(wanted_w, task.lowest_w[column], task.highest_w[column]), axis=1)
    tried = ranks(stretches)
    levels_w = np.empty((rows, len(tried) + 2), dtype=np.float32)
    levels_w[:, 0], levels_w[:, 1], levels_w[:, 2:] = task.powers_w[column], 0.0, ranked_w[:, tried]
    return levels_w


@lru_cache(maxsize=256)
def ranks(stretches: int) -> Indices:
    """Return which of the powers asked are tried, by their rank."""
    return np.linspace(0, stretches - 1, min(LEVELS, stretches)).round().astype(np.intp)


def _sums_ws(question: Question) -> Singles:
    """Return what each level leaves over from the beginning up to each moment: (moments, rows, levels)."""
    sums_ws = np.zeros((len(question.spans_s) + 1, *question.levels_w.shape), dtype=np.float32)
    left_ws = sums_ws[1:]
    np.subtract(question.wanted_w.T[:, :, None], question.levels_w, out=left_ws)
    np.abs(left_ws, out=left_ws)
    left_ws *= question.spans_s[:, None, None]
    for where, binds in zip(question.barred, question.binds, strict=True):
        for at in np.flatnonzero(where.any(axis=0)):
            left_ws[at] += (where[:, at] * question.barred_ws[at])[:, None] * binds
    np.add.accumulate(left_ws, axis=0, out=left_ws)
    return sums_ws


def _traced(
    sums_ws: Singles, begun_ws: Singles, changed_ws: Singles, *, levels_w: Singles, last: Indices, first: int
) -> Singles:
    """Return the powers that lead to the least cost (rows, stretches), found from the end back."""
    stretches, rows = len(sums_ws) - 1, np.arange(len(levels_w))
    moments = np.arange(stretches + 1)
    powers_w = np.repeat(levels_w[:, :1], stretches, axis=1)
    # The last level may end at any moment after it was begun; it was not changed again.
    until, latest = np.full(len(rows), stretches), np.full(len(rows), stretches - 1)
    while True:
        ways_ws = sums_ws[until, rows] + begun_ws[latest + 1, rows]
        level = ways_ws.argmin(axis=1)
        held_ws = np.where((until >= first) | (until == stretches), sums_ws[until, rows, 0], np.inf)
        moved = (ways_ws[rows, level] < held_ws) & (until > 0)
        if not moved.any():
            return powers_w
        since_ws = changed_ws - sums_ws[:, rows, level]
        since_ws[moments[:, None] > latest] = np.inf
        since = since_ws.argmin(axis=0)
        inside = moved[:, None] & (moments[:-1] >= since[:, None]) & (moments[:-1] < until[:, None])
        powers_w = np.where(inside, levels_w[rows, level][:, None], powers_w)
        until = np.where(moved, since, 0)
        latest = last[until]
