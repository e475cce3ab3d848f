"""Which server is in charge: the epoch, and what to do when another one shows up.

Pure. Whoever has the highest epoch is in charge; the stations enforce it. A server takes one more than any it has seen,
and a running one that sees a higher one than its own, from another, stands by. A station that refuses an epoch as stale
does not say how high the one it knows is, so a server that nobody else challenges climbs in growing steps.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from schemas.messages import Presence, ServerAnnouncement, SetpointEcho, SetpointReason, SetpointResult

LARGEST_STEP = 900
"""A station refuses an epoch that is more than 1000 above the one it knows."""
HIGHEST_EPOCH = 2**62
"""No honest server gets there, and above the highest number that the contract has there is none to lead under."""


class Standing(StrEnum):
    """Whether this server may send setpoints."""

    JOINING = "joining"
    """It still listens for epochs; nothing has been sent under its own."""
    IN_CHARGE = "in_charge"
    STANDBY = "standby"
    """Another server has shown up: nothing is sent until it has gone."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One run of one server; a restarted one, or a second of the same name, is another."""

    server: str
    started_unix_time_s: float


@dataclass(frozen=True, slots=True)
class Fence:
    """What this server knows about epochs."""

    own: Identity
    epoch: int
    """Its own; stored before it is used."""
    highest_seen: int
    standing: Standing = Standing.JOINING
    rival: Identity | None = None
    """Another server that was last announced online."""
    conflict: str | None = None
    """Why it stands by."""
    step: int = 1
    """By how much the next epoch exceeds the highest seen."""


def opened(own: Identity, stored_epoch: int) -> Fence:
    """Return the fence of a server that has just started: one epoch above the stored one."""
    return Fence(own, epoch=stored_epoch + 1, highest_seen=stored_epoch)


def standing_by(own: Identity, stored_epoch: int) -> Fence:
    """Return the fence of a server that begins as a standby: it takes an epoch when it claims the place."""
    listening = "listens whether another server is in charge"
    return Fence(own, stored_epoch, stored_epoch, standing=Standing.STANDBY, conflict=listening)


def announced(fence: Fence, message: ServerAnnouncement, *, retained: bool) -> Fence:
    """Take note of an announcement on the loop's own topic, ours included.

    What a starting server finds retained tells of the past: it takes over from it. Any other is of a server that began
    later, or at the same moment.
    """
    identity = Identity(message.server, message.started_unix_time_s)
    if identity == fence.own:
        return fence
    seen = _seen(fence, message.epoch)
    if message.status is Presence.OFFLINE:
        return replace(seen, rival=None) if fence.rival == identity else seen
    if fence.standing is Standing.JOINING and retained:
        return seen
    if fence.standing is Standing.STANDBY:
        # One with a lower epoch than any seen was overtaken, and does not know it yet.
        return seen if message.epoch < fence.highest_seen and fence.rival is not None else replace(seen, rival=identity)
    if message.epoch > fence.epoch or (message.epoch == fence.epoch and _yields(fence.own, identity)):
        why = f"server {message.server} announces epoch {message.epoch}, ours is {fence.epoch}"
        return _stand_by(replace(seen, rival=identity), why)
    return raised(seen)


def echoed(fence: Fence, echo: SetpointEcho, *, fresh: bool) -> Fence:
    """Take note of what a channel last decided on.

    Args:
        fence: what was known.
        echo: from the channel's telemetry.
        fresh: the channel decided on it while this server watched; not something that it found on arriving.
    """
    if echo.epoch == fence.epoch and echo.server == fence.own.server:
        if echo.result is SetpointResult.REJECTED and echo.reason in _CHALLENGED and fence.standing is _IN_CHARGE:
            step = min(2 * fence.step, LARGEST_STEP)
            return _stand_by(replace(fence, step=step), f"a station refuses epoch {fence.epoch}: {echo.reason}")
        return fence
    if echo.result is SetpointResult.REJECTED:
        # A station that refused it did not take that epoch over; whoever sent it may be far off.
        return fence
    seen = _seen(fence, echo.epoch)
    if echo.epoch <= fence.epoch or fence.standing is not Standing.IN_CHARGE:
        return seen
    if not fresh:
        return raised(seen)
    return _stand_by(seen, f"a station obeys server {echo.server} at epoch {echo.epoch}, ours is {fence.epoch}")


def raised(fence: Fence) -> Fence:
    """Take an epoch above any that was seen; the caller stores it before it is used. Not while standing by."""
    if fence.epoch > fence.highest_seen or fence.standing is Standing.STANDBY:
        return fence
    return replace(fence, epoch=fence.highest_seen + 1)


def taken_charge(fence: Fence) -> Fence:
    """Begin to send: from now on, a higher epoch of another server is a conflict."""
    return replace(fence, standing=Standing.IN_CHARGE)


def stood_down(fence: Fence, why: str) -> Fence:
    """Leave the place to others: this server cannot be in charge."""
    return _stand_by(fence, why)


def rejoined(fence: Fence, least_epoch: int = 0) -> Fence:
    """Leave standby: listen once more, under an epoch that is higher than any seen."""
    epoch = max(max(fence.epoch, fence.highest_seen) + fence.step, least_epoch)
    return replace(fence, standing=Standing.JOINING, conflict=None, rival=None, epoch=epoch)


def overwritten(fence: Fence, message: ServerAnnouncement) -> bool:
    """Tell whether the retained announcement no longer says that this server is there, though it is in charge.

    A late will does that: of an earlier connection, or of the server that this one took over from.
    """
    if fence.standing is Standing.STANDBY:
        return False
    if Identity(message.server, message.started_unix_time_s) == fence.own:
        return message.status is Presence.OFFLINE
    return message.epoch <= fence.epoch


_IN_CHARGE = Standing.IN_CHARGE
_CHALLENGED = (SetpointReason.STALE_EPOCH, SetpointReason.EPOCH_CONFLICT)


def _seen(fence: Fence, epoch: int) -> Fence:
    return replace(fence, highest_seen=epoch) if fence.highest_seen < epoch <= HIGHEST_EPOCH else fence


def _stand_by(fence: Fence, why: str) -> Fence:
    return replace(fence, standing=Standing.STANDBY, conflict=why)


def _yields(own: Identity, other: Identity) -> bool:
    """Decide between two that took the same epoch at once: both come to the same answer."""
    return (own.server, own.started_unix_time_s) < (other.server, other.started_unix_time_s)
