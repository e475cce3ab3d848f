"""When a step will end: exactly, expectedly, or no sooner than."""

from dataclasses import dataclass
from math import inf, log, sqrt

from station.channel.program import SECONDS_PER_HOUR, direction
from station.channel.prospect import Prospect, magnitudes
from station.drivers.protocol import ConstantCurrent

INNER_RESISTANCE_RATIO = 0.03
"""The part of its voltage that a battery may jump by at once when its current changes."""
FASTEST_VOLTAGE_RATIO_PER_S = 0.0025
"""The fastest that a battery's voltage moves then: all of its range in two minutes, or 5C into the knee."""
LIKELY_VOLTAGE_RATIO_PER_S = 0.0005
"""What a battery's voltage moves by in all but the steepest parts of its range: all of it in ten minutes."""
UNLIKELY_SIGMA_RATIO = 1.0 / 12.0
"""Spread of an end by time that the voltage may forestall, but is not likely to: some 3 %, for anywhere between."""
LONGEST_PULSE_S = 60.0
"""A step that time ends is looked at so, where it is no longer than this."""
SHORT_PULSE_S = 10.5
"""What may end at any moment within this time is told with its spread, evenly spread as it is."""
FASTEST_DECAY_S = 10.0
"""The shortest time constant with which the current of a constant voltage falls."""
ACCELERATION = 4.0
"""The slope of a voltage steepens towards its end: it may come in this part of the time that the slope promises."""
SLOPE_SIGMA_RATIO = 0.35
"""Spread of an end that is foretold from a slope, relative to the time that is left."""
FLOW_SIGMA_RATIO = 0.01
"""Spread of an end by charge at constant current, or by energy at constant power."""
DRIFT_SIGMA_RATIO = 0.03
"""Spread of an end by charge at constant power, or by energy at constant current: the voltage drifts."""
SMALLEST_SIGMA_S = 0.3
FORETOLD_S = 90.0
"""A slope is not drawn out further than this."""


@dataclass(frozen=True, slots=True)
class Exact:
    """The step ends after this time."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Expected:
    """The step ends about then."""

    after_s: float
    sigma_s: float


@dataclass(frozen=True, slots=True)
class NotBefore:
    """The step lasts at least so long; more is not known."""

    after_s: float


End = Exact | Expected | NotBefore


def end_of(prospect: Prospect) -> End:
    """Return when a step will end, counted from now (or from its start, where it has not begun)."""
    exact_s = max(prospect.work.ends.time_s - prospect.age_s, 0.0)
    by_voltage = _voltage_end(prospect)
    by_either = _pulse_end(prospect, by_voltage, exact_s)
    ends = (_flow_end(prospect), by_voltage if by_either is None else None, _current_end(prospect))
    found = [end for end in ends if end is not None]
    expected = min((end for end in found if isinstance(end, Expected)), key=lambda end: end.after_s, default=None)
    soonest_s = min((end.after_s for end in found if isinstance(end, NotBefore)), default=inf)
    if expected is not None and expected.after_s < min(exact_s, soonest_s):
        return expected
    if soonest_s < exact_s:
        return NotBefore(soonest_s)
    return Exact(exact_s) if by_either is None else by_either


def _pulse_end(prospect: Prospect, by_voltage: End | None, exact_s: float) -> Expected | None:
    """Return when a pulse that time ends, or the voltage before, is expected to end; null for any other step.

    Where the voltage is far from its limit, time is likely to end it. Where it is near, the end may come at any moment
    from the soonest on; of a short pulse, that still tells what comes after it.
    """
    if not isinstance(by_voltage, NotBefore) or not by_voltage.after_s < exact_s <= LONGEST_PULSE_S:
        return None
    if not prospect.jumped or len(prospect.work.points) > 1:
        return None
    open_s = exact_s - by_voltage.after_s
    if _gap_v(prospect) >= exact_s * LIKELY_VOLTAGE_RATIO_PER_S * prospect.voltage_v:
        return Expected(exact_s, max(SMALLEST_SIGMA_S, UNLIKELY_SIGMA_RATIO * open_s))
    if open_s > SHORT_PULSE_S:
        return None
    return Expected(exact_s - 0.5 * open_s, max(SMALLEST_SIGMA_S, open_s / sqrt(12.0)))


def _gap_v(prospect: Prospect) -> float:
    """Return how far the voltage is from the step's end, in the direction in which it moves."""
    end_v = prospect.work.ends.voltage_v
    return inf if end_v is None else (end_v - prospect.voltage_v) * direction(prospect.asked)


def _flow_end(prospect: Prospect) -> End | None:
    """By charge or energy: what is left over what flows."""
    ends, found = prospect.work.ends, []
    if len(prospect.work.points) > 1:
        return _fastest_flow_end(prospect)
    by_current = isinstance(prospect.asked, ConstantCurrent)
    for end_at, done, flow, steady in (
        (ends.charge_ah, prospect.charge_ah, prospect.current_a, by_current),
        (ends.energy_wh, prospect.energy_wh, prospect.power_w, not by_current),
    ):
        if end_at < inf and flow > 0.0:
            after_s = max(end_at - done, 0.0) / flow * SECONDS_PER_HOUR
            ratio = FLOW_SIGMA_RATIO if steady else DRIFT_SIGMA_RATIO
            found.append((after_s, max(SMALLEST_SIGMA_S, ratio * after_s)))
    if not found:
        return None
    after_s, sigma_s = min(found)
    return NotBefore(after_s) if prospect.held_back else Expected(after_s, sigma_s)


def _fastest_flow_end(prospect: Prospect) -> End | None:
    """Of a profile: as if its highest point held on."""
    ends = prospect.work.ends
    peaks = [magnitudes(asked, prospect.voltage_v) for _, asked in prospect.work.points]
    current_a, power_w = max(peak[0] for peak in peaks), max(peak[1] for peak in peaks)
    times_s = [
        max(end_at - done, 0.0) / flow * SECONDS_PER_HOUR
        for end_at, done, flow in (
            (ends.charge_ah, prospect.charge_ah, current_a),
            (ends.energy_wh, prospect.energy_wh, power_w),
        )
        if end_at < inf and flow > 0.0
    ]
    return NotBefore(min(times_s)) if times_s else None


def _voltage_end(prospect: Prospect) -> End | None:
    end_v = prospect.work.ends.voltage_v
    sign = direction(prospect.asked)
    profile = len(prospect.work.points) > 1
    if end_v is None or (sign == 0 and not profile):
        return None
    if profile:
        return NotBefore(_soonest_to_cover_s(abs(end_v - prospect.voltage_v), prospect.voltage_v))
    return _slope_end(prospect, _gap_v(prospect), sign)


def _slope_end(prospect: Prospect, gap_v: float, sign: int) -> End:
    slope = prospect.trend.volts_per_s
    if slope is None and not prospect.jumped:
        return NotBefore(_soonest_to_cover_s(gap_v, prospect.voltage_v))
    # The jump over the inner resistance is past, or known: only the steady movement is left.
    fastest_s = max(gap_v, 0.0) / max(prospect.voltage_v * FASTEST_VOLTAGE_RATIO_PER_S, 1e-9)
    if slope is None:
        return NotBefore(fastest_s)
    if slope * sign <= 0.0:
        return NotBefore(fastest_s)
    after_s = max(gap_v, 0.0) / (slope * sign)
    sigma_s = max(1.0, SLOPE_SIGMA_RATIO * after_s)
    return Expected(after_s, sigma_s) if after_s <= FORETOLD_S else NotBefore(max(fastest_s, after_s / ACCELERATION))


def _current_end(prospect: Prospect) -> End | None:
    end_a = prospect.work.ends.current_a
    if end_a is None:
        return None
    fall = log(max(prospect.current_a, 1e-9) / end_a) if end_a > 0.0 else inf
    soonest_s = max(fall, 0.0) * FASTEST_DECAY_S
    decay = prospect.trend.decay_per_s
    if prospect.held_back and decay is not None and decay > 0.0 and fall > 0.0:
        after_s = fall / decay
        if after_s <= FORETOLD_S:
            return Expected(after_s, max(1.0, SLOPE_SIGMA_RATIO * after_s))
        return NotBefore(max(soonest_s, after_s / ACCELERATION))
    limit_v = prospect.asked.voltage_limit_v if isinstance(prospect.asked, ConstantCurrent) else None
    if limit_v is not None and not prospect.held_back:
        soonest_s += _soonest_to_cover_s(limit_v - prospect.voltage_v, prospect.voltage_v)
    return NotBefore(soonest_s)


def _soonest_to_cover_s(gap_v: float, voltage_v: float) -> float:
    if voltage_v <= 0.0:
        return 0.0
    return max(gap_v / voltage_v - INNER_RESISTANCE_RATIO, 0.0) / FASTEST_VOLTAGE_RATIO_PER_S
