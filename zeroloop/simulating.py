"""`zeroloop simulate`: a bar while a hall runs in virtual time, then what came of it in one table."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from schemas.settings import ConfigurationError
from simulation.redecide import Agreement
from simulation.scenario import LEAST_S
from simulation.score import Score
from simulation.simulate import Outcome, simulate, write
from zeroloop import durations, extras
from zeroloop.figures import narrowest

KILO = 1000.0


def run(
    path: Path,
    out: Path,
    *,
    seed: int | None,
    seconds: float | None,
    variants: tuple[str, ...],
    console: Console,
    against: tuple[Path, ...] = (),
) -> None:
    """Run a scenario or a recording's loads, leave its results in `out`, and print the figures.

    Raises:
        ConfigurationError: the scenario or an option cannot be used, or the plotting library is missing.
        OSError: the folder cannot be written to.
    """
    durations.check("--seconds", seconds, least=LEAST_S)
    if not path.is_file():
        raise ConfigurationError(f"{path}: {'is a directory' if path.is_dir() else 'no such file or directory'}")
    extras.require("simulation", "what draws the report")
    out.mkdir(parents=True, exist_ok=True)  # before the work of hours
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(path.name, total=1.0)
        outcome = simulate(
            path,
            seed=seed,
            duration_s=seconds,
            only=variants,
            progress=lambda done: bar.update(task, completed=done),
            against=against,
        )
    write(outcome, out)
    console.print(_table(outcome))
    if outcome.decided_again is not None:
        console.print(verdict(outcome.decided_again))
    console.print(f"{out / 'report.html'}, summary.json, trace.parquet, changes.csv", highlight=False)


def verdict(again: Agreement) -> str:
    """Return in a line how many recorded changes today's control decides again."""
    same = (
        f"Of {again.recorded} recorded changes, today's control makes {again.met} again on the same messages; "
        f"{again.recorded - again.met} differ, and it makes {again.others} that are not in the recording."
    )
    return f"{same} {again.unjudged} more are not judged: {again.why}." if again.unjudged else same


_FIGURES: tuple[tuple[str, Callable[[Score], str]], ...] = (
    ("mean |total| kW", lambda score: f"{score.mean_total_w / KILO:.2f}"),
    ("mean |load| kW", lambda score: f"{score.mean_load_w / KILO:.2f}"),
    ("left over", lambda score: f"{score.residual_ratio:.1%}"),
    ("by bound", lambda score: f"{score.regret_ratio:.2f}"),
    ("changes per channel and h", lambda score: f"{score.changes_per_channel_hour:.1f}"),
    ("too early", lambda score: str(score.violations.hasty_applied)),
    ("avoided kWh", lambda score: f"{score.avoided_wh / KILO:.2f}"),
)


def _table(outcome: Outcome) -> Table:
    table = Table(title=f"{outcome.scenario.title}, seed {outcome.seed}", box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for name, cell in _FIGURES:
        # No wider than it must be: on 80 columns what is left is for the variants' names.
        width = narrowest(name, (cell(score) for score in outcome.scores))
        table.add_column(name, justify="right", width=width)
    for score in outcome.scores:
        table.add_row(score.variant, *(cell(score) for _, cell in _FIGURES))
    return table
