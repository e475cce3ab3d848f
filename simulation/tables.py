"""What a run leaves as tables: the trace, and every change with what the controller knew."""

import numpy as np
import polars as pl

from simulation.clock import BEGIN_S
from simulation.run import Result


def trace(results: tuple[Result, ...]) -> pl.DataFrame:
    """Return all variants' traces, one row for each tick and variant; powers in W."""
    return pl.concat([_trace(result) for result in results], how="diagonal")


def _trace(result: Result) -> pl.DataFrame:
    run = result.trace
    load_w, equalization_w = np.asarray(run.load_w), np.asarray(run.equalization_w)
    columns: dict[str, object] = {
        "variant": [result.variant.name] * len(load_w),
        "time_s": np.asarray(run.time_s),
        "load_w": load_w,
        "equalization_w": equalization_w,
        "total_w": load_w + equalization_w,
        "seen_load_w": np.asarray(run.seen_load_w),
        "announced_w": np.asarray(run.announced_w),
        "reason": run.reason,
        "phase": run.phase,
    }
    for name, setpoint_w in run.setpoint_w.items():
        columns[f"{name} setpoint_w"] = np.asarray(setpoint_w)
        columns[f"{name} power_w"] = np.asarray(run.power_w[name])
        columns[f"{name} soc_ratio"] = np.asarray(run.soc_ratio[name])
    frame = pl.DataFrame(columns)
    return frame.with_columns(pl.col("variant", "reason", "phase").cast(pl.Categorical))


def orders(results: tuple[Result, ...]) -> pl.DataFrame:
    """Return every change that was ordered, with what the controller knew: limits, load, and the next edges."""
    rows = [
        {
            "variant": result.variant.name,
            "time_s": round(order.at_s - BEGIN_S, 2),
            "channel": f"{order.station}/{order.channel}",
            "reason": order.reason,
            "steps": "; ".join(f"+{after_s:.1f} s {power_w:.0f} W" for after_s, power_w in order.steps),
            "load_w": round(order.load_power_w),
            "total_w": round(order.total_power_w),
            "announced_w": round(order.announced_power_w),
            "edges": "; ".join(f"+{after_s:.1f} s {delta_w:+.0f} W" for after_s, delta_w in order.edges),
        }
        for result in results
        for order in result.orders
        if order.kind == "change"
    ]
    return pl.DataFrame(rows)
