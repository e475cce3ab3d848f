"""What must hold for any bytes at all: one check a parser, each against a second reading that shares no code with it.

A check returns whether the input was accepted and raises AssertionError where the parser was wrong. An exception of any
other kind that a parser lets through is a finding too: it would end the process that listens.
"""

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from equalizer.meter import read_power
from schemas import codec, messages, topics
from schemas.codec import MAX_PAYLOAD_BYTES, MalformedError, MalformedReason
from schemas.messages import Message
from transport.tap import TappedSocket

Check = Callable[[bytes], bool]

LONGEST_TEXT = 400
"""An error's text goes into logs: it must not carry the payload along."""

MODELS: tuple[type[Message], ...] = (
    messages.ServerAnnouncement,
    messages.StationStatus,
    messages.ChannelTelemetry,
    messages.ChannelPlan,
    messages.Setpoint,
    messages.ChannelCommand,
    messages.LoopCommand,
    messages.Reply,
    messages.LoopBalance,
    messages.MeterReading,
    messages.Event,
)


def message_check(model: type[Message]) -> Check:
    """Return the check of one message's decoder."""

    def check(payload: bytes) -> bool:
        try:
            message = codec.decode(model, payload)
        except MalformedError as error:
            _well_told(error)
            return False
        finally:
            if model is messages.ChannelTelemetry:
                _reads_alike(payload)
        assert len(payload) <= MAX_PAYLOAD_BYTES, "accepted more than the contract allows"
        json.loads(payload, object_pairs_hook=_object, parse_constant=_constant)
        _all_finite(message.model_dump())
        try:
            again = codec.encode(message)
        except MalformedError as error:
            # The keys that were absent come back as null, and a short number may be written longer.
            assert error.reason is MalformedReason.OVERSIZED  # noqa: PT017 - any other reason is a finding
        else:
            assert codec.decode(model, again) == message, "what was read is not what is written"
        return True

    return check


def _reads_alike(payload: bytes) -> None:
    """Telemetry is read alike in its plain form and in its full one."""
    said: list[object] = []
    for read in (codec.decode_telemetry, lambda payload: codec.decode(messages.ChannelTelemetry, payload)):
        try:
            message = read(payload)
        except MalformedError as error:
            said.append(error.reason)
        else:
            said.append({name: getattr(message, name) for name in messages.ChannelTelemetry.model_fields})
    assert said[0] == said[1], "the two forms of telemetry differ"


def check_topic(payload: bytes) -> bool:
    """A topic is understood only if it is the one that its parts make."""
    try:
        topic = payload.decode()
    except UnicodeDecodeError:
        return False
    match topics.parse(topic):
        case None:
            return False
        case topics.LoopAddress(loop, leaf):
            made = topics.loop_topic(loop, leaf)
        case topics.StatusAddress(loop, station):
            made = topics.status_topic(loop, station)
        case topics.ChannelAddress(loop, station, channel, leaf):
            made = topics.channel_topic(loop, station, channel, leaf)
    assert made == topic, "understood as another topic"
    return True


def check_meter(payload: bytes) -> bool:
    """A grid meter's power is finite or refused, wherever in the payload it stands."""
    accepted = False
    for path in ((), ("power_w",), ("a", "b", "1")):
        try:
            power_w = read_power(payload, path, 1000.0)
        except MalformedError as error:
            _well_told(error)
        else:
            assert math.isfinite(power_w), "accepted a number that is not finite"
            accepted = True
    return accepted


class _Wire:
    """A socket at the process boundary: serves chunks, then nothing."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def recv(self, _size: int) -> bytes:
        if not self._chunks:
            raise BlockingIOError
        return self._chunks.pop(0)


def stream_check(*, mqtt5: bool) -> Check:
    """Return the check of the reader of MQTT packets: however the stream is cut, the same comes out."""

    def read(chunks: list[bytes]) -> tuple[list[tuple[str, bytes, bool]], bytes]:
        got: list[tuple[str, bytes, bool]] = []
        passed = bytearray()
        rounds = len(chunks) + 1
        wire: Any = _Wire(chunks)
        tap = TappedSocket(wire, mqtt5=mqtt5, on_publish=lambda *packet: got.append(packet), routes={})
        for _ in range(rounds):
            tap.fill()
            while tap.more or tap.pending:
                while tap.more:
                    passed += tap.recv(4096)
                if tap.pending:
                    tap.fill()
        return got, bytes(passed)

    def check(payload: bytes) -> bool:
        if not payload:
            return False
        cut, stream = payload[0] % 64 + 1, payload[1:]
        whole = read([stream])
        parts = read([stream[at : at + cut] for at in range(0, len(stream), cut)])
        assert whole == parts, "the cut of the stream changed what was read"
        return bool(whole[0])

    return check


CHECKS: dict[str, Check] = {
    **{model.__name__: message_check(model) for model in MODELS},
    "topic": check_topic,
    "meter": check_meter,
    "stream-5": stream_check(mqtt5=True),
    "stream-3.1.1": stream_check(mqtt5=False),
}
"""Name of the parser → its check; the folders of the corpus have these names."""


def _well_told(error: MalformedError) -> None:
    assert error.reason in MalformedReason
    assert 0 < len(str(error)) <= LONGEST_TEXT, "the error carries the payload along"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), "accepted a key that stands twice"
    return dict(pairs)


def _constant(name: str) -> NoReturn:
    raise AssertionError(f"accepted {name}")


def _all_finite(value: object) -> None:
    match value:
        case float():
            assert math.isfinite(value), "accepted a number that is not finite"
        case dict():
            for part in value.values():
                _all_finite(part)
        case list() | tuple():
            for part in value:
                _all_finite(part)
