"""What a channel's telemetry says to what it was asked, or fails to say. Powers in W, signed."""

from equalizer.control.adoption import adopt
from equalizer.control.delivery import delivering
from equalizer.control.holds import (
    ANSWER_PERIODS,
    SAME_W,
    SETTLE_PERIODS,
    clipped_w,
    echo_of,
    goes_to_w,
    lease_end_s,
    longest_ramp_s,
    standing,
)
from equalizer.control.image import EqualizationView
from equalizer.control.settings import LOCK_MARGIN_S, ControlSettings
from equalizer.control.state import Hold, Level
from equalizer.control.travel import abreast, arrived, timed
from schemas.messages import SetpointEcho, SetpointResult
from schemas.values import replace

TRIES = 4
"""After so many repetitions without an answer a change is given up, and so is the channel, until it answers."""


def reconcile(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    """Return what is asked of a channel after its newest telemetry."""
    if hold.is_awaited:
        said = view.fresh and (view.boot_id, view.seq) != (hold.boot_id, hold.basis_seq)
        return adopt(view, settings, now_s, hold) if said else hold
    if view.boot_id != hold.boot_id:
        return adopt(view, settings, now_s, replace(hold, rejected=False))
    while len(hold.levels) > 1 and hold.levels[1].effect_s <= now_s:
        hold = replace(hold, levels=hold.levels[1:])
    if (hold.abandoned or hold.rejected) and _has_come_after_all(hold, view):
        return adopt(view, settings, now_s, replace(hold, rejected=False, guessed=hold.guessed or hold.rejected))
    hold = _answered(abreast(hold, view), view, settings, now_s)
    if hold.rejected:
        return hold if hold.levels[0].power_w == view.applied_w else standing(hold, view.applied_w, now_s)
    if now_s < hold.retry_s:
        return hold
    return delivering(hold, view, settings, now_s)


def _answered(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    last = view.last
    if hold.answered:
        ended = last is not None and last.result is SetpointResult.EXPIRED
        rest_w = goes_to_w(view)
        return standing(hold, rest_w, now_s) if ended and hold.levels[0].power_w != rest_w else hold
    if view.heard_s - hold.sent_s >= settings.ttl_s:
        # Wherever it got lost, its lease is over; to say it again would be a change.
        return replace(standing(hold, view.applied_w, now_s), answered=True, tries=0, echo=echo_of(view), under_way=0)
    if last is None or (last.epoch, last.seq) == hold.echo or _is_to_another(last, hold) or view.seq <= hold.basis_seq:
        return _unanswered(hold, view, settings, now_s)
    come = timed(arrived(hold, view, settings))
    answered = replace(come, answered=True, tries=0, echo=echo_of(view), under_way=0, superseded=None)
    match last.result:
        case SetpointResult.APPLIED | SetpointResult.CLAMPED:
            # It runs from its basis, which may have waited on the way for long.
            leased_s = min(hold.sent_s + settings.ttl_s, lease_end_s(view))
            return replace(answered, rejected=False, pending=False, leased_s=leased_s)
        case SetpointResult.REJECTED:
            return replace(standing(answered, view.applied_w, now_s), rejected=True)
        case SetpointResult.EXPIRED:
            return standing(answered, goes_to_w(view), now_s)


def _is_to_another(last: SetpointEcho, hold: Hold) -> bool:
    """Tell whether an echo is of an order before the last: of this server's, or of one that was in charge before it."""
    return hold.order is not None and (last.epoch, last.seq) < hold.order


def _unanswered(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    """Give a channel up that never answers; note where telemetry should have told of a change, and does not.

    That order is late, or lost. A refresh is a change, too, where the lease before it has run out.
    """
    if hold.superseded is not None and view.heard_s >= hold.superseded.at_s + LOCK_MARGIN_S:
        return _superseded(hold, hold.superseded, view, settings)
    silent = now_s - hold.sent_s >= ANSWER_PERIODS * settings.period_s
    if hold.tries >= TRIES and silent and not hold.rejected:
        return replace(standing(hold, view.applied_w, now_s), rejected=True, pending=True)
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
        made = replace(hold, levels=(ahead,), changed_s=ahead.at_s, superseded=None, echo=echo_of(view))
        return replace(made, abandoned=True, answered=True, pending=False, tries=0, under_way=0)
    over_s = ahead.at_s + longest_ramp_s(view) + SETTLE_PERIODS * settings.period_s
    return hold if view.heard_s < over_s else replace(hold, superseded=None)


def _has_come_after_all(hold: Hold, view: EqualizationView) -> bool:
    """Tell whether a channel obeys an order that was taken for lost."""
    last = view.last
    if last is None or last.result not in (SetpointResult.APPLIED, SetpointResult.CLAMPED):
        return False
    return hold.echo is None or (last.epoch, last.seq) > hold.echo
