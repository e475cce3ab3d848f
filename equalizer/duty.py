"""The equalizer while it runs: who is in charge, when to decide, and what to say of it."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from equalizer import fencing
from equalizer.control.state import Decision
from equalizer.farewell import Farewell
from equalizer.fencing import Fence, Standing
from equalizer.helm import Helm
from equalizer.ledger import Ledger
from equalizer.link import Link
from equalizer.metrics import Gauges
from equalizer.rhythm import Rhythm
from equalizer.voice import Voice
from schemas.messages import Phase, Presence, ServerAnnouncement, SetpointEcho, Severity

_LOG = logging.getLogger(__name__)

_SEVERITIES = {Phase.SATURATED: Severity.WARNING, Phase.FROZEN: Severity.WARNING}

_FIRST_LOOK_S = 0.25
"""How long a new server waits for a retained announcement before it publishes its own over it."""
_MARKER_S = 3.0
"""If its own announcement has not come back by then, it never will: the broker does not let this server read it."""
MATERIAL_RATIO = 0.25
"""Part of `release_w` by which the loop must move to be looked at between the regular cycles."""
_STALLED_S = 3.0
_STALLED_PERIODS = 3.0


class Duty:
    """Decides when a batch of messages or the time asks for it, as long as this server is in charge.

    Args:
        fence: what is known of epochs; its own is stored already.
        helm: decides.
        voice: speaks.
        ledger: keeps the epoch.
        link: hears.
        subscribe: has the broker deliver all that it holds, and what comes.
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
        self._link = link
        link.listener = self
        self._subscribe = subscribe
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
        self._farewell = Farewell(helm, clock=clock)
        self._leaving = False
        self._lost = False

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
        if self.fence.standing is Standing.JOINING:
            self._later(_FIRST_LOOK_S, self._announce_first)
        else:
            self._announce_first()

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
        self._voice.event(code, text, Severity.WARNING if lost else Severity.INFO)

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
        self._rhythm.stop()
        self._helm.restart()
        self._link.reset(self._helm.book)
        self._subscribe()

    def _announce_first(self) -> None:
        if not self._announced:
            self._announced = True
            self._raise_epoch(fencing.raised(self.fence))
            self._later(_MARKER_S, self._caught_up)
            self._say_phase(self.phase)
            if self.fence.rival is not None:
                self._caught_up()  # nothing of this server's will come back, and nothing is decided either

    def _caught_up(self) -> None:
        """Take what comes from now on for new: the broker has delivered all that it held."""
        if not self._current:
            self._current = True
            self._cancel_pending()
            self._link.of_unknown_age = False
            self._link.book.begin_round(self._clock())
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
        if self.fence.rival is None:
            self._marks += 1
            self._voice.announce(Presence.ONLINE, self.fence.epoch, phase)

    # ── the cycle ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def phase(self) -> Phase:
        """What this server does, the control's phase unless another server is in charge."""
        return Phase.STANDBY if self.fence.standing is Standing.STANDBY else self._helm.phase

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
            self._helm.look()
            self._leave_standby(now_s)
            return now_s + 1.0
        self._link.decided()
        decision = self._helm.decide(now_s)
        self._link.material_w = MATERIAL_RATIO * self._helm.band.release_w
        if self.fence.standing is Standing.JOINING and decision.phase is not Phase.STARTING:
            self.fence = fencing.taken_charge(self.fence)
            _LOG.info("in_charge epoch=%d", self.fence.epoch)
        if decision.orders and self.fence.standing is Standing.IN_CHARGE:
            self._helm.send(decision.orders, self.fence.epoch)
            self._measure(decision, since_s)
        self._say_phase(self.phase)
        return decision.next_due_s

    def _measure(self, decision: Decision, since_s: float | None) -> None:
        if since_s is not None and any(order.kind == "change" for order in decision.orders):
            self._link.counters.reactions.observe(self._clock() - since_s)

    def _woken(self, gap_s: float) -> None:
        """Distrust everything after a standstill: what waits in the socket tells of a past of unknown length."""
        _LOG.warning("stalled gap_s=%.1f", gap_s)
        self._voice.event("stalled", f"this process stood still for {gap_s:.1f} s", Severity.WARNING)
        self._begin()
        self._announce_first()

    def second(self) -> None:
        """Say once a second how the loop stands."""
        if self._leaving:
            return
        if not self.connected:
            self._helm.look()  # what is known grows old
            return
        if self._current and self._helm.phase is not Phase.STARTING:
            self._say_silence(self._helm.image.channels_stale, self._helm.image.channels)
        if self.fence.rival is None and self._announced:
            self._voice.balance(self.fence.epoch, self._helm.standpoint(self.phase))

    def _say_silence(self, stale: int, channels: int) -> None:
        silent = stale > 0
        if silent is self._silent:
            return
        self._silent = silent
        severity, code = (Severity.WARNING, "telemetry_stale") if silent else (Severity.INFO, "telemetry_fresh")
        self._voice.event(code, f"{stale} of {channels} channels are silent", severity)
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
            self._voice.event(phase, why, severity)

    # ── other servers ─────────────────────────────────────────────────────────────────────────────────────────────

    def announcement(self, message: ServerAnnouncement, *, retained: bool) -> None:
        """Take note of a server's announcement; this one's own marks how far the broker has delivered."""
        own = fencing.Identity(message.server, message.started_unix_time_s) == self.fence.own
        if self._leaving:
            return
        if own and not retained and message.status is Presence.ONLINE:
            self._marks -= 1
            if self._marks <= 0:
                self._caught_up()
            return
        self._follow(fencing.announced(self.fence, message, retained=retained))
        if not self._announced:
            self._announce_first()
        elif fencing.overwritten(self.fence, message) and not retained:
            self._announce(self.phase)

    def echo(self, station: str, channel: str, echo: SetpointEcho, *, fresh: bool) -> None:
        """Take note of what a channel last decided on."""
        if self._leaving:
            self._farewell.echo((station, channel), echo)
        else:
            self._follow(fencing.echoed(self.fence, echo, fresh=fresh))

    def _follow(self, fence: Fence) -> None:
        if fence.standing is Standing.STANDBY and self.fence.standing is not Standing.STANDBY:
            self.fence = fence
            self._conflict_s = self._clock()
            self._voice.event("server_conflict", fence.conflict or "", Severity.ALARM)
            _LOG.error("server_conflict what=%r", fence.conflict)
            self._say_phase(Phase.STANDBY)
        else:
            self._raise_epoch(fencing.raised(fence))

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
        try:
            self._ledger.store_epoch(epoch)
        except OSError as error:
            _LOG.error("epoch_not_stored epoch=%d error=%r", epoch, str(error))
            self._voice.event("epoch_not_stored", str(error), Severity.WARNING)

    def _leave_standby(self, now_s: float) -> None:
        if self.fence.rival is None and now_s - self._conflict_s >= self._lease_s:
            _LOG.info("rejoining")
            self._begin()
            self._raise_epoch(fencing.rejoined(self.fence))
            self._announce_first()

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
        self._voice.event(f"station_{text}", f"station {name} is {text}", severity, about=f"station/{name}")
        _LOG.log(logging.INFO if presence is Presence.ONLINE else logging.WARNING, "station_%s station=%s", text, name)

    async def leave(self) -> None:
        """Bring every equalization channel to 0 W, wait for the echoes, and say goodbye."""
        self._leaving = True
        self._rhythm.stop()
        self._cancel_pending()
        if not self.connected or not self._announced:
            return
        if self.fence.standing is not Standing.STANDBY:
            await self._farewell.to_zero(self.fence.epoch, while_=lambda: self.connected)
        if self.fence.rival is None:
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
        return self.fence.standing is Standing.STANDBY and self.fence.rival is not None

    def pause(self) -> str:
        """Have the control paused at once."""
        return self._operated(self._helm.pause())

    def resume(self) -> str:
        """Have the control go on at once."""
        return self._operated(self._helm.resume())

    def set_target(self, target_power_w: float) -> str:
        """Steer the total power elsewhere."""
        return self._operated(self._helm.set_target(target_power_w))

    def _operated(self, text: str) -> str:
        self._voice.event("operator", text)
        self.material(self._clock())
        return text

    def hindrance(self) -> str | None:
        """Return why this server is not balancing on fresh measurements; None where it is."""
        if not self.connected:
            return "not connected to the broker"
        if self.fence.standing is Standing.STANDBY:
            return f"standby: {self.fence.conflict}"
        if self._helm.phase in (Phase.STARTING, Phase.FROZEN):
            return f"{self._helm.phase}: {self._helm.image.channels_stale} channels are silent"
        if self._helm.image.channels > 0 and self._helm.image.channels_fresh == 0:
            return "no channel is heard"
        return "stopping" if self._leaving else None

    def gauges(self) -> Gauges:
        """Return what holds now."""
        at = self._helm.standpoint(self.phase)
        image = at.image
        equalizing = len(image.equalization)
        regret = self._helm.account.regret
        return Gauges(
            phase=at.phase,
            connected=self.connected,
            epoch=self.fence.epoch,
            total_power_w=image.total_power_w,
            load_power_w=image.load_power_w,
            equalization_power_w=image.equalization_power_w,
            target_power_w=at.target_power_w,
            unknown_power_w=image.unknown_power_w,
            shortfall_w=at.shortfall_w,
            meter_power_w=image.meter_power_w,
            stations_online=image.stations_online,
            channels={
                "fresh": image.channels_fresh,
                "stale": image.channels_stale,
                "gone": image.channels - image.channels_fresh - image.channels_stale,
                "equalizing": equalizing,
            },
            engage_w=self._helm.band.engage_w,
            release_w=self._helm.band.release_w,
            headroom_w=self._helm.headroom_w(),
            regret_ratio=at.regret_ratio,
            bound_w=None if regret is None else regret.bound_w,
            ignored=self._helm.ignored,
            decision_log=self._log_lines(),
        )
