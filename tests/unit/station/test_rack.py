"""A station's channels under a clock of our own: what is said when, what is stored before, how they come to rest."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schemas.messages import (
    Basis,
    ChannelCommand,
    ChannelPlan,
    ChannelTelemetry,
    Reply,
    Setpoint,
    SetpointStep,
    Severity,
    Values,
    WorkStatus,
)
from schemas.settings import parse
from station.channel.outcome import Remembered
from station.config import StationSettings
from station.drivers.protocol import (
    ChannelHardware,
    ConstantPower,
    Demand,
    DeviceFaultError,
    Driver,
    Preview,
    Sample,
)
from station.metrics import Tally
from station.rack import TICK_S, Rack
from tests.chaos.arena import LIMIT_W, RAMP_W_PER_S, Equipment
from tests.chaos.equipment import create

VOLTAGE_V = 400.0


@dataclass
class Ear:
    """An outlet that writes down what it is given."""

    connected: bool = True
    said: list[tuple[str, str, object]] = field(default_factory=list)

    def telemetry(self, channel_id: str, message: ChannelTelemetry, *, retain: bool) -> None:
        self.said.append(("retained telemetry" if retain else "telemetry", channel_id, message))

    def plan(self, channel_id: str, message: ChannelPlan) -> None:
        self.said.append(("plan", channel_id, message))

    def reply(self, channel_id: str, message: Reply) -> None:
        self.said.append(("reply", channel_id, message))

    def event(
        self, severity: Severity, code: str, text: str, values: Values | None = None, *, channel_id: str | None = None
    ) -> None:
        del values
        self.said.append(("event", channel_id or "", (severity, code, text)))

    def telemetry_of(self, channel_id: str) -> list[ChannelTelemetry]:
        return [one for _, name, one in self.said if name == channel_id and isinstance(one, ChannelTelemetry)]

    def replies(self) -> list[Reply]:
        return [one for _, _, one in self.said if isinstance(one, Reply)]


class Shelf:
    """A memory that stores when it is told to; at once, unless it is slow."""

    def __init__(self) -> None:
        self.slow = False
        self.stored: dict[str, Remembered] = {}
        self._waiting: list[tuple[str, Callable[[], None]]] = []

    def put(self, channel_id: str, remembered: Remembered, then: Callable[[], None]) -> None:
        self.stored[channel_id] = remembered
        self._waiting.append((channel_id, then))
        if not self.slow:
            self.finish()

    def after(self, channel_id: str, then: Callable[[], None]) -> None:
        if any(name == channel_id for name, _ in self._waiting):
            self._waiting.append((channel_id, then))
        else:
            then()

    def finish(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, then in waiting:
            then()


class Battery:
    """Does at once what is asked; counts exchanges."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.demands: dict[str, Demand] = {}

    async def open(self, channels: Sequence[ChannelHardware]) -> None:
        raise NotImplementedError("a rack gets an opened driver")

    async def close(self) -> None:
        raise NotImplementedError("a rack does not close its driver")

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample:  # noqa: ARG002 - the protocol's
        self.demands[channel_id] = demand
        if self.failure is not None:
            raise self.failure
        power_w = demand.power_w if isinstance(demand, ConstantPower) else 0.0
        return Sample(VOLTAGE_V, power_w / VOLTAGE_V, power_w, True, 60000.0, 60000.0)

    def has_own_program(self, channel_id: str) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def preview(self, channel_id: str, horizon_s: float, now_s: float) -> Preview | None:
        raise NotImplementedError("only for programs of the equipment's own")

    def clear_fault(self, channel_id: str, now_s: float) -> None:
        """Nothing latches here."""


class Bench:
    """A rack and all around it."""

    def __init__(
        self,
        channels: int = 1,
        more: str = "equalize = true",
        telemetry: str = "period_s = 1.0",
        *,
        forgetful: bool = False,
        driver: Driver | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        text = f'[station]\nid = "s1"\n[telemetry]\n{telemetry}\n'
        for number in range(1, channels + 1):
            text += f'[[channel]]\nid = "{number}"\ncharge_limit_w = 60000.0\ndischarge_limit_w = 60000.0\n'
            text += f"ramp_w_per_s = 20000.0\n{more}\n"
        settings = parse(StationSettings, text, source="test", environment={})
        self.now_s = 1000.0
        self.ear, self.shelf, self.battery, self.tally = Ear(), Shelf(), Battery(), Tally()
        self.rack = Rack(
            settings.channel,
            {},
            telemetry=settings.telemetry,
            boot_id="9f2c61d0",
            driver=self.battery if driver is None else driver,
            outlet=self.ear,
            memory=self.shelf,
            tally=self.tally,
            clock=(lambda: self.now_s) if clock is None else clock,
            utc=lambda: 1.7e9 + self.now_s,
            forgetful=forgetful,
        )

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.rack.tick()
            self.now_s += TICK_S

    def command(self, action: str, command_id: str = "c") -> Reply:
        self.rack.on_command("1", ChannelCommand(id=command_id, action=action))
        return self.ear.replies()[-1]

    def setpoint(self, power_w: float) -> None:
        newest = self.ear.telemetry_of("1")[-1]
        self.rack.on_setpoint(
            "1",
            Setpoint(
                server="hall-a",
                epoch=7,
                seq=newest.seq,
                basis=Basis(boot_id=newest.boot_id, seq=newest.seq),
                ttl_s=30.0,
                steps=(SetpointStep(after_s=0.0, power_w=power_w),),
                unix_time_s=0.0,
            ),
        )


def test_telemetry_is_spread_over_the_period_and_none_is_left_out() -> None:
    bench = Bench(channels=20, more="")
    bench.run(1.0)
    bench.ear.said.clear()
    for _ in range(30):
        before = len(bench.ear.said)
        bench.run(TICK_S)
        assert len(bench.ear.said) - before == 2
    assert {len(bench.ear.telemetry_of(str(number))) for number in range(1, 21)} == {3}


def test_after_a_hold_up_there_is_no_burst() -> None:
    bench = Bench(channels=10, more="")
    bench.run(2.0)
    bench.now_s += 7.35
    bench.ear.said.clear()
    bench.run(1.0)
    assert {len(bench.ear.telemetry_of(str(number))) for number in range(1, 11)} <= {1, 2}


def test_one_message_in_retain_every_s_is_retained_and_the_first_after_a_connection() -> None:
    bench = Bench(telemetry="period_s = 1.0\nretain_every_s = 5.0", more="")
    bench.run(20.0)
    kinds = [kind for kind, _, message in bench.ear.said if isinstance(message, ChannelTelemetry)]
    assert kinds[0] == "retained telemetry"
    assert kinds.count("retained telemetry") == 4
    bench.ear.said.clear()
    bench.rack.on_connected()
    assert [kind for kind, *_ in bench.ear.said][-1] == "retained telemetry"


def test_a_server_that_begins_hears_the_plan_of_a_step_that_began_long_before() -> None:
    charge = '{ step = "cp_chg", power_w = 5000.0, until = { time_s = 100.0 } }'
    bench = Bench(more=f'program = [{charge}, {{ step = "rest", until = {{ time_s = 50.0 }} }}]')
    bench.run(30.0)
    bench.ear.said.clear()
    bench.rack.on_server_begins()
    ((kind, channel, plan),) = bench.ear.said
    assert (kind, channel) == ("plan", "1")
    assert isinstance(plan, ChannelPlan)
    (ends,) = [segment.after_s for segment in plan.segments if segment.power_w == 0.0]
    assert ends == pytest.approx(70.0, abs=0.2), "counted from now"


def test_a_setpoint_starts_to_act_at_receipt() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.now_s += 0.05
    bench.setpoint(-20000.0)
    demand = bench.battery.demands["1"]
    assert isinstance(demand, ConstantPower)
    assert demand.power_w < 0.0
    assert bench.tally.setpoints == {"applied": 1}


class HeldUpClock:
    """A process that the computer leaves without time for a while, right after it has looked at the clock."""

    def __init__(self) -> None:
        self.hold_up_s = 0.0

    def __call__(self) -> float:
        now_s = time.monotonic()
        time.sleep(self.hold_up_s)
        return now_s


async def test_held_up_between_a_look_at_the_clock_and_the_equipment_a_channel_keeps_to_its_ramp(
    tmp_path: Path,
) -> None:
    clock, driver = HeldUpClock(), create({"station": "s1"}, str(tmp_path))
    battery = {"capacity_ah": 150.0, "series": 96, "parallel": 1, "soc_ratio": 0.5, "connected": True}
    await driver.open([ChannelHardware("1", LIMIT_W, LIMIT_W, RAMP_W_PER_S, {"battery": battery})])
    bench = Bench(driver=driver, clock=clock)
    for _ in range(3):
        bench.rack.tick()
    bench.setpoint(-20000.0)
    for hold_up_s in (0.0, 0.05, 0.2, 0.0, 0.1, 0.0, 0.0):
        clock.hold_up_s = hold_up_s
        bench.rack.tick()
    await driver.close()
    equipment = Equipment(tmp_path, "s1", "1")
    assert min(power_w for _, power_w, _ in equipment.history()) < -5000.0
    equipment.check(follows=True)


def test_while_the_disk_is_slow_nothing_is_acknowledged_and_then_all_of_it_once() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.shelf.slow = True
    bench.setpoint(-5000.0)
    bench.ear.said.clear()
    bench.run(0.9)
    assert bench.ear.said == []
    assert bench.battery.demands["1"] == ConstantPower(-5000.0)
    bench.shelf.finish()
    echoes = bench.ear.telemetry_of("1")
    assert len(echoes) <= 1
    bench.run(1.0)
    last = bench.ear.telemetry_of("1")[-1].equalization
    assert last is not None
    assert last.last is not None
    assert last.last.epoch == 7


def test_without_a_connection_nothing_is_said_and_the_channel_works_on() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.setpoint(-20000.0)
    bench.ear.connected = False
    bench.ear.said.clear()
    bench.run(5.0)
    assert bench.ear.said == []
    assert bench.battery.demands["1"] == ConstantPower(-20000.0)


def test_winding_down_ramps_to_zero_and_keeps_the_mode() -> None:
    bench = Bench(channels=3)
    bench.run(2.0)
    bench.setpoint(-20000.0)
    bench.run(2.0)
    bench.rack.wind_down()
    assert not bench.rack.at_rest
    bench.run(1.5)
    assert bench.rack.at_rest
    bench.rack.say_last()
    assert bench.ear.telemetry_of("1")[-1].power_w == 0.0
    assert bench.ear.said[-1][0] == "retained telemetry"
    assert bench.shelf.stored["1"].equalizing


def test_while_it_winds_down_a_stop_is_obeyed_for_good_and_a_start_refused() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.setpoint(-20000.0)
    bench.run(2.0)
    bench.rack.wind_down()
    refused = bench.command("equalize", "again")
    assert (refused.result, refused.reason) == ("rejected", "busy")
    assert bench.shelf.stored["1"].equalizing
    assert bench.command("stop", "for good").result == "accepted"
    assert not bench.shelf.stored["1"].equalizing


def test_a_trip_while_it_winds_down_forgets_the_mode() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.setpoint(-20000.0)
    bench.run(2.0)
    bench.rack.wind_down()
    bench.battery.failure = DeviceFaultError("fuse blown")
    bench.run(0.3)
    assert bench.ear.telemetry_of("1")[-1].work_status is WorkStatus.PROTECT
    assert not bench.shelf.stored["1"].equalizing


@pytest.mark.parametrize("failure", [DeviceFaultError("fuse blown"), KeyError("a defect")])
def test_a_failing_driver_latches_the_channel_safe(failure: Exception) -> None:
    bench = Bench(more="")
    bench.run(1.0)
    bench.battery.failure = failure
    bench.run(0.2)
    newest = bench.ear.telemetry_of("1")[-1]
    assert newest.alarm is not None
    assert newest.alarm.code == "device_fault"
    assert sum(bench.tally.driver_errors.values()) >= 2


@pytest.mark.parametrize(
    ("forgetful", "announced_epoch", "result"),
    [(True, 8, "stale_epoch"), (True, 7, "applied"), (False, 8, "applied")],
)
def test_a_station_that_lost_its_memory_obeys_no_server_older_than_the_announced_one(
    forgetful: bool, announced_epoch: int, result: str
) -> None:
    bench = Bench(channels=2, forgetful=forgetful)
    bench.run(2.0)
    bench.rack.on_server("hall-a", announced_epoch)
    bench.rack.on_server("hall-z", 9000)
    bench.setpoint(-20000.0)
    assert bench.tally.setpoints == {result: 1}
    assert {channel: one.epoch for channel, one in bench.shelf.stored.items()}.get("2") == (
        announced_epoch if forgetful else 7
    )
