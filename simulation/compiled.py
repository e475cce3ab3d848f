"""The search of `equalizer.control.lookahead`, compiled: the same courses, to the bit, in a fraction of the time.

For halls in virtual time, where a day holds more searches than a server makes in a week. Servers do without it: theirs
is fast enough, and needs no compiler. What each step means is said there; here it is done way by way, where that does
it by arrays. There is a test that both find the same.
"""

from collections.abc import Callable
from math import nan
from typing import NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from equalizer.control import lookahead
from equalizer.control.lookahead import Flags, Floats, Game, Step

Made = TypeVar("Made", bound=Callable[..., object])
Ints = npt.NDArray[np.int64]

EMPTY = NOBODY = -1
SAMPLE = 32
"""Ways by which it is guessed which of them are likely to be kept."""
NONE = (nan,) * lookahead.LEVELS
PLACES = 8
"""In the table of signatures, for each course that is kept."""


class Task(NamedTuple):
    """What is searched."""

    stretches: Floats
    """By stretch: begin, end, goal."""
    levels_w: Floats
    """That are tried in each; what is no number ends them."""
    bound: Flags
    """By stretch: whether something else is bound to charge, and to discharge."""
    columns: Floats
    """By column: lowest, highest, sign, and by how much a change upwards is dearer."""
    same: Flags
    """Which columns can do the same."""
    price_ws: float
    release_w: float
    lock_s: float
    lock_w: float


class Rows(NamedTuple):
    """Courses of action before each stretch, and after the last: by stretch, row and column."""

    powers_w: Floats
    unlocks_s: Floats
    costs_ws: Floats
    parents: Ints
    """By stretch and row after it: the row before it."""
    ats_s: Floats
    """When that changed."""


class Bench(NamedTuple):
    """Where a stretch is worked on."""

    wholes: Floats
    """By row: what is done, what that leaves, for how long channels are locked."""
    working: Flags
    """By row and column: what goes to rest when another takes over."""
    pairs: Ints
    """Row and column that may change, and how many others work there."""
    paths: Floats
    """By pair and kind of way: the lowest and the highest, what all others do, and when."""
    figures: Floats
    """By way: rank, cost, when, power."""
    whats: Ints
    """By way: row, and column (counted on where it takes over); the first ways are those of the rows that hold."""
    heap: Ints
    table: Ints
    """Rows by their signature."""
    signatures: Floats


class Search(NamedTuple):
    """A search at work."""

    task: Task
    rows: Rows
    bench: Bench


def natively(function: Made) -> Made:
    """Have a function compiled at its first call; kept for the next process. The decorator itself has no types."""
    return cast("Made", numba.njit(cache=True)(function))


def use() -> None:
    """Have all searches of this process done by compiled code."""
    lookahead.searched = best


def best(game: Game) -> list[Step]:
    """Search, and return the moves of the best course."""
    if game.lossy:
        return game.best()
    begins_s, untils_s, asks_w = (np.array(column) for column in zip(*game.stretches, strict=True))
    levels_w = np.array([(*some_w, *NONE)[: lookahead.LEVELS] for some_w in game.levels_w])
    task = Task(
        np.stack([begins_s, untils_s, asks_w + np.array(game.later_w) - game.fixed_w], 1),
        levels_w,
        np.stack([np.array(game.pos) | game.fixed_pos, np.array(game.neg) | game.fixed_neg], 1),
        np.concatenate([game.lowest_w, game.highest_w, game.sign_w, game.charge_bias], 1),
        game.same,
        game.price_ws,
        game.settings.release_w,
        game.lock_s,
        game.lock_w,
    )
    rows = _rows(game, len(begins_s))
    row = _searched(Search(task, rows, _bench(game)), 1)
    steps: list[Step] = []
    for number in range(len(begins_s) - 1, -1, -1):
        parent = int(rows.parents[number, row])
        now_w, was_w = rows.powers_w[number + 1, row].tolist(), rows.powers_w[number, parent].tolist()
        if now_w != was_w:
            at_s = float(rows.ats_s[number, row])
            steps += [Step(at_s, n, now_w[n]) for n in range(len(now_w)) if now_w[n] != was_w[n]]
        row = parent
    return steps[::-1]


def _rows(game: Game, count: int) -> Rows:
    beam, width = game.beam, len(game.powers_w)
    rows = Rows(
        np.empty((count + 1, beam, width)),
        np.empty((count + 1, beam, width)),
        np.empty((count + 1, beam)),
        np.empty((count, beam), np.int64),
        np.empty((count, beam)),
    )
    rows.powers_w[0, 0], rows.unlocks_s[0, 0] = game.powers_w[:, 0], game.unlock_s[:, 0]
    rows.costs_ws[0, 0] = 0.0
    return rows


def _bench(game: Game) -> Bench:
    beam, width = game.beam, len(game.powers_w)
    ways = beam * (1 + 2 * lookahead.LEVELS * width)
    return Bench(
        np.empty((beam, 3)),
        np.empty((beam, width), np.bool_),
        np.empty((beam * width, 3), np.int64),
        np.empty((beam * width, 2, 4)),
        np.empty((ways, 4)),
        np.empty((ways, 2), np.int64),
        np.empty(ways, np.int64),
        np.empty(1 << (PLACES * beam).bit_length(), np.int64),
        np.empty(beam),
    )


@natively
def _searched(search: Search, count: int) -> int:
    """Search stretch by stretch, from so many rows on; return the best row after the last."""
    task, rows, bench = search
    last = len(task.stretches)
    for n in range(last):
        pairs = _weighed(n, count, search)
        ways = _priced(n, count, pairs, search)
        if pairs > 0:
            count = _kept(n, ways, search)
            continue
        for row in range(count):
            for column in range(rows.powers_w.shape[2]):
                rows.powers_w[n + 1, row, column] = rows.powers_w[n, row, column]
                rows.unlocks_s[n + 1, row, column] = rows.unlocks_s[n, row, column]
            rows.costs_ws[n + 1, row] = bench.figures[row, 1]
            rows.parents[n, row], rows.ats_s[n, row] = row, task.stretches[n, 0]
    best_row, least = 0, np.inf
    for row in range(count):
        rank = rows.costs_ws[last, row] + task.lock_w * _locked_s(rows.unlocks_s[last], row, task.stretches[-1, 1])
        if rank < least:
            best_row, least = row, rank
    return best_row


@natively
def _locked_s(unlocks_s: Floats, row: int, at_s: float) -> float:
    locked_s: float = max(unlocks_s[row, 0] - at_s, 0.0)
    for column in range(1, unlocks_s.shape[1]):
        locked_s += max(unlocks_s[row, column] - at_s, 0.0)
    return locked_s


@natively
def _weighed(n: int, count: int, search: Search) -> int:
    """Note what the columns of each row may do; return how many pairs of them may change."""
    task, rows, bench = search
    begin_s, until_s, goal_w = task.stretches[n, 0], task.stretches[n, 1], task.stretches[n, 2]
    powers_w, unlocks_s, columns, working = rows.powers_w[n], rows.unlocks_s[n], task.columns, bench.working
    up, down = task.bound[n, 0], task.bound[n, 1]
    pairs, width = 0, powers_w.shape[1]
    for row in range(count):
        total_w, worked_w, last_s = powers_w[row, 0], 0.0, -np.inf
        workers = pos = neg = locked_pos = locked_neg = 0
        first_pair = pairs
        for column in range(width):
            power_w, unlock_s, sign_w = powers_w[row, column], unlocks_s[row, column], columns[column, 2]
            if column > 0:
                total_w += power_w
            ready_s = max(unlock_s, begin_s)
            free = ready_s < until_s if until_s > begin_s else ready_s <= begin_s
            is_pos, is_neg = power_w > sign_w, power_w < -sign_w
            pos, neg = pos + is_pos, neg + is_neg
            works = free and (is_pos or is_neg)
            working[row, column] = works
            if works:
                workers, worked_w, last_s = workers + 1, worked_w + power_w, max(last_s, ready_s)
            else:
                locked_pos, locked_neg = locked_pos + is_pos, locked_neg + is_neg
            for first in range(column):
                if task.same[column, first] and power_w == powers_w[row, first] and unlock_s == unlocks_s[row, first]:
                    free = False  # one of those that can do the same is enough
            if free:
                bench.pairs[pairs, 0], bench.pairs[pairs, 1] = row, column
                pairs += 1
        bench.wholes[row, 0], bench.wholes[row, 1] = total_w, abs(goal_w - total_w)
        bench.wholes[row, 2] = _locked_s(unlocks_s, row, until_s)
        for pair in range(first_pair, pairs):
            column = bench.pairs[pair, 1]
            power_w, sign_w, works = powers_w[row, column], columns[column, 2], working[row, column]
            lowest_w, highest_w, path = columns[column, 0], columns[column, 1], bench.paths[pair]
            bench.pairs[pair, 2] = workers - works
            path[0, 0] = 0.0 if up or pos > (power_w > sign_w) else lowest_w
            path[0, 1] = 0.0 if down or neg > (power_w < -sign_w) else highest_w
            path[0, 2], path[0, 3] = total_w - power_w, max(unlocks_s[row, column], begin_s)
            path[1, 0] = 0.0 if up or locked_pos > 0 else lowest_w
            path[1, 1] = 0.0 if down or locked_neg > 0 else highest_w
            path[1, 2] = (total_w - worked_w) - (0.0 if works else power_w)
            path[1, 3] = max(path[0, 3], last_s)
    return pairs


@natively
def _priced(n: int, count: int, pairs: int, search: Search) -> int:
    """Reckon what it costs each row to hold, and then what each way costs; return how many there are."""
    task, rows, bench = search
    begin_s, until_s, goal_w = task.stretches[n, 0], task.stretches[n, 1], task.stretches[n, 2]
    powers_w, costs_ws, wholes, figures = rows.powers_w[n], rows.costs_ws[n], bench.wholes, bench.figures
    for row in range(count):
        held_ws = costs_ws[row] + wholes[row, 1] * (until_s - begin_s)
        figures[row, 0], figures[row, 1] = held_ws + task.lock_w * wholes[row, 2], held_ws
        figures[row, 2], bench.whats[row, 0], bench.whats[row, 1] = begin_s, row, NOBODY
    ways, width = count, powers_w.shape[1]
    for kind in range(2):
        for level_w in task.levels_w[n]:
            if np.isnan(level_w):
                break
            for pair in range(pairs):
                row, column, others = bench.pairs[pair, 0], bench.pairs[pair, 1], bench.pairs[pair, 2]
                total_w, held_w = wholes[row, 0], wholes[row, 1]
                if kind == 1 and (others == 0 or not (level_w < total_w if total_w > 0.0 else level_w > total_w)):
                    continue  # it is for less than is done that others are brought to rest
                stay_w, gone_s = bench.paths[pair, kind, 2], bench.paths[pair, kind, 3]
                goes_w = min(max(level_w - stay_w, bench.paths[pair, kind, 0]), bench.paths[pair, kind, 1])
                delta_w = goes_w - powers_w[row, column]
                if kind == 0 and not abs(delta_w) > task.release_w:
                    continue
                changes = 1.0 if kind == 0 else float(others + (delta_w != 0.0))
                cost_ws = (
                    (costs_ws[row] - held_w * begin_s)
                    + held_w * gone_s
                    + abs(goal_w - (stay_w + goes_w)) * (until_s - gone_s)
                    + task.price_ws * (changes + task.columns[column, 3] * np.sign(delta_w))
                )
                locks_s = wholes[row, 2] + changes * max(gone_s + task.lock_s - until_s, 0.0)
                figures[ways, 0], figures[ways, 1] = cost_ws + task.lock_w * locks_s, cost_ws
                figures[ways, 2], figures[ways, 3] = gone_s, goes_w
                bench.whats[ways, 0], bench.whats[ways, 1] = row, column + kind * width
                ways += 1
    return ways


@natively
def _kept(n: int, ways: int, search: Search) -> int:
    """Go the ways of the lowest rank, one of each that come to the same; return how many rows that makes."""
    task, rows, bench = search
    until_s = task.stretches[n, 1]
    before_w, before_s = rows.powers_w[n], rows.unlocks_s[n]
    powers_w, unlocks_s = rows.powers_w[n + 1], rows.unlocks_s[n + 1]
    figures, heap, table, signatures = bench.figures, bench.heap, bench.table, bench.signatures
    beam, width = powers_w.shape
    table[:] = EMPTY
    likely = _likely(ways, beam, figures)
    waiting = _heaped(ways, -np.inf, likely, figures, heap)
    made = 0
    for _ in range(min(ways, 4 * beam)):
        if waiting == 0:
            waiting = _heaped(ways, likely, np.inf, figures, heap)
            if waiting == 0:
                break
        way, waiting = heap[0], waiting - 1
        heap[0] = heap[waiting]
        _settle(0, waiting, figures, heap)
        parent, own, at_s = bench.whats[way, 0], bench.whats[way, 1], figures[way, 2]
        over = own >= width
        total = 0.0
        for column in range(width):
            power_w, unlock_s = before_w[parent, column], before_s[parent, column]
            if own in (column, column + width):
                unlock_s = at_s + task.lock_s if figures[way, 3] != power_w else unlock_s
                power_w = figures[way, 3]
            elif over and bench.working[parent, column]:
                power_w, unlock_s = 0.0, at_s + task.lock_s
            powers_w[made, column], unlocks_s[made, column] = power_w, unlock_s
            value = power_w + 1e3 * max(unlock_s - until_s, 0.0)
            total += value * value
        signature = np.rint(total * 1e-4)
        place = int(signature) & (len(table) - 1)
        while table[place] != EMPTY and signatures[table[place]] != signature:
            place = (place + 1) & (len(table) - 1)
        if table[place] != EMPTY:
            continue
        table[place], signatures[made] = made, signature
        rows.costs_ws[n + 1, made], rows.parents[n, made], rows.ats_s[n, made] = figures[way, 1], parent, at_s
        made += 1
        if made == beam:
            break
    return made


@natively
def _heaped(ways: int, above: float, most: float, figures: Floats, heap: Ints) -> int:
    """Order ways of a range of ranks so that the first of the lowest is on top; return how many there are."""
    waiting = 0
    for way in range(ways):
        if above < figures[way, 0] <= most:
            heap[waiting] = way
            waiting += 1
    for top in range(waiting // 2 - 1, -1, -1):
        _settle(top, waiting, figures, heap)
    return waiting


@natively
def _likely(ways: int, beam: int, figures: Floats) -> float:
    """Return a rank that somewhat more ways than are kept are below, by a sample of them."""
    some = np.empty(SAMPLE)
    for n in range(SAMPLE):
        rank, place = figures[n * ways // SAMPLE, 0], n
        while place > 0 and some[place - 1] > rank:
            some[place] = some[place - 1]
            place -= 1
        some[place] = rank
    place = SAMPLE * beam * 3 // (2 * ways)
    return float(some[place]) if place < SAMPLE else np.inf


@natively
def _settle(top: int, count: int, figures: Floats, heap: Ints) -> None:
    """Let a way go down to its place."""
    way = heap[top]
    rank = figures[way, 0]
    while 2 * top + 1 < count:
        below = 2 * top + 1
        if below + 1 < count:
            one, other = figures[heap[below], 0], figures[heap[below + 1], 0]
            if other < one or (other == one and heap[below + 1] < heap[below]):
                below += 1
        under = figures[heap[below], 0]
        if rank < under or (rank == under and way < heap[below]):
            break
        heap[top] = heap[below]
        top = below
    heap[top] = way
