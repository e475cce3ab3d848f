"""The lease and the limits at their very edges: where a comparison is off by one, power flows that nobody asked for."""

import math

import pytest

from schemas.messages import Basis, Setpoint, SetpointStep
from station.channel.lease import (
    OLDEST_BASIS_S,
    SENT_KEPT,
    Lease,
    basis_sent_s,
    grant,
    note_sent,
    same_powers,
    target_w,
)
from station.channel.limits import NOTHING, RESIDUE_W, Limits, approach, derate, ramp
from station.drivers.protocol import Sample

BOOT = "boot-1"


def setpoint(*, seq: int = 1, boot_id: str = BOOT, ttl_s: float = 30.0) -> Setpoint:
    return Setpoint(
        server="hall-a",
        epoch=7,
        seq=1,
        basis=Basis(boot_id=boot_id, seq=seq),
        ttl_s=ttl_s,
        steps=(SetpointStep(after_s=0.0, power_w=500.0),),
        unix_time_s=0.0,
    )


def lease(*steps: tuple[float, float], expires_s: float = 30.0) -> Lease:
    return Lease("hall-a", 7, 1, steps, expires_s)


def sample(*, connected: bool = True, charge_limit_w: float = 900.0, discharge_limit_w: float = 900.0) -> Sample:
    return Sample(400.0, 0.0, 0.0, connected, charge_limit_w, discharge_limit_w)


# ── the basis ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_basis_counts_for_exactly_15_s() -> None:
    sent = ((1, 100.0),)
    assert basis_sent_s(setpoint(), BOOT, sent, 100.0 + OLDEST_BASIS_S) == 100.0
    assert basis_sent_s(setpoint(), BOOT, sent, math.nextafter(100.0 + OLDEST_BASIS_S, math.inf)) is None


def test_an_old_basis_is_refused_though_nothing_newer_was_sent() -> None:
    """A station that has been silent keeps its last telemetry in mind; a setpoint on it comes too late all the same."""
    sent = note_sent((), 1, 100.0)
    assert basis_sent_s(setpoint(), BOOT, sent, 160.0) is None


def test_a_basis_of_another_boot_or_of_no_telemetry_is_refused() -> None:
    sent = note_sent((), 1, 100.0)
    assert basis_sent_s(setpoint(boot_id="boot-0"), BOOT, sent, 100.0) is None
    assert basis_sent_s(setpoint(seq=2), BOOT, sent, 100.0) is None


def test_what_is_kept_of_the_sent_telemetry_reaches_back_15_s_and_no_further_than_its_bound() -> None:
    sent = note_sent(note_sent((), 1, 100.0), 2, 100.0 + OLDEST_BASIS_S)
    assert sent == ((1, 100.0), (2, 115.0))
    assert note_sent(sent, 3, 115.1) == ((2, 115.0), (3, 115.1))
    many: tuple[tuple[int, float], ...] = ()
    for seq in range(SENT_KEPT + 50):
        many = note_sent(many, seq, 100.0)
    assert [seq for seq, _ in many] == list(range(50, SENT_KEPT + 50))


# ── the lease ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("ttl_s", "expires_s"), [(30.0, 130.0), (60.0, 160.0), (61.0, 160.0), (1e9, 160.0)])
def test_no_lease_is_longer_than_60_s_and_all_run_from_the_basis(ttl_s: float, expires_s: float) -> None:
    granted = grant(setpoint(ttl_s=ttl_s), 100.0, 110.0)
    assert granted.expires_s == expires_s
    assert granted.steps == ((110.0, 500.0),), "steps count from receipt"


def test_power_holds_from_its_step_to_the_next_and_ends_with_the_lease() -> None:
    two = lease((10.0, 500.0), (20.0, -300.0))
    asked_w = [target_w(two, now_s) for now_s in (9.0, 10.0, 19.9, 20.0, 29.9, 30.0, 31.0)]
    assert asked_w == [500.0, 500.0, 500.0, -300.0, -300.0, 0.0, 0.0]


def test_a_refresh_has_the_same_powers_until_the_old_lease_ends() -> None:
    before = lease((10.0, 0.0))
    after = lease((25.0, 0.0), expires_s=60.0)
    assert same_powers(before, after, 29.0)
    assert not same_powers(before, after, 30.0), "an ended lease is taken up anew, were it for 0 W"
    assert not same_powers(None, after, 29.0)


# ── limits and ramp ──────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_sample_or_a_battery_there_are_no_limits_to_use() -> None:
    assert derate(500.0, 500.0, None) == NOTHING
    assert derate(500.0, 500.0, sample(connected=False)) == NOTHING


def test_the_lower_limit_counts_and_a_negative_one_is_none() -> None:
    assert derate(500.0, 400.0, sample()) == Limits(500.0, 400.0)
    assert derate(500.0, 400.0, sample(charge_limit_w=300.0, discharge_limit_w=200.0)) == Limits(300.0, 200.0)
    assert derate(500.0, 400.0, sample(charge_limit_w=-1.0, discharge_limit_w=-1.0)) == Limits(0.0, 0.0)


def test_the_ramp_goes_its_step_and_arrives_without_a_residue() -> None:
    assert ramp(-100.0, 100.0, 1000.0, 0.1) == 0.0
    assert ramp(100.0, -100.0, 1000.0, 0.1) == 0.0
    assert ramp(0.0, 100.0 + 0.5 * RESIDUE_W, 1000.0, 0.1) == 100.0 + 0.5 * RESIDUE_W
    assert ramp(0.0, 100.0 + 3.0 * RESIDUE_W, 1000.0, 0.1) == 100.0
    assert ramp(0.0, 1000.0, 1000.0, 60.0) == 500.0, "a process that was held up does not jump"
    assert ramp(0.0, 1000.0, 1000.0, -1.0) == 0.0


def test_a_limit_that_falls_below_the_power_cuts_it_at_once() -> None:
    assert approach(900.0, 900.0, Limits(200.0, 200.0), 10.0, 0.1) == 200.0
    assert approach(-900.0, -900.0, Limits(200.0, 200.0), 10.0, 0.1) == -200.0
