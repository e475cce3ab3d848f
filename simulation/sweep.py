"""Runs a hall with one size of equalization after the other, on several cores; all sizes meet the same loads."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np

from schemas.settings import ConfigurationError
from simulation.hall import Hall, build
from simulation.loads import Loads
from simulation.plant.run import PlantContest
from simulation.plant.run import race as race_as_traces
from simulation.plant.wire import PlantLoads
from simulation.run import Contest, Result, race
from simulation.scenario import Family, Plant, Scenario
from simulation.score import score
from simulation.sizing import Bought, Size, sized

MOST_ROWS = 2_000_000
"""Of the traces that one process holds at a time, about 200 bytes each."""
LISTEN_S = 0.2

Progress = Callable[[float], None]
"""Told the part that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Job:
    """Sizes that one process runs side by side."""

    number: int
    scenario: Scenario
    """With the one variant that they are tried with."""
    folder: Path
    seed: int
    length_s: float
    sizes: tuple[Size, ...]


def sweep(
    scenario: Scenario,
    folder: Path,
    sizes: Sequence[Size],
    *,
    seed: int,
    length_s: float,
    jobs: int,
    progress: Progress,
) -> tuple[Bought, ...]:
    """Run every size.

    Args:
        scenario: with the one variant that they are tried with.
        folder: where paths in it start from.
        sizes: of its equalization channels.
        seed: of everything that is drawn.
        length_s: of each run, in virtual time.
        jobs: processes at a time; with 1 it all runs in this one.
        progress: told the part that is done.

    Raises:
        ConfigurationError: the scenario cannot be used.
        DriverConfigurationError: a station's channel cannot be used.
    """
    _check(sized(scenario, sizes[0]), folder, seed)
    work = _shared(scenario, folder, tuple(sizes), seed=seed, length_s=length_s, jobs=jobs)
    done = [0.0] * len(work)
    parts = [len(job.sizes) / len(sizes) for job in work]

    def told(number: int, part: float) -> None:
        done[number] = part
        progress(sum(part * weight for part, weight in zip(done, parts, strict=True)))

    if jobs == 1 or len(work) == 1:
        return tuple(one for job in work for one in run(job, partial(told, job.number)))
    return tuple(one for found in _on_cores(work, jobs, told) for one in found)


def _on_cores(work: Sequence[Job], jobs: int, told: Callable[[int, float], None]) -> list[list[Bought]]:
    context = get_context("spawn")
    news: Any = context.Queue()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_listen, initargs=(news,)) as pool:
        futures = [pool.submit(_run_and_tell, job) for job in work]
        try:
            waiting = set(futures)
            while waiting:
                finished, waiting = wait(waiting, timeout=LISTEN_S, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                _hear(news, told)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _hear(news: Any, told: Callable[[int, float], None]) -> None:  # noqa: ANN401 - a context's queue has no type
    while True:
        try:
            number, part = news.get_nowait()
        except Empty:
            return
        told(number, part)


_news: list[Any] = []


def _listen(news: Any) -> None:  # noqa: ANN401 - a context's queue has no type
    _news.append(news)


def _run_and_tell(job: Job) -> list[Bought]:
    logging.disable(logging.ERROR)  # a process of its own has no log to write to
    return run(job, lambda part: _news[-1].put((job.number, part)))


def _shared(
    scenario: Scenario, folder: Path, sizes: tuple[Size, ...], *, seed: int, length_s: float, jobs: int
) -> list[Job]:
    """Share the sizes out, the large among the small; no more in one process at a time than it can hold."""
    rows = length_s * (1.0 if scenario.plant is Plant.TRACES else 10.0)
    most = max(1, min(ceil(len(sizes) / jobs), int(MOST_ROWS / rows)))
    count = ceil(len(sizes) / most)
    return [Job(number, scenario, folder, seed, length_s, sizes[number::count]) for number in range(count)]


def run(job: Job, progress: Progress) -> list[Bought]:
    """Run a job's sizes against the same loads, side by side."""
    scenarios = [sized(job.scenario, size) for size in job.sizes]
    halls = [build(scenario, job.folder, seed=job.seed) for scenario in scenarios]
    seed, (variant,) = str(job.seed), job.scenario.variant

    def passed(passed_s: float) -> None:
        progress(passed_s / job.length_s)

    if job.scenario.plant is Plant.TRACES:
        plant = PlantLoads(halls[0], ceil(job.length_s), job.scenario.telemetry.period_s, seed)
        arrays = [
            PlantContest(variant, scenario, hall, plant, seed) for scenario, hall in zip(scenarios, halls, strict=True)
        ]
        results = race_as_traces(plant, arrays, passed)
    else:
        loads = Loads(halls[0], seed)
        contests = [Contest(variant, scenario, hall, seed) for scenario, hall in zip(scenarios, halls, strict=True)]
        results = race(loads, contests, job.length_s, passed)
    return [bought(size, result, job.scenario.tariff_per_kwh) for size, result in zip(job.sizes, results, strict=True)]


def bought(size: Size, result: Result, tariff_per_kwh: float) -> Bought:
    """Return what a size did in its run."""
    figures = score(result, tariff_per_kwh)
    charges = np.concatenate([np.asarray(column) for column in result.trace.soc_ratio.values()])
    charges = charges[np.isfinite(charges)]
    return Bought(
        size=size,
        length_s=len(result.trace.time_s) * result.trace.step_s,
        avoided_wh=figures.avoided_wh,
        unbalanced_wh=figures.unbalanced_wh,
        residual_w=figures.mean_total_w,
        residual_ratio=figures.residual_ratio,
        saved=figures.cost_unbalanced - figures.cost,
        changes=figures.changes,
        changes_per_channel_hour=figures.changes_per_channel_hour,
        lowest_soc_ratio=float(charges.min()) if charges.size else None,
        highest_soc_ratio=float(charges.max()) if charges.size else None,
        hasty=figures.violations.hasty_applied,
    )


def _check(scenario: Scenario, folder: Path, seed: int) -> Hall:
    """See that nothing but the group is led: what a station's own file leads cannot be sized."""
    hall = build(scenario, folder, seed=seed)
    groups = {group.station for group in scenario.group if group.family is Family.EQUALIZATION}
    other = next((one.station.id for one in hall.stations if hall.is_led(one) and one.station.id not in groups), None)
    if other is not None:
        raise ConfigurationError(
            f"station {other!r} has equalization channels of its own: only those of a [[group]] with family = "
            '"equalization" can be sized'
        )
    return hall
