"""The slow trim by a grid meter: what the meter shows beyond the channels' own sum (losses, other consumers).

It follows the difference of meter and channels, never the total itself, so an imbalance that the control waits on is
not integrated. Each reading is held against what the channels said when it came (less `meter.delay_s`, by which the
meter is known to be later), however long ago that is by now; and the median of the last differences counts, so a step
that the meter shows 2 s late is not followed either.
"""

from dataclasses import dataclass
from math import inf, isfinite
from statistics import median

from equalizer.control.image import LoopImage
from equalizer.control.settings import ControlSettings
from schemas.values import replace

CYCLE_S = 1.0
READINGS = 9
HISTORY_STEP_S = 0.25
NEAR_S = 1.5
"""What the channels said longer before (the loop was frozen since, say) is no measure of a reading."""
HISTORY_S = 2.5
"""A reading is looked at no later than the next regular cycle, at most a second after it came."""


@dataclass(frozen=True, slots=True)
class Trim:
    """What is added to the load. Positive: the hall draws more than the channels say."""

    power_w: float = 0.0
    readings_w: tuple[float, ...] = ()
    taken_s: float = -inf
    heard_s: float = -inf
    """When the newest reading came that was looked at."""
    totals: tuple[tuple[float, float], ...] = ()
    """Time and power of what the channels said together, the newest last."""


UNTRIMMED = Trim()


def advance(
    trim: Trim, image: LoopImage, settings: ControlSettings, now_s: float, *, losses_w: float = 0.0, held: bool
) -> Trim:
    """Return the trim after at most one cycle.

    Args:
        trim: as it was.
        image: with the meter's newest reading.
        settings: gain, delay, and when a reading is too old.
        now_s: the time.
        losses_w: what the channels are known to draw beyond what their batteries show.
        held: saturated, or channels are stale: the trim stands.
    """
    power_w, heard_s = image.meter_power_w, image.meter_heard_s
    if settings.meter_gain <= 0.0 or power_w is None or heard_s is None or not isfinite(power_w):
        return trim if not trim.readings_w and not trim.totals else Trim(trim.power_w)
    trim = _remembered(trim, image.total_power_w + losses_w, settings, now_s)
    if heard_s > trim.heard_s:
        trim = _paired(trim, power_w, heard_s, settings)
    if now_s - trim.taken_s < CYCLE_S:
        return trim
    if held or now_s - heard_s > settings.meter_stale_s:
        return replace(trim, readings_w=(), taken_s=now_s)
    if len(trim.readings_w) < READINGS:
        return replace(trim, taken_s=now_s)
    error_w = median(trim.readings_w) - trim.power_w
    return replace(trim, power_w=trim.power_w + settings.meter_gain * error_w, taken_s=now_s)


def _remembered(trim: Trim, total_w: float, settings: ControlSettings, now_s: float) -> Trim:
    """Note what the channels say now."""
    totals = trim.totals
    if totals and now_s - totals[-1][0] < HISTORY_STEP_S:
        return trim
    oldest_s = now_s - settings.meter_delay_s - HISTORY_S
    first = 0
    while first + 1 < len(totals) and totals[first + 1][0] < oldest_s:
        first += 1
    return replace(trim, totals=(*totals[first:], (now_s, total_w)))


def _paired(trim: Trim, power_w: float, heard_s: float, settings: ControlSettings) -> Trim:
    """Hold a reading against what the channels said at its time; one from before all that is known says nothing."""
    of_s = heard_s - settings.meter_delay_s
    near = (total_w for at_s, total_w in reversed(trim.totals) if of_s - NEAR_S <= at_s <= of_s + HISTORY_STEP_S)
    then_w = next(near, None)
    if then_w is None:
        return replace(trim, heard_s=heard_s)
    return replace(trim, heard_s=heard_s, readings_w=(*trim.readings_w, power_w - then_w)[-READINGS:])
