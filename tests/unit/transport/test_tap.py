"""However the network cuts the stream, each packet is dispatched or passed on, once and in order."""

import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.tap import TappedSocket

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


@pytest.mark.parametrize("qos", [0, 1])
def test_a_packet_of_many_reads_is_put_together_and_what_follows_it_is_not_lost(qos: int) -> None:
    long = publish("a", bytes(range(256)) * 4000, retain=False, qos=qos, properties=None)
    short = publish("b", b"next", retain=False, qos=0, properties=None)
    stream = short + long + short
    got, passed, _ = run(stream, list(range(0, len(stream), 9973)), mqtt5=False)
    assert [topic for topic, _, _ in got] == (["b", "a", "b"] if qos == 0 else ["b", "b"])
    assert passed == (b"" if qos == 0 else long)
    assert qos == 1 or got[1][1] == bytes(range(256)) * 4000
