"""The only way in and out: strict UTF-8 JSON, at most 64 KiB."""

import json
from enum import StrEnum
from typing import Any, NoReturn, TypeVar, get_args

import msgspec
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from schemas.loads import KEYS, LoadTelemetry, Telemetry
from schemas.messages import ChannelTelemetry, Message

MAX_PAYLOAD_BYTES = 64 * 1024
MAX_PARTS = 4096
"""Objects and lists in a payload. Reading one costs up to 4 µs, however small: 64 KiB of brackets would hold the loop
up for a tenth of a second. The longest plan that fits into a payload has 1,900."""

M = TypeVar("M", bound=Message)


class MalformedReason(StrEnum):
    """What is wrong with a payload; a label of `zeroloop_malformed_messages_total`."""

    OVERSIZED = "oversized"
    TOO_COMPLEX = "too_complex"
    NOT_JSON = "not_json"
    NON_FINITE = "non_finite"
    DUPLICATE_KEY = "duplicate_key"
    MISSING_KEY = "missing_key"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    UNEXPECTED_RETAIN = "unexpected_retain"
    MUTED = "muted"
    """Dropped unread, for a second: the topic has brought too much that was malformed."""


class MalformedError(ValueError):
    """A payload that the contract does not allow: count it, drop it, change nothing."""

    def __init__(self, reason: MalformedReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


_INTERRUPTED = "Error serializing to JSON: KeyboardInterrupt"
"""What pydantic makes of a Ctrl-C that comes while it works."""


def encode(message: Message) -> bytes:
    """Return a message as the contract's JSON.

    Raises:
        MalformedError: the message is longer than the contract allows, or a text of it is no UTF-8.
    """
    try:
        payload = message.__pydantic_serializer__.to_json(message)
    except PydanticSerializationError as error:
        if str(error).startswith(_INTERRUPTED):
            raise KeyboardInterrupt from None
        raise MalformedError(
            MalformedReason.WRONG_TYPE, "a text holds half a character, which UTF-8 cannot say"
        ) from None
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedError(MalformedReason.OVERSIZED, _oversized(payload))
    return payload


def decode(model: type[M], payload: bytes) -> M:
    """Return the message that a payload holds.

    Raises:
        MalformedError: the payload breaks the contract; `reason` says how, the text says where.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedError(MalformedReason.OVERSIZED, _oversized(payload))
    if len(payload) > MAX_PARTS and payload.count(b"{") + payload.count(b"[") > MAX_PARTS:
        raise MalformedError(MalformedReason.TOO_COMPLEX, f"more than {MAX_PARTS} objects and lists")
    try:
        message = model.__pydantic_validator__.validate_json(payload)
    except ValidationError as error:
        raise _explained(model, error) from None
    colons = payload.count(b":")
    if colons != len(message.__pydantic_fields_set__) and colons != _keys_set(message):
        # Every key brings a colon. As many colons as keys that were understood leaves no room for a second one of the
        # same name; more of them (an unknown key, a colon in a text) need the slow look.
        _check_keys(payload)
    return message  # type: ignore[no-any-return]  # pydantic's validator is untyped


def decode_telemetry(payload: bytes) -> Telemetry:
    """Return what a channel's telemetry says; a load's that names every key in the form that is quick to read.

    Raises:
        MalformedError: as `decode` does, with the same reasons.
    """
    # Every key brings a colon. With as many colons as the plain form has keys, all of which it demands, no key can
    # stand twice, and none is unknown.
    if payload.count(b":") == KEYS and len(payload) <= MAX_PAYLOAD_BYTES:
        try:
            return _decode_load(payload)
        except (ValueError, RecursionError):
            pass  # the other form says what is wrong, or that nothing is
    return decode(ChannelTelemetry, payload)


_decode_load = msgspec.json.Decoder(LoadTelemetry).decode


def _keys_set(message: Message) -> int:
    model = type(message)
    parts = _PARTS.get(model)
    if parts is None:
        parts = _PARTS[model] = _parts(model)
    count = len(message.__pydantic_fields_set__)
    if parts:
        values = message.__dict__
        for name in parts:
            value = values[name]
            if isinstance(value, Message):
                count += _keys_set(value)
            elif value is not None:
                for item in value:
                    count += _keys_set(item)
    return count


_PARTS: dict[type[Message], tuple[str, ...]] = {}
"""Model → its fields that hold messages: the only ones that decoding looks into."""


def _parts(model: type[Message]) -> tuple[str, ...]:
    return tuple(name for name, field in model.model_fields.items() if _holds_message(field.annotation))


def _holds_message(annotation: Any) -> bool:  # noqa: ANN401 - annotations are of any type
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return True
    return any(_holds_message(argument) for argument in get_args(annotation))


def _check_keys(payload: bytes) -> None:
    try:
        json.loads(payload, object_pairs_hook=_object, parse_constant=refuse_constant)
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError(MalformedReason.NOT_JSON, f"not JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise MalformedError(MalformedReason.DUPLICATE_KEY, f"the key {key[:64]!r} stands twice")
        seen.add(key)


def refuse_constant(constant: str) -> NoReturn:
    """Refuse what Python's reader of JSON takes and JSON does not know: NaN, Infinity.

    Raises:
        MalformedError: always.
    """
    raise MalformedError(MalformedReason.NON_FINITE, f"{constant} is no JSON number")


_REASONS = {
    "json_invalid": MalformedReason.NOT_JSON,
    "missing": MalformedReason.MISSING_KEY,
    "finite_number": MalformedReason.NON_FINITE,
    "greater_than": MalformedReason.OUT_OF_RANGE,
    "greater_than_equal": MalformedReason.OUT_OF_RANGE,
    "less_than": MalformedReason.OUT_OF_RANGE,
    "less_than_equal": MalformedReason.OUT_OF_RANGE,
    "too_long": MalformedReason.OUT_OF_RANGE,
    "too_short": MalformedReason.OUT_OF_RANGE,
    "string_too_short": MalformedReason.OUT_OF_RANGE,
    "string_pattern_mismatch": MalformedReason.OUT_OF_RANGE,
    "enum": MalformedReason.OUT_OF_RANGE,
    "value_error": MalformedReason.OUT_OF_RANGE,
}


def _explained(model: type[Message], error: ValidationError) -> MalformedError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    text = f"{model.__name__}{'.' if where else ''}{where}: {first['msg']}"
    return MalformedError(_REASONS.get(first["type"], MalformedReason.WRONG_TYPE), text)


def _oversized(payload: bytes) -> str:
    return f"{len(payload)} bytes; the contract allows {MAX_PAYLOAD_BYTES}"
