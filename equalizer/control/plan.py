"""From one look ahead to the next: the last course of action, fitted to what is known now, and made better."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from equalizer.control.lookahead import (
    GROUPS,
    SAME_W,
    Course,
    Move,
    Unit,
    awaited,
    bound_w,
    charge_ratio,
    edges_s,
    foresee,
    range_w,
)
from equalizer.control.refine import LEAST_W, Curve, Floats, Task, refined
from equalizer.control.settings import LOCK_MARGIN_S, ControlSettings

APART_S = 0.2
"""Moments that nothing but a lock makes worth looking at are left out so close to another."""
EDGES = 60
"""Announced changes that are looked at."""
MOMENTS = 110
"""Moments at which channels may change."""


def planned(
    now_s: float,
    ahead: Course,
    units: Sequence[Unit],
    settings: ControlSettings,
    *,
    before: Sequence[Move] = (),
    number: int = 0,
) -> list[Move]:
    """Return the changes of the best course of action that is found, the soonest first.

    Args:
        now_s: the time.
        ahead: what will be asked.
        units: all equalization channels. Where they are led in groups, nothing is kept from look to look.
        settings: of the loop.
        before: what the look before has found; it is fitted to what is known now, and made better.
        number: of the look; what is tried differs from one to the next.
    """
    end_s = now_s + settings.horizon_s
    free = sorted((unit for unit in units if unit.unlock_s < end_s), key=lambda unit: unit.slot.key)
    if len(free) > GROUPS or not free:
        return foresee(now_s, ahead, units, settings)
    others = [unit for unit in units if unit.unlock_s >= end_s]
    begun = before or foresee(now_s, ahead, units, settings)
    resumed = [_resumed(unit, begun, now_s, settings) for unit in free]
    times_s = _moments_s(now_s, ahead, units, resumed, settings)
    task = _task(times_s, ahead, free, others, settings)
    begins_s: list[float] = times_s[:-1].tolist()
    plan_w = np.repeat(task.powers_w[:, None], len(begins_s), axis=1)
    for row_w, moves in zip(plan_w, resumed, strict=True):
        for move in moves:
            row_w[bisect_left(begins_s, move.at_s) :] = move.power_w
    best_w = refined(task, plan_w, number)
    changed = np.diff(best_w, axis=1, prepend=task.powers_w[:, None]) != 0.0
    return [
        Move(float(times_s[at]), free[column].slot.key, float(best_w[column, at]))
        for at, column in np.argwhere(changed.T)
    ]


def _resumed(unit: Unit, before: Sequence[Move], now_s: float, settings: ControlSettings) -> list[Move]:
    """Return what a channel has still to do of a course, each no sooner than it can."""
    key, slot = unit.slot.key, unit.slot
    moves: list[Move] = []
    free_s, power_w = max(now_s, unit.unlock_s), bound_w(unit)
    for move in before:
        if move.key != key or (not moves and abs(move.power_w - power_w) < LEAST_W):
            continue  # it has been done, or is bound to be
        at_s = max(move.at_s, free_s)
        moves.append(Move(at_s, key, min(max(move.power_w, -slot.discharge_limit_w), slot.charge_limit_w)))
        free_s = at_s + settings.delay_s + LOCK_MARGIN_S
    return moves


def _moments_s(
    now_s: float,
    ahead: Course,
    units: Sequence[Unit],
    resumed: Sequence[Sequence[Move]],
    settings: ControlSettings,
) -> Floats:
    """Return when channels may change, and the end of it.

    No change is worth more at another time than at an edge, or at a lock's distance from one, or from another change.
    """
    lock_s = settings.delay_s + LOCK_MARGIN_S
    edges = edges_s(now_s, ahead, settings)
    end_s = edges[EDGES] if len(edges) > EDGES else now_s + settings.horizon_s
    known = {
        now_s,
        *edges,
        *(unit.unlock_s for unit in units),
        *(time_s for unit in units for time_s, _ in unit.coming),
        *(move.at_s for moves in resumed for move in moves),
    }
    firm = sorted(time_s for time_s in known if now_s <= time_s < end_s)
    loose = sorted({*(time_s + lock_s for time_s in firm), *(time_s - lock_s for time_s in edges)})
    kept: list[float] = []
    room = max(MOMENTS - len(firm), 0)
    before_s = firm[0]
    for time_s in loose[bisect_right(loose, now_s) : bisect_left(loose, end_s)]:
        if len(kept) == room:
            break
        near = bisect_left(firm, time_s)
        before_s = max(before_s, firm[near - 1])
        if time_s - before_s > APART_S and (near == len(firm) or firm[near] - time_s > APART_S):
            kept.append(time_s)
            before_s = time_s
    return np.array([*sorted([*firm, *kept]), end_s])


def _task(
    times_s: Floats, ahead: Course, units: Sequence[Unit], others: Sequence[Unit], settings: ControlSettings
) -> Task:
    """Return what is asked in every stretch, and of whom."""
    begins_s: list[float] = times_s[:-1].tolist()
    # What is bound to come counts as done, and is asked for in addition until then.
    comings = [(unit.slot.power_w, unit.coming) for unit in (*units, *others) if unit.coming]
    waits = awaited(comings, begins_s)
    fixed_w = sum(bound_w(unit) for unit in others)
    fixed_above = any(range_w(unit)[1] > SAME_W for unit in others)
    fixed_below = any(range_w(unit)[0] < -SAME_W for unit in others)
    slots = [unit.slot for unit in units]
    return Task(
        times_s=times_s,
        asked_w=np.array(
            [ahead.at(begin_s) + later_w - fixed_w for begin_s, (later_w, _, _) in zip(begins_s, waits, strict=True)]
        ),
        no_positive=np.array([fixed_below or lowest_w < -SAME_W for _, lowest_w, _ in waits]),
        no_negative=np.array([fixed_above or highest_w > SAME_W for _, _, highest_w in waits]),
        powers_w=np.array([bound_w(unit) for unit in units]),
        unlock_s=np.array([unit.unlock_s for unit in units]),
        lowest_w=np.array([-slot.discharge_limit_w for slot in slots]),
        highest_w=np.array([slot.charge_limit_w for slot in slots]),
        # What serves a battery in the background binds nobody to its sign.
        sign_w=np.array([max(settings.engage_w, SAME_W) if slot.background else SAME_W for slot in slots]),
        price_ws=settings.change_price_ws,
        charge=np.array([charge_ratio(slot) for slot in slots]),
        curves=tuple(_curve(slot.curve) for slot in slots),
        lock_s=settings.delay_s + LOCK_MARGIN_S,
    )


def _curve(curve: Sequence[tuple[float, float]]) -> Curve | None:
    """Return an efficiency by power, as lists of both."""
    return ([power_w for power_w, _ in curve], [ratio for _, ratio in curve]) if curve else None
