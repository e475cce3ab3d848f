"""A command gets one reply, and is obeyed once."""

import json
import logging
from dataclasses import dataclass, field

import pytest

from equalizer.commands import CommandDesk
from schemas.codec import MalformedError, encode
from schemas.messages import Reply


@dataclass
class Loop:
    """Stands in for the control; remembers what it was told."""

    told: list[str] = field(default_factory=list)
    why_not: str | None = None
    rival: bool = False
    refuses: str | None = None
    by: list[str | None] = field(default_factory=list)

    def pause(self, by: str | None = None) -> str:
        self.by.append(by)
        self.told.append("pause")
        return "paused"

    def resume(self, by: str | None = None) -> str:
        self.by.append(by)
        self.told.append("resume")
        return "balancing again"

    def set_target(self, target_power_w: float, by: str | None = None) -> str:
        if self.refuses is not None:
            raise ValueError(self.refuses)
        self.by.append(by)
        self.told.append(f"target {target_power_w:g}")
        return "target is set"

    def inactive(self) -> str | None:
        return self.why_not

    def is_left_to_another(self) -> bool:
        return self.rival


class Bench:
    """A desk that is asked in JSON."""

    def __init__(self, loop: Loop | None = None) -> None:
        self.loop = loop if loop is not None else Loop()
        self.malformed: list[MalformedError] = []
        self.now_s = 0.0
        self.desk = CommandDesk(self.loop, malformed=self.malformed.append, utc=lambda: self.now_s)

    def ask(self, command: object) -> Reply | None:
        self.now_s += 1.0
        return self.desk.answer(command if isinstance(command, bytes) else json.dumps(command).encode())


def test_the_same_id_gets_the_same_reply_and_does_nothing_twice() -> None:
    bench = Bench()
    first = bench.ask({"id": "1", "action": "pause"})
    bench.ask({"id": "2", "action": "resume"})
    assert bench.ask({"id": "1", "action": "pause"}) == first
    assert bench.ask({"id": "1", "action": "set_target", "target_power_w": 5.0}) == first
    assert bench.loop.told == ["pause", "resume"]


@pytest.mark.parametrize(
    "command",
    [
        {"id": "1"},
        {"id": "1", "action": None},
        {"id": "1", "action": 7},
        {"id": "1", "action": "set_target", "target_power_w": "5"},
        {"id": "1", "action": "set_target"},
        b'{"id": "1", "action": "set_target", "target_power_w": NaN}',
        b'{"id": "1", "action": "set_target", "target_power_w": 1e999}',
        b'{"id": "1", "action": "pause", "action": "resume"}',
    ],
)
def test_whoever_gives_an_id_is_told_that_the_command_is_malformed(command: object) -> None:
    bench = Bench()
    reply = bench.ask(command)
    assert reply is not None
    assert (reply.id, reply.result, reply.reason) == ("1", "rejected", "malformed")
    assert bench.loop.told == []


def test_a_target_that_no_hall_can_have_is_refused_with_what_is_allowed() -> None:
    bench = Bench(Loop(refuses="target_power_w is 1e+300; allowed is less"))
    reply = bench.ask({"id": "1", "action": "set_target", "target_power_w": 1e300})
    assert reply is not None
    assert (reply.result, reply.reason) == ("rejected", "malformed")
    assert reply.text == "target_power_w is 1e+300; allowed is less"
    assert bench.loop.told == []


@pytest.mark.parametrize("command", [b"", b"\xff", b"[]", b"1", {}, {"action": "pause"}, {"id": 5, "action": "pause"}])
def test_what_has_no_id_is_counted_and_gets_no_reply(command: object) -> None:
    bench = Bench()
    assert bench.ask(command) is None
    assert len(bench.malformed) == 1


def test_a_server_in_standby_says_so_where_no_other_answers() -> None:
    reply = Bench(Loop(why_not="a station refuses epoch 3")).ask({"id": "1", "action": "pause"})
    assert reply is not None
    assert (reply.result, reply.reason, reply.text) == ("rejected", "not_active", "a station refuses epoch 3")


def test_a_server_in_standby_leaves_the_answer_to_the_one_in_charge() -> None:
    bench = Bench(Loop(why_not="server b announces epoch 8", rival=True))
    assert bench.ask({"id": "1", "action": "pause"}) is None
    assert bench.ask({"id": "1"}) is None
    bench.loop.why_not, bench.loop.rival = None, False
    reply = bench.ask({"id": "1", "action": "pause"})
    assert reply is not None
    assert reply.result == "accepted"


def test_an_id_of_half_a_character_breaks_nothing_and_is_malformed_once_more_where_it_is_answered() -> None:
    bench = Bench()
    reply = bench.ask(rb'{"id":"\ud800","action":"pause"}')
    assert len(bench.malformed) == 1
    assert reply is not None
    with pytest.raises(MalformedError, match="UTF-8"):
        encode(reply)


def test_the_same_id_gets_the_same_reply_whether_it_was_malformed_first_or_later() -> None:
    bench = Bench()
    first = bench.ask({"id": "1"})
    assert first is not None
    assert first.reason == "malformed"
    assert bench.ask({"id": "1", "action": "pause"}) == first
    good = bench.ask({"id": "2", "action": "pause"})
    assert bench.ask({"id": "2"}) == good
    assert bench.loop.told == ["pause"]


def test_who_asks_is_handed_on_and_whoever_signs_at_length_shortened() -> None:
    bench = Bench()
    bench.ask({"id": "1", "action": "pause"})
    bench.ask({"id": "2", "action": "resume", "by": "mei"})
    bench.ask({"id": "3", "action": "set_target", "target_power_w": 5.0, "by": "x" * 60_000})
    assert bench.loop.by == [None, "mei", "x" * 64]


def test_what_an_operator_writes_forges_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.INFO):
        bench.ask({"id": "1\nERROR all is lost", "action": "dance\n", "by": "x" * 10_000 + "\n"})
    (line,) = caplog.messages
    assert "\n" not in line
    assert len(line) < 400
