"""What the contract asks of a broker, asked of the embedded NATS server."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from broker import RunningBroker, start
from schemas.settings import BrokerSettings
from schemas.topics import WELL_KNOWN_FILTER
from tests.patience import PATIENCE_S, until
from transport.session import Session

pytestmark = pytest.mark.broker

SERVER = "zeroloop/v1/main/server"
TELEMETRY = "zeroloop/v1/main/station/+/channel/+/telemetry"


async def told(broker: RunningBroker, qos: int = 1, *, topic: str = WELL_KNOWN_FILTER) -> tuple[bytes, bool, int]:
    """Return the first message that a newcomer hears, whether it was retained, and its QoS.

    It subscribes as a station does: the broker acknowledges what is retained before it serves newcomers with it, and
    who comes in between has to ask again (decision 4).
    """
    heard: asyncio.Queue[tuple[bytes, bool, int]] = asyncio.Queue()
    session = Session(
        BrokerSettings(port=broker.port, protocol=broker.protocol),
        client_id="newcomer",
        on_message=lambda _topic, payload, retained: heard.put_nowait((payload, retained, 0)),
        on_assured=lambda _topic, payload, retained: heard.put_nowait((payload, retained, 1)),
        on_connected=lambda: session.subscribe((topic, qos), sure=(topic,)),
        clock=time.monotonic,
    )
    await session.connect_once(PATIENCE_S)
    try:
        return await asyncio.wait_for(heard.get(), PATIENCE_S)
    finally:
        await session.close()


async def kept(broker: RunningBroker, publisher: Any) -> None:  # noqa: ANN401 - the fixture's
    """Wait until newcomers are served with all that a client has published: with what it says last, too."""
    publisher.publish("zeroloop/v1/other/server", b"the last", retain=True)
    assert await told(broker, topic="zeroloop/v1/other/server") == (b"the last", True, 1)


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_retained_announcement_reaches_whoever_subscribes_to_the_well_known_topic(
    embedded_broker: RunningBroker, client: Callable[..., Any], qos: int
) -> None:
    client(embedded_broker, "server").connect().publish(SERVER, b"online", qos=1, retain=True)
    assert await told(embedded_broker, qos) == (b"online", True, qos)


def test_a_live_message_comes_without_the_retain_flag(
    embedded_broker: RunningBroker, client: Callable[..., Any]
) -> None:
    station = client(embedded_broker, "station").connect()
    station.subscribe(WELL_KNOWN_FILTER, 1)
    client(embedded_broker, "server").connect().publish(SERVER, b"online", qos=1, retain=True)
    assert station.wait_for(1) == [(SERVER, b"online", False)]


async def test_a_lost_server_is_announced_by_its_will_and_the_will_is_retained(
    embedded_broker: RunningBroker, client: Callable[..., Any]
) -> None:
    station = client(embedded_broker, "station").connect()
    station.subscribe(WELL_KNOWN_FILTER, 1)
    server = client(embedded_broker, "server")
    server.mqtt.will_set(SERVER, b"offline", qos=1, retain=True)
    server.connect().vanish()
    assert station.wait_for(1) == [(SERVER, b"offline", False)]
    assert await told(embedded_broker) == (b"offline", True, 1)


async def test_an_empty_retained_message_clears_the_topic(
    embedded_broker: RunningBroker, client: Callable[..., Any]
) -> None:
    server = client(embedded_broker, "server").connect()
    server.publish(SERVER, b"online", retain=True)
    server.publish(SERVER, b"", retain=True)
    await kept(embedded_broker, server)
    newcomer = client(embedded_broker, "newcomer").connect()
    newcomer.subscribe(SERVER, 1)
    assert newcomer.heard(0, still_s=0.5) == 0


@pytest.mark.parametrize("qos", [0, 1])
async def test_ten_thousand_retained_channels_all_arrive(
    embedded_broker: RunningBroker, client: Callable[..., Any], qos: int
) -> None:
    stations = client(embedded_broker, "stations").connect()
    stations.publish_retained(10_000, qos=0)
    await kept(embedded_broker, stations)
    newcomer = client(embedded_broker, "newcomer").connect()
    newcomer.subscribe(TELEMETRY, qos)
    assert newcomer.heard(10_000) == 10_000
    assert len({topic for topic, _, _ in newcomer.messages}) == 10_000


async def test_what_is_retained_survives_a_kill(embedded_broker: RunningBroker, client: Callable[..., Any]) -> None:
    client(embedded_broker, "server").connect().publish(SERVER, b"online", retain=True)
    assert await told(embedded_broker) == (b"online", True, 1)
    store = embedded_broker.log_path.parent
    # The broker acknowledges a moment before it writes.
    await until(
        lambda: any(b"online" in block.read_bytes() for block in store.rglob("*.blk")), what="it is on the disk"
    )
    embedded_broker.kill()
    with start("embedded", port=embedded_broker.port, data_dir=store) as again:
        newcomer = client(again, "newcomer").connect()
        newcomer.subscribe(WELL_KNOWN_FILTER, 1)
        assert newcomer.wait_for(1) == [(SERVER, b"online", True)]


def test_it_refuses_mqtt_5(embedded_broker: RunningBroker) -> None:
    """So the protocol belongs into the configuration: `protocol = "3.1.1"`."""
    connect = b"\x10\x11\x00\x04MQTT\x05\x02\x00\x05\x00\x00\x04zl-5"
    unacceptable_protocol_version = b"\x20\x02\x00\x01"
    with socket.create_connection((embedded_broker.host, embedded_broker.port), PATIENCE_S) as link:
        link.sendall(connect)
        assert link.recv(4) == unacceptable_protocol_version
