"""One decision: `step(state, image, settings, now_s) -> (state, Decision)`, and what operators ask of the control."""

from math import inf, isfinite
from types import MappingProxyType

from equalizer.config import LARGEST_W
from equalizer.control import adoption
from equalizer.control import holds as channel
from equalizer.control.balance import balance
from equalizer.control.band import advance as advance_band
from equalizer.control.cycle import begin, kept, left
from equalizer.control.dispatch import orders, renew
from equalizer.control.explain import reason
from equalizer.control.image import LoopImage
from equalizer.control.reasons import Reason
from equalizer.control.recovery import recover
from equalizer.control.regulator import STILL
from equalizer.control.settings import ControlSettings
from equalizer.control.state import NOTHING_READ, ControlState, Decision, Hold, Level, Order
from equalizer.control.surprise import advance as advance_surprise
from equalizer.control.trim import advance as advance_trim
from schemas.messages import Basis, Phase, Policy, SetpointStep
from schemas.values import replace

AT_REST_W = 1.0
"""A channel that applies less is at 0 W."""
PHASE_S = 3.0
"""`balancing` and `saturated` change places only for what stands so long."""


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
        ValueError: no hall can have such a power.
    """
    if not -LARGEST_W <= target_power_w <= LARGEST_W:
        raise ValueError(f"target_power_w is {target_power_w:g}; allowed is a number of watts within ±{LARGEST_W:g}")
    return replace(state, target_power_w=target_power_w, cause=Reason.TARGET)


def adopt(state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float) -> ControlState:
    """Return a state that takes what the channels are doing as its own doing.

    An imbalance that stands then is an unannounced one: under `confirm` it waits for the delay.
    """
    views = {view.key: view for view in image.equalization}
    held = left(state, views, settings, now_s)
    held |= {key: adoption.adopt(view, settings, now_s, state.holds.get(key)) for key, view in views.items()}
    state = replace(
        state, holds=MappingProxyType(held), readout=NOTHING_READ, confirmation=STILL, engaged=False, look=None
    )
    cycle = begin(state, image, settings, now_s)
    at_grid_w = cycle.readout.efficiency.at_grid_w(cycle.total_w(now_s))
    baseline_w = state.target_power_w - image.announced_power_w - state.trim.power_w - at_grid_w
    return replace(state, baseline_w=baseline_w, transferred_w=image.transferred_power_w)


def step(
    state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float
) -> tuple[ControlState, Decision]:
    """Decide once. Cheap enough to be called after every batch of messages; pure."""
    if settings.auto_band:
        state = replace(state, band=advance_band(state.band, image, settings, now_s))
        settings = in_force(state, settings)
    if settings.policy is Policy.DWELL:
        state = replace(state, surprise=advance_surprise(state.surprise, image, settings, now_s))
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
    lost_w = image.load_losses_w + _equalization_losses_w(state, image)
    trim = advance_trim(state.trim, image, settings, now_s, losses_w=lost_w, held=held)
    if trim is not state.trim or image.load_losses_w != state.losses_w:
        state = replace(state, trim=trim, losses_w=image.load_losses_w)
    cycle = begin(state, image, settings, now_s)
    state, asked_w, look_s = balance(state, cycle)
    state = recover(state, cycle, asked_w)
    renew(cycle)
    made = orders(cycle)
    changes = sum(order.kind == "change" for order in made)
    shortfall_w = cycle.shortfall_w(asked_w)
    phase, other_phase_s = _phase(state, shortfall_w, settings, now_s)
    why, held_back = reason(state, cycle, made, asked_w, saturated=phase is Phase.SATURATED)
    confirmed_s = state.confirmation.due_s(settings)
    decision = Decision(
        phase=phase,
        orders=made,
        shortfall_w=shortfall_w,
        reason=why.value,
        suppressed=() if held_back is None or held_back is state.held_back else ((held_back.value, 1),),
        next_due_s=_next_due_s(
            settings, now_s, look_s, cycle.readout.renew_s, confirmed_s if confirmed_s is not None else inf
        ),
    )
    holds, readout = kept(cycle, state)
    state = replace(
        state,
        holds=holds,
        readout=readout,
        phase=decision.phase,
        held_back=held_back,
        other_phase_s=other_phase_s,
        changes=state.changes + changes,
    )
    return state, decision


def in_force(state: ControlState, settings: ControlSettings) -> ControlSettings:
    """Return the settings with the hysteresis band that is in force."""
    if not settings.auto_band or settings.engage_w == state.band.engage_w:
        return settings
    return replace(settings, engage_w=state.band.engage_w, release_w=state.band.release_w)


def _phase(
    state: ControlState, shortfall_w: float, settings: ControlSettings, now_s: float
) -> tuple[Phase, float | None]:
    """Return `balancing` or `saturated`, and since when the other one is called for.

    Beyond `engage_w` the channels are saturated at once; else either must stand for a while, or noise at the limits
    would have the phase flap.
    """
    was, short_w = state.phase is Phase.SATURATED, abs(shortfall_w)
    saturated = short_w > settings.release_w
    if saturated is was:
        return Phase.SATURATED if was else Phase.BALANCING, None
    since_s = now_s if state.other_phase_s is None else state.other_phase_s
    if (saturated and short_w > settings.engage_w) or now_s - since_s >= PHASE_S:
        return Phase.SATURATED if saturated else Phase.BALANCING, None
    return Phase.SATURATED if was else Phase.BALANCING, since_s


def _equalization_losses_w(state: ControlState, image: LoopImage) -> float:
    """Return what the equalization channels draw beyond what their batteries show."""
    power_w = image.equalization_power_w
    return state.readout.efficiency.at_grid_w(power_w) - power_w


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
    holds, readout = kept(cycle, state)
    state = replace(
        _quiet(state),
        holds=holds,
        readout=readout,
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
    if hold.levels[0].power_w != 0.0:
        hold = channel.cut(hold, 0.0, now_s)
        return replace(hold, prior_changed_s=hold.changed_s)
    changed_s = min(hold.changed_s, now_s)
    return replace(hold, levels=(Level(now_s, now_s, 0.0),), changed_s=changed_s, prior_changed_s=changed_s)


def _passive(
    state: ControlState, phase: Phase, why: Reason, settings: ControlSettings, now_s: float
) -> tuple[ControlState, Decision]:
    """Change nothing and renew nothing."""
    suppressed = () if state.held_back is why else ((why.value, 1),)
    due_s = _next_due_s(settings, now_s)
    state = replace(_quiet(state), phase=phase, held_back=why, other_phase_s=None)
    return state, Decision(phase, (), 0.0, why.value, suppressed, due_s)


def _alone(
    state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float
) -> tuple[ControlState, Decision]:
    """Nothing is there to balance with: all that would be asked is short."""
    asked_w = state.target_power_w - image.total_power_w - image.load_losses_w
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
