"""What the contract asks of a broker, asked of the embedded NATS server."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from broker import RunningBroker, start
from schemas.topics import WELL_KNOWN_FILTER

pytestmark = pytest.mark.broker

TELEMETRY = "zeroloop/v1/main/station/+/channel/+/telemetry"


@pytest.mark.parametrize("qos", [0, 1])
def test_a_retained_announcement_reaches_whoever_subscribes_to_the_well_known_topic(
    embedded_broker: RunningBroker, client: Callable[..., Any], qos: int
) -> None:
    client(embedded_broker, "server").connect().publish("zeroloop/v1/main/server", b"online", qos=1, retain=True)
    station = client(embedded_broker, "station").connect()
    station.subscribe(WELL_KNOWN_FILTER, qos)
    assert station.wait_for(1) == [("zeroloop/v1/main/server", b"online", True)]
    assert station.qos == [qos]


def test_a_live_message_comes_without_the_retain_flag(
    embedded_broker: RunningBroker, client: Callable[..., Any]
) -> None:
    station = client(embedded_broker, "station").connect()
    station.subscribe(WELL_KNOWN_FILTER, 1)
    client(embedded_broker, "server").connect().publish("zeroloop/v1/main/server", b"online", qos=1, retain=True)
    assert station.wait_for(1) == [("zeroloop/v1/main/server", b"online", False)]


def test_a_lost_server_is_announced_by_its_will_and_the_will_is_retained(
    embedded_broker: RunningBroker, client: Callable[..., Any]
) -> None:
    station = client(embedded_broker, "station").connect()
    station.subscribe(WELL_KNOWN_FILTER, 1)
    server = client(embedded_broker, "server")
    server.mqtt.will_set("zeroloop/v1/main/server", b"offline", qos=1, retain=True)
    server.connect().vanish()
    assert station.wait_for(1) == [("zeroloop/v1/main/server", b"offline", False)]
    newcomer = client(embedded_broker, "newcomer").connect()
    newcomer.subscribe(WELL_KNOWN_FILTER, 1)
    assert newcomer.wait_for(1) == [("zeroloop/v1/main/server", b"offline", True)]


def test_an_empty_retained_message_clears_the_topic(embedded_broker: RunningBroker, client: Callable[..., Any]) -> None:
    server = client(embedded_broker, "server").connect()
    server.publish("zeroloop/v1/main/server", b"online", retain=True)
    server.publish("zeroloop/v1/main/server", b"", retain=True)
    newcomer = client(embedded_broker, "newcomer").connect()
    newcomer.subscribe(WELL_KNOWN_FILTER, 1)
    assert newcomer.quiet(still_s=0.5) == 0


@pytest.mark.parametrize("qos", [0, 1])
def test_ten_thousand_retained_channels_all_arrive(
    embedded_broker: RunningBroker, client: Callable[..., Any], qos: int
) -> None:
    client(embedded_broker, "stations").connect().publish_retained(10_000, qos=0)
    newcomer = client(embedded_broker, "newcomer").connect()
    newcomer.subscribe(TELEMETRY, qos)
    assert newcomer.quiet(still_s=2.0) == 10_000
    assert len({topic for topic, _, _ in newcomer.messages}) == 10_000


def test_what_is_retained_survives_a_kill(embedded_broker: RunningBroker, client: Callable[..., Any]) -> None:
    client(embedded_broker, "server").connect().publish("zeroloop/v1/main/server", b"online", retain=True)
    witness = client(embedded_broker, "witness").connect()
    witness.subscribe(WELL_KNOWN_FILTER, 1)
    assert witness.wait_for(1)  # it acknowledges what it is still about to keep
    embedded_broker.kill()
    with start("embedded", port=embedded_broker.port, data_dir=embedded_broker.log_path.parent) as again:
        newcomer = client(again, "newcomer").connect()
        newcomer.subscribe(WELL_KNOWN_FILTER, 1)
        assert newcomer.wait_for(1) == [("zeroloop/v1/main/server", b"online", True)]


def test_it_refuses_mqtt_5(embedded_broker: RunningBroker) -> None:
    """So the protocol belongs into the configuration: `protocol = "3.1.1"`."""
    connect = b"\x10\x11\x00\x04MQTT\x05\x02\x00\x05\x00\x00\x04zl-5"
    unacceptable_protocol_version = b"\x20\x02\x00\x01"
    with socket.create_connection((embedded_broker.host, embedded_broker.port), 5) as link:
        link.sendall(connect)
        assert link.recv(4) == unacceptable_protocol_version
