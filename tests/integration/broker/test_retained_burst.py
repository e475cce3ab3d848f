"""A new subscriber gets all that is retained: counted, on a real Mosquitto."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker import RunningBroker, start
from tests.ports import free_port

pytestmark = pytest.mark.broker

CHANNELS = 10_000
FILTER = "zeroloop/v1/main/station/+/channel/+/telemetry"


@pytest.mark.parametrize("qos", [0, 1])
def test_every_retained_message_arrives_with_our_configuration(
    mosquitto_broker: RunningBroker, client: Callable[..., Any], qos: int
) -> None:
    client(mosquitto_broker, "stations").connect().publish_retained(CHANNELS, qos=qos)
    newcomer = client(mosquitto_broker, "newcomer").connect()
    newcomer.subscribe(FILTER, qos)
    assert newcomer.heard(CHANNELS) == CHANNELS
    assert len({topic for topic, _, _ in newcomer.messages}) == CHANNELS
    assert all(retained for _, _, retained in newcomer.messages)
    assert set(newcomer.qos) == {qos}


def test_the_defaults_of_mosquitto_lose_most_of_them_without_a_word(
    mosquitto: Path, client: Callable[..., Any], tmp_path: Path
) -> None:
    assert mosquitto
    port = free_port()
    stock = tmp_path / "stock.conf"
    root = "user root\n" if os.geteuid() == 0 else ""
    stock.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{root}")
    with start("mosquitto", config=stock, data_dir=tmp_path) as broker:
        client(broker, "stations").connect().publish_retained(CHANNELS, qos=1)
        newcomer = client(broker, "newcomer").connect()
        newcomer.subscribe(FILTER, 1)
        in_flight, queued = 20, 1000  # Mosquitto's defaults
        assert newcomer.heard(in_flight + queued) == in_flight + queued
