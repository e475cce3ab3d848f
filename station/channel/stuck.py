"""A sensor that is stuck: the readings stay the same to the last digit although other power is asked for.

Looked for where a channel follows power within the limits that the equipment itself has just named: there, readings
that do not move are no sign of a limit. A load's program may stand still at a limit that the equipment does not name
(its voltage, a slow contactor), to the last digit; a test that is cut on such a suspicion is lost. What a load's stuck
sensor hides from the loop's total is found by a grid meter.
"""

from station.drivers.protocol import ConstantPower, Demand, Sample

STUCK_S = 10.0
"""Equipment that is slow to follow moves at least in its last digit within this time."""
DEVIATION_RATIO = 0.05
"""Of the channel's rating: what is asked must differ by this much from what is read."""


def stuck_since_s(
    since_s: float | None, before: Sample | None, sample: Sample, demand: Demand, *, rating_w: float, now_s: float
) -> float | None:
    """Return since when a sensor seems stuck; None: it does not.

    Args:
        since_s: what this returned at the tick before.
        before: the sample of the tick before.
        sample: the answer to `demand`.
        demand: what was asked for.
        rating_w: the higher of the channel's configured limits.
        now_s: monotonic seconds.
    """
    if not isinstance(demand, ConstantPower) or before is None:
        return None
    if abs(demand.power_w - sample.power_w) <= DEVIATION_RATIO * rating_w:
        return None
    if (sample.voltage_v, sample.current_a, sample.power_w) != (before.voltage_v, before.current_a, before.power_w):
        return None
    return now_s if since_s is None else since_s
