"""The equalizer while it runs: who is in charge, when to decide, and what to say of it."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from equalizer import fencing
from equalizer.candidacy import Candidacy
from equalizer.control.state import Decision
from equalizer.doubts import DoubtReporter
from equalizer.errors import DuplicateServerError
from equalizer.farewell import Farewell
from equalizer.fencing import Fence, Identity, Standing
from equalizer.helm import Helm
from equalizer.ledger import Ledger
from equalizer.link import Link
from equalizer.report import Condition
from equalizer.rhythm import Rhythm
from equalizer.standby import Timing
from equalizer.voice import Voice
from schemas.messages import (
    LoopAction,
    LoopBalance,
    Phase,
    Presence,
    ServerAnnouncement,
    Setpoint,
    SetpointEcho,
    Severity,
    Values,
)

_LOG = logging.getLogger(__name__)

_SEVERITIES = {Phase.SATURATED: Severity.WARNING, Phase.FROZEN: Severity.WARNING}

_FIRST_LOOK_S = 0.25
"""How long a new server waits for a retained announcement before it publishes its own over it."""
_MARKER_S = 3.0
"""If its own announcement has not come back by then, it never will: the broker does not let this server read it."""
MATERIAL_RATIO = 0.25
"""Part of `release_w` by which the loop must move to be looked at between the regular cycles."""
_STORE_AGAIN_S = 5.0
_LONGEST_SIGNATURE = 64
_STALLED_S = 3.0
_STALLED_PERIODS = 3.0
_NAMESAKE_S = 2.5
"""How long a new server that finds its own name announced listens for two signs of life of that one, and more."""
_CLAIM_LOOK_S = 0.1


class Duty:
    """Decides when a batch of messages or the time asks for it, as long as this server is in charge.

    Args:
        fence: what is known of epochs; its own is stored already.
        helm: decides.
        voice: speaks.
        ledger: keeps the epoch.
        link: hears.
        subscribe: has the broker deliver all that it holds, and what comes.
        timing: of standing by.
        stored: whether a store beside the broker says who is in charge; then a claim is its holder's business.
        lease_s: after so long in standby without another server, the old leases have run out.
        period_s: the stations' telemetry period.
        clock: monotonic seconds.
        log_lines: how many lines of the decision log were written, and lost.
    """

    def __init__(
        self,
        fence: Fence,
        *,
        helm: Helm,
        voice: Voice,
        ledger: Ledger,
        link: Link,
        subscribe: Callable[[], None],
        timing: Timing,
        stored: bool,
        lease_s: float,
        period_s: float,
        clock: Callable[[], float],
        log_lines: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self.fence = fence
        self.connected = False
        self._helm = helm
        self._voice = voice
        self._ledger = ledger
        self._kept_orders = helm.orders
        self._keeps_orders = True
        self._link = link
        link.listener = self
        self._subscribe = subscribe
        self._timing = timing
        self._candidacy = Candidacy(timing, stored=stored, now_s=clock())
        self._lease_s = lease_s
        self._clock = clock
        self._log_lines = log_lines
        stalled_s = max(_STALLED_S, _STALLED_PERIODS * period_s)
        self._rhythm = Rhythm(self._cycle, clock=clock, longest_s=min(1.0, period_s), stalled_s=stalled_s)
        self._said_phase: Phase | None = None
        self._announced = False
        self._marks = 0
        self._current = False
        self._pending: asyncio.TimerHandle | None = None
        self._conflict_s = 0.0
        self._stations: dict[str, Presence] = {}
        self._silent = False
        self._doubts = DoubtReporter(voice)
        self._farewell = Farewell(helm, clock=clock)
        self._leaving = False
        self._lost = False
        self._heard = 0
        self._hears = False
        self._spoken = False
        self._follows: Identity | None = None
        self._unstored = False
        self._stored_s = clock()

    # ── the connection ────────────────────────────────────────────────────────────────────────────────────────────

    def connected_to_broker(self) -> None:
        """Begin anew: what the broker now delivers is of unknown age."""
        self.connected = True
        self._marks = 0
        _LOG.info("connected epoch=%d", self.fence.epoch)
        if self._lost:
            self._lost = False
            # Behind what the session has held back: the loss is told first.
            asyncio.get_running_loop().call_soon(self._tell_of_connection, "connection_back", "connected again")
        self._begin()
        self._later(_FIRST_LOOK_S, self._announce_first)

    def lost_broker(self, reason: str) -> None:
        """Stop deciding; the leases run out at the stations."""
        self.connected = self._current = False
        self._rhythm.stop()
        self._cancel_pending()
        self._helm.suspend()
        if not self._leaving:
            self._lost = True
            self._tell_of_connection("connection_lost", reason)

    def _tell_of_connection(self, code: str, text: str) -> None:
        lost = code == "connection_lost"
        _LOG.log(logging.WARNING if lost else logging.INFO, "%s reason=%r", code, text)
        self._voice.event(code, text, Severity.WARNING if lost else Severity.INFO, {"cause": text} if lost else {})

    async def until_failure(self) -> None:
        """Wait for a decision that raises, and raise the same: this server must not go on."""
        await self._rhythm.until_failure()

    def material(self, now_s: float) -> None:
        """Decide soon: something came that may call for it."""
        if self._current and not self._leaving:
            self._rhythm.soon(now_s)

    def _begin(self) -> None:
        """Forget all measurements and have the broker deliver everything again."""
        self._current = self._announced = self._silent = False
        self._said_phase = None
        if self._timing.enabled and self.fence.standing is Standing.JOINING:
            self.step_down("its claim was interrupted")
        self._candidacy.listen_anew(self._clock())
        self._rhythm.stop()
        self._helm.restart()
        self._doubts.forget()
        self._link.reset(self._helm.book)
        self._subscribe()

    def _announce_first(self) -> None:
        if self._announced:
            return
        self._announced = True
        self._raise_epoch(fencing.raised(self.fence))
        self._later(_MARKER_S, self._caught_up)
        self._say_phase(self.phase)
        if not self.speaks:
            self._caught_up()  # nothing of this server's will come back, and nothing is decided either

    def _caught_up(self) -> None:
        """Take what comes from now on for new: the broker has delivered all that it held."""
        if not self._current:
            self._current = True
            self._cancel_pending()
            self._link.of_unknown_age = False
            self._link.book.begin_round(self._clock())
            self._candidacy.returned(self._clock())
            self._rhythm.start()

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._cancel_pending()
        self._pending = asyncio.get_running_loop().call_later(delay_s, call)

    def _cancel_pending(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def _announce(self, phase: Phase) -> None:
        """Announce this server; its announcement comes back behind all that was sent before it."""
        if self.speaks:
            self._marks += 1
            self._spoken = True
            self._voice.announce(Presence.ONLINE, self.fence.epoch, phase)

    # ── the cycle ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def phase(self) -> Phase:
        """What this server does, the control's phase unless another server is in charge."""
        return Phase.STANDBY if self.fence.standing is Standing.STANDBY else self._helm.phase

    @property
    def speaks(self) -> bool:
        """Whether this server is the one to be heard on the retained topics."""
        if self.fence.standing is Standing.STANDBY:
            return self.fence.rival is None and not self._timing.enabled
        return True

    def _cycle(self, now_s: float, since_s: float | None, gap_s: float | None) -> float:
        """Decide; return when to decide next at the latest.

        Args:
            now_s: the time of the decision.
            since_s: when the message came that asked for it; None: the time asked.
            gap_s: for how long this process stood still; None: it did not.
        """
        if gap_s is not None:
            self._woken(gap_s)
            return now_s
        if self.fence.standing is Standing.STANDBY:
            self._helm.watch(now_s)
            return self._leave_standby(now_s)
        if not self._is_settled(now_s):
            self._helm.watch(now_s)
            return now_s + _CLAIM_LOOK_S
        self._link.decided()
        decision = self._helm.decide(now_s)
        self._link.material_w = MATERIAL_RATIO * self._helm.band.release_w
        orders = decision.orders
        if self.fence.standing is Standing.JOINING and decision.phase is not Phase.STARTING:
            self.fence = fencing.taken_charge(self.fence)
            _LOG.info("in_charge epoch=%d", self.fence.epoch)
            self._voice.clerk.takeover(self.fence.epoch)
            if self._timing.enabled:
                orders += self._helm.mark(orders, now_s)
        if orders and self.fence.standing is Standing.IN_CHARGE:
            self._helm.send(orders, self.fence.epoch)
            self._measure(decision, since_s)
        self._say_phase(self.phase)
        return decision.next_due_s

    def _measure(self, decision: Decision, since_s: float | None) -> None:
        if since_s is not None and any(order.kind == "change" for order in decision.orders):
            self._link.counters.reactions.observe(self._clock() - since_s)

    def _woken(self, gap_s: float) -> None:
        """Distrust everything after a standstill: what waits in the socket tells of a past of unknown length."""
        _LOG.warning("stalled gap_s=%.1f", gap_s)
        values: Values = {"gap_s": round(gap_s, 1)}
        self._voice.event("stalled", f"this process stood still for {gap_s:.1f} s", Severity.WARNING, values)
        self._begin()
        self._later(_FIRST_LOOK_S, self._announce_first)

    def second(self) -> None:
        """Say once a second how the loop stands."""
        if self._leaving:
            return
        self._keep_orders()
        if self._unstored and self._clock() - self._stored_s >= _STORE_AGAIN_S:
            self._store(self.fence.epoch)
        if not self.connected:
            self._helm.look()  # what is known grows old
            return
        now_s = self._clock()
        if self._rhythm.is_stalled(now_s):
            return  # this process stood still; what it would say is of then
        heard, self._heard = self._heard, self._link.counters.telemetry
        self._hears = heard != self._heard
        if self._current and self._helm.phase is not Phase.STARTING:
            self._say_silence(self._helm.image.channels_stale, self._helm.image.channels)
            self._doubts.tell(self._helm.book.doubts)
        if self.speaks and self._announced:
            if self._timing.enabled and self._current and self._candidacy.claimed_s is None:
                self._announce(self.phase)
                self._doubt_oneself(now_s)
            self._voice.balance(self.fence.epoch, self._helm.standpoint(self.phase))

    def _doubt_oneself(self, now_s: float) -> None:
        """Leave the place where nothing comes back: others may not hear this server, or it does not hear them."""
        why = self._candidacy.doubt(now_s, came_back=self._marks <= 0, hears=self._hears_anybody)
        if why is not None:
            self.step_down(why)

    @property
    def _hears_anybody(self) -> bool:
        """Whether telemetry comes; where there are no channels, nobody is missed."""
        return self._hears or not self._helm.image.channels

    def _say_silence(self, stale: int, channels: int) -> None:
        silent = stale > 0
        if silent is self._silent:
            return
        self._silent = silent
        severity, code = (Severity.WARNING, "telemetry_stale") if silent else (Severity.INFO, "telemetry_fresh")
        values: Values = {"stale": stale, "channels": channels}
        self._voice.event(code, f"{stale} of {channels} channels are silent", severity, values)
        _LOG.warning("%s channels_stale=%d channels=%d", code, stale, channels)

    def _say_phase(self, phase: Phase) -> None:
        if phase is self._said_phase:
            return
        before, self._said_phase = self._said_phase, phase
        self._announce(phase)
        if before is not None:
            _LOG.info("phase from=%s to=%s", before, phase)
            severity = _SEVERITIES.get(phase, Severity.INFO)
            why = self.fence.conflict if self.fence.conflict is not None else f"from {before} to {phase}"
            self._voice.event(phase, why, severity, {"before": before.value})

    # ── other servers ─────────────────────────────────────────────────────────────────────────────────────────────

    def announcement(self, message: ServerAnnouncement, *, retained: bool) -> None:
        """Take note of a server's announcement; this one's own marks how far the broker has delivered."""
        own = Identity(message.server, message.started_unix_time_s) == self.fence.own
        if self._leaving:
            self._farewell.announcement(message, self.fence)
            return
        if own and not retained and message.status is Presence.ONLINE:
            self._marks -= 1
            self._candidacy.returned(self._clock())
            if self._marks <= 0:
                self._caught_up()
            return
        if not own:
            self._candidacy.announced(message, retained=retained, now_s=self._clock())
        self._follow(fencing.announced(self.fence, message, retained=retained))
        namesake = not own and message.server == self.fence.own.server and message.status is Presence.ONLINE
        if namesake and not retained:
            self._meet_namesake()
        if not self._announced:
            self._later(_NAMESAKE_S if namesake else 0.0, self._announce_first)
        elif not retained and self.speaks and fencing.overwritten(self.fence, message):
            self._announce(self.phase)
        elif message.status is Presence.OFFLINE:
            self.material(self._clock())

    def balance(self, message: LoopBalance, *, retained: bool) -> None:
        """Take note of what a server says of the loop: it lives, and a standby goes on with its account."""
        if self._leaving or self.fence.standing is Standing.IN_CHARGE:
            return
        if message.server == self.fence.own.server and not self._spoken and not retained:
            self._meet_namesake()
        if self.fence.standing is Standing.STANDBY:
            self._candidacy.balanced(message, retained=retained, now_s=self._clock())
            if self._timing.enabled and message.epoch >= self.fence.highest_seen:
                self._helm.follow(message)

    def overheard(self, station: str, channel: str, setpoint: Setpoint) -> None:
        """Take note of what another server asks of a channel."""
        if self.fence.standing is not Standing.IN_CHARGE and setpoint.epoch >= self.fence.highest_seen:
            self._helm.overhear(station, channel, setpoint)

    def _meet_namesake(self) -> None:
        """Refuse to go on beside a living server of the same name; the one in charge stays."""
        if not self._candidacy.has_living_namesake(self._clock()) or self.fence.standing is Standing.IN_CHARGE:
            return
        name = self.fence.own.server
        text = f"two servers call themselves {name}; the second ends"
        self._voice.event("duplicate_server", text, Severity.ALARM, {"server": name})
        self.step_down("another server has this one's name")
        self._rhythm.fail(
            DuplicateServerError(
                f"loop.server: a server {name!r} runs on this loop already; give every equalizer a name of its own"
            )
        )

    def announcement_cleared(self) -> None:
        """Announce this server again: somebody has removed what stations find it by."""
        if not self._leaving and self._announced and self.speaks:
            self._announce(self.phase)

    def echo(self, station: str, channel: str, echo: SetpointEcho, *, fresh: bool) -> None:
        """Take note of what a channel last decided on."""
        if self._leaving:
            self._farewell.echo((station, channel), echo)
        elif fresh:
            self._voice.clerk.echo(station, channel, echo)
        if not self._leaving:
            # Where others stand by, what a station has obeyed while this server was away counts like what it obeys now.
            meanwhile = self._timing.enabled and self._link.of_unknown_age
            self._follow(fencing.echoed(self.fence, echo, fresh=fresh or meanwhile))

    def _follow(self, fence: Fence) -> None:
        if fence.standing is not Standing.STANDBY or self.fence.standing is Standing.STANDBY:
            self._raise_epoch(fencing.raised(fence))
            return
        self.fence = fence
        self._conflict_s = self._clock()
        self._candidacy.steps_down(self._conflict_s)
        why = fence.conflict or ""
        values: Values = {"epoch": fence.epoch, "cause": why}
        if self._timing.enabled:
            self._helm.suspend()
            self._voice.event("stepped_down", why, Severity.WARNING, values)
            _LOG.warning("stepped_down what=%r", fence.conflict)
        else:
            self._voice.event("server_conflict", why, Severity.ALARM, values)
            _LOG.error("server_conflict what=%r", fence.conflict)
        self._say_phase(Phase.STANDBY)

    def step_down(self, why: str) -> None:
        """Leave the place to others."""
        if self.fence.standing is not Standing.STANDBY:
            self._candidacy.listen_anew(self._clock())
            self._follow(fencing.stood_down(self.fence, why))

    def _raise_epoch(self, fence: Fence) -> None:
        raised = fence.epoch != self.fence.epoch
        if raised:
            self._store(fence.epoch)
            self._voice.bequeath(fence.epoch)
            _LOG.info("epoch from=%d to=%d", self.fence.epoch, fence.epoch)
        self.fence = fence
        if raised and self._announced:
            self._announce(self.phase)

    def _store(self, epoch: int) -> None:
        """Store an epoch; where the disk fails, the retained announcement has to remember it."""
        self._stored_s = self._clock()
        try:
            self._ledger.store_epoch(epoch)
        except OSError as error:
            if not self._unstored:
                self._unstored = True
                _LOG.error("epoch_not_stored epoch=%d error=%r", epoch, str(error))
                self._voice.event("epoch_not_stored", str(error), Severity.WARNING, {"cause": str(error)})
            return
        if self._unstored:
            self._unstored = False
            _LOG.info("epoch_stored_again epoch=%d", epoch)
            self._voice.event("epoch_stored_again", f"epoch {epoch} is stored", values={"epoch": epoch})

    def _leave_standby(self, now_s: float) -> float:
        """Take the place of a server that has gone; return when to look again."""
        if self._timing.enabled:
            self._say_whom_it_follows(now_s)
            candidacy = self._candidacy
            if now_s >= candidacy.vacant_s() and not candidacy.stored and self._hears_anybody:
                self.claim()
                return now_s
            return candidacy.look_again_s(now_s)
        lost = self.fence.rival is None or self._candidacy.is_lost(now_s)
        if lost and now_s - self._conflict_s >= self._lease_s:
            _LOG.info("rejoining")
            self._begin()
            self._raise_epoch(fencing.rejoined(self.fence))
            self._announce_first()
        return now_s + 1.0

    # ── standing by ───────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, least_epoch: int = 0) -> None:
        """Claim the place of the server in charge; nothing is sent before the claim has settled."""
        if self.fence.standing is not Standing.STANDBY or not self._current or self._leaving:
            return
        leader = self._candidacy.watch.leader
        before = "nobody" if leader is None else leader.server
        fence = fencing.rejoined(self.fence, least_epoch)
        self._candidacy.claims(fence.epoch, self._clock())
        self._follows = None
        self._marks = 0
        self._raise_epoch(fence)
        values: Values = {"server": before, "epoch": fence.epoch}
        self._voice.event("takeover", f"takes over from {before} with epoch {fence.epoch}", Severity.WARNING, values)
        _LOG.warning("takeover from=%s epoch=%d", before, fence.epoch)

    def wants_charge(self) -> bool:
        """Tell whether this server stands by and could be in charge, where a store says who is."""
        if self.fence.standing is not Standing.STANDBY or not self._current or self._leaving or not self.connected:
            return False
        return self._hears_anybody and not self._candidacy.is_late(self._clock())

    def is_in_place(self) -> bool:
        """Tell whether this server is in charge, or about to be."""
        return self.fence.standing is not Standing.STANDBY and not self._leaving

    def is_fit(self) -> bool:
        """Tell whether this server is in charge, or about to be, and connected."""
        return self.is_in_place() and self.connected

    @property
    def highest_epoch(self) -> int:
        """The highest epoch that this server has seen or used."""
        return max(self.fence.epoch, self.fence.highest_seen)

    def _is_settled(self, now_s: float) -> bool:
        """Tell whether no claim of this server is open; one that has settled makes it the successor."""
        candidacy = self._candidacy
        if candidacy.claimed_s is None:
            return True
        came_back = self._marks <= 0
        if not candidacy.is_settled(now_s, self._helm.image, came_back=came_back):
            self._doubt_oneself(now_s)
            return False
        candidacy.settles(now_s)
        self._helm.succeed()
        return True

    def _say_whom_it_follows(self, now_s: float) -> None:
        leader, epoch = self._candidacy.follows(now_s), self._candidacy.watch.epoch
        if leader is not None and leader != self._follows:
            values: Values = {"server": leader.server, "epoch": epoch}
            self._voice.event("standby", f"stands by for server {leader.server}, epoch {epoch}", values=values)
            _LOG.info("standby leader=%s epoch=%d", leader.server, epoch)
        self._follows = leader

    # ── stations, and the end ─────────────────────────────────────────────────────────────────────────────────────

    def station(self, name: str, presence: Presence | None, *, retained: bool) -> None:
        """Say that a station is lost or back."""
        before = self._stations.pop(name, None)
        if presence is not None:
            self._stations[name] = presence
        if before is presence or (retained and before is None):
            return
        text = "removed" if presence is None else presence.value
        severity = Severity.INFO if presence is Presence.ONLINE else Severity.WARNING
        self._voice.event(f"station_{text}", f"station {name} is {text}", severity, {}, about=f"station/{name}")
        _LOG.log(logging.INFO if presence is Presence.ONLINE else logging.WARNING, "station_%s station=%s", text, name)

    async def leave(self) -> None:
        """Bring every equalization channel to 0 W, wait for the echoes, and say goodbye."""
        self._leaving = True
        self._rhythm.stop()
        self._cancel_pending()
        if not self.connected or not self._announced or not self.speaks:
            return
        if self._timing.enabled:
            self._voice.announce(Presence.OFFLINE, self.fence.epoch, Phase.STANDBY)
            if await self._farewell.handed_over(self._timing.handover_s, while_=lambda: self.connected):
                return
        if self.fence.standing is not Standing.STANDBY:
            await self._farewell.to_zero(self.fence.epoch, while_=lambda: self.connected)
        self._helm.look()
        self._voice.balance(self.fence.epoch, self._helm.standpoint(Phase.STANDBY))
        self._voice.announce(Presence.OFFLINE, self.fence.epoch, Phase.STANDBY)

    # ── what is asked of it ───────────────────────────────────────────────────────────────────────────────────────

    def inactive(self) -> str | None:
        """Return why commands cannot be obeyed now."""
        if self._leaving:
            return "this server is stopping"
        return self.fence.conflict if self.fence.standing is Standing.STANDBY else None

    def is_left_to_another(self) -> bool:
        """Tell whether another server, known to be online, is in charge."""
        if self.fence.standing is not Standing.STANDBY:
            return False
        return self._timing.enabled or self.fence.rival is not None

    def pause(self, by: str | None = None) -> str:
        """Have the control paused at once."""
        return self._operated(self._helm.pause(), by, {"action": LoopAction.PAUSE.value})

    def resume(self, by: str | None = None) -> str:
        """Have the control go on at once."""
        return self._operated(self._helm.resume(), by, {"action": LoopAction.RESUME.value})

    def set_target(self, target_power_w: float, by: str | None = None) -> str:
        """Steer the total power elsewhere."""
        values: Values = {"action": LoopAction.SET_TARGET.value, "target_power_w": target_power_w}
        return self._operated(self._helm.set_target(target_power_w), by, values)

    def _keep_orders(self) -> None:
        """Store what operators have ordered, of this server or of the one that it follows, for the next run."""
        orders = self._helm.orders
        if orders == self._kept_orders:
            return
        try:
            self._ledger.store_orders(orders)
        except OSError as error:
            if self._keeps_orders:
                self._keeps_orders = False
                _LOG.error("orders_not_stored error=%r", str(error))
                text = f"a restart would not remember the pause or the target: {error.strerror}"
                self._voice.event("orders_not_stored", text, Severity.WARNING, {"cause": error.strerror or str(error)})
        else:
            self._kept_orders = orders
            self._keeps_orders = True

    def _operated(self, text: str, by: str | None, values: Values) -> str:
        self._keep_orders()
        self._voice.event("operator", text, values=values if by is None else {**values, "by": by[:_LONGEST_SIGNATURE]})
        self.material(self._clock())
        return text

    def condition(self) -> Condition:
        """Return how this server stands now."""
        now_s = self._clock()
        stands_by = self._timing.enabled and self.fence.standing is Standing.STANDBY
        follows = self._candidacy.follows(now_s) if stands_by else None
        return Condition(
            fence=self.fence,
            phase=self.phase,
            connected=self.connected,
            leaving=self._leaving,
            follows=None if follows is None else follows.server,
            leader_silent_s=None if follows is None else now_s - self._candidacy.watch.since_s,
            decision_log=self._log_lines(),
        )
