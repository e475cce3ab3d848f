"""The kit's own client: sends, and records everything that a loop says."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from conform.record import Record, Sent, heard, said_by_server
from schemas.codec import encode
from schemas.messages import Message, Presence, ServerAnnouncement, StationStatus
from schemas.settings import BrokerSettings
from schemas.topics import ROOT
from transport.session import Session, Will, unguessable

_CONNECT_WITHIN_S = 5.0
_POLL_S = 0.05
_NEWCOMER_S = 1.0


class ConformError(Exception):
    """The trial cannot begin; the text says why and what to do."""


class Wire:
    """A connection to the loop, with its record.

    Args:
        broker: where.
        loop: which loop.
        record: what arrives goes there.
        clock: monotonic seconds.
        will: what the broker says where the kit is broken off.
    """

    def __init__(
        self, broker: BrokerSettings, loop: str, record: Record, clock: Callable[[], float], *, will: Will | None = None
    ) -> None:
        self.broker = broker
        self.loop = loop
        self.record = record
        self.clock = clock
        self.session = Session(
            broker,
            client_id=unguessable("conform"),
            on_message=lambda topic, payload, retained: self._take(topic, payload, retained=retained, qos=0),
            on_assured=lambda topic, payload, retained: self._take(topic, payload, retained=retained, qos=1),
            on_connected=lambda: self.session.subscribe((f"{ROOT}/{loop}/#", 1)),
            will=will,
            clock=clock,
        )
        self.on_arrival: Callable[[str, bytes], None] = lambda _topic, _payload: None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hear the whole loop, as long as the block lasts.

        Raises:
            ConnectionFailedError: the broker was not reached.
        """
        running: asyncio.Task[None] | None = None
        try:
            await self.session.connect_once(_CONNECT_WITHIN_S)
            # The channel must be stopped in the end, whatever became of the connection meanwhile.
            running = asyncio.create_task(self.session.run(), name="kit connection")
            await asyncio.sleep(0)
            yield
        finally:
            await self.session.close()
            if running is not None:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    async def send_apart(self, topic: str, payload: bytes) -> None:
        """Send what may cost the connection over one that is used for nothing else."""
        session = Session(
            self.broker,
            client_id=unguessable("conform"),
            on_message=lambda _topic, _payload, _retained: None,
            clock=self.clock,
        )
        try:
            await session.connect_once(_CONNECT_WITHIN_S)
            session.publish(topic, payload)
        finally:
            await session.close()

    def send(
        self,
        topic: str,
        message: Message,
        *,
        label: str = "",
        key: tuple[str, str] | None = None,
        qos: int = 0,
        retain: bool = False,
    ) -> None:
        """Send a message, and take note of it where it has a label; what has none is heard again anyway."""
        if label:
            self.record.sent.append(Sent(self.clock(), label, message, key))
        self.session.publish(topic, encode(message), qos=qos, retain=retain)

    def mark(self, label: str) -> None:
        """Take note of the moment."""
        self.record.sent.append(Sent(self.clock(), label))

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Wait until something holds; tell whether it came to."""
        end_s = self.clock() + within_s
        while not holds():
            if self.clock() >= end_s:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def look_anew(self) -> None:
        """Take note of what a newcomer is told."""

        def told(topic: str, payload: bytes, retained: bool, qos: int) -> None:  # noqa: FBT001 - the session's call
            entry = heard(self.clock(), topic, payload, retained=retained, qos=qos)
            if entry is not None and retained:
                self.record.newcomer.append(entry)

        session = Session(
            self.broker,
            client_id=unguessable("conform"),
            on_message=lambda topic, payload, retained: told(topic, payload, retained, 0),
            on_assured=lambda topic, payload, retained: told(topic, payload, retained, 1),
            clock=self.clock,
        )
        try:
            await session.connect_once(_CONNECT_WITHIN_S)
            session.subscribe((f"{ROOT}/{self.loop}/#", 1))
            await asyncio.sleep(_NEWCOMER_S)
        finally:
            await session.close()

    def announcement(self) -> ServerAnnouncement | None:
        """Return what the loop's server said last, kept or live."""
        said = [entry.message for entry in self.record.heard if isinstance(entry.message, ServerAnnouncement)]
        return said[-1] if said else None

    def statuses(self) -> dict[str, StationStatus]:
        """Return what every station said last."""
        return {
            entry.topic.split("/")[4]: entry.message
            for entry in self.record.heard
            if isinstance(entry.message, StationStatus)
        }

    def online_server(self) -> ServerAnnouncement | None:
        """Return the loop's server, where there is one; the kit itself is none."""
        said = said_by_server(self.record)
        return said if said is not None and said.status is Presence.ONLINE else None

    def _take(self, topic: str, payload: bytes, *, retained: bool, qos: int) -> None:
        self.record.take(self.clock(), topic, payload, retained=retained, qos=qos)
        self.on_arrival(topic, payload)


def new_id() -> str:
    """Return an id for a command that nobody else uses."""
    return f"kit-{secrets.token_hex(6)}"
