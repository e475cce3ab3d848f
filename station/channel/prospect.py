"""What is known of a step, the present one or one to come, at the moment of asking."""

from dataclasses import dataclass

from station.channel.program import JUMP_S, Run, direction
from station.channel.steps import StepDemand, Work
from station.channel.trend import FRESH, Trend
from station.drivers.protocol import ConstantCurrent, ConstantPower, Off, Sample

CONTROLLED_S = 2.0
"""After this time a current below what was asked for means that the equipment holds it back."""
AT_LIMIT_RATIO = 0.999
"""Of the voltage limit: from here on the voltage is held."""
HELD_BACK_RATIO = 0.97
"""Of the current that was asked for: what the equipment's own accuracy leaves below it."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is known of a step at the moment of asking: the present one, or one to come (then its age is 0)."""

    work: Work
    asked: StepDemand
    age_s: float
    charge_ah: float
    energy_wh: float
    trend: Trend
    voltage_v: float
    current_a: float
    """Expected magnitude."""
    power_w: float
    """Expected magnitude."""
    held_back: bool
    """The current is below what was asked for, and need not stay as it is."""
    jumped: bool = False
    """`voltage_v` contains what the voltage jumps by when the step's current begins."""


def present(work: Work, asked: StepDemand, run: Run, sample: Sample, age_s: float) -> Prospect:
    """Return the prospect of the step that runs."""
    voltage_v, jumped = sample.voltage_v, age_s >= JUMP_S
    if not jumped:
        voltage_v, jumped = after_jump(asked, run, sample)
    current_a, power_w = magnitudes(asked, voltage_v)
    held_back = _limited(asked, sample.voltage_v)
    if age_s >= CONTROLLED_S and isinstance(asked, ConstantCurrent | ConstantPower):
        measured_a, measured_w = abs(sample.current_a), abs(sample.power_w)
        held_back = held_back or measured_a < HELD_BACK_RATIO * current_a
        if held_back:
            current_a, power_w = measured_a, measured_w
    return Prospect(
        work,
        asked,
        age_s,
        run.charge_ah,
        run.energy_wh,
        run.trend,
        voltage_v,
        current_a,
        power_w,
        held_back,
        jumped,
    )


def to_come(work: Work, asked: StepDemand, run: Run, sample: Sample) -> Prospect:
    """Return the prospect of a step that has not begun."""
    voltage_v, jumped = after_jump(asked, run, sample)
    current_a, power_w = magnitudes(asked, voltage_v)
    limited = _limited(asked, voltage_v)
    return Prospect(work, asked, 0.0, 0.0, 0.0, FRESH, voltage_v, current_a, power_w, limited, jumped)


def after_jump(asked: StepDemand, run: Run, sample: Sample) -> tuple[float, bool]:
    """Return the voltage once a demand's current flows, and whether the jump to it is known (else: as it is now)."""
    if run.resistance_ohm is None:
        return sample.voltage_v, False
    rest_v = sample.voltage_v - run.resistance_ohm * sample.current_a
    current_a = direction(asked) * magnitudes(asked, rest_v)[0]
    return rest_v + run.resistance_ohm * current_a, True


def magnitudes(asked: StepDemand, voltage_v: float) -> tuple[float, float]:
    """Return current and power of a demand at a voltage, both without sign."""
    match asked:
        case ConstantPower(power_w):
            return (abs(power_w) / voltage_v if voltage_v > 0.0 else 0.0), abs(power_w)
        case ConstantCurrent(current_a, limit_v):
            at_v = voltage_v if limit_v is None else min(voltage_v, limit_v)
            return abs(current_a), abs(current_a) * max(at_v, 0.0)
        case Off():
            return 0.0, 0.0


def _limited(asked: StepDemand, voltage_v: float) -> bool:
    limit_v = asked.voltage_limit_v if isinstance(asked, ConstantCurrent) else None
    return limit_v is not None and voltage_v >= AT_LIMIT_RATIO * limit_v
