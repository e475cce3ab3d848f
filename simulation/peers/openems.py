"""OpenEMS (github.com/OpenEMS/openems): balancing at the grid's connection.

Taken from `io.openems.edge.controller.ess.balancing` and `io.openems.edge.common.filter.PidFilter`: in every cycle of
1 s the storage is told what it does now less what the grid shows, within its limits; that goes through a PID filter, or
(where it is switched off) as it is. What the cluster of storages does is shared by their limits, as OpenEMS' own
distribution over symmetric storages comes out.
"""

from simulation.peers.law import Pool, Wanted, shared


class PidFilter:
    """A PID controller from what the storage does to what it shall do, with the gains that OpenEMS ships."""

    P, I, D = 0.3, 0.3, 0.1  # noqa: E741 - the gains' names
    ERROR_SUM_LIMITS = 10.0
    """The sum of errors stays within so many times the largest limit."""

    def __init__(self) -> None:
        self._sum_w = 0.0
        self._before_w: float | None = None

    def filtered_w(self, input_w: float, target_w: float, *, lowest_w: float, highest_w: float) -> float:
        """Return the next setpoint on the way from what is done to a target."""
        error_w = min(max(target_w, lowest_w), highest_w) - input_w
        if error_w == 0.0:
            return input_w
        before_w = input_w if self._before_w is None else self._before_w
        self._before_w = input_w
        output_w = self.P * error_w + self.I * self._sum_w - self.D * (input_w - before_w)
        bound_w = self.ERROR_SUM_LIMITS * max(abs(lowest_w), abs(highest_w))
        self._sum_w = min(max(self._sum_w + error_w, -bound_w), bound_w)
        return min(max(output_w, lowest_w), highest_w)


class OpenEms:
    """A correction every second.

    Args:
        pid: the filter; null: none.
    """

    def __init__(self, pid: PidFilter | None = None) -> None:
        self._pid = pid

    def wanted(self, pool: Pool, now_s: float) -> Wanted | None:
        """Return what the storage does less what the grid shows."""
        del now_s
        wanted_w = pool.equalization_w - pool.total_w
        if self._pid is not None:
            highest_w = pool.held_w + sum(unit.charge_limit_w for unit in pool.units)
            lowest_w = pool.held_w - sum(unit.discharge_limit_w for unit in pool.units)
            if highest_w <= lowest_w:
                return None
            wanted_w = self._pid.filtered_w(pool.equalization_w, wanted_w, lowest_w=lowest_w, highest_w=highest_w)
        return shared(wanted_w, pool)
