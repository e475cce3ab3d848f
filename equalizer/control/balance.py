"""What the load asks of the equalization channels, and which changes to make of it."""

from dataclasses import replace
from math import inf

from equalizer.control import holds as channel
from equalizer.control.cycle import Cycle
from equalizer.control.lookahead import CLUSTER_S, Course, choose, course
from equalizer.control.regulator import STILL, confirm, is_engaged
from equalizer.control.state import NEVER_S, ControlState, Look, Reason
from schemas.messages import Policy

LEAD_S = 3.0
"""A change for an announced edge goes out this long before it (and half the ramp)."""
PERSIST_S = 1.0
"""A mismatch that what is announced and sent ahead ends by itself within this time is none."""
LOOK_S = 0.25
"""A change that was held back is thought over again after this long."""
AHEAD_S = 0.2
"""The edges ahead are looked at this often."""
CALL_OFF_S = 0.3
"""A change sent ahead can be called off until so long before it."""


def balance(state: ControlState, cycle: Cycle) -> tuple[ControlState, float, float]:
    """Make the changes that are due.

    Returns:
        The state (its holds are still the cycle's), what was asked now, and when to look again.
    """
    image, settings, now_s = cycle.image, cycle.settings, cycle.now_s
    _call_off(cycle)
    state, asked_w = _ask(state, cycle)
    ahead = course(asked_w, image.edges)
    mismatch_w = asked_w - cycle.total_w(now_s)
    engaged = is_engaged(state.engaged, mismatch_w, settings) or cycle.is_opposed(now_s)
    state = replace(state, engaged=engaged, cause=state.cause if engaged else Reason.PLAN)
    state, due_s = _act_now(state, cycle, ahead, mismatch_w)
    if now_s >= state.ahead_s:
        _act_ahead(cycle, ahead)
        state = replace(state, ahead_s=now_s + AHEAD_S if ahead.times_s else NEVER_S)
    return state, asked_w, min(due_s, state.ahead_s if ahead.times_s else inf)


def _ask(state: ControlState, cycle: Cycle) -> tuple[ControlState, float]:
    """Return what the equalization channels are asked for now.

    The announced part of the load counts at once; the remainder (with what the channels are off their orders) counts
    as measured under `dwell`, and under `confirm` as it was last confirmed.
    """
    image, settings = cycle.image, cycle.settings
    remainder_w = image.remainder_power_w + cycle.readout.error_w
    baseline_w = state.baseline_w + (image.transferred_power_w - state.transferred_w)
    announced_w = state.target_power_w - image.announced_power_w - state.trim.power_w
    confirmation, cause = STILL, state.cause
    if settings.policy is Policy.DWELL:
        if abs(remainder_w - baseline_w) > settings.release_w:
            cause = Reason.LOAD_STEP
        baseline_w = remainder_w
    else:
        mismatch_w = announced_w - baseline_w - cycle.total_w(cycle.now_s)
        if abs(mismatch_w) > settings.engage_w:
            mismatch_w = 0.0  # it is announced, and worked on already; only the rest waits
        imbalance_w = remainder_w - baseline_w - mismatch_w
        confirmation, stood_w = confirm(state.confirmation, imbalance_w, settings, cycle.now_s)
        if stood_w is not None:
            baseline_w += stood_w + mismatch_w
            cause = Reason.LOAD_STEP
    state = replace(
        state,
        baseline_w=baseline_w,
        transferred_w=image.transferred_power_w,
        confirmation=confirmation,
        cause=cause,
    )
    return state, announced_w - baseline_w


def _act_now(state: ControlState, cycle: Cycle, ahead: Course, mismatch_w: float) -> tuple[ControlState, float]:
    """Correct what is out of the band now, as far as a channel is free and nothing announced speaks against it."""
    settings, now_s = cycle.settings, cycle.now_s
    if not state.engaged or _ends_by_itself(cycle, ahead, mismatch_w):
        return replace(state, look=None), inf
    if not cycle.is_any_free(now_s):
        unlocks_s = [channel.unlock_s(cycle.holds[key], settings) for key in cycle.views if key in cycle.counted]
        return replace(state, look=None), min((at_s for at_s in unlocks_s if at_s > now_s), default=inf)
    look = state.look
    if look is not None and now_s < look.until_s and abs(mismatch_w - look.mismatch_w) <= settings.release_w:
        return state, look.until_s
    opposed = cycle.is_opposed(now_s)
    power_w = ahead.asked_w[0] if opposed else choose(now_s, ahead, cycle.units(now_s), settings)
    if power_w is None:
        until_s = now_s + LOOK_S
        return replace(state, look=Look(mismatch_w, until_s)), until_s
    cycle.go_to(power_w, now_s, state.cause)
    return replace(state, look=None), inf


def _ends_by_itself(cycle: Cycle, ahead: Course, mismatch_w: float) -> bool:
    """Tell whether an edge that is due, or a change that is on its way, ends the mismatch in a moment."""
    now_s = cycle.now_s
    moments_s = [at_s for at_s in ahead.times_s if at_s <= now_s + PERSIST_S]
    moments_s += [
        level.effect_s
        for hold in cycle.holds.values()
        for level in hold.levels[1:]
        if level.effect_s <= now_s + PERSIST_S
    ]
    for at_s in moments_s:
        later_w = ahead.at(at_s) - cycle.total_w(at_s)
        if abs(later_w) <= cycle.settings.engage_w or later_w * mismatch_w < 0.0:
            return True
    return False


def _act_ahead(cycle: Cycle, ahead: Course) -> None:
    """Send changes for the edges that are near."""
    settings, now_s = cycle.settings, cycle.now_s
    slowest_s = max(
        (
            (view.charge_limit_w + view.discharge_limit_w) / view.ramp_w_per_s
            for key, view in cycle.views.items()
            if key in cycle.counted
        ),
        default=0.0,
    )
    lead_s = LEAD_S + 0.5 * slowest_s
    for at_s in ahead.times_s:
        if at_s > now_s + lead_s:
            break
        gap_w = ahead.at(at_s) - cycle.total_w(at_s)
        if abs(gap_w) <= settings.engage_w or not cycle.is_any_free(at_s):
            continue
        power_w = choose(at_s, ahead, cycle.units(at_s), settings)
        if power_w is not None:
            cycle.go_to(power_w, at_s, Reason.PLAN)


def _call_off(cycle: Cycle) -> None:
    """Call off what was sent ahead for an edge that is announced no more."""
    for key, hold in cycle.holds.items():
        if len(hold.levels) == 1 or hold.levels[-1].at_s < cycle.now_s + CALL_OFF_S:
            continue
        effect_s = hold.levels[-1].effect_s
        if not any(abs(edge.at_s - effect_s) <= 2.0 * CLUSTER_S for edge in cycle.image.edges):
            cycle.holds[key] = channel.call_off(hold)
            cycle.renewed[key] = Reason.PLAN_CHANGED
