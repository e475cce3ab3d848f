"""The place of the server in charge, as one server sees it: whether it has it, claims it, or leaves it to another."""

import logging
from collections.abc import Callable

from equalizer import fencing
from equalizer.candidacy import Candidacy
from equalizer.errors import DuplicateServerError
from equalizer.fencing import Fence, Identity, Standing
from equalizer.helm import Helm
from equalizer.herald import Herald
from equalizer.keeping import Kept
from equalizer.standby import Timing
from equalizer.voice import Voice
from schemas.messages import LoopBalance, Phase, Presence, ServerAnnouncement, Setpoint, SetpointEcho, Severity, Values

_LOG = logging.getLogger(__name__)

_LOOK_S = 1.0


class Place:
    """Keeps the fence, and moves between being in charge and standing by.

    Args:
        fence: what is known of epochs; its own is stored already.
        helm: follows another server's orders and account, and goes on from there.
        voice: speaks.
        herald: announces.
        epochs: keeps them, also those that it follows; where the disk fails, the retained announcement and the stations
            have to remember.
        timing: of standing by.
        stored: whether a store beside the broker says who is in charge; then a claim is its holder's business.
        lease_s: after so long in standby without another server, the old leases have run out.
        hears: whether anybody is heard.
        fail: ends this server, which must not go on.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        fence: Fence,
        *,
        helm: Helm,
        voice: Voice,
        herald: Herald,
        epochs: Kept[int],
        timing: Timing,
        stored: bool,
        lease_s: float,
        hears: Callable[[], bool],
        fail: Callable[[Exception], None],
        clock: Callable[[], float],
    ) -> None:
        self.fence = fence
        self.timing = timing
        self.candidacy = Candidacy(timing, stored=stored, now_s=clock())
        self._helm = helm
        self._voice = voice
        self._herald = herald
        self._epochs = epochs
        self._lease_s = lease_s
        self._hears = hears
        self._fail = fail
        self._clock = clock
        self._conflict_s = 0.0
        self._follows: Identity | None = None

    # ── how it stands ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def stands_by(self) -> bool:
        """Whether nothing may be sent."""
        return self.fence.standing is Standing.STANDBY

    @property
    def is_in_charge(self) -> bool:
        """Whether setpoints are sent."""
        return self.fence.standing is Standing.IN_CHARGE

    @property
    def phase(self) -> Phase:
        """What this server does, the control's phase unless another server is in charge."""
        return Phase.STANDBY if self.stands_by else self._helm.phase

    @property
    def speaks(self) -> bool:
        """Whether this server is the one to be heard on the retained topics."""
        return not self.stands_by or (self.fence.rival is None and not self.timing.enabled)

    @property
    def highest_epoch(self) -> int:
        """The highest epoch that this server has seen or used."""
        return max(self.fence.epoch, self.fence.highest_seen)

    @property
    def is_left_to_another(self) -> bool:
        """Whether another server, known to be online, is in charge."""
        return self.stands_by and (self.timing.enabled or self.fence.rival is not None)

    def announce(self) -> None:
        """Announce this server, where it is the one to be heard."""
        if self.speaks:
            self._herald.announce(self.fence, self.phase)

    def say_phase(self) -> None:
        """Say once that the phase is another one."""
        self._herald.say(self.phase, self.fence, aloud=self.speaks)

    # ── what it hears of others ───────────────────────────────────────────────────────────────────────────────────

    def listen_anew(self) -> None:
        """Begin anew: a silence that was not listened to says nothing, and a claim that was open is none any more."""
        if self.timing.enabled and self.fence.standing is Standing.JOINING:
            self.step_down("its claim was interrupted")
        self.candidacy.listen_anew(self._clock())

    def announced(self, message: ServerAnnouncement, *, retained: bool) -> bool:
        """Take note of an announcement that is no echo of this server's own; tell whether it bears its name."""
        own = self.is_own(message)
        if not own:
            self.candidacy.announced(message, retained=retained, now_s=self._clock())
        self._follow(fencing.announced(self.fence, message, retained=retained))
        namesake = not own and message.server == self.fence.own.server and message.status is Presence.ONLINE
        if namesake and not retained:
            self._meet_namesake()
        return namesake

    def is_own(self, message: ServerAnnouncement) -> bool:
        """Tell whether this run of this server has said it."""
        return Identity(message.server, message.started_unix_time_s) == self.fence.own

    def is_overwritten(self, message: ServerAnnouncement) -> bool:
        """Tell whether the retained announcement no longer says that this server is there, though it is in charge."""
        return self.speaks and fencing.overwritten(self.fence, message)

    def balance(self, message: LoopBalance, *, retained: bool) -> None:
        """Take note of what a server says of the loop: it lives, and a standby goes on with its account."""
        if self.is_in_charge:
            return
        if message.server == self.fence.own.server and not self._herald.heard and not retained:
            self._meet_namesake()
        if self.stands_by:
            self.candidacy.balanced(message, retained=retained, now_s=self._clock())
        # What the broker holds may come after the claim.
        if not self.timing.enabled or not (self.stands_by or retained):
            return
        if message.epoch >= self.fence.highest_seen:
            self._helm.follow(message)
        elif retained:
            self._helm.inherit(message)  # who took over since has ended before it said anything

    def overheard(self, station: str, channel: str, setpoint: Setpoint) -> None:
        """Take note of what another server asks of a channel."""
        if not self.is_in_charge and setpoint.epoch >= self.fence.highest_seen:
            self._helm.overhear(station, channel, setpoint)

    def echoed(self, echo: SetpointEcho, *, fresh: bool) -> None:
        """Take note of whom a channel obeys."""
        self._follow(fencing.echoed(self.fence, echo, fresh=fresh))

    def _meet_namesake(self) -> None:
        """Refuse to go on beside a living server of the same name; the one in charge stays."""
        if not self.candidacy.has_living_namesake(self._clock()) or self.is_in_charge:
            return
        name = self.fence.own.server
        text = f"two servers call themselves {name}; the second ends"
        self._voice.event("duplicate_server", text, Severity.ALARM, {"server": name})
        self.step_down("another server has this one's name")
        self._fail(
            DuplicateServerError(
                f"loop.server: a server {name!r} runs on this loop already; give every equalizer a name of its own"
            )
        )

    # ── leaving it ────────────────────────────────────────────────────────────────────────────────────────────────

    def step_down(self, why: str) -> None:
        """Leave the place to others."""
        if not self.stands_by:
            self.candidacy.listen_anew(self._clock())
            self._follow(fencing.stood_down(self.fence, why))

    def doubt_oneself(self, now_s: float) -> None:
        """Leave the place where nothing comes back: others may not hear this server, or it does not hear them."""
        why = self.candidacy.doubt(now_s, came_back=self._herald.came_back, hears=self._hears())
        if why is not None:
            self.step_down(why)

    def _follow(self, fence: Fence) -> None:
        if fence.standing is not Standing.STANDBY or self.stands_by:
            self.raise_epoch(fencing.raised(fence))
            return
        self.fence = fence
        self._conflict_s = self._clock()
        self.candidacy.steps_down(self._conflict_s)
        why = fence.conflict or ""
        values: Values = {"epoch": fence.epoch, "cause": why}
        if self.timing.enabled:
            self._helm.suspend()
            self._voice.event("stepped_down", why, Severity.WARNING, values)
            _LOG.warning("stepped_down what=%r", fence.conflict)
        else:
            self._voice.event("server_conflict", why, Severity.ALARM, values)
            _LOG.error("server_conflict what=%r", fence.conflict)
        self.say_phase()

    # ── taking it ─────────────────────────────────────────────────────────────────────────────────────────────────

    def raise_epoch(self, fence: Fence) -> None:
        """Take a fence over, and store, bequeath and announce its epoch where that is another one."""
        raised = fence.epoch != self.fence.epoch
        if raised:
            self._epochs.keep(fence.epoch)
            self._voice.bequeath(fence.epoch)
            _LOG.info("epoch from=%d to=%d", self.fence.epoch, fence.epoch)
        self.fence = fence
        if raised and self._herald.begun:
            self.announce()

    def take_charge(self) -> None:
        """Begin to send, if that has not begun."""
        if self.fence.standing is Standing.JOINING:
            self.fence = fencing.taken_charge(self.fence)
            _LOG.info("in_charge epoch=%d", self.fence.epoch)
            self._voice.clerk.takeover(self.fence.epoch)

    def stand_by(self, now_s: float) -> float | None:
        """Look whether the place is free; return when to look again. None: it is to be taken by beginning anew."""
        if self.timing.enabled:
            self._say_whom_it_follows(now_s)
            candidacy = self.candidacy
            if now_s >= candidacy.vacant_s() and not candidacy.stored and self._hears():
                self.claim()
                return now_s
            return candidacy.look_again_s(now_s)
        lost = self.fence.rival is None or self.candidacy.is_lost(now_s)
        return None if lost and now_s - self._conflict_s >= self._lease_s else now_s + _LOOK_S

    def rejoin(self) -> None:
        """Listen once more, under a higher epoch; nobody else is in charge."""
        self.raise_epoch(fencing.rejoined(self.fence))

    def claim(self, least_epoch: int = 0) -> None:
        """Claim the place of the server in charge; nothing is sent before the claim has settled."""
        leader = self.candidacy.watch.leader
        before = "nobody" if leader is None else leader.server
        fence = fencing.rejoined(self.fence, least_epoch)
        self.candidacy.claims(fence.epoch, self._clock())
        self._follows = None
        self._herald.await_anew()
        self.raise_epoch(fence)
        values: Values = {"server": before, "epoch": fence.epoch}
        self._voice.event("takeover", f"takes over from {before} with epoch {fence.epoch}", Severity.WARNING, values)
        _LOG.warning("takeover from=%s epoch=%d", before, fence.epoch)

    def is_settled(self, now_s: float) -> bool:
        """Tell whether no claim of this server is open; one that has settled makes it the successor."""
        candidacy = self.candidacy
        if candidacy.claimed_s is None:
            return True
        if not candidacy.is_settled(now_s, self._helm.image, came_back=self._herald.came_back):
            self.doubt_oneself(now_s)
            return False
        candidacy.settles(now_s)
        self._helm.succeed(in_doubt=candidacy.fell_silent)
        return True

    def _say_whom_it_follows(self, now_s: float) -> None:
        leader, epoch = self.candidacy.follows(now_s), self.candidacy.watch.epoch
        if leader is not None and epoch > self._epochs.wanted:
            self._epochs.keep(epoch)  # the next run goes on from it
        if leader is not None and leader != self._follows:
            values: Values = {"server": leader.server, "epoch": epoch}
            self._voice.event("standby", f"stands by for server {leader.server}, epoch {epoch}", values=values)
            _LOG.info("standby leader=%s epoch=%d", leader.server, epoch)
        self._follows = leader
