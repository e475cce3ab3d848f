"""What the configuration says of simulated batteries, and the batteries that come of it."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.messages import NonNegative, Positive, Ratio
from schemas.settings import ConfigurationError, Section, validate
from station.drivers.protocol import ChannelHardware, DriverConfigurationError
from station.drivers.simulated.battery import Battery, BatteryParameters
from station.drivers.simulated.cells import CELLS, Chemistry, OcvCurve

Celsius = Annotated[float, Field(ge=-60.0, le=150.0)]

# Ohm times Ah: a cell's resistance falls as its capacity grows. Near the 10 s and 30 min values of automotive cells.
R0_OHM_AH = 0.06
R1_OHM_AH = 0.03
R2_OHM_AH = 0.03
TAU1_S = 15.0
TAU2_S = 300.0
HEAT_CAPACITY_J_PER_K_AH = 16.0  # about 1000 J/(kg·K) and 60 Ah/kg
COOLING_TAU_S = 1800.0


def _chemistry(value: Any) -> Any:  # noqa: ANN401 - a TOML value is of any type
    """A strict enum takes members only; a TOML file can give but their text."""
    return Chemistry(value) if isinstance(value, str) and value in list(Chemistry) else value


class BatteryOptions(Section):
    """The `battery` of a channel: numbers of one cell, and how many there are."""

    capacity_ah: Positive
    """Of one cell."""
    series: Annotated[int, Field(ge=1)] = 1
    """Cells in a row: multiplies the voltage."""
    parallel: Annotated[int, Field(ge=1)] = 1
    """Rows side by side: multiplies the current."""
    chemistry: Annotated[Chemistry, BeforeValidator(_chemistry)] = Chemistry.NMC
    """Sets the open-circuit voltage and the usual limits."""
    soc_ratio: Ratio = 0.5
    """Its charge at the start, 0 to 1."""
    connected: bool = True
    """Whether there is a battery at all."""
    reversed: bool = False
    """Connected with the wrong polarity."""
    temperature_degc: Celsius = 25.0
    """At the start."""
    ambient_degc: Celsius = 25.0
    """What it cools down to."""
    r0_ohm: Positive | None = None
    """Of one cell, at once; none: as its capacity suggests."""
    r1_ohm: NonNegative | None = None
    """Of one cell, the fast part."""
    c1_farad: Positive | None = None
    """Of one cell, the fast part."""
    r2_ohm: NonNegative | None = None
    """Of one cell, the slow part."""
    c2_farad: Positive | None = None
    """Of one cell, the slow part."""
    charge_efficiency_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """What is stored of the charge that flows in."""
    heat_capacity_j_per_k: Positive | None = None
    """Of one cell; none: as its capacity suggests."""
    heat_loss_w_per_k: NonNegative | None = None
    """Of one cell; none: cooled down in half an hour."""
    voltage_max_v: Positive | None = None
    """Charging power falls to 0 W towards this cell voltage."""
    voltage_min_v: Positive | None = None
    """Discharging power falls to 0 W towards this cell voltage."""
    over_voltage_v: Positive | None = None
    """Protection trips above this cell voltage."""
    under_voltage_v: NonNegative | None = None
    """Protection trips below this cell voltage."""
    over_temperature_degc: Celsius = 60.0
    """Protection trips above this."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        window = self.window()
        if not window.under_voltage_v <= window.voltage_min_v < window.voltage_max_v <= window.over_voltage_v:
            raise ValueError(
                "the cell's voltages must rise: under_voltage_v <= voltage_min_v < voltage_max_v <= over_voltage_v, "
                f"not {window.under_voltage_v:g}, {window.voltage_min_v:g}, {window.voltage_max_v:g}, "
                f"{window.over_voltage_v:g}"
            )
        return self

    def window(self) -> "VoltageWindow":
        """Return a cell's limits, the usual ones where none are given."""
        usual = CELLS[self.chemistry]
        return VoltageWindow(
            voltage_max_v=_given(self.voltage_max_v, usual.voltage_max_v),
            voltage_min_v=_given(self.voltage_min_v, usual.voltage_min_v),
            over_voltage_v=_given(self.over_voltage_v, usual.over_voltage_v),
            under_voltage_v=_given(self.under_voltage_v, usual.under_voltage_v),
        )

    def build(self) -> Battery:
        """Return the battery."""
        string_ratio = self.series / self.parallel
        r1_ohm = _given(self.r1_ohm, R1_OHM_AH / self.capacity_ah)
        r2_ohm = _given(self.r2_ohm, R2_OHM_AH / self.capacity_ah)
        cells = self.series * self.parallel
        heat_capacity = _given(self.heat_capacity_j_per_k, HEAT_CAPACITY_J_PER_K_AH * self.capacity_ah)
        parameters = BatteryParameters(
            ocv=OcvCurve(CELLS[self.chemistry].ocv, self.series),
            capacity_ah=self.capacity_ah * self.parallel,
            r0_ohm=_given(self.r0_ohm, R0_OHM_AH / self.capacity_ah) * string_ratio,
            r1_ohm=r1_ohm * string_ratio,
            tau1_s=_time_constant(r1_ohm, self.c1_farad, TAU1_S),
            r2_ohm=r2_ohm * string_ratio,
            tau2_s=_time_constant(r2_ohm, self.c2_farad, TAU2_S),
            charge_efficiency_ratio=self.charge_efficiency_ratio,
            heat_capacity_j_per_k=heat_capacity * cells,
            heat_loss_w_per_k=_given(self.heat_loss_w_per_k, heat_capacity / COOLING_TAU_S) * cells,
            ambient_degc=self.ambient_degc,
        )
        return Battery(parameters, soc_ratio=self.soc_ratio, temperature_degc=self.temperature_degc)


class VoltageWindow(Section):
    """Voltages that bound operation, and those that trip protection."""

    voltage_max_v: float
    voltage_min_v: float
    over_voltage_v: float
    under_voltage_v: float


class ChannelOptions(Section):
    """The keys of a `[[channel]]` that are this driver's."""

    battery: BatteryOptions
    """The battery on the channel."""
    max_current_a: Positive | None = None
    """What the converter can carry; null: as its power limits allow."""
    over_current_a: Positive | None = None
    """Protection trips above this current; null: never."""


class NoiseOptions(Section):
    """Standard deviations of what is measured."""

    voltage_v: NonNegative = 0.0
    """Of the voltage."""
    current_a: NonNegative = 0.0
    """Of the current."""
    temperature_degc: NonNegative = 0.0
    """Of the temperature."""

    def any(self) -> bool:
        """Tell whether there is noise at all."""
        return max(self.voltage_v, self.current_a, self.temperature_degc) > 0.0


class DriverOptions(Section):
    """The keys of `[driver]` that are this driver's."""

    seed: int = 0
    """The same seed makes the same noise."""
    noise: NoiseOptions = NoiseOptions()
    time_scale: Positive = 1.0
    """How many seconds the batteries live in one; the converters' ramps stay as they are."""


def driver_options(table: Mapping[str, Any]) -> DriverOptions:
    """Read the driver's own table.

    Raises:
        DriverConfigurationError: one line that names the key and what is allowed.
    """
    try:
        return validate(DriverOptions, table, source="driver")
    except ConfigurationError as error:
        raise DriverConfigurationError(str(error)) from None


def channel_options(hardware: ChannelHardware) -> ChannelOptions:
    """Read a channel's own keys.

    Raises:
        DriverConfigurationError: one line that names the channel, the key and what is allowed.
    """
    try:
        return validate(ChannelOptions, hardware.options, source=f"channel {hardware.id}")
    except ConfigurationError as error:
        raise DriverConfigurationError(str(error)) from None


def _given(value: float | None, usual: float) -> float:
    return usual if value is None else value


def _time_constant(resistance_ohm: float, capacitance_farad: float | None, usual_s: float) -> float:
    if capacitance_farad is None or resistance_ohm == 0.0:
        return usual_s
    return resistance_ohm * capacitance_farad
