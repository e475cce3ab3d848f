"""What is worth an entry, and what is not."""

from equalizer.audit.clerk import Clerk
from equalizer.control.state import Order
from schemas.codec import encode
from schemas.messages import (
    Basis,
    ChannelCommand,
    LoopCommand,
    Reply,
    ReplyReason,
    ReplyResult,
    SetpointEcho,
    SetpointReason,
    SetpointResult,
    SetpointStep,
)
from schemas.topics import ChannelTopic


class Desk:
    """A clerk at work, and what it has written."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.entries: list[dict[str, object]] = []
        self.clerk = Clerk(self.record, server="hall-a", clock=lambda: self.now_s)

    def record(self, kind: str, **facts: object) -> None:
        self.entries.append({"kind": kind, **facts})

    @property
    def kinds(self) -> list[object]:
        return [entry["kind"] for entry in self.entries]


def order(kind: str = "change") -> Order:
    return Order(
        station="s1",
        channel="2",
        basis=Basis(boot_id="9f2c61d0", seq=1042),
        steps=(SetpointStep(after_s=0.0, power_w=-19977.0), SetpointStep(after_s=4.2, power_w=8100.0)),
        kind=kind,  # type: ignore[arg-type]  # a test's text
        reason="load_step",
    )


def echo(
    seq: int, result: SetpointResult, reason: SetpointReason | None = None, server: str = "hall-a"
) -> SetpointEcho:
    return SetpointEcho(server=server, epoch=7, seq=seq, result=result, reason=reason, expires_in_s=20.0)


def test_a_change_is_written_with_who_epoch_and_basis_and_a_refresh_is_not() -> None:
    desk = Desk()
    desk.clerk.setpoint(order("refresh"), 7, 1)
    desk.clerk.setpoint(order(), 7, 2)
    assert desk.entries == [
        {
            "kind": "setpoint",
            "who": "hall-a",
            "epoch": 7,
            "setpoint_seq": 2,
            "station": "s1",
            "channel": "2",
            "basis": {"boot_id": "9f2c61d0", "seq": 1042},
            "steps": [[0.0, -19977.0], [4.2, 8100.0]],
            "reason": "load_step",
        }
    ]


def test_what_became_of_a_change_is_written_once_and_of_a_refresh_only_where_it_was_refused() -> None:
    desk = Desk()
    desk.clerk.setpoint(order(), 7, 2)
    for seq, result in ((2, SetpointResult.CLAMPED), (3, SetpointResult.APPLIED), (4, SetpointResult.APPLIED)):
        desk.clerk.echo("s1", "2", echo(seq, result))
    desk.clerk.echo("s1", "2", echo(5, SetpointResult.REJECTED, SetpointReason.STALE_BASIS))
    desk.clerk.echo("s1", "2", echo(6, SetpointResult.EXPIRED))
    desk.clerk.echo("s1", "2", echo(9, SetpointResult.APPLIED, server="somebody-else"))
    written = [entry for entry in desk.entries if entry["kind"] == "result"]
    results = [(entry["setpoint_seq"], entry["result"], entry["reason"]) for entry in written]
    assert results == [(2, "clamped", None), (5, "rejected", "stale_basis"), (6, "expired", None)]


def test_a_command_is_written_with_who_asked_and_what_was_replied() -> None:
    desk = Desk()
    command = LoopCommand(id="c1", action="set_target", target_power_w=500.0, by="anna (anna@desk)")
    reply = Reply(
        id="c1",
        action="set_target",
        result=ReplyResult.REJECTED,
        reason=ReplyReason.NOT_ACTIVE,
        text="standby",
        unix_time_s=0.0,
    )
    desk.clerk.command(command, reply)
    (entry,) = desk.entries
    assert (entry["who"], entry["action"], entry["target_power_w"]) == ("anna (anna@desk)", "set_target", 500.0)
    assert (entry["result"], entry["reason"]) == ("rejected", "not_active")


def test_a_command_to_a_station_and_its_one_reply_are_overheard_and_unasked_replies_are_not() -> None:
    desk = Desk()
    command = encode(ChannelCommand(id="c1", action="equalize", by="anna"))
    reply = encode(Reply(id="c1", action="equalize", result=ReplyResult.ACCEPTED, text="", unix_time_s=0.0))
    other = encode(Reply(id="zz", action="equalize", result=ReplyResult.ACCEPTED, text="", unix_time_s=0.0))
    desk.clerk.channel_said("s1", "2", ChannelTopic.COMMAND, command)
    for payload in (reply, reply, other):
        desk.clerk.channel_said("s1", "2", ChannelTopic.REPLY, payload)
    assert desk.kinds == ["channel_command", "channel_reply"]
    assert desk.entries[0]["who"] == "anna"
    assert (desk.entries[1]["who"], desk.entries[1]["result"]) == ("s1", "accepted")


def test_an_announcement_is_written_when_it_says_something_new() -> None:
    desk = Desk()
    for status, epoch, phase in (
        ("online", 7, "starting"),
        ("online", 7, "balancing"),
        ("online", 7, "balancing"),
        ("online", 8, "balancing"),
    ):
        desk.clerk.announced(status, epoch, phase)
    assert [(entry["epoch"], entry["phase"]) for entry in desk.entries] == [
        (7, "starting"),
        (7, "balancing"),
        (8, "balancing"),
    ]


def test_a_liar_cannot_push_the_truth_out_of_the_log() -> None:
    desk = Desk()
    for second in range(20):
        desk.now_s = float(second)
        for number in range(1000):
            desk.clerk.echo("r1", "1", echo(1000 * second + number, SetpointResult.REJECTED, SetpointReason.ALARM))
    by_the_liar = [entry for entry in desk.entries if entry["kind"] == "result"]
    assert len(by_the_liar) <= 200 + 20 * 20
    assert sum(int(str(entry["entries"])) for entry in desk.entries if entry["kind"] == "passed_over") > 15_000
    desk.clerk.setpoint(order(), 7, 3)
    assert desk.kinds[-1] == "setpoint", "what this server does itself is always written"
