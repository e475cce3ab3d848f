"""Changes that belong together: who leaves a sign goes first, and who takes the opposite one follows."""

from dataclasses import replace
from types import MappingProxyType

import pytest

from equalizer.control.cycle import CLEAR_S, Cycle
from equalizer.control.image import ChannelKey, EqualizationView
from equalizer.control.lookahead import Move
from equalizer.control.reasons import Reason
from equalizer.control.state import Hold, Level, Readout
from tests.unit.control.test_step import IMAGE, SETTINGS, VIEW

NOW_S = 100.0
EDGE_S = 103.0
LEAVER: ChannelKey = ("s", "leaver")
TAKER: ChannelKey = ("s", "taker")
SWAP = (Move(EDGE_S, LEAVER, 0.0), Move(EDGE_S, TAKER, -20e3))
"""The charging channel is to rest, the resting one to discharge, at one announced edge."""


def cycle() -> Cycle:
    """One channel charges with 20 kW, another rests; both are free, and orders take 0.1 s to them."""

    def hold(power_w: float) -> Hold:
        return Hold(boot_id="b", levels=(Level(0.0, 0.0, power_w),), travel_s=0.1, reckoned_s=0.1)

    views: dict[ChannelKey, EqualizationView] = {
        LEAVER: replace(VIEW, key=LEAVER, power_w=20e3, applied_w=20e3),
        TAKER: replace(VIEW, key=TAKER),
    }
    readout = Readout(views=MappingProxyType(views), counted=frozenset(views))
    return Cycle(IMAGE, SETTINGS, NOW_S, readout, {LEAVER: hold(20e3), TAKER: hold(0.0)}, is_read=True)


@pytest.mark.parametrize("later_s", [0.0, 0.05, 0.3])
def test_who_takes_a_sign_waits_for_an_order_that_may_travel_longer_than_was_reckoned(later_s: float) -> None:
    """A first look sent the leaver's order; a second, which has learnt that orders are slower, sends the taker's."""
    at_work = cycle()
    at_work.make(SWAP[:1], EDGE_S, Reason.ANNOUNCED)
    left_s = at_work.holds[LEAVER].levels[-1].at_s
    at_work.holds[LEAVER] = replace(at_work.holds[LEAVER], pending=False)
    at_work.holds[TAKER] = replace(at_work.holds[TAKER], travel_s=0.1 + later_s)
    at_work.make(SWAP[1:], EDGE_S, Reason.ANNOUNCED)
    assert at_work.holds[TAKER].levels[-1].at_s >= left_s + later_s + CLEAR_S


def test_nobody_takes_a_sign_before_the_leaver_has_answered_or_if_nobody_leaves() -> None:
    at_work = cycle()
    at_work.make(SWAP[1:], EDGE_S, Reason.ANNOUNCED)
    assert not at_work.changed, "the other was never asked to leave"
    at_work.make(SWAP[:1], NOW_S, Reason.ANNOUNCED)
    at_work.make(SWAP[1:], EDGE_S, Reason.ANNOUNCED)
    assert set(at_work.changed) == {LEAVER}, "its order may be lost"


def test_of_several_that_are_to_cross_zero_all_but_the_one_that_goes_furthest_leave_their_sign_at_once() -> None:
    at_work = cycle()
    third: ChannelKey = ("s", "third")
    views = {key: replace(VIEW, key=key, power_w=2e3, applied_w=2e3) for key in (LEAVER, TAKER, third)}
    at_work.readout = Readout(views=MappingProxyType(views), counted=frozenset(views))
    standing = replace(at_work.holds[LEAVER], levels=(Level(0.0, 0.0, 2e3),))
    at_work.holds = dict.fromkeys(views, standing)
    moves = (Move(NOW_S, TAKER, -9e3), Move(NOW_S, LEAVER, -1e3), Move(NOW_S, third, -5e3))
    at_work.make(moves, NOW_S, Reason.LOAD_STEP)
    told_w = {key: at_work.holds[key].levels[-1].power_w for key in at_work.changed}
    assert told_w == {LEAVER: 0.0, third: 0.0}, "who goes furthest follows when they have answered"
