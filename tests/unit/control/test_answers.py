"""Which echo answers which order, where several are on their way."""

from dataclasses import replace
from itertools import pairwise

import pytest

from equalizer.control import holds
from equalizer.control.adoption import adopt, left
from equalizer.control.answers import reconcile
from equalizer.control.book import LoopBook
from equalizer.control.cycle import Cycle
from equalizer.control.image import EqualizationView
from equalizer.control.lookahead import Move
from equalizer.control.reasons import Reason
from equalizer.control.settings import LOCK_MARGIN_S, ControlSettings
from equalizer.control.state import Hold, Readout
from equalizer.control.travel import least_s
from schemas.messages import SetpointEcho, SetpointResult

SETTINGS = ControlSettings(delay_s=15.0, period_s=1.0)


def view(seq: int, echo: int, applied_w: float) -> EqualizationView:
    return EqualizationView(
        key=("eq", "1"),
        boot_id="boot",
        seq=seq,
        heard_s=1000.0 + seq,
        fresh=True,
        station_online=True,
        power_w=applied_w,
        charge_limit_w=50e3,
        discharge_limit_w=50e3,
        ramp_w_per_s=50e3,
        applied_w=applied_w,
        last=SetpointEcho(server="a", epoch=1, seq=echo, result=SetpointResult.APPLIED, reason=None),
        soc_ratio=0.5,
        alarm=False,
    )


def known(one: EqualizationView) -> Hold:
    """A hold of a channel that has stood there for long."""
    hold = reconcile(adopt(one, SETTINGS, 995.0), replace(one, seq=one.seq + 1), SETTINGS, 1001.0)
    return replace(hold, changed_s=900.0, prior_changed_s=900.0)


def changed() -> Hold:
    """A hold whose refresh (seq 5) was still on its way when its change (seq 6) went out."""
    before = view(1, echo=4, applied_w=5e3)
    hold = holds.sent(known(before), before, 1001.0)
    hold = holds.change(hold, before, 20e3, 1001.5, settings=SETTINGS, now_s=1001.5)
    return holds.sent(hold, before, 1001.5)


@pytest.mark.parametrize(("echo", "answered"), [((3, 9), False), ((4, 1), False), ((4, 2), True), ((5, 1), True)])
def test_of_two_orders_under_a_new_epoch_the_first_ones_answer_is_none_to_the_second(
    echo: tuple[int, int],
    answered: bool,
) -> None:
    # Seed 1795430014 (servers): the change counted as made, its renewal made it, and the next change came too soon.
    def told(seq: int, epoch: int, number: int) -> EqualizationView:
        last = SetpointEcho(server="a", epoch=epoch, seq=number, result=SetpointResult.APPLIED, reason=None)
        return replace(view(seq, echo=1, applied_w=0.0), last=last)

    before = told(1, 3, 8)
    hold = replace(holds.sent(known(before), before, 1001.0), order=(4, 1))
    hold = holds.change(hold, before, 20e3, 1001.3, settings=SETTINGS, now_s=1001.3)
    hold = replace(holds.sent(hold, before, 1001.3), order=(4, 2))
    hold = reconcile(hold, told(2, *echo), SETTINGS, 1002.0)
    assert hold.answered is answered
    assert hold.pending is not answered


def test_a_lease_ends_when_the_channel_says_so_and_what_has_run_out_is_not_renewed_while_locked() -> None:
    # Seed 3166 (servers): the order's basis had waited on the way, so that its lease was over as it came.
    before = view(1, echo=4, applied_w=0.0)
    hold = holds.change(known(before), before, 20e3, 1001.0, settings=SETTINGS, now_s=1001.0)
    hold = holds.sent(hold, before, 1001.0)
    told = view(2, echo=5, applied_w=20e3)
    last = SetpointEcho(server="a", epoch=1, seq=5, result=SetpointResult.APPLIED, reason=None, expires_in_s=0.02)
    hold = reconcile(hold, replace(told, last=last), SETTINGS, 1002.0)
    assert hold.answered
    assert hold.leased_s == pytest.approx(1002.02)
    assert not holds.is_due(hold, SETTINGS, 1007.0), "to renew it would be a change"


def test_the_answer_to_a_refresh_is_none_to_the_change_that_went_out_after_it() -> None:
    hold = reconcile(changed(), view(2, echo=5, applied_w=5e3), SETTINGS, 1002.0)
    assert not hold.answered
    assert hold.pending, "should the change have got lost, sending it again makes it"
    hold = reconcile(hold, view(3, echo=6, applied_w=20e3), SETTINGS, 1003.0)
    assert hold.answered
    assert not hold.pending


def test_a_change_that_got_lost_counts_from_when_it_was_sent_again() -> None:
    late = view(2, echo=5, applied_w=5e3)
    hold = reconcile(changed(), late, SETTINGS, 1002.0)
    hold = holds.sent(hold, late, 1004.0)
    assert hold.changed_s == 1004.0
    assert reconcile(hold, view(5, echo=7, applied_w=20e3), SETTINGS, 1005.0).answered


def test_an_answer_that_leaves_lost_orders_out_answers_the_newest() -> None:
    hold = changed()
    assert reconcile(hold, view(2, echo=6, applied_w=20e3), SETTINGS, 1002.0).answered
    other = replace(view(2, echo=1, applied_w=20e3), last=replace_epoch(2))
    assert reconcile(hold, other, SETTINGS, 1002.0).answered, "of another epoch nothing is known"


def test_a_channel_that_was_taken_over_has_answered_all_that_went_out_before() -> None:
    # Trial 1795430025: what had gone out before counted on; a step that was to come was taken back.
    hold = adopt(view(2, echo=6, applied_w=20e3), SETTINGS, 1004.0, changed())
    quick = replace(SETTINGS, delay_s=2.0)
    hold = holds.change(hold, view(2, 6, 20e3), -8e3, 1006.0, settings=quick, now_s=1004.0)
    hold = holds.sent(hold, view(2, echo=6, applied_w=20e3), 1004.0)
    hold = adopt(view(8, echo=7, applied_w=20e3), SETTINGS, 1008.0, hold)
    assert ([level.power_w for level in hold.levels], hold.under_way) == ([-8e3], 0)


def test_what_a_broker_remembers_of_a_channel_is_not_taken_for_what_it_does() -> None:
    # Trial 3022: a broker that crashed brought telemetry back that was older than the order to rest, and the server,
    # connected again, took the power of then over and sent it; two changes within the delay.
    hold = holds.sent(changed(), view(2, echo=6, applied_w=20e3), 1004.0)
    old = replace(view(1, echo=4, applied_w=5e3), heard_s=1010.0, fresh=False)
    hold = adopt(old, SETTINGS, 1012.0, hold)
    assert reconcile(hold, old, SETTINGS, 1012.1) == hold
    now = replace(view(9, echo=7, applied_w=20e3), heard_s=1013.0)
    hold = reconcile(hold, now, SETTINGS, 1013.0)
    assert [level.power_w for level in hold.levels] == [20e3]
    assert hold.changed_s == 1004.0
    assert hold.answered


def test_a_channel_that_is_known_by_the_brokers_memory_alone_is_taken_over_when_it_speaks() -> None:
    old = replace(view(1, echo=4, applied_w=5e3), fresh=False)
    hold = adopt(old, SETTINGS, 1005.0)
    hold = reconcile(hold, view(9, echo=5, applied_w=-8e3), SETTINGS, 1010.0)
    assert [level.power_w for level in hold.levels] == [-8e3]
    assert hold.changed_s == 1010.0, "nobody tells when it was changed"


def test_a_change_that_was_seen_to_come_late_counts_from_when_it_was_seen_to_have_come() -> None:
    # Trial 3054: a change was on its way for longer than the margin; the next one came within the delay after it.
    hold = reconcile(changed(), view(2, echo=4, applied_w=5e3), SETTINGS, 1002.0)
    hold = reconcile(hold, view(3, echo=6, applied_w=20e3), SETTINGS, 1003.0)
    assert hold.answered
    assert hold.changed_s == 1003.0


def test_a_change_whose_answer_is_long_in_coming_counts_from_the_answer() -> None:
    # Trial 2010: nothing was heard for seconds, and the order had waited as long as the telemetry.
    hold = reconcile(changed(), view(8, echo=6, applied_w=20e3), SETTINGS, 1008.0)
    assert (hold.answered, hold.changed_s) == (True, 1008.0)


def test_a_change_ahead_that_came_late_comes_late() -> None:
    before = view(1, echo=4, applied_w=5e3)
    hold = known(before)
    hold = holds.change(hold, before, 20e3, 1011.0, settings=SETTINGS, now_s=1001.0)
    hold = holds.sent(hold, before, 1001.0)
    ahead_s = hold.levels[-1].at_s - 1001.0
    hold = reconcile(hold, view(2, echo=4, applied_w=5e3), SETTINGS, 1002.0)
    hold = reconcile(hold, view(3, echo=5, applied_w=5e3), SETTINGS, 1003.0)
    assert hold.changed_s == 1003.0 + ahead_s


def test_a_renewal_that_does_not_come_is_in_doubt_where_the_channel_has_come_to_rest() -> None:
    # Trial 1795450084: the lease ended as it waited in a network that was stuck, and a step was planned behind it.
    hold = holds.sent(known(view(1, 4, 5e3)), view(1, 4, 5e3), 1001.0)
    assert not hold.is_in_doubt
    assert not reconcile(hold, view(2, echo=4, applied_w=5e3), SETTINGS, 1002.0).is_in_doubt
    assert reconcile(hold, ended(view(2, echo=4, applied_w=0.0)), SETTINGS, 1002.0).is_in_doubt


def test_a_step_that_was_sent_ahead_and_that_nobody_heard_of_is_seen_where_the_channel_stands() -> None:
    # Trial 3247: the broker remembered telemetry of before the step; the same setpoint was still obeyed after it.
    hold = adopt(replace(view(1, echo=4, applied_w=-3e3), fresh=False), SETTINGS, 1005.0)
    hold = reconcile(hold, view(30, echo=4, applied_w=16e3), SETTINGS, 1030.0)
    assert [level.power_w for level in hold.levels] == [16e3]
    assert hold.changed_s == 1030.0


def test_a_channel_on_its_ramp_is_taken_over_where_it_comes_to() -> None:
    # Trial 3121: who came while a channel was on its way to what another had asked made a level of what it passed.
    ramping = replace(view(2, echo=6, applied_w=-13e3), power_w=-1e3)
    hold = adopt(ramping, SETTINGS, 1002.0)
    assert not hold.is_counted(1002.0)
    assert not holds.is_due(hold, SETTINGS, 1002.0)
    assert reconcile(hold, ramping, SETTINGS, 1002.5) == hold
    for second in (3, 6):
        hold = reconcile(hold, view(second, echo=6, applied_w=-16e3), SETTINGS, 1000.0 + second)
    assert [level.power_w for level in hold.levels] == [-16e3]
    assert hold.is_counted(1006.0)
    assert holds.is_due(hold, SETTINGS, 1006.0)


def test_a_step_that_another_has_sent_ahead_may_come_in_a_moment_and_is_waited_for() -> None:
    # Trial 1795470014: the first order of a server that had just been started took a step back that it did not know of.
    hold = adopt(view(1, echo=6, applied_w=-13e3), SETTINGS, 1001.0)
    hold = reconcile(hold, view(2, echo=6, applied_w=-13e3), SETTINGS, 1002.0)
    assert not hold.is_counted(1002.0)
    # Trial 1795900297: looked at late, it told of the time before the step.
    hold = reconcile(hold, view(3, echo=6, applied_w=-13e3), SETTINGS, 1003.6)
    assert not hold.is_counted(1003.6)
    hold = reconcile(hold, view(4, echo=6, applied_w=-13e3), SETTINGS, 1004.0)
    assert (hold.is_counted(1004.0), hold.changed_s) == (True, 1001.0)
    assert adopt(replace(view(1, echo=6, applied_w=0.0), last=None), SETTINGS, 1001.0).is_counted(1001.0)


def test_one_that_does_not_what_it_says_is_on_no_ramp() -> None:
    idle = replace(view(2, echo=6, applied_w=-13e3), power_w=0.0)
    hold = reconcile(adopt(idle, SETTINGS, 1002.0), replace(idle, seq=6, heard_s=1006.0), SETTINGS, 1006.0)
    assert hold.is_counted(1006.0)
    assert [level.power_w for level in hold.levels] == [-13e3]


def taken_back() -> Hold:
    """A hold whose change to 12 kW at 1003 s was sent ahead, answered, and taken back by a change to 7 kW at once."""
    before = view(1, echo=4, applied_w=5e3)
    hold = holds.change(known(before), before, 12e3, 1003.0, settings=SETTINGS, now_s=1001.0)
    hold = reconcile(holds.sent(hold, before, 1001.0), view(2, echo=5, applied_w=5e3), SETTINGS, 1002.0)
    again = holds.change(holds.call_off(hold), view(2, 5, 5e3), 7e3, 1002.2, settings=SETTINGS, now_s=1002.2)
    return holds.sent(again, view(2, 5, 5e3), 1002.2)


def test_a_change_whose_taking_back_got_lost_has_come_and_binds() -> None:
    # Hall 5005: the order that took a change back was lost; said again after it had come, it was another change.
    hold = taken_back()
    ahead_s = hold.superseded.at_s
    assert not holds.is_due(hold, SETTINGS, 1002.2 + 2.5), "it may have come"
    hold = reconcile(hold, view(4, echo=5, applied_w=12e3), SETTINGS, 1004.0)
    assert [level.power_w for level in hold.levels] == [12e3]
    assert (hold.changed_s, hold.answered, hold.superseded) == (ahead_s, True, None)
    assert holds.unlock_s(hold, SETTINGS) > ahead_s + SETTINGS.delay_s


def test_an_order_that_was_taken_for_lost_and_comes_after_all_is_what_the_channel_does() -> None:
    # Trial 3155: it had waited in a network that was stuck.
    hold = reconcile(taken_back(), view(4, echo=5, applied_w=12e3), SETTINGS, 1004.0)
    hold = reconcile(hold, view(7, echo=6, applied_w=7e3), SETTINGS, 1007.0)
    assert [level.power_w for level in hold.levels] == [7e3]
    assert hold.changed_s == 1007.0


def test_what_a_channel_obeys_that_was_given_up_is_what_it_does() -> None:
    # Trial 3272: orders to rest came after ten seconds in a network that was stuck; nobody counted upon them any more.
    hold = changed()
    for second in range(2, 18):
        hold = reconcile(hold, view(second, echo=4, applied_w=5e3), SETTINGS, 1000.0 + second)
        if holds.is_due(hold, SETTINGS, 1000.0 + second):
            hold = holds.sent(hold, view(second, 4, 5e3), 1000.0 + second)
    assert hold.rejected
    assert holds.sent(hold, view(17, 4, 5e3), 1017.5).changed_s == 1017.5, "it may come just before"
    hold = reconcile(hold, view(18, echo=6, applied_w=20e3), SETTINGS, 1018.0)
    assert [level.power_w for level in hold.levels] == [20e3]
    assert (hold.rejected, hold.changed_s) == (False, 1018.0)


def test_the_first_order_of_all_that_was_given_up_and_comes_is_what_the_channel_does() -> None:
    # Hall 1795500030: the channel had never answered anything before.
    before = replace(view(1, echo=4, applied_w=0.0), last=None)
    hold = holds.change(adopt(before, SETTINGS, 1001.0), before, 6e3, 1001.0, settings=SETTINGS, now_s=1001.0)
    hold = replace(holds.sent(hold, before, 1001.0), rejected=True)
    hold = reconcile(hold, view(9, echo=1, applied_w=6e3), SETTINGS, 1009.0)
    assert [level.power_w for level in hold.levels] == [6e3]


def test_the_first_order_of_an_epoch_that_was_given_up_and_comes_is_what_the_channel_does() -> None:
    # Trial 1795600126: what the channel had answered before was another server's; the order was given up.
    before = view(1, echo=9, applied_w=0.0)
    hold = holds.change(known(before), before, 6e3, 1001.0, settings=SETTINGS, now_s=1001.0)
    hold = holds.standing(replace(holds.sent(hold, before, 1001.0), rejected=True), 0.0, 1007.0)
    hold = reconcile(hold, replace(view(9, echo=1, applied_w=6e3), last=replace_epoch(2)), SETTINGS, 1009.0)
    assert ([level.power_w for level in hold.levels], hold.changed_s) == ([6e3], 1009.0)


def test_a_channel_that_is_not_heard_binds_the_sign_of_the_order_that_may_come_yet() -> None:
    # Hall 1795500030: its telemetry grew stale, another took the opposite sign, and then its order came.
    before = view(1, echo=4, applied_w=0.0)
    hold = holds.change(known(before), before, 6e3, 1001.0, settings=SETTINGS, now_s=1001.0)
    slot = holds.slot(before, holds.sent(hold, before, 1001.0), SETTINGS, 1005.0, counted=False)
    assert (slot.power_w, slot.lowest_w, slot.highest_w) == (0.0, 0.0, 6e3)


def test_a_change_that_is_being_taken_back_is_in_doubt() -> None:
    # Hall 1795500477: calling it off got lost, it came, and the next change in the same moment.
    before = view(1, echo=4, applied_w=5e3)
    hold = holds.change(known(before), before, 12e3, 1003.0, settings=SETTINGS, now_s=1001.0)
    hold = reconcile(holds.sent(hold, before, 1001.0), view(2, echo=5, applied_w=5e3), SETTINGS, 1002.0)
    hold = holds.sent(holds.call_off(hold), view(2, 5, 5e3), 1002.2)
    assert hold.is_in_doubt
    assert not reconcile(hold, view(3, echo=6, applied_w=5e3), SETTINGS, 1003.0).is_in_doubt


def test_an_order_is_on_its_way_to_a_channel_whose_lease_had_ended_before() -> None:
    # Hall 1795500574: after a pause in the decisions, the channel was taken for at rest and told so.
    before = ended(view(1, echo=4, applied_w=0.0))
    hold = holds.change(known(before), before, 6e3, 1001.0, settings=SETTINGS, now_s=1001.0)
    hold = adopt(ended(view(3, echo=4, applied_w=0.0)), SETTINGS, 1002.5, holds.sent(hold, before, 1001.0))
    assert ([level.power_w for level in hold.levels], hold.answered) == ([6e3], False)


def test_what_was_given_up_in_a_pause_of_the_decisions_may_come_before_the_first_order() -> None:
    # Trial 1795500372: it came half a second before, and was taken back unknowingly.
    again = view(8, echo=5, applied_w=5e3)
    hold = holds.sent(adopt(again, SETTINGS, 1008.0, changed()), again, 1008.0)
    assert hold.changed_s == 1008.0


def test_a_change_is_in_doubt_until_it_is_answered_or_given_up() -> None:
    # Trial 3304: a change got lost; sent again together with a step that was to follow it, it was a change just before
    # that. To take the step back alone left others with the sign that it was to make room for (halls 1795421111).
    hold = changed()
    assert hold.is_in_doubt
    assert reconcile(hold, view(2, echo=5, applied_w=5e3), SETTINGS, 1002.0).is_in_doubt
    assert not reconcile(hold, view(4, echo=6, applied_w=20e3), SETTINGS, 1004.0).is_in_doubt
    late = view(60, echo=5, applied_w=5e3)
    assert not reconcile(hold, late, SETTINGS, late.heard_s).is_in_doubt, "its lease would be over"


def test_a_change_that_was_taken_back_in_time_never_was() -> None:
    hold = reconcile(taken_back(), view(3, echo=6, applied_w=7e3), SETTINGS, 1003.0)
    assert [level.power_w for level in hold.levels] == [7e3]
    assert (hold.changed_s, hold.superseded) == (1002.2, None)


def test_what_took_a_change_back_is_said_again_where_neither_has_come() -> None:
    hold = taken_back()
    hold = reconcile(hold, view(9, echo=5, applied_w=5e3), SETTINGS, 1009.0)
    assert hold.superseded is None
    assert holds.is_due(hold, SETTINGS, 1009.0)


@pytest.mark.parametrize(("ttl_s", "free_in_s"), [(30.0, 0.0), (12.0, 15.0)])
def test_an_order_that_came_late_may_have_been_obeyed_until_its_lease_ended(ttl_s: float, free_in_s: float) -> None:
    # Trial 1795450049: a broker that stood still let an order through, which was over when the next server came.
    settings = replace(SETTINGS, ttl_s=ttl_s)
    hold = adopt(ended(view(2, echo=6, applied_w=0.0)), settings, 1002.0)
    assert holds.unlock_s(hold, settings) == 1002.0 + free_in_s + LOCK_MARGIN_S


def ended(one: EqualizationView) -> EqualizationView:
    return replace(one, last=one.last.model_copy(update={"result": SetpointResult.EXPIRED}))


def leased(one: EqualizationView, expires_in_s: float) -> EqualizationView:
    return replace(one, last=one.last.model_copy(update={"expires_in_s": expires_in_s}))


def test_a_late_refresh_changes_a_channel_whose_lease_has_run_out_and_no_other() -> None:
    # Trial 3056: the lease ended while a new server's first orders were held up; that they came was a change.
    for applied_w, lease_s, expected_s in ((5e3, 20.0, None), (0.0, 20.0, 1003.0), (5e3, 1.1, 1003.0)):
        before = leased(view(1, echo=4, applied_w=5e3), lease_s)
        refreshed = holds.sent(known(before), before, 1001.0)
        hold = reconcile(refreshed, leased(view(2, 4, applied_w), lease_s - 1.0), SETTINGS, 1002.0)
        hold = reconcile(hold, leased(view(3, 5, 5e3), 29.0), SETTINGS, 1003.0)
        assert hold.changed_s == (refreshed.changed_s if expected_s is None else expected_s)


def test_who_takes_over_when_the_lease_has_just_run_out_changes_the_channel() -> None:
    # Trial 3218: the new server's first order renewed what the channel had done, and changed it a moment later.
    hold = holds.sent(known(view(1, 4, 5e3)), view(1, 4, 5e3), 1001.0)
    hold = reconcile(hold, leased(view(2, 5, 5e3), 29.0), SETTINGS, 1002.0)
    last = leased(view(20, 5, 5e3), 0.5)
    assert adopt(last, SETTINGS, 1020.1, hold).changed_s == hold.changed_s
    assert holds.sent(adopt(last, SETTINGS, 1020.6, hold), last, 1020.6).changed_s == 1020.6
    just_changed = replace(hold, changed_s=1018.0)
    assert holds.is_due(adopt(last, SETTINGS, 1020.1, just_changed), SETTINGS, 1020.1)
    assert not holds.is_due(adopt(last, SETTINGS, 1020.6, just_changed), SETTINGS, 1020.6), "trial 1795500454"


def test_a_refresh_after_the_lease_is_a_change() -> None:
    # Trial 3166: telemetry that had waited in a network told of a lease that was over when its refresh came.
    before = leased(view(1, echo=4, applied_w=5e3), 20.0)
    hold = holds.sent(known(before), before, 1001.0)
    hold = reconcile(hold, leased(view(2, 5, 5e3), 29.0), SETTINGS, 1002.0)
    in_time = holds.sent(hold, before, 1001.0 + SETTINGS.ttl_s - 1.0)
    assert in_time.changed_s == hold.changed_s
    late_s = 1001.0 + SETTINGS.ttl_s
    assert holds.sent(hold, before, late_s).changed_s == late_s
    # What waited in the network says that the lease has hardly begun.
    back = leased(replace(view(3, 6, 5e3), heard_s=late_s), 29.0)
    assert adopt(back, SETTINGS, late_s, hold).changed_s == late_s
    at_rest = replace(hold, levels=(replace(hold.levels[0], power_w=0.0),))
    assert holds.sent(at_rest, before, late_s).changed_s == hold.changed_s


def replace_epoch(epoch: int) -> SetpointEcho:
    return SetpointEcho(server="a", epoch=epoch, seq=1, result=SetpointResult.APPLIED, reason=None)


def test_an_order_is_on_its_way_until_telemetry_could_have_answered_it() -> None:
    """A process that stood still has not listened: what it takes over first is older than its own last order."""
    waited = replace(view(2, echo=5, applied_w=5e3), heard_s=1008.0)
    hold = adopt(waited, SETTINGS, 1008.0, changed())
    assert not hold.answered
    assert hold.levels[-1].power_w == 20e3
    assert reconcile(hold, view(9, echo=6, applied_w=20e3), SETTINGS, 1009.0).answered


def test_an_order_that_much_telemetry_left_unanswered_is_lost() -> None:
    hold = adopt(view(8, echo=5, applied_w=5e3), SETTINGS, 1008.0, changed())
    assert hold.answered
    assert hold.levels[-1].power_w == 5e3


def heard_after(*lateness_s: float) -> Hold:
    """A hold whose orders went out so long before telemetry that did not answer them yet; the next did."""
    hold, seq = known(view(1, echo=4, applied_w=0.0)), 1
    for number, late_s in enumerate(lateness_s):
        sent_s = 1010.0 + 5.0 * number
        hold = holds.sent(hold, view(seq, echo=4 + number, applied_w=0.0), sent_s)
        if late_s > 0.0:
            seq += 1
            crossing = replace(view(seq, echo=4 + number, applied_w=0.0), heard_s=sent_s + late_s)
            hold = reconcile(hold, crossing, SETTINGS, sent_s + late_s)
            assert not hold.answered
        seq += 1
        answer = replace(view(seq, echo=5 + number, applied_w=0.0), heard_s=sent_s + 1.0)
        hold = reconcile(hold, answer, SETTINGS, sent_s + 1.0)
        assert hold.answered
    return hold


def test_telemetry_that_crosses_orders_shows_how_long_they_travel() -> None:
    hold = heard_after(*(0.1 * (number % 6) for number in range(20)))
    assert 0.2 <= hold.travel_s <= 0.25


def test_where_every_order_goes_out_just_after_telemetry_nothing_is_reckoned_with() -> None:
    assert heard_after(*[0.0] * 20).travel_s == 0.0


def test_how_long_messages_travel_is_taken_from_the_quickest_channel_of_which_it_is_known() -> None:
    slow = heard_after(*(0.1 * (number % 6) for number in range(20)))
    quick = heard_after(*(0.02 * (number % 6) for number in range(20)))
    new = heard_after(0.4)
    assert least_s([slow, new]) == slow.travel_s
    assert least_s([slow, quick, new]) == quick.travel_s
    assert least_s([new]) == least_s([]) == 0.0


def test_a_process_that_stood_still_now_and_then_is_no_slow_network() -> None:
    assert heard_after(0.1, 0.2, 4.0, 0.1, 6.0, 0.2).travel_s < 0.15


def test_a_change_at_once_is_in_force_when_it_arrives_and_one_ahead_is_counted_from_there() -> None:
    before = view(1, echo=4, applied_w=0.0)
    idle = replace(known(before), travel_s=0.25)
    now = holds.change(idle, before, 20e3, 1001.0, settings=SETTINGS, now_s=1001.0)
    assert now.changed_s == 1001.25
    assert holds.unlock_s(now, SETTINGS) >= 1001.25 + SETTINGS.delay_s
    ahead = holds.change(idle, before, 20e3, 1003.0, settings=SETTINGS, now_s=1001.0)
    (_, step) = holds.steps(ahead, before, 1001.0)
    assert step.after_s + 1001.25 == ahead.levels[-1].at_s


def test_should_orders_travel_longer_than_was_reckoned_the_next_change_waits_for_it() -> None:
    before = view(1, echo=4, applied_w=0.0)
    hold = replace(known(before), travel_s=0.1)
    hold = holds.change(hold, before, 20e3, 1001.0, settings=SETTINGS, now_s=1001.0)
    slower = replace(hold, travel_s=0.4)
    assert round(holds.unlock_s(slower, SETTINGS) - holds.unlock_s(hold, SETTINGS), 6) == 0.3


def test_what_has_gone_out_counts_as_changed_even_while_it_travels() -> None:
    before = view(1, echo=4, applied_w=0.0)
    hold = replace(known(before), travel_s=0.4)
    hold = holds.sent(holds.change(hold, before, 20e3, 1001.0, settings=SETTINGS, now_s=1001.0), before, 1001.0)
    gone = left(hold, SETTINGS, 1001.1)
    assert gone is not None
    assert gone.changed_s == 1001.4


@pytest.mark.parametrize("edge_s", [0.1, 1.0])
def test_of_two_changes_in_one_order_the_second_waits_from_when_the_first_comes(edge_s: float) -> None:
    # Hall 1795600164: the first was for an edge nearer than the order travels.
    before, now_s = view(2, echo=5, applied_w=5e3), 1002.0
    hold = replace(known(before), travel_s=0.4)
    hold = holds.change(hold, before, 20e3, now_s + edge_s, settings=SETTINGS, now_s=now_s)
    hold = holds.change(hold, before, 5e3, now_s + edge_s + 15.0, settings=SETTINGS, now_s=now_s)
    steps = [(0.4 + step.after_s, step.power_w) for step in holds.steps(hold, before, now_s)]
    came_s = [after_s for (_, was_w), (after_s, power_w) in pairwise([(0.0, 5e3), *steps]) if power_w != was_w]
    assert len(came_s) == 2
    assert came_s[1] - came_s[0] >= SETTINGS.delay_s


def test_no_sign_is_taken_for_a_time_to_come_while_another_channel_keeps_the_opposite() -> None:
    # Mixed hall, four hours: a course had one leave its sign at no edge, so untold, and another take the opposite one
    # at the next edge, which was sent ahead.
    first, second = view(2, echo=5, applied_w=-20e3), replace(view(2, echo=5, applied_w=0.0), key=("eq", "2"))
    both = {one.key: one for one in (first, second)}
    readout = Readout(equalization=(first, second), views=both, counted=frozenset(both))
    told = {one.key: known(one) for one in (first, second)}
    takes = Move(1005.0, second.key, 30e3)

    def made(*moves: Move) -> Cycle:
        cycle = Cycle(LoopBook(SETTINGS).image(1002.0), SETTINGS, 1002.0, readout, dict(told), is_read=True)
        cycle.make(moves, 1005.0, Reason.ANNOUNCED)
        return cycle

    assert made(takes).changed == {}
    leaves = made(takes, Move(1005.0, first.key, 0.0))
    assert set(leaves.changed) == {first.key}, "the other follows when that has been answered"
    told[first.key] = replace(leaves.holds[first.key], pending=False)
    taken_s, left_s = (made(takes).holds[key].levels[-1].at_s for key in (second.key, first.key))
    assert taken_s > left_s > 1002.0


@pytest.mark.parametrize("told_between", [True, False])
def test_an_order_whose_arrival_could_not_be_told_may_have_come_as_late_as_the_answer(told_between: bool) -> None:
    # Trial 1795800239: the station was cut off, and the order came when it was back, 1.3 s later.
    before = view(1, echo=5, applied_w=5e3)
    hold = replace(known(before), travel_s=0.3)
    hold = holds.sent(holds.change(hold, before, 20e3, 1001.2, settings=SETTINGS, now_s=1001.2), before, 1001.2)
    if told_between:
        hold = reconcile(hold, view(2, echo=5, applied_w=5e3), SETTINGS, 1002.0)
    hold = reconcile(hold, view(3, echo=6, applied_w=20e3), SETTINGS, 1003.0)
    assert hold.answered
    assert hold.changed_s == (1001.5 if told_between else 1003.0)
