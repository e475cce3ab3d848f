"""One decision: `step(state, image, settings, now_s) -> (state, Decision)`, and what operators ask of the control."""

from dataclasses import replace
from math import inf, isfinite
from types import MappingProxyType

from equalizer.control import holds as channel
from equalizer.control.balance import balance
from equalizer.control.cycle import Cycle, begin, kept, left
from equalizer.control.dispatch import orders, renew
from equalizer.control.image import LoopImage
from equalizer.control.regulator import STILL
from equalizer.control.settings import ControlSettings
from equalizer.control.state import NOTHING_READ, ControlState, Decision, Hold, Level, Order, Reason
from equalizer.control.trim import advance as advance_trim
from schemas.messages import Basis, Phase, SetpointStep

AT_REST_W = 1.0
"""A channel that applies less is at 0 W."""


def initial(settings: ControlSettings) -> ControlState:
    """Return the state of a control that has seen nothing yet."""
    return ControlState(target_power_w=settings.target_power_w)


def pause(state: ControlState) -> ControlState:
    """Return a state that brings all equalization channels to 0 W and then leaves them alone."""
    return state if state.paused else replace(state, paused=True)


def resume(state: ControlState) -> ControlState:
    """Return a state that balances again, from what the channels do then."""
    return replace(state, paused=False)


def set_target(state: ControlState, target_power_w: float) -> ControlState:
    """Return a state that steers the total power to another value; positive: drawn from the grid.

    Raises:
        ValueError: the target is no finite number.
    """
    if not isfinite(target_power_w):
        raise ValueError(f"target_power_w is {target_power_w}; allowed is a finite number of watts")
    return replace(state, target_power_w=target_power_w, cause=Reason.TARGET)


def adopt(state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float) -> ControlState:
    """Return a state that takes what the channels are doing as its own doing.

    An imbalance that stands then is an unannounced one: under `confirm` it waits for the delay.
    """
    views = {view.key: view for view in image.equalization}
    held = left(state, views, settings, now_s)
    held |= {key: channel.adopt(view, settings, now_s, state.holds.get(key)) for key, view in views.items()}
    state = replace(
        state, holds=MappingProxyType(held), readout=NOTHING_READ, confirmation=STILL, engaged=False, look=None
    )
    cycle = begin(state, image, settings, now_s)
    baseline_w = state.target_power_w - image.announced_power_w - state.trim.power_w - cycle.total_w(now_s)
    return replace(state, baseline_w=baseline_w, transferred_w=image.transferred_power_w)


def step(
    state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float
) -> tuple[ControlState, Decision]:
    """Decide once. Cheap enough to be called after every batch of messages; pure."""
    if not _is_finite(state, image, now_s):
        return _passive(state, state.phase, Reason.NOT_FINITE, settings, now_s)
    if state.phase is Phase.STARTING and not image.round_complete:
        return _passive(state, Phase.STARTING, Reason.STARTING, settings, now_s)
    if state.paused:
        return _pause(state, image, settings, now_s)
    if image.unknown_power_w > settings.freeze_w:
        return _passive(state, Phase.FROZEN, Reason.FROZEN, settings, now_s)
    if state.phase in (Phase.STARTING, Phase.FROZEN, Phase.PAUSED):
        state = adopt(state, image, settings, now_s)
    if not image.equalization:
        return _alone(adopt(state, image, settings, now_s), image, settings, now_s)
    return _balance(state, image, settings, now_s)


def stop(state: ControlState, image: LoopImage) -> tuple[Order, ...]:
    """Return 0 W for every equalization channel whose station is there: the last orders of a server that stops."""
    return tuple(
        Order(
            station=view.key[0],
            channel=view.key[1],
            basis=Basis(boot_id=view.boot_id, seq=view.seq),
            steps=(SetpointStep(after_s=0.0, power_w=0.0),),
            kind="refresh" if view.key in state.holds and _is_at_rest(state.holds[view.key]) else "change",
            reason=Reason.STOP.value,
        )
        for view in image.equalization
        if view.station_online
    )


def _balance(
    state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float
) -> tuple[ControlState, Decision]:
    held = state.phase is Phase.SATURATED or image.channels_stale > 0
    state = replace(state, trim=advance_trim(state.trim, image, settings, now_s, held=held))
    cycle = begin(state, image, settings, now_s)
    state, asked_w, look_s = balance(state, cycle)
    renew(cycle)
    made = orders(cycle)
    changes = sum(order.kind == "change" for order in made)
    shortfall_w = cycle.shortfall_w(asked_w)
    saturated = abs(shortfall_w) > settings.release_w
    reason = _reason(state, cycle, made, saturated=saturated)
    held_back = None if changes > 0 or reason is Reason.WITHIN_BAND else reason
    confirmed_s = state.confirmation.due_s(settings)
    decision = Decision(
        phase=Phase.SATURATED if saturated else Phase.BALANCING,
        orders=made,
        shortfall_w=shortfall_w,
        reason=reason.value,
        suppressed=() if held_back is None or held_back is state.held_back else ((held_back.value, 1),),
        next_due_s=_next_due_s(
            settings, now_s, look_s, cycle.readout.renew_s, confirmed_s if confirmed_s is not None else inf
        ),
    )
    state = replace(
        kept(state, cycle),
        phase=decision.phase,
        held_back=held_back,
        changes=state.changes + changes,
    )
    return state, decision


def _reason(state: ControlState, cycle: Cycle, made: tuple[Order, ...], *, saturated: bool) -> Reason:
    """Return why something was changed, or else why nothing was."""
    for order in made:
        if order.kind == "change":
            return Reason(order.reason)
    if state.engaged:
        counted = [key for key in cycle.views if key in cycle.counted]
        if not counted:
            usable = any(channel.is_usable(view, cycle.now_s) for view in cycle.views.values())
            return Reason.NOT_DELIVERING if usable else Reason.STALE
        if state.look is not None and state.look.passed_over:
            return Reason.PASSED_OVER
        if saturated:
            return Reason.NO_HEADROOM
        return Reason.NO_HEADROOM if cycle.is_any_free(cycle.now_s) else Reason.DWELL
    return Reason.WITHIN_BAND if state.confirmation.since_s is None else Reason.CONFIRMING


def _pause(
    state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float
) -> tuple[ControlState, Decision]:
    """Bring every channel to 0 W; say it again until it is so, then nothing more."""
    begins = state.phase is not Phase.PAUSED
    cycle = begin(state, image, settings, now_s)
    for key, view in cycle.views.items():
        hold = cycle.holds[key]
        at_rest = abs(view.applied_w) <= AT_REST_W and hold.answered
        if begins:
            (cycle.renewed if _is_at_rest(hold) else cycle.changed)[key] = Reason.PAUSED
            cycle.holds[key] = _at_rest(hold, now_s)
        elif not at_rest and channel.is_due(replace(hold, answered=False), settings, now_s):
            cycle.holds[key] = _at_rest(hold, now_s)
            cycle.renewed[key] = Reason.PAUSED
    made = orders(cycle)
    state = replace(
        kept(_quiet(state), cycle),
        phase=Phase.PAUSED,
        held_back=Reason.PAUSED,
        changes=state.changes + sum(order.kind == "change" for order in made),
    )
    suppressed = ((Reason.PAUSED.value, 1),) if begins else ()
    due_s = _next_due_s(settings, now_s)
    return state, Decision(Phase.PAUSED, made, 0.0, Reason.PAUSED.value, suppressed, due_s)


def _quiet(state: ControlState) -> ControlState:
    """Return a state that works on nothing and waits for nothing."""
    return replace(state, confirmation=STILL, engaged=False, look=None)


def _is_at_rest(hold: Hold) -> bool:
    return len(hold.levels) == 1 and hold.levels[0].power_w == 0.0


def _at_rest(hold: Hold, now_s: float) -> Hold:
    changed_s = now_s if hold.levels[0].power_w != 0.0 else min(hold.changed_s, now_s)
    return replace(hold, levels=(Level(now_s, now_s, 0.0),), changed_s=changed_s, prior_changed_s=changed_s)


def _passive(
    state: ControlState, phase: Phase, reason: Reason, settings: ControlSettings, now_s: float
) -> tuple[ControlState, Decision]:
    """Change nothing and renew nothing."""
    suppressed = () if state.held_back is reason else ((reason.value, 1),)
    due_s = _next_due_s(settings, now_s)
    state = replace(_quiet(state), phase=phase, held_back=reason)
    return state, Decision(phase, (), 0.0, reason.value, suppressed, due_s)


def _alone(
    state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float
) -> tuple[ControlState, Decision]:
    """Nothing is there to balance with: all that would be asked is short."""
    asked_w = state.target_power_w - image.total_power_w
    saturated = abs(asked_w) > settings.engage_w
    phase = Phase.SATURATED if saturated else Phase.BALANCING
    state, decision = _passive(state, phase, Reason.NO_EQUALIZATION_CHANNEL, settings, now_s)
    return state, replace(decision, shortfall_w=asked_w if saturated else 0.0)


def _next_due_s(settings: ControlSettings, now_s: float, *due_s: float) -> float:
    """Return the first of the times ahead, but no later than the next telemetry is due."""
    return min(now_s + settings.period_s, *(at_s for at_s in due_s if at_s > now_s), inf)


def _is_finite(state: ControlState, image: LoopImage, now_s: float) -> bool:
    loop = isfinite(
        now_s
        + image.load_power_w
        + image.announced_power_w
        + image.remainder_power_w
        + image.transferred_power_w
        + image.unknown_power_w
    )
    known = state.readout.equalization is image.equalization
    return loop and (known or all(channel.is_finite(view) for view in image.equalization))
