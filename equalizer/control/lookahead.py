"""Which changes the change budget should be spent on, given what is announced.

Every change of a channel locks it for the delay. So the loop is played forward over the horizon with many courses of
action side by side (a beam search over the announced edges): at each edge, or where a channel unlocks between two, it
holds, or changes one channel, or brings several to 0 W and lets one take over. The course that leaves the least energy
unbalanced is begun; as the forecast changes, it is thought over.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from equalizer.control.allocation import MIDDLE_SOC_RATIO, Slot, allocate
from equalizer.control.image import ChannelKey, LoadEdge
from equalizer.control.settings import LOCK_MARGIN_S, ControlSettings

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Indices: TypeAlias = npt.NDArray[np.intp]

CLUSTER_S = 0.5
"""Edges this close together are met as one."""
CHANGE_PRICE_S = 1.0
"""A change must save at least the band held for this long."""
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
    weight_w = 0.0
    for edge in edges:
        level_w = levels_w[-1] - edge.delta_w
        if times_s and edge.at_s - times_s[-1] <= CLUSTER_S:
            weight_w += abs(edge.delta_w)
            times_s[-1] += (edge.at_s - times_s[-1]) * abs(edge.delta_w) / weight_w
            levels_w[-1] = level_w
        else:
            times_s.append(edge.at_s)
            levels_w.append(level_w)
            weight_w = abs(edge.delta_w)
    return Course(tuple(times_s), tuple(min(max(level_w, -MOST_W), MOST_W) for level_w in levels_w))


def foresee(now_s: float, ahead: Course, units: Sequence[Unit], settings: ControlSettings) -> list[Move]:
    """Return the changes of the best course of action, the soonest first."""
    end_s = now_s + settings.horizon_s
    free = sorted((unit for unit in units if unit.unlock_s < end_s), key=lambda unit: (unit.unlock_s, unit.slot.key))
    if not free:
        return []
    size = -(-len(free) // GROUPS)
    groups = [free[n : n + size] for n in range(0, len(free), size)]
    others = [unit for unit in units if unit.unlock_s >= end_s]
    steps = _Game(now_s, ahead, groups, others, settings).best()
    return [move for step in steps for move in _shared(step, groups[step.group], settings)]


@dataclass(frozen=True, slots=True)
class _Step:
    """A group of channels should go to a power."""

    at_s: float
    group: int
    power_w: float


def _shared(step: _Step, group: Sequence[Unit], settings: ControlSettings) -> list[Move]:
    """Share a group's step out; few of its channels change."""
    if len(group) == 1:
        return [Move(step.at_s, group[0].slot.key, step.power_w)]
    slots = [replace(unit.slot, power_w=_bound_w(unit), locked=False, lowest_w=None, highest_w=None) for unit in group]
    shares = allocate(step.power_w, slots, least_w=settings.release_w)
    return [Move(step.at_s, key, shares.powers_w[key]) for key in shares.changed]


def _bound_w(unit: Unit) -> float:
    """Return what a channel will do when all that it is bound to do has come."""
    return unit.coming[-1][1] if unit.coming else unit.slot.power_w


def _range_w(unit: Unit) -> tuple[float, float]:
    """Return the lowest and the highest that a channel is bound to do."""
    slot = unit.slot
    return (
        slot.lowest_w if slot.lowest_w is not None else slot.power_w,
        slot.highest_w if slot.highest_w is not None else slot.power_w,
    )


class _Game:
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
        self.powers_w = np.array([[sum(_bound_w(unit) for unit in group) for group in groups]])
        self.unlock_s = np.array([[max(now_s, *(unit.unlock_s for unit in group)) for group in groups]])
        self.lowest_w = np.array([-sum(unit.slot.discharge_limit_w for unit in group) for group in groups])
        self.highest_w = np.array([sum(unit.slot.charge_limit_w for unit in group) for group in groups])
        self.charge = np.array([fmean(_charge(unit.slot) for unit in group) for group in groups])
        self.price_ws = CHANGE_PRICE_S * settings.engage_w
        # What serves a battery in the background binds nobody to its sign.
        background = [any(unit.slot.background for unit in group) for group in groups]
        self.sign_w = np.where(background, max(settings.engage_w, SAME_W), SAME_W)
        self.curves = [_curve(group) for group in groups]
        self.lossy = any(curve is not None for curve in self.curves)
        self.fixed_w = sum(_bound_w(unit) for unit in others)
        self.fixed_pos = any(_range_w(unit)[1] > SAME_W for unit in others)
        self.fixed_neg = any(_range_w(unit)[0] < -SAME_W for unit in others)
        self.beam, self.moments = (BEAM, MOMENTS) if len(groups) <= FEW else (BEAM_OF_MANY, MOMENTS_OF_MANY)
        self.lock_s = settings.delay_s + LOCK_MARGIN_S
        self.lock_w = 0.0
        same = (
            (np.abs(self.charge[:, None] - self.charge) < TWIN_CHARGE_RATIO)
            & (self.lowest_w[:, None] == self.lowest_w)
            & (self.highest_w[:, None] == self.highest_w)
            & (self.sign_w[:, None] == self.sign_w)
        )
        self.twins: tuple[Indices, ...] = () if self.lossy else np.nonzero(np.tril(same, -1))
        """Pairs of columns that can do the same, the later ones first."""
        self.later = (
            np.equal.outer(self.twins[0], np.arange(len(groups))) if self.twins and len(self.twins[0]) else None
        )
        self.others = ~np.eye(len(groups), dtype=bool)
        self._divide(now_s, ahead, [*(unit for group in groups for unit in group), *others])

    def _divide(self, now_s: float, ahead: Course, units: Sequence[Unit]) -> None:
        """Cut the horizon into stretches in which nothing changes by itself."""
        comings = [(unit.slot.power_w, unit.coming) for unit in units if unit.coming]
        edges = _edges(now_s, ahead, self.settings)
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
        awaited = [_awaited(comings, begin_s) for begin_s, _, _ in self.stretches]
        self.later_w = [later_w for later_w, _, _ in awaited]
        self.neg = [lowest_w < -SAME_W for _, lowest_w, _ in awaited]
        self.pos = [highest_w > SAME_W for _, _, highest_w in awaited]

    def levels_w(self, number: int) -> list[float]:
        """Return what one might go to in a stretch: what is asked then, and what will be asked in the median."""
        begin_s, _, asked_w = self.stretches[number]
        levels_w = [asked_w]
        for span_s in (0.4 * self.settings.delay_s, self.settings.delay_s):
            parts = []
            for from_s, until_s, level_w in self.stretches[number:]:
                if from_s >= begin_s + span_s:
                    break
                if until_s > from_s:
                    parts.append((level_w, min(until_s, begin_s + span_s) - from_s))
            level_w = _median(parts) if parts else asked_w
            if all(abs(level_w - other_w) > self.settings.release_w for other_w in levels_w):
                levels_w.append(level_w)
        for _, _, level_w in self.stretches[number + 1 : number + 3]:
            if len(levels_w) < LEVELS and all(abs(level_w - other_w) > self.settings.release_w for other_w in levels_w):
                levels_w.append(level_w)
        return levels_w

    def loss_ws(self, powers_w: Floats) -> Floats:
        """Return what the losses at these powers are taken for: a per cent weighs as much as one of charge."""
        losses = np.zeros(powers_w.shape)
        for column, curve in enumerate(self.curves):
            if curve is not None:
                losses[..., column] = 1.0 - np.interp(np.abs(powers_w[..., column]), curve[0], curve[1])
        return 0.5 * self.price_ws * np.where(powers_w == 0.0, 0.0, losses)

    def best(self) -> list[_Step]:
        """Search, and return the moves of the best course."""
        rows = _Rows(self.powers_w, self.unlock_s, np.zeros(1))
        layers: list[tuple[Floats, Floats, Indices]] = []
        asks = np.array([s[2] for s in self.stretches])
        self.lock_w = LOCK_PRICE_S * float(np.abs(np.diff(asks)).mean()) if len(asks) > 1 else 0.0
        for number in range(len(self.stretches)):
            before_w = rows.powers_w
            rows, parent, at_s = self._expanded(number, rows)
            layers.append((before_w, at_s, parent))
        row = int(np.argmin(rows.cost_ws + self.lock_w * self._locked_s(rows.unlock_s, self.stretches[-1][1])))
        steps: list[_Step] = []
        after_w = rows.powers_w
        for before_w, at_s, parent in reversed(layers):
            now_w, was_w = after_w[row], before_w[parent[row]]
            steps += [_Step(float(at_s[row]), int(n), float(now_w[n])) for n in np.flatnonzero(now_w != was_w)]
            row = int(parent[row])
            after_w = before_w
        return steps[::-1]

    def _locked_s(self, unlock_s: Floats, at_s: float) -> Floats:
        """Return for how long channels are still locked then, all together."""
        total_s: Floats = np.add.reduce(np.maximum(unlock_s - at_s, 0.0), -1)
        return total_s

    def _expanded(self, number: int, rows: "_Rows") -> tuple["_Rows", Indices, Floats]:
        """Return the best courses after a stretch, from which row each came, and when it changed.

        For every row, level and column there are two ways: the one channel changes, or it takes over and all others
        that are free go to 0 W. What each would cost is reckoned first; only the best are made.
        """
        begin_s, until_s, asked_w = self.stretches[number]
        powers_w, unlock_s = rows.powers_w, rows.unlock_s
        total_w = np.add.reduce(powers_w, 1)
        goal_w = asked_w + self.later_w[number] - self.fixed_w
        held_w = np.abs(goal_w - total_w)
        held_ws = rows.cost_ws + held_w * (until_s - begin_s)
        ready_s = np.maximum(unlock_s, begin_s)
        free = ready_s < until_s if until_s > begin_s else ready_s <= begin_s
        if not np.count_nonzero(free):
            return _Rows(powers_w, unlock_s, held_ws), np.arange(len(powers_w)), np.full(len(powers_w), begin_s)
        ways = _Ways(self, number, rows, free=free, ready_s=ready_s, total_w=total_w)
        gone_s = ways.gone_s
        cost_ws = (
            (rows.cost_ws - held_w * begin_s)[:, None]
            + held_w[:, None] * gone_s
            + np.abs(goal_w - ways.total_w) * (until_s - gone_s)
            + ways.price_ws
        )
        cost_ws[~ways.able] = np.inf
        locked_s = self._locked_s(unlock_s, until_s)
        rank = cost_ws + self.lock_w * (
            locked_s[:, None] + ways.changes * np.maximum(gone_s + self.lock_s - until_s, 0.0)
        )
        holds = len(powers_w)
        ranks = np.concatenate([held_ws + self.lock_w * locked_s, rank.ravel()])
        order = _lowest(ranks, 4 * self.beam)
        order = order[ranks[order] < np.inf]
        moved = order >= holds
        place = np.where(moved, order - holds, 0)
        takes_over, level_place = np.divmod(place, rank[0].size)
        row, column = np.divmod(level_place % powers_w.size, powers_w.shape[1])
        parent = np.where(moved, row, order)
        before_w = powers_w[parent]
        after_w = before_w.copy()
        at_s = np.where(moved, gone_s.reshape(2, -1)[takes_over, level_place % powers_w.size], begin_s)
        after_w[ways.working[row] & (moved & (takes_over == 1))[:, None]] = 0.0
        (pick,) = moved.nonzero()
        after_w[pick, column[pick]] = ways.power_w.ravel()[place[pick]]
        after_s = np.where(after_w != before_w, at_s[:, None] + self.lock_s, unlock_s[parent])
        after_ws = np.where(moved, cost_ws.ravel()[place], held_ws[parent])
        left_s = np.maximum(after_s - until_s, 0.0)
        signature = np.round(np.add.reduce((after_w + 1e3 * left_s) ** 2, 1) * 1e-4)
        keep = _first_of_each(signature)[: self.beam]
        return _Rows(after_w[keep], after_s[keep], after_ws[keep]), parent[keep], at_s[keep]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Courses of action up to a moment."""

    powers_w: Floats
    unlock_s: Floats
    cost_ws: Floats


class _Ways:
    """What can be done in a stretch: arrays of kind (0: one changes; 1: one takes over), level, row and column."""

    def __init__(self, game: _Game, number: int, rows: _Rows, *, free: Flags, ready_s: Floats, total_w: Floats) -> None:
        powers_w = rows.powers_w
        levels_w = np.array(game.levels_w(number))[:, None, None] - game.fixed_w
        shape = len(levels_w), *powers_w.shape
        signs_pos, signs_neg = powers_w > game.sign_w, powers_w < -game.sign_w
        bound_pos, bound_neg = game.pos[number] or game.fixed_pos, game.neg[number] or game.fixed_neg
        working = free & (signs_pos | signs_neg)
        self.working = working
        """By row: those of which the others go to 0 W when one takes over."""
        self.gone_s = np.empty((2, 1, *powers_w.shape))
        """When: for all levels the same."""
        self.gone_s[0] = ready_s
        last_s = np.maximum.reduce(np.where(working, ready_s, -np.inf), 1, keepdims=True)
        np.maximum(ready_s, last_s, out=self.gone_s[1, 0])
        stays_w = total_w[:, None] - powers_w
        worked_w = np.where(working, powers_w, 0.0)
        left_w = total_w[:, None] - np.add.reduce(worked_w, 1)[:, None] - np.where(working, 0.0, powers_w)
        self.power_w = np.empty((2, *shape))
        """The power that the column gets."""
        _between(
            levels_w - stays_w,
            game.lowest_w if not bound_pos else 0.0,
            game.highest_w if not bound_neg else 0.0,
            no_lower=signs_pos @ game.others if not bound_pos else None,
            no_higher=signs_neg @ game.others if not bound_neg else None,
            out_w=self.power_w[0],
        )
        _between(
            levels_w - left_w,
            game.lowest_w if not bound_pos else 0.0,
            game.highest_w if not bound_neg else 0.0,
            no_lower=np.logical_or.reduce(signs_pos & ~free, axis=1, keepdims=True) if not bound_pos else None,
            no_higher=np.logical_or.reduce(signs_neg & ~free, axis=1, keepdims=True) if not bound_neg else None,
            out_w=self.power_w[1],
        )
        self.total_w = np.empty((2, *shape))
        np.add(stays_w, self.power_w[0], out=self.total_w[0])
        np.add(left_w, self.power_w[1], out=self.total_w[1])
        delta_w = self.power_w - powers_w
        shrinks = np.where(total_w > 0.0, levels_w[..., 0] < total_w, levels_w[..., 0] > total_w)[..., None]
        able = free if game.later is None else free & ~_twins(rows, game.twins, game.later)
        self.able = np.empty((2, *shape), dtype=bool)
        np.logical_and(able, np.abs(delta_w[0]) > game.settings.release_w, out=self.able[0])
        others = working @ game.others.astype(np.float64)
        np.logical_and(able & (others > 0.0), shrinks, out=self.able[1])
        self.changes = np.empty((2, *shape))
        self.changes[0] = 1.0
        np.add(others, delta_w[1] != 0.0, out=self.changes[1])
        self.price_ws = game.price_ws * (self.changes + 0.5 * game.charge * np.sign(delta_w))
        if game.lossy:
            self.price_ws = self.price_ws + game.loss_ws(self.power_w)


def _first_of_each(values: Floats) -> Indices:
    """Return the index of the first of each value, the lowest index first."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    first = np.empty(len(order), dtype=bool)
    first[:1] = True
    np.not_equal(ranked[1:], ranked[:-1], out=first[1:])
    return np.sort(order[first])


def _between(
    value_w: Floats,
    low_w: Floats | float,
    high_w: Floats | float,
    *,
    no_lower: Flags | None,
    no_higher: Flags | None,
    out_w: Floats,
) -> None:
    """Cut powers to a range; where it is flagged, that goes no lower, or no higher, than 0 W."""
    if no_lower is not None:
        low_w = np.where(no_lower, 0.0, low_w)
    if no_higher is not None:
        high_w = np.where(no_higher, 0.0, high_w)
    np.minimum(np.maximum(value_w, low_w), high_w, out=out_w)


def _twins(rows: _Rows, twins: tuple[Indices, ...], later: Flags) -> Flags:
    """Return which columns are in the same place as an earlier one that can do the same: one of them is enough."""
    second, first = twins
    here = (rows.powers_w[:, second] == rows.powers_w[:, first]) & (rows.unlock_s[:, second] == rows.unlock_s[:, first])
    there: Flags = here @ later
    return there


def _lowest(ranks: Floats, count: int) -> Indices:
    """Return the indices of the lowest, the lowest first."""
    if len(ranks) > count:
        some = np.sort(np.argpartition(ranks, count)[:count])
        return some[np.argsort(ranks[some], kind="stable")]
    return np.argsort(ranks, kind="stable")


def _curve(group: Sequence[Unit]) -> tuple[list[float], list[float]] | None:
    """Return the efficiency by power of a group of one channel; within larger groups, `allocate` looks at it."""
    if len(group) != 1 or not group[0].slot.curve:
        return None
    curve = group[0].slot.curve
    return [power_w for power_w, _ in curve], [ratio for _, ratio in curve]


def _edges(now_s: float, ahead: Course, settings: ControlSettings) -> list[float]:
    """Return when what is asked will differ by more than it is worth to change one channel more."""
    times_s: list[float] = []
    level_w = ahead.at(now_s)
    for n in range(bisect_right(ahead.times_s, now_s), len(ahead.times_s)):
        if ahead.times_s[n] < now_s + settings.horizon_s and abs(ahead.asked_w[n + 1] - level_w) > settings.release_w:
            times_s.append(ahead.times_s[n])
            level_w = ahead.asked_w[n + 1]
    return times_s


def _awaited(
    comings: Sequence[tuple[float, tuple[tuple[float, float], ...]]], at_s: float
) -> tuple[float, float, float]:
    """Return what is bound to come after a time: by how much all together, and the lowest and highest on the way."""
    later_w = lowest_w = highest_w = 0.0
    for power_w, coming in comings:
        waits_w = [level_w for time_s, level_w in coming if time_s > at_s]
        if waits_w:
            now_w = next((level_w for time_s, level_w in reversed(coming) if time_s <= at_s), power_w)
            later_w += waits_w[-1] - now_w
            lowest_w, highest_w = min(lowest_w, now_w, *waits_w), max(highest_w, now_w, *waits_w)
    return later_w, lowest_w, highest_w


def _charge(slot: Slot) -> float:
    """Return how far a battery's charge is above the middle."""
    return (slot.soc_ratio if slot.soc_ratio is not None else MIDDLE_SOC_RATIO) - MIDDLE_SOC_RATIO


def _median(parts: list[tuple[float, float]]) -> float:
    """Return the level that has half of the time below it."""
    half_s = 0.5 * sum(for_s for _, for_s in parts)
    for level_w, for_s in sorted(parts):
        half_s -= for_s
        if half_s <= 0.0:
            return level_w
    return parts[-1][0]
