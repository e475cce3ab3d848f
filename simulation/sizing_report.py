"""What a sweep over sizes leaves: a self-contained page with figures, a table for a spreadsheet, and JSON."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import groupby, pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from simulation.sheet import EQUALIZATION, LOAD, STYLE, TOTAL, VARIANTS, Row, sheet, svg, table
from simulation.sizing import KILO, Advice, Bought


@dataclass(frozen=True, slots=True)
class Sized:
    """A sweep and what it says."""

    title: str
    variant: str
    seed: int
    length_s: float
    tariff_per_kwh: float
    bought: tuple[Bought, ...]
    advice: Advice


COLUMNS: tuple[tuple[str, Callable[[Bought], float | int | None]], ...] = (
    ("channels", lambda one: one.size.channels),
    ("rating_w", lambda one: one.size.rating_w),
    ("capacity_wh", lambda one: one.size.capacity_wh),
    ("power_w", lambda one: one.size.power_w),
    ("avoided_wh", lambda one: one.avoided_wh),
    ("unbalanced_wh", lambda one: one.unbalanced_wh),
    ("avoided_wh_per_day", lambda one: one.avoided_wh_per_day),
    ("residual_w", lambda one: one.residual_w),
    ("residual_ratio", lambda one: one.residual_ratio),
    ("saved", lambda one: one.saved),
    ("saved_per_day", lambda one: one.saved_per_day),
    ("changes", lambda one: one.changes),
    ("changes_per_channel_hour", lambda one: one.changes_per_channel_hour),
    ("lowest_soc_ratio", lambda one: one.lowest_soc_ratio),
    ("highest_soc_ratio", lambda one: one.highest_soc_ratio),
    ("hasty", lambda one: one.hasty),
)
"""Of the data; ratings and capacities are each channel's."""


def write(sized: Sized, folder: Path) -> None:
    """Leave sizing.html, sizing.csv and sizing.json in a folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sizing.json").write_text(json.dumps(_table(sized), indent=2) + "\n", encoding="utf-8")
    with (folder / "sizing.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([name for name, _ in COLUMNS])
        writer.writerows([["" if (cell := of(one)) is None else cell for _, of in COLUMNS] for one in sized.bought])
    (folder / "sizing.html").write_text(page(sized), encoding="utf-8")


def _table(sized: Sized) -> dict[str, object]:
    advice = sized.advice
    return {
        "title": sized.title,
        "variant": sized.variant,
        "seed": sized.seed,
        "length_s": sized.length_s,
        "tariff_per_kwh": sized.tariff_per_kwh,
        "sizes": [{name: of(one) for name, of in COLUMNS} for one in sized.bought],
        "frontier": [
            {
                "channels": step.after.size.channels,
                "rating_w": step.after.size.rating_w,
                "capacity_wh": step.after.size.capacity_wh,
                "power_w": step.after.size.power_w,
                "marginal_wh_per_w_and_day": step.marginal_h_per_day,
            }
            for step in advice.frontier
        ],
        "worth_wh_per_w_and_day": advice.worth_h_per_day,
        "enough": {name: of(advice.enough) for name, of in COLUMNS},
        "words": list(advice.words),
    }


def page(sized: Sized) -> str:
    """Return the report."""
    with mpl.rc_context(STYLE):
        bought = svg(10.0, 3.8, 2, partial(_bought, sized=sized), beside=True)
        left = svg(10.0, 3.8, 2, partial(_left, sized=sized), beside=True)
    subtitle = (
        f"{len(sized.bought)} sizes · {sized.length_s / 3600.0:.2f} h each in virtual time · seed {sized.seed} · "
        f"{sized.variant} · {sized.tariff_per_kwh:g} per kWh across the grid's connection"
    )
    words = "".join(f"<li>{escape(line)}</li>" for line in sized.advice.words)
    rows = [Row([of(one) for _, of in CELLS], marked=one is sized.advice.enough) for one in sized.bought]
    body = (
        f"<ul>{words}</ul><h2>What each size buys</h2>{bought}"
        f"<h2>What is left over, and how often channels change</h2>{left}"
        f"<h2>All sizes</h2>{table([name for name, _ in CELLS], rows)}"
    )
    return sheet(f"{sized.title}: what equalization buys", subtitle, body)


def _curves(bought: Sequence[Bought]) -> list[tuple[str, str, str, list[Bought]]]:
    """Return what differs in the number of channels only, with its name, color and line."""

    def kind(one: Bought) -> tuple[float, float]:
        return one.size.rating_w, one.size.capacity_wh

    groups = [(key, list(group)) for key, group in groupby(sorted(bought, key=kind), key=kind)]
    ratings = sorted({key[0] for key, _ in groups})
    lines = ("-", "--", ":", "-.")
    made = []
    for (rating_w, capacity_wh), group in groups:
        alike = [key[1] for key, _ in groups if key[0] == rating_w]
        made.append(
            (
                f"{rating_w / KILO:g} kW, {capacity_wh / KILO:g} kWh each",
                VARIANTS[ratings.index(rating_w) % len(VARIANTS)],
                lines[alike.index(capacity_wh) % len(lines)],
                sorted(group, key=lambda one: one.size.channels),
            )
        )
    return made


def _bought(axes: list[Axes], *, sized: Sized) -> None:
    """Draw what is avoided by installed power, and what each step of the frontier adds."""
    advice = sized.advice
    for name, color, line, group in _curves(sized.bought):
        power_kw = [one.size.power_w / KILO for one in group]
        avoided_kwh = [one.avoided_wh_per_day / KILO for one in group]
        axes[0].plot(power_kw, avoided_kwh, line, marker="o", ms=3, lw=1.0, color=color, label=name)
    power_kw = [0.0, *(step.after.size.power_w / KILO for step in advice.frontier)]
    avoided_kwh = [0.0, *(step.after.avoided_wh_per_day / KILO for step in advice.frontier)]
    axes[0].plot(power_kw, avoided_kwh, color=LOAD, lw=5.0, alpha=0.35, zorder=0, label="the most for its power")
    enough = advice.enough
    axes[0].plot(
        enough.size.power_w / KILO, enough.avoided_wh_per_day / KILO, "*", ms=13, color=EQUALIZATION, label="enough"
    )
    axes[0].set(xlabel="equalization, kW in all", ylabel="avoided, kWh a day")
    axes[0].set_xlim(0.0, None)
    axes[0].set_ylim(0.0, None)
    axes[0].legend(loc="lower right", fontsize=7)
    money = axes[0].secondary_yaxis(
        "right", functions=(partial(_times, factor=sized.tariff_per_kwh), partial(_by, factor=sized.tariff_per_kwh))
    )
    money.set_ylabel("saved a day, at the tariff")
    marginal = [step.marginal_h_per_day for step in advice.frontier]
    axes[1].bar(
        power_kw[:-1],
        marginal,
        width=[after - before for before, after in pairwise(power_kw)],
        align="edge",
        color=[TOTAL if one >= advice.worth_h_per_day else LOAD for one in marginal],
        edgecolor="white",
    )
    axes[1].axhline(advice.worth_h_per_day, color=EQUALIZATION, lw=1.0, label="below: more buys little")
    axes[1].set(xlabel="equalization, kW in all", ylabel="a further kW avoids, kWh a day")
    axes[1].legend(loc="upper right", fontsize=7)


def _times(value: float, *, factor: float) -> float:
    return value * (factor or 1.0)


def _by(value: float, *, factor: float) -> float:
    return value / (factor or 1.0)


def _left(axes: list[Axes], *, sized: Sized) -> None:
    """Draw what is left over, and how often channels change."""
    for name, color, line, group in _curves(sized.bought):
        counts = [one.size.channels for one in group]
        left = [100.0 * one.residual_ratio for one in group]
        changes = [one.changes_per_channel_hour for one in group]
        axes[0].plot(counts, left, line, marker="o", ms=3, lw=1.0, color=color, label=name)
        axes[1].plot(counts, changes, line, marker="o", ms=3, lw=1.0, color=color, label=name)
    axes[0].set(xlabel="channels", ylabel="left over, % of the load", ylim=(0.0, None))
    axes[1].set(xlabel="channels", ylabel="changes per channel and h", ylim=(0.0, None))
    axes[1].legend(loc="center right", fontsize=7)
    for one in axes:
        one.xaxis.set_major_locator(MaxNLocator(integer=True))


CELLS: tuple[tuple[str, Callable[[Bought], str]], ...] = (
    ("channels", lambda one: str(one.size.channels)),
    ("kW each", lambda one: f"{one.size.rating_w / KILO:g}"),
    ("kWh each", lambda one: f"{one.size.capacity_wh / KILO:g}"),
    ("kW in all", lambda one: f"{one.size.power_w / KILO:g}"),
    ("avoided, kWh a day", lambda one: f"{one.avoided_wh_per_day / KILO:.1f}"),
    ("saved a day", lambda one: f"{one.saved_per_day:.2f}"),
    ("mean |total|, kW", lambda one: f"{one.residual_w / KILO:.2f}"),
    ("left over", lambda one: f"{one.residual_ratio:.1%}"),
    ("changes per channel and h", lambda one: f"{one.changes_per_channel_hour:.0f}"),
    (
        "charge",
        lambda one: (
            ""
            if one.lowest_soc_ratio is None or one.highest_soc_ratio is None
            else f"{100.0 * one.lowest_soc_ratio:.0f}-{100.0 * one.highest_soc_ratio:.0f} %"
        ),
    ),
)
"""Of the table for people."""
