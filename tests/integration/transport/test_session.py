"""A session on a real broker: what is sent arrives, a loss is noticed and mended, a will tells of the end."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.programs import find_mosquitto
from broker.run import RunningBroker, start
from schemas.codec import MAX_PAYLOAD_BYTES
from schemas.settings import BrokerSettings
from tests.patience import PATIENCE_S, settled, until
from tests.ports import free_port
from transport.session import ConnectionFailedError, Session, Will
from transport.tap import LARGEST_PACKET_BYTES

pytestmark = pytest.mark.broker

Message = tuple[str, bytes, bool]


class Peer:
    """A session with a record of what happened to it."""

    def __init__(
        self, settings: BrokerSettings, client_id: str, filters: tuple[str, ...] = (), will: Will | None = None
    ) -> None:
        self.got: list[Message] = []
        self.connections = 0
        self.losses: list[str] = []
        self.filters = filters
        self.session = Session(
            settings,
            client_id=client_id,
            on_message=lambda *message: self.got.append(message),
            on_connected=self._connected,
            on_disconnected=self.losses.append,
            will=will,
            clock=time.monotonic,
            keepalive_s=60,  # nothing here waits for it, and a loaded computer stands still for a while
        )

    def _connected(self) -> None:
        self.connections += 1
        if self.filters:
            self.session.subscribe(*((name, 1) for name in self.filters))


@asynccontextmanager
async def running(peer: Peer) -> AsyncIterator[Peer]:
    task = asyncio.create_task(peer.session.run(), name="session")
    await until(lambda: peer.connections > 0)
    await settled(peer.session)
    try:
        yield peer
    finally:
        await peer.session.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def mosquitto(tmp_path: Path):  # noqa: ANN201 - a generator fixture
    broker = start("mosquitto", port=free_port(), data_dir=tmp_path / "broker")
    yield broker
    broker.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_both_protocols_carry_both_qualities_of_service(mosquitto: RunningBroker, protocol: str) -> None:
    settings = BrokerSettings(port=mosquitto.port, protocol=protocol)
    async with running(Peer(settings, "ear", ("a/#",))) as ear, running(Peer(settings, "mouth")) as mouth:
        mouth.session.publish("a/zero", b"0")
        mouth.session.publish("a/one", b"1", qos=1, retain=True)
        await mouth.session.flush(PATIENCE_S)
        await until(lambda: len(ear.got) == 2)
        assert sorted(ear.got) == [("a/one", b"1", False), ("a/zero", b"0", False)]
        async with running(Peer(settings, "late", ("a/#",))) as late:
            await until(lambda: len(late.got) == 1)
            assert late.got == [("a/one", b"1", True)]


async def test_a_restarted_broker_is_found_again_and_held_events_arrive(
    mosquitto: RunningBroker, tmp_path: Path
) -> None:
    settings = BrokerSettings(port=mosquitto.port)
    async with running(Peer(settings, "s", ("a/#",))) as peer:
        mosquitto.stop()
        await until(lambda: len(peer.losses) == 1)
        peer.session.publish("a/telemetry", b"old")
        peer.session.publish("a/event", b"kept", qos=1)
        again = start("mosquitto", port=mosquitto.port, data_dir=tmp_path / "again")
        try:
            await until(lambda: peer.connections == 2)
            await until(lambda: len(peer.got) == 1)
            await asyncio.sleep(0.2)
            assert peer.got == [("a/event", b"kept", False)]
            assert peer.session.dropped_messages == 1
        finally:
            await peer.session.close()
            again.stop()


async def test_an_event_said_to_a_connection_that_is_dead_already_is_said_on_the_next(
    mosquitto: RunningBroker, tmp_path: Path
) -> None:
    settings = BrokerSettings(port=mosquitto.port)
    async with running(Peer(settings, "s", ("a/#",))) as peer:
        mosquitto.kill()
        # The loop has had no time to notice: one of these writes is the first to find out.
        for payload in (b"first", b"second", b"third"):
            peer.session.publish("a/event", payload, qos=1)
            time.sleep(0.05)  # noqa: ASYNC251 - the answer to each write arrives meanwhile
        again = start("mosquitto", port=mosquitto.port, data_dir=tmp_path / "again")
        try:
            await until(lambda: {payload for _, payload, _ in peer.got} == {b"first", b"second", b"third"})
        finally:
            await peer.session.close()
            again.stop()


async def test_what_is_good_only_now_is_not_said_later(mosquitto: RunningBroker, tmp_path: Path) -> None:
    settings = BrokerSettings(port=mosquitto.port)
    async with running(Peer(settings, "s", ("a/#",))) as peer:
        mosquitto.kill()
        # Some of them are written to a connection that is dead already, the last ones to none.
        for _ in range(3):
            peer.session.publish("a/command", b"start", qos=1, only_now=True)
            time.sleep(0.05)  # noqa: ASYNC251 - the answer to each write arrives meanwhile
        await until(lambda: len(peer.losses) == 1)
        peer.session.publish("a/command", b"start", qos=1, only_now=True)
        peer.session.publish("a/event", b"kept", qos=1)
        again = start("mosquitto", port=mosquitto.port, data_dir=tmp_path / "again")
        try:
            await until(lambda: len(peer.got) == 1)
            await asyncio.sleep(0.2)
            assert peer.got == [("a/event", b"kept", False)]
        finally:
            await peer.session.close()
            again.stop()


async def test_the_will_tells_of_a_vanished_client_and_not_of_a_clean_leave(mosquitto: RunningBroker) -> None:
    settings = BrokerSettings(port=mosquitto.port)
    async with running(Peer(settings, "ear", ("will/#",))) as ear:
        async with running(Peer(settings, "polite", will=Will("will/polite", b"gone"))):
            pass
        abrupt = Peer(settings, "abrupt", will=Will("will/abrupt", b"gone"))
        async with running(abrupt):
            # Another client of the same id: the broker throws the first one out, and its will goes out.
            second = Peer(settings, "abrupt")
            await second.session.connect_once(PATIENCE_S)
            await until(lambda: len(ear.got) == 1)
            await second.session.close()
        assert ear.got == [("will/abrupt", b"gone", False)]


async def test_a_starved_link_keeps_the_newest_of_each_topic(mosquitto: RunningBroker) -> None:
    settings = BrokerSettings(port=mosquitto.port)
    async with running(Peer(settings, "ear", ("big/#",))) as ear, running(Peer(settings, "mouth")) as mouth:
        payload = b"x" * 60_000
        os.kill(mosquitto.pid, signal.SIGSTOP)
        try:
            for number in range(1_000):  # far more than the sockets of both ends hold
                mouth.session.publish("big/a", b"%d " % number + payload)
            assert mouth.session.dropped_messages > 0
        finally:
            os.kill(mosquitto.pid, signal.SIGCONT)
        await mouth.session.flush(PATIENCE_S)
        await until(lambda: bool(ear.got) and ear.got[-1][1].startswith(b"999 "))
        assert len(ear.got) + mouth.session.dropped_messages == 1_000


async def test_the_kernel_keeps_no_backlog_of_small_messages_for_a_link_that_takes_none() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    listener.setblocking(False)
    loop = asyncio.get_running_loop()

    async def greet() -> socket.socket:
        accepted, _ = await loop.sock_accept(listener)
        accepted.setblocking(False)
        await loop.sock_recv(accepted, 1024)
        await loop.sock_sendall(accepted, b"\x20\x02\x00\x00")  # CONNACK of MQTT 3.1.1
        return accepted

    greeting = asyncio.create_task(greet(), name="broker")
    settings = BrokerSettings(port=listener.getsockname()[1], protocol="3.1.1")
    session = Session(settings, client_id="s", on_message=lambda *_: None, clock=time.monotonic, keepalive_s=60)
    await session.connect_once(PATIENCE_S)
    accepted = await greeting
    for number in range(400):
        session.publish(f"a/{number % 5}", b"%03d" % number + bytes(600))
        await asyncio.sleep(0.01)
    assert session.dropped_messages > 100
    received = b""
    while any(b"a/%d%03d" % (number % 5, number) not in received for number in range(395, 400)):
        more = await asyncio.wait_for(loop.sock_recv(accepted, 65536), PATIENCE_S)
        assert more, "the connection was lost"
        received += more
    assert len(received) + 600 * session.dropped_messages < 400 * 650
    accepted.close()
    await session.close()
    listener.close()


async def test_a_burst_on_a_good_link_is_sent_whole(mosquitto: RunningBroker) -> None:
    settings = BrokerSettings(port=mosquitto.port)
    async with running(Peer(settings, "ear", ("a/#",))) as ear, running(Peer(settings, "mouth")) as mouth:
        for burst in range(1, 9):
            for topic in range(500):
                mouth.session.publish(f"a/{topic}", bytes(600))
            # What is left to a second burst of the same topics would be replaced by it.
            await until(lambda heard=500 * burst: len(ear.got) + mouth.session.dropped_messages >= heard)
        assert mouth.session.dropped_messages == 0


@pytest.fixture
def narrow(tmp_path: Path):  # noqa: ANN201 - a generator fixture
    """A foreign broker that takes small packets only."""
    port = free_port()
    config = tmp_path / "narrow.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_packet_size 2000\n")
    broker = start("mosquitto", data_dir=tmp_path / "broker", config=config)
    yield broker
    broker.stop()


async def test_what_a_broker_says_it_does_not_take_is_not_sent(
    narrow: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    settings = BrokerSettings(port=narrow.port)
    refused: list[tuple[str, str]] = []
    async with running(Peer(settings, "ear", ("a/#",))) as ear, running(Peer(settings, "mouth")) as mouth:
        assert mouth.session.largest_packet_bytes == 2000
        mouth.session._on_refused = lambda *what: refused.append(what)
        for qos in (0, 1, 0, 1):
            mouth.session.publish("a/long", bytes(2000), qos=qos)
        mouth.session.publish("a/longest", bytes(2000 - 10 - len("a/longest")), qos=1)
        mouth.session.publish("a/short", b"x", qos=0)
        await until(lambda: len(ear.got) == 2)
        assert {topic for topic, _, _ in ear.got} == {"a/longest", "a/short"}
        assert mouth.losses == []
        assert mouth.session.dropped_messages == 4
        assert refused == [("a/long", "packet too large: the broker takes 2000 bytes")] * 4
    lines = [record.getMessage() for record in caplog.records]
    assert sum("not_sent topic=a/long bytes=2000" in line for line in lines) == 1
    assert any("broker_takes_small_packets_only largest_bytes=2000" in line for line in lines)


async def test_nobody_at_home_is_one_clear_error() -> None:
    port = free_port()
    peer = Peer(BrokerSettings(port=port), "s")
    with pytest.raises(ConnectionFailedError, match=f"127.0.0.1:{port}: connection refused"):
        await peer.session.connect_once(PATIENCE_S)


async def test_a_silent_listener_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        peer = Peer(BrokerSettings(port=port), "s")
        with pytest.raises(ConnectionFailedError, match=r"no MQTT answer within 0\.3 s"):
            await peer.session.connect_once(0.3)


@pytest.fixture
def unlimited(tmp_path: Path) -> Iterator[int]:
    """Yield the port of a Mosquitto that lets messages of any size through, as it does where nothing is configured."""
    program, port, conf = find_mosquitto(), free_port(), tmp_path / "unlimited.conf"
    assert program is not None
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([str(program), "-c", str(conf)], stderr=subprocess.DEVNULL)
    yield port
    process.kill()
    process.wait()


@pytest.mark.parametrize(("protocol", "arrives"), [("5", False), ("3.1.1", True)])
async def test_a_message_of_many_megabytes_is_left_at_the_broker_where_it_can_be_told_so(
    unlimited: int, protocol: str, arrives: bool
) -> None:
    ear = Peer(BrokerSettings(port=unlimited, protocol=protocol), "ear", ("a/#",))
    async with running(ear), running(Peer(BrokerSettings(port=unlimited), "mouth")) as mouth:
        mouth.session.publish("a/long", bytes(8_000_000))
        mouth.session.publish("a/oversized", bytes(70_000))
        mouth.session.publish("a/next", b"next", qos=1)
        await until(lambda: any(topic == "a/next" for topic, _, _ in ear.got))
    lengths = {topic: len(payload) for topic, payload, _ in ear.got}
    # What is longer than a packet of the contract is cut; it is still too long, and counted as that.
    cut = {topic: LARGEST_PACKET_BYTES - 2 - len(topic) - (protocol == "5") for topic in ("a/oversized", "a/long")}
    assert lengths == {"a/oversized": cut["a/oversized"], "a/next": 4} | ({"a/long": cut["a/long"]} if arrives else {})
    assert min(cut.values()) > MAX_PAYLOAD_BYTES
    assert ear.losses == ["closed"]


async def test_a_subscription_that_the_broker_refuses_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(1):
            body = await reader.readexactly((await reader.readexactly(1))[0])
            if head[0] >> 4 == 1:  # CONNECT
                writer.write(b"\x20\x02\x00\x00")
            elif head[0] >> 4 == 8:  # SUBSCRIBE
                writer.write(b"\x90\x04" + body[:2] + b"\x00\x80")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    peer = Peer(
        BrokerSettings(port=server.sockets[0].getsockname()[1], protocol="3.1.1"), "ear", ("allowed/#", "refused/#")
    )
    with caplog.at_level(logging.ERROR):
        async with running(peer):
            await until(lambda: any("subscription_refused" in text for text in caplog.messages))
    server.close()
    await server.wait_closed()
    (told,) = [text for text in caplog.messages if "subscription_refused" in text]
    assert "filter=refused/#" in told


class LateStore:
    """A broker of MQTT 3.1.1 that gives newcomers what is in `retained`, whatever it has said to others since."""

    def __init__(self) -> None:
        self.retained = {b"s/1/status": b"old"}
        self.subscriptions: list[bytes] = []
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        while head := await reader.read(1):
            body = await reader.readexactly((await reader.readexactly(1))[0])
            if head[0] >> 4 == 1:  # CONNECT
                writer.write(b"\x20\x02\x00\x00")
            elif head[0] >> 4 == 8:  # SUBSCRIBE
                self.subscriptions.append(body[2:])
                writer.write(b"\x90" + bytes([2 + body.count(b"/#")]) + body[:2] + b"\x01" * body.count(b"/#"))
                for topic, payload in self.retained.items():
                    self.say(topic, payload, retained=True)
            await writer.drain()
        writer.close()

    def say(self, topic: bytes, payload: bytes, *, retained: bool = False) -> None:
        assert self._writer is not None
        body = len(topic).to_bytes(2, "big") + topic + b"\x00\x07" + payload
        self._writer.write(bytes([0x32 | retained, len(body)]) + body)


async def test_what_a_broker_retains_while_somebody_subscribes_is_asked_for_once_more() -> None:
    store = LateStore()
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    peer = Peer(BrokerSettings(port=server.sockets[0].getsockname()[1], protocol="3.1.1"), "ear")
    async with running(peer):
        peer.session.subscribe(("s/#", 1), ("c/#", 1), sure=("s/#",))
        await until(lambda: len(peer.got) == 1)
        store.retained = {b"s/1/status": b"new", b"s/2/status": b"first"}  # kept only now; said to others before
        await until(lambda: len(peer.got) == 3)
    server.close()
    await server.wait_closed()
    assert peer.got == [("s/1/status", b"old", True), ("s/1/status", b"new", True), ("s/2/status", b"first", True)]
    assert store.subscriptions == [b"\x00\x03s/#\x01\x00\x03c/#\x01", b"\x00\x03s/#\x01"]


async def test_what_is_asked_for_again_is_no_news_where_newer_was_heard() -> None:
    store = LateStore()
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    peer = Peer(BrokerSettings(port=server.sockets[0].getsockname()[1], protocol="3.1.1"), "ear")
    async with running(peer):
        peer.session.subscribe(("s/#", 1), sure=("s/#",))
        await until(lambda: len(peer.got) == 1)
        store.say(b"s/1/status", b"new")
        store.retained[b"s/2/status"] = b"first"
        await until(lambda: len(peer.got) == 3)
        peer.session.subscribe(("s/#", 1), sure=("s/#",))  # from the beginning: all of it counts
        await until(lambda: len(peer.got) == 5)
    server.close()
    await server.wait_closed()
    assert peer.got[:3] == [("s/1/status", b"old", True), ("s/1/status", b"new", False), ("s/2/status", b"first", True)]
    assert peer.got[3:] == [("s/1/status", b"old", True), ("s/2/status", b"first", True)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_broker_of_mqtt_5_is_asked_once(mosquitto: RunningBroker, protocol: str) -> None:
    """NATS, for which this is done, speaks 3.1.1 alone."""
    settings = BrokerSettings(port=mosquitto.port, protocol=protocol)
    async with running(Peer(settings, "mouth")) as mouth, running(Peer(settings, "ear")) as ear:
        mouth.session.publish("s/1/status", b"online", qos=1, retain=True)
        await mouth.session.flush(PATIENCE_S)
        ear.session.subscribe(("s/#", 1), sure=("s/#",))
        await asyncio.sleep(3.0)
        await until(lambda: len(ear.got) >= (2 if protocol == "3.1.1" else 1))
        assert ear.got == [("s/1/status", b"online", True)] * (2 if protocol == "3.1.1" else 1)


def test_a_session_that_follows_another_counts_on_from_what_that_dropped() -> None:
    first, second = Peer(BrokerSettings(port=1), "first").session, Peer(BrokerSettings(port=2), "second").session
    first.publish("a", b"outdated by the time that there is a connection")
    first.publish("b", b"waits for it", qos=1)
    second.inherit(first)
    assert (first.dropped_messages, second.dropped_messages) == (1, 1)
