"""Channels that do not what they say they apply: saturated, and tried again ever more seldom. Powers in W, signed."""

from equalizer.control.holds import DELIVERY_RATIO, allowed_error_w, clipped_w, cut, unlock_s
from equalizer.control.image import EqualizationView
from equalizer.control.settings import ControlSettings
from equalizer.control.state import Cap, Hold
from schemas.values import replace

DELIVERY_S = 10.0
DELIVERY_AGAIN_S = 2.0
"""A channel that failed before is judged sooner: whoever tries it again should not pay for it as long."""
RETRY_FIRST_S = 1.0
RETRY_LAST_S = 30.0


def delivering(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    """Find a channel that for long has not done what it said it applies."""
    tolerance_w = allowed_error_w(view, settings)
    if not _is_settled(hold, view):
        return hold
    asked_w = clipped_w(hold.levels[0].power_w, view)
    if abs(view.power_w - asked_w) <= tolerance_w:
        return _absolved(hold, asked_w, tolerance_w)
    cap = hold.charge_cap if asked_w > 0.0 else hold.discharge_cap
    if cap is not None and cap.order_s == hold.changed_s:
        # It is known. The order stands, so all that can be tried is to look again.
        return hold if now_s < cap.until_s else _failed(hold, view, asked_w, now_s)
    if hold.off_since_s is None:
        return replace(hold, off_since_s=now_s)
    failed_before = cap is not None or hold.retry_wait_s > 0.0
    if now_s - hold.off_since_s < (DELIVERY_AGAIN_S if failed_before else DELIVERY_S):
        return hold
    return _failed(replace(hold, off_since_s=None), view, asked_w, now_s)


def delivered(view: EqualizationView, hold: Hold, now_s: float) -> EqualizationView:
    """Return a channel with the limits that it was found to keep to; it is saturated there for now."""
    charge_cap, discharge_cap = hold.charge_cap, hold.discharge_cap
    if charge_cap is None and discharge_cap is None:
        return view
    charge_w, discharge_w = view.charge_limit_w, view.discharge_limit_w
    if charge_cap is not None and charge_cap.is_active(hold, now_s):
        charge_w = min(charge_w, charge_cap.power_w)
    if discharge_cap is not None and discharge_cap.is_active(hold, now_s):
        discharge_w = min(discharge_w, discharge_cap.power_w)
    return replace(view, charge_limit_w=charge_w, discharge_limit_w=discharge_w)


def delivery_error_w(hold: Hold, view: EqualizationView) -> float:
    """Return what a channel does beyond what it was asked; 0 until its telemetry can show it."""
    if not hold.answered or len(hold.levels) > 1 or view.heard_s < hold.settled_s:
        return 0.0
    return view.power_w - clipped_w(hold.levels[0].power_w, view)


def is_in_vain(hold: Hold, now_s: float) -> bool:
    """Tell whether a channel was found to do nothing of what it is asked: the order must not come alive some day."""
    level_w = hold.levels[0].power_w
    cap = hold.charge_cap if level_w > 0.0 else hold.discharge_cap
    idle = cap is not None and cap.power_w == 0.0 and cap.is_active(hold, now_s)
    return idle and level_w != 0.0 and len(hold.levels) == 1


def withdrawn(hold: Hold, settings: ControlSettings, now_s: float) -> Hold:
    """Return a hold that asks nothing of a channel that delivers nothing; it is tried again when it may be changed."""
    hold = cut(hold, 0.0, now_s)
    free_s = unlock_s(hold, settings)

    def kept(cap: Cap | None) -> Cap | None:
        return None if cap is None else replace(cap, until_s=max(cap.until_s, free_s))

    return replace(hold, charge_cap=kept(hold.charge_cap), discharge_cap=kept(hold.discharge_cap))


def _failed(hold: Hold, view: EqualizationView, asked_w: float, now_s: float) -> Hold:
    """Take a channel as saturated where it does too little, and count upon it no more where it does too much."""
    least_w = DELIVERY_RATIO * max(view.charge_limit_w, view.discharge_limit_w)
    if asked_w > 0.0 and view.power_w < asked_w:
        delivered_w = view.power_w if view.power_w > least_w else 0.0
        return replace(hold, charge_cap=_cap(hold, hold.charge_cap, delivered_w, now_s))
    if asked_w < 0.0 and view.power_w > asked_w:
        delivered_w = -view.power_w if -view.power_w > least_w else 0.0
        return replace(hold, discharge_cap=_cap(hold, hold.discharge_cap, delivered_w, now_s))
    wait_s = _longer_s(hold.retry_wait_s)
    return replace(hold, retry_s=now_s + wait_s, retry_wait_s=wait_s)


def _is_settled(hold: Hold, view: EqualizationView) -> bool:
    """Tell whether telemetry must show the present level."""
    return hold.answered and len(hold.levels) == 1 and view.heard_s >= hold.settled_s


def _cap(hold: Hold, before: Cap | None, delivered_w: float, now_s: float) -> Cap:
    """Return the cap for what a channel delivers in the direction that it was asked for."""
    wait_s = _longer_s(before.wait_s if before is not None else 0.0)
    return Cap(delivered_w, now_s + wait_s, wait_s, hold.changed_s)


def _absolved(hold: Hold, asked_w: float, tolerance_w: float) -> Hold:
    """Forget what a channel could not do, now that it does what it is asked."""
    charge_cap, discharge_cap = hold.charge_cap, hold.discharge_cap
    if charge_cap is not None and asked_w > charge_cap.power_w + tolerance_w:
        charge_cap = None
    if discharge_cap is not None and -asked_w > discharge_cap.power_w + tolerance_w:
        discharge_cap = None
    if hold.off_since_s is None and charge_cap is hold.charge_cap and discharge_cap is hold.discharge_cap:
        return hold if hold.retry_wait_s == 0.0 else replace(hold, retry_wait_s=0.0)
    return replace(hold, off_since_s=None, charge_cap=charge_cap, discharge_cap=discharge_cap, retry_wait_s=0.0)


def _longer_s(wait_s: float) -> float:
    return min(max(RETRY_FIRST_S, 2.0 * wait_s), RETRY_LAST_S)
