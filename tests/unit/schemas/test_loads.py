"""Telemetry has two forms in the program and one meaning: the plain form reads and refuses what the full one does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import MAX_PAYLOAD_BYTES, MalformedError, MalformedReason, decode, decode_telemetry
from schemas.loads import LoadTelemetry
from schemas.messages import ChannelTelemetry

LOAD = {
    "boot_id": "9f2c61d0",
    "seq": 1042,
    "unix_time_s": 1795412000.25,
    "work_status": "working",
    "step_type": "cc_chg",
    "step_id": 3,
    "cycle_count": 1,
    "voltage_v": 365.21,
    "current_a": 54.7,
    "power_w": 19977.0,
    "temperature_degc": 27.1,
    "soc_ratio": None,
    "battery_connected": True,
    "equalization": None,
    "alarm": None,
}
FIELDS = tuple(ChannelTelemetry.model_fields)
TEXT = json.dumps(LOAD)
LIMITS = {"charge_limit_w": 1.0, "discharge_limit_w": 1.0, "ramp_w_per_s": 1.0, "applied_w": 0.0}


def outcome(read: Any, payload: bytes) -> dict[str, object] | MalformedReason:  # noqa: ANN401 - either reader
    try:
        message = read(payload)
    except MalformedError as error:
        return error.reason
    return {name: getattr(message, name) for name in FIELDS}


def full(payload: bytes) -> ChannelTelemetry:
    return decode(ChannelTelemetry, payload)


def test_a_load_that_names_every_key_is_read_in_the_plain_form() -> None:
    message = decode_telemetry(TEXT.encode())
    assert isinstance(message, LoadTelemetry)
    assert outcome(lambda _: message, b"") == outcome(full, TEXT.encode())
    assert LoadTelemetry.__struct_fields__ == FIELDS


@pytest.mark.parametrize(
    "keys",
    [
        {"equalization": LIMITS},
        {"alarm": {"code": "over_voltage", "text": "4.31 V"}},
        {"future": 1},
        {"boot_id": "a:b"},
    ],
)
def test_what_the_plain_form_cannot_hold_comes_in_the_full_one(keys: dict[str, object]) -> None:
    assert isinstance(decode_telemetry(json.dumps(LOAD | keys).encode()), ChannelTelemetry)


def test_an_optional_key_may_be_absent() -> None:
    brief = {key: value for key, value in LOAD.items() if key not in ("soc_ratio", "alarm")}
    message = decode_telemetry(json.dumps(brief).encode())
    assert (message.soc_ratio, message.alarm, message.power_w) == (None, None, 19977.0)


def test_a_key_that_stands_twice_is_found_where_another_is_absent() -> None:
    payload = TEXT.replace(', "alarm": null', ', "power_w": 1.0').encode()
    with pytest.raises(MalformedError) as caught:
        decode_telemetry(payload)
    assert caught.value.reason is MalformedReason.DUPLICATE_KEY


def test_the_limit_of_size_holds() -> None:
    with pytest.raises(MalformedError) as caught:
        decode_telemetry(TEXT.encode() + b" " * MAX_PAYLOAD_BYTES)
    assert caught.value.reason is MalformedReason.OVERSIZED


NUMBERS = ("1", "0", "-0", "-1", "1.0", "1e3", "1E+400", "1e-400", "9223372036854775807", "9223372036854775808")
NO_NUMBERS = (
    "1" + "0" * 400,
    "NaN",
    "-Infinity",
    "01",
    "1.",
    "-",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    "[1]",
    "nul",
    "",
)
TEXTS = ('""', '"1"', '"working"', '"sim"', '"work\\u0069ng"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\x"', '"a\nb"')
ODD_TEXTS = ('"\x00"', '"\x7f"', '"\\u0000"', '"é"', '"a:b"', '{"a": 1}')
raw = st.sampled_from((*NUMBERS, *NO_NUMBERS, *TEXTS, *ODD_TEXTS)) | st.floats().map(json.dumps)


@given(st.sampled_from(FIELDS), raw)
def test_both_forms_judge_every_value_alike(key: str, value: str) -> None:
    text = TEXT.replace(f'"{key}": {json.dumps(LOAD[key])}', f'"{key}": {value}')
    assert outcome(decode_telemetry, text.encode()) == outcome(full, text.encode())


@given(st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=3))
def test_both_forms_judge_every_damage_alike(damages: list[tuple[int, int, bytes]]) -> None:
    payload = TEXT.encode()
    for at, dropped, inserted in damages:
        payload = payload[:at] + inserted + payload[at + dropped :]
    assert outcome(decode_telemetry, payload) == outcome(full, payload)
