"""Reads a grid meter's payload: the contract's, or any JSON with the power somewhere in it."""

import contextlib
import json
from math import isfinite

from equalizer.config import LARGEST_W
from schemas.codec import MAX_PAYLOAD_BYTES, MalformedError, MalformedReason, refuse_constant

_LARGEST_TEXT = 32


def read_power(payload: bytes, path: tuple[str, ...], factor: float) -> float:
    """Return the power in a meter's payload, W, positive drawn from the grid.

    A number in quotes is taken too: many meters and gateways publish `"1234.5"`. An empty path takes the whole payload
    as the number. A part of the path that is all digits also picks from a list.

    Args:
        payload: JSON.
        path: the keys that lead to the power, from the outermost.
        factor: multiplies the reading.

    Raises:
        MalformedError: no number is there, or none that a hall's power can be.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedError(MalformedReason.OVERSIZED, f"{len(payload)} bytes")
    try:
        value = json.loads(payload, parse_constant=refuse_constant)
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError(MalformedReason.NOT_JSON, f"not JSON: {error}") from None
    for depth, key in enumerate(path, start=1):
        value = _picked(value, key, ".".join(path[:depth]))
    power_w = _number(value) * factor
    if not isfinite(power_w):
        raise MalformedError(MalformedReason.NON_FINITE, "the power is not finite")
    if not -LARGEST_W <= power_w <= LARGEST_W:
        raise MalformedError(MalformedReason.OUT_OF_RANGE, f"{power_w:g} W is no power of a hall")
    return power_w


def _picked(value: object, key: str, where: str) -> object:
    match value:
        case dict() if key in value:
            return value[key]
        case list() if key.isdecimal() and int(key) < len(value):
            return value[int(key)]
        case _:
            raise MalformedError(MalformedReason.MISSING_KEY, f"{where} is missing")


def _number(value: object) -> float:
    taken = isinstance(value, int | float) and not isinstance(value, bool)
    quoted = isinstance(value, str) and len(value) <= _LARGEST_TEXT and "_" not in value
    if taken or quoted:
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)  # type: ignore[arg-type]  # narrowed by the two lines above
    raise MalformedError(MalformedReason.WRONG_TYPE, f"{str(value)[:_LARGEST_TEXT]!r} is no number")
