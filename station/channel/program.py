"""Runs a program: where it stands, what it asks of the driver, and when a step ends."""

from dataclasses import dataclass

from station.channel.steps import Program, StepDemand, Work
from station.channel.trend import FRESH, Trend, watch
from station.drivers.protocol import ConstantCurrent, ConstantPower, Off, Sample

SETTLE_S = 0.3
"""The converter is still on its way from the last step's current: voltage says nothing about this step yet."""
RISE_S = 5.0
"""A current that has not risen above a step's end in this time will not: the battery is full already."""
STEPS_PER_TICK = 64
"""Bounds the work of one tick for programs of absurdly short steps."""
SECONDS_PER_HOUR = 3600.0
JUMP_S = 2.5
"""After this time the converter has arrived, and what the voltage has jumped is the battery's inner resistance."""
JUMP_RATIO = 0.1
"""Of the larger of two currents: a smaller change tells nothing of the resistance."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which instruction of a program, and on which way round."""

    index: int
    """Counted from 0; always a `Work`."""
    cycle_count: int = 1
    """Every jump back, and every repetition of the whole, counts one up."""
    jumps: tuple[tuple[int, int], ...] = ()
    """Jumps that are not through yet: their index, and how often each was taken."""
    repeats: int = 0
    """How often the whole program has ended."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where a program stands."""

    place: Place
    began_s: float
    """When the step began, monotonic; exact where the one before it ended by time."""
    charge_ah: float = 0.0
    """Since the step began, in either direction."""
    energy_wh: float = 0.0
    """Since the step began, in either direction."""
    risen: bool = False
    """The current has been above the one that ends the step."""
    trend: Trend = FRESH
    before: tuple[float, float] | None = None
    """Voltage and current (signed) at the end of the step before; null once the jump between the two was measured."""
    resistance_ohm: float | None = None
    """The battery's inner resistance over the first seconds, as the highest of the jumps so far shows it."""


def begin(now_s: float) -> Run:
    """Return a program at its start; it has at least one step, and the first is a `Work`."""
    return Run(Place(0), now_s)


def work_at(program: Program, place: Place) -> Work:
    """Return the step of a place."""
    work = program.instructions[place.index]
    assert isinstance(work, Work)  # noqa: S101 - narrows the union; `following` yields no other
    return work


def following(program: Program, place: Place) -> Place | None:
    """Return the place of the next step; null at the program's end."""
    index, cycle, jumps, repeats = place.index + 1, place.cycle_count, dict(place.jumps), place.repeats
    while True:
        if index == len(program.instructions):
            repeats += 1
            if program.repeat and repeats >= program.repeat:
                return None
            index, cycle, jumps = 0, cycle + 1, {}
        instruction = program.instructions[index]
        if isinstance(instruction, Work):
            return Place(index, cycle, tuple(jumps.items()), repeats)
        taken = jumps.pop(index, 0) + 1
        if instruction.times == 0 or taken < instruction.times:
            # An inner loop starts afresh every time that an outer one comes round.
            jumps = {at: count for at, count in jumps.items() if not instruction.target <= at < index}
            jumps[index] = taken
            index, cycle = instruction.target, cycle + 1
        else:
            index += 1


def advance(program: Program, run: Run, sample: Sample, elapsed_s: float, now_s: float) -> Run | None:
    """Return where the program stands after a sample, `elapsed_s` after the one before; null once it has ended."""
    work = work_at(program, run.place)
    hours = elapsed_s / SECONDS_PER_HOUR
    age_s = now_s - run.began_s
    run = Run(
        run.place,
        run.began_s,
        run.charge_ah + abs(sample.current_a) * hours,
        run.energy_wh + abs(sample.power_w) * hours,
        run.risen or work.ends.current_a is None or abs(sample.current_a) > work.ends.current_a,
        watch(run.trend, age_s, sample.voltage_v, sample.current_a),
        *_jump(run, sample, age_s),
    )
    if age_s < work.ends.time_s:
        return _next(program, run, sample, now_s) if _measured_end(work, run, sample, age_s) else run
    for _ in range(STEPS_PER_TICK):
        ended_s = run.began_s + work.ends.time_s
        if ended_s > now_s:
            break
        following_run = _next(program, run, sample, ended_s)
        if following_run is None:
            return None
        run, work = following_run, work_at(program, following_run.place)
    return run


def demand(program: Program, run: Run, voltage_v: float, now_s: float) -> StepDemand:
    """Return what the step asks for now, within the channel's rating at the present voltage."""
    return rated(program, demand_after(work_at(program, run.place), now_s - run.began_s), voltage_v)


def demand_after(work: Work, age_s: float) -> StepDemand:
    """Return what a step asks for `age_s` after its start, the rating left aside."""
    points = work.points
    if len(points) == 1:
        return points[0][1]
    into_run_s = max(age_s, 0.0) % work.run_s
    asked = points[0][1]
    for after_s, point in points:
        if after_s > into_run_s:
            break
        asked = point
    return asked


def rated(program: Program, asked: StepDemand, voltage_v: float) -> StepDemand:
    """Return a demand, cut to the channel's rating; itself where it is within."""
    match asked:
        case ConstantPower(power_w):
            if -program.discharge_limit_w <= power_w <= program.charge_limit_w:
                return asked
            return ConstantPower(min(max(power_w, -program.discharge_limit_w), program.charge_limit_w))
        case ConstantCurrent(current_a, voltage_limit_v):
            power_w = current_a * max(voltage_v, 0.0)
            if -program.discharge_limit_w <= power_w <= program.charge_limit_w:
                return asked
            limit_w = program.charge_limit_w if power_w > 0.0 else -program.discharge_limit_w
            return ConstantCurrent(limit_w / voltage_v, voltage_limit_v)
        case Off():
            return asked


def _next(program: Program, run: Run, sample: Sample, ended_s: float) -> Run | None:
    place = following(program, run.place)
    if place is None:
        return None
    return Run(place, ended_s, before=(sample.voltage_v, sample.current_a), resistance_ohm=run.resistance_ohm)


def _jump(run: Run, sample: Sample, age_s: float) -> tuple[tuple[float, float] | None, float | None]:
    """Return what is left to measure of the step's first jump, and the inner resistance as it is known then."""
    if run.before is None or age_s < JUMP_S:
        return run.before, run.resistance_ohm
    before_v, before_a = run.before
    change_a = sample.current_a - before_a
    if abs(change_a) <= JUMP_RATIO * max(abs(sample.current_a), abs(before_a)):
        return None, run.resistance_ohm
    shown_ohm = max((sample.voltage_v - before_v) / change_a, 0.0)
    return None, shown_ohm if run.resistance_ohm is None else max(run.resistance_ohm, shown_ohm)


def _measured_end(work: Work, run: Run, sample: Sample, age_s: float) -> bool:
    ends = work.ends
    if run.charge_ah >= ends.charge_ah or run.energy_wh >= ends.energy_wh:
        return True
    if ends.current_a is not None and abs(sample.current_a) <= ends.current_a and (run.risen or age_s >= RISE_S):
        return True
    if ends.voltage_v is None or age_s < SETTLE_S:
        return False
    sign = direction(demand_after(work, age_s))
    return (sample.voltage_v - ends.voltage_v) * sign >= 0.0 if sign else False


def direction(asked: StepDemand) -> int:
    """Return 1 for a demand that charges, -1 for one that discharges, 0 for none."""
    match asked:
        case ConstantPower(value) | ConstantCurrent(value):
            return (value > 0.0) - (value < 0.0)
        case Off():
            return 0
