"""What operators ask, what they are told, and what protection does by itself."""

from math import inf, nan
from typing import Any

import pytest

from schemas.messages import (
    Alarm,
    AlarmCode,
    ChannelCommand,
    ChannelPlan,
    ChannelTelemetry,
    PlanSegment,
    Reply,
    ReplyReason,
    ReplyResult,
    StepType,
    WorkStatus,
)
from station.channel import machine
from station.channel.outcome import DeviceTrouble, Remembered, TransientTrouble
from station.channel.states import Life
from station.drivers.protocol import ConstantPower, Off, OwnProgram, OwnStep, Preview, Sample
from tests.unit.channel.bench import Battery, Bench, build

HOUR = {"step": "cc_chg", "current_a": 50.0, "until": {"time_s": 3600.0}}
OVER_VOLTAGE = Alarm(code=AlarmCode.OVER_VOLTAGE, text="420 V is above 410 V")
PLAYING = OwnStep(WorkStatus.WORKING, StepType.CC_CHG, 2, 5)


def at(life: Life) -> Bench:
    """Return a bench whose channel is in a state."""
    program = {"step": "rest", "until": {"time_s": 1.0}} if life is Life.FINISHED else HOUR
    autostart = life not in (Life.IDLE, Life.EQUALIZING)
    bench = build(program, autostart=autostart, equalize=life is Life.EQUALIZING, ramp_w_per_s=10000.0)
    bench.run(3.0)
    if life in (Life.STOPPING, Life.STOPPED):
        bench.command("stop")
    if life is Life.STOPPED:
        bench.run(3.0)
    if life is Life.PROTECT:
        bench.tick(bench.measure(fault=OVER_VOLTAGE))
    assert bench.state.life is life
    return bench


@pytest.mark.parametrize(
    ("life", "action", "reason"),
    [
        (Life.IDLE, "equalize", None),
        (Life.IDLE, "start", None),
        (Life.IDLE, "stop", ReplyReason.NOT_WORKING),
        (Life.IDLE, "clear_alarm", ReplyReason.NOT_ACTIVE),
        (Life.PROGRAM, "equalize", ReplyReason.BUSY),
        (Life.PROGRAM, "start", ReplyReason.BUSY),
        (Life.PROGRAM, "stop", None),
        (Life.EQUALIZING, "equalize", None),
        (Life.EQUALIZING, "start", ReplyReason.BUSY),
        (Life.EQUALIZING, "stop", None),
        (Life.STOPPING, "equalize", ReplyReason.BUSY),
        (Life.STOPPING, "start", ReplyReason.BUSY),
        (Life.STOPPING, "stop", None),
        (Life.STOPPED, "equalize", None),
        (Life.STOPPED, "start", None),
        (Life.STOPPED, "stop", ReplyReason.NOT_WORKING),
        (Life.FINISHED, "equalize", None),
        (Life.FINISHED, "start", None),
        (Life.PROTECT, "equalize", ReplyReason.ALARM),
        (Life.PROTECT, "start", ReplyReason.ALARM),
        (Life.PROTECT, "stop", ReplyReason.NOT_WORKING),
        (Life.PROTECT, "clear_alarm", None),
        (Life.IDLE, "dance", ReplyReason.UNKNOWN_ACTION),
    ],
)
def test_replies(life: Life, action: str, reason: ReplyReason | None) -> None:
    reply = at(life).command(action)
    assert reply.reason is reason
    assert reply.result is (ReplyResult.ACCEPTED if reason is None else ReplyResult.REJECTED)
    assert reply.text


@pytest.mark.parametrize("action", ["equalize", "start"])
def test_without_a_battery_nothing_starts(action: str) -> None:
    bench = build(HOUR, autostart=False, battery=Battery(connected=False))
    assert bench.command(action).reason is ReplyReason.BATTERY_NOT_CONNECTED
    bench.run(2.0)
    assert bench.command(action).reason is ReplyReason.BATTERY_NOT_CONNECTED
    assert bench.state.demand == Off()


def test_a_channel_without_program_cannot_start() -> None:
    bench = build()
    bench.run(2.0)
    assert bench.command("start").reason is ReplyReason.NO_PROGRAM


def test_the_same_id_gets_the_same_reply_and_does_nothing_twice() -> None:
    bench = build(HOUR, autostart=False)
    bench.run(2.0)
    first = bench.command("start", "once")
    bench.run(2.0)
    bench.command("stop")
    bench.run(2.0)
    assert bench.command("start", "once") == first
    assert bench.state.life is Life.STOPPED


def test_a_stop_that_comes_again_does_not_stop_what_was_started_since() -> None:
    bench = build(HOUR)
    bench.run(2.0)
    first = bench.command("stop", "once")
    bench.run(2.0)
    bench.command("start")
    bench.run(2.0)
    assert bench.command("stop", "once") == first
    assert bench.state.life is Life.PROGRAM


def test_the_memory_of_replies_is_bounded() -> None:
    bench = build()
    for number in range(1000):
        bench.command("stop", f"id-{number}")
    assert len(bench.state.replies) == 256
    assert bench.state.replies[-1].id == "id-999"


def test_equalize_holds_zero_and_is_remembered_before_the_reply() -> None:
    bench = build()
    bench.run(2.0)
    bench.command("equalize")
    assert bench.stored == [Remembered(equalizing=True)]
    bench.run(3.0)
    told = bench.telemetry()
    assert (told.work_status, told.step_type) == (WorkStatus.WORKING, StepType.SIM)
    assert (told.equalization.applied_w, told.equalization.last) == (0.0, None)
    assert bench.state.demand == ConstantPower(0.0)


def test_stop_ramps_to_zero_leaves_the_mode_and_forgets_it() -> None:
    bench = build(equalize=True, ramp_w_per_s=10000.0)
    bench.run(1.5)
    bench.setpoint(20000.0)
    bench.run(3.0)
    bench.command("stop")
    assert bench.stored[-1] == Remembered(equalizing=False, epoch=7, server="hall-a")
    powers = []
    while bench.state.life is Life.STOPPING:
        bench.tick()
        powers.append(bench.state.demand.power_w if isinstance(bench.state.demand, ConstantPower) else 0.0)
    assert powers == pytest.approx([19000.0 - 1000.0 * step for step in range(20)])
    told = bench.telemetry()
    assert (told.work_status, told.equalization, bench.state.demand) == (WorkStatus.STOPPED, None, Off())


def test_stop_of_a_program_ramps_from_what_flows_and_announces_it() -> None:
    bench = build(HOUR, ramp_w_per_s=10000.0)
    bench.run(3.0)
    bench.published.clear()
    bench.command("stop")
    assert bench.state.demand.power_w == pytest.approx(17750.0, rel=0.01)
    plan, *_ = bench.published
    assert isinstance(plan, ChannelPlan)
    assert plan.segments[-1].power_w == 0.0
    assert plan.segments[-1].after_s == pytest.approx(1.775, rel=0.01)
    assert [type(message) for message in bench.published] == [ChannelPlan, ChannelTelemetry, Reply]
    bench.run(2.5)
    assert bench.state.life is Life.STOPPED


def test_a_restart_enters_the_mode_again_at_zero() -> None:
    bench = build(HOUR, memory=Remembered(equalizing=True, epoch=7, server="hall-a"))
    bench.tick()
    assert bench.state.equalizing
    assert bench.state.demand == ConstantPower(0.0)


def test_a_restart_without_battery_stays_idle_and_says_why() -> None:
    memory = Remembered(equalizing=True, epoch=7, server="hall-a")
    bench = build(HOUR, memory=memory, battery=Battery(connected=False))
    bench.run(1.0)
    assert bench.state.life is Life.IDLE
    assert [event.code for event in bench.events] == ["equalize_refused"]
    assert bench.stored == [Remembered(equalizing=False, epoch=7, server="hall-a")]


def test_stop_before_the_first_sample_keeps_the_channel_from_starting() -> None:
    bench = build(HOUR)
    assert bench.command("stop").result is ReplyResult.ACCEPTED
    bench.run(1.0)
    assert bench.state.life is Life.IDLE


class TestProtection:
    """A trip switches off at once."""

    @pytest.mark.parametrize(
        ("measured", "code"),
        [
            ({"fault": OVER_VOLTAGE}, AlarmCode.OVER_VOLTAGE),
            ({"battery_connected": False}, AlarmCode.BATTERY_DISCONNECTED),
            ({"voltage_v": nan}, AlarmCode.DEVICE_FAULT),
            ({"power_w": -inf}, AlarmCode.DEVICE_FAULT),
            ({"charge_limit_w": inf}, AlarmCode.DEVICE_FAULT),
            ({"soc_ratio": nan}, AlarmCode.DEVICE_FAULT),
            ({"temperature_degc": nan}, AlarmCode.DEVICE_FAULT),
        ],
    )
    @pytest.mark.parametrize("life", [Life.PROGRAM, Life.EQUALIZING, Life.STOPPING])
    def test_a_bad_sample_trips(self, life: Life, measured: dict[str, Any], code: AlarmCode) -> None:
        bench = at(life)
        outputs = bench.tick(bench.measure(**measured))
        assert (outputs.off_now, outputs.telemetry_due_now, bench.state.demand) == (True, True, Off())
        told = bench.telemetry()
        assert (told.work_status, told.alarm.code, told.equalization) == (WorkStatus.PROTECT, code, None)
        assert bench.events[-1].code == code
        assert not bench.stored or not bench.stored[-1].equalizing

    def test_a_device_fault_trips(self) -> None:
        bench = build(HOUR)
        bench.run(2.0)
        bench.tick(DeviceTrouble("module 3 is hot"))
        assert bench.telemetry().alarm == Alarm(code=AlarmCode.DEVICE_FAULT, text="module 3 is hot")

    def test_a_driver_that_stumbles_is_forgiven_and_a_lost_one_trips(self) -> None:
        bench = build(HOUR)
        bench.run(2.0)
        for _ in range(29):
            bench.tick(TransientTrouble("timeout"))
        bench.run(1.0)
        assert bench.state.life is Life.PROGRAM
        for _ in range(35):
            bench.tick(TransientTrouble("timeout"))
        assert bench.state.alarm.code is AlarmCode.DRIVER_LOST
        told = [message for message in bench.published if isinstance(message, ChannelTelemetry)]
        assert told[-1].alarm == bench.state.alarm

    def test_what_is_no_longer_measured_is_no_longer_told(self) -> None:
        bench = build(HOUR)
        bench.run(2.0)
        for _ in range(60):
            bench.tick(TransientTrouble("timeout"))
        bench.published.clear()
        for _ in range(100):
            bench.tick(TransientTrouble("timeout"))
        assert bench.published == []
        bench.run(1.1)
        assert {type(message) for message in bench.published} == {ChannelTelemetry}

    def test_equipment_that_never_answers_is_an_alarm_in_the_end(self) -> None:
        bench = build(HOUR)
        for _ in range(290):
            bench.tick(TransientTrouble("timeout"))
        assert (bench.state.alarm, bench.published) == (None, [])
        for _ in range(20):
            bench.tick(TransientTrouble("timeout"))
        assert bench.published[-1].alarm.code is AlarmCode.DRIVER_LOST

    def test_an_empty_channel_is_no_alarm(self) -> None:
        bench = build(battery=Battery(connected=False))
        gone = Alarm(code=AlarmCode.BATTERY_DISCONNECTED, text="no battery")
        bench.tick(bench.measure(fault=gone))
        assert bench.state.life is Life.IDLE

    def test_clear_alarm_returns_to_idle_and_asks_the_driver_to_forget(self) -> None:
        bench = build(HOUR)
        bench.run(1.0)
        bench.tick(bench.measure(fault=OVER_VOLTAGE))
        command = ChannelCommand(id="x", action="clear_alarm")
        bench.state, outputs = machine.on_command(bench.state, command, bench.now_s, 0.0)
        assert outputs.clear_fault
        bench.run(1.0)
        assert (bench.state.life, bench.telemetry().alarm) == (Life.IDLE, None)

    @pytest.mark.parametrize("settings", [{"equalize": True}, {"autostart": True}])
    def test_an_alarm_outlives_a_restart_and_nothing_starts_by_itself_before_it_is_cleared(
        self, settings: dict[str, Any]
    ) -> None:
        bench = build(HOUR, **settings)
        bench.run(2.0)
        bench.tick(bench.measure(fault=OVER_VOLTAGE))
        again = build(HOUR, memory=bench.stored[-1], **settings)
        again.run(5.0)
        told = again.telemetry()
        assert (told.work_status, told.alarm, again.state.demand) == (WorkStatus.PROTECT, OVER_VOLTAGE, Off())
        assert again.command("equalize").reason is ReplyReason.ALARM
        assert again.command("clear_alarm").result is ReplyResult.ACCEPTED
        assert build(HOUR, memory=again.stored[-1], **settings).state.alarm is None

    def test_equipment_that_does_not_answer_after_a_restart_with_an_alarm_is_told_in_the_end(self) -> None:
        bench = build(HOUR, memory=Remembered(alarm=OVER_VOLTAGE))
        for _ in range(320):
            bench.tick(TransientTrouble("timeout"))
        told = [message.alarm.code for message in bench.published if isinstance(message, ChannelTelemetry)]
        assert told == [AlarmCode.DRIVER_LOST]

    def test_a_cause_that_stays_trips_again(self) -> None:
        bench = build(HOUR)
        bench.run(1.0)
        bench.tick(bench.measure(fault=OVER_VOLTAGE))
        bench.command("clear_alarm")
        bench.tick(bench.measure(fault=OVER_VOLTAGE))
        assert bench.state.life is Life.PROTECT


class TestOwnProgram:
    """Equipment that plays a program of its own can be started and stopped, not led."""

    @pytest.fixture
    def bench(self) -> Bench:
        bench = build(own_program=True)
        bench.own_step = PLAYING
        bench.preview = Preview((PlanSegment(after_s=0.0, power_w=4000.0),), 30.0)
        bench.run(2.0)
        return bench

    def test_it_plays_and_is_told_as_it_plays(self, bench: Bench) -> None:
        told = bench.telemetry()
        assert bench.state.demand == OwnProgram()
        assert (told.step_type, told.step_id, told.cycle_count) == (StepType.CC_CHG, 2, 5)
        assert bench.plan().until_s == 30.0

    def test_its_step_changes_are_announced(self, bench: Bench) -> None:
        bench.published.clear()
        bench.own_step = OwnStep(WorkStatus.WORKING, StepType.REST, 3, 5)
        bench.tick()
        assert [type(message) for message in bench.published] == [ChannelPlan, ChannelTelemetry]
        assert [message.step_id for message in bench.published] == [3, 3]

    def test_its_end_is_the_end(self, bench: Bench) -> None:
        bench.own_step = OwnStep(WorkStatus.FINISHED, StepType.NONE, 0, 0)
        bench.tick()
        assert (bench.state.life, bench.state.demand) == (Life.FINISHED, Off())

    def test_it_stops_at_once_and_is_never_asked_for_power(self, bench: Bench) -> None:
        assert bench.command("equalize").reason is ReplyReason.BUSY
        bench.command("stop")
        assert bench.state.demand == Off()
        bench.run(0.2)
        assert bench.state.life is Life.STOPPED
        refused = bench.command("equalize")
        assert (refused.reason, "own program" in refused.text) == (ReplyReason.NO_PROGRAM, True)
        bench.command("start")
        assert bench.state.demand == OwnProgram()

    def test_without_a_preview_there_is_no_plan(self, bench: Bench) -> None:
        bench.preview = None
        bench.state, plan = machine.plan(bench.state, None, bench.now_s, 0.0)
        assert plan is None
        assert not bench.tick().plan_due


def test_a_malformed_command_gets_its_reply_and_its_id_gets_no_other_any_more() -> None:
    bench = build()
    bench.tick()
    bench.state, outputs = machine.on_malformed_command(bench.state, "id-1", "equalize", "by: not a text", 5.0)
    reply = outputs.reply
    assert reply is not None
    assert (reply.id, reply.result, reply.reason) == ("id-1", ReplyResult.REJECTED, ReplyReason.MALFORMED)
    command = ChannelCommand(id="id-1", action="equalize")
    after, again = machine.on_command(bench.state, command, bench.now_s, 6.0)
    assert (after, again.reply) == (bench.state, reply)
    assert machine.on_malformed_command(bench.state, "id-1", "", "no JSON", 7.0)[1].reply == reply


def test_a_command_that_was_answered_and_comes_again_malformed_gets_the_same_reply() -> None:
    bench = build()
    bench.tick()
    reply = bench.command("equalize")
    assert machine.on_malformed_command(bench.state, reply.id, "", "no JSON", 7.0)[1].reply == reply


def test_the_first_sample_may_have_a_negative_limit_and_nothing_is_allowed_then() -> None:
    bench = build(equalize=True)
    bench.tick(Sample(350.0, 0.0, 0.0, battery_connected=True, charge_limit_w=-1.0, discharge_limit_w=5.0))
    told = bench.telemetry().equalization
    assert (told.charge_limit_w, told.discharge_limit_w) == (0.0, 5.0)
