"""What a defective driver or an odd message does to one channel must leave the station and its other channels alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from schemas.messages import Alarm, AlarmCode, Basis, ChannelCommand, PlanSegment, Setpoint, SetpointStep
from station.channel.outcome import Remembered
from station.config import ChannelSection, TelemetrySection
from station.drivers.protocol import (
    ChannelHardware,
    ConstantPower,
    Demand,
    DeviceFaultError,
    Preview,
    Sample,
    TransientDriverError,
)
from station.metrics import Tally
from station.rack import TICK_S, Rack
from tests.unit.station.test_rack import Ear, Shelf

GOOD = Sample(400.0, 0.0, 0.0, True, 60000.0, 60000.0)


class Rogue:
    """A driver that does to channel `1` what a test asks for, and is honest with the others."""

    def __init__(self, *, own_program: bool = False) -> None:
        self.own_program = own_program
        self.answer: Any = None
        """What an exchange of channel 1 returns, or raises; null: an honest sample."""
        self.answer_to_power: Exception | None = None
        """What the first exchange that hands over a power raises; once."""
        self.preview_answer: Any = None
        self.clear_failure: Exception | None = None
        self.exchange_takes_s = 0.0
        self.now_s = 1000.0

    async def open(self, channels: Sequence[ChannelHardware]) -> None:
        raise NotImplementedError("a rack gets an opened driver")

    async def close(self) -> None:
        raise NotImplementedError("a rack does not close its driver")

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample:  # noqa: ARG002 - the protocol's
        self.now_s += self.exchange_takes_s
        power_w = demand.power_w if isinstance(demand, ConstantPower) else 0.0
        if channel_id == "1":
            if power_w and self.answer_to_power is not None:
                failure, self.answer_to_power = self.answer_to_power, None
                raise failure
            if isinstance(self.answer, Exception):
                raise self.answer
            if self.answer is not None:
                return self.answer
        return replace(GOOD, power_w=power_w, current_a=power_w / GOOD.voltage_v)

    def has_own_program(self, channel_id: str) -> bool:
        return self.own_program and channel_id == "1"

    def preview(self, channel_id: str, horizon_s: float, now_s: float) -> Preview | None:  # noqa: ARG002 - the protocol's
        if isinstance(self.preview_answer, Exception):
            raise self.preview_answer
        return self.preview_answer

    def clear_fault(self, channel_id: str, now_s: float) -> None:  # noqa: ARG002 - the protocol's
        if self.clear_failure is not None:
            raise self.clear_failure


class Bench:
    """Two channels on one rogue driver."""

    def __init__(
        self,
        *,
        own_program: bool = False,
        equalize: bool = True,
        remembered: dict[str, Remembered] | None = None,
        retain_every_s: float = 0.0,
    ) -> None:
        self.driver, self.ear, self.shelf, self.tally = Rogue(own_program=own_program), Ear(), Shelf(), Tally()
        self.rack = Rack(
            tuple(
                ChannelSection(
                    id=name,
                    charge_limit_w=60000.0,
                    discharge_limit_w=60000.0,
                    ramp_w_per_s=60000.0,
                    equalize=equalize and not (own_program and name == "1"),
                )
                for name in ("1", "2")
            ),
            {} if remembered is None else remembered,
            telemetry=TelemetrySection(retain_every_s=retain_every_s),
            boot_id="9f2c61d0",
            driver=self.driver,
            outlet=self.ear,
            memory=self.shelf,
            tally=self.tally,
            clock=lambda: self.driver.now_s,
            utc=lambda: 1.7e9,
        )

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.rack.tick()
            self.driver.now_s += TICK_S

    def command(self, action: str, command_id: str = "c", by: str | None = None) -> None:
        self.rack.on_command("1", ChannelCommand(id=command_id, action=action, by=by))

    def setpoint(self, channel_id: str, power_w: float = 1000.0, **changes: Any) -> None:  # noqa: ANN401 - any key
        newest = self.ear.telemetry_of(channel_id)[-1]
        values: dict[str, Any] = {
            "server": "hall-a",
            "epoch": 7,
            "seq": newest.seq,
            "basis": Basis(boot_id=newest.boot_id, seq=newest.seq),
            "ttl_s": 30.0,
            "steps": (SetpointStep(after_s=0.0, power_w=power_w),),
            "unix_time_s": 0.0,
        }
        self.rack.on_setpoint(channel_id, Setpoint(**(values | changes)))

    def alarm_of(self, channel_id: str) -> AlarmCode | None:
        alarm = self.rack.state(channel_id).alarm
        return None if alarm is None else alarm.code


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "not a sample",
        replace(GOOD, voltage_v=None),
        replace(GOOD, power_w="12"),
        replace(GOOD, battery_connected=1),
        replace(GOOD, charge_limit_w=True),
        replace(GOOD, soc_ratio="half"),
        replace(GOOD, fault="hot"),
        replace(GOOD, own_step="rest"),
        RuntimeError("\udc80" * 70_000),
        DeviceFaultError("\udc80 blown"),
    ],
    ids=lambda answer: ascii(answer)[:40],
)
def test_whatever_a_driver_answers_trips_its_channel_and_no_other(answer: object) -> None:
    bench = Bench()
    bench.run(2.0)
    bench.driver.answer = answer if answer is not None else ()
    bench.run(0.5)
    assert bench.alarm_of("1") is AlarmCode.DEVICE_FAULT
    told = bench.ear.telemetry_of("1")[-1].alarm
    assert told is not None
    assert len(told.text) < 2000
    assert bench.alarm_of("2") is None
    bench.ear.said.clear()
    bench.run(3.0)
    assert len(bench.ear.telemetry_of("2")) == 3


def test_a_transient_text_that_is_no_unicode_harms_nobody() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.driver.answer = TransientDriverError("/dev/tty\udcff" * 50_000)
    bench.run(4.0)
    assert bench.alarm_of("1") is AlarmCode.DRIVER_LOST
    assert bench.alarm_of("2") is None


def test_a_fault_whose_text_fills_the_whole_message_is_told_in_short() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.driver.answer = replace(GOOD, fault=Alarm(code=AlarmCode.OVER_VOLTAGE, text="x" * 70_000))
    bench.run(0.2)
    told = bench.ear.telemetry_of("1")[-1].alarm
    assert told is not None
    assert told.code is AlarmCode.OVER_VOLTAGE
    assert len(told.text) < 2000


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("no preview today"),
        "soon",
        Preview((PlanSegment(after_s=5.0, power_w=1.0),), 60.0),
        Preview((PlanSegment(after_s=0.0, power_w=1.0),), float("nan")),
    ],
    ids=repr,
)
def test_a_preview_that_is_none_leaves_the_channel_without_a_plan_and_all_else_at_work(answer: object) -> None:
    bench = Bench(own_program=True, equalize=False)
    bench.driver.preview_answer = answer
    bench.run(3.0)
    assert [name for kind, name, _ in bench.ear.said if kind == "plan" and name == "1"] == []
    assert len(bench.ear.telemetry_of("1")) >= 3
    assert len(bench.ear.telemetry_of("2")) >= 3


def test_a_command_is_answered_although_the_driver_fails_at_it() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.driver.answer = DeviceFaultError("fuse blown")
    bench.run(0.2)
    bench.driver.clear_failure = OSError("bus gone")
    bench.command("clear_alarm")
    assert bench.ear.replies()[-1].result == "accepted"
    bench.run(0.2)
    assert bench.alarm_of("1") is AlarmCode.DEVICE_FAULT


def test_a_fault_that_is_raised_once_at_the_new_power_is_not_lost() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.driver.answer_to_power = DeviceFaultError("the contactor does not close")
    bench.setpoint("1", 5000.0)
    assert bench.alarm_of("1") is AlarmCode.DEVICE_FAULT


def test_a_lease_ends_on_time_although_another_channel_holds_up_the_tick() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.setpoint("2", 5000.0, ttl_s=2.0)
    bench.driver.exchange_takes_s = 2.5
    bench.rack.tick()
    assert bench.rack.state("2").lease is None


@pytest.mark.parametrize("by", ["x" * 65_400, "\N{OLD PERSIAN NUMBER HUNDRED}" * 16_000])
def test_a_long_signature_on_a_command_does_not_make_an_event_that_cannot_be_sent(by: str) -> None:
    bench = Bench(equalize=False)
    bench.run(2.0)
    bench.command("equalize", by=by)
    [(_, _, text)] = [what for kind, _, what in bench.ear.said if kind == "event"]
    assert len(text.encode()) < 2000


def test_an_operators_command_id_is_no_way_to_keep_the_station_from_winding_down() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.command("clear_alarm", "station-stops")
    bench.setpoint("1", 5000.0)
    bench.run(1.0)
    bench.rack.wind_down()
    bench.run(1.0)
    assert bench.rack.at_rest


def test_a_command_that_comes_again_while_the_station_winds_down_gets_its_old_reply() -> None:
    bench = Bench(equalize=False)
    bench.run(2.0)
    bench.command("equalize", "once")
    first = bench.ear.replies()[-1]
    bench.rack.wind_down()
    bench.command("equalize", "once")
    assert bench.ear.replies()[-1] == first


def test_an_alarm_after_which_nothing_is_measured_any_more_waits_retained_for_whoever_comes_later() -> None:
    bench = Bench(retain_every_s=30.0)
    bench.run(3.0)
    bench.driver.answer = TransientDriverError("no answer")
    bench.run(10.0)
    kept = [one for kind, name, one in bench.ear.said if (kind, name) == ("retained telemetry", "1")]
    assert [one.alarm is None for one in kept] == [True, False]


def test_a_disk_that_stalls_for_long_is_no_reason_for_a_burst() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.shelf.slow = True
    bench.setpoint("1")
    bench.ear.said.clear()
    bench.run(20.0)
    bench.shelf.finish()
    assert len(bench.ear.telemetry_of("1")) == 1


class TestOneFenceForTheStation:
    """`epoch` below the highest that the station has accepted: whichever of its channels has."""

    def test_a_server_that_one_channel_has_left_behind_leads_none(self) -> None:
        bench = Bench()
        bench.run(2.0)
        bench.setpoint("1", epoch=8, server="hall-b")
        bench.setpoint("2", epoch=7)
        assert bench.tally.setpoints == {"applied": 1, "stale_epoch": 1}
        bench.setpoint("2", epoch=8, server="hall-a")
        bench.setpoint("2", epoch=1009, server="hall-a")
        assert bench.tally.setpoints == {"applied": 1, "stale_epoch": 1, "epoch_conflict": 1, "epoch_jump": 1}
        bench.setpoint("2", epoch=8, server="hall-b", seq=0)
        assert bench.tally.setpoints["applied"] == 2

    def test_the_lease_of_the_old_server_runs_out_by_itself(self) -> None:
        bench = Bench()
        bench.run(2.0)
        bench.setpoint("2", epoch=7, ttl_s=5.0)
        bench.setpoint("1", epoch=8, server="hall-b")
        bench.run(2.0)
        assert bench.rack.state("2").applied_w == 1000.0
        bench.run(4.0)
        assert bench.rack.state("2").applied_w == 0.0

    def test_it_is_stored_for_every_channel_and_a_restart_knows_it(self) -> None:
        bench = Bench()
        bench.run(2.0)
        bench.setpoint("1", epoch=8, server="hall-b")
        assert {(one.epoch, one.server) for one in bench.shelf.stored.values()} == {(8, "hall-b")}
        again = Bench(remembered={"1": Remembered(epoch=8, server="hall-b")})
        again.run(2.0)
        again.setpoint("2", epoch=7)
        assert again.tally.setpoints == {"stale_epoch": 1}

    def test_a_duplicate_on_one_channel_is_none_on_another(self) -> None:
        bench = Bench()
        bench.run(2.0)
        bench.setpoint("1", seq=5)
        bench.setpoint("2", seq=3)
        bench.setpoint("1", seq=5)
        assert bench.tally.setpoints == {"applied": 2, "duplicate": 1}


def test_a_command_that_comes_again_while_the_station_winds_down_does_not_make_it_forget_the_mode() -> None:
    bench = Bench(equalize=False)
    bench.run(2.0)
    bench.command("equalize", "once")
    bench.rack.wind_down()
    bench.command("equalize", "once")
    bench.rack.on_malformed_command("1", "half", "", "action: is missing")
    assert bench.ear.replies()[-1].reason == "malformed"
    assert bench.shelf.stored["1"].equalizing
