"""What reports are written on: a self-contained HTML page, its tables, its figures as SVG and their colors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from string import Template
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LOAD, TOTAL, EQUALIZATION = "#9aa5b1", "#0b6e99", "#d9822b"
VARIANTS = ("#0b6e99", "#d9822b", "#5b8c5a", "#8e5ea2", "#b33f40", "#4d4d4d", "#c2a83e", "#3aa6a0")
STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6b7280",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.hashsalt": "zeroloop",
    "svg.fonttype": "none",
}
"""Of the figures, for matplotlib; the salt makes the same run the same file."""


def sheet(title: str, subtitle: str, body: str) -> str:
    """Return the page; title and subtitle are text, the body is HTML."""
    return _SHEET.substitute(title=escape(title), subtitle=escape(subtitle), body=body)


@dataclass(frozen=True, slots=True)
class Row:
    """A table's row: its texts, its name where rows have one, and whether it stands out."""

    texts: Sequence[str]
    name: str | None = None
    marked: bool = False


def table(head: Sequence[str], rows: Sequence[Row]) -> str:
    """Return a table; where its rows have names, they stand in a column before the head's."""
    named = any(row.name is not None for row in rows)
    top = ("<th class=name></th>" if named else "") + "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(_row(row) for row in rows)
    return f'<div class="table"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(row: Row) -> str:
    name = "" if row.name is None else f"<th>{escape(row.name)}</th>"
    cells = "".join(f"<td>{escape(text)}</td>" for text in row.texts)
    return f"<tr{' class=marked' if row.marked else ''}>{name}{cells}</tr>"


def svg(width: float, height: float, count: int, draw: Callable[[list[Axes]], None], *, beside: bool = False) -> str:
    """Return a figure: two that share no axis stand side by side, those of one time above one another."""
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(1 if beside else count, count if beside else 1, squeeze=False)
    draw(list(grid.flat))
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"


_SHEET = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #111827; max-width: 1060px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.2rem 0 .3rem }
summary { font-size: 1.2rem; font-weight: 600; margin: 1.6rem 0 .3rem; cursor: pointer }
h3 { font-size: .95rem; font-weight: 600; margin: 1rem 0 .2rem }
p { color: #4b5563; margin: .2rem 0 1.2rem } li { margin: .3rem 0 }
.table { overflow-x: auto } tbody tr:hover { background: #f9fafb } .marked td { font-weight: 600 }
table { border-collapse: collapse; font-size: .85rem; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .35rem .5rem; border-bottom: 1px solid #e5e7eb; vertical-align: bottom }
td { white-space: nowrap } thead th { color: #4b5563; font-weight: 500 }
tbody th, thead th.name { text-align: left }
figure { margin: .4rem 0 } svg { width: 100%; height: auto }
</style></head><body>
<h1>$title</h1><p>$subtitle</p>
$body
</body></html>
""")
