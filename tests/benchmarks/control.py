"""The mixed hall in virtual time: us in four forms and the neighbours, native and gated, beside the bound.

Some seeds and delays; every controller meets the same load. Runs over all cores.
"""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import simulation
from simulation.run import compete
from simulation.scenario import Action, EventSection, Scenario, VariantSection, read
from simulation.score import Score, score
from tests.benchmarks.asked import Asked

SCENARIO = Path(simulation.__file__).parent / "scenarios" / "mixed.toml"
OURS = ("confirm, plans", "confirm, no plans", "dwell, plans", "dwell, no plans")
DEAD = "one equalization channel dead for a quarter of the time"
DEAD_BLIND = "the same without plans"
AGAINST_RATIO = 0.01
"""Who has channels of opposite signs for less of the time keeps one sign, but for its ramps."""
KILO = 1000.0


@dataclass(frozen=True)
class Row:
    """One controller under one delay, over all seeds."""

    delay_s: float
    name: str
    length_s: float
    scores: tuple[Score, ...]

    @property
    def total_w(self) -> float:
        return fmean(score.mean_total_w for score in self.scores)

    @property
    def bound_w(self) -> float:
        return fmean(score.bound_w for score in self.scores)

    @property
    def window_bound_w(self) -> float:
        return fmean(score.window_bound_w for score in self.scores)

    @property
    def regret(self) -> float:
        return self.total_w / self.bound_w

    @property
    def changes(self) -> float:
        return fmean(score.changes_per_channel_hour for score in self.scores)

    @property
    def against_ratio(self) -> float:
        """For which part of the time channels had opposite signs."""
        return self.violations[2] / (self.length_s * len(self.scores))

    @property
    def violations(self) -> tuple[int, int, float]:
        found = [score.violations for score in self.scores]
        return (
            sum(one.hasty_applied for one in found),
            sum(one.outside_limits for one in found),
            sum(one.opposite_signs_s for one in found),
        )


def measure(asked: Asked) -> list[str]:
    """Return the section's lines.

    Raises:
        SystemExit: a controller is asked for that takes no part.
    """
    scenario = read(SCENARIO)
    length_s = scenario.duration_s if asked.seconds is None else asked.seconds
    known = [variant.name for variant in (*scenario.variant, *_degraded(length_s)[0])]
    for name in asked.only:
        if name not in known:
            raise SystemExit(f"--only: no controller is called {name!r}; there are: {'; '.join(known)}")
    began_s = time.monotonic()
    rows = list(_rows(scenario, length_s, asked))
    took_s = time.monotonic() - began_s
    worse = degraded_names()
    seeds = ", ".join(map(str, asked.seeds))
    return [
        f"Seeds {seeds}, {length_s / 60.0:.0f} min each; took {took_s / 60.0:.0f} min.",
        "Regret is the residual by the bound; too early means within the delay of the change before it.",
        "",
        *_table([row for row in rows if row.name not in worse]),
        "",
        "### `confirm` with plans, where something is wrong",
        "",
        *_table([row for row in rows if row.name in (*worse, *OURS[:2])]),
        "",
        "### What it must show",
        "",
        *_claims(rows, asked.delays_s),
    ]


def degraded_names() -> tuple[str, ...]:
    return tuple(variant.name for variant in _degraded(1.0)[0])


def without(name: str) -> str:
    """Return what a run with a fault is held against: the same without plans."""
    return DEAD_BLIND if name == DEAD else OURS[1]


def _degraded(length_s: float) -> tuple[list[VariantSection], list[EventSection]]:
    """Return `confirm` with plans under faults, and the events that they need."""
    variants = [
        VariantSection(name="half of the plans missing", share_ratio=0.5),
        VariantSection(name="plans off by up to 2 s", shift_s=2.0),
        VariantSection(name="5 % of the messages lost", loss_ratio=0.05),
        VariantSection(name=DEAD),
        VariantSection(name=DEAD_BLIND, plans=False),
    ]
    dead_s = 0.25 * length_s
    steps = ((0.0, Action.UNPLUG), (dead_s, Action.PLUG), (dead_s + 1.0, Action.CLEAR_ALARM))
    happens = [*steps, (dead_s + 2.0, Action.EQUALIZE)]
    events = [
        EventSection(
            at_s=0.5 * dead_s + after_s, action=action, station="equalization", channel="1", only=(DEAD, DEAD_BLIND)
        )
        for after_s, action in happens
    ]
    return variants, events


def _rows(scenario: Scenario, length_s: float, asked: Asked) -> Iterator[Row]:
    jobs = [(seed, delay_s) for delay_s in asked.delays_s for seed in asked.seeds]
    context = get_context("spawn")
    told: Any = context.Queue()
    done: dict[tuple[int, float], tuple[Score, ...]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with (
        ProcessPoolExecutor(asked.processes, mp_context=context, initializer=_remember, initargs=(told,)) as pool,
        Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True) as bar,
    ):
        task = bar.add_task("control", total=len(jobs) * length_s)
        futures: dict[tuple[int, float], Future[tuple[Score, ...]]] = {
            job: pool.submit(_job, scenario, *job, length_s, asked.only) for job in jobs
        }
        while not all(future.done() for future in futures.values()):
            try:
                bar.advance(task, told.get(timeout=0.5))
            except Empty:
                continue
        done = {job: future.result() for job, future in futures.items()}
    for delay_s in asked.delays_s:
        for number, one in enumerate(done[asked.seeds[0], delay_s]):
            yield Row(delay_s, one.variant, length_s, tuple(done[seed, delay_s][number] for seed in asked.seeds))


_told: Any = None


def _remember(told: Any) -> None:  # noqa: ANN401 - a queue of the context has no public type
    global _told  # noqa: PLW0603 - a process of the pool has it from its start
    _told = told
    logging.getLogger("station").setLevel(logging.ERROR)  # a battery is unplugged on purpose


def _job(scenario: Scenario, seed: int, delay_s: float, length_s: float, only: tuple[str, ...]) -> tuple[Score, ...]:
    variants, events = _degraded(length_s)
    control = scenario.control.model_copy(update={"delay_s": delay_s})
    hall = scenario.model_copy(
        update={
            "control": control,
            "variant": tuple(v for v in (*scenario.variant, *variants) if not only or v.name in only),
            "event": (*scenario.event, *events),
        }
    )
    passed_s = 0.0

    def progress(now_s: float) -> None:
        nonlocal passed_s
        if now_s - passed_s >= 30.0 or now_s >= length_s:
            _told.put(now_s - passed_s)
            passed_s = now_s

    try:
        results = compete(hall, SCENARIO.parent, seed=seed, duration_s=length_s, progress=progress)
    except BaseException:
        sys.stderr.write(f"failed: seed {seed}, delay {delay_s:g} s\n")
        raise
    return tuple(score(result, scenario.tariff_per_kwh, closely=True) for result in results)


def _table(rows: Sequence[Row]) -> list[str]:
    columns = (
        "delay, s",
        "controller",
        "mean \\|total\\|, kW",
        "bound, kW",
        "regret",
        "changes per channel and h",
        "too early / beyond limits / opposite, s",
    )
    lines = [f"| {' | '.join(columns)} |", "| ---: | --- | ---: | ---: | ---: | ---: | ---: |"]
    for row in rows:
        hasty, outside, opposite_s = row.violations
        lines.append(
            f"| {row.delay_s:g} | {row.name} | {row.total_w / KILO:.2f} | {row.bound_w / KILO:.2f} | {row.regret:.2f} "
            f"| {row.changes:.0f} | {hasty} / {outside} / {opposite_s:.1f} |"
        )
    return lines


def _claims(rows: Sequence[Row], delays_s: Sequence[float]) -> list[str]:
    """Return what is asked of the control, beside what was measured, as far as the rows for it are there."""
    lines = ["| delay, s | | asked | measured |", "| ---: | --- | ---: | ---: |"]
    for delay_s in delays_s:
        by_name = {row.name: row for row in rows if row.delay_s == delay_s}
        for claim in (_with_plans, _without_plans, _under_faults, _never):
            try:
                facts = list(claim(by_name))
            except KeyError:
                continue
            lines += [f"| {delay_s:g} | {what} | {asked} | {measured} |" for what, asked, measured in facts]
    return lines


Facts = Iterator[tuple[str, str, str]]


def _with_plans(by_name: Mapping[str, Row]) -> Facts:
    plans, openems = by_name["confirm, plans"], by_name["OpenEMS, no filter"]
    yield "`confirm` with plans by the bound", "at most 1.5", f"{plans.regret:.2f}"
    yield "… by native OpenEMS", "at most 0.6", f"{plans.total_w / openems.total_w:.2f}"
    yield "… its changes by native OpenEMS'", "at most 0.05", f"{plans.changes / openems.changes:.3f}"
    by_windows = f"{plans.total_w / plans.window_bound_w:.2f}"
    yield "`confirm` with plans by the bound of whole windows, for which it was asked", "at most 1.5", by_windows
    least = f"{plans.bound_w / plans.window_bound_w:.2f}"
    yield "… and what no schedule of steps gets below: the bound by that one", "", least


def _without_plans(by_name: Mapping[str, Row]) -> Facts:
    alone, literal, dwell = by_name["confirm, no plans"], by_name["literal delay"], by_name["dwell, no plans"]
    gated = [row for name, row in by_name.items() if ", gated" in name]
    of_one_sign = [row for row in gated if row.against_ratio < AGAINST_RATIO]
    yield "`confirm` without plans by literal delay", "at most 1.05", f"{alone.total_w / literal.total_w:.2f}"
    yield "… changes by literal delay's", "at most 1", f"{alone.changes / literal.changes:.2f}"
    for peers, which in ((gated, "the best"), (of_one_sign, "the best that keeps one sign")):
        if peers:
            best = min(peers, key=lambda row: row.total_w)
            yield f"`dwell` without plans by {best.name}, {which}", "below 1", f"{dwell.total_w / best.total_w:.2f}"


def _under_faults(by_name: Mapping[str, Row]) -> Facts:
    # A fault is held against the same fault without plans, where that is a run of its own.
    ratios = {
        name: by_name[name].total_w / by_name[without(name)].total_w for name in degraded_names() if name != DEAD_BLIND
    }
    worst = max(ratios, key=lambda name: ratios[name])
    yield f"the worst of the faults ({worst}) by {without(worst)}", "at most 1", f"{ratios[worst]:.2f}"


def _never(by_name: Mapping[str, Row]) -> Facts:
    ours = [row for name, row in by_name.items() if name in (*OURS, *degraded_names())]
    sums = (sum(values) for values in zip(*(row.violations for row in ours), strict=True))
    yield "ours: too early / beyond limits / opposite, s", "0 / 0 / 0", " / ".join(f"{one:g}" for one in sums)
