"""The hot path: what the broker delivers, straight into the book.

A topic is parsed when it is first seen; from then on one look-up leads to the handler of its channel. What a message
changes is noted, and the control is asked for once a batch, not once a message.
"""

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from equalizer.audit.clerk import nobody
from equalizer.control.book import LoopBook
from equalizer.control.forecast import MICRO
from equalizer.control.records import ChannelRecord
from equalizer.diary import Diary, Mark
from equalizer.meter import read_power
from equalizer.metrics import Counters
from schemas import topics
from schemas.codec import MalformedError, MalformedReason, decode, decode_telemetry
from schemas.messages import (
    ChannelPlan,
    LoopBalance,
    MeterReading,
    Presence,
    ServerAnnouncement,
    Setpoint,
    SetpointEcho,
    SetpointResult,
    StationStatus,
)
from schemas.topics import ChannelAddress, ChannelTopic, LoopTopic, StatusAddress
from transport.tap import Routes, Taker

_LOG = logging.getLogger(__name__)

LARGEST_LOOP_TOPICS = 500_000
"""Two topics a channel and one a station; whatever floods the broker with names beyond is not remembered."""
_COMPLAINTS = 10_000
_PATIENCE = 20
_MUTED_S = 1.0
"""So many malformed messages of a topic, and it is not read for so long: whoever floods with them must not take the
time that the others' telemetry needs."""

_OWN_METER_PATH = ("power_w",)


class Listener(Protocol):
    """Whom the link tells what is not mere measurement."""

    def material(self, now_s: float) -> None:
        """Something came that may call for a decision."""

    def announcement(self, message: ServerAnnouncement, *, retained: bool) -> None:
        """A server of this loop spoke; it may be this one."""

    def balance(self, message: LoopBalance, *, retained: bool) -> None:
        """A server of this loop said how the loop stands; it may be this one."""

    def overheard(self, station: str, channel: str, setpoint: Setpoint) -> None:
        """A server of this loop sent a setpoint; it may be this one."""

    def announcement_cleared(self) -> None:
        """The retained announcement was removed."""

    def station(self, name: str, presence: Presence | None, *, retained: bool) -> None:
        """A station said that it is there or gone; None: it was removed."""

    def echo(self, station: str, channel: str, echo: SetpointEcho, *, fresh: bool) -> None:
        """A channel says what became of a setpoint; fresh: it decided on it just now."""


class Link:
    """Takes messages apart and hands them to the book.

    Args:
        loop: the loop's name; messages of other loops are ignored.
        book: collects what the stations say; may be exchanged.
        counters: what is counted on the way.
        clock: monotonic seconds.
        material_w: a change of the loop's power by this much is worth a decision at once.
        meter: topic, key path and factor of the grid meter.
        command: called with an operator's command.
        overhears: whether it listens to the setpoints that are sent, whoever sends them.
    """

    def __init__(
        self,
        loop: str,
        *,
        book: LoopBook,
        counters: Counters,
        clock: Callable[[], float],
        material_w: float,
        meter: tuple[str, tuple[str, ...], float],
        command: Callable[[bytes], None],
        overhears: bool = False,
    ) -> None:
        self.loop = loop
        self.book = book
        self.counters = counters
        self.listener: Listener
        """Told what is not mere measurement; set before the first message."""
        self.clock = clock
        self.diary = Diary()
        """Notes when was decided on what."""
        self.clerk = nobody()
        """Writes down what operators ask of stations, and what these reply."""
        self.of_unknown_age = True
        """Until the broker has delivered what it held for this connection, nothing proves that a message is new."""
        self.material_w = material_w
        """Follows the hysteresis band."""
        self._moved_uw = 0
        self._spoiled = False
        self._operator = command
        self._overhears = overhears
        self._meter_topic, self._meter_path, self._meter_factor = meter
        self._own_meter_topic = topics.loop_topic(loop, LoopTopic.METER)
        self._takers: dict[bytes, Taker] = {}
        self._is_telemetry = topics.channel_pattern(loop, ChannelTopic.TELEMETRY).fullmatch
        self._complained: set[str] = set()
        self._bad: Counter[str] = Counter()
        self.reset(book)

    @property
    def routes(self) -> Routes:
        """Who takes which topic's messages, as far as is known yet; `take` finds out about the others."""
        return self._takers

    @property
    def filters(self) -> tuple[tuple[str, int], ...]:
        """What to subscribe to, each with its QoS; presence first."""
        loop = self.loop
        setpoints = ((topics.channel_filter(loop, ChannelTopic.SETPOINT), 0),) if self._overhears else ()
        return (
            (topics.loop_topic(loop, LoopTopic.SERVER), 1),
            (topics.loop_topic(loop, LoopTopic.BALANCE), 0),
            (topics.status_filter(loop), 1),
            *setpoints,
            (topics.loop_topic(loop, LoopTopic.COMMAND), 1),
            (topics.channel_filter(loop, ChannelTopic.COMMAND), 1),
            (topics.channel_filter(loop, ChannelTopic.REPLY), 1),
            (self._meter_topic, 0),
            (topics.channel_filter(loop, ChannelTopic.PLAN), 0),
            (topics.channel_filter(loop, ChannelTopic.TELEMETRY), 0),
        )

    @property
    def sure_filters(self) -> tuple[str, ...]:
        """Those of them whose retained messages are said once: a station that is missed counts as gone."""
        return (topics.status_filter(self.loop),)

    def reset(self, book: LoopBook) -> None:
        """Begin anew with an empty book; what comes is of unknown age until `of_unknown_age` is taken back."""
        self.book = book
        self.of_unknown_age = True
        self._moved_uw = 0
        self._takers.clear()
        handlers = {
            topics.loop_topic(self.loop, LoopTopic.SERVER): self._announcement,
            topics.loop_topic(self.loop, LoopTopic.BALANCE): self._balance,
            topics.loop_topic(self.loop, LoopTopic.COMMAND): self._command,
            self._meter_topic: self._meter,
        }
        self._takers.update((topic.encode(), _Passed(handler)) for topic, handler in handlers.items())

    def take(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - the session's callback
        """Take one message. Never raises for what a message holds."""
        name = topic.encode()
        taker = self._takers.get(name)
        if taker is None:
            taker = self._resolve(topic, name)
            if taker is None or len(self._takers) >= LARGEST_LOOP_TOPICS:
                self._refuse(topic)
                return
            self._takers[name] = taker
        taker.take(payload, retained)

    def malformed(self, source: str, reason: MalformedReason, text: str) -> None:
        """Count a message that breaks the contract, and log the first of each source."""
        self.counters.malformed[reason] += 1
        if len(self._bad) >= _COMPLAINTS:
            self._bad.clear()
        self._bad[source] += 1
        if self._bad[source] >= _PATIENCE:
            self._mute(source)
        if source not in self._complained and len(self._complained) < _COMPLAINTS:
            self._complained.add(source)
            _LOG.warning("malformed source=%s reason=%s text=%r", source, reason, text[:200])

    def _mute(self, source: str) -> None:
        """Look no further at a topic for a second: to explain a malformed message costs ten times its reading."""
        del self._bad[source]
        name = source.encode()
        taker = self._takers.get(name)
        if taker is not None:
            self._takers[name] = _Muted(self, name, taker, self.clock() + _MUTED_S)

    def unmute(self, name: bytes, taker: Taker) -> None:
        """Listen to a topic again."""
        self._takers[name] = taker

    def moved(self, change_uw: int) -> bool:
        """Add a channel's change of power; true where the loop's has moved enough since the last decision."""
        self._moved_uw += change_uw
        return abs(self._moved_uw) >= self.material_w * MICRO

    @property
    def mark(self) -> Mark:
        """How far the diary has come."""
        return Mark(self.diary.run, self.counters.telemetry, self.diary.others, self.diary.led, self.diary.cycles)

    def is_spoiled(self) -> bool:
        """Tell once whether something malformed may have replaced the retained announcement."""
        spoiled, self._spoiled = self._spoiled, False
        return spoiled

    def decided(self, now_s: float) -> None:
        """Note that a decision has seen everything so far."""
        self._moved_uw = 0
        self.diary.decided(now_s, self.counters.telemetry)

    def _resolve(self, topic: str, name: bytes) -> Taker | None:
        found = self._is_telemetry(name)
        if found is not None:  # asked first, as on connecting a whole hall's comes at once
            return _TelemetryFeed(self, found[1].decode(), found[2].decode())
        match topics.parse(topic):
            case ChannelAddress(loop, station, channel, ChannelTopic.PLAN) if loop == self.loop:
                return _PlanFeed(self, station, channel)
            case ChannelAddress(loop, station, channel, ChannelTopic.SETPOINT) if loop == self.loop and self._overhears:
                return _SetpointFeed(self, station, channel)
            case ChannelAddress(loop, station, channel, ChannelTopic.COMMAND | ChannelTopic.REPLY as leaf) if (
                loop == self.loop
            ):
                return _Passed(partial(self._overheard, station, channel, leaf))
            case StatusAddress(loop, station) if loop == self.loop:
                return _StationFeed(self, station)
            case _:
                return None

    def _overheard(self, station: str, channel: str, leaf: ChannelTopic, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - a handler
        if retained:
            return
        try:
            self.clerk.channel_said(station, channel, leaf, payload)
        except MalformedError as error:
            self.malformed(topics.channel_topic(self.loop, station, channel, leaf), error.reason, str(error))

    def _refuse(self, topic: str) -> None:
        if topic not in self._complained and len(self._complained) < _COMPLAINTS:
            self._complained.add(topic)
            _LOG.warning("ignored topic=%r", topic[:200])

    def _announcement(self, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - a handler
        if not payload:
            self.listener.announcement_cleared()
            return
        try:
            message = decode(ServerAnnouncement, payload)
        except MalformedError as error:
            self.malformed("server", error.reason, str(error))
            self._spoiled = True
            return
        self.listener.announcement(message, retained=retained)

    def _balance(self, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - a handler
        if not payload:
            return
        try:
            message = decode(LoopBalance, payload)
        except MalformedError as error:
            self.malformed("balance", error.reason, str(error))
            return
        self.listener.balance(message, retained=retained)

    def _command(self, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - a handler
        if retained:
            self.malformed("command", MalformedReason.UNEXPECTED_RETAIN, "a retained command")
            return
        self._operator(payload)

    def _meter(self, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - a handler
        now_s = self.clock()
        self.diary.heard(now_s)
        if not payload or retained or self.of_unknown_age:
            return  # a retained reading may be hours old
        try:
            power_w = self._read_meter(payload)
        except MalformedError as error:
            self.malformed(self._meter_topic, error.reason, str(error))
            return
        self.book.meter(power_w, now_s)

    def _read_meter(self, payload: bytes) -> float:
        """Read the contract's own topic as the contract says, and any other as meters are."""
        path, factor = self._meter_path, self._meter_factor
        if self._meter_topic == self._own_meter_topic and path == _OWN_METER_PATH:
            return decode(MeterReading, payload).power_w * factor
        return read_power(payload, path, factor)


class _Passed:
    """What is passed to one of the link's own methods."""

    __slots__ = ("take",)

    def __init__(self, handler: Callable[[bytes, bool], None]) -> None:
        self.take = handler


class _Muted:
    """Takes a topic's messages unread until the time is up."""

    __slots__ = ("_link", "_name", "_taker", "_until_s")

    def __init__(self, link: Link, name: bytes, taker: Taker, until_s: float) -> None:
        self._link = link
        self._name = name
        self._taker = taker
        self._until_s = until_s

    def take(self, payload: bytes, retained: bool, /) -> None:  # noqa: FBT001 - as above
        link = self._link
        if link.clock() < self._until_s:
            link.counters.malformed[MalformedReason.MUTED] += 1
            return
        link.unmute(self._name, self._taker)
        self._taker.take(payload, retained)


class _StationFeed:
    """The status of one station."""

    __slots__ = ("_link", "_name")

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name

    def take(self, payload: bytes, retained: bool, /) -> None:  # noqa: FBT001 - the hot path passes no keywords
        link = self._link
        now_s = link.clock()
        link.diary.heard(now_s)
        if not payload:
            link.book.forget(self._name)
            link.listener.station(self._name, None, retained=retained)
            link.listener.material(now_s)
            return
        try:
            message = decode(StationStatus, payload)
        except MalformedError as error:
            link.malformed(topics.status_topic(link.loop, self._name), error.reason, str(error))
            return
        if not link.book.status(self._name, message, now_s):
            return
        link.listener.station(self._name, message.status, retained=retained)
        link.listener.material(now_s)


class _TelemetryFeed:
    """The telemetry of one channel."""

    __slots__ = ("_channel", "_doing", "_echoed", "_link", "_record", "_station")

    def __init__(self, link: Link, station: str, channel: str) -> None:
        self._link = link
        self._station = station
        self._channel = channel
        self._record: ChannelRecord | None = None
        self._doing: object = None
        """What it was at when it was last heard live; None: it has not been."""
        self._echoed: SetpointEcho | None = None

    def take(self, payload: bytes, retained: bool, /) -> None:  # noqa: FBT001 - as above
        link = self._link
        link.counters.telemetry += 1
        try:
            message = decode_telemetry(payload)
        except MalformedError as error:
            if payload:
                topic = topics.channel_topic(link.loop, self._station, self._channel, ChannelTopic.TELEMETRY)
                link.malformed(topic, error.reason, str(error))
            return
        now_s = link.clock()
        equalization = message.equalization
        record = self._record
        if record is None or record.closed:
            record = self._record = link.book.record(self._station, self._channel, now_s)
        if retained or link.of_unknown_age:
            # It is counted, and calls for no decision: the phase is `starting` until what is new has come.
            link.book.hear(record, message, retained=True, now_s=now_s)
            if equalization is not None and equalization.last is not None:
                self._echo(equalization.last, fresh=False)
            return
        if equalization is not None:
            link.diary.answered(now_s)
        before_uw = record.power_uw
        link.book.hear(record, message, retained=False, now_s=now_s)
        material = link.moved(record.power_uw - before_uw)
        doing = (message.step_id, message.work_status, message.alarm is None, equalization is None)
        if equalization is not None and equalization.last is not None:
            material = self._echo(equalization.last, fresh=self._doing is not None) or material
        if doing != self._doing:
            self._doing = doing
            material = True
        if material:
            link.listener.material(now_s)

    def _echo(self, echo: SetpointEcho, *, fresh: bool) -> bool:
        """Report a decision of the channel once; true where it is a new one."""
        known = self._echoed
        if known is not None and _same(known, echo):
            return False
        self._echoed = echo
        link = self._link
        if fresh and echo.result is SetpointResult.REJECTED and echo.reason is not None:
            link.counters.refused[echo.reason] += 1
        link.listener.echo(self._station, self._channel, echo, fresh=fresh)
        return True


class _ChannelFeed:
    """What comes of one channel beside its telemetry."""

    __slots__ = ("_channel", "_link", "_station")

    leaf: ChannelTopic

    def __init__(self, link: Link, station: str, channel: str) -> None:
        self._link = link
        self._station = station
        self._channel = channel

    def _malformed(self, reason: MalformedReason, text: str) -> None:
        link = self._link
        link.malformed(topics.channel_topic(link.loop, self._station, self._channel, self.leaf), reason, text)


class _PlanFeed(_ChannelFeed):
    """The plans of one channel."""

    __slots__ = ()

    leaf = ChannelTopic.PLAN

    def take(self, payload: bytes, retained: bool, /) -> None:  # noqa: FBT001 - as above
        link = self._link
        now_s = link.clock()
        link.diary.heard(now_s)
        if retained:
            self._malformed(MalformedReason.UNEXPECTED_RETAIN, "a retained plan")
            return
        try:
            message = decode(ChannelPlan, payload)
        except MalformedError as error:
            self._malformed(error.reason, str(error))
            return
        if link.of_unknown_age:
            return  # its times count from sending, and nobody knows when that was
        link.book.plan(self._station, self._channel, message, now_s)
        link.listener.material(now_s)


class _SetpointFeed(_ChannelFeed):
    """The setpoints to one channel, overheard."""

    __slots__ = ()

    leaf = ChannelTopic.SETPOINT

    def take(self, payload: bytes, retained: bool, /) -> None:  # noqa: FBT001 - as above
        link = self._link
        if retained or link.of_unknown_age:
            return
        try:
            message = decode(Setpoint, payload)
        except MalformedError as error:
            self._malformed(error.reason, str(error))
            return
        link.listener.overheard(self._station, self._channel, message)


def _same(one: SetpointEcho, other: SetpointEcho) -> bool:
    return (
        one.seq == other.seq and one.epoch == other.epoch and one.result is other.result and one.server == other.server
    )
