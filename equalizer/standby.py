"""Whether the server in charge lives: what a server that stands by goes by. Pure; time is an argument.

A retained announcement, or one that a broker brings back after a crash, says `online` of a server that may be long
dead. What proves life is something new: an announcement that comes live, with a heartbeat above the last one's, or a
balance (one a second, from any version) with a seq above the last one's. Silence is measured on the receiver's clock.
"""

from dataclasses import dataclass, replace

from equalizer.fencing import Identity
from schemas.messages import LoopBalance, Phase, Presence, ServerAnnouncement

LEFT_GRACE_S = 0.3
"""A server whose late will says that it is gone says within this time that it is not."""
NAMESAKE_APART_S = 0.8
"""Two signs of life that lie so far apart are no remains of a process that has just died."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How a server that may stand by takes its times."""

    enabled: bool = False
    """Whether it follows a living server rather than taking over from it."""
    lost_s: float = 5.0
    """A server that was silent for so long is lost."""
    settle_s: float = 0.5
    """A claim is left to be disputed for so long."""
    handover_s: float = 2.0
    """A server that stops waits so long for another to claim its place."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The server in charge, as far as it was heard of."""

    leader: Identity | None = None
    """None: nobody that is known of."""
    epoch: int = 0
    since_s: float = 0.0
    """Its last sign of life; before the first one, since when it is waited for."""
    proved: bool = False
    """Whether it has given a sign of life since this server listens."""
    heartbeat: int = -1
    balance: tuple[int, int] = (-1, -1)
    """Epoch and seq of its last balance."""
    free_s: float | None = None
    """From when on its place is free: it has said, or its will has, that it is gone. None: neither has."""


def begun(watch: Watch, now_s: float) -> Watch:
    """Listen anew: what was not heard before tells nothing of it."""
    return replace(watch, since_s=now_s, proved=False)


def announced(watch: Watch, message: ServerAnnouncement, *, retained: bool, now_s: float) -> Watch:
    """Take note of another server's announcement; one that was overtaken, or stands by itself, is not in charge."""
    identity = Identity(message.server, message.started_unix_time_s)
    if message.status is Presence.OFFLINE:
        if identity != watch.leader or watch.free_s is not None:
            return watch
        # A will was made with the connection, and can be late; a farewell is the newest that its server has said.
        farewell = not retained and message.heartbeat is not None and message.heartbeat > watch.heartbeat >= 0
        return replace(watch, free_s=now_s if farewell else now_s + LEFT_GRACE_S)
    if message.epoch < watch.epoch or message.phase is Phase.STANDBY:
        return watch
    if identity != watch.leader:
        return Watch(
            identity,
            message.epoch,
            since_s=now_s,
            proved=not retained,
            heartbeat=-1 if message.heartbeat is None else message.heartbeat,
        )
    known = replace(watch, epoch=message.epoch)
    if retained or (message.heartbeat is not None and message.heartbeat <= watch.heartbeat):
        return known
    heartbeat = watch.heartbeat if message.heartbeat is None else message.heartbeat
    return replace(known, since_s=now_s, proved=True, heartbeat=heartbeat, free_s=None)


def balanced(watch: Watch, message: LoopBalance, *, retained: bool, now_s: float) -> Watch:
    """Take note of another server's balance: a sign of life of whoever is in charge, announced or not."""
    place = (message.epoch, message.seq)
    if retained or message.epoch < watch.epoch or message.phase is Phase.STANDBY:
        return watch
    if watch.leader is None:
        leader = Identity(message.server, 0.0)
        return Watch(leader, message.epoch, since_s=now_s, proved=True, balance=place)
    if message.server != watch.leader.server or place <= watch.balance:
        return watch
    return replace(watch, since_s=now_s, proved=True, balance=place)


def vacant_s(watch: Watch, timing: Timing) -> float:
    """Return from when on the place of the server in charge is free, if nothing more is heard."""
    if watch.leader is None:
        return watch.since_s + timing.settle_s
    lost_s = watch.since_s + timing.lost_s
    return lost_s if watch.free_s is None else min(lost_s, watch.free_s)


def is_alive(watch: Watch, timing: Timing, now_s: float) -> bool:
    """Tell whether another server is in charge, and has proved it lately."""
    return watch.leader is not None and watch.proved and watch.free_s is None and now_s < watch.since_s + timing.lost_s
