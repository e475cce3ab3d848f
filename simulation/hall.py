"""The hall that a scenario describes: stations with their settings, and what happens to them at which time."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random
from zlib import crc32

from schemas.messages import ChannelAction
from schemas.settings import ConfigurationError, parse, validate
from simulation.families import channels, is_replayed
from simulation.scenario import Action, EventSection, GroupSection, Scenario
from station.config import StationSettings
from transport.files import read_text

"""Station and channel."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happens to one channel, or (channel `""`) to one station."""

    at_s: float
    """After the beginning."""
    action: Action
    station: str
    channel: str = ""
    only: tuple[str, ...] = ()
    """The variants in which it happens; empty: in all."""


@dataclass(frozen=True, slots=True)
class Hall:
    """Stations, and what happens in them."""

    stations: tuple[StationSettings, ...]
    base_dirs: tuple[Path, ...]
    happenings: tuple[Happening, ...]
    """In the order of their time."""

    def happening_in(self, variant: str | None) -> tuple[Happening, ...]:
        """Return what happens in a variant; null: what happens in all of them."""
        return tuple(one for one in self.happenings if not one.only or variant in one.only)

    def is_led(self, station: StationSettings) -> bool:
        """Tell whether a station ever has equalization channels; all others' power depends on no controller."""
        return any(channel.equalize for channel in station.channel) or any(
            happening.action is Action.EQUALIZE and happening.station == station.station.id
            for happening in self.happenings
        )


def build(scenario: Scenario, folder: Path, *, seed: int) -> Hall:
    """Return a scenario's hall.

    Raises:
        ConfigurationError: a station's file cannot be used, or two stations have one name.
    """
    stations: list[StationSettings] = []
    base_dirs: list[Path] = []
    starts: list[Happening] = []
    for section in scenario.station:
        path = (folder / section.config).resolve()
        stations.append(parse(StationSettings, read_text(path), source=str(path), environment={}))
        base_dirs.append(path.parent)
    for group in scenario.group:
        stations.append(_station(group, scenario, seed))
        base_dirs.append(folder)
        starts += _starts(group, seed)
    names = [station.station.id for station in stations]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"two stations have the name {twice!r}; every station needs its own")
    happenings = starts + [
        happening
        for number, event in enumerate(scenario.event)
        for happening in _happenings(event, stations, f"{seed}/event{number}")
    ]
    hall = Hall(tuple(stations), tuple(base_dirs), tuple(sorted(happenings, key=lambda happening: happening.at_s)))
    led = {settings.station.id for settings in stations if hall.is_led(settings)}
    apart = next((happening for happening in happenings if happening.only and happening.station not in led), None)
    if apart is not None:
        raise ConfigurationError(
            f"event `{apart.action}` at station {apart.station!r} happens in some variants only; all variants meet the "
            "same loads, so that is for stations with equalization channels"
        )
    return hall


def _station(group: GroupSection, scenario: Scenario, seed: int) -> StationSettings:
    sections = [section for section, _ in channels(group, str(seed))]
    replayed = is_replayed(group.family)
    highest_a = max(section.charge_limit_w for section in sections) / 400.0
    noise = {"voltage_v": 0.02, "current_a": group.current_noise_ratio * highest_a}
    driver = (
        {"type": "replay"}
        if replayed
        else {"type": "simulated", "seed": crc32(f"{seed}/{group.station}".encode()), "noise": noise}
    )
    table = {
        "station": {"id": group.station, "on_lost": group.on_lost},
        "telemetry": {"period_s": scenario.telemetry.period_s},
        "driver": driver,
        "channel": [section.model_dump(exclude_unset=True) for section in sections],
    }
    return validate(StationSettings, table, source=f"group {group.station}")


def _starts(group: GroupSection, seed: int) -> Iterator[Happening]:
    for section, start_s in channels(group, str(seed)):
        if not section.equalize:
            yield Happening(start_s, Action.START, group.station, section.id)


def _happenings(event: EventSection, stations: list[StationSettings], seed: str) -> Iterator[Happening]:
    random = Random(seed)  # noqa: S311 - a hall's variety, no secret
    for settings in stations:
        name = settings.station.id
        if not fnmatchcase(name, event.station):
            continue
        if event.action in (Action.CUT, Action.HEAL):
            yield Happening(event.at_s, event.action, name, only=event.only)
            continue
        for channel in settings.channel:
            if fnmatchcase(channel.id, event.channel) and random.random() < event.share_ratio:
                at_s = event.at_s + random.uniform(0.0, event.within_s)
                yield Happening(at_s, event.action, name, channel.id, event.only)


COMMANDS = {
    Action.START: ChannelAction.START,
    Action.STOP: ChannelAction.STOP,
    Action.EQUALIZE: ChannelAction.EQUALIZE,
    Action.CLEAR_ALARM: ChannelAction.CLEAR_ALARM,
}
