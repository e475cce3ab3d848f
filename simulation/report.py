"""One page that shows a run: self-contained HTML with figures as SVG."""

from collections.abc import Callable, Iterable
from functools import partial
from html import escape

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from equalizer.control.residual import Cause
from simulation.clock import BEGIN_S
from simulation.run import Result
from simulation.scenario import Scenario
from simulation.score import Score
from simulation.sheet import EQUALIZATION, LOAD, STYLE, TOTAL, VARIANTS, Row, sheet, svg, table

KILO = 1000.0
OPENED = 2
"""Variants that are shown at once; the others unfold."""
MINUTE_S = 60.0
BINS = 900
"""Of an overview: each shows the range of what happened in it."""
AROUND_S = 75.0
"""On either side of a close look."""
NOT_SPLIT = "not split"


def page(scenario: Scenario, seed: int, results: tuple[Result, ...], scores: tuple[Score, ...]) -> str:
    """Return the report."""
    with mpl.rc_context(STYLE):
        sections = "".join(
            _section(result, score, opened=number < OPENED)
            for number, (result, score) in enumerate(zip(results, scores, strict=True))
        )
        compared = svg(10.0, max(2.8, 0.3 * len(scores)), 2, lambda axes: _compared(axes, results, scores), beside=True)
    body = f"{_table(scores)}<h2>What was left over</h2>{compared}<h2>How each did it</h2>{sections}"
    return sheet(scenario.title, _subtitle(scenario, seed, results[0]), body)


def _subtitle(scenario: Scenario, seed: int, result: Result) -> str:
    hours = len(result.trace.time_s) * result.trace.step_s / 3600.0
    network, control = scenario.network, scenario.control
    return (
        f"{hours:.2f} h in virtual time · seed {seed} · {len(result.witnesses)} equalization channels · "
        f"delay_s {control.delay_s:g} · telemetry every {scenario.telemetry.period_s:g} s, "
        f"{network.delay_s:g} ± {network.jitter_s:g} s on its way, {network.loss_ratio:.1%} lost"
    )


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _section(result: Result, score: Score, *, opened: bool) -> str:
    overview = svg(10.0, 5.2, 2, partial(_overview, result=result))
    worst = "".join(
        f"<h3>Close look at {stretch.at_s / MINUTE_S:.1f} min: {stretch.mean_total_w / KILO:.1f} kW left over</h3>"
        + svg(10.0, 4.4, 2, partial(_close, result=result, at_s=stretch.at_s))
        for stretch in score.worst[:2]
    )
    summary = f"<summary>{escape(score.variant)}</summary>"
    return f"<details{' open' if opened else ''}>{summary}{overview}{worst}</details>"


def _overview(axes: list[Axes], *, result: Result) -> None:
    """Draw the whole run: the powers, and what became of the batteries."""
    trace = result.trace
    load_w, equalization_w = np.asarray(trace.load_w), np.asarray(trace.equalization_w)
    parts = (
        (load_w, LOAD, "load: without balancing", 0.9),
        (equalization_w, EQUALIZATION, "equalization", 0.45),
        (load_w + equalization_w, TOTAL, "total: what the grid sees", 0.9),
    )
    # The range of every bin: a line of 144,000 points shows less and weighs more.
    edges = np.linspace(0, len(load_w), min(BINS, len(load_w)) + 1).astype(int)[:-1]
    minutes = edges * trace.step_s / MINUTE_S
    for power_w, color, name, alpha in parts:
        low, high = np.minimum.reduceat(power_w, edges), np.maximum.reduceat(power_w, edges)
        axes[0].fill_between(minutes, low / KILO, high / KILO, fc=color, ec=color, alpha=alpha, lw=0.4, label=name)
    axes[0].axhline(0.0, color="#111827", lw=0.6)
    axes[0].set(ylabel="kW")
    axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)
    for number, (name, soc_ratio) in enumerate(trace.soc_ratio.items()):
        color = VARIANTS[number % len(VARIANTS)]
        axes[1].plot(minutes, 100.0 * np.asarray(soc_ratio)[edges], color=color, lw=1.1, label=name)
    axes[1].set(xlabel="min", ylabel="charge, %")
    axes[1].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4)
    for one in axes:
        one.set_xlim(0.0, len(load_w) * trace.step_s / MINUTE_S)


def _close(axes: list[Axes], *, result: Result, at_s: float) -> None:
    trace = result.trace
    first = max(0, round((at_s - 0.5 * AROUND_S) / trace.step_s))
    part = slice(first, first + round(2.0 * AROUND_S / trace.step_s))
    time_s = np.asarray(trace.time_s)[part]
    load_w, equalization_w = np.asarray(trace.load_w)[part], np.asarray(trace.equalization_w)[part]
    axes[0].plot(time_s, -load_w / KILO, color=LOAD, lw=1.0, label="asked for: -load")
    axes[0].plot(time_s, equalization_w / KILO, color=EQUALIZATION, lw=1.2, label="equalization")
    axes[0].fill_between(time_s, (load_w + equalization_w) / KILO, color=TOTAL, alpha=0.35, lw=0, label="total")
    axes[0].set(ylabel="kW")
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    for number, (name, power_w) in enumerate(trace.power_w.items()):
        color = VARIANTS[number % len(VARIANTS)]
        axes[1].plot(time_s, np.asarray(power_w)[part] / KILO, color=color, lw=1.1, label=name)
        for change in result.witnesses[name].changes:
            if time_s[0] <= change.at_s - BEGIN_S <= time_s[-1]:
                axes[1].plot(change.at_s - BEGIN_S, change.to_w / KILO, "o", ms=3, color=color)
    axes[1].set(xlabel="s", ylabel="kW")
    axes[1].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    for one in axes:
        one.set_xlim(time_s[0], time_s[-1])


def _compared(axes: list[Axes], results: Iterable[Result], scores: tuple[Score, ...]) -> None:
    split = [_split_kwh(score) for score in scores]
    causes = [*(cause.value for cause in Cause), NOT_SPLIT]
    left = np.zeros(len(scores))
    places = np.arange(len(scores))[::-1]
    for number, cause in enumerate(causes):
        values = np.array([parts.get(cause, 0.0) for parts in split])
        if values.any():
            color = LOAD if cause == NOT_SPLIT else VARIANTS[number % len(VARIANTS)]
            axes[0].barh(places, values, left=left, color=color, label=cause.replace("_", " "), height=0.6)
        left += values
    axes[0].set_yticks(places, [score.variant for score in scores])
    axes[0].set(xlabel="left over, kWh, by what caused it")
    if axes[0].get_legend_handles_labels()[0]:  # nothing was left over: nothing has a cause
        axes[0].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
    for number, (result, score) in enumerate(zip(results, scores, strict=True)):
        total_w = np.abs(np.asarray(result.trace.load_w) + np.asarray(result.trace.equalization_w))
        shares = np.linspace(0.0, 100.0, 201)
        axes[1].plot(
            np.percentile(total_w, shares) / KILO,
            shares,
            color=VARIANTS[number % len(VARIANTS)],
            linestyle="--" if result.variant.gated else "-",
            label=score.variant,
        )
    axes[1].set(xlabel="|total|, kW", ylabel="% of the time below", ylim=(0.0, 100.0), xlim=(0.0, None))
    axes[1].legend(loc="lower right", fontsize=7)


def _split_kwh(score: Score) -> dict[str, float]:
    """Return what was left over, by cause, as shares that the equalizer saw of what really flowed."""
    exchanged_kwh = (score.import_wh + score.export_wh) / KILO
    seen_wh = sum(score.residual_by_cause_wh.values())
    if seen_wh <= 0.0:
        return {NOT_SPLIT: exchanged_kwh}
    return {cause: exchanged_kwh * part_wh / seen_wh for cause, part_wh in score.residual_by_cause_wh.items()}


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────

_COLUMNS: tuple[tuple[str, Callable[[Score], str]], ...] = (
    ("mean |total|, kW", lambda score: f"{score.mean_total_w / KILO:.2f}"),
    ("mean |load|, kW", lambda score: f"{score.mean_load_w / KILO:.2f}"),
    ("left over", lambda score: f"{score.residual_ratio:.1%}"),
    ("by the bound", lambda score: f"{score.regret_ratio:.2f}"),
    ("95 % below, kW", lambda score: f"{score.p95_total_w / KILO:.1f}"),
    ("changes per channel and h", lambda score: f"{score.changes_per_channel_hour:.0f}"),
    ("exchanged, kWh", lambda score: f"{(score.import_wh + score.export_wh) / KILO:.2f}"),
    ("avoided, kWh", lambda score: f"{score.avoided_wh / KILO:.2f}"),
    ("cost", lambda score: f"{score.cost:.2f} of {score.cost_unbalanced:.2f}"),
    (
        "too early / beyond limits / opposite",
        lambda score: (
            f"{score.violations.hasty_applied} / {score.violations.outside_limits} / "
            f"{score.violations.opposite_signs_s:.1f} s"
        ),
    ),
)


def _table(scores: tuple[Score, ...]) -> str:
    rows = [Row([cell(score) for _, cell in _COLUMNS], name=score.variant) for score in scores]
    return table([name for name, _ in _COLUMNS], rows)
