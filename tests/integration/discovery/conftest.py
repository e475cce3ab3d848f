"""Brokers of our own, and servers that announce themselves on them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from broker.run import RunningBroker, start
from schemas.codec import encode
from schemas.messages import Presence
from schemas.settings import BrokerSettings
from schemas.topics import LoopTopic, loop_topic
from station.discovery import DiscoveryRequest
from station.probe import Patience
from tests.announcements import ANNOUNCED
from tests.patience import PATIENCE_S
from tests.ports import free_port
from transport.session import Session

StartBroker = Callable[..., BrokerSettings]
Announce = Callable[..., AbstractAsyncContextManager[Session]]


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[StartBroker]:
    """Start brokers; each call one more."""
    running: list[RunningBroker] = []

    def begin(kind: Literal["mosquitto", "embedded"] = "mosquitto") -> BrokerSettings:
        broker = start(kind, port=free_port(), data_dir=tmp_path / f"broker-{len(running)}")
        running.append(broker)
        return BrokerSettings(host=broker.host, port=broker.port)

    yield begin
    for broker in running:
        broker.stop()


@pytest.fixture
def nobody() -> BrokerSettings:
    """A place where no broker is."""
    return BrokerSettings(port=free_port())


@pytest.fixture
def cache_file(tmp_path: Path) -> Path:
    """Where the connection is remembered."""
    return tmp_path / "connection.json"


@pytest.fixture
def request_with(cache_file: Path) -> Callable[..., DiscoveryRequest]:
    """What is known beforehand; nothing of this computer's own broker or LAN unless it is said."""

    def make(**known: object) -> DiscoveryRequest:
        quiet: dict[str, object] = {
            "cache_file": cache_file,
            "local": None,
            "dns_sd": False,
            "patience": Patience(answer_s=30.0, announcement_s=1.0),
        }
        return DiscoveryRequest(**(quiet | known))  # type: ignore[arg-type]  # keywords of a test

    return make


@asynccontextmanager
async def _announced(
    broker: BrokerSettings, loop: str = "main", *, status: Presence = Presence.ONLINE
) -> AsyncIterator[Session]:
    announcement = ANNOUNCED.model_copy(update={"status": status})
    session = Session(
        broker,
        client_id=f"server-{loop}",
        on_message=lambda *_message: None,
        on_connected=lambda: None,
        on_disconnected=lambda _reason: None,
        clock=time.monotonic,
    )
    await session.connect_once(PATIENCE_S)
    await asyncio.sleep(0)
    session.publish(loop_topic(loop, LoopTopic.SERVER), encode(announcement), qos=1, retain=True)
    await session.flush(PATIENCE_S)
    try:
        yield session
    finally:
        await session.close()


@pytest.fixture
def announced() -> Announce:
    """A server's retained announcement on a broker."""
    return _announced
