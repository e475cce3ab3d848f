"""Why something was changed, or why nothing was."""

from collections.abc import Sequence
from dataclasses import dataclass

from equalizer.control import holds as channel
from equalizer.control.cycle import Cycle
from equalizer.control.reasons import Reason
from equalizer.control.state import ControlState, Order
from schemas.messages import Policy

NOTICE_RATIO = 0.5
"""What is left over and within the band is worth a word above this part of `engage_w`."""
AT_REST_W = 1.0


@dataclass(frozen=True, slots=True)
class Rooms:
    """By how much the equalization channels could go further in one direction; W, never negative."""

    open_w: float
    """Of those that may be changed now, with signs as they are bound."""
    free_w: float
    """Of those that may be changed now, whatever the signs."""
    locked_w: float
    """Of those that were changed less than the delay ago."""


def rooms(cycle: Cycle, *, charging: bool) -> Rooms:
    """Return the room upwards (charging more, discharging less) or downwards."""
    slots = [unit.slot for unit in cycle.units(cycle.now_s)]
    if charging:
        barred = any(s.locked and (s.lowest_w if s.lowest_w is not None else s.power_w) < -AT_REST_W for s in slots)
    else:
        barred = any(s.locked and (s.highest_w if s.highest_w is not None else s.power_w) > AT_REST_W for s in slots)
    open_w = free_w = locked_w = 0.0
    for slot in slots:
        if charging:
            room_w, to_rest_w = slot.charge_limit_w - slot.power_w, -slot.power_w
        else:
            room_w, to_rest_w = slot.power_w + slot.discharge_limit_w, slot.power_w
        room_w = max(room_w, 0.0)
        if slot.locked:
            locked_w += room_w
        else:
            free_w += room_w
            open_w += min(max(to_rest_w, 0.0), room_w) if barred else room_w
    return Rooms(open_w, free_w, locked_w)


def reason(
    state: ControlState, cycle: Cycle, made: Sequence[Order], asked_w: float, *, saturated: bool
) -> tuple[Reason, Reason | None]:
    """Return why something was changed, or else why nothing was; and what that held back, if anything."""
    for order in made:
        if order.kind == "change":
            return Reason(order.reason), None
    if state.engaged:
        why = _held_back(state, cycle, asked_w, saturated=saturated)
        return why, why
    if state.confirmation.since_s is not None:
        return Reason.CONFIRMING, Reason.CONFIRMING
    left_w = abs(unexplained_w(state, cycle, asked_w))
    noticed = state.held_back is Reason.WITHIN_BAND
    least_w = (
        cycle.settings.release_w if noticed else max(NOTICE_RATIO * cycle.settings.engage_w, cycle.settings.release_w)
    )
    return Reason.WITHIN_BAND, Reason.WITHIN_BAND if left_w > least_w else None


def unexplained_w(state: ControlState, cycle: Cycle, asked_w: float) -> float:
    """Return what is asked beyond what the channels were ordered, what waits to be confirmed included."""
    gap_w = asked_w - cycle.total_w(cycle.now_s)
    if cycle.settings.policy is Policy.CONFIRM:
        gap_w += state.baseline_w - cycle.remainder_w(state.losses_w)
    return gap_w


def _held_back(state: ControlState, cycle: Cycle, asked_w: float, *, saturated: bool) -> Reason:
    """Return why a mismatch outside the band was not worked on."""
    release_w = cycle.settings.release_w
    if not cycle.counted:
        usable = any(channel.is_usable(view, cycle.now_s) for view in cycle.views.values())
        return Reason.NOT_DELIVERING if usable else Reason.STALE
    room = rooms(cycle, charging=asked_w > cycle.total_w(cycle.now_s))
    if room.open_w < release_w <= room.free_w:
        return Reason.SIGN
    if state.look is not None and state.look.passed_over:
        return Reason.PASSED_OVER
    if saturated:
        return Reason.NOT_DELIVERING if _is_capped(cycle) else Reason.NO_HEADROOM
    if room.open_w > release_w:
        return Reason.PASSED_OVER
    return Reason.DWELL if room.locked_w > room.open_w else Reason.NO_HEADROOM


def _is_capped(cycle: Cycle) -> bool:
    """Tell whether a channel is taken as saturated since it does not deliver."""
    said = cycle.said
    return any(
        view.charge_limit_w < said[key].charge_limit_w or view.discharge_limit_w < said[key].discharge_limit_w
        for key, view in cycle.views.items()
    )
