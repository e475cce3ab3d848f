"""However the network cuts the stream, each packet is dispatched or passed on, once and in order."""

import socket
import ssl
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.certificates import new_authority
from transport.tap import LARGEST_PACKET_BYTES, TappedSocket

Packet = tuple[str, bytes, bool, int]


class Wire:
    """A socket at the process boundary: serves the chunks that it was given."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def recv(self, _size: int) -> bytes:
        if not self._chunks:
            raise BlockingIOError
        return self._chunks.pop(0)


def length_bytes(length: int) -> bytes:
    out = bytearray()
    while True:
        length, digit = divmod(length, 128)
        out.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(out)


def publish(topic: str, payload: bytes, *, retain: bool, qos: int, properties: bytes | None) -> bytes:
    body = len(topic.encode()).to_bytes(2, "big") + topic.encode()
    body += b"\x00\x07" if qos else b""
    body += b"" if properties is None else length_bytes(len(properties)) + properties
    body += payload
    return bytes([0x30 | qos << 1 | retain]) + length_bytes(len(body)) + body


packets = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=20).filter(str.isprintable),
        st.binary(max_size=400),
        st.booleans(),
        st.integers(0, 1),
    ),
    max_size=12,
)


def run(stream: bytes, cuts: list[int], *, mqtt5: bool) -> tuple[list[tuple[str, bytes, bool]], bytes, list[int]]:
    """Return what was dispatched, what was passed on, and how much had been passed on at each dispatch."""
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    got: list[tuple[str, bytes, bool]] = []
    before: list[int] = []
    passed = b""

    def on_publish(topic: str, payload: bytes, retained: bool) -> None:
        got.append((topic, payload, retained))
        before.append(len(passed))

    wire = Wire([stream[a:b] for a, b in pairwise(edges)])
    tap = TappedSocket(wire, mqtt5=mqtt5, on_publish=on_publish, routes={})  # type: ignore[arg-type]  # the fake is the boundary
    for _ in range(len(edges) + 1):
        tap.fill()
        while tap.more or tap.pending:
            while tap.more:
                passed += tap.recv(7)
            if tap.pending:
                tap.fill()
    return got, passed, before


@given(packets, st.lists(st.integers(0, 10_000), max_size=20), st.booleans())
def test_any_cut_of_the_stream_gives_the_same_packets(sent: list[Packet], cuts: list[int], mqtt5: bool) -> None:
    properties = b"\x01\x01" if mqtt5 else None
    frames = [publish(t, p, retain=r, qos=q, properties=properties) for t, p, r, q in sent]
    got, passed, before = run(b"".join(frames), cuts, mqtt5=mqtt5)
    assert got == [(topic, payload, retain) for topic, payload, retain, qos in sent if qos == 0]
    assert passed == b"".join(frame for frame, (_, _, _, qos) in zip(frames, sent, strict=True) if qos)
    # Each message was dispatched when all that came before it had been passed on, and nothing that came after it.
    ahead = 0
    expected = []
    for frame, (_, _, _, qos) in zip(frames, sent, strict=True):
        if qos:
            ahead += len(frame)
        else:
            expected.append(ahead)
    assert before == expected


@pytest.mark.parametrize(
    "frame",
    [
        b"\x30\x01\x00",  # no room for the topic's length
        b"\x30\x04\x00\x09ab",  # a topic longer than the packet
        b"\x30\x05\x00\x02\xff\xfe\x00",  # a topic that is not UTF-8
        b"\x30\x04\x00\x02ab",  # no properties
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
    ],
)
def test_a_damaged_packet_is_left_for_the_library_to_judge(frame: bytes) -> None:
    got, passed, _ = run(frame, [], mqtt5=True)
    assert got == []
    assert passed == frame


def test_the_end_of_the_stream_is_passed_on() -> None:
    tap = TappedSocket(Wire([b""]), mqtt5=True, on_publish=lambda *_: None, routes={})  # type: ignore[arg-type]  # the fake is the boundary
    assert tap.fill()
    assert tap.recv(1) == b""


def test_the_fake_wire_behaves_like_a_real_socket() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        got: list[tuple[str, bytes, bool]] = []
        tap = TappedSocket(near, mqtt5=False, on_publish=lambda *message: got.append(message), routes={})
        assert not tap.fill()
        far.sendall(publish("a", b"b", retain=True, qos=0, properties=None))
        assert not tap.fill()
        assert got == [("a", b"b", True)]
        far.close()
        assert tap.fill()


class Deaf:
    """A taker with a bug."""

    def take(self, _payload: bytes, _retained: bool, /) -> None:
        raise RuntimeError("a bug")


class Ear:
    """A taker that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, bool]] = []

    def take(self, payload: bytes, retained: bool, /) -> None:
        self.heard.append((payload, retained))


def test_a_message_goes_where_its_topic_is_routed_and_a_bug_there_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def unrouted(topic: str, *_: object) -> None:
        raise RuntimeError(topic)

    ear = Ear()
    topics = ("deaf", "unknown", "ear")
    stream = b"".join(publish(topic, b"x", retain=True, qos=0, properties=b"") for topic in topics)
    tap = TappedSocket(Wire([stream]), mqtt5=True, on_publish=unrouted, routes={b"deaf": Deaf(), b"ear": ear})  # type: ignore[arg-type]  # the fake is the boundary
    assert not tap.fill()
    assert ear.heard == [(b"x", True)]
    assert [record.getMessage() for record in caplog.records] == [
        "a handler failed topic=deaf",
        "a handler failed topic=unknown",
    ]


def test_a_full_read_says_that_there_is_more() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        ear = Ear()
        tap = TappedSocket(near, mqtt5=False, on_publish=lambda *_: None, routes={b"ear": ear})
        frame = publish("ear", b"x" * 1000, retain=False, qos=0, properties=None)
        sent = 0
        far.setblocking(False)
        while True:
            try:
                sent += far.send(frame * 100)
            except BlockingIOError:
                break
        assert sent > 64 * 1024
        tap.fill()
        while tap.buffered:
            tap.fill()
        assert len(ear.heard) == sent // len(frame)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Two ends of a connection over TLS."""
    issued = new_authority("broker", time.time(), 3600.0)
    chain = tmp_path / "chain.pem"
    chain.write_text(issued.key_pem + issued.certificate_pem)
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    serving.load_cert_chain(chain)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    near, far = socket.socketpair()
    with ThreadPoolExecutor(1) as other:
        served = other.submit(serving.wrap_socket, far, server_side=True)
        with asking.wrap_socket(near) as ours, served.result() as theirs:
            yield ours, theirs


@pytest.mark.parametrize("end", [b"", b"\x20\x02\x00\x00"], ids=["alone", "acknowledgement"])
def test_messages_in_records_of_their_own_are_taken_at_once(
    secured: tuple[ssl.SSLSocket, ssl.SSLSocket], end: bytes
) -> None:
    """Mosquitto writes every message into a TLS record: a turn of the event loop for each is what a flood lives on."""
    near, far = secured
    near.setblocking(False)
    ear = Ear()
    tap = TappedSocket(near, mqtt5=False, on_publish=lambda *_: None, routes={b"ear": ear})
    for number in range(100):
        far.sendall(publish("ear", b"%d" % number, retain=False, qos=0, properties=None))
    if end:
        far.sendall(end)
    assert tap.fill() is bool(end)
    assert [payload for payload, _ in ear.heard] == [b"%d" % number for number in range(100)]
    assert not tap.buffered
    if end:
        assert tap.recv(100) == end


def test_what_came_before_the_end_of_a_secured_connection_is_taken(
    secured: tuple[ssl.SSLSocket, ssl.SSLSocket],
) -> None:
    near, far = secured
    near.setblocking(False)
    ear = Ear()
    tap = TappedSocket(near, mqtt5=False, on_publish=lambda *_: None, routes={b"ear": ear})
    far.sendall(publish("ear", b"last", retain=False, qos=0, properties=None))
    far.close()
    assert not tap.fill()
    assert len(ear.heard) == 1
    assert tap.fill(), "and the end at the next look"
    assert tap.recv(1) == b""


@pytest.mark.parametrize("excess", [1, 40_000, 700_000])
@pytest.mark.parametrize("cuts", [[], [1], [3, 70_000], list(range(0, 900_000, 65_536))], ids=len)
@pytest.mark.parametrize("mqtt5", [True, False])
def test_a_message_that_is_too_long_is_cut_and_the_next_is_whole(excess: int, cuts: list[int], mqtt5: bool) -> None:
    properties = b"" if mqtt5 else None
    around = 2 + len("t") + (1 if mqtt5 else 0)
    long = b"x" * (LARGEST_PACKET_BYTES - around + excess)
    frames = [
        publish("t", b"before", retain=False, qos=0, properties=properties),
        publish("t", long, retain=True, qos=0, properties=properties),
        publish("t", b"after", retain=False, qos=0, properties=properties),
    ]
    got, passed, _ = run(b"".join(frames), cuts, mqtt5=mqtt5)
    kept = LARGEST_PACKET_BYTES - around
    assert got == [("t", b"before", False), ("t", long[:kept], True), ("t", b"after", False)]
    assert kept > 64 * 1024, "it is still refused as too large"
    assert passed == b""


def test_one_that_wants_an_acknowledgement_reaches_the_library_cut() -> None:
    long = b"x" * 300_000
    frames = [
        publish("t", long, retain=False, qos=1, properties=b""),
        publish("t", b"y", retain=False, qos=1, properties=b""),
    ]
    _, passed, _ = run(b"".join(frames), [100_000, 200_000], mqtt5=True)
    kept = LARGEST_PACKET_BYTES - 2 - len("t") - 2 - 1
    assert passed == publish("t", long[:kept], retain=False, qos=1, properties=b"") + frames[1]


def test_a_length_of_256_mb_costs_no_memory() -> None:
    announced = b"\x30\xff\xff\xff\x7f" + b"\x00\x01t"
    got: list[str] = []
    wire = Wire([announced])
    tap = TappedSocket(wire, mqtt5=False, on_publish=lambda topic, *_: got.append(topic), routes={})  # type: ignore[arg-type]  # the fake is the boundary
    tap.fill()
    chunk = bytes(64 * 1024)
    tracemalloc.start()
    try:
        for _ in range(100):
            wire._chunks.append(chunk)
            assert not tap.fill()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**20
    assert got == ["t"]


def test_no_other_packet_may_be_so_long() -> None:
    tap = TappedSocket(Wire([b"\x90\xff\xff\xff\x7f\x00"]), mqtt5=True, on_publish=lambda *_: None, routes={})  # type: ignore[arg-type]  # the fake is the boundary
    assert tap.fill()
    assert tap.recv(1) == b"", "the connection is at its end"
