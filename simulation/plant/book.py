"""The production's book with the loads in arrays: a second's telemetry of a thousand channels at once.

Every method of `LoopBook` works on a load as on any other channel, as its record reads and writes the arrays. Only two
things are done for all of them together, and to the same effect as one by one: hearing telemetry (`hear_all`, which
does what `hear` does for a message that is in order), and finding what has fallen silent. Powers are whole microwatts,
as in the book, so that sums do not depend on the order.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import floor, inf

import numpy as np
import numpy.typing as npt

from equalizer.control.announcements import CONTRADICTIONS, TOLERANCE_RATIO, TOLERANCE_UW
from equalizer.control.book import LoopBook
from equalizer.control.forecast import GRID_S, LAG_S, LEAD_S, MICRO, Plan
from equalizer.control.image import ChannelKey
from equalizer.control.records import ChannelRecord, StationRecord
from equalizer.control.settings import ControlSettings

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

EARLY_S = 0.05
"""A plan's window is drawn again a little before it changes: rounding must not make that late."""


class LoadArrays:
    """What is known of all loads, by their number."""

    def __init__(self, count: int) -> None:
        self.counted_uw: Ints = np.zeros(count, np.int64)
        self.power_uw: Ints = np.zeros(count, np.int64)
        self.unknown_uw: Ints = np.zeros(count, np.int64)
        self.remainder_uw: Ints = np.zeros(count, np.int64)
        self.highest_uw: Ints = np.zeros(count, np.int64)
        self.off_plan: Ints = np.zeros(count, np.int64)
        self.heard_s = np.full(count, -inf)
        self.known: Flags = np.zeros(count, np.bool_)
        self.fresh: Flags = np.zeros(count, np.bool_)
        self.stale: Flags = np.zeros(count, np.bool_)
        self.waiting: Flags = np.zeros(count, np.bool_)
        self.planned: Flags = np.zeros(count, np.bool_)
        self.plan_start_s = np.full(count, -inf)
        self.plan_highest_uw: Ints = np.zeros(count, np.int64)
        self.lowest_uw: Ints = np.zeros(count, np.int64)
        self.most_uw: Ints = np.zeros(count, np.int64)
        self.redraw_s = np.full(count, -inf)


class LoadRecord(ChannelRecord):
    """A load's record: a view of the arrays."""

    __slots__ = ("_arrays", "_number", "_plan", "_waiting_plan")

    def __init__(self, name: str, station: StationRecord, arrays: LoadArrays, number: int) -> None:
        self._arrays = arrays
        self._number = number
        super().__init__(name, station)

    @property
    def boot_id(self) -> str | None:
        """A load's station starts once."""
        return self.station.boot_id if self._arrays.known[self._number] else None

    @boot_id.setter
    def boot_id(self, boot_id: str | None) -> None:
        pass

    @property
    def known(self) -> bool:
        """Whether it has spoken."""
        return bool(self._arrays.known[self._number])

    @known.setter
    def known(self, known: bool) -> None:
        self._arrays.known[self._number] = known

    @property
    def heard_s(self) -> float:
        """When it spoke last."""
        return float(self._arrays.heard_s[self._number])

    @heard_s.setter
    def heard_s(self, heard_s: float) -> None:
        self._arrays.heard_s[self._number] = heard_s

    @property
    def power_uw(self) -> int:
        """What it said last."""
        return int(self._arrays.power_uw[self._number])

    @power_uw.setter
    def power_uw(self, power_uw: int) -> None:
        self._arrays.power_uw[self._number] = power_uw

    @property
    def counted_uw(self) -> int:
        """What the sums contain of it."""
        return int(self._arrays.counted_uw[self._number])

    @counted_uw.setter
    def counted_uw(self, counted_uw: int) -> None:
        self._arrays.counted_uw[self._number] = counted_uw

    @property
    def unknown_uw(self) -> int:
        """What of it is unknown."""
        return int(self._arrays.unknown_uw[self._number])

    @unknown_uw.setter
    def unknown_uw(self, unknown_uw: int) -> None:
        self._arrays.unknown_uw[self._number] = unknown_uw

    @property
    def remainder_uw(self) -> int:
        """What no plan says of it."""
        return int(self._arrays.remainder_uw[self._number])

    @remainder_uw.setter
    def remainder_uw(self, remainder_uw: int) -> None:
        self._arrays.remainder_uw[self._number] = remainder_uw

    @property
    def highest_uw(self) -> int:
        """The highest magnitude that is known of it."""
        return int(self._arrays.highest_uw[self._number])

    @highest_uw.setter
    def highest_uw(self, highest_uw: int) -> None:
        self._arrays.highest_uw[self._number] = highest_uw

    @property
    def off_plan(self) -> int:
        """Contradictions in a row."""
        return int(self._arrays.off_plan[self._number])

    @off_plan.setter
    def off_plan(self, off_plan: int) -> None:
        self._arrays.off_plan[self._number] = off_plan

    @property
    def fresh(self) -> bool:
        """Whether it spoke a moment ago."""
        return bool(self._arrays.fresh[self._number])

    @fresh.setter
    def fresh(self, fresh: bool) -> None:
        self._arrays.fresh[self._number] = fresh

    @property
    def stale(self) -> bool:
        """Whether it has fallen silent."""
        return bool(self._arrays.stale[self._number])

    @stale.setter
    def stale(self, stale: bool) -> None:
        self._arrays.stale[self._number] = stale

    @property
    def plan(self) -> Plan | None:
        """The plan that counts."""
        return self._plan

    @plan.setter
    def plan(self, plan: Plan | None) -> None:
        arrays, number = self._arrays, self._number
        self._plan = plan
        arrays.planned[number] = plan is not None
        if plan is not None:
            arrays.plan_start_s[number] = plan.start_s
            arrays.plan_highest_uw[number] = plan.highest_uw
            arrays.redraw_s[number] = -inf

    @property
    def waiting_plan(self) -> Plan | None:
        """A plan that waits for telemetry."""
        return self._waiting_plan

    @waiting_plan.setter
    def waiting_plan(self, plan: Plan | None) -> None:
        self._waiting_plan = plan
        self._arrays.waiting[self._number] = plan is not None


class BulkBook(LoopBook):
    """A book whose loads are known from the beginning.

    Args:
        settings: of the control.
        loads: their keys; a load's number is its place.
        now_s: the beginning.
    """

    def __init__(self, settings: ControlSettings, loads: Sequence[ChannelKey], now_s: float) -> None:
        super().__init__(settings)
        self._arrays = LoadArrays(len(loads))
        self._records = []
        for number, key in enumerate(loads):
            owner = self._station(key[0], now_s)
            record = LoadRecord(key[1], owner, self._arrays, number)
            owner.channels[key[1]] = record
            self._records.append(record)
        self._started_s = None  # nobody has spoken yet

    def hear_all(self, numbers: Ints, power_uw: Ints, now_s: float) -> None:
        """Take one telemetry message of each of some loads."""
        arrays, tally = self._arrays, self._tally
        if not self._round_complete:
            for record in (self._records[number] for number in numbers.tolist()):
                record.station.awaited.discard(record.name)
        silent = numbers[~arrays.fresh[numbers]]
        if len(silent) > 0:
            tally.known += int(np.count_nonzero(~arrays.known[silent]))
            tally.stale -= int(np.count_nonzero(arrays.stale[silent]))
            tally.unknown_uw -= int(arrays.unknown_uw[silent].sum())
            arrays.known[silent] = arrays.fresh[silent] = True
            arrays.stale[silent], arrays.unknown_uw[silent] = False, 0
        arrays.heard_s[numbers] = now_s
        before_uw = arrays.counted_uw[numbers]
        tally.load_uw += int(power_uw.sum() - before_uw.sum())
        tally.charging_uw += int(np.maximum(power_uw, 0).sum() - np.maximum(before_uw, 0).sum())
        arrays.power_uw[numbers] = arrays.counted_uw[numbers] = power_uw
        planned, waiting = arrays.planned[numbers], arrays.waiting[numbers]
        if not (planned.any() or waiting.any()):
            self._set_remainders(numbers, power_uw)
            return
        self._set_remainders(numbers[~planned], power_uw[~planned])
        compared = planned & ~waiting & (now_s - arrays.plan_start_s[numbers] >= LAG_S)
        self._compare(numbers[compared], power_uw[compared], now_s)
        for place in np.flatnonzero(waiting).tolist():
            record = self._records[numbers[place]]
            plan, record.waiting_plan = record.waiting_plan, None
            if plan is not None:
                self._announcements.take_waiting(record, plan, int(before_uw[place]), now_s)

    def _fresh(self) -> int:
        return super()._fresh() + int(np.count_nonzero(self._arrays.fresh))

    def _age(self, now_s: float) -> None:
        super()._age(now_s)
        arrays = self._arrays
        silent = arrays.fresh & (now_s - arrays.heard_s > self._settings.stale_s)
        if silent.any():
            for number in np.flatnonzero(silent).tolist():
                self._silence(self._records[number], None)

    def _set_remainders(self, numbers: Ints, remainder_uw: Ints) -> None:
        self._tally.remainder_uw += int((remainder_uw - self._arrays.remainder_uw[numbers]).sum())
        self._arrays.remainder_uw[numbers] = remainder_uw

    def _compare(self, numbers: Ints, power_uw: Ints, now_s: float) -> None:
        """Hold measurements against plans, as `Announcements.compare` does."""
        arrays = self._arrays
        for number in numbers[arrays.redraw_s[numbers] <= now_s].tolist():
            self._draw_window(number, now_s)
        highest_uw = np.maximum(
            np.maximum(arrays.highest_uw[numbers], np.abs(power_uw)), arrays.plan_highest_uw[numbers]
        )
        arrays.highest_uw[numbers] = highest_uw
        tolerance_uw = np.maximum(TOLERANCE_UW, np.rint(TOLERANCE_RATIO * highest_uw).astype(np.int64))
        lowest_uw, most_uw = arrays.lowest_uw[numbers], arrays.most_uw[numbers]
        agrees = (lowest_uw - tolerance_uw <= power_uw) & (power_uw <= most_uw + tolerance_uw)
        flat = agrees & (lowest_uw == most_uw)
        self._set_remainders(numbers[flat], power_uw[flat] - lowest_uw[flat])
        arrays.off_plan[numbers] = np.where(agrees, 0, arrays.off_plan[numbers] + 1)
        for number in numbers[arrays.off_plan[numbers] >= CONTRADICTIONS].tolist():
            self.ignored["plan_contradicted"] += 1
            self._announcements.drop(self._records[number])

    def _draw_window(self, number: int, now_s: float) -> None:
        """Note what a plan lets telemetry show, and up to when that stands."""
        arrays, plan = self._arrays, self._records[number].plan
        window_uw = None if plan is None else plan.range_uw(now_s)
        if plan is None or window_uw is None:
            return
        arrays.lowest_uw[number], arrays.most_uw[number] = window_uw
        arrays.redraw_s[number] = min(_next_s(plan, now_s, -LEAD_S), _next_s(plan, now_s, LAG_S)) - EARLY_S


def _next_s(plan: Plan, now_s: float, shift_s: float) -> float:
    """Return the first of a plan's edges, all of them shifted in time, that is still to come."""
    if plan.edges[-1] * GRID_S + shift_s <= now_s:
        return inf
    for edge in plan.edges[bisect_right(plan.edges, floor((now_s - shift_s) / GRID_S) - 1) :]:
        if edge * GRID_S + shift_s > now_s:
            return edge * GRID_S + shift_s
    return inf


def microwatts(power_w: npt.NDArray[np.float64]) -> Ints:
    """Return whole microwatts, rounded as the book does."""
    return np.rint(power_w * MICRO).astype(np.int64)
