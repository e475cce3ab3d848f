"""A battery as an equivalent circuit: open-circuit voltage, R0, two RC pairs, charge counting and self-heating.

Within a step the current is taken as its mean, for which charge and RC pairs are exact: the results depend on the
length of the steps only as far as the current changes within one.

Sign: positive current charges. All quantities are the whole battery's.
"""

from dataclasses import dataclass
from math import exp, sqrt

from station.drivers.simulated.cells import OcvCurve


@dataclass(frozen=True, slots=True)
class BatteryParameters:
    """What does not change while a battery works."""

    ocv: OcvCurve
    capacity_ah: float
    r0_ohm: float
    r1_ohm: float
    tau1_s: float
    r2_ohm: float
    tau2_s: float
    charge_efficiency_ratio: float
    """How much of the charge that flows in is stored."""
    heat_capacity_j_per_k: float
    heat_loss_w_per_k: float
    ambient_degc: float


@dataclass(frozen=True, slots=True)
class Response:
    """The terminal voltage at the end of a step as a function of the current then: V = source + resistance * I."""

    source_v: float
    resistance_ohm: float

    def voltage(self, current_a: float) -> float:
        """Return the voltage for a current."""
        return self.source_v + self.resistance_ohm * current_a

    def current_for_power(self, power_w: float) -> float:
        """Return the smaller current of the two that give a power; the current of most power where none does."""
        discriminant = self.source_v * self.source_v + 4.0 * self.resistance_ohm * power_w
        if discriminant <= 0.0:
            return -self.source_v / (2.0 * self.resistance_ohm)
        return 2.0 * power_w / (self.source_v + sqrt(discriminant))

    def current_for_voltage(self, voltage_v: float) -> float:
        """Return the current at a voltage."""
        return (voltage_v - self.source_v) / self.resistance_ohm


class Battery:
    """The changing state of a battery."""

    __slots__ = ("_keeps", "_span_s", "parameters", "rc1_v", "rc2_v", "soc_ratio", "temperature_degc")

    def __init__(self, parameters: BatteryParameters, *, soc_ratio: float, temperature_degc: float) -> None:
        self.parameters = parameters
        self.soc_ratio = soc_ratio
        self.temperature_degc = temperature_degc
        self.rc1_v = 0.0
        self.rc2_v = 0.0
        self._span_s = 0.0
        self._keeps = 1.0, 1.0

    def relaxed_v(self) -> float:
        """Return the terminal voltage without current, now."""
        return self.parameters.ocv.at(self.soc_ratio) + self.rc1_v + self.rc2_v

    def sustained_ohm(self) -> float:
        """Return the resistance once the RC pairs have settled."""
        return self.parameters.r0_ohm + self.parameters.r1_ohm + self.parameters.r2_ohm

    def response(self, duration_s: float, before_a: float, share: float, guess_a: float) -> Response:
        """Return how the voltage at the end of a step depends on the current at its end.

        Args:
            duration_s: the step's length.
            before_a: the current before it.
            share: how much the current at the end counts in the step's mean: 1 at once, 0.5 on a ramp.
            guess_a: roughly the current at the end; the curve is taken as straight from here to where that leads.
        """
        own = self.parameters
        earlier_a = (1.0 - share) * before_a
        mean_a = earlier_a + share * guess_a
        stored = own.charge_efficiency_ratio if mean_a > 0.0 else 1.0
        per_ampere = stored * duration_s / (3600.0 * own.capacity_ah)
        start_v = own.ocv.at(self.soc_ratio)
        moved = per_ampere * mean_a
        if abs(moved) > 1e-12:  # noqa: PLR2004 - below, the chord drowns in rounding
            slope = (own.ocv.at(self.soc_ratio + moved) - start_v) / moved
        else:
            slope = own.ocv.slope(self.soc_ratio)
        keep1, keep2 = self._kept(duration_s)
        mean_ohm = slope * per_ampere + own.r1_ohm * (1.0 - keep1) + own.r2_ohm * (1.0 - keep2)
        return Response(
            start_v + self.rc1_v * keep1 + self.rc2_v * keep2 + mean_ohm * earlier_a, own.r0_ohm + share * mean_ohm
        )

    def _kept(self, duration_s: float) -> tuple[float, float]:
        """Return what is left of the RC pairs' voltages after a time; it is asked for several times in a step."""
        if duration_s != self._span_s:
            own, self._span_s = self.parameters, duration_s
            self._keeps = exp(-duration_s / own.tau1_s), exp(-duration_s / own.tau2_s)
        return self._keeps

    def advance(self, duration_s: float, mean_a: float) -> None:
        """Let time pass under a mean current."""
        own = self.parameters
        keep1, keep2 = self._kept(duration_s)
        rc1_v = self.rc1_v * keep1 + own.r1_ohm * (1.0 - keep1) * mean_a
        rc2_v = self.rc2_v * keep2 + own.r2_ohm * (1.0 - keep2) * mean_a
        heat_w = own.r0_ohm * mean_a * mean_a
        if own.r1_ohm > 0.0:
            heat_w += 0.5 * (self.rc1_v * self.rc1_v + rc1_v * rc1_v) / own.r1_ohm
        if own.r2_ohm > 0.0:
            heat_w += 0.5 * (self.rc2_v * self.rc2_v + rc2_v * rc2_v) / own.r2_ohm
        self.rc1_v, self.rc2_v = rc1_v, rc2_v
        stored = own.charge_efficiency_ratio if mean_a > 0.0 else 1.0
        self.soc_ratio += stored * mean_a * duration_s / (3600.0 * own.capacity_ah)
        if own.heat_loss_w_per_k > 0.0:
            keep = exp(-duration_s * own.heat_loss_w_per_k / own.heat_capacity_j_per_k)
            settled_degc = own.ambient_degc + heat_w / own.heat_loss_w_per_k
            self.temperature_degc = settled_degc + (self.temperature_degc - settled_degc) * keep
        else:
            self.temperature_degc += heat_w * duration_s / own.heat_capacity_j_per_k
