"""A socket that takes QoS 0 PUBLISH packets off the stream before the MQTT library sees them.

Telemetry is most of what a broker sends. A general client spends about 10 µs on each such packet; cutting it out of the
received bytes costs about 1 µs. All other packets (handshake, acknowledgements, QoS 1) pass through untouched.
Packet layout: MQTT 5.0 (OASIS Standard, 2019), sections 2.1 and 3.3; the same in MQTT 3.1.1 but for the properties.
"""

import socket
import ssl
from collections.abc import Callable

OnPublish = Callable[[str, bytes, bool], None]

_READ_BYTES = 256 * 1024
_TYPE_AND_QOS = 0xF6
_PUBLISH_QOS_0 = 0x30
_RETAIN = 0x01
_TOPIC_LENGTH_BYTES = 2
_MORE = 0x80
_MAX_LENGTH_SHIFT = 21


class TappedSocket:
    """Wraps a connected, non-blocking socket; offers what paho-mqtt asks of one.

    Args:
        raw: the socket, TLS already agreed on.
        mqtt5: whether packets carry properties.
        on_publish: called with topic, payload and retain flag of each QoS 0 PUBLISH. It must not raise.
        on_close: called with the descriptor just before it closes, whoever closes it: the moment to stop watching it,
            for the number may be another socket's right after.
    """

    def __init__(
        self,
        raw: socket.socket,
        *,
        mqtt5: bool,
        on_publish: OnPublish,
        on_close: Callable[[int], object] = lambda _descriptor: None,
    ) -> None:
        self._raw = raw
        self._mqtt5 = mqtt5
        self._on_publish = on_publish
        self._on_close = on_close
        self._data = b""
        self._position = 0
        self._passed = bytearray()
        self.pending = False
        """Whether packets wait behind those passed on: the library takes its own first, so that the order is kept."""
        self._ended = False
        self._broken = False

    def fill(self) -> bool:
        """Take what has arrived and dispatch it; true where there is something for the library, or the end."""
        if not self.pending:
            try:
                data = self._raw.recv(_READ_BYTES)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            except OSError:
                data = b""
            if data:
                self._data = self._data[self._position :] + data
                self._position = 0
            else:
                self._ended = True
        self._split()
        return self._ended or bool(self._passed)

    @property
    def more(self) -> bool:
        """Whether the library has packets to take now."""
        return bool(self._passed)

    @property
    def buffered(self) -> bool:
        """Whether the TLS layer holds bytes that no readiness event will announce."""
        return isinstance(self._raw, ssl.SSLSocket) and self._raw.pending() > 0

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
        data, passed, on_publish, mqtt5 = self._data, self._passed, self._on_publish, self._mqtt5
        position, end = self._position, len(data)
        self.pending = False
        if self._broken:
            passed += data[position:]
            position = end
        while position < end:
            head = data[position]
            at = position + 1
            length = shift = 0
            while at < end:
                byte = data[at]
                at += 1
                length |= (byte & 0x7F) << shift
                if byte < _MORE:
                    break
                shift += 7
                if shift > _MAX_LENGTH_SHIFT:
                    # Not MQTT, and so is all that follows: the library shall see it, complain and close.
                    self._broken = True
                    head, length, at = 0, end - position, position
                    break
            else:
                break
            stop = at + length
            if stop > end:
                break
            topic = None
            if head & _TYPE_AND_QOS == _PUBLISH_QOS_0 and length > _TOPIC_LENGTH_BYTES:
                if passed:
                    self.pending = True
                    break
                at += _TOPIC_LENGTH_BYTES
                body = at + (data[at - 2] << 8 | data[at - 1])
                payload = body
                if mqtt5:
                    # The length of the properties is one byte, nearly always 0; one of more bytes is the library's.
                    payload = body + 1 + data[body] if body < stop and data[body] < _MORE else stop + 1
                if payload <= stop:
                    # What is not UTF-8 is left for the library to judge.
                    try:  # noqa: SIM105 - suppress() costs a third of a microsecond here
                        topic = data[at:body].decode()
                    except UnicodeDecodeError:
                        pass
            if topic is None:
                passed += data[position:stop]
            else:
                on_publish(topic, data[payload:stop], head & _RETAIN != 0)
            position = stop
        self._position = position
