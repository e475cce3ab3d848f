"""The station's MQTT: topics in and out, its status and its last will. Decides nothing about channels."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from schemas.codec import MAX_PAYLOAD_BYTES, MalformedError, MalformedReason, decode, encode
from schemas.messages import (
    ChannelCommand,
    ChannelPlan,
    ChannelTelemetry,
    Event,
    OnLost,
    Phase,
    Presence,
    Reply,
    ReplyReason,
    ServerAnnouncement,
    Setpoint,
    Severity,
    StationStatus,
    Values,
)
from schemas.topics import (
    ChannelAddress,
    ChannelTopic,
    LoopAddress,
    LoopTopic,
    StatusAddress,
    channel_filter,
    channel_topic,
    loop_topic,
    parse,
    status_topic,
)
from station.channel.commands import Refusal, rejection
from station.claim import LONGEST_BOOT_ID
from station.connection import Connection
from station.metrics import Tally
from transport.session import Session, Will, unguessable

_FLUSH_S = 2.0
_LONGEST_ECHO = 1000
_MOST_COMPLAINTS = 10_000
"""Anybody may invent channel names; remembering them all is not our duty."""
_HELD_EVENTS = 100
_MOST_NAMESAKES = 100
"""Others of this station's name that are told of, each once; whoever makes up more of them is told of no more."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a station says of itself."""

    station: str
    boot_id: str
    version: str
    driver: str
    channels: tuple[str, ...]
    on_lost: OnLost


class Inbox(Protocol):
    """Who acts on what arrives."""

    def on_setpoint(self, channel_id: str, setpoint: Setpoint) -> None:
        """Decide on a setpoint, now."""

    def on_command(self, channel_id: str, command: ChannelCommand) -> None:
        """Carry out a command and reply."""

    def on_malformed_command(self, channel_id: str, command_id: str, action: str, text: str) -> None:
        """Answer a command that breaks the contract but has an id."""

    def on_server(self, server: str, epoch: int) -> None:
        """Take note of the newest server of the loop, online or not."""

    def on_server_begins(self) -> None:
        """Publish every plan anew: a server has begun to listen, and has heard none of those before."""

    def on_connected(self) -> None:
        """Publish everything anew: nobody may rely on what was sent over another connection, or before a late will."""


class Link:
    """One station's connection to one loop.

    Args:
        identity: what it says of itself.
        tally: where it counts.
        telemetry_period_s: the station's own; it is compared with what the server expects.
        clock: monotonic seconds.
        utc: seconds since 1970, for labels.
        open_session: makes the connection to the broker.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        tally: Tally,
        telemetry_period_s: float,
        clock: Callable[[], float],
        utc: Callable[[], float],
        open_session: Callable[..., Session] = Session,
    ) -> None:
        self.loop: str | None = None
        """The loop's name; null until one is found."""
        self.server_online = False
        self._served_by: tuple[str, int, bool] | None = None
        """The server that was heard live over this connection, its epoch, and whether it has not heard a round yet."""
        self.identity = identity
        self._inbox: Inbox | None = None
        self._tally = tally
        self._telemetry_period_s = telemetry_period_s
        self._clock = clock
        self._utc = utc
        self._open_session = open_session
        self._session: Session | None = None
        self._leaving = False
        self._lost = False
        self._complained_of: set[str] = set()
        self._namesakes: set[str] = set()
        self._channel_topics: dict[tuple[str, ChannelTopic], str] = {}
        self._early_events: deque[Event] = deque(maxlen=_HELD_EVENTS)

    @property
    def connected(self) -> bool:
        """Whether what is published now reaches the broker; false from the farewell on."""
        return self._session is not None and self._session.connected and not self._leaving

    @property
    def peer_expiry_unix_time_s(self) -> float | None:
        """Until when the certificate holds that the broker showed; null without TLS or connection."""
        return None if self._session is None else self._session.peer_expiry_unix_time_s

    @property
    def dropped_messages(self) -> int:
        """How many messages were outdated before they could be sent, or too large for the broker."""
        return 0 if self._session is None else self._session.dropped_messages

    async def run(self, connection: Connection, inbox: Inbox, *, give_up_s: float | None = None) -> None:
        """Stay connected to a loop's broker until cancelled or closed; `inbox` acts on what arrives.

        Raises:
            ConnectionFailedError: the broker has been gone for `give_up_s`; null: that never happens.
        """
        before, self._inbox = self._session, inbox
        self.loop = loop = connection.loop
        self._channel_topics = {
            (channel, leaf): channel_topic(loop, self.identity.station, channel, leaf)
            for channel in self.identity.channels
            for leaf in (ChannelTopic.TELEMETRY, ChannelTopic.PLAN)
        }
        self._session = self._open_session(
            connection.broker,
            # A second station of the same name is told apart before it can throw this one out.
            client_id=unguessable(self.identity.station),
            on_message=self._on_message,
            on_connected=self._on_connected,
            on_disconnected=self._on_disconnected,
            will=Will(self._own_status, encode(self._status(Presence.OFFLINE))),
            clock=self._clock,
        )
        if before is not None:
            self._session.inherit(before)
        await self._session.run(give_up_s=give_up_s)

    async def close(self) -> None:
        """Say `offline` and take leave: a clean disconnect sends no will."""
        session = self._session
        if session is None or self._leaving:
            return
        self._leaving = True
        self._publish_status(session, Presence.OFFLINE)
        await session.flush(_FLUSH_S)
        await session.close()

    # ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def telemetry(self, channel_id: str, message: ChannelTelemetry, *, retain: bool) -> None:
        """Publish a channel's telemetry."""
        if self._session is not None:
            topic = self._channel_topics[channel_id, ChannelTopic.TELEMETRY]
            self._session.publish(topic, encode(message), qos=0, retain=retain)
            self._tally.telemetry += 1

    def plan(self, channel_id: str, message: ChannelPlan) -> None:
        """Publish a channel's plan."""
        if self._session is not None:
            self._session.publish(self._channel_topics[channel_id, ChannelTopic.PLAN], encode(message), qos=0)
            self._tally.plans += 1

    def reply(self, channel_id: str, message: Reply) -> None:
        """Answer a command."""
        self._tally.commands[message.result] += 1
        if self._session is None:
            return
        topic = channel_topic(self.loop or "", self.identity.station, channel_id, ChannelTopic.REPLY)
        try:
            payload = encode(message)
        except MalformedError as error:  # the command's id fills the whole message
            self._drop(topic, error)
            return
        self._session.publish(topic, payload, qos=1)

    def event(
        self, severity: Severity, code: str, text: str, values: Values | None = None, *, channel_id: str | None = None
    ) -> None:
        """Tell people; what happens before there is a connection waits for it."""
        channel = "" if channel_id is None else f"/channel/{channel_id}"
        source = f"station/{self.identity.station}{channel}"
        event = Event(unix_time_s=self._utc(), source=source, severity=severity, code=code, text=text, values=values)
        if self._session is None or self.loop is None:
            self._early_events.append(event)
        else:
            self._session.publish(loop_topic(self.loop, LoopTopic.EVENT), encode(event), qos=1)

    @property
    def _own_status(self) -> str:
        return status_topic(self.loop or "", self.identity.station)

    def _status(self, presence: Presence) -> StationStatus:
        return StationStatus(
            status=presence,
            boot_id=self.identity.boot_id,
            version=self.identity.version,
            driver=self.identity.driver,
            channels=self.identity.channels,
            on_lost=self.identity.on_lost,
            unix_time_s=self._utc(),
        )

    def _publish_status(self, session: Session, presence: Presence) -> None:
        session.publish(self._own_status, encode(self._status(presence)), qos=1, retain=True)

    # ── the session's calls ───────────────────────────────────────────────────────────────────────────────────────

    def _on_connected(self) -> None:
        session, loop, inbox = self._session, self.loop, self._inbox
        if session is None or loop is None or inbox is None or self._leaving:
            return
        self._tally.connections += 1
        _log.info("connected host=%s port=%d loop=%s", session.broker.host, session.broker.port, loop)
        if self._lost:
            self._lost = False
            # Behind what the session has held back: the loss is told first.
            asyncio.get_running_loop().call_soon(self._tell_of_connection, "connection_back", "connected again")
        self._publish_status(session, Presence.ONLINE)
        station, server = self.identity.station, loop_topic(loop, LoopTopic.SERVER)
        session.subscribe(
            (channel_filter(loop, ChannelTopic.SETPOINT, station=station), 0),
            (channel_filter(loop, ChannelTopic.COMMAND, station=station), 1),
            (server, 1),
            (self._own_status, 1),
            sure=(server, self._own_status),
        )
        while self._early_events:
            session.publish(loop_topic(loop, LoopTopic.EVENT), encode(self._early_events.popleft()), qos=1)
        inbox.on_connected()

    def _on_disconnected(self, reason: str) -> None:
        self.server_online = False
        self._served_by = None
        if not self._leaving:
            self._lost = True
            self._tell_of_connection("connection_lost", reason)

    def _tell_of_connection(self, code: str, text: str) -> None:
        lost = code == "connection_lost"
        _log.log(logging.WARNING if lost else logging.INFO, "%s reason=%r", code, text)
        self.event(Severity.WARNING if lost else Severity.INFO, code, text, {"cause": text} if lost else {})

    # ── in ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - the session's call
        if self._inbox is None:
            return
        try:
            self._route(self._inbox, topic, payload, retained=retained)
        except MalformedError as error:
            self._drop(topic, error)

    def _route(self, inbox: Inbox, topic: str, payload: bytes, *, retained: bool) -> None:
        match parse(topic):
            case ChannelAddress(channel=channel, leaf=leaf) if channel not in self.identity.channels:
                _refuse_retained(retained=retained)
                self._complain(topic, f"there is no channel {channel}")
                if leaf is ChannelTopic.COMMAND:
                    self._answer_nowhere(channel, payload)
            case ChannelAddress(channel=channel, leaf=ChannelTopic.SETPOINT):
                _refuse_retained(retained=retained)
                inbox.on_setpoint(channel, decode(Setpoint, payload))
            case ChannelAddress(channel=channel, leaf=ChannelTopic.COMMAND):
                _refuse_retained(retained=retained)
                inbox.on_command(channel, _command(inbox, channel, payload))
            case LoopAddress(leaf=LoopTopic.SERVER) if not payload:
                pass  # what was retained is gone; the server itself may be there as before
            case LoopAddress(leaf=LoopTopic.SERVER):
                self._heed_server(decode(ServerAnnouncement, payload), retained=retained)
            case StatusAddress() if not payload:
                self._correct_status("cleared", "")
            case StatusAddress():
                self._heed_own_status(decode(StationStatus, payload))
            case _:
                pass

    def _answer_nowhere(self, channel_id: str, payload: bytes) -> None:
        """Answer a command to a channel that this station does not have."""
        named = _id_and_action(payload)
        if named is not None:
            here = f"station {self.identity.station} has no channel {channel_id!r}"
            refusal = Refusal(ReplyReason.NOT_ACTIVE, f"{here}; it has: {', '.join(self.identity.channels)}")
            self.reply(channel_id, rejection(*named, refusal, self._utc()))

    def _heed_server(self, announcement: ServerAnnouncement, *, retained: bool) -> None:
        online = announcement.status is Presence.ONLINE
        if self._inbox is not None:
            self._inbox.on_server(announcement.server, announcement.epoch)
            if not retained and self._begins(announcement, online=online):
                self._inbox.on_server_begins()
        if online == self.server_online:
            return
        self.server_online = online
        _log.info("server_%s server=%s epoch=%d", announcement.status, announcement.server, announcement.epoch)
        if online and announcement.telemetry_period_s != self._telemetry_period_s:
            _log.warning(
                "telemetry_period_differs own_s=%g server_s=%g; the station keeps its own",
                self._telemetry_period_s,
                announcement.telemetry_period_s,
            )

    def _begins(self, announcement: ServerAnnouncement, *, online: bool) -> bool:
        """Tell whether a server that speaks has just begun to listen: plans are not retained.

        That is one that is new here, or that was offline, or that starts anew: after a standstill, it forgets all.
        """
        before, self._served_by = self._served_by, None
        if not online:
            return False
        starts = announcement.phase is Phase.STARTING
        self._served_by = announcement.server, announcement.epoch, starts
        return before is None or before[:2] != self._served_by[:2] or (starts and not before[2])

    def _heed_own_status(self, status: StationStatus) -> None:
        """Correct a late will; tell of another station that took the name."""
        if self._session is None or self._leaving:
            return
        if status.status is Presence.OFFLINE:
            self._correct_status("late_will", status.boot_id)
        elif status.boot_id != self.identity.boot_id:
            self._tell_of_namesake(status.boot_id[:LONGEST_BOOT_ID])

    def _tell_of_namesake(self, boot_id: str) -> None:
        if boot_id in self._namesakes or len(self._namesakes) >= _MOST_NAMESAKES:
            return
        self._namesakes.add(boot_id)
        own = self.identity
        _log.error("duplicate_station station=%s boot_id=%r", own.station, boot_id)
        text = f"another station calls itself {own.station} (boot {boot_id}), this one goes on (boot {own.boot_id})"
        self.event(Severity.ALARM, "duplicate_station", text, {"boot_id": boot_id})

    def _correct_status(self, reason: str, boot_id: str) -> None:
        """Say once more that this station is there, and everything else: who took it for gone has forgotten that."""
        if self._session is None or self._inbox is None or self._leaving:
            return
        _log.info("status_corrected reason=%s boot_id=%r", reason, boot_id[:LONGEST_BOOT_ID])
        self._publish_status(self._session, Presence.ONLINE)
        self._inbox.on_connected()

    def _drop(self, topic: str, error: MalformedError) -> None:
        self._tally.malformed[error.reason] += 1
        self._complain(topic, f"{error.reason}: {error}")

    def _complain(self, topic: str, text: str) -> None:
        """Log what is wrong with a source, once."""
        if topic not in self._complained_of:
            if len(self._complained_of) < _MOST_COMPLAINTS:
                self._complained_of.add(topic)
            _log.warning("message_dropped topic=%s reason=%r; further ones of this topic are counted", topic, text)


def _command(inbox: Inbox, channel_id: str, payload: bytes) -> ChannelCommand:
    """Read a command; one that is malformed is answered where it has at least an id to be answered under."""
    try:
        return decode(ChannelCommand, payload)
    except MalformedError as error:
        named = _id_and_action(payload)
        if named is not None:
            inbox.on_malformed_command(channel_id, *named, str(error))
        raise


def _refuse_retained(*, retained: bool) -> None:
    if retained:
        raise MalformedError(MalformedReason.UNEXPECTED_RETAIN, "retained; it may be of any age")


def _id_and_action(payload: bytes) -> tuple[str, str] | None:
    if len(payload) > MAX_PAYLOAD_BYTES:
        return None
    try:
        command = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(command, dict) or not isinstance(command.get("id"), str) or not command["id"]:
        return None
    action = command.get("action")
    texts = command["id"], action if isinstance(action, str) else ""
    return texts if all(_speakable(text) for text in texts) else None


def _speakable(text: str) -> bool:
    """Tell whether a text can be sent back: JSON may hold halves of characters that UTF-8 cannot."""
    return len(text) <= _LONGEST_ECHO and not any("\ud800" <= character <= "\udfff" for character in text)
