"""The setpoint decision in the contract's order, and the lease."""

from typing import Any

import pytest

from schemas.messages import Alarm, AlarmCode, SetpointReason, SetpointResult, Severity
from station.channel.lease import Lease, target_w
from station.channel.outcome import Accepted, Duplicate, Refused, Remembered, TransientTrouble
from tests.unit.channel.bench import Bench, build

R = SetpointReason


@pytest.fixture
def bench() -> Bench:
    """A channel in equalization mode that obeys hall-a, epoch 7."""
    bench = build(equalize=True)
    bench.run(1.5)
    bench.setpoint(500.0)
    bench.run(1.5)
    return bench


@pytest.mark.parametrize(
    ("changes", "decided"),
    [
        ({}, Accepted(SetpointResult.APPLIED, changed=True)),
        # Basis before epoch, epoch before sequence: each row breaks its own rule and all that come after it.
        ({"basis": {"boot_id": "boot-0", "seq": 1}, "epoch": 6, "seq": 0}, Refused(R.STALE_BASIS)),
        ({"basis": {"boot_id": "boot-1", "seq": 9999}, "epoch": 6, "seq": 0}, Refused(R.STALE_BASIS)),
        ({"epoch": 6, "seq": 0}, Refused(R.STALE_EPOCH)),
        ({"epoch": 6, "server": "hall-b"}, Refused(R.STALE_EPOCH)),
        ({"server": "hall-b", "seq": 0}, Refused(R.EPOCH_CONFLICT)),
        ({"epoch": 1008, "seq": 0}, Refused(R.EPOCH_JUMP)),
        ({"epoch": 1007, "seq": 0}, Accepted(SetpointResult.APPLIED, changed=True)),
        ({"epoch": 8, "server": "hall-b", "seq": 0}, Accepted(SetpointResult.APPLIED, changed=True)),
        ({"seq": 0}, Duplicate()),
        ({"seq": 1}, Duplicate()),
    ],
)
def test_the_order_of_the_decision(bench: Bench, changes: dict[str, Any], decided: object) -> None:
    before = bench.telemetry().equalization.last
    assert bench.setpoint(900.0, **changes) == decided
    last = bench.telemetry().equalization.last
    match decided:
        case Duplicate():
            assert last.seq == before.seq
        case Refused(reason):
            assert (last.result, last.reason) == (SetpointResult.REJECTED, reason)
        case Accepted(result):
            assert (last.result, last.reason) == (result, None)
    bench.run(1.0)
    assert bench.state.applied_w == (900.0 if isinstance(decided, Accepted) else 500.0)


def test_an_alarm_is_told_before_the_mode_that_it_ended(bench: Bench) -> None:
    bench.tick(bench.measure(fault=Alarm(code=AlarmCode.OVER_VOLTAGE, text="too high")))
    assert bench.setpoint(900.0, basis={"boot_id": "boot-0", "seq": 1}) == Refused(R.ALARM)


def test_a_channel_outside_the_mode_refuses_and_says_so_by_event() -> None:
    bench = build()
    bench.run(2.0)
    for _ in range(5):
        assert bench.setpoint(900.0) == Refused(R.NOT_EQUALIZING)
    assert bench.telemetry().equalization is None
    assert [event.code for event in bench.events] == ["setpoint_not_equalizing"]


def test_an_epoch_conflict_raises_an_alarm_event(bench: Bench) -> None:
    bench.setpoint(900.0, server="hall-b")
    assert (bench.events[-1].severity, bench.events[-1].code) == (Severity.ALARM, "setpoint_epoch_conflict")


@pytest.mark.parametrize(("age_s", "obeyed"), [(14.9, True), (15.2, False)])
def test_a_basis_lives_for_fifteen_seconds(bench: Bench, age_s: float, obeyed: bool) -> None:
    named = bench.telemetry().seq
    bench.run(age_s)
    decision = bench.setpoint(900.0, basis={"boot_id": "boot-1", "seq": named})
    assert decision == (Accepted(SetpointResult.APPLIED, changed=True) if obeyed else Refused(R.STALE_BASIS))


def test_the_first_server_may_have_any_epoch_and_is_remembered() -> None:
    bench = build(equalize=True)
    bench.run(1.5)
    assert bench.setpoint(900.0, epoch=5000) == Accepted(SetpointResult.APPLIED, changed=True)
    assert bench.stored == [Remembered(equalizing=True), Remembered(equalizing=True, epoch=5000, server="hall-a")]


def test_a_restarted_station_still_knows_the_highest_epoch() -> None:
    bench = build(memory=Remembered(equalizing=True, epoch=9, server="hall-b"))
    bench.run(1.5)
    assert bench.state.equalizing
    assert bench.state.applied_w == 0.0
    assert bench.setpoint(900.0, epoch=8) == Refused(R.STALE_EPOCH)
    assert bench.setpoint(900.0, epoch=9) == Refused(R.EPOCH_CONFLICT)
    assert bench.setpoint(900.0, epoch=9, server="hall-b") == Accepted(SetpointResult.APPLIED, changed=True)
    assert bench.stored == []


@pytest.mark.parametrize(("asked_w", "reached_w"), [(70000.0, 60000.0), (-70000.0, -20000.0)])
def test_a_setpoint_beyond_a_limit_is_clamped(bench: Bench, asked_w: float, reached_w: float) -> None:
    bench.discharge_limit_w = 20000.0
    bench.tick()
    assert bench.setpoint(asked_w) == Accepted(SetpointResult.CLAMPED, changed=True)
    bench.run(3.0)
    assert bench.telemetry().equalization.applied_w == reached_w


def test_a_limit_that_falls_cuts_the_power_at_once_and_gives_it_back_on_the_ramp() -> None:
    bench = build(equalize=True, ramp_w_per_s=10000.0)
    bench.run(1.5)
    bench.setpoint(30000.0)
    bench.run(4.0)
    bench.charge_limit_w = 5000.0
    bench.tick()
    assert bench.state.applied_w == 5000.0
    bench.charge_limit_w = 60000.0
    bench.tick()
    assert bench.state.applied_w == pytest.approx(6000.0)


def test_a_limit_that_falls_during_the_lease_is_told_as_clamped(bench: Bench) -> None:
    bench.setpoint(30000.0)
    bench.run(1.5)
    assert bench.telemetry().equalization.last.result is SetpointResult.APPLIED
    bench.charge_limit_w = 20000.0
    bench.run(0.2)
    told = bench.telemetry().equalization
    assert (told.applied_w, told.last.result, told.last.seq) == (20000.0, SetpointResult.CLAMPED, bench.seq)
    assert bench.setpoint(30000.0) == Accepted(SetpointResult.CLAMPED, changed=False)


def test_a_refusal_stays_told_although_a_limit_cuts_the_lease_before_it(bench: Bench) -> None:
    bench.setpoint(30000.0)
    bench.setpoint(900.0, epoch=6)
    bench.charge_limit_w = 20000.0
    bench.run(1.5)
    assert bench.telemetry().equalization.last.reason is R.STALE_EPOCH


def test_steps_are_counted_from_receipt_and_the_last_holds(bench: Bench) -> None:
    bench.setpoint((0.0, -1000.0), (2.0, 3000.0))
    bench.run(1.5)
    assert bench.state.applied_w == -1000.0
    bench.run(1.0)
    assert bench.state.applied_w == 3000.0
    bench.run(20.0)
    assert bench.state.applied_w == 3000.0


@pytest.mark.parametrize(("ttl_s", "lasts_s"), [(10.0, 10.0), (600.0, 60.0)])
def test_a_lease_runs_from_the_basis_and_ends_in_a_ramp(ttl_s: float, lasts_s: float) -> None:
    bench = build(equalize=True, ramp_w_per_s=1000.0)
    bench.run(1.5)
    seq = bench.telemetry().seq
    bench.run(5.0)
    bench.setpoint(2000.0, ttl_s=ttl_s, basis={"boot_id": "boot-1", "seq": seq})
    assert bench.telemetry().equalization.last.expires_in_s == pytest.approx(lasts_s - 5.0)
    bench.run(lasts_s - 5.2)
    assert bench.state.applied_w == 2000.0
    bench.run(1.2)
    assert 0.0 < bench.state.applied_w < 2000.0
    bench.run(2.0)
    told = bench.telemetry().equalization
    assert (told.applied_w, told.last.result, told.last.expires_in_s) == (0.0, SetpointResult.EXPIRED, None)
    assert bench.state.equalizing
    assert bench.setpoint(700.0) == Accepted(SetpointResult.APPLIED, changed=True)
    bench.run(1.0)
    assert bench.state.applied_w == 700.0


def test_a_setpoint_whose_lease_is_over_already_moves_nothing(bench: Bench) -> None:
    seq = bench.telemetry().seq
    bench.run(5.0)
    decision = bench.setpoint(900.0, ttl_s=2.0, basis={"boot_id": "boot-1", "seq": seq})
    assert decision == Accepted(SetpointResult.EXPIRED, changed=True)
    bench.run(1.0)
    assert bench.state.applied_w == 0.0


def test_a_refresh_with_the_same_powers_extends_the_lease_and_is_no_change(bench: Bench) -> None:
    for _ in range(12):
        bench.run(5.0)
        assert bench.setpoint(500.0) == Accepted(SetpointResult.APPLIED, changed=False)
    assert bench.state.applied_w == 500.0
    bench.setpoint((0.0, 500.0), (10.0, 800.0))
    bench.run(5.0)
    assert bench.setpoint((0.0, 500.0), (5.0, 800.0)) == Accepted(SetpointResult.APPLIED, changed=False)
    assert bench.setpoint((0.0, 500.0), (5.0, 900.0)) == Accepted(SetpointResult.APPLIED, changed=True)


def test_the_lease_runs_out_although_the_driver_gives_no_samples() -> None:
    bench = build(equalize=True, ramp_w_per_s=1000.0)
    bench.run(1.5)
    bench.setpoint(500.0, ttl_s=2.0)
    bench.run(1.0)
    assert bench.state.applied_w == 500.0
    for _ in range(20):
        bench.tick(TransientTrouble("timeout"))
    assert bench.state.equalizing
    assert bench.state.applied_w == 0.0


@pytest.mark.parametrize(("now_s", "power_w"), [(10.0, 5.0), (12.0, 7.0), (29.9, 7.0), (30.0, 0.0), (99.0, 0.0)])
def test_a_lease_asks_for_nothing_outside_its_time(now_s: float, power_w: float) -> None:
    lease = Lease("hall-a", 7, 1, steps=((10.0, 5.0), (12.0, 7.0)), expires_s=30.0)
    assert target_w(lease, now_s) == power_w
    assert target_w(None, now_s) == 0.0


def frozen(bench: Bench, seconds: float) -> Bench:
    """Let the process stand still: no tick sees what ends meanwhile."""
    bench.telemetry()
    bench.setpoint(500.0, ttl_s=6.0)
    bench.events.clear()
    bench.now_s += seconds
    return bench


def test_a_lease_that_ended_while_nobody_looked_is_told_though_a_late_setpoint_comes_first(bench: Bench) -> None:
    late = frozen(bench, 8.0).setpoint(500.0, ttl_s=7.0)
    assert late == Accepted(SetpointResult.EXPIRED, changed=True)
    bench.run(1.0)
    assert [event.code for event in bench.events] == ["lease_expired"]
    assert bench.state.applied_w == 0.0
    bench.telemetry()
    bench.setpoint(500.0)
    assert [event.code for event in bench.events] == ["lease_expired", "led_again"]


def test_a_new_lease_after_an_end_that_nobody_saw_tells_of_both(bench: Bench) -> None:
    frozen(bench, 8.0).setpoint(500.0)
    bench.run(1.0)
    assert [event.code for event in bench.events] == ["lease_expired", "led_again"]


def test_a_setpoint_whose_time_is_over_on_arrival_ends_the_lease_before_it_and_says_so(bench: Bench) -> None:
    assert frozen(bench, 5.0).setpoint(500.0, ttl_s=4.0) == Accepted(SetpointResult.EXPIRED, changed=True)
    bench.run(1.0)
    assert [event.code for event in bench.events] == ["lease_expired"]


def test_a_refresh_in_time_tells_nothing(bench: Bench) -> None:
    frozen(bench, 5.0).setpoint(500.0)
    bench.run(1.0)
    assert bench.events == []
