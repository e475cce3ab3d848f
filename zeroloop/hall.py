"""What a live view knows of a hall: fed with messages, asked by whoever draws. Pure; time is an argument."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.codec import MalformedError, decode
from schemas.messages import (
    ChannelTelemetry,
    Event,
    LoopBalance,
    Phase,
    Presence,
    ServerAnnouncement,
    StationStatus,
)
from schemas.topics import (
    ROOT,
    ChannelAddress,
    ChannelTopic,
    LoopAddress,
    LoopTopic,
    StatusAddress,
    channel_filter,
    loop_topic,
    parse,
    status_filter,
)

HISTORY_S = 600
OPENING_S = 10
_EVENTS = 50


@dataclass(frozen=True, slots=True)
class Residual:
    """The loop's power at one moment."""

    with_w: float
    """What the grid sees."""
    without_w: float
    """What it would see with the equalization channels at 0 W."""


@dataclass(slots=True)
class ChannelView:
    """The last that is known of a channel."""

    telemetry: ChannelTelemetry
    live_s: float | None = None
    """When it last came live; None: only the broker's memory of it is known."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence between two messages of one kind from one sender."""

    seconds: float
    sender: str


@dataclass(slots=True)
class Hall:
    """One loop, as far as it has been heard of."""

    loop: str
    announcement: ServerAnnouncement | None = None
    balance: LoopBalance | None = None
    opening: LoopBalance | None = None
    """The first that came live: its account and its counts may be from before."""
    balance_s: float | None = None
    stations: dict[str, StationStatus] = field(default_factory=dict)
    channels: dict[tuple[str, str], ChannelView] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    history: deque[Residual] = field(default_factory=lambda: deque(maxlen=HISTORY_S))
    first: list[Residual] = field(default_factory=list)
    """The history's first seconds, kept for good."""
    messages: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    worst_gap: Gap | None = None

    def filters(self) -> tuple[tuple[str, int], ...]:
        """Return what to subscribe to, each with its QoS."""
        return (
            (loop_topic(self.loop, LoopTopic.SERVER), 1),
            (loop_topic(self.loop, LoopTopic.BALANCE), 0),
            (loop_topic(self.loop, LoopTopic.EVENT), 1),
            (status_filter(self.loop), 1),
            (channel_filter(self.loop, ChannelTopic.TELEMETRY), 0),
        )

    def take(self, topic: str, payload: bytes, now_s: float, *, retained: bool) -> None:
        """Take a message up; a malformed one is counted, and changes nothing else."""
        address = parse(topic)
        try:
            match address:
                case LoopAddress(leaf=LoopTopic.SERVER):
                    self.announcement = decode(ServerAnnouncement, payload)
                case LoopAddress(leaf=LoopTopic.BALANCE):
                    self._balance(decode(LoopBalance, payload), now_s, retained=retained)
                case LoopAddress(leaf=LoopTopic.EVENT):
                    self.events.append(decode(Event, payload))
                case StatusAddress(station=station):
                    self.stations[station] = decode(StationStatus, payload)
                case ChannelAddress(station=station, channel=channel, leaf=ChannelTopic.TELEMETRY):
                    self._telemetry((station, channel), decode(ChannelTelemetry, payload), now_s, retained=retained)
                case _:
                    return
        except MalformedError:
            self.malformed += 1
            return
        self.messages[topic.rpartition("/")[2]] += 1

    def age_s(self, key: tuple[str, str], now_s: float) -> float | None:
        """Return the seconds since a channel's last live telemetry; None: there was none."""
        live_s = self.channels[key].live_s
        return None if live_s is None else now_s - live_s

    def is_offline(self, station: str) -> bool:
        """Tell whether a station has said, or its will has, that it is gone."""
        status = self.stations.get(station)
        return status is not None and status.status is Presence.OFFLINE

    def alarms(self) -> list[tuple[str, str, str]]:
        """Return station, channel and text of every alarm that stands."""
        return [
            (station, channel, f"{view.telemetry.alarm.code}: {view.telemetry.alarm.text}")
            for (station, channel), view in sorted(self.channels.items())
            if view.telemetry.alarm is not None
        ]

    def recent(self, seconds: int) -> list[Residual]:
        """Return the residuals of the last seconds, the newest last."""
        return list(self.history)[-seconds:]

    def _balance(self, balance: LoopBalance, now_s: float, *, retained: bool) -> None:
        self.balance = balance
        if retained:
            return
        if self.balance_s is None:
            self.opening = balance
        else:
            self._silence(now_s - self.balance_s, "the equalizer")
        self.balance_s = now_s
        if balance.phase is not Phase.STARTING:  # a total of what has been heard so far is none
            residual = Residual(balance.total_power_w, balance.load_power_w)
            self.history.append(residual)
            if len(self.first) < OPENING_S:
                self.first.append(residual)

    def _telemetry(self, key: tuple[str, str], telemetry: ChannelTelemetry, now_s: float, *, retained: bool) -> None:
        view = self.channels.get(key)
        if view is None:
            view = self.channels[key] = ChannelView(telemetry)
        view.telemetry = telemetry
        if retained:
            return
        if view.live_s is not None:
            self._silence(now_s - view.live_s, f"{key[0]}/{key[1]}")
        view.live_s = now_s

    def _silence(self, seconds: float, sender: str) -> None:
        if self.worst_gap is None or seconds > self.worst_gap.seconds:
            self.worst_gap = Gap(seconds, sender)


def mean_magnitude_w(powers_w: Sequence[float]) -> float:
    """Return the mean of the magnitudes; 0 where there is none."""
    return sum(abs(power_w) for power_w in powers_w) / len(powers_w) if powers_w else 0.0


def topics_below(loop: str) -> str:
    """Return the filter that shows everything of a loop."""
    return f"{ROOT}/{loop}/#"
