"""What each equalization channel has been asked, held against what its telemetry shows. Powers in W, signed."""

from dataclasses import replace
from math import inf, isfinite

from equalizer.control.allocation import Slot
from equalizer.control.image import EqualizationView
from equalizer.control.settings import LOCK_MARGIN_S, ControlSettings
from equalizer.control.state import NEVER_S, Cap, Hold, Level
from schemas.messages import SetpointResult, SetpointStep

BASIS_MAX_S = 10.0
"""A channel whose newest telemetry is older takes no setpoint: the station would reject it at 15 s."""
ANSWER_PERIODS = 2.5
TRIES = 3
DELIVERY_S = 10.0
DELIVERY_RATIO = 0.05
DELIVERY_AGAIN_S = 2.0
"""A channel that failed before is judged sooner: whoever tries it again should not pay for it as long."""
RETRY_FIRST_S = 1.0
RETRY_LAST_S = 30.0
SETTLE_PERIODS = 2.0
SAME_W = 1.0
"""What is applied may differ by rounding from what was asked."""
TRIPS = 32
OUTLIERS = 2
"""So many of the last `TRIPS` orders may have been held up by something else than their usual way."""
LONGEST_TRAVEL_S = 0.5
"""What is slower than this is no network's delay that could be reckoned with."""


def is_usable(view: EqualizationView, now_s: float) -> bool:
    """Tell whether a channel can be sent a setpoint now."""
    return view.fresh and view.station_online and not view.alarm and view.age_s(now_s) <= BASIS_MAX_S


def is_finite(view: EqualizationView) -> bool:
    """Tell whether every number of a view is one."""
    return view.ramp_w_per_s > 0.0 and isfinite(
        view.power_w + view.applied_w + view.charge_limit_w + view.discharge_limit_w + view.ramp_w_per_s + view.heard_s
    )


def adopt(view: EqualizationView, settings: ControlSettings, now_s: float, before: Hold | None = None) -> Hold:
    """Take over what a channel is doing, without a step; when it was last changed is not forgotten.

    Telemetry that is not fresh may be older than the last order, and on a ramp a channel says what it passes: then it
    is taken over with a later telemetry, and nothing is asked of it meanwhile.
    """
    if before is not None and not view.fresh:
        return replace(before, unheard=True)
    if before is not None and not before.rejected and not before.guessed:
        before = _abreast(before, view)
        if _obeys(view, before):
            return _taken_over(before, view, settings, now_s)
        if _is_on_its_way(before, view, settings, now_s):
            return replace(before, unheard=False)
    ramp_s = abs(view.applied_w - view.power_w) / view.ramp_w_per_s
    changed_s = _changed_s(before, now_s) if before is not None else NEVER_S
    if _was_changed_by_another(view, before) or (before is not None and _is_outdated(before, view, now_s)):
        changed_s = now_s  # nobody tells when, so it may have been just now
    return Hold(
        levels=(Level(now_s, now_s, _goes_to_w(view)),),
        boot_id=view.boot_id,
        changed_s=changed_s,
        prior_changed_s=changed_s,
        settled_s=now_s + ramp_s + SETTLE_PERIODS * settings.period_s,
        echo=_echo(view),
        rejected=before.rejected if before is not None else False,
        charge_cap=before.charge_cap if before is not None else None,
        discharge_cap=before.discharge_cap if before is not None else None,
        retry_s=before.retry_s if before is not None else NEVER_S,
        retry_wait_s=before.retry_wait_s if before is not None else 0.0,
        missed_s=before.missed_s if before is not None else (),
        travel_s=before.travel_s if before is not None else 0.0,
        reckoned_s=before.reckoned_s if before is not None else 0.0,
        basis_seq=view.seq,
        leased_s=_leased_s(view),
        unheard=not view.fresh,
        guessed=not view.fresh or _is_on_its_ramp(view, settings, before),
    )


def _has_run_out(hold: Hold, now_s: float) -> bool:
    """Tell whether a channel may have come to rest since its last answer, because its lease was over."""
    return now_s + LOCK_MARGIN_S >= hold.leased_s and hold.levels[0].power_w != 0.0


def _is_outdated(hold: Hold, view: EqualizationView, now_s: float) -> bool:
    """Tell whether a channel may have been changed since: by the end of its lease, or by what nobody here knew of."""
    return _has_run_out(hold, now_s) or (hold.guessed and abs(hold.levels[0].power_w - view.applied_w) > SAME_W)


def _leased_s(view: EqualizationView) -> float:
    """Return when the lease ends that a channel tells of."""
    return inf if view.last is None or view.last.expires_in_s is None else view.heard_s + view.last.expires_in_s


def _is_on_its_ramp(view: EqualizationView, settings: ControlSettings, before: Hold | None) -> bool:
    """Tell whether a channel may still be on its way; who has said the same before is not."""
    if abs(view.applied_w - view.power_w) <= _tolerance_w(view, settings):
        return False
    return before is None or not before.guessed or abs(before.levels[0].power_w - view.applied_w) > SAME_W


def _tolerance_w(view: EqualizationView, settings: ControlSettings) -> float:
    """Return by how much a channel may miss what it applies."""
    return max(settings.release_w, DELIVERY_RATIO * max(view.charge_limit_w, view.discharge_limit_w))


def _goes_to_w(view: EqualizationView) -> float:
    """Return the power that a channel comes to by itself: after its lease 0 W, wherever on the ramp it was seen."""
    expired = view.last is not None and view.last.result is SetpointResult.EXPIRED
    return 0.0 if expired else view.applied_w


def _obeys(view: EqualizationView, hold: Hold) -> bool:
    """Tell whether a channel does just what it was asked, by this server or by one that was overheard."""
    last = view.last
    if last is None or last.result not in (SetpointResult.APPLIED, SetpointResult.CLAMPED):
        return False
    if view.boot_id != hold.boot_id or hold.echo is None:
        return False
    if hold.answered:
        return (last.epoch, last.seq) == hold.echo
    # The answer to the last order came while nobody listened.
    return view.seq > hold.basis_seq and last.epoch == hold.echo[0] and last.seq > hold.echo[1]


def _is_on_its_way(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> bool:
    """Tell whether an order of this server has just gone out, of which telemetry can show nothing yet."""
    last = view.last
    if hold.answered or view.boot_id != hold.boot_id or (last is not None and last.result is SetpointResult.EXPIRED):
        return False
    # A process that stood still has a clock that went on, and telemetry that waits to be read.
    heard = view.seq - hold.basis_seq
    return _echo(view) == hold.echo and min(heard, (now_s - hold.sent_s) / settings.period_s) < ANSWER_PERIODS


def _taken_over(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    """Go on with what was asked: its level, even where the ramp is on the way to it, and what was sent ahead."""
    while len(hold.levels) > 1 and hold.levels[1].at_s <= now_s:
        hold = replace(hold, levels=hold.levels[1:])
    hold = _arrived(hold, view, settings)
    ramp_s = abs(hold.levels[-1].power_w - view.power_w) / view.ramp_w_per_s
    settled_s = max(now_s, hold.levels[-1].at_s) + ramp_s + SETTLE_PERIODS * settings.period_s
    hold = replace(
        hold,
        unheard=False,
        settled_s=settled_s,
        answered=True,
        pending=False,
        tries=0,
        superseded=None,
        echo=_echo(view),
        leased_s=_leased_s(view),
    )
    # At rest by now, or nearly: to renew what it did is a change.
    return replace(hold, changed_s=max(hold.changed_s, now_s)) if _has_run_out(hold, now_s) else hold


def left(hold: Hold, settings: ControlSettings, now_s: float) -> Hold | None:
    """Return what must be remembered of a channel that left equalization mode: while its last change still binds it."""
    changed_s = _changed_s(hold, now_s)
    if changed_s + settings.delay_s + LOCK_MARGIN_S <= now_s:
        return None
    return Hold(
        levels=(Level(now_s, now_s, 0.0),),
        boot_id=None,
        changed_s=changed_s,
        prior_changed_s=changed_s,
        echo=hold.echo,
        charge_cap=hold.charge_cap,
        discharge_cap=hold.discharge_cap,
        retry_s=hold.retry_s,
        retry_wait_s=hold.retry_wait_s,
    )


def reconcile(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    """Return what is asked of a channel after its newest telemetry."""
    if hold.is_awaited:
        said = view.fresh and (view.boot_id, view.seq) != (hold.boot_id, hold.basis_seq)
        return adopt(view, settings, now_s, hold) if said else hold
    if view.boot_id != hold.boot_id:
        return adopt(view, settings, now_s, replace(hold, rejected=False))
    while len(hold.levels) > 1 and hold.levels[1].effect_s <= now_s:
        unconfirmed = len(hold.levels) > 2 and (hold.unconfirmed or (hold.pending and not hold.answered))  # noqa: PLR2004 - another ahead
        hold = replace(hold, levels=hold.levels[1:], unconfirmed=unconfirmed)
    if (hold.abandoned or hold.rejected) and _has_come_after_all(hold, view):
        return adopt(view, settings, now_s, replace(hold, rejected=False, guessed=hold.guessed or hold.rejected))
    hold = _answered(_abreast(hold, view), view, settings, now_s)
    if hold.rejected:
        return hold if hold.levels[0].power_w == view.applied_w else _standing(hold, view.applied_w, now_s)
    if now_s < hold.retry_s:
        return hold
    return _delivering(hold, view, settings, now_s)


def _answered(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    last = view.last
    if hold.answered:
        ended = last is not None and last.result is SetpointResult.EXPIRED
        rest_w = _goes_to_w(view)
        return _standing(hold, rest_w, now_s) if ended and hold.levels[0].power_w != rest_w else hold
    if view.heard_s - hold.sent_s >= settings.ttl_s:
        # Wherever it got lost, its lease is over; to say it again would be a change.
        return replace(_standing(hold, view.applied_w, now_s), answered=True, tries=0, echo=_echo(view), under_way=0)
    if last is None or (last.epoch, last.seq) == hold.echo or view.seq <= hold.basis_seq:
        return _unanswered(hold, view, settings, now_s)
    arrived = _timed(_arrived(hold, view, settings))
    answered = replace(arrived, answered=True, tries=0, echo=_echo(view), under_way=0, superseded=None)
    match last.result:
        case SetpointResult.APPLIED | SetpointResult.CLAMPED:
            leased_s = hold.sent_s + settings.ttl_s
            return replace(answered, rejected=False, pending=False, unconfirmed=False, leased_s=leased_s)
        case SetpointResult.REJECTED:
            return replace(_standing(answered, view.applied_w, now_s), rejected=True)
        case SetpointResult.EXPIRED:
            return _standing(answered, _goes_to_w(view), now_s)


def _unanswered(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    """Give a channel up that never answers; note where telemetry should have told of a change, and does not.

    That order is late, or lost. A refresh is a change, too, where the lease before it has run out.
    """
    if hold.superseded is not None and view.heard_s >= hold.superseded.at_s + LOCK_MARGIN_S:
        return _superseded(hold, hold.superseded, view, settings)
    silent = now_s - hold.sent_s >= ANSWER_PERIODS * settings.period_s
    if hold.tries >= TRIES and silent and not hold.rejected:
        return replace(_standing(hold, view.applied_w, now_s), rejected=True)
    runs_out = hold.leased_s <= view.heard_s + ANSWER_PERIODS * settings.period_s
    changes = hold.pending or runs_out or abs(view.applied_w - hold.levels[0].power_w) > SAME_W
    crossed_s = view.heard_s - hold.sent_s if view.seq > hold.basis_seq else 0.0
    late = changes and crossed_s > 2.0 * hold.reckoned_s + LOCK_MARGIN_S
    if crossed_s > hold.unanswered_s:
        hold = replace(hold, unanswered_s=crossed_s)
    return replace(hold, late=True) if late and not hold.late else hold


def _superseded(hold: Hold, ahead: Level, view: EqualizationView, settings: ControlSettings) -> Hold:
    """Take the change for made that was to be taken back, where the order for that got lost on the way."""
    if abs(view.applied_w - clipped_w(ahead.power_w, view)) <= SAME_W:
        made = replace(hold, levels=(ahead,), changed_s=ahead.at_s, superseded=None, echo=_echo(view))
        return replace(made, abandoned=True, answered=True, pending=False, tries=0, under_way=0)
    ramp_s = (view.charge_limit_w + view.discharge_limit_w) / view.ramp_w_per_s
    over_s = ahead.at_s + ramp_s + SETTLE_PERIODS * settings.period_s
    return hold if view.heard_s < over_s else replace(hold, superseded=None)


def _has_come_after_all(hold: Hold, view: EqualizationView) -> bool:
    """Tell whether a channel obeys an order that was taken for lost."""
    last = view.last
    if last is None or hold.echo is None or last.result not in (SetpointResult.APPLIED, SetpointResult.CLAMPED):
        return False
    return last.epoch == hold.echo[0] and last.seq > hold.echo[1]


def _arrived(hold: Hold, view: EqualizationView, settings: ControlSettings) -> Hold:
    """Return a hold whose order has come: if late, no sooner than telemetry tells, and so what it sent ahead.

    Where the lease before it has run out meanwhile, the channel has been at rest, and has come back with it.
    """
    slow = hold.pending and view.heard_s - hold.sent_s > ANSWER_PERIODS * settings.period_s
    if not hold.late and not slow and not _has_run_out(hold, view.heard_s):
        return hold
    ahead_s = max(0.0, hold.levels[-1].at_s - hold.sent_s)
    return replace(hold, late=False, changed_s=max(hold.changed_s, view.heard_s + ahead_s))


def _abreast(hold: Hold, view: EqualizationView) -> Hold:
    """Return a hold that has noted an echo of an order before its last one: that is no answer to the last.

    A channel's orders are numbered one by one.
    """
    echo = _echo(view)
    if hold.answered or echo is None or hold.echo is None or echo[0] != hold.echo[0] or echo[1] <= hold.echo[1]:
        return hold
    behind = hold.under_way - (echo[1] - hold.echo[1])
    return replace(hold, echo=echo, under_way=behind) if behind > 0 else hold


def _timed(hold: Hold) -> Hold:
    """Learn from an answer how long messages travel; one to an order that was sent again tells nothing.

    Telemetry that came after an order and did not answer it was sent before the order arrived: there and back takes
    longer than that. Orders go out at any time between two messages, so the longest of these is near the truth, and
    where they all go out just after one, nothing is known and nothing reckoned with.
    """
    if hold.tries > 0:
        return hold
    missed_s = (*hold.missed_s, hold.unanswered_s)[-TRIPS:]
    ranked_s = sorted(missed_s, reverse=True)
    there_and_back_s = ranked_s[OUTLIERS] if len(ranked_s) > OUTLIERS else 0.0
    return replace(hold, missed_s=missed_s, travel_s=min(0.5 * there_and_back_s, LONGEST_TRAVEL_S))


def _delivering(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    """Find a channel that for long has not done what it said it applies."""
    tolerance_w = _tolerance_w(view, settings)
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


def cut(hold: Hold, power_w: float, now_s: float) -> Hold:
    """Return a hold that goes to a power at once, whatever was sent ahead; it binds the channel as any change does."""
    return replace(
        hold,
        levels=(Level(now_s, now_s, power_w),),
        changed_s=now_s + hold.travel_s,
        prior_changed_s=hold.changed_s,
        reckoned_s=hold.travel_s,
    )


def _longer_s(wait_s: float) -> float:
    return min(max(RETRY_FIRST_S, 2.0 * wait_s), RETRY_LAST_S)


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


def _standing(hold: Hold, power_w: float, now_s: float) -> Hold:
    """Take what a channel does as what it was asked."""
    level = Level(now_s, now_s, power_w)
    return replace(hold, levels=(level,), changed_s=_changed_s(hold, now_s), pending=False, off_since_s=None)


def _changed_s(hold: Hold, now_s: float) -> float:
    """Return when a channel was last changed; what was sent ahead and never came counts no more."""
    ahead = len(hold.levels) > 1 and hold.levels[-1].at_s > now_s
    return hold.prior_changed_s if ahead else hold.changed_s


def _was_changed_by_another(view: EqualizationView, before: Hold | None) -> bool:
    """Tell whether a channel follows (or holds at rest for) a setpoint that this control knows nothing of."""
    last = view.last
    if last is None or last.result is SetpointResult.EXPIRED:
        return False
    if last.result is SetpointResult.REJECTED and view.applied_w == 0.0:
        return False
    if before is None or before.answered:
        return before is None or (last.epoch, last.seq) != before.echo
    return before.echo is not None and last.epoch != before.echo[0]


def _echo(view: EqualizationView) -> tuple[int, int] | None:
    return None if view.last is None else (view.last.epoch, view.last.seq)


def clipped_w(power_w: float, view: EqualizationView) -> float:
    """Return a power within what the channel can do now."""
    return min(max(power_w, -view.discharge_limit_w), view.charge_limit_w)


def delivery_error_w(hold: Hold, view: EqualizationView) -> float:
    """Return what a channel does beyond what it was asked; 0 until its telemetry can show it."""
    if not hold.answered or len(hold.levels) > 1 or view.heard_s < hold.settled_s:
        return 0.0
    return view.power_w - clipped_w(hold.levels[0].power_w, view)


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
        sign_w = 0.0 if abs(fixed_w) <= settings.release_w else fixed_w
        return Slot(view.key, fixed_w, 0.0, 0.0, locked=True, lowest_w=sign_w, highest_w=sign_w)
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
    ramp_s = abs(power_w - clipped_w(hold.power_w(effect_s), view)) / view.ramp_w_per_s
    levels: tuple[Level, ...] = (Level(effect_s, effect_s, power_w),)
    if effect_s > now_s:
        soonest_s = max(now_s, unlock_s(hold, settings), soonest_s)
        if len(hold.levels) > 1:
            soonest_s = max(soonest_s, hold.levels[-1].effect_s)
        levels = (*hold.levels, Level(min(max(effect_s - 0.5 * ramp_s, soonest_s), effect_s), effect_s, power_w))
    return replace(
        hold,
        levels=levels,
        changed_s=levels[-1].at_s if effect_s > now_s else now_s + hold.travel_s,
        prior_changed_s=hold.changed_s,
        reckoned_s=hold.travel_s,
        settled_s=effect_s + ramp_s + SETTLE_PERIODS * settings.period_s,
        answered=True,
        abandoned=False,
        pending=True,
        unconfirmed=effect_s > now_s and (hold.unconfirmed or _is_unanswered_change(hold)),
        tries=0,
        superseded=_taken_back(hold) if effect_s <= now_s else hold.superseded,
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


def _is_unanswered_change(hold: Hold) -> bool:
    """Tell whether the present level is one that the channel has not said to apply."""
    return hold.pending and not hold.answered and len(hold.levels) == 1


def spaced(hold: Hold, settings: ControlSettings, now_s: float) -> Hold:
    """Return a hold without the steps that would come too soon after a present level that changes the channel now."""
    if not hold.unconfirmed or settings.delay_s <= 0.0:
        return hold
    free_s = now_s + settings.delay_s + LOCK_MARGIN_S
    if len(hold.levels) == 1 or hold.levels[1].at_s >= free_s:
        return hold
    return replace(hold, levels=hold.levels[:1], changed_s=now_s + hold.reckoned_s, unconfirmed=False)


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
    changes = (hold.pending and not hold.answered) or _has_run_out(hold, now_s)
    return replace(
        hold,
        changed_s=max(hold.changed_s, now_s + hold.reckoned_s) if changes else hold.changed_s,
        sent_s=now_s,
        unanswered_s=0.0,
        basis_seq=view.seq,
        echo=_echo(view),
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
    return now_s >= due_s(hold, settings)


def due_s(hold: Hold, settings: ControlSettings) -> float:
    """Return when a hold must go out again."""
    if hold.is_awaited:
        return -NEVER_S
    if hold.sent_s == NEVER_S:
        return NEVER_S if any(level.power_w != 0.0 for level in hold.levels) else -NEVER_S
    answer_s = settings.refresh_s if hold.answered or hold.rejected else ANSWER_PERIODS * settings.period_s
    return hold.sent_s + min(settings.refresh_s, answer_s)
