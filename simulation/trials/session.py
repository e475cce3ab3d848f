"""What stands in for `transport.session.Session` in a trial: the same promises over a model of a connection."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection

from schemas.settings import BrokerSettings
from simulation.trials.mqtt import KEEPALIVE_S, Line, Packet
from simulation.trials.process import Process
from transport.session import ConnectionFailedError, Will

_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 5.0
_HOUSEKEEPING_S = 1.0
_HELD_MESSAGES = 1000


class VirtualSession:
    """A client that connects, stays connected and hands over what arrives; see `transport.session.Session`."""

    def __init__(
        self,
        process: Process,
        broker: BrokerSettings,
        *,
        client_id: str,  # noqa: ARG002 - the production's are unique
        on_message: Callable[[str, bytes, bool], None],
        on_assured: Callable[[str, bytes, bool], None] | None = None,
        routes: object = None,  # noqa: ARG002 - a short cut of the production's, to the same handlers
        on_connected: Callable[[], None] = lambda: None,
        on_disconnected: Callable[[str], None] = lambda _reason: None,
        on_refused: Callable[[str, str], None] = lambda _topic, _reason: None,  # noqa: ARG002 - it refuses nothing
        will: Will | None = None,
        clock: Callable[[], float],
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        self.broker = broker
        self.connected = False
        self.dropped_messages = 0
        self.peer_expiry_unix_time_s: float | None = None
        self._process = process
        self._on_message = on_message
        self._on_assured = on_message if on_assured is None else on_assured
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._will = will
        self._clock = clock
        self._keepalive_s = keepalive_s
        self._line: Line | None = None
        self._answer: asyncio.Future[None] | None = None
        self._lost = asyncio.Event()
        self._progress = asyncio.Event()
        self._closing = False
        self._numbers = 0
        self._unacknowledged: dict[int, Packet] = {}
        self._held: deque[Packet] = deque(maxlen=_HELD_MESSAGES)
        self._sent_s = self._got_s = clock()
        self._pinged = False

    async def run(self, *, give_up_s: float | None = None) -> None:
        """Connect, and connect again after every loss, until closed or cancelled.

        Raises:
            ConnectionFailedError: there has been no connection for `give_up_s`.
        """
        lost_s = self._clock()
        retry_s = _FIRST_RETRY_S
        while not self._closing:
            if not self.connected:
                try:
                    await self.connect_once(_LAST_RETRY_S)
                except ConnectionFailedError:
                    if give_up_s is not None and self._clock() - lost_s >= give_up_s:
                        raise
                    await asyncio.sleep(retry_s * self._process.random.uniform(0.8, 1.2))
                    retry_s = min(2 * retry_s, _LAST_RETRY_S)
                    continue
            retry_s = _FIRST_RETRY_S
            await self._lost.wait()
            lost_s = self._clock()

    def inherit(self, other: "VirtualSession") -> None:
        """Send what another session still holds that has given its broker up, and count on from what it dropped."""
        self._held.extend(other._held)  # noqa: SLF001 - of the same class
        other._held.clear()  # noqa: SLF001
        self.dropped_messages += other.dropped_messages

    async def connect_once(self, timeout_s: float) -> None:
        """Make one attempt.

        Raises:
            ConnectionFailedError: no answer within the time, or nobody listens.
        """
        self._lost.clear()
        self._answer = asyncio.get_running_loop().create_future()
        will = self._will
        packet = None if will is None else Packet("publish", will.topic, will.payload, will.qos, will.retain)
        self._line = self._process.dial(packet, self._hear)
        try:
            async with asyncio.timeout(timeout_s):
                await self._answer
        except TimeoutError:
            self._drop("no answer")
            raise ConnectionFailedError("no answer") from None
        except ConnectionFailedError:
            self._drop("refused")
            raise

    def set_will(self, will: Will | None) -> None:
        """Set what the broker publishes when a connection made from now on is lost."""
        self._will = will

    def subscribe(self, *filters: tuple[str, int], sure: Collection[str] = ()) -> None:
        """Subscribe; without a connection nothing happens. This broker passes nothing over: all is sure."""
        del sure
        if self.connected:
            self._send(Packet("subscribe", filters=filters))

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False, only_now: bool = False
    ) -> None:
        """Send a message; what becomes of it without a connection is as in production."""
        packet = Packet("publish", topic, payload, qos, retain)
        if not self.connected:
            if qos and not retain and not only_now:
                self._held.append(packet)
            else:
                self.dropped_messages += 1
            return
        if qos:
            self._numbers += 1
            packet = Packet("publish", topic, payload, qos, retain, self._numbers)
            self._unacknowledged[self._numbers] = packet
        if self._process.alive:
            self._process.note(topic, payload)
        self._send(packet)

    async def flush(self, timeout_s: float) -> None:
        """Wait until QoS 1 is acknowledged; or until the time is up or the connection lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.connected and self._unacknowledged:
                    self._progress.clear()
                    await self._progress.wait()

    async def close(self) -> None:
        """Take leave of the broker (no will), and end `run`."""
        self._closing = True
        if self.connected:
            await self.flush(_HOUSEKEEPING_S)
        if self.connected:
            self._send(Packet("disconnect"))
        self._drop("closed")

    # ── the connection ────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, packet: Packet) -> None:
        if self._line is not None and self._process.alive:
            self._sent_s = self._clock()
            self._line.up.send(packet)

    def _hear(self, packet: Packet) -> None:
        """Find a packet in the socket: the process looks at it with its next turn."""
        self._process.loop.call_soon(self._take, self._line, packet)

    def _take(self, line: Line | None, packet: Packet) -> None:
        if line is None or line is not self._line:
            return
        self._got_s = self._clock()
        match packet.kind:
            case "connack":
                self._connected()
            case "publish":
                take = self._on_assured if packet.qos else self._on_message
                take(packet.topic, packet.payload, packet.retain)
            case "puback":
                self._unacknowledged.pop(packet.number, None)
                self._progress.set()
            case "pong":
                self._pinged = False
            case "end":
                if self._answer is not None and not self._answer.done():
                    self._answer.set_exception(ConnectionFailedError("nobody listens"))
                else:
                    self._drop("the connection was lost")
            case other:
                raise AssertionError(f"a broker sends no {other}")

    def _connected(self) -> None:
        if self._answer is None or self._answer.done():
            return
        self.connected = True
        self._answer.set_result(None)
        self._pinged = False
        self._sent_s = self._got_s = self._clock()
        loop = asyncio.get_running_loop()
        loop.call_later(_HOUSEKEEPING_S, self._housekeep, self._line)
        loop.call_soon(self._announce)

    def _announce(self) -> None:
        if not self.connected:
            return
        self._on_connected()
        held, self._held = self._held, deque(maxlen=_HELD_MESSAGES)
        for packet in held:
            self.publish(packet.topic, packet.payload, qos=packet.qos, retain=packet.retain)

    def _housekeep(self, line: Line | None) -> None:
        if line is not self._line:
            return
        now_s = self._clock()
        if now_s - self._sent_s >= self._keepalive_s or now_s - self._got_s >= self._keepalive_s:
            if self._pinged:
                self._drop("the broker has been silent")
                return
            self._pinged = True
            self._got_s = now_s
            self._send(Packet("ping"))
        asyncio.get_running_loop().call_later(_HOUSEKEEPING_S, self._housekeep, line)

    def _drop(self, reason: str) -> None:
        line, self._line = self._line, None
        if line is not None and self._process.alive:
            line.up.send(Packet("end"))
            line.down.closed = True
        self._held.extend(packet for packet in self._unacknowledged.values() if not packet.retain)
        self._unacknowledged.clear()
        was_connected, self.connected = self.connected, False
        self._lost.set()
        self._progress.set()
        if was_connected:
            self._on_disconnected(reason)
