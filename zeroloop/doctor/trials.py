"""Tries a broker out: how fast it answers, what it keeps, and how much it holds for a client that is slow."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from schemas.codec import MalformedError, decode, encode
from schemas.messages import LoopCommand, Reply
from schemas.settings import BrokerSettings
from schemas.topics import DOCTOR_ROOT, LoopTopic, loop_topic
from transport.session import Session, unguessable
from zeroloop.reach import CONNECT_WITHIN_S

EXCHANGES = 20
QUEUED = 1500
"""More than what Mosquitto queues by default (1000)."""
_ANSWER_WITHIN_S = 3.0
_BURST_WITHIN_S = 15.0
_QUIET_S = 1.5
_ATTEMPTS = 3


@dataclass(slots=True)
class Trial:
    """What came of it."""

    exchange_s: list[float] = field(default_factory=list)
    """Round trips of a QoS 1 message to ourselves."""
    may_write: bool = True
    """Whether we may write below `zeroloop/doctor`; without that nothing else can be tried."""
    retains: bool | None = None
    queued: int | None = None
    """How many of `QUEUED` messages reached a client that did not read while they were sent."""


class _Client:
    """A session whose messages can be waited for."""

    def __init__(self, broker: BrokerSettings, clock: Callable[[], float]) -> None:
        self.inbox: asyncio.Queue[tuple[str, bytes, bool]] = asyncio.Queue()
        self.refused: list[str] = []
        self.session = Session(
            broker,
            client_id=unguessable("doctor"),
            on_message=lambda topic, payload, retained: self.inbox.put_nowait((topic, payload, retained)),
            on_refused=lambda topic, _reason: self.refused.append(topic),
            clock=clock,
        )

    async def next(self, timeout_s: float) -> tuple[str, bytes, bool] | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await self.inbox.get()
        return None


@asynccontextmanager
async def _connected(broker: BrokerSettings, clock: Callable[[], float]) -> AsyncIterator[_Client]:
    client = _Client(broker, clock)
    try:
        await client.session.connect_once(CONNECT_WITHIN_S)
        yield client
    finally:
        await client.session.close()


async def try_broker(broker: BrokerSettings, clock: Callable[[], float]) -> Trial:
    """Try a broker out, below a topic of our own, and leave nothing behind.

    Raises:
        ConnectionFailedError: it was not reached.
    """
    stem = f"{DOCTOR_ROOT}/{secrets.token_hex(8)}"
    trial = Trial()
    async with _connected(broker, clock) as client:
        client.session.subscribe((f"{stem}/exchange", 1))
        for number in range(EXCHANGES):
            sent_s = clock()
            client.session.publish(f"{stem}/exchange", str(number).encode(), qos=1, only_now=False)
            if await client.next(_ANSWER_WITHIN_S) is None:
                trial.may_write = False
                return trial
            trial.exchange_s.append(clock() - sent_s)
    # Each on connections of its own: a broker that does not retain ends the connection of who asks it to.
    trial.retains = await _retains(broker, f"{stem}/kept", clock)
    trial.queued = await _queued(broker, f"{stem}/queue", clock)
    return trial


async def _retains(broker: BrokerSettings, topic: str, clock: Callable[[], float]) -> bool:
    async with _connected(broker, clock) as client:
        client.session.publish(topic, b"kept", qos=1, retain=True)
        await client.session.flush(_ANSWER_WITHIN_S)
        try:
            async with _connected(broker, clock) as newcomer:
                newcomer.session.subscribe((topic, 1))
                got = await newcomer.next(_ANSWER_WITHIN_S)
                return got is not None and got[2]
        finally:
            client.session.publish(topic, b"", qos=1, retain=True)
            await client.session.flush(_ANSWER_WITHIN_S)


async def _queued(broker: BrokerSettings, topic: str, clock: Callable[[], float]) -> int | None:
    async with _connected(broker, clock) as slow, _connected(broker, clock) as client:
        slow.session.subscribe((topic, 1))
        for _ in range(_ATTEMPTS):  # the subscription is another connection's: a message may overtake it
            client.session.publish(topic, b"first", qos=1)
            if await slow.next(_ANSWER_WITHIN_S / _ATTEMPTS) is not None:
                break
        else:
            return None
        slow.session.hold()
        for number in range(QUEUED):
            client.session.publish(topic, str(number).encode(), qos=1)
        await client.session.flush(_BURST_WITHIN_S)
        slow.session.resume()
        count = 0
        while count < QUEUED and (got := await slow.next(_QUIET_S)) is not None:
            count += got[1] != b"first"
        return count


async def ask_server(broker: BrokerSettings, loop: str, clock: Callable[[], float]) -> float | None:
    """Return after how many seconds the equalizer refuses a command that does not exist; None: it does not reply.

    It proves that an operator's commands go through with these credentials, and changes nothing.

    Raises:
        ConnectionFailedError: the broker was not reached.
    """
    command = LoopCommand(id=secrets.token_hex(8), action="doctor", by="zeroloop doctor")
    async with _connected(broker, clock) as client:
        client.session.subscribe((loop_topic(loop, LoopTopic.REPLY), 1))
        sent_s = clock()
        client.session.publish(loop_topic(loop, LoopTopic.COMMAND), encode(command), qos=1, only_now=True)
        while (left_s := sent_s + _ANSWER_WITHIN_S - clock()) > 0.0:
            got = await client.next(left_s)
            if got is None:
                break
            with contextlib.suppress(MalformedError):
                if decode(Reply, got[1]).id == command.id:
                    return clock() - sent_s
    return None
