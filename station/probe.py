"""Asks one broker which loops have a server."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from schemas.codec import MalformedError, decode
from schemas.messages import Presence, ServerAnnouncement
from schemas.settings import BrokerSettings
from schemas.topics import WELL_KNOWN_FILTER, LoopAddress, LoopTopic, parse
from transport.session import ConnectionFailedError, Session, unguessable

_SETTLE_S = 0.3
"""Retained announcements of further loops follow the first one this closely."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """What a loop's well-known topic holds."""

    loop: str
    announcement: ServerAnnouncement

    @property
    def online(self) -> bool:
        """Whether it is there (and not its last will, or its farewell)."""
        return self.announcement.status is Presence.ONLINE


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a probe waits."""

    answer_s: float = 5.0
    """For the broker."""
    announcement_s: float = 2.0
    """For the first announcement that is looked for, once the broker has answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A broker that was reached."""

    broker: BrokerSettings
    """As configured, but with the protocol that it speaks."""
    servers: tuple[Server, ...]

    @property
    def online_loops(self) -> tuple[str, ...]:
        """The loops that have a server now."""
        return tuple(server.loop for server in self.servers if server.online)

    def announcement(self, loop: str) -> ServerAnnouncement | None:
        """What the loop's server said last, there or gone."""
        return next((server.announcement for server in self.servers if server.loop == loop), None)


class _Listener:
    """Collects announcements; wakes whoever waits when one arrives."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.arrived = asyncio.Event()

    def on_message(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001 - the session's call
        match parse(topic):
            case LoopAddress(loop, LoopTopic.SERVER) if not payload:
                self.servers.pop(loop, None)  # what was retained is cleared
            case LoopAddress(loop, LoopTopic.SERVER):
                try:
                    self.servers[loop] = Server(loop, decode(ServerAnnouncement, payload))
                except MalformedError as error:
                    _log.warning("announcement_malformed topic=%s reason=%s error=%r", topic, error.reason, str(error))
                    return
                self.arrived.set()
            case _:
                pass

    async def collect(self, wanted_loop: str | None) -> None:
        """Wait until the wanted loop's server is online; or, where any will do, until no more of them follow."""
        while not self._enough(wanted_loop):
            self.arrived.clear()
            await self.arrived.wait()
        if wanted_loop is None:
            await asyncio.sleep(_SETTLE_S)

    def _enough(self, wanted_loop: str | None) -> bool:
        return any(server.online and wanted_loop in (None, server.loop) for server in self.servers.values())


async def probe(
    broker: BrokerSettings, *, wanted_loop: str | None, patience: Patience, clock: Callable[[], float]
) -> Answer:
    """Return what a broker knows of servers; MQTT 3.1.1 is tried where it refuses 5.

    Args:
        broker: which, and how.
        wanted_loop: the loop whose announcement is enough; None: all that come.
        patience: how long to wait; an `announcement_s` of 0 asks only whether the broker answers.
        clock: monotonic seconds.

    Raises:
        ConnectionFailedError: the broker was not reached.
    """
    try:
        return await _ask(broker, wanted_loop, patience, clock)
    except ConnectionFailedError as error:
        if not error.refused_protocol or broker.protocol == "3.1.1":
            raise
        _log.info("protocol_refused host=%s port=%d protocol=5 next=3.1.1", broker.host, broker.port)
    return await _ask(broker.model_copy(update={"protocol": "3.1.1"}), wanted_loop, patience, clock)


async def _ask(
    broker: BrokerSettings, wanted_loop: str | None, patience: Patience, clock: Callable[[], float]
) -> Answer:
    listener = _Listener()
    session = Session(
        broker,
        client_id=unguessable("find"),
        on_message=listener.on_message,
        on_connected=lambda: session.subscribe((WELL_KNOWN_FILTER, 1)),
        on_disconnected=lambda _reason: None,
        clock=clock,
    )
    try:
        await session.connect_once(patience.answer_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience.announcement_s):
                await listener.collect(wanted_loop)
    finally:
        await session.close()
    return Answer(broker, tuple(sorted(listener.servers.values(), key=lambda server: server.loop)))
