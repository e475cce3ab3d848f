"""One connection to a broker, kept up in an event loop.

paho-mqtt speaks the protocol; asyncio watches its socket. Every connection is a client of its own with a clean start,
so nothing old is ever sent after a loss but the QoS 1 messages that nobody acknowledged.
"""

import asyncio
import contextlib
import fcntl
import logging
import random
import secrets
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from schemas.codec import MAX_PAYLOAD_BYTES
from schemas.settings import BrokerSettings
from transport import tls
from transport.files import first_line
from transport.tap import LARGEST_PACKET_BYTES, Routes, TappedSocket

_LOG = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 5.0
_HOUSEKEEPING_S = 1.0
_HELD_MESSAGES = 1000
_READS_PER_WAKE = 4
_CLOGGED_BYTES = 4096
_CLOGGED_S = 1.0
"""So much has not been sent for so long, and QoS 0 waits here, where the newest of a topic replaces the older. A burst
is gone before: it waits for an acknowledgement, or for a process that is short of time."""
_ASK_AGAIN_S = 2.0
"""NATS, which speaks MQTT 3.1.1 alone, hands a retained message to its subscribers and acknowledges it a moment before
newcomers are given it (decision 4): whoever subscribes in between gets it neither way, or an older one instead. Asked
once more, it gives what it has."""
_ACCEPTED_PACKET_BYTES = 4 * MAX_PAYLOAD_BYTES
"""A broker that speaks MQTT 5 keeps what is longer to itself: nothing of the contract is, and a message of a hundred
megabytes would hold up all that come behind it. What is a little too long arrives, and is counted."""
_PUBLISH_OVERHEAD_BYTES = 1 + 4 + 2 + 2 + 1
"""Type, length of the packet, length of the topic, number, length of the properties."""
_TCP_NOTSENT_LOWAT = 25  # <linux/tcp.h>; Python names it from 3.12 on
_SIOCOUTQNSD = 0x894B  # <linux/sockios.h>


class TransportError(Exception):
    """The root of what this package raises."""


class ConnectionFailedError(TransportError):
    """An attempt to connect failed; the text says where and why. A later one may succeed."""

    def __init__(self, text: str, *, refused_protocol: bool = False) -> None:
        super().__init__(text)
        self.refused_protocol = refused_protocol
        """The broker is there, and does not speak this version of MQTT."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when this client vanishes."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


@dataclass(frozen=True, slots=True)
class _Outgoing:
    topic: str
    payload: bytes
    retain: bool


class _TappedClient(Client):
    """A paho client on a socket that is already connected."""

    ready: TappedSocket | None = None

    def _create_socket(self) -> Any:  # noqa: ANN401 - paho's own type for it is private
        return self.ready


class Session:
    """A client that connects, stays connected and hands over what arrives.

    Args:
        broker: where and how.
        client_id: unique at the broker; a second client of that id throws the first one out (`unguessable`).
        on_message: called with topic, payload and retain flag, in the event loop, once a message.
        on_assured: called in its place for what comes with QoS 1, where that is to be told apart.
        routes: who takes the QoS 0 messages of a topic without this detour; may change at any time.
        on_connected: called after every handshake: subscribe here and publish what must be known.
        on_disconnected: called with the reason after every loss.
        on_refused: called with topic and reason where the broker acknowledges a message and will not pass it on, or
            takes no packet of that size; only MQTT 5 has words for that.
        will: published by the broker when the connection is lost.
        clock: monotonic seconds.
        keepalive_s: a dead connection is noticed after twice that at the latest.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        *,
        client_id: str,
        on_message: Callable[[str, bytes, bool], None],
        on_assured: Callable[[str, bytes, bool], None] | None = None,
        routes: Routes | None = None,
        on_connected: Callable[[], None] = lambda: None,
        on_disconnected: Callable[[str], None] = lambda _reason: None,
        on_refused: Callable[[str, str], None] = lambda _topic, _reason: None,
        will: Will | None = None,
        clock: Callable[[], float],
        keepalive_s: int = 10,
    ) -> None:
        self.broker = broker
        self.connected = False
        self.peer_expiry_unix_time_s: float | None = None
        """Until when the certificate holds that the broker showed last; null without TLS."""
        self.dropped_messages = 0
        """QoS 0 messages that a newer one of the same topic, or the lack of a connection, made pointless; and what
        is too large for the broker."""
        self.largest_packet_bytes: int | None = None
        """What the broker takes at most; null: it has not said."""
        self._client_id = client_id
        self._on_message = on_message
        self._on_assured = on_message if on_assured is None else on_assured
        self._routes: Routes = {} if routes is None else routes
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_refused = on_refused
        self._will = will
        self._clock = clock
        self._keepalive_s = keepalive_s
        self._client: _TappedClient | None = None
        self._socket: TappedSocket | None = None
        self._handshake: asyncio.Future[None] | None = None
        self._lost = asyncio.Event()
        self._progress = asyncio.Event()
        self._writing = False
        self._closing = False
        self._housekeeping: asyncio.TimerHandle | None = None
        self._starved: dict[str, _Outgoing] = {}
        self._unsent_since_s: float | None = None
        self._unacknowledged: dict[int, _Outgoing] = {}
        self._asked: dict[int, tuple[str, ...]] = {}
        """Filters that the broker has not answered yet."""
        self._again: asyncio.TimerHandle | None = None
        self._overtaken: set[str] | None = None
        """Topics that were heard live since something was to be asked for again: what is retained of them is older."""
        self._oversized: set[str] = set()
        """Topics of messages that were too large for the broker, each logged once a connection."""
        self._held: deque[_Outgoing] = deque(maxlen=_HELD_MESSAGES)
        self._arrived: deque[tuple[str, bytes, bool, int]] = deque()

    async def run(self, *, give_up_s: float | None = None) -> None:
        """Connect, and connect again after every loss, until closed or cancelled.

        Raises:
            ConnectionFailedError: there has been no connection for `give_up_s`; null: that never happens.
        """
        lost_s = self._clock()
        retry_s = _FIRST_RETRY_S
        failing = False
        while not self._closing:
            if not self.connected:
                try:
                    await self.connect_once(_LAST_RETRY_S)
                except ConnectionFailedError as error:
                    if give_up_s is not None and self._clock() - lost_s >= give_up_s:
                        raise
                    if not failing:
                        _LOG.warning("broker unreachable %s; trying on", error)
                        failing = True
                    await asyncio.sleep(retry_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads reconnections
                    retry_s = min(2 * retry_s, _LAST_RETRY_S)
                    continue
            if failing:
                _LOG.info("broker back host=%s port=%d", self.broker.host, self.broker.port)
            failing, retry_s = False, _FIRST_RETRY_S
            await self._lost.wait()
            lost_s = self._clock()

    def inherit(self, other: "Session") -> None:
        """Send what another session still holds that has given its broker up, and count on from what it dropped."""
        self._held.extend(other._held)  # noqa: SLF001 - of the same class
        other._held.clear()  # noqa: SLF001
        self.dropped_messages += other.dropped_messages

    async def connect_once(self, timeout_s: float) -> None:
        """Make one attempt.

        Raises:
            ConnectionFailedError: no connection within the time, or the broker refused.
        """
        started_s = self._clock()
        where = f"{self.broker.host}:{self.broker.port}"
        loop = asyncio.get_running_loop()
        self._lost.clear()
        opening = loop.run_in_executor(None, _open, self.broker, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                self._attach(await asyncio.shield(opening))
                if self._handshake is not None:
                    await self._handshake
        except TimeoutError:
            opening.add_done_callback(self._discard)
            self._drop(f"no answer within {self._clock() - started_s:.0f} s")
            raise ConnectionFailedError(f"{where}: no MQTT answer within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            self._drop(str(error))
            raise ConnectionFailedError(f"{where}: {_plain(error)}") from None
        except ConnectionFailedError as error:
            self._drop(str(error))
            raise
        except asyncio.CancelledError:
            opening.add_done_callback(self._discard)
            self._drop("cancelled")
            raise

    def set_will(self, will: Will | None) -> None:
        """Set what the broker publishes when a connection made from now on is lost."""
        self._will = will

    def subscribe(self, *filters: tuple[str, int], sure: Collection[str] = ()) -> None:
        """Subscribe to filters, each with its QoS; without a connection nothing happens (`on_connected` comes).

        Args:
            filters: each with its QoS.
            sure: those of them (QoS 1) whose retained messages are said once and must not be missed: where the broker
                may pass one over that is published at this very moment, they are asked for once more.
        """
        if self._client is None or not self.connected:
            return
        self._ask(filters)
        again = tuple(asked for asked in filters if asked[0] in sure)
        if again and self.broker.protocol == "3.1.1":
            self._forget_to_ask()
            self._overtaken = set()
            self._again = asyncio.get_running_loop().call_later(_ASK_AGAIN_S, self._ask_again, again)

    def _ask(self, filters: tuple[tuple[str, int], ...]) -> None:
        if self._client is None:
            return
        _, mid = self._client.subscribe(list(filters))
        if mid is not None:
            self._asked[mid] = tuple(name for name, _ in filters)
        self._pump()

    def _ask_again(self, filters: tuple[tuple[str, int], ...]) -> None:
        self._again = asyncio.get_running_loop().call_later(_ASK_AGAIN_S, self._forget_to_ask)
        self._ask(filters)

    def _forget_to_ask(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = self._overtaken = None

    def _is_overtaken(self, topic: str, *, retained: bool) -> bool:
        """Tell whether a message is older than what was heard of its topic, as what is asked for again may be."""
        if self._overtaken is None:
            return False
        if not retained:
            self._overtaken.add(topic)
        return retained and topic in self._overtaken

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False, only_now: bool = False
    ) -> None:
        """Send a message without ever blocking.

        QoS 0 without a connection is dropped; behind a starved link only the newest of each topic waits. QoS 1 without
        a connection waits for the next one, unless it is retained: what is retained is published anew on connecting; or
        unless it is good `only_now`, as an operator's command is, which must not be carried out an hour later.
        """
        client = self._client
        if client is None or not self.connected:
            if qos and not retain and not only_now:
                self._held.append(_Outgoing(topic, payload, retain))
            else:
                self.dropped_messages += 1
            return
        if self.largest_packet_bytes is not None and _packet_bytes(topic, payload) > self.largest_packet_bytes:
            self._refuse(topic, payload)
            return
        if qos == 0 and (self._starved or client.want_write() or self._is_clogged()):
            if self._starved.pop(topic, None) is not None:
                self.dropped_messages += 1
            self._starved[topic] = _Outgoing(topic, payload, retain)
            if not self._writing:
                self._pump()
            return
        information = client.publish(topic, payload, qos, retain)
        if qos and not only_now:
            # Until it is acknowledged; also where this very write has found the connection dead.
            self._unacknowledged[information.mid] = _Outgoing(topic, payload, retain)
        self._pump()

    def _refuse(self, topic: str, payload: bytes) -> None:
        """Do not send what would have the broker end the connection."""
        self.dropped_messages += 1
        reason = f"packet too large: the broker takes {self.largest_packet_bytes} bytes"
        if topic not in self._oversized:
            self._oversized.add(topic)
            _LOG.error("not_sent topic=%s bytes=%d reason=%r", topic, len(payload), reason)
        self._on_refused(topic, reason)

    async def flush(self, timeout_s: float) -> None:
        """Wait until everything has left, and QoS 1 is acknowledged; or until the time is up or the connection lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.connected and (self._writing or self._starved or self._unacknowledged):
                    self._progress.clear()
                    await self._progress.wait()

    def hold(self) -> None:
        """Read nothing more until `resume`, as a client that is too slow."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())

    def resume(self) -> None:
        """Read again."""
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)
            self._readable()

    async def close(self) -> None:
        """Send what waits, take leave of the broker (no will), and end `run`."""
        self._closing = True
        if self._client is not None and self.connected:
            await self.flush(_HOUSEKEEPING_S)
            if self._client is not None:
                self._client.disconnect()
                self._pump()
                await self.flush(_HOUSEKEEPING_S)
        self._drop("closed")

    # ── the connection ────────────────────────────────────────────────────────────────────────────────────────────

    def _attach(self, raw: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._handshake = loop.create_future()
        if isinstance(raw, ssl.SSLSocket):
            self.peer_expiry_unix_time_s = tls.peer_expiry_unix_time_s(raw)
        mqtt5 = self.broker.protocol == "5"
        self._socket = TappedSocket(
            raw, mqtt5=mqtt5, on_publish=self._on_message, routes=self._routes, on_close=self._unwatch
        )
        client = _TappedClient(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if mqtt5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if mqtt5 else MQTTProtocolVersion.MQTTv311,
        )
        client.ready = self._socket
        client.max_inflight_messages_set(1000)
        if self.broker.username is not None:
            secret = self.broker.password_file
            client.username_pw_set(self.broker.username, None if secret is None else first_line(Path(secret)))
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, self._will.qos, self._will.retain)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_publish = self._acknowledged
        client.on_subscribe = self._subscribed
        self._client = client
        loop.add_reader(raw.fileno(), self._readable)
        clean_start = True if mqtt5 else MQTT_CLEAN_START_FIRST_ONLY
        client.connect(
            self.broker.host,
            self.broker.port,
            keepalive=self._keepalive_s,
            clean_start=clean_start,
            properties=_limits() if mqtt5 else None,
        )
        self._pump()
        self._housekeeping = loop.call_later(_HOUSEKEEPING_S, self._housekeep)

    @staticmethod
    def _discard(opening: asyncio.Future[socket.socket]) -> None:
        """Close a socket that was opened too late to be wanted; another attempt may have one of its own by now."""
        if not opening.cancelled() and opening.exception() is None:
            opening.result().close()

    @staticmethod
    def _unwatch(descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)

    def _drop(self, reason: str) -> None:
        """Let the connection go without leave, and tell once."""
        tapped, self._socket = self._socket, None
        self._client = None
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        if tapped is not None:
            tapped.close()
        self._writing = False
        self._starved.clear()
        self._held.extend(message for message in self._unacknowledged.values() if not message.retain)
        self._unacknowledged.clear()
        self._asked.clear()
        self._forget_to_ask()
        if self._handshake is not None and not self._handshake.done():
            self._handshake.cancel()
        self._handshake = None
        was_connected, self.connected = self.connected, False
        self._lost.set()
        self._progress.set()
        if was_connected:
            self._on_disconnected(reason)

    def _readable(self) -> None:
        tapped, client = self._socket, self._client
        if tapped is None or client is None:
            return
        for _ in range(_READS_PER_WAKE):
            if tapped.fill():
                self._feed(client, tapped)
            while self._socket is tapped and tapped.pending:
                if tapped.fill():
                    self._feed(client, tapped)
            if self._socket is not tapped or not tapped.buffered:
                break
        else:
            asyncio.get_running_loop().call_soon(self._readable)
        self._pump()

    def _feed(self, client: _TappedClient, tapped: TappedSocket) -> None:
        while True:
            result = client.loop_read()
            while self._arrived:
                self._dispatch(*self._arrived.popleft())
            if self._socket is not tapped:
                return
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._fail("the connection was lost")
                return
            if not tapped.more:
                return

    def _pump(self) -> None:
        """Write what waits, as far as the socket takes it, and ask to be woken for the rest."""
        client, tapped = self._client, self._socket
        if client is None or tapped is None:
            return
        if client.want_write() and client.loop_write() not in _TOLERABLE:
            self._fail("the connection was lost")
            return
        while self._starved and not client.want_write() and not self._is_clogged():
            message = self._starved.pop(next(iter(self._starved)))
            client.publish(message.topic, message.payload, 0, message.retain)
        waiting = client.want_write() or bool(self._starved)
        if waiting != self._writing and tapped.fileno() >= 0:
            loop = asyncio.get_running_loop()
            if waiting:
                loop.add_writer(tapped.fileno(), self._pump)
            else:
                loop.remove_writer(tapped.fileno())
            self._writing = waiting
        if not waiting:
            self._progress.set()

    def _is_clogged(self) -> bool:
        """Tell whether the kernel holds bytes that the link does not take: what waits there cannot be replaced."""
        if self._socket is None or _unsent_bytes(self._socket.fileno()) < _CLOGGED_BYTES:
            self._unsent_since_s = None
            return False
        now_s = self._clock()
        if self._unsent_since_s is None:
            self._unsent_since_s = now_s
        return bool(self._starved) or now_s - self._unsent_since_s >= _CLOGGED_S

    def _housekeep(self) -> None:
        client = self._client
        if client is None:
            return
        if client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._fail(f"the broker has been silent for more than {self._keepalive_s} s")
            return
        self._pump()
        self._housekeeping = asyncio.get_running_loop().call_later(_HOUSEKEEPING_S, self._housekeep)

    def _fail(self, reason: str) -> None:
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_exception(
                ConnectionFailedError(f"{self.broker.host}:{self.broker.port}: {reason}", refused_protocol=True)
            )
            return
        self._drop(reason)

    # ── what paho calls ───────────────────────────────────────────────────────────────────────────────────────────

    def _connected(
        self,
        _client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        handshake = self._handshake
        if handshake is None or handshake.done():
            return
        if reason.is_failure:
            text = f"{self.broker.host}:{self.broker.port}: the broker refused: {str(reason).lower()}"
            refused = "protocol version" in str(reason).lower()
            handshake.set_exception(ConnectionFailedError(text, refused_protocol=refused))
            return
        self.connected = True
        self._oversized.clear()
        self.largest_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        if self.largest_packet_bytes is not None and self.largest_packet_bytes < LARGEST_PACKET_BYTES:
            _LOG.warning(
                "broker_takes_small_packets_only largest_bytes=%d contract_bytes=%d",
                self.largest_packet_bytes,
                LARGEST_PACKET_BYTES,
            )
        handshake.set_result(None)
        # Outside paho's callback, where its locks would hold back what is published.
        asyncio.get_running_loop().call_soon(self._announce)

    def _announce(self) -> None:
        if not self.connected:
            return
        self._on_connected()
        held, self._held = self._held, deque(maxlen=_HELD_MESSAGES)
        for message in held:
            self.publish(message.topic, message.payload, qos=1, retain=message.retain)

    def _disconnected(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if not self._closing:
            asyncio.get_running_loop().call_soon(self._fail_client, _client, str(reason).lower())

    def _fail_client(self, client: Client, reason: str) -> None:
        if client is self._client:
            self._fail(reason)

    def _received(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        # Handed over once paho has let go of its locks: a handler that publishes would wait for them for ever.
        self._arrived.append((message.topic, bytes(message.payload), message.retain, message.qos))

    def _acknowledged(
        self, _client: Client, _userdata: object, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        message = self._unacknowledged.pop(mid, None)
        if message is not None:
            self._progress.set()
            if reason.is_failure:
                self._on_refused(message.topic, str(reason).lower())

    def _subscribed(
        self, _client: Client, _userdata: object, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        for name, reason in zip(self._asked.pop(mid, ()), reasons, strict=False):
            if reason.is_failure:
                # Nothing will come of it, and nothing else would tell why.
                where = f"{self.broker.host}:{self.broker.port}"
                _LOG.error("subscription_refused broker=%s filter=%s reason=%r", where, name, str(reason).lower())

    def _dispatch(self, topic: str, payload: bytes, retained: bool, qos: int) -> None:  # noqa: FBT001 - the callback's
        if self._is_overtaken(topic, retained=retained):
            return
        try:
            (self._on_assured if qos else self._on_message)(topic, payload, retained)
        except Exception:  # noqa: BLE001 - a handler's bug must not stop the reading; it is reported with its traceback
            _LOG.exception("a handler failed topic=%s", topic)


_TOLERABLE = (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN)


def _packet_bytes(topic: str, payload: bytes) -> int:
    """Return the length of a PUBLISH without properties, at most (MQTT 5.0, section 3.3)."""
    return _PUBLISH_OVERHEAD_BYTES + len(topic.encode()) + len(payload)


def _open(broker: BrokerSettings, timeout_s: float) -> socket.socket:
    """Connect and agree on TLS; runs in a thread, as name look-up and handshake block."""
    raw = socket.create_connection((broker.host, broker.port), timeout=timeout_s)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            # The socket is called writable below this; the kernel would keep megabytes for a link that is starved.
            raw.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _CLOGGED_BYTES)
        context = tls.client_context(broker)
        if context is not None:
            raw = context.wrap_socket(raw, server_hostname=tls.expected_host(broker))
        raw.setblocking(False)
    except BaseException:
        raw.close()
        raise
    return raw


def _limits() -> Properties:
    limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
    limits.MaximumPacketSize = _ACCEPTED_PACKET_BYTES
    return limits


def _unsent_bytes(descriptor: int) -> int:
    """Return what was written and has never been sent; 0 where the system does not tell."""
    if sys.platform != "linux" or descriptor < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(descriptor, _SIOCOUTQNSD, bytes(4)), sys.byteorder)


def unguessable(name: str) -> str:
    """Return a client id that nobody else can take over: a broker ends a connection for a newcomer of the same id.

    A name alone may be guessed, and no right hangs on an id: 128 random bits keep it to ourselves.
    """
    return f"zeroloop-{name}-{secrets.token_hex(16)}"


def _plain(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        named = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror.lower()}{named}"
    return str(error)
