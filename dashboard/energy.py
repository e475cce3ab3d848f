"""What balancing has spared today, in energy and in money. Pure; time is an argument."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from schemas.messages import EnergyAccount

_WH_PER_KWH = 1000.0
_STEP_S = 60.0
_LONGEST_GAP_S = 48 * 3600.0

Local = Callable[[float], dt.datetime]
"""Unix seconds → the hall's local time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The equalizer's account at one moment."""

    unix_time_s: float
    avoided_wh: float
    exchanged_wh: float
    unbalanced_wh: float


@dataclass(frozen=True, slots=True)
class Day:
    """The account of one local day."""

    date: str
    avoided_wh: float = 0.0
    exchanged_wh: float = 0.0
    """Drawn from the grid and fed into it."""
    unbalanced_wh: float = 0.0
    """What would have been exchanged with the equalization channels at 0 W."""
    saved: float = 0.0
    """In the tariff's currency."""


class DayBook:
    """Sums up an account that was opened long ago, day by day.

    Args:
        price_at: minute of the local day → price of a kilowatt-hour.
        local: unix seconds → the hall's local time.
        last: the newest reading of an earlier run; None: none.
        day: the day that it belongs to; None: none.
    """

    def __init__(
        self, price_at: Callable[[int], float], local: Local, last: Reading | None = None, day: Day | None = None
    ) -> None:
        self._price_at = price_at
        self._local = local
        self.last = last
        self.day = day

    def take(self, unix_time_s: float, account: EnergyAccount) -> Day:
        """Take a reading, and return the day up to it. What flowed over midnight is shared out by time."""
        exchanged_wh = account.import_wh + account.export_wh
        reading = Reading(unix_time_s, account.avoided_wh, exchanged_wh, account.unbalanced_wh)
        last, self.last = self.last, reading
        today = self._local(unix_time_s).date().isoformat()
        day = self.day if self.day is not None and self.day.date == today else Day(today)
        if last is not None and 0.0 < unix_time_s - last.unix_time_s < _LONGEST_GAP_S:
            if reading.unbalanced_wh < last.unbalanced_wh:
                # The account was opened anew: all that it has came since.
                last = Reading(last.unix_time_s, 0.0, 0.0, 0.0)
            day = self._grown(day, last, reading)
        self.day = day
        return day

    def _grown(self, day: Day, last: Reading, reading: Reading) -> Day:
        span_s = reading.unix_time_s - last.unix_time_s
        of_today_s = 0.0
        worth = 0.0
        at_s = last.unix_time_s
        while at_s < reading.unix_time_s:
            step_s = min(_STEP_S, reading.unix_time_s - at_s)
            moment = self._local(at_s)
            if moment.date().isoformat() == day.date:
                of_today_s += step_s
                worth += step_s * self._price_at(moment.hour * 60 + moment.minute)
            at_s += step_s
        ratio = of_today_s / span_s
        avoided_wh = reading.avoided_wh - last.avoided_wh
        return Day(
            day.date,
            day.avoided_wh + ratio * avoided_wh,
            day.exchanged_wh + ratio * (reading.exchanged_wh - last.exchanged_wh),
            day.unbalanced_wh + ratio * (reading.unbalanced_wh - last.unbalanced_wh),
            day.saved + avoided_wh / _WH_PER_KWH * worth / span_s,
        )
