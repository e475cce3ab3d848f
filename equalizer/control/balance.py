"""What the load asks of the equalization channels, and which changes to make of it."""

from collections.abc import Sequence
from math import inf

from equalizer.control import holds as channel
from equalizer.control.cycle import Cycle
from equalizer.control.image import LoadEdge
from equalizer.control.lookahead import CLUSTER_S, Course, Move, course
from equalizer.control.plan import planned
from equalizer.control.reasons import Reason
from equalizer.control.regulator import STILL, confirm, is_engaged, relieved
from equalizer.control.settings import LEAD_S, LOCK_MARGIN_S
from equalizer.control.state import NEVER_S, ControlState, Hold, Look
from equalizer.control.surprise import UNSURPRISED, worth_w
from equalizer.control.turns import turns
from schemas.messages import Policy
from schemas.values import replace

PERSIST_S = 1.0
"""A mismatch that what is announced and sent ahead ends by itself within this time is none."""
LOOK_S = 0.25
"""A course of action is thought over no more often than this, unless the mismatch differs."""
LONG_LOOK_S = 2.0
"""A course of action is thought over after this long, even if all goes as it was foreseen."""
TURN_S = 0.1
"""So soon it is asked again whether an unannounced imbalance is worth a channel."""
CALL_OFF_S = 0.3
"""A change sent ahead can be called off until so long before it."""


def balance(state: ControlState, cycle: Cycle) -> tuple[ControlState, float, float]:
    """Make the changes that are due.

    Returns:
        The state (its holds are still the cycle's), what was asked now, and when to look again.
    """
    settings, now_s = cycle.settings, cycle.now_s
    _call_off(cycle)
    state, asked_w = _ask(state, cycle)
    ahead = course(asked_w, _to_meet(state, cycle))
    mismatch_w = asked_w - cycle.total_w(now_s)
    engaged = is_engaged(state.engaged, mismatch_w, settings) or cycle.is_opposed(now_s)
    cause = state.cause if engaged else Reason.ANNOUNCED
    if (engaged, cause) != (state.engaged, state.cause):
        state = replace(state, engaged=engaged, cause=cause)
    state, due_s = _act(state, cycle, ahead, mismatch_w)
    return state, asked_w, due_s


def _ask(state: ControlState, cycle: Cycle) -> tuple[ControlState, float]:
    """Return what the equalization channels are asked for now.

    The announced part of the load counts at once; the remainder (with what the channels are off their orders) counts
    as measured under `dwell`, and under `confirm` as it was last confirmed. An announced change that makes up for what
    waits to be confirmed is not met: the total is nearer to the target without, and no change is spent on it.
    """
    image, settings = cycle.image, cycle.settings
    remainder_w = cycle.remainder_w(state.losses_w)
    baseline_w = state.baseline_w + (image.transferred_power_w - state.transferred_w)
    efficiency = cycle.readout.efficiency
    announced_w = state.target_power_w - image.announced_power_w - state.trim.power_w
    confirmation, cause = state.confirmation, state.cause
    if settings.policy is Policy.DWELL:
        if abs(remainder_w - baseline_w) > settings.release_w:
            cause = Reason.LOAD_STEP
        baseline_w, confirmation = remainder_w, STILL
    else:
        mismatch_w = announced_w - baseline_w - efficiency.at_grid_w(cycle.total_w(cycle.now_s))
        if abs(mismatch_w) > settings.engage_w and confirmation.since_s is not None:
            made_up_w = _made_up_w(mismatch_w, remainder_w - baseline_w)
            baseline_w, mismatch_w = baseline_w + made_up_w, mismatch_w - made_up_w
            confirmation = relieved(confirmation, made_up_w)
        if abs(mismatch_w) > settings.engage_w:
            mismatch_w = 0.0  # it is announced, and worked on already; only the rest waits
        imbalance_w = remainder_w - baseline_w - mismatch_w
        confirmation, stood_w = confirm(confirmation, imbalance_w, settings, cycle.now_s)
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
    return state, efficiency.at_batteries_w(announced_w - baseline_w)


def _made_up_w(change_w: float, for_w: float) -> float:
    """Return which part of an announced change makes up for what stands unannounced, so that nobody need answer it."""
    if change_w * for_w <= 0.0:
        return 0.0
    return change_w if abs(change_w) < abs(for_w) else for_w


def _to_meet(state: ControlState, cycle: Cycle) -> Sequence[LoadEdge]:
    """Return the announced changes ahead, without what will make up for an imbalance that waits to be confirmed."""
    edges, due_s = cycle.image.edges, state.confirmation.due_s(cycle.settings)
    if due_s is None or not edges:
        return edges
    waits_w = cycle.remainder_w(state.losses_w) - state.baseline_w
    met: list[LoadEdge] = []
    for edge in edges:
        made_up_w = _made_up_w(-edge.delta_w, waits_w) if edge.at_s < due_s else 0.0
        waits_w -= made_up_w
        met.append(replace(edge, delta_w=edge.delta_w + made_up_w) if made_up_w != 0.0 else edge)
    return [edge for edge in met if edge.delta_w != 0.0]


def _act(state: ControlState, cycle: Cycle, ahead: Course, mismatch_w: float) -> tuple[ControlState, float]:
    """Begin the best course of action, as far as it is due."""
    now_s = cycle.now_s
    if cycle.is_opposed(now_s) and cycle.is_any_free(now_s):
        cycle.go_to(ahead.asked_w[0], now_s, state.cause)
        return replace(state, look=None), inf
    if not cycle.counted or (not state.engaged and not ahead.times_s):
        return state if state.look is None else replace(state, look=None), inf
    look = _standing(state.look, cycle, mismatch_w)
    if look is None:
        look = _begun(state, cycle, ahead, mismatch_w)
    return state if look is state.look else replace(state, look=look), look.until_s


def _standing(look: Look | None, cycle: Cycle, mismatch_w: float) -> Look | None:
    """Return the last look ahead if it still holds."""
    now_s = cycle.now_s
    if look is None or abs(mismatch_w - look.mismatch_w) > cycle.settings.release_w:
        return None
    if now_s < look.until_s:
        return look
    if now_s < look.again_s and _is_as_foreseen(look.edges, cycle.image.edges, now_s):
        return replace(look, until_s=min(now_s + LOOK_S, look.again_s))
    return None


def _begun(state: ControlState, cycle: Cycle, ahead: Course, mismatch_w: float) -> Look:
    """Look ahead, and make the changes that are due now or for an edge that is near."""
    settings, now_s = cycle.settings, cycle.now_s
    lead_s = LEAD_S + 0.5 * _slowest_s(cycle)
    free_s = min(channel.unlock_s(cycle.holds[key], settings) for key in cycle.counted)
    kept = Look(mismatch_w, until_s=free_s - lead_s, passed_over=False, edges=cycle.image.edges)
    if state.look is not None:
        kept = replace(kept, moves=state.look.moves, number=state.look.number + 1)
    if free_s > now_s + lead_s:
        # All are locked for so long that nothing could be sent, whatever came out.
        return kept
    serves_now = state.engaged and not _ends_by_itself(cycle, ahead, mismatch_w)
    # Whatever is changed longer than the delay before an edge is free again by then: that needs no preparation.
    prepares = bool(ahead.times_s) and ahead.times_s[0] <= now_s + settings.delay_s
    if settings.policy is Policy.DWELL and serves_now and not prepares:
        kept = replace(kept, moves=(), owed=free_s <= now_s and _take_turns(state, cycle, mismatch_w))
        return _look(kept, cycle, ahead, next_s=max(free_s, now_s + TURN_S), again_s=NEVER_S)
    may_act = free_s <= now_s and (serves_now or prepares)
    if not may_act and not _may_send_ahead(cycle, ahead, free_s, now_s + lead_s):
        # Nothing would be changed, whatever came out: what is to be done later is thought over when its time comes.
        return _look(kept, cycle, ahead, next_s=inf, again_s=NEVER_S)
    moves = planned(now_s, ahead, cycle.units(now_s), settings, before=kept.moves, number=kept.number)
    near = [move for move in moves if move.at_s <= now_s + lead_s]
    next_s = _make_due(state, cycle, ahead, near, may_act=may_act, serves_now=serves_now)
    again_s = (
        now_s if cycle.changed else min([now_s + LONG_LOOK_S, *(max(move.at_s - lead_s, now_s) for move in moves)])
    )
    return _look(replace(kept, moves=tuple(moves)), cycle, ahead, next_s=next_s, again_s=again_s)


def _make_due(
    state: ControlState, cycle: Cycle, ahead: Course, moves: Sequence[Move], *, may_act: bool, serves_now: bool
) -> float:
    """Make the changes that are due, now or for an edge that is near; return when the next of the others is."""
    now_s, next_s = cycle.now_s, inf
    for at_s in sorted({move.at_s for move in moves}):
        due = [move for move in moves if move.at_s == at_s]
        if not all(_can_be_told(cycle.holds[move.key], now_s) for move in due):
            continue
        if at_s <= now_s:
            if may_act and (serves_now or _is_large(cycle, due)):
                cycle.make(due, now_s, state.cause)
        elif not _is_near_edge(at_s, cycle):
            next_s = min(next_s, at_s)
        elif abs(ahead.at(at_s) - cycle.total_w(at_s)) > cycle.settings.engage_w or _is_large(cycle, due):
            cycle.make(due, at_s, Reason.ANNOUNCED)
    return next_s


def _take_turns(state: ControlState, cycle: Cycle, mismatch_w: float) -> bool:
    """Answer what nobody announced with one channel after the other, each only for what it is worth.

    Returns:
        Whether one is still to take the sign that others have left for it.
    """
    settings, now_s = cycle.settings, cycle.now_s
    lock_s = settings.delay_s + LOCK_MARGIN_S
    lefts_s = [channel.unlock_s(cycle.holds[key], settings) - now_s for key in sorted(cycle.counted)]
    away = sum(min(max(left_s / lock_s, 0.0), 1.0) for left_s in lefts_s)
    # With nobody away, the answer is what it takes; so is an operator's target, and the end of what was begun.
    at_once = away == 0.0 or state.cause is Reason.TARGET or (state.look is not None and state.look.owed)
    surprise = UNSURPRISED if at_once else state.surprise
    units = [
        unit if _can_be_told(cycle.holds[unit.slot.key], now_s) else replace(unit, slot=replace(unit.slot, locked=True))
        for unit in cycle.units(now_s)
    ]
    moves = turns(
        now_s,
        mismatch_w,
        units,
        least_w=settings.release_w,
        worth_w=lambda made: worth_w(surprise, away + made, len(lefts_s)),
    )
    cycle.make(moves, now_s, state.cause)
    return any(move.key not in cycle.changed for move in moves)


def _can_be_told(hold: Hold, now_s: float) -> bool:
    """Tell whether a channel can be told of a change now, and others of what belongs to it.

    Had its last change got lost, it would be made when it is sent again, and another too soon after it. What is sent
    just before a step may come just after it, and take it back for a moment.
    """
    return not hold.is_in_doubt and not channel.steps_soon(hold, now_s)


def _is_large(cycle: Cycle, due: Sequence[Move]) -> bool:
    """Tell whether changes are more than corrections within the band: they prepare for what comes."""
    return any(abs(move.power_w - cycle.holds[move.key].levels[-1].power_w) > cycle.settings.engage_w for move in due)


def _look(look: Look, cycle: Cycle, ahead: Course, *, next_s: float, again_s: float) -> Look:
    """Note for how long a look ahead stands, and what it passed over."""
    possible_w = look.mismatch_w - cycle.shortfall_w(ahead.asked_w[0])
    return replace(
        look,
        until_s=min(cycle.now_s + LOOK_S, next_s),
        passed_over=abs(possible_w) > cycle.settings.release_w and cycle.is_any_free(cycle.now_s),
        again_s=again_s,
    )


def _may_send_ahead(cycle: Cycle, ahead: Course, free_s: float, until_s: float) -> bool:
    """Tell whether enough will be asked beyond what is done, in the time for which a change could be sent ahead."""
    free_s = max(free_s, cycle.now_s)
    times_s = [free_s, *(at_s for at_s in ahead.times_s if free_s < at_s <= until_s)]
    for hold in cycle.holds.values():
        times_s += [level.effect_s for level in hold.levels[1:] if free_s < level.effect_s <= until_s]
    return any(abs(ahead.at(at_s) - cycle.total_w(at_s)) > cycle.settings.engage_w for at_s in times_s)


def _is_as_foreseen(before: tuple[LoadEdge, ...], edges: tuple[LoadEdge, ...], now_s: float) -> bool:
    """Tell whether nothing was announced, called off or met since, but what the horizon has uncovered."""
    met = bool(before) and before[0].at_s <= now_s
    return not met and before == edges[: len(before)]


def _slowest_s(cycle: Cycle) -> float:
    """Return how long the longest ramp may take."""
    return max(
        (channel.longest_ramp_s(view) for key, view in cycle.views.items() if key in cycle.counted),
        default=0.0,
    )


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


def _call_off(cycle: Cycle) -> None:
    """Call off what was sent ahead for an edge that is announced no more."""
    for key, hold in cycle.holds.items():
        if len(hold.levels) == 1 or hold.levels[-1].at_s < cycle.now_s + hold.travel_s + CALL_OFF_S:
            continue
        view = cycle.views.get(key)
        if view is None or not channel.is_usable(view, cycle.now_s):
            continue  # it cannot be told, and so it will do it
        if hold.pending and hold.answered:
            continue  # another had sent it ahead, who fell silent: it may have come by now
        if channel.steps_soon(hold, cycle.now_s):
            continue  # it can be told when it has made the step before
        if not _is_near_edge(hold.levels[-1].effect_s, cycle):
            cycle.holds[key] = channel.call_off(hold)
            cycle.renewed[key] = Reason.PLAN_CHANGED


def _is_near_edge(at_s: float, cycle: Cycle) -> bool:
    """Tell whether an announced edge stands by a change at this time."""
    return any(edge.certain and abs(edge.at_s - at_s) <= 2.0 * CLUSTER_S for edge in cycle.image.edges)
