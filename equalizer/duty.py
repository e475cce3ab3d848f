"""The equalizer while it runs: when to decide, and what becomes of what it hears."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from equalizer import fencing
from equalizer.attendance import Attendance
from equalizer.control.state import Decision
from equalizer.doubts import DoubtReporter
from equalizer.farewell import Farewell
from equalizer.fencing import Fence, Standing
from equalizer.helm import Helm
from equalizer.herald import Herald
from equalizer.keeping import Kept, Trouble, Words
from equalizer.ledger import Ledger
from equalizer.link import Link
from equalizer.operation import Operation
from equalizer.place import Place
from equalizer.report import Condition
from equalizer.rhythm import Rhythm
from equalizer.standby import Timing
from equalizer.voice import Voice
from schemas.messages import LoopBalance, Phase, Presence, ServerAnnouncement, Setpoint, SetpointEcho, Severity, Values

_LOG = logging.getLogger(__name__)

_FIRST_LOOK_S = 0.25
"""How long a new server waits for a retained announcement before it publishes its own over it."""
_MARKER_S = 3.0
"""If its own announcement has not come back by then, it never will: the broker does not let this server read it."""
MATERIAL_RATIO = 0.25
"""Part of `release_w` by which the loop must move to be looked at between the regular cycles."""
_STALLED_S = 3.0
_STALLED_PERIODS = 3.0
_NAMESAKE_S = 2.5
"""How long a new server that finds its own name announced listens for two signs of life of that one, and more."""
_CLAIM_LOOK_S = 0.1
_UNSTORED = Words("epoch_not_stored", "", "epoch_stored_again", "epoch {epoch} is stored")


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
        self.connected = False
        self._helm = helm
        self._voice = voice
        self._link = link
        link.listener = self
        self._subscribe = subscribe
        self._timing = timing
        self._clock = clock
        self._log_lines = log_lines
        stalled_s = max(_STALLED_S, _STALLED_PERIODS * period_s)
        self._rhythm = Rhythm(self._cycle, clock=clock, longest_s=min(1.0, period_s), stalled_s=stalled_s)
        self._herald = Herald(voice)
        self._epochs = Kept(
            fence.epoch, ledger.store_epoch, Trouble(voice, _UNSTORED), clock, values=lambda epoch: {"epoch": epoch}
        )
        self._place = Place(
            fence,
            helm=helm,
            voice=voice,
            herald=self._herald,
            epochs=self._epochs,
            timing=timing,
            stored=stored,
            lease_s=lease_s,
            hears=self._hears_anybody,
            fail=self._rhythm.fail,
            clock=clock,
        )
        self._operation = Operation(helm, ledger, voice, clock=clock)
        self._attendance = Attendance(voice)
        self._doubts = DoubtReporter(voice)
        self._farewell = Farewell(helm, clock=clock)
        self._current = False
        """Whether the broker has delivered all that it held."""
        self._pending: asyncio.TimerHandle | None = None
        self._leaving = False
        self._lost = False
        self._heard = 0
        self._hears = False

    @property
    def fence(self) -> Fence:
        """What is known of epochs."""
        return self._place.fence

    @property
    def phase(self) -> Phase:
        """What this server does, the control's phase unless another server is in charge."""
        return self._place.phase

    # ── the connection ────────────────────────────────────────────────────────────────────────────────────────────

    def connected_to_broker(self) -> None:
        """Begin anew: what the broker now delivers is of unknown age."""
        self.connected = True
        self._herald.await_anew()
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
        self._current = False
        self._herald.begin()
        self._place.listen_anew()
        self._attendance.listen_anew()
        self._rhythm.stop()
        self._helm.restart()
        self._doubts.forget()
        self._link.reset(self._helm.book)
        self._subscribe()

    def _announce_first(self) -> None:
        if self._herald.begun:
            return
        self._herald.begun = True
        self._place.raise_epoch(fencing.raised(self.fence))
        self._later(_MARKER_S, self._caught_up)
        self._place.say_phase()
        if not self._place.speaks:
            self._caught_up()  # nothing of this server's will come back, and nothing is decided either

    def _caught_up(self) -> None:
        """Take what comes from now on for new: the broker has delivered all that it held."""
        if not self._current:
            self._current = True
            self._cancel_pending()
            self._link.of_unknown_age = False
            self._link.book.begin_round(self._clock())
            self._place.candidacy.returned(self._clock())
            self._rhythm.start()

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._cancel_pending()
        self._pending = asyncio.get_running_loop().call_later(delay_s, call)

    def _cancel_pending(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    # ── the cycle ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _cycle(self, now_s: float, since_s: float | None, gap_s: float | None) -> float:
        """Decide; return when to decide next at the latest.

        Args:
            now_s: the time of the decision.
            since_s: when the message came that asked for it; None: the time asked.
            gap_s: for how long this process stood still; None: it did not.
        """
        place = self._place
        if gap_s is not None:
            self._woken(gap_s)
            return now_s
        if place.stands_by:
            self._helm.watch(now_s)
            return self._stand_by(now_s)
        if not place.is_settled(now_s):
            self._helm.watch(now_s)
            return now_s + _CLAIM_LOOK_S
        self._link.decided(now_s)
        decision = self._helm.decide(now_s)
        self._link.material_w = MATERIAL_RATIO * self._helm.band.release_w
        orders = decision.orders
        if self.fence.standing is Standing.JOINING and decision.phase is not Phase.STARTING:
            place.take_charge()
            if self._timing.enabled:
                orders += self._helm.mark(orders, now_s)
        place.say_phase()  # first: what is asked of a channel may not come from a server that says `starting`
        if orders and place.is_in_charge:
            self._helm.send(orders, self.fence.epoch)
            self._measure(decision, since_s)
        return decision.next_due_s

    def _stand_by(self, now_s: float) -> float:
        """Take the place of a server that has gone; return when to look again."""
        look_s = self._place.stand_by(now_s)
        if look_s is not None:
            return look_s
        _LOG.info("rejoining")
        self._begin()
        self._place.rejoin()
        self._announce_first()
        return now_s + 1.0

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
        if self._link.is_spoiled():
            self.announcement_cleared()
        self._operation.keep()
        self._epochs.again()
        if not self.connected:
            self._helm.look()  # what is known grows old
            return
        now_s = self._clock()
        if self._rhythm.is_stalled(now_s):
            return  # this process stood still; what it would say is of then
        heard, self._heard = self._heard, self._link.counters.telemetry
        self._hears = heard != self._heard
        if self._current and self._helm.phase is not Phase.STARTING:
            self._attendance.channels(self._helm.image.channels_stale, self._helm.image.channels)
            self._doubts.tell(self._helm.book.doubts)
        place = self._place
        if place.speaks and self._herald.begun:
            if self._timing.enabled and self._current and place.candidacy.claimed_s is None:
                place.announce()
                place.doubt_oneself(now_s)
            self._voice.balance(self.fence.epoch, self._helm.standpoint(self.phase))

    def _hears_anybody(self) -> bool:
        """Whether telemetry comes; where there are no channels, nobody is missed."""
        return self._hears or not self._helm.image.channels

    # ── what the link hears ───────────────────────────────────────────────────────────────────────────────────────

    def announcement(self, message: ServerAnnouncement, *, retained: bool) -> None:
        """Take note of a server's announcement; this one's own marks how far the broker has delivered."""
        place = self._place
        if self._leaving:
            self._farewell.announcement(message, self.fence)
            return
        if place.is_own(message) and not retained and message.status is Presence.ONLINE:
            self._herald.returned()
            place.candidacy.returned(self._clock())
            if self._herald.came_back:
                self._caught_up()
            return
        is_namesake = place.announced(message, retained=retained)
        if not self._herald.begun:
            self._later(_NAMESAKE_S if is_namesake else 0.0, self._announce_first)
        elif not retained and place.is_overwritten(message):
            place.announce()
        elif message.status is Presence.OFFLINE:
            self.material(self._clock())

    def announcement_cleared(self) -> None:
        """Announce this server again: somebody has removed what stations find it by."""
        if not self._leaving and self._herald.begun:
            self._place.announce()

    def balance(self, message: LoopBalance, *, retained: bool) -> None:
        """Take note of what a server says of the loop."""
        if not self._leaving:
            self._place.balance(message, retained=retained)

    def overheard(self, station: str, channel: str, setpoint: Setpoint) -> None:
        """Take note of what another server asks of a channel."""
        self._place.overheard(station, channel, setpoint)

    def echo(self, station: str, channel: str, echo: SetpointEcho, *, fresh: bool) -> None:
        """Take note of what a channel last decided on."""
        if self._leaving:
            self._farewell.echo((station, channel), echo)
        elif fresh:
            self._voice.clerk.echo(station, channel, echo)
        if not self._leaving:
            # Where others stand by, what a station has obeyed while this server was away counts like what it obeys now.
            meanwhile = self._timing.enabled and self._link.of_unknown_age
            self._place.echoed(echo, fresh=fresh or meanwhile)

    def station(self, name: str, presence: Presence | None, *, retained: bool) -> None:
        """Say that a station is lost or back."""
        self._attendance.station(name, presence, retained=retained)

    # ── what a store says of the place ────────────────────────────────────────────────────────────────────────────

    def wants_charge(self) -> bool:
        """Tell whether this server stands by and could be in charge, where a store says who is."""
        if not self._can_claim() or not self.connected:
            return False
        return self._hears_anybody() and not self._place.candidacy.is_late(self._clock())

    def is_in_place(self) -> bool:
        """Tell whether this server is in charge, or about to be."""
        return not self._place.stands_by and not self._leaving

    def is_fit(self) -> bool:
        """Tell whether this server is in charge, or about to be, and connected."""
        return self.is_in_place() and self.connected

    @property
    def highest_epoch(self) -> int:
        """The highest epoch that this server has seen or used."""
        return self._place.highest_epoch

    def claim(self, least_epoch: int = 0) -> None:
        """Claim the place of the server in charge."""
        if self._can_claim():
            self._place.claim(least_epoch)

    def step_down(self, why: str) -> None:
        """Leave the place to others."""
        self._place.step_down(why)

    def _can_claim(self) -> bool:
        return self._place.stands_by and self._current and not self._leaving

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def leave(self) -> None:
        """Bring every equalization channel to 0 W, wait for the echoes, and say goodbye."""
        self._leaving = True
        self._rhythm.stop()
        self._cancel_pending()
        if not self.connected or not self._herald.begun or not self._place.speaks:
            return
        if self._timing.enabled:
            self._voice.announce(Presence.OFFLINE, self.fence.epoch, Phase.STANDBY)
            if await self._farewell.handed_over(self._timing.handover_s, while_=lambda: self.connected):
                return
        if not self._place.stands_by:
            await self._farewell.to_zero(self.fence.epoch, while_=lambda: self.connected)
        self._helm.look()
        self._voice.balance(self.fence.epoch, self._helm.standpoint(Phase.STANDBY))
        self._voice.announce(Presence.OFFLINE, self.fence.epoch, Phase.STANDBY)

    # ── what is asked of it ───────────────────────────────────────────────────────────────────────────────────────

    def inactive(self) -> str | None:
        """Return why commands cannot be obeyed now."""
        if self._leaving:
            return "this server is stopping"
        return self.fence.conflict if self._place.stands_by else None

    def is_left_to_another(self) -> bool:
        """Tell whether another server, known to be online, is in charge."""
        return self._place.is_left_to_another

    def pause(self, by: str | None = None) -> str:
        """Have the control paused at once."""
        return self._soon(self._operation.pause(by))

    def resume(self, by: str | None = None) -> str:
        """Have the control go on at once."""
        return self._soon(self._operation.resume(by))

    def set_target(self, target_power_w: float, by: str | None = None) -> str:
        """Steer the total power elsewhere."""
        return self._soon(self._operation.set_target(target_power_w, by))

    def _soon(self, text: str) -> str:
        self.material(self._clock())
        return text

    def condition(self) -> Condition:
        """Return how this server stands now."""
        now_s = self._clock()
        candidacy = self._place.candidacy
        stands_by = self._timing.enabled and self._place.stands_by
        follows = candidacy.follows(now_s) if stands_by else None
        return Condition(
            fence=self.fence,
            phase=self.phase,
            connected=self.connected,
            leaving=self._leaving,
            follows=None if follows is None else follows.server,
            leader_silent_s=None if follows is None else now_s - candidacy.watch.since_s,
            decision_log=self._log_lines(),
        )
