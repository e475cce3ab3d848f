"""What the link makes of messages, one by one, without a broker."""

from dataclasses import dataclass, field

import pytest

from equalizer.control.book import LoopBook
from equalizer.control.settings import ControlSettings
from equalizer.link import Link
from equalizer.metrics import Counters
from schemas.codec import encode
from schemas.messages import (
    ChannelPlan,
    ChannelTelemetry,
    Equalization,
    LoopBalance,
    OnLost,
    PlanSegment,
    Presence,
    ServerAnnouncement,
    Setpoint,
    SetpointEcho,
    SetpointReason,
    SetpointResult,
    StationStatus,
    StepType,
    WorkStatus,
)

ROOT = "zeroloop/v1/main"
TELEMETRY = f"{ROOT}/station/s/channel/1/telemetry"


@dataclass
class Ear:
    """Remembers what the link reports."""

    material_s: list[float] = field(default_factory=list)
    stations: list[tuple[str, Presence | None, bool]] = field(default_factory=list)
    echoes: list[tuple[SetpointEcho, bool]] = field(default_factory=list)
    announcements: list[tuple[int, bool]] = field(default_factory=list)
    balances: list[tuple[int, bool]] = field(default_factory=list)
    setpoints: list[Setpoint] = field(default_factory=list)

    def material(self, now_s: float) -> None:
        self.material_s.append(now_s)

    def announcement(self, message: ServerAnnouncement, *, retained: bool) -> None:
        self.announcements.append((message.epoch, retained))

    def balance(self, message: LoopBalance, *, retained: bool) -> None:
        self.balances.append((message.seq, retained))

    def overheard(self, station: str, channel: str, setpoint: Setpoint) -> None:
        assert (station, channel) == ("s", "1")
        self.setpoints.append(setpoint)

    def station(self, name: str, presence: Presence | None, *, retained: bool) -> None:
        self.stations.append((name, presence, retained))

    def echo(self, station: str, channel: str, echo: SetpointEcho, *, fresh: bool) -> None:
        assert (station, channel) == ("s", "1")
        self.echoes.append((echo, fresh))


def message(power_w: float, seq: int, *, step_id: int = 1, last: SetpointEcho | None = None) -> bytes:
    equalization = None
    if last is not None:
        equalization = Equalization(
            charge_limit_w=1e4, discharge_limit_w=1e4, ramp_w_per_s=1e4, applied_w=power_w, last=last
        )
    return encode(
        ChannelTelemetry(
            boot_id="b",
            seq=seq,
            unix_time_s=0.0,
            work_status=WorkStatus.WORKING,
            step_type=StepType.CC_CHG,
            step_id=step_id,
            cycle_count=1,
            voltage_v=100.0,
            current_a=power_w / 100.0,
            power_w=power_w,
            battery_connected=True,
            equalization=equalization,
        )
    )


class Bench:
    """A link with a clock that stands where it is put."""

    def __init__(self, *, current: bool = True) -> None:
        self.now_s = 100.0
        self.ear = Ear()
        self.commands: list[bytes] = []
        self.seq = 0
        self.link = Link(
            "main",
            book=LoopBook(ControlSettings()),
            counters=Counters(),
            clock=lambda: self.now_s,
            material_w=75.0,
            meter=(f"{ROOT}/meter", ("power_w",), 1.0),
            command=self.commands.append,
        )
        self.link.listener = self.ear
        self.link.of_unknown_age = not current

    def telemetry(
        self, power_w: float, *, step_id: int = 1, last: SetpointEcho | None = None, retained: bool = False
    ) -> None:
        self.seq += 1
        self.link.take(TELEMETRY, message(power_w, self.seq, step_id=step_id, last=last), retained)

    @property
    def asked(self) -> int:
        count = len(self.ear.material_s)
        self.ear.material_s.clear()
        return count


def echo(
    seq: int, result: SetpointResult = SetpointResult.APPLIED, reason: SetpointReason | None = None
) -> SetpointEcho:
    return SetpointEcho(server="me", epoch=1, seq=seq, result=result, reason=reason)


def test_a_decision_is_asked_for_when_the_loop_moves_or_a_step_changes_and_not_else() -> None:
    bench = Bench()
    bench.telemetry(1000.0)
    assert bench.asked == 1
    bench.link.decided(0.0)
    bench.telemetry(1074.0)
    assert bench.asked == 0
    bench.telemetry(1076.0)
    assert bench.asked == 1
    bench.link.decided(0.0)
    bench.telemetry(1076.0, step_id=2)
    assert bench.asked == 1


def test_a_topic_that_brings_garbage_only_is_not_read_for_a_second_and_then_heard_again() -> None:
    bench = Bench()
    other = TELEMETRY.replace("/channel/1/", "/channel/2/")
    for _ in range(1000):
        bench.link.take(TELEMETRY, b"x", False)
        bench.link.take(other, message(400.0, 1), False)
    counted = bench.link.counters.malformed
    assert (counted["not_json"], counted["muted"]) == (20, 980)
    assert bench.link.counters.telemetry == 1020
    assert bench.asked
    bench.now_s += 1.1
    bench.telemetry(5000.0)
    assert bench.asked == 1
    for _ in range(19):
        bench.link.take(TELEMETRY, b"x", False)
    bench.telemetry(9000.0)
    assert bench.asked == 1, "a few malformed messages mute nobody"


def test_commands_are_read_whatever_came_before_them() -> None:
    bench = Bench()
    for number in range(100):
        bench.link.take(f"{ROOT}/command", b"%d" % number, True)
        bench.link.take(f"{ROOT}/command", b"{}", False)
    assert len(bench.commands) == 100


def test_small_moves_that_cancel_are_none() -> None:
    bench = Bench()
    bench.telemetry(0.0)
    bench.link.decided(0.0)
    _ = bench.asked
    for _ in range(50):
        bench.telemetry(60.0)
        bench.telemetry(0.0)
    assert bench.asked == 0


def test_retained_telemetry_counts_as_unknown_until_a_live_one_comes() -> None:
    bench = Bench()
    bench.telemetry(500.0, retained=True)
    assert bench.link.book.image(bench.now_s).unknown_power_w == 500.0
    bench.telemetry(500.0)
    assert bench.link.book.image(bench.now_s).unknown_power_w == 0.0


def test_what_the_broker_held_is_of_unknown_age_even_without_the_flag() -> None:
    bench = Bench(current=False)
    bench.telemetry(500.0)
    assert bench.link.book.image(bench.now_s).unknown_power_w == 500.0


def test_an_echo_is_reported_once_and_a_refusal_counted_once() -> None:
    bench = Bench()
    bench.telemetry(0.0, last=echo(1))
    refused = echo(2, SetpointResult.REJECTED, SetpointReason.STALE_BASIS)
    for _ in range(3):
        bench.telemetry(0.0, last=refused)
    assert [(reported.seq, fresh) for reported, fresh in bench.ear.echoes] == [(1, False), (2, True)]
    assert bench.link.counters.refused["stale_basis"] == 1


def test_an_old_refusal_that_it_finds_is_not_its_own() -> None:
    bench = Bench()
    bench.telemetry(0.0, last=echo(2, SetpointResult.REJECTED, SetpointReason.STALE_BASIS))
    assert sum(bench.link.counters.refused.values()) == 0


def status(presence: Presence, boot_id: str = "b") -> bytes:
    return encode(
        StationStatus(
            status=presence,
            boot_id=boot_id,
            version="1",
            driver="fake",
            channels=("1",),
            on_lost=OnLost.CONTINUE,
            unix_time_s=0.0,
        )
    )


def test_an_empty_status_removes_the_station() -> None:
    bench = Bench()
    topic = f"{ROOT}/station/s/status"
    bench.link.take(topic, status(Presence.ONLINE), False)
    bench.telemetry(500.0)
    assert bench.link.book.image(bench.now_s).channels == 1
    bench.link.take(topic, b"", False)
    assert bench.link.book.image(bench.now_s).channels == 0
    assert bench.ear.stations == [("s", Presence.ONLINE, False), ("s", None, False)]


def test_a_late_will_of_an_earlier_boot_is_not_reported_as_a_loss() -> None:
    bench = Bench()
    topic = f"{ROOT}/station/s/status"
    bench.link.take(topic, status(Presence.ONLINE), False)
    bench.link.take(topic, status(Presence.OFFLINE, "before"), False)
    assert bench.ear.stations == [("s", Presence.ONLINE, False)]


def test_an_empty_telemetry_is_a_cleared_topic_and_no_measurement() -> None:
    bench = Bench()
    bench.telemetry(500.0)
    bench.link.take(TELEMETRY, b"", False)
    assert sum(bench.link.counters.malformed.values()) == 0
    assert bench.link.book.image(bench.now_s).load_power_w == 500.0


def test_a_retained_plan_or_command_is_dropped_and_counted() -> None:
    bench = Bench()
    plan = ChannelPlan(
        boot_id="b", seq=1, unix_time_s=0.0, step_id=1, until_s=100.0, segments=(PlanSegment(after_s=0.0, power_w=1.0),)
    )
    bench.link.take(f"{ROOT}/station/s/channel/1/plan", encode(plan), True)
    bench.link.take(f"{ROOT}/command", b"{}", True)
    assert bench.link.counters.malformed["unexpected_retain"] == 2
    assert bench.commands == []
    bench.link.take(f"{ROOT}/command", b"{}", False)
    assert bench.commands == [b"{}"]


@pytest.mark.parametrize(
    "topic",
    [
        "zeroloop/v1/other/station/s/channel/1/telemetry",
        "zeroloop/v2/main/server",
        f"{ROOT}/station/s/channel/1/setpoint",
        f"{ROOT}/station/s#/channel/1/telemetry",
        f"{ROOT}/station//status",
        "",
    ],
)
def test_topics_of_others_change_nothing(topic: str) -> None:
    bench = Bench()
    bench.link.take(topic, b"\xff", False)
    bench.link.take(topic, b"{}", True)
    assert (bench.link.counters.telemetry, sum(bench.link.counters.malformed.values())) == (0, 0)
    assert bench.asked == 0


@pytest.mark.parametrize("payload", [b'{"unix_time_s":1.0,"power_w":"77"}', b'{"power_w":77.0}', b"77", b"{}"])
def test_the_contracts_own_meter_topic_is_read_as_strictly_as_any(payload: bytes) -> None:
    bench = Bench()
    bench.link.take(f"{ROOT}/meter", payload, False)
    assert sum(bench.link.counters.malformed.values()) == 1
    assert bench.link.book.image(bench.now_s).meter_power_w is None
    bench.link.take(f"{ROOT}/meter", b'{"unix_time_s":1.0,"power_w":77.0}', False)
    assert bench.link.book.image(bench.now_s).meter_power_w == 77.0


def test_a_channel_that_spoke_is_found_by_its_topic_alone_until_the_link_begins_anew() -> None:
    bench = Bench()
    routes = bench.link.routes
    bench.telemetry(500.0)
    taker = routes[TELEMETRY.encode()]
    bench.seq += 1
    taker.take(message(700.0, bench.seq), False)
    assert bench.link.book.image(bench.now_s).load_power_w == 700.0
    bench.link.reset(LoopBook(ControlSettings()))
    assert TELEMETRY.encode() not in routes
    bench.telemetry(300.0)
    assert bench.link.book.image(bench.now_s).load_power_w == 300.0


def test_a_channel_whose_station_was_removed_counts_again_when_it_speaks_again() -> None:
    bench = Bench()
    bench.telemetry(500.0)
    bench.link.take(f"{ROOT}/station/s/status", b"", False)
    assert bench.link.book.image(bench.now_s).channels == 0
    bench.telemetry(400.0)
    assert bench.link.book.image(bench.now_s).load_power_w == 400.0
    assert bench.link.book.image(bench.now_s).channels == 1


def test_a_malformed_announcement_spoils_the_retained_one_and_that_is_told_once() -> None:
    bench = Bench()
    assert not bench.link.is_spoiled()
    bench.link.take(f"{ROOT}/server", b"junk", False)
    bench.link.take(f"{ROOT}/server", b"junk", False)
    assert bench.link.is_spoiled()
    assert not bench.link.is_spoiled()
