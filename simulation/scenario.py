"""A scenario's TOML: the hall, what happens in it, the network, and who controls it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from equalizer.config import ControlSection, SetpointSection, TelemetrySection
from schemas.messages import Name, NonNegative, OnLost, Policy, Positive, Ratio
from schemas.settings import ConfigurationError, Section, parse
from transport.files import read_text

Rating = Annotated[float, Field(ge=100.0)]


LEAST_S = 1.0
"""What is shorter has nothing to score."""


class Family(StrEnum):
    """Kinds of tests; `simulation.families` says what each does."""

    GRADING = "grading"
    FORMATION = "formation"
    HPPC = "hppc"
    DRIVE = "drive"
    RECORDING = "recording"
    STORAGE = "storage"
    EQUALIZATION = "equalization"


class Action(StrEnum):
    """What happens to channels, or to their stations."""

    START = "start"
    STOP = "stop"
    EQUALIZE = "equalize"
    CLEAR_ALARM = "clear_alarm"
    UNPLUG = "unplug"
    PLUG = "plug"
    CUT = "cut"
    """The station's network fails; the broker publishes its will when the keep-alive has run out."""
    HEAL = "heal"


class Plant(StrEnum):
    """How the test channels are run."""

    STATIONS = "stations"
    """Each by the production's station, tick by tick."""
    TRACES = "traces"
    """As arrays, in steps of one second: for thousands of them (`simulation.plant`)."""


class Controller(StrEnum):
    """Who controls the equalization channels."""

    ZEROLOOP = "zeroloop"
    LITERAL_DELAY = "literal_delay"
    OPENEMS = "openems"
    OPENEMS_PID = "openems_pid"
    OPENDTU = "opendtu"
    ZENDURE = "zendure"
    ASTRAMETER = "astrameter"


def _member(kind: type[StrEnum]) -> BeforeValidator:
    """A strict enum takes members only; a TOML file can give but their text."""

    def convert(value: Any) -> Any:  # noqa: ANN401 - a TOML value is of any type
        return kind(value) if isinstance(value, str) and value in list(kind) else value

    return BeforeValidator(convert)


class NetworkSection(Section):
    """How messages travel, in either direction."""

    delay_s: NonNegative = 0.3
    """How long a message travels."""
    jitter_s: NonNegative = 0.1
    """Delays are evenly spread over `delay_s` ± this."""
    loss_ratio: Ratio = 0.0
    """Of the messages at QoS 0."""


class PlansSection(Section):
    """What the loads say of their future."""

    share_ratio: Ratio = 1.0
    """How many of the channels publish plans."""
    shift_s: NonNegative = 0.0
    """Every plan's edges are off by up to this, either way."""


class StationSection(Section):
    """A station as its own station.toml has it."""

    config: str
    """Relative to the scenario's folder."""


class GroupSection(Section):
    """A station of channels that are drawn from a family."""

    station: Name
    """The station's name."""
    family: Annotated[Family, _member(Family)]
    """What its channels run; `equalization` for those that balance."""
    count: Annotated[int, Field(ge=1, le=10_000)]
    """How many channels."""
    rating_w: tuple[Rating, Rating]
    """The channels' ratings are drawn from this range, in whole hundreds."""
    ramp_s: Positive = 2.0
    """From 0 W to full power."""
    start_s: tuple[NonNegative, NonNegative] = (0.0, 0.0)
    """When the programs start: drawn from this range."""
    capacity_wh: Positive | None = None
    """Of an equalization channel's battery; null: an hour at its rating."""
    current_noise_ratio: Ratio = 1e-4
    """Standard deviation of measured current, of the channel's highest."""
    on_lost: Annotated[OnLost, _member(OnLost)] = OnLost.CONTINUE
    """As in station.toml."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for key, (low, high) in (("rating_w", self.rating_w), ("start_s", self.start_s)):
            if low > high:
                raise ValueError(f"{key} is a range, the lower bound first, not [{low:g}, {high:g}]")
        return self


class EventSection(Section):
    """Something that happens at a time."""

    at_s: NonNegative
    """When."""
    action: Annotated[Action, _member(Action)]
    """What happens."""
    station: str = "*"
    """A name, or a pattern with `*` and `?`."""
    channel: str = "*"
    """A name, or a pattern with `*` and `?`."""
    share_ratio: Ratio = 1.0
    """Of the channels that are named so, drawn by the seed."""
    within_s: NonNegative = 0.0
    """They follow, evenly drawn, within this time."""
    only: tuple[str, ...] = ()
    """The variants in which it happens, at stations with equalization channels; empty: in all, anywhere."""


class VariantSection(Section):
    """One controller; what is not said is as in the scenario."""

    name: Annotated[str, Field(min_length=1)]
    """How the report calls it."""
    controller: Annotated[Controller, _member(Controller)] = Controller.ZEROLOOP
    """Who leads the channels."""
    gated: bool = False
    """A peer's changes are held back so that no channel gets two within `delay_s`."""
    one_sign: bool = False
    """A peer's changes are held back so that no channel gets a sign while another has the opposite one."""
    policy: Annotated[Policy | None, _member(Policy)] = None
    """As `control.policy`."""
    delay_s: NonNegative | None = None
    """As `control.delay_s`."""
    engage_w: NonNegative | Literal["auto"] | None = None
    """As `control.engage_w`."""
    release_w: NonNegative | None = None
    """As `control.release_w`."""
    plans: bool = True
    """Whether the controller hears plans at all."""
    share_ratio: Ratio | None = None
    """As `plans.share_ratio`."""
    shift_s: NonNegative | None = None
    """As `plans.shift_s`."""
    loss_ratio: Ratio | None = None
    """As `network.loss_ratio`."""


class Scenario(Section):
    """The whole file."""

    title: Annotated[str, Field(min_length=1)]
    """The report's title."""
    duration_s: Annotated[float, Field(ge=LEAST_S)]
    """How long it runs, in virtual time."""
    seed: int = 1
    """The same seed plays the same hall again."""
    plant: Annotated[Plant, _member(Plant)] = Plant.STATIONS
    """How the test channels are run."""
    tariff_per_kwh: NonNegative = 0.25
    """What a kWh exchanged with the grid costs, for the report."""
    control: ControlSection = ControlSection()
    telemetry: TelemetrySection = TelemetrySection()
    setpoint: SetpointSection = SetpointSection()
    network: NetworkSection = NetworkSection()
    plans: PlansSection = PlansSection()
    station: tuple[StationSection, ...] = ()
    group: tuple[GroupSection, ...] = ()
    event: tuple[EventSection, ...] = ()
    variant: tuple[VariantSection, ...] = (VariantSection(name="as configured"),)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.station and not self.group:
            raise ValueError("a hall has at least one [[station]] or [[group]]")
        names = [variant.name for variant in self.variant]
        if len(set(names)) != len(names):
            raise ValueError("every [[variant]] needs a name of its own")
        unknown = next((name for event in self.event for name in event.only if name not in names), None)
        if unknown is not None:
            raise ValueError(f"an [[event]] is for the variant {unknown!r} only, and there is none of that name")
        return self

    def only(self, names: tuple[str, ...]) -> Self:
        """Return the scenario with these variants only; all where none is named.

        Raises:
            ConfigurationError: there is no such variant.
        """
        known = {variant.name: variant for variant in self.variant}
        for name in names:
            if name not in known:
                raise ConfigurationError(f"variant {name!r}: there are {', '.join(map(repr, known))}")
        return self.model_copy(update={"variant": tuple(known[name] for name in names)}) if names else self


def read(path: Path) -> Scenario:
    """Return the scenario in a file.

    Raises:
        ConfigurationError: one line that names the file, the key and what is allowed.
    """
    return parse(Scenario, read_text(path), source=str(path), environment={})
