"""`equalizer.control.refine.settle`, compiled: the same plans, to the bit, in a fraction of the time.

What each step means is said there; here it is done plan by plan, where that does it by arrays.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from equalizer.control import refine
from equalizer.control.refine import Draws, Flags, Floats, Indices, Singles, Task
from simulation.compiled import natively

LANES = 16
"""So many levels are looked at together: there are as many in a processor's register, or in two."""

NOT_ABOVE, NOT_BELOW = 1, 2
"""0 W; bits."""

Bits = npt.NDArray[np.int8]


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


class Memory(NamedTuple):
    """What was asked of a channel before, and its answer: plans come to the same again and again."""

    columns: Indices
    marks: Floats
    """By these they are told apart at a glance."""
    wanted_w: Floats
    barred: Bits
    """By question and stretch: whether it must not be above 0 W, nor below."""
    best_w: Floats


class Shakes(NamedTuple):
    """How plans are shaken; see `refine.Draws`."""

    middles_s: Floats
    """Of the stretches."""
    from_s: Floats
    until_s: Floats
    forced: Flags
    sign: Indices
    size_w: Floats
    noise: Floats
    every_other: Flags
    turns: Indices


def use() -> None:
    """Have all plans of this process settled and weighed by compiled code."""
    refine.settled = settle
    refine.weighed = weigh


def settle(task: Task, plan_w: Floats, draws: Draws) -> Floats:
    """Shake a plan, and let one channel after another do the best that it can beside the others; return the plans."""
    if any(curve is not None for curve in task.curves):
        return refine.settle(task, plan_w, draws)
    plans_w = np.empty((len(draws.forced), *plan_w.shape))
    shakes = Shakes(
        0.5 * (task.times_s[1:] + task.times_s[:-1]),
        draws.from_s,
        draws.until_s,
        draws.forced,
        draws.sign,
        draws.size_w,
        draws.noise,
        draws.every_other,
        np.array(draws.turns),
    )
    _settle(plans_w, plan_w, shakes, _given(task))
    return plans_w


def weigh(task: Task, plans_w: Floats) -> tuple[Floats, Floats]:
    """Return what plans leave over (rows, stretches), and the price of each change (rows, channels, stretches)."""
    if any(curve is not None for curve in task.curves):
        return refine.weigh(task, plans_w)
    left_w, prices_ws = np.empty((len(plans_w), plans_w.shape[2])), np.zeros(plans_w.shape)
    _weigh(plans_w, left_w, prices_ws, refine.BARRED_RATIO * task.widest_w, _given(task))
    return left_w, prices_ws


def _given(task: Task) -> Given:
    spans_s = task.spans_s.astype(np.float32)
    return Given(
        task.asked_w,
        task.no_positive,
        task.no_negative,
        task.powers_w,
        task.lowest_w,
        task.highest_w,
        task.sign_w,
        task.charge,
        task.price_ws,
        task.times_s.searchsorted(task.unlock_s - refine.SAME_S),
        task.last,
        refine.ranks(len(spans_s)),
        spans_s,
        np.float32(refine.BARRED_RATIO * task.widest_w) * spans_s,
    )


@natively
def _weigh(plans_w: Floats, left_w: Floats, prices_ws: Floats, barred_w: float, given: Given) -> None:
    rows, channels, stretches = plans_w.shape
    for row in range(rows):
        for at in range(stretches):
            total_w = plans_w[row, 0, at]
            above = below = False
            for column in range(channels):
                power_w, sign_w = plans_w[row, column, at], given.sign_w[column]
                if column > 0:
                    total_w += power_w
                above |= power_w > sign_w
                below |= power_w < -sign_w
                if power_w != (plans_w[row, column, at - 1] if at > 0 else given.powers_w[column]):
                    prices_ws[row, column, at] = _price_ws(power_w, column, given)
            barred = (above and (below or given.no_positive[at])) or (below and given.no_negative[at])
            left_w[row, at] = abs(given.asked_w[at] - total_w) + (barred_w if barred else 0.0)


@natively
def _price_ws(power_w: float, column: int, given: Given) -> float:
    """Return what it costs to bring a channel to a power."""
    range_w = max(given.highest_w[column] - given.lowest_w[column], refine.LEAST_W)
    dear = given.charge[column] * power_w / range_w
    price_ws: float = given.price_ws * (1.0 + refine.LOSS_PRICE_RATIO * dear)
    return price_ws


@natively
def _settle(plans_w: Floats, plan_w: Floats, shakes: Shakes, given: Given) -> None:
    rows, channels, stretches = plans_w.shape
    turns = shakes.turns
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
    most = len(turns) * rows
    memory = Memory(
        np.empty(most, np.int64),
        np.empty(most),
        np.empty((most, stretches)),
        np.empty((most, stretches), np.int8),
        np.empty((most, stretches)),
    )
    forced = np.empty(stretches, np.int8)
    asked = 0
    for row in range(rows):
        since, until = _shaken(plans_w[row], row, plan_w, forced, shakes, given)
        for turn in range(len(turns)):
            column = turns[turn]
            wanted_w, barred = memory.wanted_w[asked], memory.barred[asked]
            _ask(plans_w[row], column, wanted_w, barred, given)
            if turn < channels and shakes.forced[row]:
                for at in range(stretches):
                    barred[at] |= forced[at]
            elif turn < channels and shakes.every_other[turn, row]:
                for at in range(since, until):
                    wanted_w[at] += shakes.size_w[row] * shakes.noise[turn, row, at // refine.FALSIFIED_STRETCHES]
            mark = wanted_w[stretches // 4] + 2.0 * wanted_w[stretches // 2] + 3.0 * wanted_w[3 * stretches // 4]
            memory.columns[asked], memory.marks[asked] = column, mark
            same = _remembered(asked, memory)
            if same == asked:
                _best(memory.best_w[asked], column, wanted_w, barred, given, ways)
                asked += 1
            plans_w[row, column] = memory.best_w[same]


@natively
def _ask(plan_w: Floats, column: int, wanted_w: Floats, barred: Bits, given: Given) -> None:
    """Find what the others leave over for a channel, and where it is barred; in loops that the compiler can widen."""
    wanted_w[:] = plan_w[0]
    for other in range(1, len(plan_w)):
        for at in range(len(wanted_w)):
            wanted_w[at] += plan_w[other, at]
    for at in range(len(wanted_w)):
        wanted_w[at] = given.asked_w[at] - (wanted_w[at] - plan_w[column, at])
        barred[at] = NOT_ABOVE * given.no_positive[at] | NOT_BELOW * given.no_negative[at]
    for other in range(len(plan_w)):
        sign_w = given.sign_w[other]
        for at in range(len(wanted_w) if other != column else 0):
            barred[at] |= NOT_ABOVE * (plan_w[other, at] < -sign_w) | NOT_BELOW * (plan_w[other, at] > sign_w)


@natively
def _shaken(  # noqa: PLR0917 - compiled code knows no dataclass
    plan: Floats, row: int, plan_w: Floats, forced: Bits, shakes: Shakes, given: Given
) -> tuple[int, int]:
    """Begin with a plan, and shake it; return from which stretch to which."""
    plan[:] = plan_w
    forced[:] = 0
    since = np.searchsorted(shakes.middles_s, shakes.from_s[row], side="right")
    until = np.searchsorted(shakes.middles_s, shakes.until_s[row])
    if row == 0 or until <= since:
        return 0, 0
    for at in range(plan.shape[1] if shakes.forced[row] else 0):
        if since <= at < until:
            not_above, not_below = shakes.sign[row] <= 0, shakes.sign[row] >= 0
        else:
            not_above = not_below = False
            for column in range(len(plan)):
                not_above |= plan_w[column, at] < -given.sign_w[column]
                not_below |= plan_w[column, at] > given.sign_w[column]
        forced[at] = NOT_ABOVE * not_above | NOT_BELOW * not_below
        for column in range(len(plan)):
            if not_above:
                plan[column, at] = min(plan[column, at], 0.0)
            if not_below:
                plan[column, at] = max(plan[column, at], 0.0)
    return since, until


@natively
def _remembered(asked: int, memory: Memory) -> int:
    """Return the first question that is the same as the last."""
    for number in range(asked):
        if (
            memory.marks[number] == memory.marks[asked]
            and memory.columns[number] == memory.columns[asked]
            and (memory.wanted_w[number] == memory.wanted_w[asked]).all()
            and (memory.barred[number] == memory.barred[asked]).all()
        ):
            return number
    return asked


@natively
def _best(  # noqa: PLR0917 - compiled code knows no dataclass
    best_w: Floats, column: int, wanted_w: Floats, barred: Bits, given: Given, ways: Ways
) -> None:
    """Let a channel do its best in one plan."""
    lowest_w, highest_w, present_w = given.lowest_w[column], given.highest_w[column], given.powers_w[column]
    sign_w, levels_w = given.sign_w[column], ways.levels_w
    ranked_w = _ranked_w(wanted_w, lowest_w, highest_w)
    levels_w[0], levels_w[1] = present_w, 0.0
    for n in range(len(given.tried)):
        levels_w[n + 2] = ranked_w[given.tried[n]]
    for level in range(len(levels_w)):
        level_w = float(levels_w[level])
        ways.prices_ws[level] = _price_ws(level_w, column, given)
        ways.above[level], ways.below[level] = level_w > sign_w, level_w < -sign_w
    for level in range(len(given.tried) + 2, len(levels_w)):
        ways.prices_ws[level] = np.inf  # it only fills a lane
    _sum(wanted_w, barred, given, ways)
    _begin(given.first[column], given.last, ways)
    _trace(best_w, given.first[column], given.last, ways)
    for at in range(len(best_w)):
        if abs(best_w[at]) < refine.LEAST_W:
            best_w[at] = 0.0
        if abs(best_w[at] - present_w) < refine.LEAST_W:
            best_w[at] = present_w


@natively
def _ranked_w(wanted_w: Floats, lowest_w: float, highest_w: float) -> Singles:
    """Return the powers asked, within a channel's limits, in order; by counting, without a branch to mispredict."""
    some_w = np.minimum(np.maximum(wanted_w, lowest_w), highest_w).astype(np.float32)
    ranks = np.zeros(len(some_w), np.int32)
    for one_w in some_w:
        for number in range(len(some_w)):
            ranks[number] += one_w < some_w[number]
    ranked_w = np.full_like(some_w, -np.inf)
    for number in range(len(some_w)):
        ranked_w[ranks[number]] = some_w[number]
    for number in range(1, len(some_w)):
        ranked_w[number] = max(ranked_w[number], ranked_w[number - 1])  # the same power more than once
    return ranked_w


@natively
def _sum(wanted_w: Floats, barred: Bits, given: Given, ways: Ways) -> None:
    """Sum up what each level leaves over from the beginning up to each moment."""
    # What is written into an array that is read, too, is done one by one; so the running sum has a place of its own.
    sum_ws = np.zeros(len(ways.levels_w), np.float32)
    for at in range(len(wanted_w)):
        want_w, span_s, barred_ws = np.float32(wanted_w[at]), given.spans_s[at], given.barred_ws[at]
        if barred[at]:
            up_ws = barred_ws if barred[at] & NOT_ABOVE else np.float32(0.0)
            down_ws = barred_ws if barred[at] & NOT_BELOW else np.float32(0.0)
            for n in range(len(sum_ws)):
                left_ws = abs(want_w - ways.levels_w[n]) * span_s
                sum_ws[n] += (left_ws + up_ws * ways.above[n]) + down_ws * ways.below[n]
                ways.sums_ws[at + 1, n] = sum_ws[n]
        else:
            for n in range(len(sum_ws)):
                sum_ws[n] += abs(want_w - ways.levels_w[n]) * span_s
                ways.sums_ws[at + 1, n] = sum_ws[n]


@natively
def _begin(first: int, last: Indices, ways: Ways) -> None:
    """Find the least up to a change at each moment, and with each level begun by then."""
    sums_ws, begun_ws, changed_ws, prices_ws = ways.sums_ws, ways.begun_ws, ways.changed_ws, ways.prices_ws
    infinite = np.float32(np.inf)
    changed_ws[: first + 1] = infinite
    begun_ws[: first + 1] = infinite
    done_ws, ways_ws = np.full_like(prices_ws, np.inf), np.empty_like(prices_ws)
    if first == 0:
        changed_ws[0] = np.float32(0.0)
        begun_ws[1] = done_ws[:] = prices_ws
    for at in range(max(first, 1), len(sums_ws) - 1):
        changed, since = sums_ws[at, 0], last[at] + 1
        if since > first:  # it may have been changed before
            for n in range(len(prices_ws)):
                ways_ws[n] = sums_ws[at, n] + begun_ws[since, n]
            one = two = three = four = changed
            for n in range(0, len(prices_ws), 4):
                one, two = min(one, ways_ws[n]), min(two, ways_ws[n + 1])
                three, four = min(three, ways_ws[n + 2]), min(four, ways_ws[n + 3])
            changed = min(one, two, three, four)
        changed_ws[at] = changed
        for n in range(len(prices_ws)):
            done_ws[n] = min(done_ws[n], (changed - sums_ws[at, n]) + prices_ws[n])
            begun_ws[at + 1, n] = done_ws[n]


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
