"""How well a controller did. Powers in W, from what really flowed."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simulation.bound import least_by_windows_w, least_residual_w, ramp_credit_w
from simulation.clock import TICK_S
from simulation.run import Result
from simulation.witness import SAME_W, LevelChange, Witness, hasty

Floats = npt.NDArray[np.float64]

SECONDS_PER_HOUR = 3600.0
WORST_S = 30.0
MOST_WORST = 8


@dataclass(frozen=True, slots=True)
class Violations:
    """What no run may show."""

    hasty_applied: int
    """Changes that came into force at a station less than `delay_s` after the one before."""
    shortest_applied_s: float | None
    """The shortest time between two changes that came into force on one channel; null: there were no two."""
    hasty_ordered: int
    """The same, by when they were sent: without what the network made of it."""
    outside_limits: int
    """Orders beyond what the channel had said that it could do."""
    opposite_signs_s: float
    """For how long two channels were told opposite signs."""


@dataclass(frozen=True, slots=True)
class Worst:
    """A stretch with much left over."""

    at_s: float
    mean_total_w: float
    mean_load_w: float
    reasons: dict[str, float]
    """What the controller said meanwhile; shares of the time."""


@dataclass(frozen=True, slots=True)
class Score:
    """One variant's figures."""

    variant: str
    mean_load_w: float
    """Mean |load|: what would have been left without balancing."""
    mean_total_w: float
    """Mean |total|."""
    residual_ratio: float
    p95_total_w: float
    changes: int
    changes_per_channel_hour: float
    refreshes: int
    import_wh: float
    export_wh: float
    unbalanced_wh: float
    avoided_wh: float
    cost: float
    cost_unbalanced: float
    violations: Violations
    residual_by_reason_wh: dict[str, float]
    """|total| over time, by what the controller said that it did."""
    residual_by_cause_wh: dict[str, float]
    """What was left over, split by what caused it, as the equalizer saw it; empty for other controllers."""
    changes_by_reason: dict[str, int]
    bound_w: float
    """The least mean |total| under the same change budget (`simulation.bound`)."""
    window_bound_w: float
    """The same by the budget of whole windows alone, the simplest of the bounds, and the lowest."""
    regret_ratio: float
    """Mean |total| by the bound."""
    ramp_credit_w: float
    """What ramps may have gained on the bound, which knows steps only."""
    blind_w: float
    """Mean |load as believed - load|: what messages on their way cost at the least."""
    worst: tuple[Worst, ...]

    def table(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def score(result: Result, tariff_per_kwh: float, *, closely: bool = False) -> Score:
    """Return a result's figures.

    Args:
        result: of one variant.
        tariff_per_kwh: what every kWh across the grid's connection costs, in either direction.
        closely: whether to spend a second of computing per two minutes of the run on a closer bound.
    """
    trace = result.trace
    load_w, total_w = np.asarray(trace.load_w), np.asarray(trace.load_w) + np.asarray(trace.equalization_w)
    hours = trace.step_s / SECONDS_PER_HOUR
    exchanged_wh = float(np.abs(total_w).sum()) * hours
    unbalanced_wh = float(np.abs(load_w).sum()) * hours
    changes = [change for witness in result.witnesses.values() for change in witness.changes]
    hours_run = len(total_w) * hours
    mean_load_w, mean_total_w = float(np.abs(load_w).mean()), float(np.abs(total_w).mean())
    reasons = np.asarray(trace.reason)
    delay_s = result.settings.control.delay_s
    # The bound counts in ticks; of a coarser trace, a row is one.
    ticks_s = delay_s * TICK_S / trace.step_s
    bounds = _bounds(load_w.tobytes(), len(result.witnesses), ticks_s, result.limit_w, closely=closely)
    return Score(
        variant=result.variant.name,
        mean_load_w=mean_load_w,
        mean_total_w=mean_total_w,
        residual_ratio=mean_total_w / mean_load_w if mean_load_w > 0.0 else 0.0,
        p95_total_w=float(np.percentile(np.abs(total_w), 95)),
        changes=len(changes),
        changes_per_channel_hour=len(changes) / max(1, len(result.witnesses)) / hours_run,
        refreshes=sum(order.kind == "refresh" for order in result.orders),
        import_wh=float(np.clip(total_w, 0.0, None).sum()) * hours,
        export_wh=float(np.clip(-total_w, 0.0, None).sum()) * hours,
        unbalanced_wh=unbalanced_wh,
        avoided_wh=unbalanced_wh - exchanged_wh,
        cost=exchanged_wh / 1000.0 * tariff_per_kwh,
        cost_unbalanced=unbalanced_wh / 1000.0 * tariff_per_kwh,
        violations=_violations(result),
        residual_by_reason_wh={
            str(reason): float(np.abs(total_w[reasons == reason]).sum()) * hours for reason in np.unique(reasons)
        },
        residual_by_cause_wh=result.split_wh,
        changes_by_reason=_by_reason(changes),
        bound_w=bounds.least_w,
        window_bound_w=bounds.by_windows_w,
        regret_ratio=mean_total_w / bounds.least_w if bounds.least_w > 0.0 else 0.0,
        ramp_credit_w=ramp_credit_w(
            (change.to_w - change.from_w for change in changes), result.ramp_w_per_s, len(total_w) * trace.step_s
        ),
        blind_w=float(np.abs(np.asarray(trace.seen_load_w) - load_w).mean()),
        worst=_worst(load_w, total_w, reasons, trace.step_s),
    )


class _Bounds(NamedTuple):
    least_w: float
    by_windows_w: float


@lru_cache(maxsize=8)
def _bounds(load_w: bytes, channels: int, delay_s: float, limit_w: float, *, closely: bool) -> _Bounds:
    """Return the bounds; variants of one hall share them."""
    powers_w = np.frombuffer(load_w)
    least_w = least_residual_w(powers_w, channels=channels, delay_s=delay_s, limit_w=limit_w, closely=closely)
    return _Bounds(least_w, least_by_windows_w(powers_w, channels=channels, delay_s=delay_s, limit_w=limit_w))


def _violations(result: Result) -> Violations:
    delay_s = result.settings.control.delay_s
    ordered: dict[tuple[str, str], Witness] = {}
    outside = 0
    for order in result.orders:
        ordered.setdefault((order.station, order.channel), Witness()).take(order.steps, order.reason, order.at_s)
        outside += any(
            not -order.discharge_limit_w - SAME_W <= power_w <= order.charge_limit_w + SAME_W
            for _, power_w in order.steps
        )
    gaps_s = [
        later.at_s - earlier.at_s
        for witness in result.witnesses.values()
        for earlier, later in zip(witness.changes, witness.changes[1:], strict=False)
    ]
    levels_w = np.array([np.asarray(column) for column in result.trace.setpoint_w.values()])
    opposite = np.zeros(1) if levels_w.size == 0 else (levels_w.max(0) > SAME_W) & (levels_w.min(0) < -SAME_W)
    return Violations(
        hasty_applied=len(hasty(result.witnesses.values(), delay_s)),
        shortest_applied_s=min(gaps_s, default=None),
        hasty_ordered=len(hasty(ordered.values(), delay_s)),
        outside_limits=outside,
        opposite_signs_s=float(opposite.sum()) * result.trace.step_s,
    )


def _by_reason(changes: list[LevelChange]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.reason] = counts.get(change.reason, 0) + 1
    return counts


def _worst(load_w: Floats, total_w: Floats, reasons: "npt.NDArray[np.str_]", step_s: float) -> tuple[Worst, ...]:
    """Return the stretches with the most left over, the worst first."""
    length = round(WORST_S / step_s)
    count = len(total_w) // length
    means_w = np.abs(total_w[: count * length]).reshape(count, length).mean(1)
    found = []
    for number in np.argsort(-means_w)[:MOST_WORST]:
        part = slice(number * length, (number + 1) * length)
        names, counts = np.unique(reasons[part], return_counts=True)
        found.append(
            Worst(
                at_s=float(number * WORST_S),
                mean_total_w=float(means_w[number]),
                mean_load_w=float(load_w[part].mean()),
                reasons={str(name): round(float(n) / length, 3) for name, n in zip(names, counts, strict=True)},
            )
        )
    return tuple(found)
