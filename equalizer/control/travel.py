"""What an order takes to travel, and which order an echo answers."""

from collections.abc import Iterable

from equalizer.control.holds import echo_of, has_run_out
from equalizer.control.image import EqualizationView
from equalizer.control.settings import ControlSettings
from equalizer.control.state import Hold
from schemas.values import replace

TRIPS = 32
OUTLIERS = 2
"""So many of the last `TRIPS` orders may have been held up by something else than their usual way."""
LONGEST_TRAVEL_S = 0.5
"""What is slower than this is no network's delay that could be reckoned with."""

UNTOLD_PERIODS = 1.5
"""Telemetry that comes so long after the one before has left one out: nobody knows what that would have told."""


def timed(hold: Hold) -> Hold:
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


def arrived(hold: Hold, view: EqualizationView, settings: ControlSettings) -> Hold:
    """Return a hold whose order has come: if late, no sooner than telemetry tells, and so what it sent ahead.

    Where the lease before it has run out meanwhile, the channel has been at rest, and has come back with it.
    """
    untold_s = view.heard_s - hold.sent_s - hold.unanswered_s
    slow = hold.pending and untold_s > UNTOLD_PERIODS * settings.period_s
    if not hold.late and not slow and not has_run_out(hold, view.heard_s):
        return hold
    ahead_s = max(0.0, hold.levels[-1].at_s - hold.sent_s)
    return replace(hold, late=False, changed_s=max(hold.changed_s, view.heard_s + ahead_s))


def abreast(hold: Hold, view: EqualizationView) -> Hold:
    """Return a hold that has noted an echo of an order before its last one: that is no answer to the last.

    A channel's orders are numbered one by one.
    """
    echo = echo_of(view)
    if hold.answered or echo is None or hold.echo is None or echo[0] != hold.echo[0] or echo[1] <= hold.echo[1]:
        return hold
    behind = hold.under_way - (echo[1] - hold.echo[1])
    return replace(hold, echo=echo, under_way=behind) if behind > 0 else hold


def least_s(holds: Iterable[Hold]) -> float:
    """Return how long any message is on its way at the least, s, as the answers to orders show it; 0: not known yet.

    Of the channels of which it is known, the quickest one's: other stations' messages are hardly quicker.
    """
    return min((hold.travel_s for hold in holds if len(hold.missed_s) > OUTLIERS), default=0.0)
