"""Which echo answers which order, where several are on their way."""

from dataclasses import replace

from equalizer.control import holds
from equalizer.control.image import EqualizationView
from equalizer.control.settings import ControlSettings
from equalizer.control.state import Hold
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


def changed() -> Hold:
    """A hold whose refresh (seq 5) was still on its way when its change (seq 6) went out."""
    before = view(1, echo=4, applied_w=5e3)
    hold = holds.sent(holds.adopt(before, SETTINGS, 1001.0), before, 1001.0)
    hold = holds.change(hold, before, 20e3, 1001.5, settings=SETTINGS, now_s=1001.5)
    return holds.sent(hold, before, 1001.5)


def test_the_answer_to_a_refresh_is_none_to_the_change_that_went_out_after_it() -> None:
    hold = holds.reconcile(changed(), view(2, echo=5, applied_w=5e3), SETTINGS, 1002.0)
    assert not hold.answered
    assert hold.pending, "should the change have got lost, sending it again makes it"
    hold = holds.reconcile(hold, view(3, echo=6, applied_w=20e3), SETTINGS, 1003.0)
    assert hold.answered
    assert not hold.pending


def test_a_change_that_got_lost_counts_from_when_it_was_sent_again() -> None:
    late = view(2, echo=5, applied_w=5e3)
    hold = holds.reconcile(changed(), late, SETTINGS, 1002.0)
    hold = holds.sent(hold, late, 1004.0)
    assert hold.changed_s == 1004.0
    assert holds.reconcile(hold, view(5, echo=7, applied_w=20e3), SETTINGS, 1005.0).answered


def test_an_answer_that_leaves_lost_orders_out_answers_the_newest() -> None:
    hold = changed()
    assert holds.reconcile(hold, view(2, echo=6, applied_w=20e3), SETTINGS, 1002.0).answered
    other = replace(view(2, echo=1, applied_w=20e3), last=replace_epoch(2))
    assert holds.reconcile(hold, other, SETTINGS, 1002.0).answered, "of another epoch nothing is known"


def replace_epoch(epoch: int) -> SetpointEcho:
    return SetpointEcho(server="a", epoch=epoch, seq=1, result=SetpointResult.APPLIED, reason=None)
