"""Plans: exact where time decides, honest where the battery does."""

from itertools import pairwise
from math import sqrt
from typing import Any

import pytest

from schemas.messages import ChannelPlan
from tests.unit.channel.bench import Battery, build

HOUR = {"step": "cc_chg", "current_a": 50.0, "until": {"time_s": 3600.0}}


def rest(time_s: float) -> dict[str, Any]:
    return {"step": "rest", "until": {"time_s": time_s}}


def power(power_w: float, **until: float) -> dict[str, Any]:
    step = "cp_chg" if power_w > 0.0 else "cp_dchg"
    return {"step": step, "power_w": abs(power_w), "until": until}


def shape(plan: ChannelPlan) -> list[tuple[float, float, float | None]]:
    return [(round(segment.after_s, 2), round(segment.power_w), segment.sigma_s) for segment in plan.segments]


def test_steps_that_end_by_time_are_exact_to_the_horizon() -> None:
    bench = build(power(5000.0, time_s=30.0), rest(20.0), power(-4000.0, time_s=40.0), repeat=0)
    bench.run(10.1)
    assert shape(bench.plan()) == [
        (0.0, 5000, None),
        (20.0, 0, None),
        (40.0, -4000, None),
        (80.0, 5000, None),
        (110.0, 0, None),
    ]
    assert bench.plan().until_s == 120.0


def test_a_power_profile_shows_every_point_also_in_its_next_runs() -> None:
    profile = ({"after_s": 0.0, "power_w": 100.0}, {"after_s": 5.0, "power_w": -200.0})
    bench = build({"step": "sim", "profile": profile, "duration_s": 12.0, "runs": 2}, rest(7.0))
    bench.run(8.1)
    assert shape(bench.plan()) == [(0.0, -200, None), (4.0, 100, None), (9.0, -200, None), (16.0, 0, None)]


def test_a_long_profile_is_cut_where_the_message_would_grow_too_long() -> None:
    profile = tuple({"after_s": number * 0.2, "power_w": float(number)} for number in range(1000))
    bench = build({"step": "sim", "profile": profile, "duration_s": 200.0})
    bench.run(0.1)
    plan = bench.plan()
    assert (len(plan.segments), plan.until_s) == (256, pytest.approx(256 * 0.2))


@pytest.mark.timeout(5)
def test_a_profile_of_absurdly_short_points_holds_up_nobody() -> None:
    profile = ({"after_s": 0.0, "power_w": 1000.0}, {"after_s": 1e-9, "power_w": 2000.0})
    bench = build({"step": "sim", "profile": profile, "duration_s": 2e-9, "runs": 0})
    bench.run(1.0)
    assert bench.plan().until_s < 1.0


def test_the_power_of_a_current_to_come_is_taken_at_the_present_voltage() -> None:
    bench = build(rest(10.0), HOUR)
    bench.run(5.1)
    assert shape(bench.plan()) == [(0.0, 0, None), (5.0, 17500, None)]


@pytest.mark.parametrize(
    ("step", "ends_after_s", "largest_sigma_s"),
    [
        (power(36000.0, energy_wh=300.0), 30.0, 0.5),
        ({"step": "cc_chg", "current_a": 72.0, "until": {"charge_ah": 0.6}}, 30.0, 0.5),
        ({"step": "cc_chg", "current_a": 72.0, "until": {"energy_wh": 214.6}}, 30.0, 1.0),
        ({"step": "cc_chg", "current_a": 72.0, "until": {"voltage_v": 357.8}}, 30.0, 5.0),
        ({"step": "cc_dchg", "current_a": 72.0, "until": {"voltage_v": 342.2}}, 30.0, 5.0),
    ],
)
def test_an_end_by_the_battery_is_foretold_with_its_spread(
    step: dict[str, Any], ends_after_s: float, largest_sigma_s: float
) -> None:
    bench = build(step, rest(600.0))
    bench.run(20.1)
    first, second = bench.plan().segments
    assert first.sigma_s is None
    assert second.power_w == 0.0
    assert second.sigma_s is not None
    assert abs(second.after_s - (ends_after_s - 20.0)) < 2.0 * second.sigma_s
    assert second.sigma_s <= largest_sigma_s


def test_spreads_add_up_over_uncertain_steps() -> None:
    bench = build(power(36000.0, energy_wh=200.0), power(-36000.0, energy_wh=200.0), rest(600.0))
    bench.run(0.1)
    _, second, third = bench.plan().segments
    assert third.sigma_s == pytest.approx(second.sigma_s * sqrt(2.0), rel=0.1)


def test_where_nothing_is_known_the_plan_ends_at_the_soonest() -> None:
    bench = build({"step": "cc_chg", "current_a": 72.0, "until": {"voltage_v": 380.0}}, rest(600.0))
    bench.run(0.1)
    plan = bench.plan()
    assert len(plan.segments) == 1
    assert 5.0 < plan.until_s < 60.0


def test_a_voltage_end_far_away_leaves_the_plan_certain() -> None:
    step = {"step": "cc_chg", "current_a": 72.0, "until": {"voltage_v": 390.0}}
    bench = build(step, rest(600.0), battery=Battery(volts_per_ah=0.5, charge_ah=100.0))
    bench.run(60.0)
    plan = bench.plan()
    assert (len(plan.segments), plan.until_s) == (1, 120.0)


def test_no_voltage_end_ever_comes_before_its_plan_says() -> None:
    """A battery that steepens threefold towards its end: every plan made on the way was kept."""
    step = {"step": "cc_chg", "current_a": 72.0, "until": {"voltage_v": 365.0}}
    bench = build(step, rest(600.0), battery=Battery(volts_per_ah=2.0, charge_ah=25.0))
    promises = []
    while bench.state.run is None or bench.state.run.place.index == 0:
        bench.tick()
        if bench.battery.charge_ah > 26.0:
            bench.battery.volts_per_ah = 2.0 + min(bench.battery.charge_ah - 26.0, 1.0) * 0.05
        if isinstance(bench.published[-1], ChannelPlan) and bench.published[-1].step_id == 1:
            plan = bench.published[-1]
            spread = [segment for segment in plan.segments if segment.sigma_s is not None]
            soonest_s = spread[0].after_s - 3.0 * spread[0].sigma_s if spread else plan.until_s
            promises.append(bench.now_s + soonest_s)
    assert len(promises) >= 3
    assert max(promises) <= bench.now_s + 1.0


def test_the_cv_phase_is_foretold_from_the_fall_of_its_current() -> None:
    cccv = {"step": "cccv_chg", "current_a": 72.0, "voltage_v": 357.5, "until": {"current_a": 10.0}}
    bench = build(cccv, rest(600.0), battery=Battery(volts_per_ah=5.0, charge_ah=10.0))
    bench.run(2.0)
    assert bench.plan().until_s < 120.0
    while bench.state.sample is None or bench.state.sample.current_a > 30.0 or bench.state.run is None:
        bench.tick()
    asked_s, second = bench.now_s, bench.plan().segments[1]
    while bench.state.run.place.index == 0:
        bench.tick()
    assert abs(bench.now_s - asked_s - second.after_s) < 2.0 * second.sigma_s


def test_plans_are_renewed_before_half_of_them_is_used() -> None:
    bench = build(power(36000.0, energy_wh=2000.0), rest(100.0), repeat=0)
    sent: list[tuple[float, ChannelPlan]] = []
    for _ in range(3000):
        bench.tick()
        newest = next((message for message in reversed(bench.published) if isinstance(message, ChannelPlan)), None)
        if newest is not None and (not sent or newest.seq != sent[-1][1].seq):
            sent.append((bench.now_s, newest))
    assert len(sent) > 5
    for (sent_s, plan), (next_s, _) in pairwise(sent):
        assert next_s - sent_s <= plan.until_s / 2.0


def test_the_end_of_the_program_is_foretold_and_then_nothing_happens() -> None:
    bench = build(power(1000.0, time_s=5.0))
    bench.run(2.1)
    assert shape(bench.plan()) == [(0.0, 1000, None), (3.0, 0, None)]
    bench.run(10.0)
    assert (shape(bench.plan()), bench.plan().until_s) == ([(0.0, 0, None)], 120.0)


def test_a_channel_in_equalization_mode_has_no_plan() -> None:
    bench = build(equalize=True)
    bench.run(300.0)
    assert not [message for message in bench.published if isinstance(message, ChannelPlan)]


def test_a_pulse_that_the_voltage_is_not_likely_to_end_is_announced_with_its_end() -> None:
    """The first pulse has shown what the voltage jumps by; the next one is foretold through to what follows it."""
    pulse = {"step": "cc_chg", "current_a": 50.0, "until": {"time_s": 10.0, "voltage_v": 309.0}}
    bench = build(pulse, rest(20.0), pulse, rest(600.0), battery=Battery(volts_per_ah=1.0, charge_ah=0.0))
    bench.run(1.0)
    assert bench.plan().until_s < 10.0
    bench.run(14.0)
    assert [(round(after_s), power_w > 0.0) for after_s, power_w, _ in shape(bench.plan())] == [
        (0, False),
        (15, True),
        (25, False),
    ]
    spread_s = shape(bench.plan())[2][2]
    assert spread_s is not None
    assert 0.3 <= spread_s <= 1.0


def test_a_pulse_that_runs_into_its_voltage_is_announced_with_an_end_at_any_moment_of_it() -> None:
    pulse = {"step": "cc_chg", "current_a": 50.0, "until": {"time_s": 10.0, "voltage_v": 305.5}}
    bench = build(pulse, rest(20.0), pulse, rest(600.0), battery=Battery(volts_per_ah=1.0, charge_ah=0.0))
    bench.run(15.0)
    (_, _, pulse_sigma_s), (ends_s, power_w, spread_s) = shape(bench.plan())[1:]
    assert pulse_sigma_s is None
    assert spread_s is not None
    assert (15.0 < ends_s < 25.0, power_w, spread_s > 1.5) == (True, 0, True)
