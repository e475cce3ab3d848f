"""Draws the pictures of docs/control.md from a run of the mixed hall, and writes the table there anew.

Usage: zeroloop simulate simulation/scenarios/mixed.toml --out simulated
       python docs/pictures/control.py simulated
"""

import json
import re
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import polars as pl

mpl.use("svg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
PAGE = HERE.parent / "control.md"
KILO = 1000.0
OURS, LOAD, OTHER, GATED = "#0b6e99", "#9aa5b1", "#d9822b", "#e3b98a"
SHOWN = ("confirm, plans", "OpenEMS, no filter", "Zendure-HA, gated", "literal delay")
AROUND_S = 20.0
WINDOW_S = 180.0
THINNED = 3
"""Of so many rows of a tick, one is drawn."""
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "svg.hashsalt": "zeroloop",
    "svg.fonttype": "none",
}

Floats = npt.NDArray[np.float64]


def column(trace: pl.DataFrame, variant: str, name: str) -> Floats:
    """Return a column of one variant."""
    return trace.filter(pl.col("variant").cast(pl.String) == variant)[name].to_numpy()


def residual(trace: pl.DataFrame) -> None:
    """Draw what the grid sees under some controllers, each on the same load."""
    time_s = column(trace, SHOWN[0], "time_s")
    load_w = column(trace, SHOWN[0], "load_w")
    begin_s = max(0.0, 0.5 * float(time_s[-1]) - 0.5 * WINDOW_S)
    part = (time_s >= begin_s) & (time_s <= begin_s + WINDOW_S)
    part[np.arange(len(part)) % THINNED != 0] = False
    figure, axes = plt.subplots(len(SHOWN) + 1, 1, figsize=(9.0, 7.2), sharex=True, layout="constrained")
    axes[0].plot(time_s[part], load_w[part] / KILO, color=LOAD, lw=1.2)
    axes[0].set_title("load: what the grid would see", loc="left")
    highest_kw = 0.0
    for place, name in zip(axes[1:], SHOWN, strict=True):
        total_kw = column(trace, name, "total_w")[part] / KILO
        color = OURS if name == SHOWN[0] else OTHER
        place.fill_between(time_s[part], total_kw, color=color, alpha=0.75, lw=0)
        title = f"zeroloop, {name}" if name == SHOWN[0] else name
        place.set_title(f"{title}: mean {np.abs(total_kw).mean():.1f} kW", loc="left")
        highest_kw = max(highest_kw, float(np.abs(total_kw).max()))
    for place in axes[1:]:
        place.set_ylim(-highest_kw, highest_kw)
    for place in axes:
        place.axhline(0.0, color="#111827", lw=0.6)
        place.set_ylabel("kW")
    axes[-1].set_xlabel("s")
    axes[-1].set_xlim(begin_s, begin_s + WINDOW_S)
    figure.savefig(HERE / "control-residual.svg", metadata={"Date": None})


def edge(trace: pl.DataFrame) -> None:
    """Draw the sharpest step of the load that was known ahead, met and waited for."""
    time_s, load_w = (column(trace, SHOWN[0], name) for name in ("time_s", "load_w"))
    total_w, announced_w = (column(trace, SHOWN[0], name) for name in ("total_w", "announced_w"))
    second = round(1.0 / float(time_s[1] - time_s[0]))
    jump_w = np.abs(load_w[3 * second :] - load_w[: -3 * second])
    told_w = np.abs(announced_w[3 * second :] - announced_w[: -3 * second])
    left_w = np.convolve(np.abs(total_w), np.ones(10 * second) / (10 * second), "same")[3 * second :]
    fit = np.minimum(jump_w, told_w) - 3.0 * left_w
    fit[: 60 * second] = fit[-30 * second :] = -np.inf
    at_s = float(time_s[int(fit.argmax()) + second])
    part = (time_s >= at_s - AROUND_S) & (time_s <= at_s + AROUND_S)
    figure, axes = plt.subplots(2, 1, figsize=(9.0, 4.8), sharex=True, layout="constrained")
    axes[0].plot(time_s[part] - at_s, -load_w[part] / KILO, color=LOAD, lw=1.4, label="asked for: the load's opposite")
    for name, color in ((SHOWN[0], OURS), (SHOWN[-1], OTHER)):
        told = f"zeroloop, {name}" if name == SHOWN[0] else name
        axes[0].plot(time_s[part] - at_s, column(trace, name, "equalization_w")[part] / KILO, color=color, label=told)
        axes[1].plot(time_s[part] - at_s, column(trace, name, "total_w")[part] / KILO, color=color, label=told)
    axes[0].set_ylabel("equalization, kW")
    axes[1].set_ylabel("total, kW")
    axes[1].set_xlabel("s from the edge")
    axes[1].axhline(0.0, color="#111827", lw=0.6)
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    figure.savefig(HERE / "control-edge.svg", metadata={"Date": None})


def regret(scores: list[dict[str, float]]) -> None:
    """Draw how far each controller stayed from the bound, and how often it changed a channel."""
    ordered = sorted(scores, key=lambda one: -one["regret_ratio"])
    names = [str(one["variant"]) for one in ordered]
    colors = [_color(name) for name in names]
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 4.6), sharey=True, layout="constrained")
    axes[0].barh(names, [one["regret_ratio"] for one in ordered], color=colors)
    axes[0].axvline(1.0, color="#111827", lw=0.8)
    axes[0].set_xlabel("mean |total| by the bound")
    axes[1].barh(names, [one["changes_per_channel_hour"] for one in ordered], color=colors)
    axes[1].set_xscale("log")
    axes[1].set_xlabel("changes per channel and hour")
    figure.savefig(HERE / "control-regret.svg", metadata={"Date": None})


def _color(name: str) -> str:
    if name.startswith(("confirm", "dwell")):
        return OURS
    return GATED if "gated" in name or name == "literal delay" else OTHER


def table(summary: dict[str, object], scores: list[dict[str, float]], seconds: float) -> str:
    """Return the table of the page."""
    lines = [
        f"Seed {summary['seed']}, {seconds / 60.0:.0f} min, `delay_s` 15.",
        "",
        "| controller | mean \\|total\\|, kW | of the load | by the bound | changes per channel and h | avoided, kWh |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one['variant']} | {one['mean_total_w'] / KILO:.1f} | {one['residual_ratio']:.1%} "
        f"| {one['regret_ratio']:.2f} | {one['changes_per_channel_hour']:.0f} | {one['avoided_wh'] / KILO:.2f} |"
        for one in scores
    ]
    return "\n".join(lines)


def main() -> None:
    """Draw all of them, and write the table into the page."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and a folder
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    trace = pl.read_parquet(folder / "trace.parquet")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    scores = summary["variants"]
    with mpl.rc_context(STYLE):
        residual(trace)
        edge(trace)
        regret(scores)
    seconds = float(column(trace, SHOWN[0], "time_s")[-1])
    text = PAGE.read_text(encoding="utf-8")
    marked = f"<!-- table -->\n{table(summary, scores, seconds)}\n<!-- /table -->"
    PAGE.write_text(
        re.sub(r"<!-- table -->.*?<!-- /table -->", lambda _: marked, text, flags=re.DOTALL), encoding="utf-8"
    )


main()
