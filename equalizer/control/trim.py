"""The slow trim by a grid meter: what the meter shows beyond the channels' own sum (losses, other consumers).

It follows the difference of meter and channels, never the total itself, so an imbalance that the control waits on is
not integrated; and it takes the median of the last readings, so a step that the meter shows 2 s late is not either.
"""

from dataclasses import dataclass
from math import isfinite
from statistics import median

from equalizer.control.image import LoopImage
from equalizer.control.settings import ControlSettings

CYCLE_S = 1.0
READINGS = 9


@dataclass(frozen=True, slots=True)
class Trim:
    """What is added to the load. Positive: the hall draws more than the channels say."""

    power_w: float = 0.0
    readings_w: tuple[float, ...] = ()
    taken_s: float = float("-inf")


UNTRIMMED = Trim()


def advance(trim: Trim, image: LoopImage, settings: ControlSettings, now_s: float, *, held: bool) -> Trim:
    """Return the trim after at most one cycle; `held` (saturated, stale channels) lets it stand."""
    if now_s - trim.taken_s < CYCLE_S:
        return trim
    if (
        held
        or image.meter_power_w is None
        or image.meter_heard_s is None
        or not isfinite(image.meter_power_w)
        or settings.meter_gain <= 0.0
        or now_s - image.meter_heard_s > settings.meter_stale_s
    ):
        return Trim(trim.power_w, (), now_s)
    readings_w = (*trim.readings_w, image.meter_power_w - image.total_power_w)[-READINGS:]
    if len(readings_w) < READINGS:
        return Trim(trim.power_w, readings_w, now_s)
    error_w = median(readings_w) - trim.power_w
    return Trim(trim.power_w + settings.meter_gain * error_w, readings_w, now_s)
