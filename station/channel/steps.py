"""A configured program as instructions with their demands worked out once."""

from dataclasses import dataclass
from math import inf

from schemas.messages import StepType
from station.config import (
    CccvStep,
    ChannelSection,
    CurrentStep,
    CvStep,
    LoopStep,
    PowerStep,
    ProfilePoint,
    RestStep,
    SimStep,
    Step,
    Until,
)
from station.drivers.protocol import ConstantCurrent, ConstantPower, Off

StepDemand = Off | ConstantCurrent | ConstantPower
"""What a step of a program may ask of the driver."""


@dataclass(frozen=True, slots=True)
class Ends:
    """How a step ends: at the first of these."""

    time_s: float = inf
    voltage_v: float | None = None
    current_a: float | None = None
    charge_ah: float = inf
    energy_wh: float = inf


@dataclass(frozen=True, slots=True)
class Work:
    """A step that does something to the battery."""

    step_id: int
    step_type: StepType
    points: tuple[tuple[float, StepDemand], ...]
    """From when (s after the run's start) which demand holds; one point but for `sim`."""
    run_s: float
    """The length of one run through the points; infinite where the ends alone decide."""
    ends: Ends


@dataclass(frozen=True, slots=True)
class Jump:
    """Back to an earlier instruction."""

    target: int
    """Counted from 0."""
    times: int
    """How often the steps run in all; 0: for ever."""


Instruction = Work | Jump


@dataclass(frozen=True, slots=True)
class Program:
    """What a channel runs."""

    instructions: tuple[Instruction, ...]
    repeat: int
    """How often it runs; 0: for ever."""
    charge_limit_w: float
    """The channel's rating: no step asks for more."""
    discharge_limit_w: float


def compile_program(settings: ChannelSection) -> Program:
    """Return a channel's configured program, ready to run."""
    return Program(
        tuple(_instruction(number, step) for number, step in enumerate(settings.program, start=1)),
        settings.repeat,
        settings.charge_limit_w,
        settings.discharge_limit_w,
    )


def _instruction(step_id: int, step: Step) -> Instruction:
    if isinstance(step, LoopStep):
        return Jump(step.first - 1, step.times)
    if isinstance(step, SimStep):
        points = tuple((point.after_s, _profile_demand(point)) for point in step.profile)
        length_s = inf if step.runs == 0 else step.runs * step.duration_s
        return Work(step_id, StepType.SIM, points, step.duration_s, _ends(step.until, length_s))
    return Work(step_id, StepType(step.step), ((0.0, _demand(step)),), inf, _ends(step.until, inf))


def _demand(step: RestStep | CurrentStep | CccvStep | CvStep | PowerStep) -> StepDemand:
    match step:
        case RestStep():
            return Off()
        case CurrentStep():
            return ConstantCurrent(step.current_a if step.step == "cc_chg" else -step.current_a)
        case CccvStep() | CvStep():
            # A converter at its current limit below the voltage is in constant current: one demand serves both.
            return ConstantCurrent(step.current_a, step.voltage_v)
        case PowerStep():
            return ConstantPower(step.power_w if step.step == "cp_chg" else -step.power_w)


def _profile_demand(point: ProfilePoint) -> StepDemand:
    if point.power_w is not None:
        return ConstantPower(point.power_w)
    return ConstantCurrent(point.current_a if point.current_a is not None else 0.0)


def _ends(until: Until | None, length_s: float) -> Ends:
    if until is None:
        return Ends(time_s=length_s)
    return Ends(
        time_s=length_s if until.time_s is None else min(length_s, until.time_s),
        voltage_v=until.voltage_v,
        current_a=until.current_a,
        charge_ah=inf if until.charge_ah is None else until.charge_ah,
        energy_wh=inf if until.energy_wh is None else until.energy_wh,
    )
