"""`equalizer.control.refine.settle`, compiled: the same plans, to the bit, in a fraction of the time.

What each step means is said there; here it is done plan by plan, where that does it by arrays.
"""

from typing import NamedTuple

import numpy as np

from equalizer.control import refine
from equalizer.control.refine import Flags, Floats, Indices, Singles, Task, Trials
from simulation.compiled import natively

LANES = 16
"""So many levels are looked at together: there are as many in a processor's register, or in two."""

GAPS = (57, 23, 10, 4, 1)
"""D. L. Shell's way to sort, with M. Ciura's gaps: for a hundred powers the quickest, and quick to compile."""


class Given(NamedTuple):
    """What does not change while plans are settled; see `refine.Task`."""

    asked_w: Floats
    no_positive: Flags
    no_negative: Flags
    powers_w: Floats
    lowest_w: Floats
    highest_w: Floats
    sign_w: Floats
    charge: Floats
    price_ws: float
    first: Indices
    """By channel."""
    last: Indices
    tried: Indices
    spans_s: Singles
    barred_ws: Singles


class Ways(NamedTuple):
    """What becomes of one channel by the powers that are tried; see `refine.answer`. Levels are filled up to lanes."""

    levels_w: Singles
    prices_ws: Singles
    sums_ws: Singles
    """By moment and level."""
    begun_ws: Singles
    changed_ws: Singles
    above: Singles
    """1 where a level is above 0 W."""
    below: Singles


def use() -> None:
    """Have all plans of this process settled by compiled code."""
    refine.settled = settle


def settle(task: Task, trials: Trials) -> Floats:
    """Let one channel after another do the best that it can beside the others, in every plan; return the plans."""
    if any(curve is not None for curve in task.curves):
        return refine.settle(task, trials)
    spans_s = task.spans_s.astype(np.float32)
    given = Given(
        task.asked_w,
        task.no_positive,
        task.no_negative,
        task.powers_w,
        task.lowest_w,
        task.highest_w,
        task.sign_w,
        task.charge,
        task.price_ws,
        np.array([task.first(column) for column in range(len(task.powers_w))]),
        task.last,
        refine.ranks(len(spans_s)),
        spans_s,
        np.float32(refine.BARRED_RATIO * task.widest_w) * spans_s,
    )
    plans_w = trials.plans_w.copy()
    _settle(plans_w, np.array(trials.turns), trials.falsified_w, trials.not_above, trials.not_below, given)
    return plans_w


@natively
def _settle(  # noqa: PLR0917 - compiled code knows no dataclass
    plans_w: Floats, turns: Indices, falsified_w: Floats, not_above: Flags, not_below: Flags, given: Given
) -> None:
    rows, channels, stretches = plans_w.shape
    levels = -(-(len(given.tried) + 2) // LANES) * LANES
    ways = Ways(
        np.zeros(levels, np.float32),
        np.zeros(levels, np.float32),
        np.zeros((stretches + 1, levels), np.float32),
        np.empty((stretches + 1, levels), np.float32),
        np.empty(stretches + 1, np.float32),
        np.zeros(levels, np.float32),
        np.zeros(levels, np.float32),
    )
    wanted_w = np.empty(stretches)
    no_positive, no_negative = np.empty(stretches, np.bool_), np.empty(stretches, np.bool_)
    for row in range(rows):
        plan_w = plans_w[row]
        for turn in range(len(turns)):
            column = turns[turn]
            shaken = turn < len(falsified_w)
            for at in range(stretches):
                total_w = plan_w[0, at]
                above, below = given.no_positive[at], given.no_negative[at]
                for other in range(channels):
                    if other > 0:
                        total_w += plan_w[other, at]
                    if other != column:
                        above |= plan_w[other, at] < -given.sign_w[other]
                        below |= plan_w[other, at] > given.sign_w[other]
                wanted_w[at] = given.asked_w[at] - (total_w - plan_w[column, at])
                if shaken:
                    wanted_w[at] += falsified_w[turn, row, at]
                    above |= not_above[row, at]
                    below |= not_below[row, at]
                no_positive[at], no_negative[at] = above, below
            _best(plan_w[column], column, wanted_w, no_positive, no_negative, given, ways)


@natively
def _best(  # noqa: PLR0917 - compiled code knows no dataclass
    best_w: Floats, column: int, wanted_w: Floats, no_positive: Flags, no_negative: Flags, given: Given, ways: Ways
) -> None:
    """Let a channel do its best in one plan."""
    lowest_w, highest_w, present_w = given.lowest_w[column], given.highest_w[column], given.powers_w[column]
    sign_w, levels_w = given.sign_w[column], ways.levels_w
    ranked_w = _ranked_w(wanted_w, lowest_w, highest_w)
    levels_w[0], levels_w[1] = present_w, 0.0
    for n in range(len(given.tried)):
        levels_w[n + 2] = ranked_w[given.tried[n]]
    range_w = max(highest_w - lowest_w, refine.LEAST_W)
    for level in range(len(levels_w)):
        level_w = float(levels_w[level])
        dear = given.charge[column] * level_w / range_w
        ways.prices_ws[level] = given.price_ws * (1.0 + refine.LOSS_PRICE_RATIO * dear)
        ways.above[level], ways.below[level] = level_w > sign_w, level_w < -sign_w
    for level in range(len(given.tried) + 2, len(levels_w)):
        ways.prices_ws[level] = np.inf  # it only fills a lane
    _sum(wanted_w, no_positive, no_negative, given, ways)
    _begin(given.first[column], given.last, ways)
    _trace(best_w, given.first[column], given.last, ways)
    for at in range(len(best_w)):
        if abs(best_w[at]) < refine.LEAST_W:
            best_w[at] = 0.0
        if abs(best_w[at] - present_w) < refine.LEAST_W:
            best_w[at] = present_w


@natively
def _ranked_w(wanted_w: Floats, lowest_w: float, highest_w: float) -> Floats:
    """Return the powers asked, within a channel's limits, in order."""
    ranked_w = np.minimum(np.maximum(wanted_w, lowest_w), highest_w)
    for gap in GAPS:
        for start in range(gap, len(ranked_w)):
            want_w, place = ranked_w[start], start
            while place >= gap and ranked_w[place - gap] > want_w:
                ranked_w[place] = ranked_w[place - gap]
                place -= gap
            ranked_w[place] = want_w
    return ranked_w


@natively
def _sum(wanted_w: Floats, no_positive: Flags, no_negative: Flags, given: Given, ways: Ways) -> None:
    """Sum up what each level leaves over from the beginning up to each moment."""
    for at in range(len(wanted_w)):
        before_ws, after_ws = ways.sums_ws[at], ways.sums_ws[at + 1]
        want_w, span_s, barred_ws = np.float32(wanted_w[at]), given.spans_s[at], given.barred_ws[at]
        if no_positive[at] or no_negative[at]:
            up_ws = barred_ws if no_positive[at] else np.float32(0.0)
            down_ws = barred_ws if no_negative[at] else np.float32(0.0)
            for n in range(len(after_ws)):
                left_ws = abs(want_w - ways.levels_w[n]) * span_s
                after_ws[n] = before_ws[n] + ((left_ws + up_ws * ways.above[n]) + down_ws * ways.below[n])
        else:
            for n in range(len(after_ws)):
                after_ws[n] = before_ws[n] + abs(want_w - ways.levels_w[n]) * span_s


@natively
def _begin(first: int, last: Indices, ways: Ways) -> None:
    """Find the least up to a change at each moment, and with each level begun by then."""
    sums_ws, begun_ws, changed_ws, prices_ws = ways.sums_ws, ways.begun_ws, ways.changed_ws, ways.prices_ws
    least_ws = np.empty(LANES, np.float32)
    infinite = np.float32(np.inf)
    changed_ws[:] = infinite
    changed_ws[0] = np.float32(0.0) if first == 0 else infinite
    for n in range(len(prices_ws)):
        begun_ws[0, n] = infinite
        begun_ws[1, n] = prices_ws[n] if first == 0 else infinite
    for at in range(1, len(sums_ws) - 1):
        here_ws, done_ws, next_ws = sums_ws[at], begun_ws[at], begun_ws[at + 1]
        from_ws = begun_ws[last[at] + 1]
        least_ws[:] = infinite
        for block in range(0, len(here_ws), LANES):
            for lane in range(LANES):
                ways_ws = here_ws[block + lane] + from_ws[block + lane]
                least_ws[lane] = min(least_ws[lane], ways_ws)
        changed = here_ws[0] if at >= first else infinite
        for lane in range(LANES):
            changed = min(changed, least_ws[lane])
        changed_ws[at] = changed
        for n in range(len(here_ws)):
            begun = (changed - here_ws[n]) + prices_ws[n]
            next_ws[n] = min(done_ws[n], begun)


@natively
def _trace(powers_w: Floats, first: int, last: Indices, ways: Ways) -> None:
    """Find the powers that lead to the least cost, from the end back."""
    sums_ws, begun_ws, changed_ws, levels_w = ways.sums_ws, ways.begun_ws, ways.changed_ws, ways.levels_w
    stretches, infinite = len(powers_w), np.float32(np.inf)
    powers_w[:] = levels_w[0]
    until, latest = stretches, stretches - 1
    while until > 0:
        level, least_ws = 0, infinite
        for other in range(len(levels_w)):
            ways_ws = sums_ws[until, other] + begun_ws[latest + 1, other]
            if ways_ws < least_ws:
                level, least_ws = other, ways_ws
        if (until >= first or until == stretches) and not least_ws < sums_ws[until, 0]:
            return
        if least_ws == infinite:
            return
        since, lowest_ws = 0, infinite
        for moment in range(latest + 1):
            since_ws = changed_ws[moment] - sums_ws[moment, level]
            if since_ws < lowest_ws:
                since, lowest_ws = moment, since_ws
        powers_w[since:until] = levels_w[level]
        until = since
        latest = last[until]
