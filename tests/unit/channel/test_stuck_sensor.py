"""A sensor that stands still while other power is asked for."""

import pytest

from schemas.messages import AlarmCode, WorkStatus
from tests.unit.channel.bench import Bench, build


def led(power_w: float) -> Bench:
    bench = build(equalize=True)
    bench.run(2.0)
    bench.setpoint(power_w)
    bench.run(2.0)
    return bench


def test_readings_that_stay_while_other_power_is_asked_for_trip_after_ten_seconds() -> None:
    bench = led(-20000.0)
    stuck = bench.measure()
    bench.setpoint(10000.0)
    for _ in range(98):
        bench.tick(stuck)
    assert bench.state.alarm is None
    for _ in range(8):
        bench.tick(stuck)
    assert bench.state.alarm is not None
    assert bench.state.alarm.code is AlarmCode.DEVICE_FAULT
    assert bench.telemetry().work_status is WorkStatus.PROTECT


@pytest.mark.parametrize("asked_w", [-20000.0, -22000.0])
def test_readings_that_fit_what_is_asked_may_stay_for_ever(asked_w: float) -> None:
    bench = led(-20000.0)
    still = bench.measure()
    for _ in range(20):
        bench.setpoint(asked_w)
        for _ in range(10):
            bench.tick(still)
            bench.telemetry()
    assert bench.state.alarm is None


def test_equipment_that_is_slow_but_moves_is_not_stuck() -> None:
    bench = led(-20000.0)
    for step in range(200):
        if step % 10 == 0:
            bench.setpoint(10000.0)
        bench.tick(bench.measure(power_w=-20000.0 + step, current_a=-50.0))
        bench.telemetry()
    assert bench.state.alarm is None


def test_a_new_attempt_after_the_alarm_begins_anew() -> None:
    bench = led(-20000.0)
    stuck = bench.measure()
    bench.setpoint(10000.0)
    for _ in range(110):
        bench.tick(stuck)
    bench.run(1.0)
    assert bench.command("clear_alarm").result == "accepted"
    bench.run(0.5)
    assert bench.command("equalize").result == "accepted"
    bench.run(5.0)
    assert bench.state.alarm is None
