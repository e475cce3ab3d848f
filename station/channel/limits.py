"""What the channel may do now, and how fast it may get there. Limits are non-negative, power is signed."""

from dataclasses import dataclass

from station.drivers.protocol import Sample

LONGEST_RAMP_STEP_S = 0.5
"""A process that was held up does not make its lost time good in one jump of power."""
RESIDUE_W = 1e-6
"""What rounding leaves of a ramp is no step of its own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a channel can do at a moment."""

    charge_limit_w: float
    discharge_limit_w: float


NOTHING = Limits(0.0, 0.0)


def derate(charge_limit_w: float, discharge_limit_w: float, sample: Sample | None) -> Limits:
    """Return the configured limits, cut to what the equipment and the battery can do now; nothing without a battery."""
    if sample is None or not sample.battery_connected:
        return NOTHING
    return Limits(
        max(0.0, min(charge_limit_w, sample.charge_limit_w)),
        max(0.0, min(discharge_limit_w, sample.discharge_limit_w)),
    )


def clamp(power_w: float, limits: Limits) -> float:
    """Return the power nearest to `power_w` within the limits."""
    return min(max(power_w, -limits.discharge_limit_w), limits.charge_limit_w)


def ramp(power_w: float, target_w: float, ramp_w_per_s: float, elapsed_s: float) -> float:
    """Return the power after `elapsed_s` on the way to a target."""
    step_w = ramp_w_per_s * min(max(elapsed_s, 0.0), LONGEST_RAMP_STEP_S)
    if abs(target_w - power_w) <= step_w + RESIDUE_W:
        return target_w
    return min(max(target_w, power_w - step_w), power_w + step_w)


def approach(power_w: float, target_w: float, limits: Limits, ramp_w_per_s: float, elapsed_s: float) -> float:
    """Return the power after `elapsed_s` on the way to a target, within the limits now.

    The limits win over the ramp: where they have fallen below the power, it is cut at once, always towards 0 W.
    """
    return clamp(ramp(power_w, clamp(target_w, limits), ramp_w_per_s, elapsed_s), limits)
