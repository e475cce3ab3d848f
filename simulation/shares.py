"""The least that can be left, told by the shares that channels carry. Compiled: needs the extra `simulation`.

`simulation.bound` has the rules. Here, no power may be taken back that cannot be: time is cut into halves of
`delay_s`, and a channel that is changed in one half keeps its power in the whole of the next. So in each half every
channel is one of three, whose powers are summed up:

- *kept*: it is not changed in this half, be it that it may not, having been changed in the half before, or that it is
  left as it is;
- *old*: it is going to be changed in this half, and still carries what it did;
- *new*: it has been changed in this half.

All three have one sign, that of their sum, because channels never oppose each other. A change takes any part of what
is old away and adds anything to what is new; the sum takes the other sign only where nothing is kept or new, and
nothing old stays. When a half ends, what was kept becomes free, and what is new is kept, with any part of what is free;
the rest of that is old. How the single channels of a group share its power is not asked, nor are their limits: that
only adds freedom.

Why whole cells of g W are enough, although channels may do anything between:

- **Runs.** What is asked is replaced by runs of constant power, each within one half. Whatever is done, that changes
  the cost by no more than the difference of the two, which is taken off at the end. A change in the middle of a run
  may as well be at its begin or at its end: the cost is linear in between.
- **Rounding.** Take the best schedule, with its moments and signs as they are. Its powers p are bound by p >= 0 (or
  <= 0), and its sums lie between the multiples of g below and above each. Every power stands for consecutive runs, so
  the rows of sums are an interval matrix, which with the bounds is totally unimodular: all corners of what these rows
  admit are multiples of g (A. J. Hoffman and J. B. Kruskal, 1956). The schedule is a mean of such corners, whose sums
  lie in the same cells as its own. Where what is asked is not in that cell, the cost is linear in it, and the corners'
  mean cost is the schedule's; where it is, they are not charged. So one corner costs no more than the schedule does.
- **Parts.** A run is cut into parts, each with cells of its own, and each but the first begins as is best for it.
"""

from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulation.compiled import natively

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

CELLS = 128
"""Of the powers that are asked for in a part, with 0 W among them."""
HALVES = 20
"""In each part. A part begins with whatever is best for it, which costs little, and has cells of its own."""
RUN_CELLS = 0.4
"""A run ends before it differs from what is asked by more than this, in cells and ticks."""
SINGLE_RATIO = 1e-4
"""Taken off for counting in single precision: a hundred times what rounding can add."""
NEVER = np.float32(1e12)


class Runs(NamedTuple):
    """What is asked, simplified."""

    powers_w: Floats
    ticks: Indices
    ends: npt.NDArray[np.bool_]
    """Whether a half ends with the run."""
    missed_w: float
    """The sum of the differences, in W and ticks."""


def least_w(asked_w: Floats, *, channels: int, half: int) -> float:
    """Return the least mean that `channels` leave which begin at 0 W.

    Args:
        asked_w: what all of them together would best do, a value for each tick.
        channels: how many there are.
        half: the ticks of half the time in which each changes at most once.
    """
    length = HALVES * half
    parts = [asked_w[begin : begin + length] for begin in range(0, len(asked_w), length)]
    least_ws = sum(_least_ws(part, channels, half, at_rest=number == 0) for number, part in enumerate(parts))
    return least_ws / len(asked_w)


def _least_ws(asked_w: Floats, channels: int, half: int, *, at_rest: bool) -> float:
    """Return the least sum for a part, in W and ticks; unless it begins at rest, it begins with whatever is best."""
    cell_w = max(float(np.ptp(np.append(asked_w, 0.0))), 1.0) / CELLS
    runs = Runs(*_runs(asked_w, half, RUN_CELLS * cell_w))
    sizes = np.array([ceil(max(float(side_w.max()), 0.0) / cell_w) + 1 for side_w in (asked_w, -asked_w)])
    size = int(sizes.max())
    costs, index = _begin(channels, size)
    for ahead in range(channels + 1):
        start = costs[index[0, ahead]]
        start[(slice(None), 0, 0, 0) if at_rest else slice(None)] = 0.0
    levels = np.arange(size)
    room = np.empty((size, size), np.float32)
    least = 0.0
    for power_w, ticks, ends in zip((runs.powers_w / cell_w).tolist(), runs.ticks.tolist(), runs.ends, strict=True):
        left = np.stack([np.abs(levels - power_w), np.abs(levels + power_w)])
        left[left < 1.0] = 0.0
        _pass(costs, index, sizes, (ticks * left).astype(np.float32), room)
        if ends:
            _change(costs, index, sizes, room)
            low = np.float32(min(float(array.min()) for array in costs))
            least += float(low)
            costs = _roll(costs, index, channels, sizes, low)
    least += min(float(array.min()) for array in costs)
    return max(least * cell_w * (1.0 - SINGLE_RATIO) - runs.missed_w, 0.0)


def _begin(channels: int, size: int) -> tuple[tuple[Singles, ...], Indices]:
    """Return the costs by what is old, new and kept, and which of these arrays has how many changes made and ahead.

    Each is by side of 0 W (above, below), old, new, kept, in cells; what is kept comes last, because most is done for
    all of it alike. Where no change was made, nothing is new; where none is ahead, nothing old matters; and where all
    channels change, nothing is kept.
    """
    index = np.full((channels + 1, channels + 1), -1)
    costs: list[Singles] = []
    for made in range(channels + 1):
        for ahead in range(channels + 1 - made):
            index[made, ahead] = len(costs)
            shape = (2, size if ahead else 1, size if made else 1, size if made + ahead < channels else 1)
            costs.append(np.full(shape, NEVER))
    return tuple(costs), index


def _roll(
    costs: tuple[Singles, ...], index: Indices, channels: int, sizes: Indices, low: np.float32
) -> tuple[Singles, ...]:
    """Return the costs, less the lowest, as a new half begins."""
    fresh = tuple(np.full_like(array, NEVER) for array in costs)
    for made in range(channels + 1):
        size = fresh[0].shape[3]
        over = np.full((2, size if made else 1, size), NEVER)
        for ahead in range(channels + 1 - made):
            array = costs[index[made, ahead]]
            part = over[:, :, : array.shape[3]]
            np.minimum(part, array[:, 0], out=part)
        free = channels - made
        _share(over - low, fresh[index[0, free]], fresh[index[0, max(free - 1, 0)]], free, sizes)
    return fresh


@natively
def _share(over: Singles, all_change: Singles, some_stay: Singles, free: int, sizes: Indices) -> None:
    """Begin a half in which what was new is kept, with any part of what had been kept; `free` channels may change."""
    for side in range(2):
        for kept in range(sizes[side] if free > 0 else 1):
            for new in range(min(sizes[side] - kept, over.shape[1])):
                cost = over[side, new, kept]
                all_change[side, kept, 0, new] = min(all_change[side, kept, 0, new], cost)
                if free > 0:
                    # Where none is ahead any more, all that had been kept stays.
                    for stays in range(1 if some_stay.shape[1] > 1 else max(kept, 1), kept + 1):
                        place = some_stay[side, kept - stays, 0]
                        place[new + stays] = min(place[new + stays], cost)


@natively
def _pass(costs: tuple[Singles, ...], index: Indices, sizes: Indices, left: Singles, room: Singles) -> None:
    """Have a run pass, with any changes at its begin; `left`: what it costs, by side and sum."""
    channels = len(index) - 1
    for made in range(channels + 1):
        for ahead in range(channels + 1 - made):
            array = costs[index[made, ahead]]
            _rest(array)
            if ahead > 0:
                _move(array, costs[index[made + 1, ahead - 1]], sizes, room)
            for side in range(2):
                for old in range(min(array.shape[1], sizes[side])):
                    for new in range(min(array.shape[2], sizes[side] - old)):
                        row, cost = array[side, old, new], left[side, old + new :]
                        for kept in range(min(len(row), sizes[side] - old - new)):
                            row[kept] += cost[kept]


@natively
def _change(costs: tuple[Singles, ...], index: Indices, sizes: Indices, room: Singles) -> None:
    """Have any changes made."""
    channels = len(index) - 1
    for made in range(channels):
        for ahead in range(1, channels + 1 - made):
            _rest(costs[index[made, ahead]])
            _move(costs[index[made, ahead]], costs[index[made + 1, ahead - 1]], sizes, room)


@natively
def _rest(array: Singles) -> None:
    """Where all are at 0 W, both sides are one."""
    least = min(array[0, 0, 0, 0], array[1, 0, 0, 0])
    array[0, 0, 0, 0] = least
    array[1, 0, 0, 0] = least


@natively
def _move(array: Singles, after: Singles, sizes: Indices, room: Singles) -> None:
    """Have one change made: what is old becomes less, what is new more; or the sum takes the other sign."""
    for side in range(2):
        across = array[side, : sizes[side], 0, 0].min()
        others = after[1 - side, 0]
        for new in range(sizes[1 - side]):
            others[new, 0] = min(others[new, 0], across)
        # By new and kept: the least of all that have as much old, or more, and as much new, or less.
        size, width = sizes[side], array.shape[3]
        room[:size, :width] = NEVER
        for old in range(size - 1, -1, -1):
            for new in range(min(array.shape[2], size - old)):
                _lower(room[new], array[side, old, new], min(width, size - old - new))
            if old < after.shape[1]:
                for new in range(size - old):
                    count = min(width, size - old - new)
                    _lower(room[new], room[max(new - 1, 0)], count)
                    _lower(after[side, old, new], room[new], count)


@natively
def _lower(row: Singles, other: Singles, count: int) -> None:
    """Lower the first values to those of another row."""
    for place in range(count):
        row[place] = min(row[place], other[place])


@natively
def _runs(asked_w: Floats, half: int, most_w: float) -> tuple[Floats, Indices, npt.NDArray[np.bool_], float]:
    """Cut what is asked into runs, each its median."""
    count, missed_w, begin = 0, 0.0, 0
    powers_w = np.empty(len(asked_w))
    ticks = np.empty(len(asked_w), np.int64)
    ends = np.empty(len(asked_w), np.bool_)
    ordered_w = np.empty(half)
    while begin < len(asked_w):
        limit = min(len(asked_w), (begin // half + 1) * half)
        length, median_w, differs_w = 0, 0.0, 0.0
        while begin + length < limit:
            # Sorted in; then the differences from the median, which are those of the outer half less the inner.
            place = length
            while place > 0 and ordered_w[place - 1] > asked_w[begin + length]:
                ordered_w[place] = ordered_w[place - 1]
                place -= 1
            ordered_w[place] = asked_w[begin + length]
            middle_w, sum_w = ordered_w[(length + 1) // 2], 0.0
            for value_w in ordered_w[: length + 1]:
                sum_w += abs(value_w - middle_w)
            if length > 0 and sum_w > most_w:
                break
            length, median_w, differs_w = length + 1, middle_w, sum_w
        powers_w[count], ticks[count], ends[count] = median_w, length, (begin + length) % half == 0
        missed_w += differs_w
        begin += length
        count += 1
    return powers_w[:count], ticks[:count], ends[:count], missed_w
