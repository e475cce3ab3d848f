"""Whether this server should be in charge, by what it hears of others and of itself. Told the time; no I/O."""

from equalizer import standby
from equalizer.control.image import LoopImage
from equalizer.fencing import Identity
from equalizer.standby import NAMESAKE_APART_S, Timing, Watch
from schemas.messages import LoopBalance, ServerAnnouncement

_LOOK_S = 0.1
_LONGEST_LOOK_S = 1.0


class Candidacy:
    """Watches the server in charge, and judges this server's own claim and fitness.

    Args:
        timing: of standing by.
        stored: whether a store beside the broker says who is in charge.
        now_s: monotonic seconds.
    """

    def __init__(self, timing: Timing, *, stored: bool, now_s: float) -> None:
        self.timing = timing
        self.stored = stored
        self.watch = standby.begun(Watch(), now_s)
        self.claimed_s: float | None = None
        """When this server claimed the place; None: no claim of it is open."""
        self.fell_silent = False
        """Whether the one that it was claimed from fell silent: what that one has sent may yet arrive."""
        self._stepped_down_s: float | None = None
        self._returned_s = now_s
        self._namesake_s: float | None = None

    def listen_anew(self, now_s: float) -> None:
        """Begin anew: a silence that was not listened to says nothing."""
        self.claimed_s = None
        self.watch = standby.begun(self.watch, now_s)

    # ── what it is told ───────────────────────────────────────────────────────────────────────────────────────────

    def announced(self, message: ServerAnnouncement, *, retained: bool, now_s: float) -> None:
        """Take note of another server's announcement."""
        self.watch = standby.announced(self.watch, message, retained=retained, now_s=now_s)

    def balanced(self, message: LoopBalance, *, retained: bool, now_s: float) -> None:
        """Take note of another server's balance."""
        self.watch = standby.balanced(self.watch, message, retained=retained, now_s=now_s)

    def returned(self, now_s: float) -> None:
        """Something of this server's own has come back: others hear it, and it hears them."""
        self._returned_s = now_s

    def claims(self, epoch: int, now_s: float) -> None:
        """Open a claim under an epoch."""
        self.claimed_s = now_s
        self.fell_silent = self.watch.free_s is None
        self._stepped_down_s = None
        self.watch = Watch(epoch=epoch, since_s=now_s)

    def settles(self, now_s: float) -> None:
        """Close the claim: nobody has disputed it."""
        self.claimed_s = None
        self._returned_s = now_s

    def steps_down(self, now_s: float) -> None:
        """Leave the place, or give a claim up."""
        self.claimed_s = None
        self._stepped_down_s = now_s

    # ── how it judges ─────────────────────────────────────────────────────────────────────────────────────────────

    def follows(self, now_s: float) -> Identity | None:
        """Return the server in charge that has lately proved to live."""
        return self.watch.leader if standby.is_alive(self.watch, self.timing, now_s) else None

    def is_lost(self, now_s: float) -> bool:
        """Tell whether the server in charge has been silent for too long, or has said that it is gone."""
        return now_s >= standby.vacant_s(self.watch, self.timing)

    def vacant_s(self) -> float:
        """Return from when on the place is free. One that had to step down gives the other time to be heard."""
        at_s = standby.vacant_s(self.watch, self.timing)
        return at_s if self._stepped_down_s is None else max(at_s, self._stepped_down_s + self.timing.lost_s)

    def is_late(self, now_s: float) -> bool:
        """Tell whether this server has stepped down just now, and others come first."""
        return self._stepped_down_s is not None and now_s < self._stepped_down_s + self.timing.lost_s

    def look_again_s(self, now_s: float) -> float:
        """Return when the place is worth another look."""
        return min(now_s + _LONGEST_LOOK_S, max(self.vacant_s(), now_s + _LOOK_S))

    def is_settled(self, now_s: float, image: LoopImage, *, came_back: bool) -> bool:
        """Tell whether the claim may be acted upon: it was not disputed, and whoever is to be led has spoken since."""
        if self.claimed_s is None:
            return True
        if now_s - self.claimed_s < self.timing.settle_s or not (came_back or self.stored):
            return False
        return not any(view.fresh and view.heard_s < self.claimed_s for view in image.equalization)

    def doubt(self, now_s: float, *, came_back: bool, hears: bool) -> str | None:
        """Return why this server cannot be in charge; None where it can.

        A cluster holds announcements up while it agrees on new leaders of its own; there, any telemetry is a proof.
        """
        if self.claimed_s is not None:
            overdue = not came_back and not self.stored and now_s - self.claimed_s > self.timing.lost_s
            return "its claim has not come back" if overdue else None
        if self.stored and hears:
            self._returned_s = now_s
        silent_s = now_s - self._returned_s
        if silent_s <= self.timing.lost_s:
            return None
        what = "it has heard nothing" if self.stored else "its own announcements have not come back"
        return f"{what} for {silent_s:.0f} s"

    def has_living_namesake(self, now_s: float) -> bool:
        """Take note of a sign of life under this server's name; true at the second that is no remains of the first."""
        if self._namesake_s is None or now_s - self._namesake_s > self.timing.lost_s:
            self._namesake_s = now_s
        return now_s - self._namesake_s >= NAMESAKE_APART_S
