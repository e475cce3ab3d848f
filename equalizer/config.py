"""equalizer.toml."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from schemas.messages import Name, Policy
from schemas.settings import BrokerSettings, Section

Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


def _policy(value: Any) -> Any:  # noqa: ANN401 - a TOML value is of any type
    """A strict enum takes members only; a TOML file can give but their text."""
    return Policy(value) if isinstance(value, str) and value in list(Policy) else value


class LoopSection(Section):
    """The loop that is balanced."""

    name: Name = "main"
    server: Name = "equalizer"
    """What this server calls itself in its announcement."""
    target_power_w: float = 0.0
    """What the total power is steered to; positive: drawn from the grid."""


class ControlSection(Section):
    """The delay against shaking and the hysteresis."""

    policy: Annotated[Policy, BeforeValidator(_policy)] = Policy.CONFIRM
    delay_s: NonNegative = 15.0
    engage_w: NonNegative = 1000.0
    release_w: NonNegative = 300.0
    freeze_w: Positive = 50000.0

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if self.release_w > self.engage_w:
            raise ValueError(
                f"release_w ({self.release_w:g}) is above engage_w ({self.engage_w:g}); allowed is 0 to engage_w"
            )
        return self


class TelemetrySection(Section):
    """What the stations are expected to publish."""

    period_s: Annotated[float, Field(ge=0.1, le=60.0)] = 1.0


class SetpointSection(Section):
    """How long setpoints live and how often they are renewed."""

    ttl_s: Annotated[float, Field(gt=0.0, le=60.0)] = 30.0
    refresh_s: Positive = 5.0

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


class MetricsSection(Section):
    """Prometheus."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """0: none."""


class DiscoverySection(Section):
    """DNS-SD."""

    advertise: bool = True


class StateSection(Section):
    """Where the epoch and the energy account are kept."""

    dir: str = "state"


class EqualizerSettings(Section):
    """The whole file."""

    loop: LoopSection = LoopSection()
    broker: BrokerSettings = BrokerSettings()
    control: ControlSection = ControlSection()
    telemetry: TelemetrySection = TelemetrySection()
    setpoint: SetpointSection = SetpointSection()
    meter: MeterSection = MeterSection()
    metrics: MetricsSection = MetricsSection()
    discovery: DiscoverySection = DiscoverySection()
    state: StateSection = StateSection()


RECOMMENDED_DELAY_S = (10.0, 20.0)


def warnings(settings: EqualizerSettings) -> tuple[str, ...]:
    """Return what is accepted but deserves a word, one line each."""
    delay_s = settings.control.delay_s
    least_s, most_s = RECOMMENDED_DELAY_S
    texts = []
    if not least_s <= delay_s <= most_s:
        texts.append(f"control.delay_s is {delay_s:g}; recommended is {least_s:g} to {most_s:g}")
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
