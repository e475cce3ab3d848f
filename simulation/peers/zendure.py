"""Zendure-HA (github.com/Zendure/Zendure-HA): smart matching of a household meter.

Taken from `custom_components/zendure_ha/manager.py` and `const.py`: the last 8 readings of the meter are kept; for
2.2 s after an action readings are kept only. A reading is fast where it is off their mean, or off the oldest, by more
than 3.5 times their standard deviation (or 15 W, if that is more): then it is acted upon at once, and the readings are
forgotten; else every 4 s. What is wanted is the reading, less what the devices charge, plus what they discharge. It is
split by rating and charge when discharging, by rating and free charge when charging; changes below 5 W are not sent.

Left out, all of it to its advantage here: the wait of 2 to 60 s before it turns to charging, the start of devices one
after the other, and the least power at which a device works.
"""

from collections import deque
from math import sqrt

from simulation.peers.law import Pool, Unit, Wanted

SAMPLES = 8
FAST_S = 2.2
SLOW_S = 4.0
DEVIATIONS = 3.5
LEAST_DEVIATION_W = 15.0
TOLERANCE_W = 5.0


class Zendure:
    """Waits by the scatter of the meter."""

    def __init__(self) -> None:
        self._readings_w: deque[float] = deque((25.0, -25.0), maxlen=SAMPLES)
        self._deaf_until_s = float("-inf")
        self._slow_until_s = float("-inf")

    def wanted(self, pool: Pool, now_s: float) -> Wanted | None:
        """Return the split where a reading is acted upon."""
        if now_s < self._deaf_until_s:
            self._readings_w.append(pool.total_w)
            return None
        fast = self._is_fast(pool.total_w)
        if fast:
            self._readings_w.clear()
        self._readings_w.append(pool.total_w)
        if not fast and now_s <= self._slow_until_s:
            return None
        self._deaf_until_s, self._slow_until_s = now_s + FAST_S, now_s + SLOW_S
        split = self._split(-pool.load_w - pool.held_w, pool.units)
        asked_w = {unit.key: unit.asked_w for unit in pool.units}
        return {key: power_w for key, power_w in split.items() if abs(power_w - asked_w[key]) >= TOLERANCE_W}

    def _is_fast(self, reading_w: float) -> bool:
        readings_w = self._readings_w
        if len(readings_w) < 2:  # noqa: PLR2004 - one reading has no scatter
            return False
        mean_w = sum(readings_w) / len(readings_w)
        scatter_w = sqrt(sum((one_w - mean_w) ** 2 for one_w in readings_w) / len(readings_w))
        limit_w = DEVIATIONS * max(LEAST_DEVIATION_W, scatter_w)
        return abs(reading_w - mean_w) > limit_w or abs(reading_w - readings_w[0]) > limit_w

    @staticmethod
    def _split(left_w: float, units: tuple[Unit, ...]) -> dict[tuple[str, str], float]:
        """Share a power by rating and charge; what one cannot take goes to those after it."""
        charging = left_w > 0.0

        def weight(unit: Unit) -> float:
            return unit.rating_w * (1.0 - unit.soc_ratio if charging else unit.soc_ratio)

        powers_w: dict[tuple[str, str], float] = {}
        ordered = sorted(units, key=lambda unit: (unit.soc_ratio if not charging else -unit.soc_ratio, unit.key))
        weights = sum(weight(unit) for unit in ordered)
        rooms_w = sum(unit.charge_limit_w if charging else unit.discharge_limit_w for unit in ordered)
        for unit in ordered:
            limit_w = unit.charge_limit_w if charging else unit.discharge_limit_w
            part_w = abs(left_w) * weight(unit) / weights if weights > 0.0 else 0.0
            # The others must be able to take the rest.
            rooms_w -= limit_w
            part_w = min(max(part_w, abs(left_w) - rooms_w), limit_w, abs(left_w))
            powers_w[unit.key] = part_w if charging else -part_w
            left_w -= powers_w[unit.key]
            weights -= weight(unit)
        return powers_w
