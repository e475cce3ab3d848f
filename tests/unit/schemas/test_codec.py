"""The codec: what the contract allows comes through unchanged, and everything else is refused with its reason."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import MAX_PAYLOAD_BYTES, MalformedError, MalformedReason, decode, encode
from schemas.examples import EXAMPLES
from schemas.messages import (
    PAYLOADS,
    ChannelPlan,
    ChannelTelemetry,
    Event,
    Message,
    MeterReading,
    PlanSegment,
    Setpoint,
    Severity,
    StationStatus,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=200)


def refusal(model: type[Message], payload: bytes) -> MalformedReason:
    with pytest.raises(MalformedError) as caught:
        decode(model, payload)
    return caught.value.reason


def changed(**keys: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return json.dumps(json.loads(EXAMPLES["Setpoint"][0]) | keys).encode()


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in EXAMPLES.items() for text in texts])
def test_the_contracts_examples_come_through_with_every_value(name: str, text: str) -> None:
    message = decode(PAYLOADS[name], text.encode())
    given_values = json.loads(text)
    sent_again = json.loads(encode(message))
    assert says_as_much(sent_again, given_values)
    assert decode(PAYLOADS[name], encode(message)) == message


def says_as_much(sent: Any, original: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Tell whether `sent` says what `original` says; absent optional keys may have become `null`."""
    if isinstance(original, dict):
        return all(says_as_much(sent[key], value) for key, value in original.items())
    if isinstance(original, list):
        return all(says_as_much(*pair) for pair in zip(sent, original, strict=True))
    return bool(sent == original)


def test_every_payload_of_the_contract_has_an_example() -> None:
    assert set(EXAMPLES) == set(PAYLOADS)


@given(
    source=texts,
    severity=st.sampled_from(Severity),
    code=texts,
    text=texts,
    unix_time_s=finite,
)
def test_any_event_comes_through(source: str, severity: Severity, code: str, text: str, unix_time_s: float) -> None:
    event = Event(unix_time_s=unix_time_s, source=source, severity=severity, code=code, text=text)
    assert decode(Event, encode(event)) == event


@given(st.lists(finite, min_size=1, max_size=40), st.integers(0, 2**63 - 1))
def test_any_plan_comes_through(powers_w: list[float], seq: int) -> None:
    plan = ChannelPlan(
        boot_id="b",
        seq=seq,
        unix_time_s=0.0,
        step_id=1,
        until_s=1e6,
        segments=tuple(PlanSegment(after_s=float(number), power_w=power_w) for number, power_w in enumerate(powers_w)),
    )
    assert decode(ChannelPlan, encode(plan)) == plan


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused_and_never_another_error(payload: bytes) -> None:
    try:
        outcome = encode(decode(MeterReading, payload))
    except MalformedError as error:
        outcome = str(error).encode()
    assert outcome


@given(
    st.recursive(
        st.none() | st.booleans() | finite | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)
    )
)
def test_keys_that_the_contract_does_not_have_yet_change_nothing(value: Any) -> None:  # noqa: ANN401 - any JSON value
    known = json.loads(EXAMPLES["ChannelTelemetry"][1])
    grown = known | {"zz_of_the_future": value, "equalization": known["equalization"] | {"zz": value}}
    assert decode(ChannelTelemetry, json.dumps(grown).encode()) == decode(ChannelTelemetry, json.dumps(known).encode())


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", MalformedReason.NOT_JSON),
        (b"{", MalformedReason.NOT_JSON),
        (b'{"unix_time_s":1.0,"power_w":2.0} x', MalformedReason.NOT_JSON),
        (b'{"unix_time_s":1.0,"power_w":2.0,}', MalformedReason.NOT_JSON),
        (b"{'unix_time_s':1.0,'power_w':2.0}", MalformedReason.NOT_JSON),
        (b'\xff{"unix_time_s":1.0,"power_w":2.0}', MalformedReason.NOT_JSON),
        (b'{"unix_time_s":1.0,"power_w":2.0,"note":"\xff"}', MalformedReason.NOT_JSON),
        (b"[" * 4_000, MalformedReason.NOT_JSON),
        (b'{"unix_time_s":1.0,"power_w":2.0,"x":' + b"[" * 4_000 + b"]" * 4_000 + b"}", MalformedReason.NOT_JSON),
        (b"[" * 60_000, MalformedReason.TOO_COMPLEX),
        (b'{"unix_time_s":1.0,"power_w":2.0,"x":[' + b"{}," * 4_096 + b"{}]}", MalformedReason.TOO_COMPLEX),
        (b"[]", MalformedReason.WRONG_TYPE),
        (b"null", MalformedReason.WRONG_TYPE),
        (b'{"unix_time_s":1.0}', MalformedReason.MISSING_KEY),
        (b'{"unix_time_s":1.0,"Power_w":2.0}', MalformedReason.MISSING_KEY),
        (b'{"unix_time_s":1.0,"power_w":"2.0"}', MalformedReason.WRONG_TYPE),
        (b'{"unix_time_s":1.0,"power_w":true}', MalformedReason.WRONG_TYPE),
        (b'{"unix_time_s":1.0,"power_w":null}', MalformedReason.WRONG_TYPE),
        (b'{"unix_time_s":1.0,"power_w":NaN}', MalformedReason.NON_FINITE),
        (b'{"unix_time_s":1.0,"power_w":-Infinity}', MalformedReason.NON_FINITE),
        (b'{"unix_time_s":1.0,"power_w":1e999}', MalformedReason.NON_FINITE),
        (b'{"unix_time_s":1.0,"power_w":2.0,"future":NaN}', MalformedReason.NON_FINITE),
        (b'{"unix_time_s":1.0,"power_w":2.0,"power_w":3.0}', MalformedReason.DUPLICATE_KEY),
        (b'{"unix_time_s":1.0,"power_w":2.0,"power_w":2.0}', MalformedReason.DUPLICATE_KEY),
        (b'{"unix_time_s":1.0,"power_w":2.0,"x":1,"x":1}', MalformedReason.DUPLICATE_KEY),
        (b'{"unix_time_s":1.0,"power_w":2.0,"x":{"y":1,"y":2}}', MalformedReason.DUPLICATE_KEY),
        (b'{"unix_time_s":1.0,"power_w":2.0,"power\\u005fw":3.0}', MalformedReason.DUPLICATE_KEY),
        (b'{"unix_time_s":1.0,"power_w":2.0}' + b" " * MAX_PAYLOAD_BYTES, MalformedReason.OVERSIZED),
    ],
)
def test_a_malformed_reading_is_refused_with_its_reason(payload: bytes, reason: MalformedReason) -> None:
    assert refusal(MeterReading, payload) == reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (changed(ttl_s=0.0), MalformedReason.OUT_OF_RANGE),
        (changed(seq=-1), MalformedReason.OUT_OF_RANGE),
        (changed(seq=2**63), MalformedReason.OUT_OF_RANGE),
        (changed(seq=1.0), MalformedReason.WRONG_TYPE),
        (changed(seq=10**400), MalformedReason.OUT_OF_RANGE),
        (changed(server="hall a"), MalformedReason.OUT_OF_RANGE),
        (changed(server="hall-a\n"), MalformedReason.OUT_OF_RANGE),
        (changed(steps=[]), MalformedReason.OUT_OF_RANGE),
        (changed(steps=[{"after_s": 1.0, "power_w": 0.0}]), MalformedReason.OUT_OF_RANGE),
        (changed(steps=[{"after_s": 0.0, "power_w": 0.0}] * 2), MalformedReason.OUT_OF_RANGE),
        (changed(steps=[{"after_s": float(n), "power_w": 0.0} for n in range(65)]), MalformedReason.OUT_OF_RANGE),
        (changed(steps={"after_s": 0.0, "power_w": 0.0}), MalformedReason.WRONG_TYPE),
        (changed(basis=None), MalformedReason.WRONG_TYPE),
        (changed(basis={"boot_id": "b"}), MalformedReason.MISSING_KEY),
    ],
)
def test_a_malformed_setpoint_is_refused_with_its_reason(payload: bytes, reason: MalformedReason) -> None:
    assert refusal(Setpoint, payload) == reason


def test_the_longest_setpoint_is_taken() -> None:
    payload = changed(steps=[{"after_s": float(n), "power_w": 0.0} for n in range(64)])
    assert len(decode(Setpoint, payload).steps) == 64


@given(st.data())
def test_a_key_that_stands_twice_is_found_wherever_it_stands(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(EXAMPLES)))
    text = data.draw(st.sampled_from(EXAMPLES[name]))
    keys = list(re.finditer(r'[{,]("\w+"):', text))
    key = data.draw(st.sampled_from(keys))
    twice = f"{text[: key.start() + 1]}{key[1]}:null,{text[key.start() + 1 :]}"
    assert refusal(PAYLOADS[name], twice.encode()) == MalformedReason.DUPLICATE_KEY


def test_a_colon_in_a_text_is_no_second_key() -> None:
    event = Event(unix_time_s=0.0, source="a:b", severity=Severity.INFO, code="c", text='a "key": 1, "key": 2')
    assert decode(Event, encode(event)) == event


def test_a_message_longer_than_the_contract_allows_is_not_sent() -> None:
    event = Event(unix_time_s=0.0, source="", severity=Severity.INFO, code="", text="x" * MAX_PAYLOAD_BYTES)
    with pytest.raises(MalformedError) as caught:
        encode(event)
    assert caught.value.reason is MalformedReason.OVERSIZED


def test_half_a_character_is_not_sent_and_that_is_said() -> None:
    event = Event(unix_time_s=0.0, source="", severity=Severity.INFO, code="", text="")
    with pytest.raises(MalformedError) as caught:
        encode(event.model_copy(update={"text": "\ud83d"}))
    assert caught.value.reason is MalformedReason.WRONG_TYPE
    assert str(caught.value) == "a text holds half a character, which UTF-8 cannot say"


def test_the_longest_message_is_taken() -> None:
    payload = b'{"unix_time_s":1.0,"power_w":2.0}'
    padded = payload + b" " * (MAX_PAYLOAD_BYTES - len(payload))
    assert decode(MeterReading, padded) == MeterReading(unix_time_s=1.0, power_w=2.0)


def test_an_absent_optional_key_says_the_same_as_null() -> None:
    telemetry = json.loads(EXAMPLES["ChannelTelemetry"][0])
    for key in ("temperature_degc", "soc_ratio", "equalization", "alarm"):
        del telemetry[key]
    absent = decode(ChannelTelemetry, json.dumps(telemetry).encode())
    null = decode(ChannelTelemetry, json.dumps(telemetry | {"equalization": None, "alarm": None}).encode())
    assert absent == null


def test_a_station_that_leaves_open_what_it_does_when_lost_goes_on() -> None:
    status = json.loads(EXAMPLES["StationStatus"][0])
    del status["on_lost"]
    absent = decode(StationStatus, json.dumps(status).encode())
    assert decode(StationStatus, json.dumps(status | {"on_lost": None}).encode()) == absent
    assert absent.on_lost == "continue"


def test_an_unknown_word_is_refused_where_the_contract_lists_the_words() -> None:
    payload = EXAMPLES["StationStatus"][0].replace('"online"', '"ready"').encode()
    assert refusal(StationStatus, payload) == MalformedReason.OUT_OF_RANGE


def test_the_text_says_where() -> None:
    with pytest.raises(MalformedError, match=r"Setpoint\.steps\.0\.power_w"):
        decode(Setpoint, changed(steps=[{"after_s": 0.0, "power_w": "1"}]))


# ── at the edges ─────────────────────────────────────────────────────────────────────────────────────────────────


def told(model: type[Message], payload: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        decode(model, payload)
    return str(caught.value)


def test_64_kib_are_allowed_and_not_a_byte_more() -> None:
    text = EXAMPLES["MeterReading"][0].encode()
    decode(MeterReading, text.ljust(MAX_PAYLOAD_BYTES))
    assert told(MeterReading, text.ljust(MAX_PAYLOAD_BYTES + 1)) == "65537 bytes; the contract allows 65536"


def test_an_event_of_64_kib_is_sent_and_a_longer_one_is_not() -> None:
    event = Event(unix_time_s=0.0, source="a", severity=Severity.INFO, code="a", text="")
    room = MAX_PAYLOAD_BYTES - len(encode(event))
    assert len(encode(event.model_copy(update={"text": "x" * room}))) == MAX_PAYLOAD_BYTES
    with pytest.raises(MalformedError, match="65537 bytes; the contract allows 65536") as caught:
        encode(event.model_copy(update={"text": "x" * (room + 1)}))
    assert caught.value.reason is MalformedReason.OVERSIZED


def test_4096_objects_and_lists_are_read_and_not_one_more() -> None:
    reading = b'{"unix_time_s":1.0,"power_w":2.0,"x":[%s]}'
    decode(MeterReading, reading % b",".join([b"[]"] * 4094))
    assert told(MeterReading, reading % b",".join([b"[]"] * 4095)) == "more than 4096 objects and lists"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"[]", "MeterReading: Input should be an object"),
        (b'{"unix_time_s":1.0}', "MeterReading.power_w: Field required"),
        (b'{"unix_time_s":1.0,"power_w":2.0,"k":1,"k":2}', "the key 'k' stands twice"),
        (
            b'{"unix_time_s":1.0,"power_w":2.0,"%s":1,"%s":2}' % (b"k" * 99, b"k" * 99),
            f"the key '{'k' * 64}' stands twice",
        ),
        (b'{"unix_time_s":1.0,"power_w":2.0,"x":NaN}', "NaN is no JSON number"),
    ],
)
def test_the_error_says_what_is_wrong_and_where(payload: bytes, text: str) -> None:
    assert told(MeterReading, payload) == text


def test_an_error_never_repeats_the_payload() -> None:
    assert "secret" not in told(MeterReading, b'{"unix_time_s":1.0,"power_w":"secret"}')


def test_who_breaks_off_while_a_message_is_made_breaks_off() -> None:
    def broken_off() -> Iterator[str]:
        raise KeyboardInterrupt
        yield ""

    reading = decode(MeterReading, b'{"unix_time_s": 1.0, "power_w": 1.0}')
    with pytest.raises(KeyboardInterrupt):
        encode(reading.model_copy(update={"power_w": broken_off()}))
