"""The step function on images of any kind."""

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equalizer.control.image import EqualizationView, LoopImage
from equalizer.control.settings import ControlSettings
from equalizer.control.state import ControlState
from equalizer.control.step import initial, set_target, step
from schemas.messages import Phase, Policy

SETTINGS = ControlSettings(policy=Policy.DWELL)
VIEW = EqualizationView(
    key=("s", "e"),
    boot_id="b",
    seq=5,
    heard_s=100.0,
    fresh=True,
    station_online=True,
    power_w=0.0,
    charge_limit_w=60e3,
    discharge_limit_w=60e3,
    ramp_w_per_s=60e3,
    applied_w=0.0,
    last=None,
    soc_ratio=0.5,
    alarm=False,
)
IMAGE = LoopImage(
    total_power_w=0.0,
    load_power_w=0.0,
    equalization_power_w=0.0,
    charging_power_w=0.0,
    discharging_power_w=0.0,
    unknown_power_w=0.0,
    channels=2,
    channels_fresh=2,
    channels_stale=0,
    stations_online=1,
    equalization=(VIEW,),
    announced_power_w=0.0,
    remainder_power_w=0.0,
    transferred_power_w=0.0,
    edges=(),
    round_complete=True,
    meter_power_w=None,
    meter_heard_s=None,
)


def started() -> ControlState:
    return step(initial(SETTINGS), IMAGE, SETTINGS, 100.0)[0]


def loaded(load_w: float) -> LoopImage:
    return replace(IMAGE, load_power_w=load_w, total_power_w=load_w, remainder_power_w=load_w)


def test_a_load_makes_a_setpoint_on_the_newest_telemetry() -> None:
    _, decision = step(started(), loaded(20e3), SETTINGS, 100.5)
    (order,) = decision.orders
    assert (order.station, order.channel, order.basis.boot_id, order.basis.seq) == ("s", "e", "b", 5)
    assert [(item.after_s, item.power_w) for item in order.steps] == [(0.0, -20e3)]


@pytest.mark.parametrize("wrong", [nan, inf, -inf])
@pytest.mark.parametrize(
    "field", ["load_power_w", "announced_power_w", "remainder_power_w", "transferred_power_w", "unknown_power_w"]
)
def test_an_image_that_is_not_finite_makes_no_setpoint(field: str, wrong: float) -> None:
    image = replace(loaded(20e3), **{field: wrong})  # type: ignore[arg-type]  # a number's field, by name
    state, decision = step(started(), image, SETTINGS, 100.5)
    assert decision.orders == ()
    assert decision.reason == "not_finite"
    assert step(state, loaded(20e3), SETTINGS, 100.6)[1].orders != ()


@pytest.mark.parametrize("wrong", [nan, inf])
@pytest.mark.parametrize("field", ["power_w", "applied_w", "charge_limit_w", "discharge_limit_w", "ramp_w_per_s"])
def test_a_channel_that_is_not_finite_makes_no_setpoint(field: str, wrong: float) -> None:
    view = replace(VIEW, **{field: wrong})  # type: ignore[arg-type]  # a number's field, by name
    image = replace(loaded(20e3), equalization=(view,))
    assert step(started(), image, SETTINGS, 100.5)[1].orders == ()


@pytest.mark.parametrize("wrong", [nan, inf, -inf, 1e300, -1e13])
def test_a_target_is_a_power_that_a_hall_can_have(wrong: float) -> None:
    with pytest.raises(ValueError, match="allowed is a number of watts within"):
        set_target(started(), wrong)


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True))
def test_whatever_the_load_a_setpoint_is_finite_and_within_limits(remainder_w: float, announced_w: float) -> None:
    image = replace(IMAGE, remainder_power_w=remainder_w, announced_power_w=announced_w)
    _, decision = step(started(), image, SETTINGS, 100.5)
    for order in decision.orders:
        assert all(-60e3 <= item.power_w <= 60e3 for item in order.steps)


def test_too_much_unknown_power_freezes() -> None:
    _, decision = step(started(), replace(loaded(20e3), unknown_power_w=50_001.0), SETTINGS, 100.5)
    assert decision.phase is Phase.FROZEN
    assert decision.orders == ()
    assert decision.suppressed == (("frozen", 1),)


def test_a_basis_that_is_too_old_is_not_used() -> None:
    slow = replace(SETTINGS, period_s=60.0)
    image = replace(loaded(20e3), equalization=(replace(VIEW, heard_s=89.0),))
    assert step(started(), image, slow, 100.5)[1].orders == ()


def test_the_same_state_and_image_give_the_same_decision() -> None:
    state = started()
    assert step(state, loaded(20e3), SETTINGS, 100.5) == step(state, loaded(20e3), SETTINGS, 100.5)
