"""`zeroloop size`: a bar while sizes are tried in virtual time, then what each buys, in a table and in words."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from schemas.settings import ConfigurationError
from simulation import sizing
from simulation.scenario import LEAST_S, read
from simulation.sweep import sweep
from zeroloop import durations, extras
from zeroloop.figures import narrowest

KILO = 1000.0
MOST_CHANNELS = 1000
LEAST_RATING_KW, MOST_KILO = 0.1, 1e6
MOST_SIZES = 1000

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for on the command line; empty or null: not said."""

    channels: tuple[int, ...] = ()
    ratings_w: tuple[float, ...] = ()
    capacities_wh: tuple[float, ...] = ()
    worth_h_per_day: float | None = None
    variant: str | None = None

    @classmethod
    def of(
        cls,
        *,
        channels: str | None,
        rating_kw: str | None,
        capacity_kwh: str | None,
        worth: float | None,
        variant: str | None,
    ) -> Self:
        """Return what the options say.

        Raises:
            ConfigurationError: one of them cannot be used; it says which, and what is allowed.
        """
        if worth is not None and not (isfinite(worth) and worth >= 0.0):
            raise ConfigurationError(f"--worth: {worth:g} is not 0 or more kWh per kW and day")
        ratings_kw = _numbers("--rating-kw", rating_kw, float, LEAST_RATING_KW, MOST_KILO)
        return cls(
            channels=_numbers("--channels", channels, int, 1, MOST_CHANNELS),
            ratings_w=tuple(KILO * one for one in ratings_kw),
            capacities_wh=tuple(
                KILO * one for one in _numbers("--capacity-kwh", capacity_kwh, float, 0.001, MOST_KILO)
            ),
            worth_h_per_day=worth,
            variant=variant,
        )


def _numbers(
    option: str, text: str | None, kind: Callable[[str], Number], least: Number, most: Number
) -> tuple[Number, ...]:
    if text is None:
        return ()
    what = "whole number" if kind is int else "number"
    found = []
    for part in text.split(","):
        try:
            number = kind(part)
        except ValueError:
            raise ConfigurationError(f"{option}: {part.strip()!r} is no {what}; give them as 1,2,4") from None
        if not least <= number <= most:
            raise ConfigurationError(f"{option}: {part.strip()} is not between {least:g} and {most:g}")
        found.append(number)
    return tuple(sorted(set(found)))


def run(
    path: Path,
    out: Path,
    wishes: Wishes,
    *,
    seed: int | None,
    seconds: float | None,
    jobs: int | None,
    console: Console,
) -> None:
    """Try the sizes, leave the results in `out`, and print them.

    Raises:
        ConfigurationError: the scenario or an option cannot be used, or the plotting library is missing.
    """
    durations.check("--seconds", seconds, least=LEAST_S)
    extras.require("simulation", "what draws the report")
    from simulation.sizing_report import CELLS, Sized, write  # noqa: PLC0415 - the plotting library is slow to import

    scenario = read(path)
    variant = sizing.variant(scenario, wishes.variant)
    scenario = scenario.model_copy(update={"variant": (variant,), "event": sizing.events(scenario, variant.name)})
    if jobs is not None and jobs < 1:
        raise ConfigurationError(f"--jobs: {jobs} is not 1 or more")
    sizes = sizing.sizes(scenario, wishes.channels, wishes.ratings_w, wishes.capacities_wh)
    if len(sizes) > MOST_SIZES:
        raise ConfigurationError(f"{len(sizes)} sizes are more than {MOST_SIZES}: name fewer numbers")
    out.mkdir(parents=True, exist_ok=True)  # before the work of hours
    number = scenario.seed if seed is None else seed
    length_s = scenario.duration_s if seconds is None else seconds
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{path.name}: {len(sizes)} sizes", total=1.0)
        bought = sweep(
            scenario,
            path.resolve().parent,
            sizes,
            seed=number,
            length_s=length_s,
            jobs=jobs if jobs is not None else os.cpu_count() or 1,
            progress=lambda done: bar.update(task, completed=done),
        )
    sized = Sized(
        title=scenario.title,
        variant=variant.name,
        seed=number,
        length_s=length_s,
        tariff_per_kwh=scenario.tariff_per_kwh,
        bought=tuple(sorted(bought, key=lambda one: one.size)),
        advice=sizing.advise(bought, wishes.worth_h_per_day),
    )
    write(sized, out)
    table = Table(title=f"{sized.title}, seed {sized.seed}, {length_s / 3600.0:.2f} h", box=None, padding=(0, 1, 0, 0))
    for name, cell in CELLS:
        table.add_column(name, justify="right", width=narrowest(name, (cell(one) for one in sized.bought)))
    for one in sized.bought:
        table.add_row(*(cell(one) for _, cell in CELLS), style="bold" if one is sized.advice.enough else "")
    console.print(table)
    for line in sized.advice.words:
        console.print(line, highlight=False)
    console.print(f"{out / 'sizing.html'}, sizing.csv, sizing.json", highlight=False)
