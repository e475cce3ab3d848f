"""A bidirectional converter on a battery: follows a demand within its ramp and limits, and protects itself.

A setpoint's power changes no faster than the ramp. Two things are faster, both only towards 0 A: holding a voltage
limit, and protection.

`ConstantPower`, the demand that follows somebody else's wish, keeps to the derated limits. `ConstantCurrent`, the
demand of a test that leads a battery to its limits on purpose, keeps to the ratings and its own voltage limit.

Sign: positive current and power charge.
"""

from dataclasses import dataclass
from math import copysign

from schemas.messages import Alarm, AlarmCode, Values
from station.drivers.protocol import (
    ConstantCurrent,
    ConstantPower,
    Demand,
    DeviceFaultError,
    Off,
    OwnProgram,
    Sample,
)
from station.drivers.simulated.battery import Battery, Response

LONGEST_STEP_S = 5.0
"""Of the battery's time: the current at constant power drifts by less than 1e-4 in it."""
HELD_STEP_S = 0.5
"""Of the battery's time: at constant voltage the current follows the quicker RC pair."""
RAMP_STEP_S = 0.25
MOST_STEPS = 2000
"""In one advance; a gap of hours is integrated coarsely rather than for long."""
DERATE_SOC_RATIO = 0.05
"""The last part of the charge on either side, in which the limits fall to 0 W."""
SETTLED_RATIO = 1e-3
"""A change below this part of the rating is no ramp."""
UNUSED_W = 0.0, 0.0
"""A test that leads a battery to its limits on purpose keeps to the ratings."""
SHARE_AT_ONCE = 1.0
SHARE_ON_RAMP = 0.5


@dataclass(frozen=True, slots=True)
class Ratings:
    """What a channel can do and where it trips; whole battery, magnitudes."""

    charge_limit_w: float
    discharge_limit_w: float
    ramp_w_per_s: float
    max_current_a: float
    over_current_a: float
    voltage_max_v: float
    voltage_min_v: float
    over_voltage_v: float
    under_voltage_v: float
    over_temperature_degc: float


class SimulatedChannel:
    """One channel and its battery."""

    def __init__(
        self, ratings: Ratings, battery: Battery, *, connected: bool, reverse: bool, time_scale: float
    ) -> None:
        self.ratings = ratings
        self.battery = battery
        self.connected = connected
        self.reverse = reverse
        self.current_a = 0.0
        self.power_w = 0.0
        self.fault: Alarm | None = None
        self._demand: Demand = Off()
        self._time_scale = time_scale
        self._settled_w = SETTLED_RATIO * max(ratings.charge_limit_w, ratings.discharge_limit_w)

    def advance(self, duration_s: float) -> None:
        """Let time pass under the demand that holds."""
        longest_s = max(LONGEST_STEP_S / self._time_scale, duration_s / MOST_STEPS)
        remaining_s = duration_s
        while remaining_s > 1e-9:  # noqa: PLR2004 - rounding's remainder, far below any tick
            step_s = min(remaining_s, longest_s)
            if isinstance(self._demand, Off) or self.fault is not None or not self.connected:
                self.battery.advance(step_s * self._time_scale, 0.0)
            else:
                step_s = self._step(step_s)
            self._protect()
            remaining_s -= step_s

    def follow(self, demand: Demand) -> None:
        """Take a demand that holds from now on. `Off` opens the contactor at once.

        Raises:
            DeviceFaultError: the demand is one that this equipment cannot follow.
        """
        match demand:
            case Off():
                self._cut()
            case OwnProgram():
                raise DeviceFaultError("a simulated battery has no program of its own; demand a current or a power")
            case ConstantCurrent() | ConstantPower():
                pass
        self._demand = demand
        self._protect()

    def clear_fault(self) -> None:
        """Forget a trip; it comes back with the next sample where its cause is still there."""
        self.fault = None
        self._demand = Off()

    def sample(self) -> Sample:
        """Return what is to be measured now, without noise."""
        voltage_v = self._terminal_v()
        charge_limit_w, discharge_limit_w = self._limits()
        return Sample(
            voltage_v=voltage_v,
            current_a=self.current_a,
            power_w=voltage_v * self.current_a,
            battery_connected=self.connected,
            charge_limit_w=charge_limit_w,
            discharge_limit_w=discharge_limit_w,
            temperature_degc=self.battery.temperature_degc,
            soc_ratio=min(1.0, max(0.0, self.battery.soc_ratio)),
            fault=self.fault,
        )

    def _step(self, step_s: float) -> float:
        """Advance by up to a step; return how far."""
        scale, before_a = self._time_scale, self.current_a
        limits_w = self._limits() if isinstance(self._demand, ConstantPower) else UNUSED_W
        response = self.battery.response(step_s * scale, before_a, SHARE_AT_ONCE, before_a)
        wanted_a, held = self._wanted(response, limits_w)
        if held and step_s * scale > HELD_STEP_S:
            step_s = HELD_STEP_S / scale
            response = self.battery.response(step_s * scale, before_a, SHARE_AT_ONCE, before_a)
            wanted_a, held = self._wanted(response, limits_w)
        change_w = wanted_a * response.voltage(wanted_a) - self.power_w
        reach_w = self.ratings.ramp_w_per_s * step_s
        if (held and change_w * self.power_w < 0.0) or abs(change_w) <= min(reach_w, self._settled_w):
            response = self.battery.response(step_s * scale, before_a, SHARE_AT_ONCE, wanted_a)
            wanted_a, _ = self._wanted(response, limits_w)
            self._commit(step_s, wanted_a, wanted_a)
            return step_s
        step_s = min(step_s, RAMP_STEP_S, abs(change_w) / self.ratings.ramp_w_per_s)
        power_w = self.power_w + copysign(min(abs(change_w), self.ratings.ramp_w_per_s * step_s), change_w)
        response = self.battery.response(step_s * scale, before_a, SHARE_ON_RAMP, wanted_a)
        after_a = response.current_for_power(power_w)
        if held:  # the voltage limit may come before the ramp's end
            after_a = copysign(min(abs(after_a), abs(self._wanted(response, limits_w)[0])), after_a)
        self._commit(step_s, after_a, (before_a + after_a) / 2.0)
        return step_s

    def _wanted(self, response: Response, limits_w: tuple[float, float]) -> tuple[float, bool]:
        """Return the current that the demand asks for within the limits, and whether a voltage limit holds it.

        Args:
            response: of the battery.
            limits_w: what a constant power can be, charging and discharging.
        """
        ratings = self.ratings
        match self._demand:
            case ConstantCurrent(current_a=asked_a, voltage_limit_v=limit_v):
                current_a, held = max(-ratings.max_current_a, min(ratings.max_current_a, asked_a)), False
                if limit_v is not None:
                    most_a = response.current_for_voltage(limit_v)
                    bounded_a = max(0.0, min(current_a, most_a)) if asked_a > 0.0 else min(0.0, max(current_a, most_a))
                    current_a, held = bounded_a, bounded_a != current_a
                power_w = current_a * response.voltage(current_a)
                if power_w > ratings.charge_limit_w:
                    return response.current_for_power(ratings.charge_limit_w), held
                if power_w < -ratings.discharge_limit_w:
                    return response.current_for_power(-ratings.discharge_limit_w), held
                return current_a, held
            case ConstantPower(power_w=asked_w):
                charge_limit_w, discharge_limit_w = limits_w
                current_a = response.current_for_power(max(-discharge_limit_w, min(charge_limit_w, asked_w)))
                return max(-ratings.max_current_a, min(ratings.max_current_a, current_a)), False
            case Off() | OwnProgram():
                return 0.0, False

    def _commit(self, step_s: float, current_a: float, mean_a: float) -> None:
        self.battery.advance(step_s * self._time_scale, mean_a)
        self.current_a = current_a
        self.power_w = current_a * self._terminal_v()

    def _limits(self) -> tuple[float, float]:
        """Return what can be charged and discharged now: rated, and less near the limits of charge and voltage."""
        if not self.connected or self.reverse or self.fault is not None:
            return 0.0, 0.0
        ratings, battery = self.ratings, self.battery
        relaxed_v, resistance_ohm = battery.relaxed_v(), battery.sustained_ohm()
        lowest_v = max(ratings.voltage_min_v, relaxed_v / 2.0)  # below the half, more current gives less power
        charge_w = min(
            ratings.charge_limit_w,
            ratings.max_current_a * relaxed_v,
            ratings.charge_limit_w * (1.0 - battery.soc_ratio) / DERATE_SOC_RATIO,
            ratings.voltage_max_v * (ratings.voltage_max_v - relaxed_v) / resistance_ohm,
        )
        discharge_w = min(
            ratings.discharge_limit_w,
            ratings.max_current_a * ratings.voltage_min_v,
            ratings.discharge_limit_w * battery.soc_ratio / DERATE_SOC_RATIO,
            lowest_v * (relaxed_v - lowest_v) / resistance_ohm,
        )
        return max(0.0, charge_w), max(0.0, discharge_w)

    def _terminal_v(self) -> float:
        if not self.connected:
            return 0.0
        voltage_v = self.battery.relaxed_v() + self.battery.parameters.r0_ohm * self.current_a
        return -voltage_v if self.reverse else voltage_v

    def _protect(self) -> None:
        if self.fault is None:
            self.fault = self._trip()
        if self.fault is not None or not self.connected:
            self._cut()

    def _cut(self) -> None:
        self.current_a = 0.0
        self.power_w = 0.0

    def _trip(self) -> Alarm | None:
        """Return why protection must trip now."""
        if not self.connected:
            if isinstance(self._demand, Off):
                return None
            return Alarm(code=AlarmCode.BATTERY_DISCONNECTED, text="the battery is not connected", values={})
        voltage_v = self._terminal_v()
        if self.reverse:
            text = f"{voltage_v:.1f} V: the battery's poles are swapped"
            return Alarm(code=AlarmCode.REVERSE_POLARITY, text=text, values={"value_v": round(voltage_v, 1)})
        return self._excess(voltage_v)

    def _excess(self, voltage_v: float) -> Alarm | None:
        """Return the first limit that is exceeded."""
        ratings = self.ratings
        if voltage_v > ratings.over_voltage_v:
            return _alarm(AlarmCode.OVER_VOLTAGE, voltage_v, "above", ratings.over_voltage_v, "V")
        if voltage_v < ratings.under_voltage_v:
            return _alarm(AlarmCode.UNDER_VOLTAGE, voltage_v, "below", ratings.under_voltage_v, "V")
        if abs(self.current_a) > ratings.over_current_a:
            return _alarm(AlarmCode.OVER_CURRENT, abs(self.current_a), "above", ratings.over_current_a, "A")
        temperature_degc = self.battery.temperature_degc
        if temperature_degc > ratings.over_temperature_degc:
            return _alarm(AlarmCode.OVER_TEMPERATURE, temperature_degc, "above", ratings.over_temperature_degc, "°C")
        return None


def _alarm(code: AlarmCode, value: float, side: str, limit: float, unit: str) -> Alarm:
    name = _UNITS[unit]
    values: Values = {f"value_{name}": round(value, 1), f"limit_{name}": round(limit, 1)}
    return Alarm(code=code, text=f"{value:.1f} {unit} is {side} {limit:.1f} {unit}", values=values)


_UNITS = {"V": "v", "A": "a", "°C": "degc"}
