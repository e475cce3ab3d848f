"""Runs the loads of a recording against other settings.

The loads say again what they said, when they said it; the equalization channels are simulated ones of the recorded
limits, since what they did was the recorded controller's work. A channel that was ever led is taken for one of them.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from equalizer.config import ControlSection, EqualizerSettings
from recording.reader import Recording, Row
from schemas import topics
from schemas.codec import MalformedError, decode, encode
from schemas.messages import ChannelTelemetry, LoopBalance, OnLost, Presence, ServerAnnouncement, StationStatus
from schemas.settings import ConfigurationError, parse, validate
from schemas.topics import ChannelAddress, ChannelTopic, LoopAddress, LoopTopic, StatusAddress
from simulation.clock import BEGIN_S, TICK_S
from simulation.families import channels
from simulation.hall import Hall
from simulation.loads import Sent
from simulation.redecide import Agreement, agreement
from simulation.run import SLICE_S, Contest, Progress, Result
from simulation.scenario import (
    LEAST_S,
    Controller,
    Family,
    GroupSection,
    NetworkSection,
    Scenario,
    StationSection,
    VariantSection,
)
from simulation.station import LOOP
from station.config import StationSettings
from transport.files import read_text

AS_RECORDED = "as recorded"
_NETWORK = NetworkSection(delay_s=0.0, jitter_s=0.0)
"""What is recorded has arrived already; orders have as short a way."""
_LEAST_RATING_W = 100.0

Key = tuple[str, str]


@dataclass(slots=True)
class _Led:
    """An equalization channel, as it was recorded."""

    charge_limit_w: float = _LEAST_RATING_W
    discharge_limit_w: float = _LEAST_RATING_W
    ramp_w_per_s: float = 1.0
    soc_ratio: float | None = None
    """At the beginning; which channel is taken depends on it."""


@dataclass(slots=True)
class _Loads:
    """The recorded loads, as what they send and what they draw."""

    led: dict[Key, _Led]
    sent: list[Sent] = field(default_factory=list)
    power_w: "array[float]" = field(default_factory=lambda: array("d"))
    now_w: dict[Key, float] = field(default_factory=dict)
    sum_w: float = 0.0

    def take(self, row: Row) -> None:
        """Take up one message."""
        self._sample(row.at_s)
        address = topics.parse(row.topic)
        payload: bytes | None = None
        qos, topic = 0, ""
        try:
            match address:
                case ChannelAddress(_, station, channel, ChannelTopic.TELEMETRY | ChannelTopic.PLAN as leaf):
                    if row.retained or (station, channel) in self.led:
                        return
                    topic, payload = topics.channel_topic(LOOP, station, channel, leaf), row.payload
                    if leaf is ChannelTopic.TELEMETRY:
                        self._flows((station, channel), decode(ChannelTelemetry, payload).power_w)
                case StatusAddress(_, station):
                    qos, topic = 1, topics.status_topic(LOOP, station)
                    payload = self._status(station, decode(StationStatus, row.payload))
                case LoopAddress(leaf=LoopTopic.METER):
                    topic, payload = topics.loop_topic(LOOP, LoopTopic.METER), row.payload
                case _:
                    return
        except MalformedError:
            return
        if payload is not None:
            self.sent.append(Sent(BEGIN_S + row.at_s, topic, payload, qos))

    def _status(self, station: str, status: StationStatus) -> bytes | None:
        """Return a station's status without its led channels; None where it has no other."""
        names = tuple(name for name in status.channels if (station, name) not in self.led)
        if not names:
            return None
        if status.status is Presence.OFFLINE and status.on_lost is OnLost.ZERO:
            for name in names:
                self._flows((station, name), 0.0)
        return encode(status.model_copy(update={"channels": names}))

    def _flows(self, key: Key, power_w: float) -> None:
        self.sum_w += power_w - self.now_w.get(key, 0.0)
        self.now_w[key] = power_w

    def _sample(self, until_s: float) -> None:
        while (len(self.power_w) + 0.5) * TICK_S < until_s:
            self.power_w.append(self.sum_w)


def replay(
    path: Path,
    *,
    against: tuple[Path, ...] = (),
    duration_s: float | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda passed_s: None,  # noqa: ARG005 - nobody looks
) -> tuple[Scenario, tuple[Result, ...], Agreement]:
    """Run a recording's loads against the recorded settings, without plans, with one global correction, and others'.

    Args:
        path: the recording.
        against: equalizer.toml files; each is a variant under its name.
        duration_s: only so much of it.
        only: names of the variants that are run; empty: all.
        progress: told the virtual seconds that have passed.

    Returns:
        The scenario, the results, and how many of the recorded changes today's control decides again, of how many.

    Raises:
        ConfigurationError: the recording or a file cannot be used.
    """
    recording = Recording(path)
    rows = list(recording.rows())
    length_s = min(rows[-1].at_s if rows else 0.0, duration_s if duration_s is not None else float("inf"))
    loads = _Loads(_led(rows))
    if not loads.led:
        raise ConfigurationError(f"{path}: no channel in it was ever in equalization mode: there is nothing to steer")
    if length_s < LEAST_S:
        raise ConfigurationError(f"{path}: {length_s:g} s are too short to be played again")
    for row in rows:
        loads.take(row)
    scenario = _scenario(recording, rows, length_s, against).only(only)
    hall = Hall(tuple(_stations(loads)), tuple(path.parent for _ in _names(loads)), ())
    contests = [Contest(variant, scenario, hall, str(scenario.seed)) for variant in scenario.variant]
    passed_s, begin = 0.0, 0
    while passed_s < length_s:
        passed_s = min(passed_s + SLICE_S, length_s)
        end = begin
        while end < len(loads.sent) and loads.sent[end].sent_s < BEGIN_S + passed_s:
            end += 1
        for contest in contests:
            contest.take(loads.sent[begin:end])
            contest.timeline.run(BEGIN_S + passed_s)
        begin = end
        progress(passed_s / length_s)
    again = agreement(recording, rows, scenario.control, length_s)
    return scenario, tuple(contest.result(loads.power_w) for contest in contests), again


def _led(rows: list[Row]) -> dict[Key, _Led]:
    led: dict[Key, _Led] = {}
    for row, key, said in _telemetry(rows):
        if said.equalization is None or row.retained:
            continue
        known = led.setdefault(key, _Led(soc_ratio=said.soc_ratio))
        known.charge_limit_w = max(known.charge_limit_w, said.equalization.charge_limit_w)
        known.discharge_limit_w = max(known.discharge_limit_w, said.equalization.discharge_limit_w)
        known.ramp_w_per_s = max(known.ramp_w_per_s, said.equalization.ramp_w_per_s)
    return led


def _telemetry(rows: list[Row]) -> Iterator[tuple[Row, Key, ChannelTelemetry]]:
    for row in rows:
        address = topics.parse(row.topic)
        if isinstance(address, ChannelAddress) and address.leaf is ChannelTopic.TELEMETRY:
            try:
                yield row, (address.station, address.channel), decode(ChannelTelemetry, row.payload)
            except MalformedError:
                continue


def _names(loads: _Loads) -> list[str]:
    return sorted({station for station, _ in loads.led})


def _stations(loads: _Loads) -> Iterator[StationSettings]:
    """Yield a station for the led channels of each; where it has loads too, under a name of its own."""
    busy = {topics.parse(sent.topic).station for sent in loads.sent if "/station/" in sent.topic}  # type: ignore[union-attr]  # a station's
    for station in _names(loads):
        sections = []
        for (_, name), led in ((key, led) for key, led in sorted(loads.led.items()) if key[0] == station):
            rating_w = max(_LEAST_RATING_W, led.charge_limit_w, led.discharge_limit_w)
            group = GroupSection(station=station, family=Family.EQUALIZATION, count=1, rating_w=(rating_w, rating_w))
            ((section, _),) = channels(group, "0")
            table = section.model_dump(exclude_unset=True)
            if led.soc_ratio is not None:
                table["battery"] = table["battery"] | {"soc_ratio": led.soc_ratio}
            sections.append(
                table
                | {
                    "id": name,
                    "charge_limit_w": led.charge_limit_w,
                    "discharge_limit_w": led.discharge_limit_w,
                    "ramp_w_per_s": led.ramp_w_per_s,
                }
            )
        name = f"{station}-led" if station in busy else station
        yield validate(
            StationSettings,
            {"station": {"id": name}, "driver": {"type": "simulated"}, "channel": sections},
            source=f"station {station} of the recording",
        )


def _scenario(recording: Recording, rows: list[Row], length_s: float, against: tuple[Path, ...]) -> Scenario:
    variants = [
        VariantSection(name=AS_RECORDED),
        VariantSection(name="without plans", plans=False),
        VariantSection(name="literal delay", controller=Controller.LITERAL_DELAY),
    ]
    for file in against:
        control = _control_of(file)
        variants.append(
            VariantSection(
                name=file.stem,
                policy=control.policy,
                delay_s=control.delay_s,
                engage_w=control.engage_w,
                release_w=control.release_w,
            )
        )
    return Scenario(
        title=f"recording {recording.path.name}",
        duration_s=length_s,
        control=_recorded_control(recording, rows),
        network=_NETWORK,
        station=(StationSection(config=recording.path.name),),
        variant=tuple(variants),
    )


def _control_of(file: Path) -> ControlSection:
    return parse(EqualizerSettings, read_text(file), source=str(file), environment={}).control


def _recorded_control(recording: Recording, rows: list[Row]) -> ControlSection:
    """Return the settings as the recorder was given them; else as far as the equalizer itself told of them."""
    kept = recording.settings()
    if kept is not None:
        return EqualizerSettings.model_validate_json(kept).control
    said: dict[str, object] = {}
    for row in rows:
        address = topics.parse(row.topic)
        if not isinstance(address, LoopAddress):
            continue
        try:
            if address.leaf is LoopTopic.SERVER:
                announced = decode(ServerAnnouncement, row.payload).control
                said |= {"policy": announced.policy, "delay_s": announced.delay_s}
            elif address.leaf is LoopTopic.BALANCE:
                balance = decode(LoopBalance, row.payload)
                if balance.engage_w is not None and balance.release_w is not None:
                    said |= {"engage_w": balance.engage_w, "release_w": balance.release_w}
        except MalformedError:
            continue
    return ControlSection.model_validate(said)


__all__ = ["AS_RECORDED", "replay"]
