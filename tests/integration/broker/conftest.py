"""Brokers of this folder's own, and a client that remembers what it got."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from broker import RunningBroker, find_embedded, find_mosquitto, start
from tests.patience import PATIENCE_S
from tests.ports import free_port


class Client:
    """An MQTT client on a thread of its own."""

    def __init__(
        self,
        broker: RunningBroker,
        name: str,
        *,
        tls: ssl.SSLContext | None,
        user: tuple[str, str] | None,
        port: int | None,
    ) -> None:
        version = MQTTProtocolVersion.MQTTv5 if broker.protocol == "5" else MQTTProtocolVersion.MQTTv311
        self.mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=version)
        self.messages: list[tuple[str, bytes, bool]] = []
        self.qos: list[int] = []
        self._host = broker.host
        self._port = broker.port if port is None else port
        self._suback = threading.Event()
        self.mqtt.on_message = self._keep
        self.mqtt.on_subscribe = lambda *_: self._suback.set()
        if tls is not None:
            self.mqtt.tls_set_context(tls)
        if user is not None:
            self.mqtt.username_pw_set(*user)

    def _keep(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self.messages.append((message.topic, message.payload, message.retain))
        self.qos.append(message.qos)

    def connect(self) -> "Client":
        answered = threading.Event()
        refusals: list[str] = []

        def on_connect(_client: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, *_: object) -> None:
            if reason.is_failure:
                refusals.append(str(reason))
            answered.set()

        self.mqtt.on_connect = on_connect
        self.mqtt.connect(self._host, self._port, keepalive=10)
        self.mqtt.loop_start()
        assert answered.wait(PATIENCE_S)
        if refusals:
            self.mqtt.loop_stop()
            raise ConnectionRefusedError(refusals[0])
        return self

    def subscribe(self, topic_filter: str, qos: int) -> None:
        self._suback.clear()
        self.mqtt.subscribe(topic_filter, qos)
        assert self._suback.wait(PATIENCE_S)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        published = self.mqtt.publish(topic, payload, qos, retain)
        published.wait_for_publish(PATIENCE_S)
        assert published.is_published()

    def publish_retained(self, count: int, *, qos: int) -> None:
        """Leave one retained message on each of `count` channels; returns once the broker has them all."""
        for number in range(count):
            topic = f"zeroloop/v1/main/station/s1/channel/{number}/telemetry"
            self.mqtt.publish(topic, b'{"seq":%d}' % number, qos, retain=True)
        self.publish("zeroloop/v1/main/event", b"{}")

    def heard(self, expected: int, *, still_s: float = 1.0) -> int:
        """Return how many messages have come, once those that are expected have and none has for `still_s`."""
        self.wait_for(expected)
        end_s = time.monotonic() + PATIENCE_S
        count = -1
        while count != len(self.messages) and time.monotonic() < end_s:
            count = len(self.messages)
            time.sleep(still_s)
        return len(self.messages)

    def wait_for(self, count: int, timeout_s: float = PATIENCE_S) -> list[tuple[str, bytes, bool]]:
        end_s = time.monotonic() + timeout_s
        while len(self.messages) < count and time.monotonic() < end_s:
            time.sleep(0.01)
        return self.messages

    def vanish(self) -> None:
        """Lose the connection without a DISCONNECT."""
        self.mqtt.loop_stop()
        link = self.mqtt.socket()
        assert link is not None
        link.close()

    def close(self) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    opened: list[Client] = []

    def make(
        broker: RunningBroker,
        name: str,
        *,
        tls: ssl.SSLContext | None = None,
        user: tuple[str, str] | None = None,
        port: int | None = None,
    ) -> Client:
        opened.append(Client(broker, name, tls=tls, user=user, port=port))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def mosquitto() -> Path:
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed")
    return program


@pytest.fixture
def embedded_broker(tmp_path: Path) -> Iterator[RunningBroker]:
    if find_embedded() is None:
        pytest.skip("nats-server is not installed")
    with start("embedded", port=free_port(), data_dir=tmp_path / "nats") as broker:
        yield broker


@pytest.fixture
def mosquitto_broker(mosquitto: Path, tmp_path: Path) -> Iterator[RunningBroker]:
    assert mosquitto
    with start("mosquitto", port=free_port(), data_dir=tmp_path / "mosquitto") as broker:
        yield broker
