"""What is heard of one loop: kept by the broker, or said now. Pure; time is an argument."""

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.codec import MalformedError, decode
from schemas.messages import (
    ChannelPlan,
    ChannelTelemetry,
    LoopBalance,
    Message,
    Presence,
    ServerAnnouncement,
    Setpoint,
    StationStatus,
)
from schemas.topics import (
    ChannelAddress,
    ChannelTopic,
    LoopAddress,
    LoopTopic,
    StatusAddress,
    channel_topic,
    parse,
    status_topic,
)

Key = tuple[str, str]
"""Station and channel."""

_NEVER_RETAINED = {ChannelTopic.PLAN, ChannelTopic.SETPOINT, ChannelTopic.COMMAND, ChannelTopic.REPLY}
_LOOP_NEVER_RETAINED = {LoopTopic.EVENT, LoopTopic.COMMAND, LoopTopic.REPLY}


class Ghost(NamedTuple):
    """A message that the broker keeps of something that is gone, or that should never have been kept."""

    topic: str
    why: str


@dataclass(slots=True)
class ChannelHeard:
    """What is known of a channel."""

    telemetry: ChannelTelemetry | None = None
    kept: bool = False
    """Whether the broker keeps telemetry of it."""
    live: int = 0
    """How often it spoke while we listened."""
    last_s: float | None = None
    boots: set[str] = field(default_factory=set)
    """The processes that spoke for it while we listened; more than one: two stations of the same name, or a restart."""


@dataclass(slots=True)
class Ears:
    """One loop, heard from `began_s` on."""

    loop: str
    began_s: float
    announcement: ServerAnnouncement | None = None
    balance: LoopBalance | None = None
    balances: int = 0
    """Live ones."""
    stations: dict[str, StationStatus] = field(default_factory=dict)
    channels: dict[Key, ChannelHeard] = field(default_factory=dict)
    orderers: set[tuple[str, int]] = field(default_factory=set)
    """Server and epoch of everybody who sent setpoints or balances while we listened."""
    clock_off_s: dict[str, float] = field(default_factory=dict)
    """By sender: its label less our clock at arrival; the smallest seen, for the network adds to it."""
    misplaced: set[str] = field(default_factory=set)
    """Topics with a retained message that must not be retained."""
    malformed: dict[str, str] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    """Topics below the loop that the contract does not know."""
    kept: int = 0
    """Messages that the broker had kept."""

    def take(self, topic: str, payload: bytes, now_s: float, unix_time_s: float, *, retained: bool) -> None:
        """Take a message up."""
        if not payload:
            return
        self.kept += retained
        address = parse(topic)
        if address is None:
            self.foreign.add(topic)
            return
        try:
            match address:
                case LoopAddress(leaf=LoopTopic.SERVER):
                    self.announcement = decode(ServerAnnouncement, payload)
                case LoopAddress(leaf=LoopTopic.BALANCE):
                    self._balance(decode(LoopBalance, payload), unix_time_s, retained=retained)
                case LoopAddress(leaf=leaf):
                    self._misplaced(topic, retained=retained and leaf in _LOOP_NEVER_RETAINED)
                case StatusAddress(station=station):
                    self.stations[station] = decode(StationStatus, payload)
                case ChannelAddress(station=station, channel=channel, leaf=ChannelTopic.TELEMETRY):
                    telemetry = decode(ChannelTelemetry, payload)
                    self._telemetry((station, channel), telemetry, now_s, unix_time_s, retained=retained)
                case ChannelAddress(leaf=leaf):
                    self._misplaced(topic, retained=retained and leaf in _NEVER_RETAINED)
                    self._other(leaf, payload, retained=retained)
        except MalformedError as error:
            self.malformed[topic] = str(error)

    def lives(self, station: str) -> bool:
        """Tell whether any channel of a station spoke while we listened."""
        return any(heard.live for (name, _), heard in self.channels.items() if name == station)

    def is_offline(self, station: str) -> bool:
        """Tell whether a station has said, or its will has, that it is gone."""
        status = self.stations.get(station)
        return status is not None and status.status is Presence.OFFLINE

    def ghosts(self) -> list[Ghost]:
        """Return what the broker keeps of nobody who lives, by topic; nothing that a living station said is in it."""
        found = [Ghost(topic, "must never be retained") for topic in self.misplaced]
        found.extend(
            Ghost(status_topic(self.loop, station), "the station is offline")
            for station in self.stations
            if self.is_offline(station) and not self.lives(station)
        )
        for (station, channel), heard in self.channels.items():
            why = self._why_gone(station, channel)
            if heard.kept and not heard.live and why is not None:
                found.append(Ghost(channel_topic(self.loop, station, channel, ChannelTopic.TELEMETRY), why))
        return sorted(found)

    def highest_echo(self) -> int | None:
        """Return the highest epoch that a living channel has accepted; None: none has one."""
        epochs = [
            heard.telemetry.equalization.last.epoch
            for heard in self.channels.values()
            if heard.live
            and heard.telemetry is not None
            and heard.telemetry.equalization is not None
            and heard.telemetry.equalization.last is not None
        ]
        return max(epochs, default=None)

    def _why_gone(self, station: str, channel: str) -> str | None:
        status = self.stations.get(station)
        if status is not None and channel not in status.channels:
            return "the station has no such channel"
        if self.lives(station):
            return None
        if status is None:
            return "no station of that name is known"
        return "the station is offline" if status.status is Presence.OFFLINE else None

    def _misplaced(self, topic: str, *, retained: bool) -> None:
        if retained:
            self.misplaced.add(topic)

    def _balance(self, balance: LoopBalance, unix_time_s: float, *, retained: bool) -> None:
        self.balance = balance
        if not retained:
            self.balances += 1
            self.orderers.add((balance.server, balance.epoch))
            self._label(f"server {balance.server}", balance.unix_time_s - unix_time_s)

    def _telemetry(
        self, key: Key, telemetry: ChannelTelemetry, now_s: float, unix_time_s: float, *, retained: bool
    ) -> None:
        heard = self.channels.setdefault(key, ChannelHeard())
        heard.telemetry = telemetry
        if retained:
            heard.kept = True
            return
        heard.live += 1
        heard.last_s = now_s
        heard.boots.add(telemetry.boot_id)
        self._label(f"station {key[0]}", telemetry.unix_time_s - unix_time_s)

    def _other(self, leaf: ChannelTopic, payload: bytes, *, retained: bool) -> None:
        model: type[Message]
        match leaf:
            case ChannelTopic.SETPOINT:
                setpoint = decode(Setpoint, payload)
                if not retained:
                    self.orderers.add((setpoint.server, setpoint.epoch))
                return
            case ChannelTopic.PLAN:
                model = ChannelPlan
            case _:
                return  # commands and replies are between those two
        decode(model, payload)

    def _label(self, sender: str, off_s: float) -> None:
        known = self.clock_off_s.get(sender)
        if known is None or abs(off_s) < abs(known):
            self.clock_off_s[sender] = off_s
