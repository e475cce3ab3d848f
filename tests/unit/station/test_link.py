"""What a station's link makes of what arrives, with a session that does nothing by itself."""

import json
import logging
from collections.abc import Callable

import pytest

from schemas.messages import ChannelCommand, OnLost, Setpoint
from schemas.settings import BrokerSettings
from station.connection import Connection, Source
from station.link import Identity, Link
from station.metrics import Tally

ROOT = "zeroloop/v1/main"
OWN = f"{ROOT}/station/s1"


class Line:
    """A session that is connected, and remembers what is published."""

    def __init__(
        self,
        broker: BrokerSettings,
        *,
        on_message: Callable[[str, bytes, bool], None],
        on_disconnected: Callable[[str], None],
        **_others: object,
    ) -> None:
        self.broker = broker
        self.connected = True
        self.hear = on_message
        self.lose = on_disconnected
        self.said: list[tuple[str, dict[str, object]]] = []

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        del qos, retain
        self.said.append((topic, json.loads(payload)))

    async def run(self, *, give_up_s: float | None = None) -> None:
        """Return at once: there is nothing to keep up."""

    def of(self, leaf: str) -> list[dict[str, object]]:
        return [message for topic, message in self.said if topic.endswith(leaf)]


class Inbox:
    """Remembers what it is handed."""

    def __init__(self) -> None:
        self.got: list[object] = []

    def on_setpoint(self, channel_id: str, setpoint: Setpoint) -> None:
        self.got.append((channel_id, setpoint))

    def on_command(self, channel_id: str, command: ChannelCommand) -> None:
        self.got.append((channel_id, command.id))

    def on_malformed_command(self, channel_id: str, command_id: str, action: str, text: str) -> None:
        self.got.append((channel_id, command_id, action, text.split(":", maxsplit=1)[0]))

    def on_server(self, server: str, epoch: int) -> None:
        self.got.append((server, epoch))

    def on_server_begins(self) -> None:
        self.got.append("server begins")

    def on_connected(self) -> None:
        self.got.append("connected")


@pytest.fixture
async def line() -> Line:
    identity = Identity("s1", "mine", "1", "fake", ("1", "2"), OnLost.ZERO)
    opened: list[Line] = []

    def open_session(broker: BrokerSettings, **arguments: object) -> Line:
        opened.append(Line(broker, **arguments))  # type: ignore[arg-type]  # the link's own call
        return opened[-1]

    link = Link(
        identity,
        tally=Tally(),
        telemetry_period_s=1.0,
        clock=lambda: 100.0,
        utc=lambda: 1.7e9,
        open_session=open_session,  # type: ignore[arg-type]  # the fake is the boundary
    )
    inbox = Inbox()
    await link.run(Connection(BrokerSettings(), "main", Source.CONFIGURED, None), inbox)
    (line,) = opened
    line.inbox, line.tally = inbox, link._tally  # type: ignore[attr-defined]  # for the experiments
    return line


def status(boot_id: str, presence: str = "online") -> bytes:
    said = {"status": presence, "boot_id": boot_id, "version": "1", "driver": "x", "channels": ["1"], "unix_time_s": 0}
    return json.dumps(said).encode()


async def test_a_command_to_a_channel_that_does_not_exist_gets_its_one_reply(line: Line) -> None:
    line.hear(f"{OWN}/channel/9/command", b'{"id":"c1","action":"stop"}', False)
    assert [topic for topic, _ in line.said] == [f"{OWN}/channel/9/reply"]
    (reply,) = line.of("reply")
    assert (reply["id"], reply["action"], reply["result"], reply["reason"]) == ("c1", "stop", "rejected", "not_active")
    assert reply["text"] == "station s1 has no channel '9'; it has: 1, 2"
    assert line.inbox.got == []  # type: ignore[attr-defined]


async def test_what_is_retained_or_no_command_to_a_channel_that_does_not_exist_gets_none(line: Line) -> None:
    line.hear(f"{OWN}/channel/9/command", b'{"id":"c1","action":"stop"}', True)
    line.hear(f"{OWN}/channel/9/command", b'{"action":"stop"}', False)
    line.hear(f"{OWN}/channel/9/setpoint", b'{"id":"c1"}', False)
    assert line.said == []


async def test_a_malformed_command_with_an_id_is_handed_on_to_be_answered(line: Line) -> None:
    line.hear(f"{OWN}/channel/1/command", b'{"id":"c1","action":5}', False)
    line.hear(f"{OWN}/channel/1/command", b'{"id":"","action":"stop"}', False)
    assert line.inbox.got == [("1", "c1", "", "ChannelCommand.action")]  # type: ignore[attr-defined]
    assert sum(line.tally.malformed.values()) == 2  # type: ignore[attr-defined]


async def test_a_server_topic_that_is_cleared_is_no_malformed_message(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        line.hear(f"{ROOT}/server", b"", False)
    assert not line.tally.malformed  # type: ignore[attr-defined]
    assert not caplog.messages


async def test_namesakes_are_told_of_once_each_however_long_their_boot_and_not_without_end(line: Line) -> None:
    for _ in range(2):
        line.hear(f"{OWN}/status", status("other"), False)
    line.hear(f"{OWN}/status", status("x" * 60_000), False)
    first, second = line.of("event")
    assert (first["code"], first["severity"]) == ("duplicate_station", "alarm")
    assert "boot other" in str(first["text"])
    assert len(str(second["text"])) < 200
    for number in range(1000):
        line.hear(f"{OWN}/status", status(f"flood-{number}"), False)
    assert len(line.of("event")) <= 100


async def test_an_offline_or_cleared_status_is_put_right_at_once(line: Line) -> None:
    line.hear(f"{OWN}/status", status("mine", "offline"), False)
    line.hear(f"{OWN}/status", b"", True)
    assert [one["status"] for one in line.of("status")] == ["online", "online"]
    assert line.inbox.got == ["connected", "connected"]  # type: ignore[attr-defined]


async def test_what_others_say_forges_no_line_of_the_log(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        line.hear(f"{OWN}/status", status("x\nERROR all is lost" + 10_000 * "x", "offline"), False)
        line.hear(f"{OWN}/status", status("y\nERROR all is lost"), False)
    assert len(caplog.messages) == 2
    assert not any("\n" in text or len(text) > 300 for text in caplog.messages)


def announcement(epoch: int = 7, phase: str = "balancing", status: str = "online") -> bytes:
    said = {
        "server": "hall-a",
        "status": status,
        "epoch": epoch,
        "phase": phase,
        "version": "1",
        "started_unix_time_s": 0,
        "telemetry_period_s": 1.0,
        "control": {"policy": "confirm", "delay_s": 15.0},
        "setpoint": {"ttl_s": 30.0, "refresh_s": 5.0},
        "metrics_url": None,
        "dashboard_url": None,
    }
    return json.dumps(said).encode()


STARTING, BALANCING, OFFLINE = announcement(phase="starting"), announcement(), announcement(status="offline")


@pytest.mark.parametrize(
    ("what", "heard", "begins"),
    [
        ("was there before this station", [("retained", BALANCING)], [False]),
        ("comes after it, then balances", [("live", STARTING), ("live", BALANCING)], [True, False]),
        ("tells of its phase", [("live", BALANCING), ("live", announcement(phase="frozen"))], [True, False]),
        ("was cut off", [("live", BALANCING), ("live", OFFLINE), ("live", BALANCING)], [True, False, True]),
        ("is another run", [("live", BALANCING), ("live", announcement(8))], [True, True]),
        ("stood still, and begins anew", [("live", BALANCING), ("live", STARTING), ("live", STARTING)], [1, 1, 0]),
    ],
)
async def test_a_server_that_begins_to_listen_is_told_of_all_plans(
    line: Line, what: str, heard: list[tuple[str, bytes]], begins: list[bool]
) -> None:
    told: list[bool] = []
    for how, payload in heard:
        line.inbox.got.clear()  # type: ignore[attr-defined]
        line.hear("zeroloop/v1/main/server", payload, how == "retained")
        told.append("server begins" in line.inbox.got)  # type: ignore[attr-defined]
    assert told == begins, what


async def test_a_server_that_is_met_again_after_a_lost_connection_is_told_of_all_plans(line: Line) -> None:
    line.hear("zeroloop/v1/main/server", BALANCING, False)
    line.lose("cut")
    line.inbox.got.clear()  # type: ignore[attr-defined]
    line.hear("zeroloop/v1/main/server", BALANCING, True)
    assert "server begins" not in line.inbox.got  # type: ignore[attr-defined]
    line.hear("zeroloop/v1/main/server", BALANCING, False)
    assert "server begins" in line.inbox.got  # type: ignore[attr-defined]
