"""What a test channel will draw, worked out beforehand: its power by the second, and the edges that are known ahead."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, exp, floor, inf
from pathlib import Path

import numpy as np
import numpy.typing as npt

from station.channel.program import RISE_S, Place, direction, following, work_at
from station.channel.steps import Program, Work, compile_program
from station.config import ChannelSection
from station.drivers.protocol import ConstantCurrent, ConstantPower, OwnProgram
from station.drivers.replay import ReplayDriver
from station.drivers.simulated.battery import Battery
from station.drivers.simulated.cells import GRID
from station.drivers.simulated.options import channel_options
from station.rack import hardware

Floats = npt.NDArray[np.float64]

CHUNK_S = 900
"""So many seconds of a constant current are looked at together."""
SECONDS_PER_HOUR = 3600.0
STRAIGHT_RATIO = 1e-12
"""Within so little charge, a battery's curve is its slope."""


@dataclass(slots=True)
class Course:
    """A channel's power: from edge to edge, and second by second."""

    length_s: int
    power_w: npt.NDArray[np.float32]
    """In the seconds [k, k + 1)."""
    edge_s: list[float] = field(default_factory=lambda: [0.0])
    edge_w: list[float] = field(default_factory=lambda: [0.0])
    """Right after the edge."""
    ahead: list[bool] = field(default_factory=lambda: [False])
    """Whether the time of the edge is known ahead."""
    step: list[bool] = field(default_factory=lambda: [True])
    """Whether a step of the program begins."""

    def add(self, at_s: float, power_w: float, *, ahead: bool, step: bool) -> None:
        """Add an edge."""
        self.edge_s.append(at_s)
        self.edge_w.append(power_w)
        self.ahead.append(ahead)
        self.step.append(step)

    def fill(self, from_s: float, powers_w: Floats | float, to_s: float) -> None:
        """Fill the seconds from one time to another."""
        first, last = min(floor(from_s + 0.5), self.length_s), min(floor(to_s + 0.5), self.length_s)
        self.power_w[first:last] = powers_w if isinstance(powers_w, float) else powers_w[: last - first]


def course(section: ChannelSection, base_dir: Path, *, start_s: float, stop_s: float, length_s: int) -> Course:
    """Return a channel's course: at rest up to its start, at work up to its stop.

    Args:
        section: of station.toml.
        base_dir: where paths in it start from.
        start_s: when it starts.
        stop_s: when it is stopped, and stays so; infinite: never.
        length_s: for how long it is worked out.

    Raises:
        DriverConfigurationError: the channel cannot be used.
    """
    made = Course(length_s, np.zeros(length_s, np.float32))
    end_s = min(stop_s, float(length_s))
    if section.program:
        _Walk(section, made, end_s).run(start_s)
    else:
        _play(section, base_dir, made, start_s, end_s)
    if stop_s < length_s:
        made.add(stop_s, 0.0, ahead=False, step=True)
    _ramp(made, section.ramp_w_per_s)
    return made


class _Walk:
    """A program on its battery."""

    def __init__(self, section: ChannelSection, made: Course, end_s: float) -> None:
        self._program: Program = compile_program(section)
        self._battery: Battery = channel_options(hardware(section)).battery.build()
        self._ocv_v = np.array([self._battery.parameters.ocv.at(k / GRID) for k in range(GRID + 1)])
        own = self._battery.parameters
        self._after_s = np.arange(1.0, CHUNK_S + 1.0)
        self._keeps = [np.exp(-self._after_s / tau_s) for tau_s in (own.tau1_s, own.tau2_s)]
        """What is left of the RC pairs' voltages after so many seconds."""
        self._limits_w = section.charge_limit_w, section.discharge_limit_w
        self._made = made
        self._end_s = end_s
        self._ahead = False

    def run(self, start_s: float) -> None:
        """Walk from step to step."""
        place: Place | None = Place(0)
        at_s = start_s
        while place is not None and at_s < self._end_s:
            work = work_at(self._program, place)
            began_s = at_s
            at_s, by_time = self._step(work, at_s)
            self._ahead = by_time
            place = following(self._program, place)
            if at_s <= began_s:
                at_s = began_s + 1.0  # a step of no length would never end
        if place is None and at_s < self._end_s:
            self._made.add(at_s, 0.0, ahead=self._ahead, step=True)

    def _step(self, work: Work, at_s: float) -> tuple[float, bool]:
        """Fill in a step; return when it ends, and whether that is known ahead."""
        if len(work.points) > 1:
            return self._profile(work, at_s)
        asked = work.points[0][1]
        match asked:
            case ConstantCurrent():
                return self._current(work, asked, at_s)
            case ConstantPower(power_w):
                return self._power(work, power_w, at_s)
            case _:
                ends_s = min(at_s + work.ends.time_s, self._end_s)
                self._made.add(at_s, 0.0, ahead=self._ahead, step=True)
                self._battery.advance(ends_s - at_s, 0.0)
                return ends_s, True

    def _profile(self, work: Work, at_s: float) -> tuple[float, bool]:
        """A profile in time: its end is its length's, whatever the battery does."""
        made, step = self._made, True
        ends_s, run_s = min(at_s + work.ends.time_s, self._end_s), at_s
        while run_s < ends_s:
            times_s = [run_s + after_s for after_s, _ in work.points] + [run_s + work.run_s]
            for n, (_, asked) in enumerate(work.points):
                if times_s[n] >= ends_s:
                    break
                until_s = min(times_s[n + 1], ends_s)
                power_w = self._clipped(asked.power_w if isinstance(asked, ConstantPower) else 0.0)
                made.add(times_s[n], power_w, ahead=self._ahead or not step, step=step)
                made.fill(times_s[n], power_w, until_s)
                self._flow(power_w, until_s - times_s[n])
                step = False
            run_s += work.run_s
        return ends_s, True

    def _power(self, work: Work, asked_w: float, at_s: float) -> tuple[float, bool]:
        ends = work.ends
        power_w = self._clipped(asked_w)
        self._made.add(at_s, power_w, ahead=self._ahead, step=True)
        energy_s = ends.energy_wh * SECONDS_PER_HOUR / abs(power_w) if power_w != 0.0 else inf
        lasts_s, by_time = min(ends.time_s, energy_s), ends.time_s <= energy_s
        lasts_s = min(lasts_s, self._end_s - at_s)
        done_s = 0.0
        while done_s < lasts_s:
            for_s = min(10.0, lasts_s - done_s)
            current_a = self._flow(power_w, for_s)
            self._made.fill(at_s + done_s, power_w, at_s + done_s + for_s)
            done_s += for_s
            voltage_v = self._battery.relaxed_v() + self._battery.parameters.r0_ohm * current_a
            if ends.voltage_v is not None and (voltage_v - ends.voltage_v) * current_a >= 0.0:
                return at_s + done_s, False
        return at_s + lasts_s, by_time

    def _current(self, work: Work, asked: ConstantCurrent, at_s: float) -> tuple[float, bool]:
        """A constant current up to an end; where a voltage limit holds it, it falls second by second."""
        made, ends, battery = self._made, work.ends, self._battery
        sign = float(direction(asked))
        current_a = asked.current_a
        charge_s = ends.charge_ah * SECONDS_PER_HOUR / abs(current_a) if current_a != 0.0 else inf
        lasts_s = min(ends.time_s, charge_s, self._end_s - at_s)
        by_time = ends.time_s <= charge_s
        edge, done_s = len(made.edge_s), 0.0
        made.add(at_s, 0.0, ahead=self._ahead, step=True)
        while done_s < lasts_s:
            for_s = min(float(CHUNK_S), lasts_s - done_s)
            voltage_v = self._voltages(current_a, ceil(for_s))
            power_w = voltage_v * current_a
            if done_s == 0.0:
                made.edge_w[edge] = float(power_w[0])
            crossed = len(voltage_v)
            for limit_v in (ends.voltage_v, asked.voltage_limit_v):
                if limit_v is not None:
                    beyond = (voltage_v - limit_v) * sign >= 0.0
                    crossed = min(crossed, int(beyond.argmax()) if beyond.any() else crossed)
            kept_s = min(for_s, float(crossed))
            made.fill(at_s + done_s, power_w, at_s + done_s + kept_s)
            battery.advance(kept_s, current_a)
            done_s += kept_s
            if crossed < len(voltage_v):
                if asked.voltage_limit_v is None or ends.voltage_v is not None:
                    return at_s + max(done_s, 1.0), False
                return self._held(work, asked.voltage_limit_v, current_a, at_s + done_s, at_s + lasts_s)
        return at_s + lasts_s, by_time

    def _held(self, work: Work, limit_v: float, current_a: float, from_s: float, to_s: float) -> tuple[float, bool]:
        """Constant voltage, second by second."""
        battery, least_a = self._battery, work.ends.current_a
        own, ocv, at_s = battery.parameters, battery.parameters.ocv, from_s
        # What `Battery.response` and `Battery.advance` do in a second; what stays the same in each, worked out once.
        keep1, keep2 = exp(-1.0 / own.tau1_s), exp(-1.0 / own.tau2_s)
        gain1_ohm, gain2_ohm = own.r1_ohm * (1.0 - keep1), own.r2_ohm * (1.0 - keep2)
        soc, rc1_v, rc2_v, start_v = battery.soc_ratio, battery.rc1_v, battery.rc2_v, ocv.at(battery.soc_ratio)
        capacity_as = SECONDS_PER_HOUR * own.capacity_ah
        powers_w: list[float] = []
        ended = False
        while at_s < to_s and not ended:
            stored = own.charge_efficiency_ratio if current_a > 0.0 else 1.0
            moved = stored / capacity_as * current_a
            slope = (ocv.at(soc + moved) - start_v) / moved if abs(moved) > STRAIGHT_RATIO else ocv.slope(soc)
            source_v = start_v + rc1_v * keep1 + rc2_v * keep2
            ohm = own.r0_ohm + (slope * (stored / capacity_as) + gain1_ohm + gain2_ohm)
            current_a = max(0.0, min(current_a, (limit_v - source_v) / ohm))
            rc1_v, rc2_v = rc1_v * keep1 + gain1_ohm * current_a, rc2_v * keep2 + gain2_ohm * current_a
            soc += (own.charge_efficiency_ratio if current_a > 0.0 else 1.0) * current_a / capacity_as
            start_v = ocv.at(soc)
            powers_w.append(limit_v * current_a)
            at_s += 1.0
            ended = least_a is not None and current_a <= least_a and at_s - from_s >= RISE_S
        battery.soc_ratio, battery.rc1_v, battery.rc2_v = soc, rc1_v, rc2_v
        self._made.fill(from_s, np.array(powers_w), at_s)
        return (at_s, False) if ended else (to_s, True)

    def _voltages(self, current_a: float, seconds: int) -> Floats:
        """Return the terminal voltage under a constant current, second by second; `CHUNK_S` at the most."""
        own, battery, after_s = self._battery.parameters, self._battery, self._after_s[:seconds]
        stored = own.charge_efficiency_ratio if current_a > 0.0 else 1.0
        soc = battery.soc_ratio + stored * current_a * after_s / (SECONDS_PER_HOUR * own.capacity_ah)
        place = np.clip(soc * GRID, 0.0, GRID - 1e-9)
        k = place.astype(np.int64)
        ocv_v = self._ocv_v[k] + (place - k) * (self._ocv_v[k + 1] - self._ocv_v[k])
        voltage_v: Floats = ocv_v + own.r0_ohm * current_a
        pairs = (battery.rc1_v, own.r1_ohm), (battery.rc2_v, own.r2_ohm)
        for (rc_v, ohm), keeps in zip(pairs, self._keeps, strict=True):
            keep = keeps[:seconds]
            voltage_v += rc_v * keep + ohm * current_a * (1.0 - keep)
        return voltage_v

    def _clipped(self, power_w: float) -> float:
        """Return a power within the rating, and 0 W where the battery is full or empty."""
        charge_w, discharge_w = self._limits_w
        soc = self._battery.soc_ratio
        if (power_w > 0.0 and soc >= 1.0) or (power_w < 0.0 and soc <= 0.0):
            return 0.0
        return min(max(power_w, -discharge_w), charge_w)

    def _flow(self, power_w: float, for_s: float) -> float:
        """Let a power flow; return its current."""
        own = self._battery.parameters
        slope = own.ocv.at(self._battery.soc_ratio) + self._battery.rc1_v + self._battery.rc2_v
        root = slope * slope + 4.0 * own.r0_ohm * power_w
        current_a = 2.0 * power_w / (slope + float(np.sqrt(max(root, 0.0))))
        self._battery.advance(for_s, current_a)
        return current_a


def _play(section: ChannelSection, base_dir: Path, made: Course, start_s: float, end_s: float) -> None:
    """Fill in a recording, as its driver foretells it."""
    driver = ReplayDriver(base_dir)
    asyncio.run(driver.open([hardware(section)]))
    driver.exchange(section.id, OwnProgram(), start_s)
    pieces = list(_pieces(driver, section.id, start_s, end_s))
    for (at_s, power_w), (until_s, _) in pairwise([*pieces, (end_s, 0.0)]):
        first = at_s == pieces[0][0]
        made.fill(at_s, power_w, until_s)
        made.add(at_s, power_w, ahead=not first, step=first)


def _pieces(driver: ReplayDriver, channel: str, at_s: float, end_s: float) -> Iterator[tuple[float, float]]:
    while at_s < end_s:
        preview = driver.preview(channel, end_s - at_s, at_s)
        if preview is None:
            return
        for segment in preview.segments:
            yield at_s + segment.after_s, segment.power_w
        at_s += preview.until_s


def _ramp(made: Course, ramp_w_per_s: float) -> None:
    """Bound how fast the power changes from second to second."""
    power_w = made.power_w
    for n in np.flatnonzero(np.abs(np.diff(power_w)) > ramp_w_per_s).tolist():
        k, before_w = n + 1, float(power_w[n])
        while k < len(power_w) and abs(power_w[k] - before_w) > ramp_w_per_s:
            before_w += ramp_w_per_s if power_w[k] > before_w else -ramp_w_per_s
            power_w[k] = before_w
            k += 1
