"""What each equalization channel has been asked, held against what its telemetry shows. Powers in W, signed."""

from math import inf, isfinite

from equalizer.control.allocation import Slot
from equalizer.control.image import EqualizationView
from equalizer.control.settings import LOCK_MARGIN_S, ControlSettings
from equalizer.control.state import NEVER_S, Hold, Level
from schemas.messages import SetpointResult, SetpointStep
from schemas.values import replace

BASIS_MAX_S = 10.0
"""A channel whose newest telemetry is older takes no setpoint: the station would reject it at 15 s."""
ANSWER_PERIODS = 2.5
DELIVERY_RATIO = 0.05
SETTLE_PERIODS = 2.0
SAME_W = 1.0
"""What is applied may differ by rounding from what was asked."""
QUIET_S = 1.0
"""Nothing is said again so shortly before a change that was sent ahead: on its way for longer, it would come after the
change and take it back for a moment."""


def is_usable(view: EqualizationView, now_s: float) -> bool:
    """Tell whether a channel can be sent a setpoint now."""
    return view.fresh and view.station_online and not view.alarm and view.age_s(now_s) <= BASIS_MAX_S


def is_finite(view: EqualizationView) -> bool:
    """Tell whether every number of a view is one."""
    return view.ramp_w_per_s > 0.0 and isfinite(
        view.power_w + view.applied_w + view.charge_limit_w + view.discharge_limit_w + view.ramp_w_per_s + view.heard_s
    )


def has_run_out(hold: Hold, now_s: float) -> bool:
    """Tell whether a channel may have come to rest since its last answer, because its lease was over."""
    return now_s + LOCK_MARGIN_S >= hold.leased_s and hold.levels[0].power_w != 0.0


def lease_end_s(view: EqualizationView) -> float:
    """Return when the lease ends that a channel tells of."""
    return inf if view.last is None or view.last.expires_in_s is None else view.heard_s + view.last.expires_in_s


def allowed_error_w(view: EqualizationView, settings: ControlSettings) -> float:
    """Return by how much a channel may miss what it applies."""
    return max(settings.release_w, DELIVERY_RATIO * max(view.charge_limit_w, view.discharge_limit_w))


def longest_ramp_s(view: EqualizationView) -> float:
    """Return how long a channel takes from one of its limits to the other."""
    return (view.charge_limit_w + view.discharge_limit_w) / view.ramp_w_per_s


def goes_to_w(view: EqualizationView) -> float:
    """Return the power that a channel comes to by itself: after its lease 0 W, wherever on the ramp it was seen."""
    expired = view.last is not None and view.last.result is SetpointResult.EXPIRED
    return 0.0 if expired else view.applied_w


def steps_soon(hold: Hold, now_s: float) -> bool:
    """Tell whether a change that was sent ahead comes too soon for anything to be said before it."""
    return any(now_s < level.at_s <= now_s + hold.travel_s + QUIET_S for level in hold.levels[1:])


def cut(hold: Hold, power_w: float, now_s: float) -> Hold:
    """Return a hold that goes to a power at once, whatever was sent ahead; it binds the channel as any change does."""
    return replace(
        hold,
        levels=(Level(now_s, now_s, power_w),),
        changed_s=now_s + hold.travel_s,
        prior_changed_s=hold.changed_s,
        reckoned_s=hold.travel_s,
    )


def standing(hold: Hold, power_w: float, now_s: float) -> Hold:
    """Take what a channel does as what it was asked."""
    level = Level(now_s, now_s, power_w)
    return replace(hold, levels=(level,), changed_s=last_changed_s(hold, now_s), pending=False, off_since_s=None)


def last_changed_s(hold: Hold, now_s: float) -> float:
    """Return when a channel was last changed; what was sent ahead and never came counts no more."""
    ahead = len(hold.levels) > 1 and hold.levels[-1].at_s > now_s
    return hold.prior_changed_s if ahead else hold.changed_s


def echo_of(view: EqualizationView) -> tuple[int, int] | None:
    """Return the epoch and the number of the order that a channel tells of."""
    return None if view.last is None else (view.last.epoch, view.last.seq)


def clipped_w(power_w: float, view: EqualizationView) -> float:
    """Return a power within what the channel can do now."""
    return min(max(power_w, -view.discharge_limit_w), view.charge_limit_w)


def unlock_s(hold: Hold, settings: ControlSettings) -> float:
    """Return from when on a channel may be changed."""
    if settings.delay_s <= 0.0:
        return hold.changed_s
    # Had the last change been on its way for less than is reckoned with now, the next one would come too soon.
    return hold.changed_s + settings.delay_s + LOCK_MARGIN_S + max(hold.travel_s - hold.reckoned_s, 0.0)


def slot(view: EqualizationView, hold: Hold, settings: ControlSettings, at_s: float, *, counted: bool) -> Slot:
    """Return what a channel can contribute at a time from now on; one that is not counted upon does what it does."""
    if not counted:
        fixed_w = view.power_w
        signs_w = [0.0 if abs(fixed_w) <= settings.release_w else fixed_w]
        if not hold.answered:
            signs_w += [level.power_w for level in hold.levels]  # its order may come yet
        return Slot(view.key, fixed_w, 0.0, 0.0, locked=True, lowest_w=min(signs_w), highest_w=max(signs_w))
    power_w = clipped_w(hold.power_w(at_s), view)
    coming_w = [power_w, *(clipped_w(level.power_w, view) for level in hold.levels if level.effect_s > at_s)]
    if hold.background:
        coming_w = [0.0]
    return Slot(
        view.key,
        power_w,
        view.charge_limit_w,
        view.discharge_limit_w,
        locked=unlock_s(hold, settings) > at_s,
        soc_ratio=view.soc_ratio,
        lowest_w=min(coming_w),
        highest_w=max(coming_w),
        background=hold.background,
        curve=settings.curves.get(view.key, ()),
    )


def change(
    hold: Hold,
    view: EqualizationView,
    power_w: float,
    effect_s: float,
    *,
    settings: ControlSettings,
    now_s: float,
    soonest_s: float = NEVER_S,
) -> Hold:
    """Return a hold that changes to `power_w` at `effect_s`, now or ahead.

    At an edge ahead, the ramp lies half before and half after it, but begins no sooner than the channel is free
    (nor than `soonest_s`).
    """
    levels: tuple[Level, ...] = (Level(effect_s, effect_s, power_w),)
    ahead = effect_s > now_s
    if ahead:
        soonest_s = max(now_s, unlock_s(hold, settings), soonest_s, hold.levels[-1].effect_s)
        effect_s = max(effect_s, soonest_s)
    ramp_s = abs(power_w - clipped_w(hold.power_w(effect_s), view)) / view.ramp_w_per_s
    if ahead:
        levels = (*hold.levels, Level(max(effect_s - 0.5 * ramp_s, soonest_s), effect_s, power_w))
    return replace(
        hold,
        levels=levels,
        changed_s=max(levels[-1].at_s, now_s + hold.travel_s),  # it cannot come sooner than the order
        prior_changed_s=hold.changed_s,
        reckoned_s=hold.travel_s,
        settled_s=effect_s + ramp_s + SETTLE_PERIODS * settings.period_s,
        answered=True,
        abandoned=False,
        pending=True,
        tries=0,
        superseded=hold.superseded if ahead else _taken_back(hold),
        background=False,
        # Asked for more or less in the same direction, a channel that does nothing has done nothing all the while.
        off_since_s=hold.off_since_s if power_w * hold.levels[0].power_w > 0.0 else None,
    )


def call_off(hold: Hold) -> Hold:
    """Return a hold without the last change that was sent ahead."""
    return replace(
        hold,
        levels=hold.levels[:-1],
        changed_s=hold.levels[-2].at_s if len(hold.levels) > 2 else hold.prior_changed_s,  # noqa: PLR2004 - another ahead
        pending=False,
        superseded=_taken_back(hold),
    )


def _taken_back(hold: Hold) -> Level | None:
    """Return the last change that was sent ahead and shall not come."""
    return hold.levels[-1] if len(hold.levels) > 1 else hold.superseded


def steps(hold: Hold, view: EqualizationView, now_s: float) -> tuple[SetpointStep, ...]:
    """Return what to send: the level that is due now, and those ahead, counted from when the order arrives."""
    present_w = hold.levels[0].power_w
    arrives_s = now_s + hold.reckoned_s
    ahead: list[SetpointStep] = []
    for level in hold.levels[1:]:
        if level.at_s <= arrives_s:
            present_w = level.power_w
        elif ahead and level.at_s - arrives_s <= ahead[-1].after_s:
            ahead[-1] = SetpointStep(after_s=ahead[-1].after_s, power_w=clipped_w(level.power_w, view))
        else:
            ahead.append(SetpointStep(after_s=level.at_s - arrives_s, power_w=clipped_w(level.power_w, view)))
    return (SetpointStep(after_s=0.0, power_w=clipped_w(present_w, view)), *ahead)


def sent(hold: Hold, view: EqualizationView, now_s: float) -> Hold:
    """Note that a hold went out on the channel's newest telemetry."""
    # What got lost is a change when it is said again, and so is a refresh that comes after the end of the lease.
    changes = hold.pending or has_run_out(hold, now_s)
    return replace(
        hold,
        changed_s=max(hold.changed_s, now_s + hold.reckoned_s) if changes else hold.changed_s,
        sent_s=now_s,
        unanswered_s=0.0,
        basis_seq=view.seq,
        echo=echo_of(view),
        order=None,
        under_way=hold.under_way + 1,
        answered=False,
        tries=0 if hold.answered else hold.tries + 1,
    )


def is_due(hold: Hold, settings: ControlSettings, now_s: float) -> bool:
    """Tell whether a hold must go out again: its lease wants renewing, or nobody answered.

    What was to take a change back is not said again when that has come: that would be another change.
    """
    if hold.superseded is not None and not hold.answered and now_s >= hold.superseded.at_s - LOCK_MARGIN_S:
        return False
    if hold.answered and has_run_out(hold, now_s) and unlock_s(hold, settings) > now_s:
        return False  # it has come to rest, or is about to: to renew what it did is a change
    return now_s >= due_s(hold, settings)


def due_s(hold: Hold, settings: ControlSettings) -> float:
    """Return when a hold must go out again."""
    if hold.is_awaited:
        return -NEVER_S
    if hold.sent_s == NEVER_S:
        led = hold.echo is not None or any(level.power_w != 0.0 for level in hold.levels)
        return NEVER_S if led else -NEVER_S
    answer_s = settings.refresh_s if hold.answered or hold.rejected else ANSWER_PERIODS * settings.period_s
    return hold.sent_s + min(settings.refresh_s, answer_s)
