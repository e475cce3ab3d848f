"""Channels taken over as they are found, without a step, and remembered when they leave. Powers in W, signed."""

from equalizer.control.holds import (
    ANSWER_PERIODS,
    SAME_W,
    SETTLE_PERIODS,
    allowed_error_w,
    clipped_w,
    echo_of,
    goes_to_w,
    has_run_out,
    last_changed_s,
    lease_end_s,
    longest_ramp_s,
    steps_soon,
)
from equalizer.control.image import EqualizationView
from equalizer.control.settings import LEAD_S, LOCK_MARGIN_S, ControlSettings
from equalizer.control.state import NEVER_S, Hold, Level
from equalizer.control.travel import abreast, arrived
from schemas.messages import SetpointResult
from schemas.values import replace

OLDEST_BASIS_S = 15.0
"""A station obeys no order on telemetry that is older (contract); from then on, its lease runs."""


def adopt(view: EqualizationView, settings: ControlSettings, now_s: float, before: Hold | None = None) -> Hold:
    """Take over what a channel is doing, without a step; when it was last changed is not forgotten.

    Telemetry that is not fresh may be older than the last order, and on a ramp a channel says what it passes: then it
    is taken over with a later telemetry, and nothing is asked of it meanwhile.
    """
    if before is not None and not view.fresh:
        return replace(before, unheard=True)
    if before is not None and not before.rejected and not before.guessed:
        before = abreast(before, view)
        if _obeys(view, before):
            return _taken_over(before, view, settings, now_s)
        if _is_on_its_way(before, view, settings, now_s):
            return replace(before, unheard=False)
    ramp_s = abs(view.applied_w - view.power_w) / view.ramp_w_per_s
    changed_s = last_changed_s(before, now_s) if before is not None else NEVER_S
    if _was_changed_by_another(view, before) or (before is not None and _is_outdated(before, view, now_s)):
        changed_s = max(changed_s, _latest_change_s(view, settings, now_s))
    return Hold(
        levels=(Level(now_s, now_s, goes_to_w(view)),),
        boot_id=view.boot_id,
        changed_s=changed_s,
        prior_changed_s=changed_s,
        settled_s=now_s + ramp_s + SETTLE_PERIODS * settings.period_s,
        echo=echo_of(view),
        rejected=before.rejected if before is not None else False,
        charge_cap=before.charge_cap if before is not None else None,
        discharge_cap=before.discharge_cap if before is not None else None,
        retry_s=before.retry_s if before is not None else NEVER_S,
        retry_wait_s=before.retry_wait_s if before is not None else 0.0,
        missed_s=before.missed_s if before is not None else (),
        travel_s=before.travel_s if before is not None else 0.0,
        reckoned_s=before.reckoned_s if before is not None else 0.0,
        basis_seq=view.seq,
        leased_s=lease_end_s(view),
        pending=before is not None and not before.answered,
        unheard=not view.fresh,
        guessed=not view.fresh or _is_on_its_ramp(view, settings, before) or _may_step(view, changed_s),
    )


def left(hold: Hold, settings: ControlSettings, now_s: float) -> Hold | None:
    """Return what must be remembered of a channel that left equalization mode: while its last change still binds it."""
    changed_s = last_changed_s(hold, now_s)
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


def _is_outdated(hold: Hold, view: EqualizationView, now_s: float) -> bool:
    """Tell whether a channel may have been changed since: by the end of its lease, or by what nobody here knew of."""
    return has_run_out(hold, now_s) or (hold.guessed and abs(hold.levels[0].power_w - view.applied_w) > SAME_W)


def _is_on_its_ramp(view: EqualizationView, settings: ControlSettings, before: Hold | None) -> bool:
    """Tell whether a channel may still be on its way; who has said the same before is not."""
    if abs(view.applied_w - view.power_w) <= allowed_error_w(view, settings):
        return False
    return before is None or not before.guessed or abs(before.levels[0].power_w - view.applied_w) > SAME_W


def _may_step(view: EqualizationView, changed_s: float) -> bool:
    """Tell whether a change may come, after this telemetry, that somebody else has sent ahead: it would be soon."""
    led = view.last is not None and view.last.result is not SetpointResult.EXPIRED
    return led and view.heard_s - changed_s < LEAD_S + 0.5 * longest_ramp_s(view)


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
    if hold.answered or view.boot_id != hold.boot_id:
        return False
    # A process that stood still has a clock that went on, and telemetry that waits to be read.
    heard = view.seq - hold.basis_seq
    return echo_of(view) == hold.echo and min(heard, (now_s - hold.sent_s) / settings.period_s) < ANSWER_PERIODS


def _taken_over(hold: Hold, view: EqualizationView, settings: ControlSettings, now_s: float) -> Hold:
    """Go on with what was asked: its level, even where the ramp is on the way to it, and what was sent ahead."""
    while len(hold.levels) > 1 and (hold.levels[1].at_s <= now_s or _has_stepped(hold, view)):
        hold = replace(hold, levels=hold.levels[1:])
    unsaid = hold.pending and hold.answered
    hold = _begun_anew(hold, now_s) if unsaid else arrived(hold, view, settings)
    ramp_s = abs(hold.levels[-1].power_w - view.power_w) / view.ramp_w_per_s
    settled_s = max(now_s, hold.levels[-1].at_s) + ramp_s + SETTLE_PERIODS * settings.period_s
    return replace(
        hold,
        unheard=False,
        settled_s=settled_s,
        answered=True,
        pending=unsaid,
        tries=0,
        under_way=0,
        superseded=None,
        echo=echo_of(view),
        leased_s=lease_end_s(view),
    )


def _has_stepped(hold: Hold, view: EqualizationView) -> bool:
    """Tell whether what was sent ahead has come already, or is on its ramp: it was overheard late."""
    here, ahead = (abs(view.applied_w - clipped_w(level.power_w, view)) for level in hold.levels[:2])
    stood = view.heard_s - hold.prior_changed_s > longest_ramp_s(view)
    return here > SAME_W and (ahead <= SAME_W or stood)


def _begun_anew(hold: Hold, now_s: float) -> Hold:
    """Go on from a server that fell silent: what it sent last may come, or have come, just before the first order.

    So that one is a change, and takes back what was sent ahead, unless it comes sooner.
    """
    levels = hold.levels if steps_soon(hold, now_s) else hold.levels[:1]
    changed_s = max(now_s, levels[-1].at_s)
    return replace(hold, levels=levels, changed_s=changed_s, prior_changed_s=changed_s)


def _latest_change_s(view: EqualizationView, settings: ControlSettings, now_s: float) -> float:
    """Return when a channel was last changed at the latest: just now, or in time for its lease to end."""
    over = view.last is not None and view.last.result is SetpointResult.EXPIRED
    return now_s - max(0.0, settings.ttl_s - OLDEST_BASIS_S) if over else now_s


def _was_changed_by_another(view: EqualizationView, before: Hold | None) -> bool:
    """Tell whether a channel follows, or has followed, a setpoint that this control knows nothing of."""
    last = view.last
    if last is None:
        return False
    if before is None or before.answered:
        return before is None or (last.epoch, last.seq) != before.echo
    return before.echo is not None and last.epoch != before.echo[0]
