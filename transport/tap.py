"""A socket that takes QoS 0 PUBLISH packets off the stream before the MQTT library sees them.

Telemetry is most of what a broker sends. A general client spends about 10 µs on each such packet; cutting it out of the
received bytes costs about 1 µs. All other packets (handshake, acknowledgements, QoS 1) pass through untouched.
Packet layout: MQTT 5.0 (OASIS Standard, 2019), sections 2.1 and 3.3; the same in MQTT 3.1.1 but for the properties.
"""

import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Protocol

_LOG = logging.getLogger(__name__)

OnPublish = Callable[[str, bytes, bool], None]


class Taker(Protocol):
    """Takes the messages of one topic."""

    def take(self, payload: bytes, retained: bool, /) -> None:  # noqa: FBT001 - the hot path passes no keywords
        """Take one message."""


Routes = Mapping[bytes, Taker]
"""Topic as it stands in the packet → who takes its messages."""

LARGEST_PACKET_BYTES = 68 * 1024
"""Room for the contract's largest payload (64 KiB), a topic, and what stands around both.

Of a PUBLISH that is longer, so much is kept, which is still too much for a payload: it is refused, counted and logged
like any other that is too large. The rest is thrown away as it comes. Otherwise one announced length would have us wait
for, and keep, up to 256 MB; only a broker of MQTT 5 can be asked to send no such thing.
"""
_LARGEST_LENGTH = b"\x80\xa0\x04"
"""The same as it stands in a packet (MQTT 5.0, section 1.5.5)."""
_READ_BYTES = 64 * 1024
"""A read stays in the processor's cache while it is taken apart."""
_TYPE = 0xF0
_PUBLISH = 0x30
_TYPE_AND_QOS = 0xF6
_PUBLISH_QOS_0 = 0x30
_RETAIN = 0x01
_TOPIC_LENGTH_BYTES = 2
_MORE = 0x80
_LONGEST_LENGTH = 4
_BROKEN = -1
_NOTHING_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TappedSocket:
    """Wraps a connected, non-blocking socket; offers what paho-mqtt asks of one.

    Args:
        raw: the socket, TLS already agreed on.
        mqtt5: whether packets carry properties.
        on_publish: called with topic, payload and retain flag of each QoS 0 PUBLISH that has no route.
        routes: looked up at every packet; may change at any time.
        on_close: called with the descriptor just before it closes, whoever closes it: the moment to stop watching it,
            for the number may be another socket's right after.
    """

    def __init__(
        self,
        raw: socket.socket,
        *,
        mqtt5: bool,
        on_publish: OnPublish,
        routes: Routes,
        on_close: Callable[[int], object] = lambda _descriptor: None,
    ) -> None:
        self._raw = raw
        self._records = isinstance(raw, ssl.SSLSocket)
        """Whether a read returns one record of TLS at most; a broker puts every message into one of its own."""
        self._mqtt5 = mqtt5
        self._on_publish = on_publish
        self._routes = routes
        self._on_close = on_close
        self._data = b""
        self._position = 0
        self._passed = bytearray()
        self.pending = False
        """Whether packets wait behind those passed on: the library takes its own first, so that the order is kept."""
        self._ended = False
        self._broken = False
        self._full = False
        self._skip_bytes = 0
        """What is still to come of a packet that was too long."""

    def fill(self) -> bool:
        """Take what has arrived and dispatch it; true where there is something for the library, or the end."""
        if not self.pending:
            try:
                data = self._raw.recv(_READ_BYTES)
            except _NOTHING_YET:
                self._full = False
                return False
            except OSError:
                data = b""
            if self._records and data:
                data = self._with_more_records(data)
            self._full = len(data) == _READ_BYTES
            if not data:
                self._ended = True
            elif self._skip_bytes >= len(data):
                self._skip_bytes -= len(data)
            else:
                self._data = self._data[self._position :] + data[self._skip_bytes :]
                self._position = self._skip_bytes = 0
        self._split()
        return self._ended or bool(self._passed)

    def _with_more_records(self, data: bytes) -> bytes:
        """Return data with what has arrived behind it: a turn of the event loop costs more than ten records do."""
        parts, left_bytes = [data], _READ_BYTES - len(data)
        while left_bytes > 0:
            try:
                data = self._raw.recv(left_bytes)
            except OSError:  # nothing yet, or an error that the next read meets again
                break
            if not data:
                break
            parts.append(data)
            left_bytes -= len(data)
        return b"".join(parts)

    @property
    def more(self) -> bool:
        """Whether the library has packets to take now."""
        return bool(self._passed)

    @property
    def buffered(self) -> bool:
        """Whether another read may find something: the last one was full."""
        return self._full

    def recv(self, buffer_size: int) -> bytes:
        """Return bytes of the packets that were passed on; empty at the connection's end."""
        if self._passed:
            taken = bytes(self._passed[:buffer_size])
            del self._passed[:buffer_size]
            return taken
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, buffer: bytes | bytearray) -> int:
        """Send what the socket takes."""
        return self._raw.send(buffer)

    def close(self) -> None:
        """Close the socket, once."""
        if self._raw.fileno() >= 0:
            self._on_close(self._raw.fileno())
            self._raw.close()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._raw.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket's own signature
        """Leave the socket as it is: non-blocking from the start."""

    def _split(self) -> None:  # noqa: C901, PLR0912 - the hot path: a call a message less is a tenth of it
        """Dispatch or pass on packet by packet, up to what has not arrived whole."""
        data, passed, mqtt5, route = self._data, self._passed, self._mqtt5, self._routes.get
        position, end = self._position, len(data)
        self.pending = False
        if self._broken:
            passed += data[position:]
            position = end
        while position < end:
            head = data[position]
            at = position + 3
            if at <= end and data[position + 1] >= _MORE > data[position + 2]:  # as nearly all lengths are: two bytes
                stop = at + (data[position + 1] - _MORE + (data[position + 2] << 7))
            else:
                at, stop = _extent(data, position + 1)
                if stop == _BROKEN:
                    # Not MQTT, and so is all that follows: the library shall see it, complain and close.
                    self._broken = True
                    head, at, stop = 0, position, end
                elif stop - at > LARGEST_PACKET_BYTES:
                    if not self._cut(position, at, stop):
                        break
                    data = self._data
                    position, end = 0, len(data)
                    continue
            if stop > end:
                break
            payload = stop + 1
            if head & _TYPE_AND_QOS == _PUBLISH_QOS_0 and stop - at > _TOPIC_LENGTH_BYTES:
                if passed:
                    self.pending = True
                    break
                topic = at + _TOPIC_LENGTH_BYTES
                body = payload = topic + (data[at] << 8 | data[at + 1])
                if mqtt5:
                    # The length of the properties is one byte, nearly always 0; one of more bytes is the library's.
                    payload = body + 1 + data[body] if body < stop and data[body] < _MORE else stop + 1
            if payload > stop:
                passed += data[position:stop]
            else:
                name = data[topic:body]
                taker = route(name)
                if taker is None:
                    self._dispatch(name, data[position:stop], data[payload:stop])
                else:
                    try:
                        taker.take(data[payload:stop], head & _RETAIN != 0)
                    except Exception:  # noqa: BLE001 - a handler's bug must not stop the reading
                        _LOG.exception("a handler failed topic=%s", name.decode())
            position = stop
        self._position = position

    def _cut(self, position: int, at: int, stop: int) -> bool:
        """Cut the packet at `position`, whose body begins at `at`, to the largest length; false: not here yet."""
        data = self._data
        if data[position] & _TYPE != _PUBLISH:
            self._ended = True  # no other packet of a broker comes near this length
            return False
        if len(data) - at < LARGEST_PACKET_BYTES:
            return False
        self._skip_bytes = max(0, stop - len(data))
        kept = data[at : at + LARGEST_PACKET_BYTES]
        self._data = data[position : position + 1] + _LARGEST_LENGTH + kept + data[stop:]
        return True

    def _dispatch(self, name: bytes, packet: bytes, payload: bytes) -> None:
        """Hand over a message that has no route of its own."""
        try:
            topic = name.decode()
        except UnicodeDecodeError:
            self._passed += packet  # for the library to judge
            return
        try:
            self._on_publish(topic, payload, packet[0] & _RETAIN != 0)
        except Exception:  # noqa: BLE001 - as above
            _LOG.exception("a handler failed topic=%s", topic)


def _extent(data: bytes, at: int) -> tuple[int, int]:
    """Return where a packet's body begins, and where it stops, by the length that stands at `at`."""
    length = shift = 0
    for byte in data[at : at + _LONGEST_LENGTH]:
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < _MORE:
            return at, at + length
        shift += 7
    return at, _BROKEN if shift == 7 * _LONGEST_LENGTH else len(data) + 1
