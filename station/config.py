"""station.toml: what a station is told, and nothing that it can find out."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from schemas.messages import Name, NonNegative, OnLost, Positive
from schemas.settings import BrokerSettings, Section

Finite = Annotated[float, Field(allow_inf_nan=False)]


class StationSection(Section):
    """Who the station is."""

    id: Name
    """Its name in the loop; no other station may have it."""
    loop: Name | None = None
    """Needed only where more than one loop answers."""
    state_dir: str = "state"
    """Where the connection, the epoch and the channels' modes are remembered."""
    on_lost: Annotated[OnLost, BeforeValidator(lambda value: OnLost(value) if value in list(OnLost) else value)] = (
        OnLost.CONTINUE
    )
    """What the equipment does when this process is gone; announced, not enforced."""


class TelemetrySection(Section):
    """How often the channels are published."""

    period_s: Annotated[float, Field(ge=0.1, le=60.0)] = 1.0
    """How often each channel is published."""
    retain_every_s: Annotated[float, Field(ge=0.0, le=30.0)] = 0.0
    """0: every message is retained; else one message in that time."""


class MetricsSection(Section):
    """Prometheus."""

    host: str = "127.0.0.1"
    """The address to serve them on; `0.0.0.0` for all."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: none."""


class DriverSection(Section):
    """The equipment; further keys are the driver's own."""

    model_config = ConfigDict(extra="allow")
    type: str = "simulated"
    """`simulated`, `replay`, or the name of a driver that is installed."""


class Until(Section):
    """How a step ends: at the first of these. Counted from the step's start."""

    time_s: Positive | None = None
    """So much time has passed."""
    voltage_v: Positive | None = None
    """Reached from below while charging, from above while discharging."""
    current_a: NonNegative | None = None
    """The current's magnitude has fallen to this."""
    charge_ah: Positive | None = None
    """This much has flowed, in either direction."""
    energy_wh: Positive | None = None
    """This much has flowed, in either direction."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("a step must end: by time_s, voltage_v, current_a, charge_ah or energy_wh")
        return self


class RestStep(Section):
    """No current."""

    step: Literal["rest"]
    """What is done."""
    until: Until
    """Its end, by `time_s` alone."""

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if self.until.model_fields_set != {"time_s"}:
            raise ValueError("a rest ends by time_s, and by nothing else: no current flows that could end it")
        return self


class CurrentStep(Section):
    """Constant current; the direction is the step's, the number is positive."""

    step: Literal["cc_chg", "cc_dchg"]
    """What is done."""
    current_a: Positive
    """The current."""
    until: Until
    """Its end."""


class CccvStep(Section):
    """Constant current up to a voltage, then constant voltage until the current has fallen."""

    step: Literal["cccv_chg"]
    """What is done."""
    current_a: Positive
    """The current, up to the voltage."""
    voltage_v: Positive
    """The voltage that is then held."""
    until: Until
    """Its end; most often by `current_a`."""


class CvStep(Section):
    """Constant voltage, with the current limited."""

    step: Literal["cv_chg"]
    """What is done."""
    voltage_v: Positive
    """The voltage that is held."""
    current_a: Positive
    """The most that may flow."""
    until: Until
    """Its end."""


class PowerStep(Section):
    """Constant power; the direction is the step's, the number is positive."""

    step: Literal["cp_chg", "cp_dchg"]
    """What is done."""
    power_w: Positive
    """The power."""
    until: Until
    """Its end."""


class ProfilePoint(Section):
    """From `after_s` on, counted from the step's start: exactly one of the two, positive charging."""

    after_s: NonNegative
    """When it begins."""
    power_w: Finite | None = None
    """The power from then on."""
    current_a: Finite | None = None
    """The current from then on."""


class SimStep(Section):
    """Working condition simulation: a time-power or time-current profile, run once unless `until` cuts it."""

    step: Literal["sim"]
    """What is done."""
    profile: Annotated[tuple[ProfilePoint, ...], Field(min_length=1)]
    """Its points, in the order of time."""
    duration_s: Positive
    """The length of one run of the profile; the last point holds to it."""
    runs: Annotated[int, Field(ge=0)] = 1
    """How often the profile runs; 0: for ever."""
    until: Until | None = None
    """What ends it sooner."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        powers = [point.power_w is not None for point in self.profile]
        currents = [point.current_a is not None for point in self.profile]
        if not (all(powers) and not any(currents)) and not (all(currents) and not any(powers)):
            raise ValueError("every point of a profile has power_w, or every point has current_a")
        times = [point.after_s for point in self.profile]
        if times[0] != 0.0 or any(b <= a for a, b in pairwise(times)):
            raise ValueError("after_s of a profile rises from 0.0")
        if self.duration_s <= times[-1]:
            raise ValueError("duration_s lies after the profile's last point")
        return self


class LoopStep(Section):
    """Repeats the steps from `first` (counted from 1) up to here, `times` times in all."""

    step: Literal["loop"]
    """What is done."""
    first: Annotated[int, Field(ge=1)]
    """The step to go back to."""
    times: Annotated[int, Field(ge=0)]
    """0: for ever."""


Step = Annotated[
    RestStep | CurrentStep | CccvStep | CvStep | PowerStep | SimStep | LoopStep, Field(discriminator="step")
]


class ChannelSection(Section):
    """One channel. `battery`, `recording` and other tables are the driver's own (`options`)."""

    model_config = ConfigDict(extra="allow")
    id: Name
    """Its name at this station; most often its number."""
    charge_limit_w: NonNegative
    """The most that it may charge with."""
    discharge_limit_w: NonNegative
    """The most that it may discharge with, as a positive number."""
    ramp_w_per_s: Positive
    """How fast its power may change."""
    equalize: bool = False
    """Enters equalization mode at the station's start."""
    autostart: bool = True
    """Starts its program at the station's start."""
    program: tuple[Step, ...] = ()
    """The steps of its own program, in their order."""
    repeat: Annotated[int, Field(ge=0)] = 0
    """How often the program runs; 0: for ever."""

    @property
    def options(self) -> dict[str, Any]:
        """The driver's own keys."""
        return dict(self.model_extra or {})

    @field_validator("program")
    @classmethod
    def _loops_point_back(cls, program: tuple[Step, ...]) -> tuple[Step, ...]:
        for number, step in enumerate(program, start=1):
            if not isinstance(step, LoopStep):
                continue
            if step.first >= number:
                raise ValueError(f"step {number}: a loop's `first` names an earlier step (1 to {number - 1})")
            if program[step.first - 1].step == "loop":
                raise ValueError(f"step {number}: a loop's `first` names a step that works, not another loop")
        return program


class StationSettings(Section):
    """The whole file."""

    station: StationSection
    broker: BrokerSettings | None = None
    telemetry: TelemetrySection = TelemetrySection()
    metrics: MetricsSection = MetricsSection()
    driver: DriverSection = DriverSection()
    channel: Annotated[tuple[ChannelSection, ...], Field(min_length=1)]

    @field_validator("channel")
    @classmethod
    def _distinct(cls, channels: tuple[ChannelSection, ...]) -> tuple[ChannelSection, ...]:
        ids = [channel.id for channel in channels]
        twice = next((name for name in ids if ids.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two channels have the id {twice!r}; every channel of a station needs its own")
        return channels
