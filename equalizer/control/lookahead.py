"""Which changes the change budget should be spent on, given what is announced.

Every change of a channel locks it for the delay. So the loop is played forward over the horizon with many courses of
action side by side (a beam search over the announced edges): at each edge, or where a channel unlocks between two, it
holds, or changes one channel, or brings several to 0 W and lets one take over. The course that leaves the least energy
unbalanced is what a look begins with, where there is none yet that could be made better (`equalizer.control.plan`).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from equalizer.control.allocation import MIDDLE_SOC_RATIO, Slot, allocate
from equalizer.control.image import ChannelKey, LoadEdge
from equalizer.control.settings import LOCK_MARGIN_S, ControlSettings
from schemas.values import replace

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Indices: TypeAlias = npt.NDArray[np.intp]

CLUSTER_S = 0.5
"""Edges this close together are met as one."""
FEW = 4
"""Groups of channels. A search among more is narrower and shorter: it must answer a large loop within milliseconds."""
BEAM, BEAM_OF_MANY = 240, 64
"""Courses of action that are kept from one edge to the next."""
MOMENTS, MOMENTS_OF_MANY = 28, 20
"""Edges that are looked at."""
LOCK_PRICE_S = 0.08
"""While the search goes on, a lock that still has so long to go counts as this part of it, at the load's swing."""
LEVELS = 4
"""Powers that are tried in a stretch."""
GROUPS = 6
"""More channels than this are led in groups; a group is free when all of it is."""
TWIN_CHARGE_RATIO = 0.02
"""Channels whose charge differs by less stand for each other in the search."""
SAME_W = 1e-3
MOST_W = 1e12
"""No hall asks for more."""


@dataclass(frozen=True, slots=True)
class Course:
    """The power that is asked of the equalization channels together, from now on: steps at `times_s`."""

    times_s: tuple[float, ...]
    asked_w: tuple[float, ...]
    """One more than times: the first holds now."""

    def at(self, at_s: float) -> float:
        """Return what is asked at a time."""
        return self.asked_w[bisect_right(self.times_s, at_s)]


@dataclass(frozen=True, slots=True)
class Unit:
    """A channel in the game ahead."""

    slot: Slot
    """As it is at the first moment."""
    unlock_s: float
    coming: tuple[tuple[float, float], ...] = ()
    """Changes that it is bound to make: time and power."""


@dataclass(frozen=True, slots=True)
class Move:
    """A channel should go to a power."""

    at_s: float
    key: ChannelKey
    power_w: float


def course(asked_w: float, edges: Sequence[LoadEdge]) -> Course:
    """Return what will be asked, given what is asked now and the announced changes of the load."""
    times_s: list[float] = []
    levels_w = [asked_w]
    level_w, weight_w, time_s = asked_w, 0.0, -inf
    for edge in edges:
        level_w -= edge.delta_w
        size_w = abs(edge.delta_w)
        if edge.at_s - time_s <= CLUSTER_S:
            weight_w += size_w
            time_s += (edge.at_s - time_s) * size_w / weight_w
            times_s[-1], levels_w[-1] = time_s, level_w
        else:
            weight_w, time_s = size_w, edge.at_s
            times_s.append(time_s)
            levels_w.append(level_w)
    if max(levels_w) > MOST_W or min(levels_w) < -MOST_W:
        levels_w = [min(max(level_w, -MOST_W), MOST_W) for level_w in levels_w]
    return Course(tuple(times_s), tuple(levels_w))


def foresee(now_s: float, ahead: Course, units: Sequence[Unit], settings: ControlSettings) -> list[Move]:
    """Return the changes of the best course of action, the soonest first."""
    end_s = now_s + settings.horizon_s
    free = sorted((unit for unit in units if unit.unlock_s < end_s), key=lambda unit: (unit.unlock_s, unit.slot.key))
    if not free:
        return []
    size = -(-len(free) // GROUPS)
    groups = [free[n : n + size] for n in range(0, len(free), size)]
    others = [unit for unit in units if unit.unlock_s >= end_s]
    steps = searched(Game(now_s, ahead, groups, others, settings))
    return [move for step in steps for move in _shared(step, groups[step.group], settings)]


@dataclass(frozen=True, slots=True)
class Step:
    """A group of channels should go to a power."""

    at_s: float
    group: int
    power_w: float


def _shared(step: Step, group: Sequence[Unit], settings: ControlSettings) -> list[Move]:
    """Share a group's step out; few of its channels change."""
    if len(group) == 1:
        return [Move(step.at_s, group[0].slot.key, step.power_w)]
    slots = [replace(unit.slot, power_w=bound_w(unit), locked=False, lowest_w=None, highest_w=None) for unit in group]
    shares = allocate(step.power_w, slots, least_w=settings.release_w)
    return [Move(step.at_s, key, shares.powers_w[key]) for key in shares.changed]


def bound_w(unit: Unit) -> float:
    """Return what a channel will do when all that it is bound to do has come."""
    return unit.coming[-1][1] if unit.coming else unit.slot.power_w


def range_w(unit: Unit) -> tuple[float, float]:
    """Return the lowest and the highest that a channel is bound to do."""
    slot = unit.slot
    return (
        slot.lowest_w if slot.lowest_w is not None else slot.power_w,
        slot.highest_w if slot.highest_w is not None else slot.power_w,
    )


class Game:
    """One search. Rows are courses of action, columns are groups of channels that come free within the horizon."""

    def __init__(
        self,
        now_s: float,
        ahead: Course,
        groups: Sequence[Sequence[Unit]],
        others: Sequence[Unit],
        settings: ControlSettings,
    ) -> None:
        self.settings = settings
        # What is bound to come counts as done, and is asked for in addition until then.
        self.powers_w = np.array([[sum(bound_w(unit) for unit in group)] for group in groups])
        self.unlock_s = np.array([[max(now_s, *(unit.unlock_s for unit in group))] for group in groups])
        self.lowest_w = np.array([[-sum(unit.slot.discharge_limit_w for unit in group)] for group in groups])
        self.highest_w = np.array([[sum(unit.slot.charge_limit_w for unit in group)] for group in groups])
        charge = np.array([[fmean(charge_ratio(unit.slot) for unit in group)] for group in groups])
        self.charge_bias = 0.5 * charge
        """Of the price of a change: up is dearer for what is fuller."""
        self.price_ws = settings.change_price_ws
        # What serves a battery in the background binds nobody to its sign.
        background = [any(unit.slot.background for unit in group) for group in groups]
        self.sign_w = np.where(background, max(settings.engage_w, SAME_W), SAME_W)[:, None]
        self.curves = [_curve(group) for group in groups]
        self.lossy = any(curve is not None for curve in self.curves)
        self.fixed_w = sum(bound_w(unit) for unit in others)
        self.fixed_pos = any(range_w(unit)[1] > SAME_W for unit in others)
        self.fixed_neg = any(range_w(unit)[0] < -SAME_W for unit in others)
        self.beam, self.moments = (BEAM, MOMENTS) if len(groups) <= FEW else (BEAM_OF_MANY, MOMENTS_OF_MANY)
        self.lock_s = settings.delay_s + LOCK_MARGIN_S
        self.same = (
            (np.abs(charge - charge.T) < TWIN_CHARGE_RATIO)
            & (self.lowest_w == self.lowest_w.T)
            & (self.highest_w == self.highest_w.T)
            & (self.sign_w == self.sign_w.T)
        )
        self.twins = [] if self.lossy else [(n, m) for n in range(len(groups)) for m in range(n) if self.same[n, m]]
        """Pairs of columns that can do the same, the later ones first."""
        self._divide(now_s, ahead, [*(unit for group in groups for unit in group), *others])

    def _divide(self, now_s: float, ahead: Course, units: Sequence[Unit]) -> None:
        """Cut the horizon into stretches in which nothing changes by itself."""
        comings = [(unit.slot.power_w, unit.coming) for unit in units if unit.coming]
        edges = edges_s(now_s, ahead, self.settings)
        end_s = edges[self.moments] if len(edges) > self.moments else now_s + self.settings.horizon_s
        bound = {time_s for _, coming in comings for time_s, _ in coming if time_s > now_s}
        times_s = [time_s for time_s in sorted({now_s, *edges, *bound}) if time_s < end_s]
        large_w = 0.25 * float(np.min(self.highest_w - self.lowest_w))
        self.stretches: list[tuple[float, float, float]] = []
        for begin_s, until_s in zip(times_s, [*times_s[1:], end_s], strict=True):
            asked_w = ahead.at(begin_s)
            if not self.stretches or abs(asked_w - self.stretches[-1][2]) > large_w:
                self.stretches.append((begin_s, begin_s, asked_w))  # a moment more: two may change at once
            self.stretches.append((begin_s, until_s, asked_w))
        waits = awaited(comings, [begin_s for begin_s, _, _ in self.stretches])
        self.later_w = [later_w for later_w, _, _ in waits]
        self.neg = [lowest_w < -SAME_W for _, lowest_w, _ in waits]
        self.pos = [highest_w > SAME_W for _, _, highest_w in waits]
        asks_w = np.array([asked_w for _, _, asked_w in self.stretches])
        self.lock_w = LOCK_PRICE_S * float(np.abs(np.diff(asks_w)).mean()) if len(asks_w) > 1 else 0.0
        self.levels_w = self._levels_w()

    def _levels_w(self) -> list[list[float]]:
        """Return what one might go to in each stretch.

        That is what is asked then, what will be asked in the median over a while, and what is asked next.
        """
        begins_s, untils_s, asked_w = (np.array(column) for column in zip(*self.stretches, strict=True))
        spans_s = 0.4 * self.settings.delay_s, self.settings.delay_s
        asks_w, soon_w, late_w = asked_w.tolist(), *_medians(begins_s, untils_s, asked_w, spans_s)
        least_w, fixed_w = self.settings.release_w, self.fixed_w
        made: list[list[float]] = []
        for number, level_w in enumerate(asks_w):
            levels_w = [level_w]
            for other_w in (soon_w[number], late_w[number], *asks_w[number + 1 : number + 3]):
                for one_w in levels_w:
                    if -least_w <= other_w - one_w <= least_w:
                        break
                else:
                    levels_w.append(other_w)
            made.append([level_w - fixed_w for level_w in levels_w[:LEVELS]])
        return made

    def loss_ws(self, powers_w: Floats, columns: Indices) -> Floats:
        """Return what the losses at these powers are taken for: a per cent weighs as much as one of charge."""
        losses = np.zeros(powers_w.shape)
        for column, curve in enumerate(self.curves):
            if curve is not None:
                here = columns == column
                losses[:, here] = 1.0 - np.interp(np.abs(powers_w[:, here]), curve[0], curve[1])
        return 0.5 * self.price_ws * np.where(powers_w == 0.0, 0.0, losses)

    def best(self) -> list[Step]:
        """Search, and return the moves of the best course."""
        rows = _Rows(self.powers_w, self.unlock_s, np.zeros(1))
        layers: list[tuple[Floats, Floats, Indices]] = []
        for number in range(len(self.stretches)):
            before_w = rows.powers_w
            rows, parent, at_s = self._expanded(number, rows)
            layers.append((before_w, at_s, parent))
        row = int(np.argmin(rows.cost_ws + self.lock_w * _locked_s(rows.unlock_s, self.stretches[-1][1])))
        steps: list[Step] = []
        after_w = rows.powers_w
        for before_w, at_s, parent in reversed(layers):
            now_w, was_w = after_w[:, row].tolist(), before_w[:, parent[row]].tolist()
            steps += [Step(float(at_s[row]), n, now_w[n]) for n in range(len(now_w)) if now_w[n] != was_w[n]]
            row = int(parent[row])
            after_w = before_w
        return steps[::-1]

    def _expanded(self, number: int, rows: "_Rows") -> tuple["_Rows", Indices, Floats]:
        """Return the best courses after a stretch, from which row each came, and when it changed.

        What each way to go on would cost is reckoned first; only the best are made.
        """
        begin_s, until_s, asked_w = self.stretches[number]
        total_w = np.add.reduce(rows.powers_w, 0)
        goal_w = asked_w + self.later_w[number] - self.fixed_w
        held_w = np.abs(goal_w - total_w)
        held_ws = rows.cost_ws + held_w * (until_s - begin_s)
        ready_s = np.maximum(rows.unlock_s, begin_s)
        free = ready_s < until_s if until_s > begin_s else ready_s <= begin_s
        holds = len(held_ws)
        if not np.count_nonzero(free):
            return _Rows(rows.powers_w, rows.unlock_s, held_ws), np.arange(holds), np.full(holds, begin_s)
        ways = _Ways(self, number, rows, free=free, ready_s=ready_s, total_w=total_w)
        gone_s = ways.gone_s
        cost_ws = (
            (rows.cost_ws - held_w * begin_s).take(ways.row)
            + held_w.take(ways.row) * gone_s
            + np.abs(goal_w - ways.total_w) * (until_s - gone_s)
            + ways.price_ws
        )
        locked_s = _locked_s(rows.unlock_s, until_s)
        rank = cost_ws + self.lock_w * (
            locked_s.take(ways.row) + ways.changes * np.maximum(gone_s + self.lock_s - until_s, 0.0)
        )
        ranks = np.concatenate([held_ws + self.lock_w * locked_s, rank.take(ways.able)])
        costs_ws = np.concatenate([held_ws, cost_ws.take(ways.able)])
        for count in (2 * self.beam, 4 * self.beam):
            order = _lowest(ranks, count)
            after_w, after_s, parent, at_s = ways.made(order, begin_s, self.lock_s)
            left_s = np.maximum(after_s - until_s, 0.0)
            signature = np.rint(np.add.reduce((after_w + 1e3 * left_s) ** 2, 0) * 1e-4)
            keep = _first_of_each(signature)[: self.beam]
            if len(keep) == self.beam or len(ranks) <= count:
                break
        made = _Rows(after_w.take(keep, 1), after_s.take(keep, 1), costs_ws.take(order.take(keep)))
        return made, parent.take(keep), at_s.take(keep)


searched: Callable[[Game], list[Step]] = Game.best
"""How a game is searched. `simulation.compiled` does it faster."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Courses of action up to a moment; arrays of column and row."""

    powers_w: Floats
    unlock_s: Floats
    cost_ws: Floats


class _Ways:
    """What can be done in a stretch.

    For every row and free column there are two kinds of way: the one channel changes, or it takes over and all others
    that are free go to 0 W; each to some level. Arrays are of pairs (row and column; those of the first kind, then
    those of the second), or of level and pair.
    """

    def __init__(self, game: Game, number: int, rows: _Rows, *, free: Flags, ready_s: Floats, total_w: Floats) -> None:
        powers_w = rows.powers_w
        self._rows = rows
        levels_w = np.array(game.levels_w[number])[:, None]
        signs_pos, signs_neg = powers_w > game.sign_w, powers_w < -game.sign_w
        self._working = working = free & (signs_pos | signs_neg)
        """Those of which the others go to 0 W when one takes over."""
        able = free & ~_twins(rows, game.twins) if game.twins else free
        row, column = able.T.nonzero()
        place = column * len(total_w) + row
        others = np.add.reduce(working, 0) - working
        (takers,) = others.take(place).nonzero()
        self._ones = ones = len(place)
        over = len(takers) > 0
        at = place
        stays_w, gone_s = [total_w - powers_w], [ready_s]
        if over:
            taken = place.take(takers)
            others = others.take(taken)
            row, column = np.concatenate([row, row.take(takers)]), np.concatenate([column, column.take(takers)])
            place, at = np.concatenate([place, taken]), np.concatenate([place, taken + powers_w.size])
            resting_w = total_w - np.add.reduce(np.where(working, powers_w, 0.0), 0)
            stays_w.append(resting_w - np.where(working, 0.0, powers_w))
            gone_s.append(np.maximum(ready_s, np.maximum.reduce(np.where(working, ready_s, -np.inf), 0)))
        self.row, self._column, self._place = row, column, place
        up, down = game.pos[number] or game.fixed_pos, game.neg[number] or game.fixed_neg
        low_w = 0.0 if up else _taken(_towards(game.lowest_w, signs_pos, free, over=over), at)
        high_w = 0.0 if down else _taken(_towards(game.highest_w, signs_neg, free, over=over), at)
        self.gone_s = _taken(gone_s, at)
        """When."""
        stay_w = _taken(stays_w, at)
        """What all others do then."""
        self._power_w = np.minimum(np.maximum(levels_w - stay_w, low_w), high_w)
        """The power that the column gets."""
        self.total_w = stay_w + self._power_w
        self._delta_w = delta_w = self._power_w - powers_w.take(place)
        self.changes: Floats | float = 1.0
        able = np.abs(delta_w) > game.settings.release_w
        if over:
            # It is for less than is done that others are brought to rest.
            over_w = total_w.take(row[ones:])
            able[:, ones:] = np.where(over_w > 0.0, levels_w < over_w, levels_w > over_w)
            self.changes = np.ones(delta_w.shape)
            np.add(others, delta_w[:, ones:] != 0.0, out=self.changes[:, ones:])
        self.able = np.flatnonzero(able)
        if over:
            second = self.able % len(row) >= ones
            self.able = np.concatenate([self.able[~second], self.able[second]])
        self.price_ws = game.price_ws * (self.changes + game.charge_bias.take(column) * np.sign(delta_w))
        if game.lossy:
            self.price_ws = self.price_ws + game.loss_ws(self._power_w, column)

    def made(self, order: Indices, begin_s: float, lock_s: float) -> tuple[Floats, Floats, Indices, Floats]:
        """Go some ways: the number of a row holds, what is beyond goes the ways that one is able to.

        Returns:
            Powers, when each may change again, the row that each comes from, and when it changed.
        """
        rows = self._rows
        holds = rows.powers_w.shape[1]
        (moved,) = (order >= holds).nonzero()
        way = self.able.take(order.take(moved) - holds)
        pair = way % len(self.row)
        gone_s = self.gone_s.take(pair)
        parent = order.copy()
        parent[moved] = self.row.take(pair)
        at_s = np.empty(len(order))
        at_s.fill(begin_s)
        at_s[moved] = gone_s
        after_w, after_s = rows.powers_w.take(parent, 1), rows.unlock_s.take(parent, 1)
        over = pair >= self._ones
        if np.count_nonzero(over):
            takes_over = np.zeros(len(order), dtype=bool)
            takes_over[moved] = over
            to_rest = self._working.take(parent, 1) & takes_over
            np.copyto(after_w, 0.0, where=to_rest)
            np.copyto(after_s, at_s + lock_s, where=to_rest)
        column = self._column.take(pair)
        after_w[column, moved] = self._power_w.take(way)
        stays_s = rows.unlock_s.take(self._place.take(pair))
        after_s[column, moved] = np.where(self._delta_w.take(way) != 0.0, gone_s + lock_s, stays_s)
        return after_w, after_s, parent, at_s


def _taken(kinds: list[Floats], at: Indices) -> Floats:
    """Return what arrays of column and row, one for each kind of way, hold for pairs."""
    return kinds[0].take(at) if len(kinds) == 1 else np.concatenate(kinds, axis=None).take(at)


def _towards(limit_w: Floats, signs: Flags, free: Flags, *, over: bool) -> list[Floats]:
    """Return how far columns may go, by row and kind of way: to their limit, or to 0 W while others keep a sign.

    If one changes, all others keep theirs; if one takes over, those that are not free do.
    """
    far_w = [np.where(np.add.reduce(signs, 0) > signs, 0.0, limit_w)]
    if over:
        far_w.append(np.where(np.logical_or.reduce(signs & ~free, 0), 0.0, limit_w))
    return far_w


def _locked_s(unlock_s: Floats, at_s: float) -> Floats:
    """Return for how long channels are still locked then, all together."""
    total_s: Floats = np.add.reduce(np.maximum(unlock_s - at_s, 0.0), 0)
    return total_s


def _first_of_each(values: Floats) -> Indices:
    """Return the index of the first of each value, the lowest index first."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    first = np.empty(len(order), dtype=bool)
    first[:1] = True
    np.not_equal(ranked[1:], ranked[:-1], out=first[1:])
    kept = np.zeros(len(order), dtype=bool)
    kept[order[first]] = True
    return np.flatnonzero(kept)


def _twins(rows: _Rows, twins: Sequence[tuple[int, int]]) -> Flags:
    """Return which columns are in the same place as an earlier one that can do the same: one of them is enough."""
    there = np.zeros(rows.powers_w.shape, dtype=bool)
    for second, first in twins:
        there[second] |= (rows.powers_w[second] == rows.powers_w[first]) & (
            rows.unlock_s[second] == rows.unlock_s[first]
        )
    return there


def _lowest(ranks: Floats, count: int) -> Indices:
    """Return the indices of the lowest, the lowest first."""
    if len(ranks) <= count:
        return np.argsort(ranks, kind="stable")
    some = np.flatnonzero(ranks <= np.partition(ranks, count - 1)[count - 1])
    return some[np.argsort(ranks[some], kind="stable")[:count]]


def _curve(group: Sequence[Unit]) -> tuple[list[float], list[float]] | None:
    """Return the efficiency by power of a group of one channel; within larger groups, `allocate` looks at it."""
    if len(group) != 1 or not group[0].slot.curve:
        return None
    curve = group[0].slot.curve
    return [power_w for power_w, _ in curve], [ratio for _, ratio in curve]


def edges_s(now_s: float, ahead: Course, settings: ControlSettings) -> list[float]:
    """Return when what is asked will differ by more than it is worth to change one channel more."""
    times_s: list[float] = []
    level_w, least_w = ahead.at(now_s), settings.release_w
    first, end = bisect_right(ahead.times_s, now_s), bisect_left(ahead.times_s, now_s + settings.horizon_s)
    for n in range(first, end):
        if abs(ahead.asked_w[n + 1] - level_w) > least_w:
            times_s.append(ahead.times_s[n])
            level_w = ahead.asked_w[n + 1]
    return times_s


Coming: TypeAlias = tuple[float, tuple[tuple[float, float], ...]]
"""A channel's power, and the changes that it is bound to make: time and power."""


def awaited(comings: Sequence[Coming], times_s: Sequence[float]) -> list[tuple[float, float, float]]:
    """Return what is bound to come after each time: by how much all together, and the lowest and highest on the way."""
    bounds_s = sorted(time_s for _, coming in comings for time_s, _ in coming)
    after = [_awaited(comings, at_s) for at_s in (-inf, *bounds_s)]
    return [after[bisect_right(bounds_s, at_s)] for at_s in times_s]


def _awaited(comings: Sequence[Coming], at_s: float) -> tuple[float, float, float]:
    later_w = lowest_w = highest_w = 0.0
    for power_w, coming in comings:
        waits_w = [level_w for time_s, level_w in coming if time_s > at_s]
        if waits_w:
            now_w = next((level_w for time_s, level_w in reversed(coming) if time_s <= at_s), power_w)
            later_w += waits_w[-1] - now_w
            lowest_w, highest_w = min(lowest_w, now_w, *waits_w), max(highest_w, now_w, *waits_w)
    return later_w, lowest_w, highest_w


def charge_ratio(slot: Slot) -> float:
    """Return how far a battery's charge is above the middle."""
    return (slot.soc_ratio if slot.soc_ratio is not None else MIDDLE_SOC_RATIO) - MIDDLE_SOC_RATIO


def _medians(begins_s: Floats, untils_s: Floats, asked_w: Floats, spans_s: Sequence[float]) -> list[list[float]]:
    """Return for each span and stretch the level that has half of the time below it, from the stretch's begin on."""
    ends_s = (begins_s + np.array(spans_s)[:, None])[:, :, None]
    over_s = np.minimum(untils_s, ends_s) - begins_s
    over_s[(begins_s >= ends_s) | (untils_s <= begins_s) | (begins_s < begins_s[:, None])] = 0.0
    rising = np.argsort(asked_w, kind="stable")
    left_s = np.concatenate([0.5 * np.cumsum(over_s, 2)[:, :, -1:], over_s[:, :, rising]], 2)
    below = (np.subtract.accumulate(left_s, 2)[:, :, 1:] <= 0.0).argmax(2)
    levels_w: list[list[float]] = np.where(left_s[:, :, 0] > 0.0, asked_w[rising][below], asked_w).tolist()
    return levels_w
