"""equalizer.toml."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from schemas.messages import Name, NonNegative, Policy, Positive
from schemas.settings import BrokerSettings, Section

Efficiency = Annotated[float, Field(gt=0.0, le=1.0)]
NameOrAny = Name | Literal["*"]
"""A name, or `*` for all."""
AUTO = "auto"
FIRST_ENGAGE_W = 1000.0
"""Until `auto` knows better."""
LEAST_LOG_BYTES = 20_000
LARGEST_W = 1e12
"""No hall has more: what says so is no measurement, and sums of it would leave the range of numbers."""


def _policy(value: Any) -> Any:  # noqa: ANN401 - a TOML value is of any type
    """A strict enum takes members only; a TOML file can give but their text."""
    return Policy(value) if isinstance(value, str) and value in list(Policy) else value


class LoopSection(Section):
    """The loop that is balanced."""

    name: Name = "main"
    """The loop that is led; stations and commands name it."""
    server: Name = "equalizer"
    """What this server calls itself in its announcement."""
    target_power_w: Annotated[float, Field(ge=-LARGEST_W, le=LARGEST_W)] = 0.0
    """What the total power is steered to; positive: drawn from the grid."""


class ControlSection(Section):
    """The delay against shaking and the hysteresis."""

    policy: Annotated[Policy, BeforeValidator(_policy)] = Policy.CONFIRM
    """`confirm` waits for `delay_s` before it answers what nobody announced; `dwell` answers at once, then holds,
    and with a restless load keeps a channel for what is worth it."""
    delay_s: NonNegative = 15.0
    """The delay against shaking: no channel is changed twice within it; 10 to 20 s are recommended."""
    engage_w: NonNegative | Literal["auto"] = 1000.0
    """A correction begins above this; `"auto"` follows the load's noise and the change budget."""
    release_w: NonNegative = 300.0
    """It is worked until the rest is below this; with `engage_w = "auto"` it scales along, and this says nothing."""
    freeze_w: Positive = 50000.0
    """Above this much unknown power nothing is changed, and leases run out."""
    charge_recovery: bool = False
    """Bring batteries back towards the middle of their charge, where what is left over within the band does it."""

    @property
    def first_engage_w(self) -> float:
        """The band to begin with."""
        return FIRST_ENGAGE_W if isinstance(self.engage_w, str) else self.engage_w

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if isinstance(self.engage_w, float | int) and self.release_w > self.engage_w:
            raise ValueError(
                f"release_w ({self.release_w:g}) is above engage_w ({self.engage_w:g}); allowed is 0 to engage_w"
            )
        return self


class TelemetrySection(Section):
    """What the stations are expected to publish."""

    period_s: Annotated[float, Field(ge=0.1, le=60.0)] = 1.0
    """How often each channel is heard; silent for three of them, it is stale."""


class SetpointSection(Section):
    """How long setpoints live and how often they are renewed."""

    ttl_s: Annotated[float, Field(gt=0.0, le=60.0)] = 30.0
    """A channel that hears nothing more ramps to 0 W after this, counted from its telemetry."""
    refresh_s: Positive = 5.0
    """How often the same powers are sent again, so that the lease does not run out."""

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        if self.refresh_s >= self.ttl_s:
            raise ValueError(f"refresh_s ({self.refresh_s:g}) is not below ttl_s ({self.ttl_s:g})")
        return self


class MeterSection(Section):
    """An optional meter at the grid's connection."""

    topic: str | None = None
    """Any topic; null: the contract's own `meter`."""
    power_key: str = "power_w"
    """A path of keys into its JSON, with dots: `ENERGY.Power`; empty: the payload is the number."""
    factor: float = 1.0
    """Multiplies the reading: -1 where the meter counts feeding as positive, 1000 where it says kW."""
    gain: Annotated[float, Field(ge=0.0, le=0.1)] = 0.05
    """How much of the meter's residual is corrected per control cycle of 1 s; 0: shown, not used."""
    stale_s: Positive = 10.0
    """An older reading is not used."""
    delay_s: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """By how much its readings are later than the channels' telemetry, where that is known."""

    @field_validator("topic")
    @classmethod
    def _one_topic(cls, topic: str | None) -> str | None:
        if topic is not None and (topic == "" or "+" in topic or "#" in topic):
            raise ValueError("a topic without wildcards (+, #) is allowed, or none")
        return topic

    @property
    def power_path(self) -> tuple[str, ...]:
        """`power_key`, part by part; empty where the payload is the number itself."""
        return tuple(self.power_key.split(".")) if self.power_key else ()


class PlausibilitySection(Section):
    """What telemetry is believed."""

    tolerance_ratio: NonNegative = 0.1
    """Voltage times current may differ from the power by this part of it, and by `tolerance_w`."""
    tolerance_w: NonNegative = 500.0
    """Voltage times current may differ from the power by this, and by the ratio of it."""
    rating_w: Positive = 1_000_000.0
    """Above the power of every channel of the loop; what says more is not believed."""


class MetricsSection(Section):
    """Prometheus."""

    host: str = "127.0.0.1"
    """The address to serve them on; `0.0.0.0` for all."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """0: none."""


class DashboardSection(Section):
    """The page."""

    url: str | None = None
    """Where people find it; announced, so that other clients can point there."""


class DiscoverySection(Section):
    """DNS-SD."""

    advertise: bool = True
    """Announce the broker, so that stations find it."""


class StandbySection(Section):
    """Two or more equalizers on one loop, one of them in charge."""

    enabled: bool = False
    """Follow a living server and take its place when it is lost; all servers of the loop need it."""
    lost_s: Annotated[float, Field(ge=2.5, le=12.0)] = 5.0
    """The server in charge, which gives a sign of life every second, is lost after so long a silence."""
    settle_s: Annotated[float, Field(ge=0.1, le=5.0)] = 0.5
    """How long a claim may be disputed before anything is sent."""
    handover_s: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0
    """How long a server that stops waits for another to claim its place, before it brings all channels to 0 W."""
    store: Literal["broker", "nats"] = "broker"
    """What says who is in charge: the order of a single broker's messages, or a NATS cluster's key-value store."""
    url: Annotated[str, Field(min_length=1)] = "nats://127.0.0.1:4222"
    """Of the store; several with commas between."""
    replicas: Annotated[int, Field(ge=1, le=5)] = 3
    """On how many of the cluster's servers the lease is kept; 1 for a single server."""
    username: str | None = None
    """Of the NATS cluster, where it asks for one."""
    password_file: str | None = None
    """A file whose first line is the password."""


class StateSection(Section):
    """Where the epoch, the energy account and the decision log are kept."""

    dir: str = "state"
    """The folder, relative to this file's."""
    audit_log_bytes: Annotated[int, Field(ge=0)] = 100_000_000
    """What the audit log may take in all; 0: none is written."""
    decision_log_bytes: Annotated[int, Field(ge=0)] = 20_000_000
    """What the decision log and its predecessor may take together; 0: none is written."""

    @field_validator("decision_log_bytes", "audit_log_bytes")
    @classmethod
    def _some_lines(cls, size: int) -> int:
        if 0 < size < LEAST_LOG_BYTES:
            raise ValueError(f"{size} bytes hold no decisions; allowed is {LEAST_LOG_BYTES} or more, or 0 for none")
        return size


class HomeAssistantSection(Section):
    """Devices for Home Assistant."""

    enabled: bool = False
    """Publish a device for the loop and one for each station, retained, and remove those of retired stations."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = "homeassistant"
    """Home Assistant's discovery prefix."""
    commands: bool = False
    """Give the loop's device buttons to pause and resume."""


class ChannelSection(Section):
    """What is known of a channel beyond what it says itself."""

    station: NameOrAny
    """Its station; `*`: all of them."""
    channel: NameOrAny
    """The channel; `*`: all of that station's."""
    charging_efficiency: Efficiency = 1.0
    """What reaches the battery of what the channel draws from the loop."""
    discharging_efficiency: Efficiency = 1.0
    """What reaches the loop of what the battery gives."""
    efficiency: tuple[tuple[Positive, Efficiency], ...] = ()
    """At partial load: pairs of power (W, rising) and efficiency. Says which equalization channel to take."""

    @model_validator(mode="after")
    def _curve(self) -> Self:
        if any(later <= earlier for (earlier, _), (later, _) in pairwise(self.efficiency)):
            raise ValueError("the powers in efficiency must rise")
        if self.efficiency and "*" in (self.station, self.channel):
            raise ValueError("efficiency belongs to one equalization channel; name its station and channel, without *")
        return self


class EqualizerSettings(Section):
    """The whole file."""

    loop: LoopSection = LoopSection()
    broker: BrokerSettings = BrokerSettings()
    control: ControlSection = ControlSection()
    telemetry: TelemetrySection = TelemetrySection()
    setpoint: SetpointSection = SetpointSection()
    meter: MeterSection = MeterSection()
    plausibility: PlausibilitySection = PlausibilitySection()
    metrics: MetricsSection = MetricsSection()
    dashboard: DashboardSection = DashboardSection()
    discovery: DiscoverySection = DiscoverySection()
    state: StateSection = StateSection()
    standby: StandbySection = StandbySection()
    home_assistant: HomeAssistantSection = HomeAssistantSection()
    channel: tuple[ChannelSection, ...] = ()

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        keys = [(item.station, item.channel) for item in self.channel]
        for station, channel in keys:
            if keys.count((station, channel)) > 1:
                raise ValueError(f"two [[channel]] tables for station {station!r}, channel {channel!r}; allowed is one")
        return self


RECOMMENDED_DELAY_S = (10.0, 20.0)


def warnings(settings: EqualizerSettings) -> tuple[str, ...]:
    """Return what is accepted but deserves a word, one line each."""
    delay_s = settings.control.delay_s
    least_s, most_s = RECOMMENDED_DELAY_S
    texts = []
    if not least_s <= delay_s <= most_s:
        texts.append(f"control.delay_s is {delay_s:g}; recommended is {least_s:g} to {most_s:g}")
    if settings.control.engage_w == AUTO and "release_w" in settings.control.model_fields_set:
        texts.append('control.release_w says nothing while control.engage_w is "auto": it scales along')
    if settings.setpoint.refresh_s > settings.setpoint.ttl_s / 2:
        texts.append(
            f"setpoint.refresh_s is {settings.setpoint.refresh_s:g}: one lost message lets a lease of "
            f"{settings.setpoint.ttl_s:g} s run out"
        )
    if settings.telemetry.period_s + settings.setpoint.refresh_s > settings.setpoint.ttl_s:
        texts.append(
            f"telemetry.period_s is {settings.telemetry.period_s:g}: a lease of {settings.setpoint.ttl_s:g} s, counted "
            "from the channel's telemetry, may run out before the next one lets it be renewed"
        )
    return tuple(texts)
