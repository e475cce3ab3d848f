"""What the channel's own program will do next, as segments of power that hold up to where knowledge ends."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil, floor, hypot, inf

from schemas.messages import PlanSegment
from station.channel.estimate import Exact, Expected, NotBefore, end_of
from station.channel.program import Run, demand_after, direction, following, rated, work_at
from station.channel.prospect import Prospect, magnitudes, present, to_come
from station.channel.steps import Program, StepDemand, Work
from station.drivers.protocol import Sample

HORIZON_S = 120.0
MOST_SEGMENTS = 256
"""A message stays well below the contract's 64 KiB."""
STEPS_AHEAD = 512
"""Bounds the work for programs of absurdly short steps."""
POINTS_AHEAD = 4096
"""The same for the points of a profile; more than a message holds, as points of equal power are one segment."""
RAMP_PARTS = 16


@dataclass(frozen=True, slots=True)
class Forecast:
    """Powers to come, counted from now."""

    segments: tuple[PlanSegment, ...]
    until_s: float


@dataclass(slots=True)
class _Sketch:
    """Segments as they are found; full at the horizon, or at as many as fit."""

    horizon_s: float
    found: list[tuple[float, float, float]] = field(default_factory=list)
    """After (s), power (W), sigma (s)."""
    until_s: float = inf

    @property
    def open(self) -> bool:
        return self.until_s == inf

    def add(self, after_s: float, power_w: float, sigma_s: float) -> None:
        after_s, power_w = round(max(after_s, 0.0), 3), round(power_w, 3)
        if after_s >= self.horizon_s and self.found:
            self.close(self.horizon_s)
        elif self.found and power_w == self.found[-1][1]:
            pass
        elif self.found and after_s <= self.found[-1][0]:
            self.found[-1] = (self.found[-1][0], power_w, self.found[-1][2])
        elif len(self.found) == MOST_SEGMENTS:
            self.close(after_s)
        else:
            self.found.append((after_s, power_w, sigma_s))

    def close(self, until_s: float) -> None:
        self.until_s = min(self.until_s, until_s, self.horizon_s)

    def forecast(self) -> Forecast:
        self.close(self.horizon_s)
        kept = [self.found[0], *(item for item in self.found[1:] if item[0] < self.until_s)]
        return Forecast(
            tuple(
                PlanSegment(after_s=after_s, power_w=power_w, sigma_s=round(sigma_s, 3) if sigma_s > 0.0 else None)
                for after_s, power_w, sigma_s in kept
            ),
            round(self.until_s, 3),
        )


def nothing_happens(horizon_s: float = HORIZON_S) -> Forecast:
    """Return the plan of a channel that stays at 0 W until an operator does something."""
    return Forecast((PlanSegment(after_s=0.0, power_w=0.0),), horizon_s)


def ramp_down(power_w: float, ramp_w_per_s: float, horizon_s: float = HORIZON_S) -> Forecast:
    """Return the plan of a channel that has been stopped: down to 0 W, in parts of a tick or longer."""
    duration_s = abs(power_w) / ramp_w_per_s
    parts = min(max(ceil(duration_s / 0.1), 1), RAMP_PARTS)
    sketch = _Sketch(horizon_s)
    for part in range(parts):
        sketch.add(part / parts * duration_s, power_w * (1.0 - (part + 0.5) / parts), 0.0)
    sketch.add(duration_s, 0.0, 0.0)
    return sketch.forecast()


def foresee(program: Program, run: Run, sample: Sample, now_s: float, horizon_s: float = HORIZON_S) -> Forecast:
    """Return what a program will do from now on, step after step, as far as anything is known.

    The power of a constant current is that current at the present voltage. An uncertain end makes the begin of all that
    follows it uncertain.
    """
    sketch, place = _Sketch(horizon_s), run.place
    start_s, age_s, sigma_s = 0.0, max(now_s - run.began_s, 0.0), 0.0
    for step in range(STEPS_AHEAD):
        if not sketch.open or start_s >= horizon_s:
            break
        work = work_at(program, place)
        asked = rated(program, demand_after(work, age_s), sample.voltage_v)
        prospect = present(work, asked, run, sample, age_s) if step == 0 else to_come(work, asked, run, sample)
        end = end_of(prospect)
        powers = _powers(program, prospect, age_s, min(end.after_s, horizon_s - start_s))
        for point, (after_s, power_w) in enumerate(powers):
            if point == POINTS_AHEAD:
                sketch.close(start_s + after_s)
            if not sketch.open:
                break
            sketch.add(start_s + after_s, power_w, sigma_s)
        start_s += end.after_s
        match end:
            case NotBefore():
                sketch.close(start_s)
            case Expected(_, own_sigma_s):
                sigma_s = hypot(sigma_s, own_sigma_s)
            case Exact():
                pass
        following_place = following(program, place)
        if following_place is None:
            sketch.add(start_s, 0.0, sigma_s)
            break
        place, age_s = following_place, 0.0
    else:
        sketch.close(start_s)
    return sketch.forecast()


def _powers(program: Program, prospect: Prospect, age_s: float, length_s: float) -> Iterator[tuple[float, float]]:
    """Yield from when (s from now) a step has which power (W)."""
    work = prospect.work
    if len(work.points) == 1:
        yield 0.0, direction(prospect.asked) * prospect.power_w
        return
    yield 0.0, _signed_power_w(program, demand_after(work, age_s), prospect.voltage_v)
    for after_s, asked in _edges(work, age_s, length_s):
        yield after_s, _signed_power_w(program, asked, prospect.voltage_v)


def _edges(work: Work, age_s: float, length_s: float) -> Iterator[tuple[float, StepDemand]]:
    """Yield the points of a profile that lie ahead, run after run."""
    runs = floor(age_s / work.run_s)
    while True:
        for at_s, asked in work.points:
            after_s = runs * work.run_s + at_s - age_s
            if after_s >= length_s:
                return
            if after_s > 0.0:
                yield after_s, asked
        runs += 1


def _signed_power_w(program: Program, asked: StepDemand, voltage_v: float) -> float:
    within = rated(program, asked, voltage_v)
    return direction(within) * magnitudes(within, voltage_v)[1]
