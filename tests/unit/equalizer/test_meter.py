"""A grid meter's payload: practical about the shape, strict about the number."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equalizer.meter import read_power
from schemas.codec import MalformedError, MalformedReason


@pytest.mark.parametrize(
    ("payload", "path", "factor", "power_w"),
    [
        (b'{"unix_time_s": 1.0, "power_w": 1234.5}', "power_w", 1.0, 1234.5),
        (b'{"ENERGY": {"Power": 12}}', "ENERGY.Power", -1.0, -12.0),
        (b'{"phases": [{"w": 1.0}, {"w": 2.5}]}', "phases.1.w", 1000.0, 2500.0),
        (b'{"power": "-17.25"}', "power", 1.0, -17.25),
        (b"-3.5", "", 1.0, -3.5),
        (b"0", "", 1.0, 0.0),
    ],
)
def test_the_power_is_found(payload: bytes, path: str, factor: float, power_w: float) -> None:
    assert read_power(payload, tuple(path.split(".")) if path else (), factor) == power_w


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", MalformedReason.NOT_JSON),
        (b"\xff", MalformedReason.NOT_JSON),
        (b'{"a": 1}', MalformedReason.MISSING_KEY),
        (b"[1]", MalformedReason.MISSING_KEY),
        (b'{"w": null}', MalformedReason.WRONG_TYPE),
        (b'{"w": true}', MalformedReason.WRONG_TYPE),
        (b'{"w": "1_000"}', MalformedReason.WRONG_TYPE),
        (b'{"w": "1,5"}', MalformedReason.WRONG_TYPE),
        (b'{"w": {}}', MalformedReason.WRONG_TYPE),
        (b'{"w": NaN}', MalformedReason.NON_FINITE),
        (b'{"w": "inf"}', MalformedReason.NON_FINITE),
        (b'{"w": 1e999}', MalformedReason.NON_FINITE),
        (b'{"w": -1e300}', MalformedReason.OUT_OF_RANGE),
        (b'{"w": ' + b"9" * 400 + b"}", MalformedReason.WRONG_TYPE),
        (b" " * 65537, MalformedReason.OVERSIZED),
    ],
)
def test_what_is_no_power_is_malformed(payload: bytes, reason: MalformedReason) -> None:
    with pytest.raises(MalformedError) as caught:
        read_power(payload, ("w",), 1.0)
    assert caught.value.reason is reason


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else_than_be_read_or_refused(payload: bytes) -> None:
    with contextlib.suppress(MalformedError):
        read_power(payload, ("w",), 1.0)
