"""How a step's voltage and current move: two slopes over a window that grows with the step."""

from dataclasses import dataclass
from math import log

FIRST_S = 2.0
"""The jump over the inner resistance at a step's start is no trend."""
SHORTEST_WINDOW_S = 5.0
WINDOW_PART = 0.25
"""Of the step's age: old steps move slowly and can be watched longer, which averages the noise of measuring."""
SMALLEST_CURRENT_A = 1e-6


@dataclass(frozen=True, slots=True)
class Trend:
    """The slopes of the last window, and where the present window began."""

    anchor_s: float | None = None
    """After the step's start."""
    voltage_v: float = 0.0
    current_a: float = 0.0
    """Magnitude."""
    volts_per_s: float | None = None
    decay_per_s: float | None = None
    """Relative loss of the current's magnitude; negative while it grows."""


FRESH = Trend()


def watch(trend: Trend, age_s: float, voltage_v: float, current_a: float) -> Trend:
    """Return the trend after one more sample, `age_s` after the step's start."""
    if trend.anchor_s is None:
        return trend if age_s < FIRST_S else Trend(age_s, voltage_v, abs(current_a))
    window_s = age_s - trend.anchor_s
    if window_s < SHORTEST_WINDOW_S or window_s < age_s * WINDOW_PART:
        return trend
    before_a, after_a = max(trend.current_a, SMALLEST_CURRENT_A), max(abs(current_a), SMALLEST_CURRENT_A)
    return Trend(
        anchor_s=age_s,
        voltage_v=voltage_v,
        current_a=abs(current_a),
        volts_per_s=(voltage_v - trend.voltage_v) / window_s,
        decay_per_s=log(before_a / after_a) / window_s,
    )
