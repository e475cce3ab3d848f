"""OpenDTU-OnBattery (github.com/hoylabs/OpenDTU-OnBattery): the dynamic power limiter.

Taken from `src/PowerLimiter.cpp`: it acts only when no command is pending and the meter's reading is more than 2 s
newer than the first status that an inverter sent after its last command; what all inverters shall do is what they do
plus what the meter shows; a difference below the hysteresis is left alone; the inverter with the most headroom is
filled first, and none is changed for less than the hysteresis. Its back-off of at most 1 s while nothing changes is our
cycle.

Left out: thresholds of the battery, solar power, standby of inverters. It only discharges; charging is its mirror image
here. Its hysteresis is a setting of the user: the hall's `engage_w`.
"""

from simulation.peers.law import Pool, Wanted

METER_AFTER_STATUS_S = 2.0


class OpenDtu:
    """One round of commands after the other, each judged by a meter that has seen the one before.

    Args:
        hysteresis_w: what is left alone.
    """

    def __init__(self, hysteresis_w: float) -> None:
        self._hysteresis_w = hysteresis_w

    def wanted(self, pool: Pool, now_s: float) -> Wanted | None:
        """Return the next round of commands."""
        del now_s
        for unit in (*pool.units, *pool.held):
            if unit.obeyed_s is None or pool.measured_s <= unit.obeyed_s + METER_AFTER_STATUS_S:
                return None
        if abs(pool.total_w) < self._hysteresis_w:
            return None
        sign = 1.0 if pool.total_w < 0.0 else -1.0
        left_w = abs(pool.total_w)
        wanted: dict[tuple[str, str], float] = {}
        rooms = [
            (sign * (unit.charge_limit_w if sign > 0.0 else -unit.discharge_limit_w) - sign * unit.power_w, unit)
            for unit in pool.units
        ]
        for room_w, unit in sorted(rooms, key=lambda room: (-room[0], room[1].key)):
            if left_w < self._hysteresis_w or room_w < self._hysteresis_w:
                continue
            taken_w = min(left_w, room_w)
            wanted[unit.key] = unit.power_w + sign * taken_w
            left_w -= taken_w
        return wanted
