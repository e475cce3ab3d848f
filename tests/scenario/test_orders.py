"""Orders: renewed, sent again, refused; pause, stop, adoption, limits."""

from itertools import pairwise

import pytest

from schemas.messages import Policy, SetpointReason
from tests.scenario.hall import LEASE_S, Channel, Plant


def balanced(**settings: object) -> Plant:
    """A hall with a load of 20 kW, balanced."""
    plant = Plant(policy=Policy.DWELL, **settings).settled()  # type: ignore[arg-type]  # test keywords
    plant.load(ch=1, power_w=20_000.0)
    plant.run(20)
    assert abs(plant.total_w) < 50
    return plant


def test_leases_are_renewed_on_the_newest_telemetry_without_a_change() -> None:
    plant = balanced()
    before = len(plant.orders)
    plant.run(60)
    renewals = plant.orders[before:]
    assert len(renewals) == 12
    for _, order in renewals:
        assert order.kind == "refresh"
        assert [step.power_w for step in order.steps] == [-20_000.0]
    assert renewals[-1][1].basis.seq >= plant.eq().seq - 6
    assert len(plant.eq().commanded) == 1


def test_an_order_that_got_lost_is_sent_again_at_no_cost() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.eq().deaf = True
    plant.load(ch=1, power_w=20_000.0)
    plant.run(2)
    plant.eq().deaf = False
    plant.run(4)
    assert [(order.kind, order.reason) for _, order in plant.orders] == [("change", "load_step"), ("refresh", "resend")]
    assert abs(plant.total_w) < 50


def test_a_channel_that_never_answers_is_not_counted_upon() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=2).settled()
    plant.eq(1).deaf = True
    plant.load(ch=1, power_w=20_000.0)
    plant.run(15)
    assert plant.eq(2).power_w == pytest.approx(-20_000.0)
    assert abs(plant.total_w) < 50


@pytest.mark.parametrize("reason", [SetpointReason.STALE_EPOCH, SetpointReason.EPOCH_CONFLICT])
def test_a_channel_that_rejects_is_not_counted_upon_until_it_accepts(reason: SetpointReason) -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=2).settled()
    plant.eq(1).rejects = reason
    plant.load(ch=1, power_w=20_000.0)
    plant.run(10)
    assert plant.eq(2).power_w == pytest.approx(-20_000.0)
    plant.eq(2).limit_w = 20_000.0
    plant.eq(1).rejects = None
    plant.run(10)
    plant.load(ch=1, power_w=30_000.0)
    plant.run(20)
    assert plant.eq(1).power_w == pytest.approx(-10_000.0)
    assert abs(plant.total_w) < 50


def test_a_channel_with_an_alarm_gets_nothing() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=2).settled()
    plant.eq(1).alarm = True
    plant.run(2)
    plant.load(ch=1, power_w=20_000.0)
    plant.run(10)
    assert {order.channel for _, order in plant.orders} == {"e2"}


def test_a_channel_that_does_not_deliver_is_replaced() -> None:
    plant = Plant(policy=Policy.CONFIRM, equalizers=2).settled()
    plant.eq(1).delivers = 0.0
    plant.load(ch=1, power_w=20_000.0)
    plant.run(50)
    assert plant.eq(2).power_w == pytest.approx(-20_000.0)
    assert abs(plant.total_w) < 50


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("delivers", [0.0, 0.5, 1.3])
def test_every_change_of_what_is_sent_is_said_to_be_one(policy: Policy, delivers: float) -> None:
    plant = Plant(policy=policy, equalizers=2).settled()
    plant.eq(1).delivers = delivers
    plant.load(ch=1, power_w=20_000.0)
    plant.run(60)
    sent_w = {"e1": 0.0, "e2": 0.0}
    for _, order in plant.orders:
        (step,) = order.steps
        assert (order.kind == "change") == (step.power_w != sent_w[order.channel])
        sent_w[order.channel] = step.power_w


@pytest.mark.parametrize("policy", list(Policy))
def test_a_channel_that_delivers_too_much_is_not_asked_for_more(policy: Policy) -> None:
    plant = Plant(policy=policy).settled()
    plant.eq().delivers = 1.3
    plant.load(ch=1, power_w=20_000.0)
    plant.run(120)
    assert min(power_w for _, power_w in plant.eq().commanded) == -20_000.0


@pytest.mark.parametrize("policy", list(Policy))
def test_a_limit_that_dips_does_not_bring_two_changes_within_the_delay(policy: Policy) -> None:
    plant = Plant(policy=policy).settled()
    plant.load(ch=1, power_w=-20_000.0)
    plant.run(30)
    plant.eq().charge_limit_w = 5000.0
    plant.run(8)
    plant.eq().charge_limit_w = None
    plant.run(30)
    (_, (cut_s, cut), (back_s, back)) = plant.changes
    assert (cut.reason, cut.steps[0].power_w, back.steps[0].power_w) == ("limits", 5000.0, 20_000.0)
    assert back_s - cut_s >= plant.settings.delay_s


def test_a_lease_that_ran_out_is_seen_and_made_good() -> None:
    plant = balanced()
    plant.eq().deaf = True
    plant.run(LEASE_S + 5)
    assert plant.eq().power_w == 0.0
    plant.eq().deaf = False
    plant.run(30)
    assert abs(plant.total_w) < 50


def test_a_limit_that_shrinks_moves_the_rest_to_another_channel() -> None:
    plant = balanced(equalizers=2)
    plant.load(ch=1, power_w=-20_000.0)
    plant.run(30)
    plant.eq(1).charge_limit_w = 5000.0
    plant.run(20)
    assert abs(plant.total_w) < 50
    assert plant.eq(2).power_w == pytest.approx(15_000.0)


def test_beyond_the_limits_it_is_saturated_and_says_what_is_missing() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.load(ch=1, power_w=75_000.0)
    plant.run(10)
    assert plant.phase == "saturated"
    assert plant.decisions[-1][1].shortfall_w == pytest.approx(-15_000.0)
    assert plant.reason == "no_headroom"
    plant.load(ch=1, power_w=50_000.0)
    plant.run(20)
    assert plant.phase == "balancing"
    assert plant.decisions[-1][1].shortfall_w == 0.0


def test_pause_brings_everything_to_zero_and_then_sends_nothing() -> None:
    plant = balanced(equalizers=2)
    plant.pause()
    plant.run(5)
    assert plant.phase == "paused"
    assert plant.eq(1).power_w == plant.eq(2).power_w == 0.0
    before = len(plant.orders)
    plant.run(60)
    assert len(plant.orders) == before


def test_a_pause_that_got_lost_is_said_again() -> None:
    plant = balanced()
    plant.eq().deaf = True
    plant.pause()
    plant.run(2)
    plant.eq().deaf = False
    plant.run(5)
    assert plant.eq().power_w == 0.0


def test_resume_balances_again_after_the_delay() -> None:
    plant = Plant().settled()
    plant.load(ch=1, power_w=20_000.0)
    plant.run(30)
    plant.pause()
    plant.run(20)
    plant.resume()
    plant.run(14)
    assert plant.eq().power_w == 0.0
    plant.run(5)
    assert abs(plant.total_w) < 50


def test_stop_says_zero_to_every_equalization_channel() -> None:
    plant = balanced(equalizers=3)
    orders = plant.stop()
    assert [order.channel for order in orders] == ["e1", "e2", "e3"]
    assert all([step.power_w for step in order.steps] == [0.0] for order in orders)


def test_at_the_start_it_takes_over_what_the_channels_do() -> None:
    plant = Plant()
    plant.eq().applied_w = plant.eq().power_w = -20_000.0
    plant.eq().expires_s = plant.now_s + 20.0
    plant.load(ch=1, power_w=20_000.0)
    plant.run(60)
    assert plant.changes == []
    assert plant.orders[0][1].steps[0].power_w == -20_000.0
    assert abs(plant.total_w) < 50


def test_without_an_equalization_channel_all_that_would_be_asked_is_short() -> None:
    plant = Plant(equalizers=0).settled()
    assert plant.phase == "balancing"
    plant.load(ch=1, power_w=20_000.0)
    plant.run(5)
    assert plant.phase == "saturated"
    assert plant.decisions[-1][1].shortfall_w == pytest.approx(-20_000.0, abs=1.0)
    assert plant.changes == []


def test_a_new_equalization_channel_is_used() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=0, loads=2).settled()
    plant.load(ch=1, power_w=10_000.0)
    plant.run(5)
    plant.channels["2"].equalizing = True
    plant.run(20)
    assert abs(plant.total_w) < 50


def test_a_channel_taken_out_of_the_mode_is_replaced_at_once() -> None:
    plant = balanced(equalizers=2)
    worker = plant.eq(1)
    assert worker.power_w == -20_000.0
    worker.equalizing = False
    worker.power_w = 0.0
    plant.run(18)
    assert plant.eq(2).power_w == pytest.approx(-20_000.0)
    assert abs(plant.total_w) < 50


def assert_kept_the_delay(channel: Channel, delay_s: float) -> None:
    for (first_s, _), (second_s, _) in pairwise(channel.commanded):
        assert second_s - first_s >= delay_s - 0.11  # a tick of the plant


def test_a_channel_that_left_the_mode_and_is_back_is_not_changed_sooner_for_that() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.load(ch=1, power_w=20_000.0)
    plant.run(2)
    plant.take_out()
    plant.run(2)
    plant.eq().equalizing = True
    plant.load(ch=1, power_w=30_000.0)
    plant.run(20)
    assert [power_w for _, power_w in plant.eq().commanded] == [-20_000.0, -30_000.0]
    assert_kept_the_delay(plant.eq(), plant.settings.delay_s)


def test_a_new_server_does_not_change_what_the_last_one_may_have_changed_just_now() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.load(ch=1, power_w=20_000.0)
    plant.run(2)
    plant.restart_server()
    plant.load(ch=1, power_w=30_000.0)
    plant.run(25)
    assert [power_w for _, power_w in plant.eq().commanded] == [-20_000.0, -30_000.0]
    assert_kept_the_delay(plant.eq(), plant.settings.delay_s)


def test_a_new_server_acts_at_once_where_the_old_leases_are_over() -> None:
    plant = balanced()
    plant.eq().deaf = True
    plant.run(LEASE_S + 2)
    plant.eq().deaf = False
    plant.restart_server()
    plant.run(5)
    assert abs(plant.total_w) < 50


@pytest.mark.parametrize("policy", list(Policy))
def test_opposite_signs_that_it_finds_are_ended(policy: Policy) -> None:
    plant = Plant(policy=policy, equalizers=2)
    for n, power_w in ((1, -10_000.0), (2, 12_000.0)):
        plant.eq(n).applied_w = plant.eq(n).power_w = power_w
    plant.load(ch=1, power_w=-2000.0)
    plant.run(30)
    assert sorted(plant.eq(n).power_w for n in (1, 2)) == [0.0, 2000.0]
    assert abs(plant.total_w) < 50


def test_a_channel_that_does_half_counts_for_half_and_another_takes_the_rest() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=2).settled()
    plant.eq(1).delivers = 0.5
    plant.load(ch=1, power_w=30_000.0)
    plant.run(35)
    assert abs(plant.total_w) < 100
    assert plant.eq(1).power_w == -15_000.0
    cap = plant.state.holds["s", "e1"].discharge_cap
    assert cap is not None
    assert cap.power_w == 15_000.0


def test_a_channel_that_cannot_charge_is_still_asked_to_discharge() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.eq().charges = 0.0
    plant.load(ch=1, power_w=-20_000.0)
    plant.run(22)
    assert (plant.phase, plant.reason) == ("saturated", "not_delivering")
    plant.load(ch=1, power_w=20_000.0)
    plant.run(25)
    assert plant.eq().power_w == -20_000.0
    assert abs(plant.total_w) < 100


def test_a_dead_channel_is_tried_again_ever_more_seldom_and_used_once_it_works() -> None:
    plant = Plant(policy=Policy.DWELL, delay_s=2.0).settled()
    plant.eq().delivers = 0.0
    plant.load(ch=1, power_w=20_000.0)
    plant.run(240)
    told = [(plant.now_s, 0.0), *plant.eq().commanded]
    asked_s = [at_s for (_, before_w), (at_s, power_w) in pairwise(told) if before_w == 0.0 and power_w < 0.0]
    waits_s = [later - earlier for earlier, later in pairwise(asked_s)]
    assert waits_s[-1] > 30.0
    assert waits_s[1:] == sorted(waits_s[1:])  # it is found out in 10 s first, and in 2 s from then on
    assert 5 <= len(asked_s) <= 10
    plant.eq().delivers = 1.0
    plant.run(60)
    assert abs(plant.total_w) < 100
    assert plant.phase == "balancing"


def test_trying_a_dead_channel_again_keeps_the_delay() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=2).settled()
    plant.eq(1).delivers = 0.0
    for n in range(20):
        plant.load(ch=1, power_w=20_000.0 * (-1) ** n, after_s=17.0 * n)
    plant.run(360)
    withdrawn_s = {round(at_s, 1) for at_s, order in plant.changes if order.reason == "not_delivering"}
    assert withdrawn_s
    for n in (1, 2):
        told_s = [at_s for at_s, power_w in plant.eq(n).commanded if power_w != 0.0 or not _near(at_s, withdrawn_s)]
        assert all(later - earlier >= plant.settings.delay_s for earlier, later in pairwise(told_s))


def _near(at_s: float, times_s: set[float]) -> bool:
    """Tell whether a channel was told something at one of the times, or with the next tick."""
    return any(0.0 <= at_s - time_s <= 0.15 for time_s in times_s)


def test_a_pause_that_is_taken_back_before_any_telemetry_changes_no_channel_twice() -> None:
    plant = Plant(policy=Policy.DWELL, delay_s=5.0).settled()
    plant.load(ch=1, power_w=9_000.0)
    plant.run(20.0)
    plant.pause()
    plant.decide()
    plant.resume()
    plant.run(4.0)
    at_rest_s = [at_s for at_s, power_w in plant.eq().commanded if power_w == 0.0][-1]
    assert [at_s for at_s, _ in plant.eq().commanded if at_s > at_rest_s] == []
    plant.run(10.0)
    assert abs(plant.total_w) < 100.0


def test_a_freeze_that_ends_leaves_what_was_sent_ahead_as_it_was() -> None:
    plant = Plant(policy=Policy.CONFIRM, delay_s=5.0, freeze_w=3_000.0, loads=2).settled()
    plant.load(ch=2, power_w=5_000.0)
    plant.announce(1, (0.0, 9_000.0), (22.0, -9_000.0))
    plant.run(20.4)
    assert len(plant.orders[-1][1].steps) == 2  # the edge is near, and its change is on its way
    plant.channels["2"].silent = True
    plant.run(1.2)
    commanded = len(plant.eq().commanded)
    plant.channels["2"].silent = False
    plant.run(4.0)
    changes = plant.eq().commanded[commanded:]
    assert len(changes) <= 1, changes


@pytest.mark.parametrize(
    ("load_w", "taken"), [(30_000.0, "e1"), (60_000.0, "e2"), (-30_000.0, "e1"), (-60_000.0, "e2")]
)
def test_of_two_equal_batteries_the_channel_that_loses_least_is_taken(load_w: float, taken: str) -> None:
    curves = {
        ("s", "e1"): ((10e3, 0.90), (30e3, 0.97), (60e3, 0.90)),
        ("s", "e2"): ((10e3, 0.85), (30e3, 0.90), (60e3, 0.97)),
    }
    plant = Plant(policy=Policy.DWELL, equalizers=2, curves=curves).settled()
    plant.load(ch=1, power_w=load_w)
    plant.run(5)
    assert {order.channel for _, order in plant.changes} == {taken}
    assert abs(plant.total_w) < 50


def test_what_was_sent_ahead_is_not_taken_for_called_off_where_the_channel_cannot_be_told() -> None:
    plant = Plant(policy=Policy.CONFIRM, delay_s=5.0, period_s=0.5).settled()
    plant.announce(1, (0.0, 9_000.0), (22.0, -9_000.0))
    plant.run(20.0)
    assert len(plant.orders[-1][1].steps) == 2
    for channel in plant.channels.values():
        channel.silent = True  # the server hears nobody: no edge is announced any more, and no order can go out
    plant.run(3.0)
    for channel in plant.channels.values():
        channel.silent = False
    plant.run(8.0)
    assert_kept_the_delay(plant.eq(), 5.0)


def test_an_order_that_nobody_answered_is_void_when_its_lease_is_over() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.load(ch=1, power_w=10_000.0)
    plant.run(20)
    plant.eq().deaf = True
    plant.load(ch=1, power_w=20_000.0)
    plant.run(1.5)
    plant.eq().silent = True
    plant.run(LEASE_S + 15)
    assert plant.eq().power_w == 0.0
    back_s = plant.now_s
    plant.eq().deaf = plant.eq().silent = False
    plant.load(ch=1, power_w=25_000.0, after_s=0.8)
    plant.run(20)
    first = next(order for at_s, order in plant.orders if at_s > back_s and order.steps[-1].power_w != 0.0)
    assert first.kind == "change"
    told_s = [at_s for at_s, _ in plant.eq().commanded]
    assert all(later - earlier >= plant.settings.delay_s for earlier, later in pairwise(told_s))
    assert abs(plant.total_w) < 50
