"""How a step's voltage and current move: slopes over a sliding window, smoothed against the noise of measuring."""

from dataclasses import dataclass
from math import log

FIRST_S = 2.0
"""The jump over the inner resistance at a step's start is no trend."""
SMOOTHING_S = 3.0
SHORTEST_WINDOW_S = 8.0
LONGEST_WINDOW_S = 30.0
"""A slope that is older tells nothing of the knee that a battery runs into."""
WINDOW_PART = 0.25
"""Of the step's age: what has moved slowly for long may be watched for longer."""
SMALLEST_CURRENT_A = 1e-6


@dataclass(frozen=True, slots=True)
class Trend:
    """The slopes of the last window, where the present window began, and the smoothed present."""

    seen_s: float | None = None
    """After the step's start: the newest sample; null: none yet that tells anything."""
    voltage_v: float = 0.0
    current_a: float = 0.0
    """Magnitude."""
    anchor_s: float = 0.0
    anchor_v: float = 0.0
    anchor_a: float = 0.0
    volts_per_s: float | None = None
    decay_per_s: float | None = None
    """Relative loss of the current's magnitude; negative while it grows."""


FRESH = Trend()


def watch(trend: Trend, age_s: float, voltage_v: float, current_a: float) -> Trend:
    """Return the trend after one more sample, `age_s` after the step's start."""
    magnitude_a = abs(current_a)
    if trend.seen_s is None:
        if age_s < FIRST_S:
            return trend
        return Trend(age_s, voltage_v, magnitude_a, age_s + SMOOTHING_S, voltage_v, magnitude_a)
    share = min(1.0, (age_s - trend.seen_s) / SMOOTHING_S)
    smooth_v = trend.voltage_v + share * (voltage_v - trend.voltage_v)
    smooth_a = trend.current_a + share * (magnitude_a - trend.current_a)
    window_s = age_s - trend.anchor_s
    if window_s <= 0.0:
        return Trend(age_s, smooth_v, smooth_a, trend.anchor_s, smooth_v, smooth_a)
    if window_s < min(max(SHORTEST_WINDOW_S, age_s * WINDOW_PART), LONGEST_WINDOW_S):
        anchor_s, anchor_v, anchor_a = trend.anchor_s, trend.anchor_v, trend.anchor_a
        return Trend(age_s, smooth_v, smooth_a, anchor_s, anchor_v, anchor_a, trend.volts_per_s, trend.decay_per_s)
    return Trend(
        age_s,
        smooth_v,
        smooth_a,
        anchor_s=age_s,
        anchor_v=smooth_v,
        anchor_a=smooth_a,
        volts_per_s=(smooth_v - trend.anchor_v) / window_s,
        decay_per_s=log(max(trend.anchor_a, SMALLEST_CURRENT_A) / max(smooth_a, SMALLEST_CURRENT_A)) / window_s,
    )
