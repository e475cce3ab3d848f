"""What plans announce is met at its edge, or passed over."""

import pytest

from equalizer.control.holds import QUIET_S
from schemas.messages import Policy
from tests.scenario.hall import TICK_S, Plant

POLICIES = pytest.mark.parametrize("policy", list(Policy))


def residual_wh(plant: Plant, seconds: float) -> float:
    """The energy that crosses the grid's connection, in either direction."""
    spent_ws = 0.0
    for _ in range(round(seconds / TICK_S)):
        plant.run(TICK_S)
        spent_ws += abs(plant.total_w) * TICK_S
    return spent_ws / 3600.0


@POLICIES
def test_an_edge_announced_ahead_is_met_ahead_inside_the_steps(policy: Policy) -> None:
    plant = Plant(policy=policy).settled()
    begun_s = plant.now_s
    plant.announce(1, (0.0, 0.0), (20.0, 30_000.0))
    spent_wh = residual_wh(plant, 30)
    ((at_s, order),) = plant.changes
    assert order.reason == "announced"
    assert at_s < begun_s + 20.0
    now, ahead = order.steps
    assert now.power_w == 0.0
    assert ahead.power_w == -30_000.0
    # 30 kW at 60 kW/s: the ramp of 0.5 s begins half before the edge
    assert at_s + ahead.after_s == pytest.approx(begun_s + 19.75, abs=0.06)
    assert spent_wh < 30_000.0 * 0.5 / 3600.0
    assert abs(plant.total_w) < 50


@POLICIES
def test_a_change_announced_as_it_happens_needs_no_wait(policy: Policy) -> None:
    plant = Plant(policy=policy).settled()
    plant.announce(1, (0.0, 25_000.0))
    plant.run(2)
    ((_, order),) = plant.changes
    assert [step.power_w for step in order.steps] == [-25_000.0]
    assert abs(plant.total_w) < 50


@POLICIES
def test_a_pulse_too_short_to_follow_is_passed_over(policy: Policy) -> None:
    plant = Plant(policy=policy).settled()
    plant.announce(1, (0.0, 0.0), (10.0, 30_000.0), (14.0, 0.0))
    plant.run(60)
    assert plant.changes == []


def test_a_pulse_is_followed_where_two_channels_can_take_turns() -> None:
    plant = Plant(equalizers=2).settled()
    plant.load(ch=2, power_w=40_000.0)
    plant.eq(1).limit_w = plant.eq(2).limit_w = 30_000.0
    plant.run(60)
    before = len(plant.changes)
    plant.announce(1, (0.0, 0.0), (10.0, 10_000.0), (16.0, 0.0))
    spent_wh = residual_wh(plant, 40)
    assert len(plant.changes) == before + 2
    assert spent_wh < 0.3 * 10_000.0 * 6.0 / 3600.0


def test_a_long_pulse_is_followed_with_one_channel() -> None:
    plant = Plant().settled()
    plant.announce(1, (0.0, 0.0), (10.0, 30_000.0), (50.0, 0.0))
    spent_wh = residual_wh(plant, 80)
    assert len(plant.changes) == 2
    assert spent_wh < 30_000.0 * 1.5 / 3600.0


def test_a_small_change_is_not_spent_just_before_a_large_one() -> None:
    plant = Plant().settled()
    plant.announce(1, (0.0, 0.0), (10.0, 2000.0), (13.0, 30_000.0))
    plant.run(30)
    ((_, order),) = plant.changes
    assert order.steps[-1].power_w == -30_000.0
    assert abs(plant.total_w) < 50


def test_a_plan_that_says_what_is_already_so_changes_nothing() -> None:
    plant = Plant().settled()
    plant.load(ch=1, power_w=20_000.0)
    plant.run(40)
    before = len(plant.changes)
    plant.plan(1, (0.0, 20_000.0))
    plant.run(40)
    assert len(plant.changes) == before
    assert plant.image.announced_power_w == 20_000.0


def test_a_plan_that_ends_changes_nothing_as_long_as_the_load_goes_on() -> None:
    plant = Plant().settled()
    plant.announce(1, (0.0, 20_000.0), until_s=30.0)
    plant.run(60)
    assert len(plant.changes) == 1
    assert plant.image.announced_power_w == 0.0
    assert abs(plant.total_w) < 50


def test_an_edge_whose_time_is_uncertain_is_not_scheduled() -> None:
    plant = Plant().settled()
    plant.load(ch=1, power_w=20_000.0)
    plant.run(40)
    before = len(plant.changes)
    plant.plan(1, (0.0, 20_000.0), (20.0, 0.0), sigma_s=5.0)
    plant.run(35)
    assert len(plant.changes) == before
    assert abs(plant.total_w) < 50
    plant.announce(1, (0.0, 0.0))  # the end came: the new step's plan says so
    plant.run(3)
    assert len(plant.changes) == before + 1
    assert abs(plant.total_w) < 50


def test_an_edge_whose_time_is_nearly_certain_is_scheduled() -> None:
    plant = Plant().settled()
    plant.plan(1, (0.0, 0.0), (20.0, 20_000.0), sigma_s=0.5)
    plant.run(19)
    assert len(plant.changes) == 1


def test_a_plan_that_knows_less_than_the_budget_can_follow_announces_nothing() -> None:
    plant = Plant().settled()
    plant.announce(1, (0.0, 20_000.0), until_s=3.0)
    plant.run(14)
    assert plant.changes == []
    plant.run(5)
    assert plant.changes[0][1].reason == "load_step"


def test_a_plan_that_telemetry_contradicts_is_dropped_and_counted() -> None:
    plant = Plant().settled()
    plant.plan(1, (0.0, 20_000.0))  # and nothing happens
    plant.run(2)
    assert len(plant.changes) == 1
    plant.run(30)
    assert plant.book.ignored["plan_contradicted"] == 1
    assert plant.image.announced_power_w == 0.0
    assert abs(plant.total_w) < 50


@pytest.mark.parametrize(("does_w", "dropped"), [(19_100.0, 0), (20_900.0, 0), (18_800.0, 1), (21_400.0, 1)])
def test_a_channel_more_than_five_per_cent_off_loses_its_plan_and_no_other_does(does_w: float, dropped: int) -> None:
    plant = Plant(loads=4).settled()
    plant.announce(2, (0.0, 10_000.0))
    plant.plan(1, (0.0, 20_000.0))
    plant.load(1, does_w)
    plant.run(3.4)
    assert plant.book.ignored["plan_contradicted"] == 0  # telemetry may be behind its plan, and one reading is none
    plant.run(3)
    assert plant.book.ignored["plan_contradicted"] == dropped
    assert plant.image.announced_power_w == 10_000.0 + (0.0 if dropped else 20_000.0)
    plant.run(40)
    assert abs(plant.total_w) < 50


def test_a_drift_off_the_plan_is_followed_as_unannounced() -> None:
    plant = Plant().settled()
    plant.announce(1, (0.0, 20_000.0))
    plant.run(30)
    plant.load(ch=1, power_w=20_600.0)  # 3 %: still the plan's
    plant.run(10)
    assert len(plant.changes) == 1
    plant.run(12)
    assert len(plant.changes) == 2
    assert plant.image.announced_power_w == 20_000.0
    assert abs(plant.total_w) < 50


def test_an_edge_called_off_in_time_is_called_off_at_the_station() -> None:
    plant = Plant().settled()
    plant.plan(1, (0.0, 0.0), (10.0, 20_000.0))
    plant.run(8)
    assert len(plant.changes) == 1
    plant.plan(1, (0.0, 0.0))
    plant.run(20)
    assert plant.eq().commanded == []
    assert plant.orders[1][1].reason == "plan_changed"


def test_announced_steps_do_not_restart_the_wait_for_an_unannounced_one() -> None:
    plant = Plant(equalizers=3).settled()
    begun_s = plant.now_s
    plant.load(ch=2, power_w=5000.0)
    plant.announce(1, (0.0, 0.0), (6.0, 30_000.0))
    plant.run(20)
    confirmed = [at_s for at_s, order in plant.changes if order.reason == "load_step"]
    assert confirmed == [pytest.approx(begun_s + 15.5, abs=1.0)]
    assert abs(plant.total_w) < 50


def test_many_channels_that_step_together_take_one_change() -> None:
    plant = Plant(loads=6).settled()
    for ch in range(1, 7):
        plant.announce(ch, (0.0, 0.0), (12.0 + 0.05 * ch, 5000.0))
    plant.run(25)
    assert len(plant.changes) == 1
    assert abs(plant.total_w) < 50


def test_noise_at_rest_does_not_contradict_a_plan_to_rest() -> None:
    plant = Plant().settled()
    plant.announce(1, (0.0, 20_000.0), (10.0, 0.0))
    plant.run(40)
    plant.channels["1"].noise_w = 50.0
    plant.announce(1, (0.0, 0.0))
    plant.run(20)
    assert plant.book.ignored["plan_contradicted"] == 0


def test_nothing_is_said_again_that_could_arrive_after_the_change_it_still_announces() -> None:
    plant = Plant(refresh_s=0.4).settled()
    plant.announce(1, (0.0, 0.0), (20.0, 20_000.0))
    plant.run(30)
    again = [order for _, order in plant.orders if order.reason in ("renew", "resend") and len(order.steps) > 1]
    assert again
    assert all(order.steps[1].after_s > 1.0 for order in again)
    assert plant.eq().power_w == -20_000.0


@pytest.mark.parametrize("gap_s", [3.4, 4.0, 4.6, 5.0])
def test_a_channel_that_is_about_to_step_is_told_of_the_next_edge_after_its_step(gap_s: float) -> None:
    # Hall 1795700040: told a moment before, it took the step back for as long as the order was on its way.
    plant = Plant(policy=Policy.DWELL, delay_s=3.0)
    plant.eq().ramp_w_per_s = 20e3  # slow enough that the second edge wants its ramp to be sent before the first is met
    plant.settled()
    plant.plan(1, (0.0, 0.0), (10.0, 5e3), (10.0 + gap_s, 30e3))
    plant.load(1, 5e3, after_s=10.0)
    plant.load(1, 30e3, after_s=10.0 + gap_s)
    plant.run(25)
    assert [power_w for _, power_w in plant.eq().commanded] == [-5e3, -30e3]
    sent_s = [at_s for at_s, _ in plant.orders]
    for step_s, _ in plant.eq().commanded:
        assert not [at_s for at_s in sent_s if step_s - QUIET_S < at_s < step_s - 0.01]


@pytest.mark.parametrize("notice_s", [0.3, 8.0])
@pytest.mark.parametrize(
    ("announced_w", "met_w"), [(-20_000.0, 0.0), (-8_000.0, 0.0), (-30_000.0, 10_000.0), (5_000.0, -5_000.0)]
)
def test_what_makes_up_for_an_imbalance_that_is_not_confirmed_yet_is_left_to_do_so(
    notice_s: float, announced_w: float, met_w: float
) -> None:
    plant = Plant(equalizers=2, engage_w=1000.0, release_w=300.0)
    plant.load(ch=2, power_w=30_000.0)
    plant.load(ch=1, power_w=-30_000.0)
    plant.settled(20.0)
    plant.plan(2, (0.0, 30_000.0))
    plant.run(5.0)
    plant.load(ch=3, power_w=20_000.0)  # nobody has announced it
    plant.run(4.0)
    plant.announce(2, (0.0, 30_000.0), (notice_s, 30_000.0 + announced_w))
    plant.run(notice_s + 2.0)
    assert plant.total_w == pytest.approx(20_000.0 + announced_w + met_w, abs=50.0)
    plant.run(15.0)
    assert abs(plant.total_w) < 50.0
    met = 0 if met_w == 0.0 else 1
    confirmed = 0 if abs(20_000.0 + announced_w) < 1.0 or announced_w < -20_000.0 else 1
    assert len(plant.changes) == met + confirmed
