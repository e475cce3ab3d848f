"""Runs a scenario and leaves its results in a folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from recording.writer import SUFFIX
from schemas.settings import ConfigurationError
from simulation import tables
from simulation.plant.run import compete as compete_as_traces
from simulation.redecide import Agreement
from simulation.replay import replay
from simulation.run import Progress, Result, compete
from simulation.scenario import Plant, Scenario, read
from simulation.score import Score, score


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario has shown."""

    scenario: Scenario
    seed: int
    results: tuple[Result, ...]
    scores: tuple[Score, ...]
    decided_again: Agreement | None = None
    """Of a recording: how many of the recorded changes today's control decides again."""


def simulate(
    path: Path,
    *,
    seed: int | None,
    duration_s: float | None,
    only: tuple[str, ...],
    progress: Progress,
    against: tuple[Path, ...] = (),
) -> Outcome:
    """Run a scenario, or the loads of a recording.

    Args:
        path: its TOML; or what `zeroloop record` wrote.
        seed: another than the scenario's.
        duration_s: another than the scenario's.
        only: names of the variants that are run; empty: all.
        progress: told the part that is done, 0 to 1.
        against: equalizer.toml files that a recording's loads are run against too.

    Raises:
        ConfigurationError: the scenario, or something that it names, cannot be used.
        DriverConfigurationError: a station's channel cannot be used.
    """
    if path.suffix == SUFFIX:
        scenario, results, again = replay(path, against=against, duration_s=duration_s, only=only, progress=progress)
        scores = tuple(score(result, scenario.tariff_per_kwh, closely=True) for result in results)
        return Outcome(scenario, scenario.seed, results, scores, again)
    if against:
        raise ConfigurationError("--against: is for recordings; a scenario has its variants in its own file")
    scenario = read(path).only(only)
    length_s = scenario.duration_s if duration_s is None else duration_s
    run = compete_as_traces if scenario.plant is Plant.TRACES else compete
    results = run(
        scenario,
        path.resolve().parent,
        seed=seed,
        duration_s=length_s,
        progress=lambda passed_s: progress(passed_s / length_s),
    )
    scores = tuple(score(result, scenario.tariff_per_kwh, closely=True) for result in results)
    return Outcome(scenario, scenario.seed if seed is None else seed, results, scores)


def write(outcome: Outcome, folder: Path) -> None:
    """Leave summary.json, trace.parquet, changes.csv and report.html in a folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    from simulation.report import page  # noqa: PLC0415 - the plotting library is slow to import

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(_summary(outcome), indent=2) + "\n", encoding="utf-8")
    tables.trace(outcome.results).write_parquet(folder / "trace.parquet")
    tables.orders(outcome.results).write_csv(folder / "changes.csv")
    report = page(outcome.scenario, outcome.seed, outcome.results, outcome.scores)
    (folder / "report.html").write_text(report, encoding="utf-8")


def _summary(outcome: Outcome) -> dict[str, object]:
    return {
        "title": outcome.scenario.title,
        "seed": outcome.seed,
        "decided_again": None if outcome.decided_again is None else asdict(outcome.decided_again),
        "variants": [
            {
                **one.table(),
                "counts": result.counts,
                "rejected": result.rejected,
                "clamped": result.clamped,
                "events": result.events,
                "messages_lost": result.messages_lost,
                "soc_ratio": result.soc_ratio,
            }
            for one, result in zip(outcome.scores, outcome.results, strict=True)
        ],
    }
