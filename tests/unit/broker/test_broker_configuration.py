"""What the shipped configurations say, and what is made of them."""

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import embedded, mosquitto
from broker.ports import free_port, is_free, refusal
from broker.programs import find_embedded
from schemas.codec import MAX_PAYLOAD_BYTES
from tests import ports

SHARED_LIMITS = (
    "message_size_limit",
    "max_packet_size",
    "max_queued_messages",
    "max_inflight_messages",
    "set_tcp_nodelay",
)


def settings(text: str) -> dict[str, str]:
    lines = (line.partition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {key: value for key, _, value in lines}


def test_development_and_production_have_the_same_limits() -> None:
    development = settings(mosquitto.DEVELOPMENT_FILE.read_text())
    production = settings(mosquitto.PRODUCTION_FILE.read_text())
    assert {key: development[key] for key in SHARED_LIMITS} == {key: production[key] for key in SHARED_LIMITS}


def test_the_size_limits_let_the_longest_message_of_the_contract_through_on_the_longest_topic() -> None:
    name = "n" * 64
    topic = f"zeroloop/v1/{name}/station/{name}/channel/{name}/telemetry"
    fixed_header, topic_length, packet_id = 4, 2, 2
    limits = settings(mosquitto.PRODUCTION_FILE.read_text())
    assert int(limits["message_size_limit"]) == MAX_PAYLOAD_BYTES
    needed = MAX_PAYLOAD_BYTES + len(topic) + fixed_header + topic_length + packet_id
    assert needed < int(limits["max_packet_size"]) < 2 * MAX_PAYLOAD_BYTES


def test_the_development_broker_listens_on_this_computer_only() -> None:
    lines = mosquitto.DEVELOPMENT_FILE.read_text().splitlines()
    listeners = [line.split() for line in lines if line.startswith("listener ")]
    assert listeners == [["listener", "1883", "127.0.0.1"], ["listener", "9001", "127.0.0.1"]]


def test_a_broker_of_our_own_keeps_the_limits_and_moves_the_listeners() -> None:
    text = mosquitto.config("127.0.0.1", 2345, 2346, Path("kept"), as_root=False)
    made = settings(text)
    shipped = settings(mosquitto.DEVELOPMENT_FILE.read_text())
    assert {key: made[key] for key in SHARED_LIMITS} == {key: shipped[key] for key in SHARED_LIMITS}
    assert [line for line in text.splitlines() if line.startswith("listener ")] == [
        "listener 2345 127.0.0.1",
        "listener 2346 127.0.0.1",
    ]
    assert made["persistence_location"] == "kept/"
    assert "user" not in made
    assert settings(mosquitto.config("127.0.0.1", 1, None, Path("kept"), as_root=True))["user"] == "root"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listener 1883\n", mosquitto.Listener("127.0.0.1", 1883)),
        ("listener 9001\nprotocol websockets\nlistener 8883 10.0.0.5\n", mosquitto.Listener("10.0.0.5", 8883)),
        ("listener 9001\nprotocol websockets\n", None),
        ("# listener 1883\n", None),
        ("", None),
    ],
)
def test_the_first_listener_that_speaks_mqtt_is_where_an_answer_is_expected(
    text: str, expected: mosquitto.Listener | None
) -> None:
    assert mosquitto.first_listener(text) == expected


@given(port=st.integers(1, 65535), websocket_port=st.none() | st.integers(1, 65535))
def test_what_we_configure_is_where_we_expect_the_answer(port: int, websocket_port: int | None) -> None:
    text = mosquitto.config("127.0.0.1", port, websocket_port, Path("kept"), as_root=False)
    assert mosquitto.first_listener(text) == mosquitto.Listener("127.0.0.1", port)


def test_the_embedded_broker_opens_nothing_but_mqtt_beyond_the_loopback() -> None:
    made = json.loads(embedded.config("10.0.0.5", 1883, None, Path('data "quoted"')))
    assert made["host"] == "127.0.0.1"
    assert made["mqtt"] == {"host": "10.0.0.5", "port": 1883}
    assert made["jetstream"]["store_dir"] == 'data "quoted"'
    assert "websocket" not in made
    assert made["max_payload"] > MAX_PAYLOAD_BYTES


def test_the_preferred_port_is_taken_while_it_is_free_and_another_where_it_is_not() -> None:
    with socket.socket() as other:
        taken = ports.free_port()
        other.bind(("127.0.0.1", taken))
        other.listen()
        assert not is_free("127.0.0.1", taken)
        assert refusal("127.0.0.1", taken) == f"port {taken} on 127.0.0.1 is taken by another program"
        assert free_port("127.0.0.1", preferred=taken) != taken
    assert free_port("127.0.0.1", preferred=taken) == taken


@pytest.mark.parametrize(
    ("host", "why"),
    [("192.0.2.1", "is no address of this computer"), ("nowhere.invalid", "nowhere.invalid:1883: ")],
)
def test_why_nobody_can_listen_at_a_place_is_said(host: str, why: str) -> None:
    said = refusal(host, 1883)
    assert said is not None
    assert why in said
    assert "another program" not in said


def test_the_embedded_broker_comes_with_the_installation() -> None:
    program = find_embedded()
    assert program is not None
    assert program.name == "nats-server"
