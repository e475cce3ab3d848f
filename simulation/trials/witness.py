"""What happens in a trial, held against the contract, from outside: by what was sent, accepted and done."""

from collections import deque
from dataclasses import dataclass, field
from math import inf

from schemas.codec import decode
from schemas.messages import ChannelTelemetry, EnergyAccount, LoopBalance, Phase, ServerAnnouncement, Setpoint
from simulation.clock import BEGIN_S, TICK_S, Timeline
from simulation.trials.servers import ServerProcess
from simulation.trials.stations import StationProcess
from simulation.witness import SAME_W, Witness

BASIS_S = 15.0
LONGEST_LEASE_S = 60.0
SENT_KEPT = 400
SAID_KEPT = 12
LATE_S = 0.3
"""The margin that the control leaves for what messages take differently long. A setpoint that was longer on its way
came late: no server can know when it will arrive."""
TOLD_S = 1.2
"""Within this time, and what a message takes, telemetry tells a server that hears it what has arrived; what is late by
less may fall between two telemetries, and then nobody can tell by how much."""
FENCED_S = 3.0
"""After so long, every station that can be reached knows a new epoch."""
UNDISTURBED_S = 20.0
"""A connection that was cut is found dead within this time, and made anew."""
RAMPED_S = 1.0
"""From the end of a lease to 0 W, at the trial's ramps, and a tick's grace."""
AT_REST_W = 60.0
ROUNDING_S = 0.05
MARGIN_S = 0.3
"""By which the control spaces changes beyond the delay."""
LARGEST_GAP_S = 8.0
"""Of the energy account across a takeover: what a server counts that nobody hears, until it finds that out."""
STORED_GAP_S = 32.0
"""The same where the broker has just forgotten what it retained: a server stores its account every 30 s."""
SECONDS_PER_HOUR = 3600.0


class BreachError(AssertionError):
    """The contract was broken."""


@dataclass(slots=True)
class Led:
    """One equalization channel, as seen from outside."""

    levels: Witness = field(default_factory=Witness)
    sent: "deque[tuple[str, int, float]]" = field(default_factory=lambda: deque(maxlen=SENT_KEPT))
    lease_until_s: float = -inf
    judged: int = 0
    """How many of the changes of its level have been judged."""
    changed_s: float = -inf
    prior_changed_s: float = -inf
    from_w: float = 0.0
    """The level before its last change."""
    late_s: float = -inf
    """When an order last came late."""
    untold_s: float = 0.0
    """By how much the order in force was late, as far as telemetry does not tell."""
    changed_untold_s: float = 0.0
    """The same of the order of its last change."""
    boot: object = None


@dataclass(slots=True)
class Truth:
    """The energy that really was exchanged; Wh."""

    import_wh: float = 0.0
    export_wh: float = 0.0
    unbalanced_wh: float = 0.0


class TrialWitness:
    """Judges a trial.

    Args:
        timeline: what the true time is read from.
        delay_s: the least time between two changes of a channel.
        greatest_w: what all channels together can exchange.
    """

    def __init__(self, timeline: Timeline, delay_s: float, greatest_w: float) -> None:
        self._timeline = timeline
        self.worst_delay_s = 0.0
        """The most that a packet may have taken lately."""
        self.zero_until_s = -inf
        """A server was asked to stop or to pause: reductions to 0 W may come at any time until then."""
        self.disturbed_s: dict[str, float] = {}
        """When each station was last cut off, frozen or restarted."""
        self.thawed_s: dict[str, float] = {}
        """When each station's process last stood still: to its end."""
        self.disk_lost_s: dict[str, float] = {}
        """When a server lost its disk, and its account with it."""
        self.broker_forgot_s = -inf
        """When the broker last lost something that it had retained."""
        self.truth = Truth()
        self.obeyed_setpoints = 0
        self.breach: str | None = None
        """The first of them."""
        self._obeyed: deque[str] = deque(maxlen=SAID_KEPT)
        self.takeovers = 0
        self.balances: list[tuple[float, EnergyAccount]] = []
        self._delay_s = delay_s
        self._greatest_w = greatest_w
        self._led: dict[tuple[str, str], Led] = {}
        self._published: dict[tuple[str, int, int], tuple[ServerProcess, float]] = {}
        self._owners: dict[int, ServerProcess] = {}
        self._announced: dict[ServerProcess, Phase] = {}
        self._station_epochs: dict[str, int] = {}
        self._epochs: list[tuple[int, float]] = [(0, -inf)]
        self._balance: LoopBalance | None = None
        self._accountant: ServerProcess | None = None

    @property
    def now_s(self) -> float:
        """The true time."""
        return self._timeline.now_s

    # ── what it is told ───────────────────────────────────────────────────────────────────────────────────────────

    def published(self, run: ServerProcess, topic: str, payload: bytes) -> None:
        """A server has published something."""
        if topic.endswith("/setpoint"):
            setpoint = decode(Setpoint, payload)
            self._published[topic, setpoint.epoch, setpoint.seq] = (run, self.now_s)
            if self._announced.get(run) is Phase.STARTING:
                self._breach(f"{setpoint.server} asks something of {topic} while it announces that it is starting")
        elif topic.endswith("/server"):
            self._announced[run] = decode(ServerAnnouncement, payload).phase
        elif topic.endswith("/balance") and run.leads:
            self._judge_account(run, decode(LoopBalance, payload))

    def told(self, station: StationProcess, channel: str, telemetry: ChannelTelemetry) -> None:
        """A station has sent telemetry."""
        if telemetry.equalization is not None:
            led = self._channel(station, channel)
            led.sent.append((telemetry.boot_id, telemetry.seq, self.now_s))

    def obeyed(self, station: StationProcess, channel: str, setpoint: Setpoint) -> None:
        """A station has accepted a setpoint."""
        name = station.settings.station.id
        led = self._channel(station, channel)
        topic = f"zeroloop/v1/main/station/{name}/channel/{channel}/setpoint"
        run, published_s = self._published.get((topic, setpoint.epoch, setpoint.seq), (None, -inf))
        if run is None:
            self._breach(f"{name}/{channel} obeys a setpoint that no server sent: {setpoint}")
        else:
            self._judge_epoch(name, setpoint, run, published_s)
        if self.now_s > led.lease_until_s - ROUNDING_S:
            led.levels, led.judged = Witness(), 0  # it ends in this moment
        self._lend(f"{name}/{channel}", led, setpoint)
        zero = all(step.power_w == 0.0 for step in setpoint.steps) and self.now_s <= self.zero_until_s
        late = self.now_s - published_s > LATE_S
        # Sent before anybody could know that the one before came late, it is as blind as that one was.
        blind = published_s < led.late_s + TOLD_S + self.worst_delay_s
        if late:
            led.late_s = self.now_s
        self._judge_changes(f"{name}/{channel}", led)
        led.untold_s = self.now_s - published_s if self.now_s - published_s <= TOLD_S else 0.0
        reason = "late" if late else "stop" if zero else "blind" if blind else "change"
        led.levels.take([(step.after_s, step.power_w) for step in setpoint.steps], reason, self.now_s)
        self.obeyed_setpoints += 1
        powers = ", ".join(f"{step.after_s:g} s: {step.power_w:.0f} W" for step in setpoint.steps)
        self._obeyed.append(
            f"{self.now_s - BEGIN_S:.2f} s {name}/{channel} of {setpoint.server}, epoch {setpoint.epoch},"
            f" seq {setpoint.seq}, after {self.now_s - published_s:.2f} s: {powers}"
        )
        self._judge_changes(f"{name}/{channel}", led)

    def look(self, stations: list[StationProcess], passed_s: float) -> None:
        """Look at everything; called every tick."""
        load_w = total_w = 0.0
        for station in stations:
            powers_w = station.powers_w()
            total_w += sum(powers_w.values())
            rack = station.rack
            if rack is None or not station.alive:
                continue
            for section in station.settings.channel:
                power_w = powers_w.get(section.id, 0.0)
                state = rack.state(section.id)
                if not state.equalizing:
                    load_w += power_w
                    continue
                if not -1.01 * section.discharge_limit_w - 50.0 <= power_w <= 1.01 * section.charge_limit_w + 50.0:
                    self._breach(f"{station.settings.station.id}/{section.id} beyond its limits: {power_w:.0f} W")
                if not station.loop.frozen:
                    self._judge_lease(station, section.id, power_w)
        hours = passed_s / SECONDS_PER_HOUR
        self.truth.import_wh += max(total_w, 0.0) * hours
        self.truth.export_wh += max(-total_w, 0.0) * hours
        self.truth.unbalanced_wh += abs(load_w) * hours

    # ── how it judges ─────────────────────────────────────────────────────────────────────────────────────────────

    def _judge_epoch(self, station: str, setpoint: Setpoint, run: ServerProcess, published_s: float) -> None:
        epoch = setpoint.epoch
        if epoch < self._station_epochs.get(station, 0):
            self._breach(f"{station} obeys epoch {epoch} after {self._station_epochs[station]}")
        self._station_epochs[station] = epoch
        if self._began_anew(setpoint.server):
            self._owners[epoch] = run  # stations that were away, or have been restarted, tell nobody of an epoch
        owner = self._owners.setdefault(epoch, run)
        if owner is not run and self._is_forgotten(epoch, owner):
            self._owners[epoch] = run
        elif owner is not run and published_s > self._first_s(epoch, owner):
            # What was on its way before could not know of the other: no station has told of its epoch.
            self._breach(f"two servers are obeyed under epoch {epoch}, the second at {station}: {setpoint.server}")
        highest, since_s = self._epochs[-1]
        if epoch > highest:
            self._epochs.append((epoch, self.now_s))
            self.takeovers += 1
        elif (
            epoch < highest
            and published_s > since_s + FENCED_S
            and self.now_s - self.disturbed_s.get(station, -inf) > UNDISTURBED_S
        ):
            self._breach(f"{station} obeys epoch {epoch} long after {highest} was in force")

    def _lend(self, name: str, led: Led, setpoint: Setpoint) -> None:
        basis = setpoint.basis
        sent_s = next((at_s for boot_id, seq, at_s in led.sent if (boot_id, seq) == (basis.boot_id, basis.seq)), None)
        if sent_s is None:
            self._breach(f"{name} obeys a setpoint that rests on telemetry it never sent: {basis}")
        elif self.now_s - sent_s > BASIS_S + ROUNDING_S:
            self._breach(f"{name} obeys a setpoint that rests on telemetry of {self.now_s - sent_s:.1f} s ago")
        else:
            led.lease_until_s = sent_s + min(setpoint.ttl_s, LONGEST_LEASE_S)

    def _judge_lease(self, station: StationProcess, channel: str, power_w: float) -> None:
        led = self._channel(station, channel)
        name = f"{station.settings.station.id}/{channel}"
        led.levels.advance(self.now_s)
        self._judge_changes(name, led)
        if self.now_s <= led.lease_until_s:
            return
        led.levels = Witness()
        led.judged = 0
        # While the process stood still, nobody but the equipment's own watchdog could have ended what it did.
        due_s = max(led.lease_until_s, self.thawed_s.get(station.settings.station.id, -inf)) + RAMPED_S
        if self.now_s > due_s and abs(power_w) > AT_REST_W:
            self._breach(f"{name} delivers {power_w:.0f} W, {self.now_s - led.lease_until_s:.1f} s after its lease")

    def _judge_changes(self, name: str, led: Led) -> None:
        tolerance_s = ROUNDING_S + max(0.0, self.worst_delay_s - MARGIN_S)
        for change in led.levels.changes[led.judged :]:
            led.judged += 1
            if change.reason == "stop" and abs(change.to_w) < abs(change.from_w):
                continue
            blind = change.reason in {"late", "blind"}
            if blind and change.at_s - led.changed_s <= TICK_S and abs(change.to_w - led.from_w) <= SAME_W:
                led.changed_s = led.prior_changed_s  # a jam has gone: what it held back took each other back at once
                continue
            apart_s = change.at_s - led.changed_s
            least_s = self._delay_s - max(tolerance_s, led.changed_untold_s)
            led.prior_changed_s, led.changed_s, led.from_w = led.changed_s, change.at_s, change.from_w
            led.changed_untold_s = led.untold_s
            if apart_s < least_s and not blind:
                self._breach(
                    f"{name} goes from {change.from_w:.0f} W to {change.to_w:.0f} W, {apart_s:.2f} s after the change "
                    f"before; the delay is {self._delay_s:g} s"
                )

    def _judge_account(self, run: ServerProcess, balance: LoopBalance) -> None:
        account, before = balance.energy, self._balance
        if abs(account.unbalanced_wh - account.import_wh - account.export_wh - account.avoided_wh) > 1e-6 * (
            1.0 + account.unbalanced_wh
        ):
            self._breach(f"the account does not add up: {account}")
        below = before is not None and balance.epoch < before.epoch
        if below and self._accountant is not None and self._accountant.alive:
            return  # it does not know yet that it is deposed; where nobody can tell it any more, it goes on
        if before is not None and not below and not self._began_anew(balance.server):
            gap_s = STORED_GAP_S if self.now_s - self.broker_forgot_s < STORED_GAP_S else LARGEST_GAP_S
            slack_wh = 1e-9 if run is self._accountant else self._greatest_w * gap_s / SECONDS_PER_HOUR
            for key in ("import_wh", "export_wh", "unbalanced_wh"):
                fell_wh = getattr(before.energy, key) - getattr(account, key)
                if fell_wh > slack_wh:
                    self._breach(f"{key} falls by {fell_wh:.3f} Wh from {before.server} to {balance.server}")
        self._balance, self._accountant = balance, run
        if balance.phase is not Phase.STARTING:
            self.balances.append((self.now_s, account))

    def _began_anew(self, server: str) -> bool:
        """Tell whether what a server had stored and what the broker retained were lost in the same half minute."""
        return abs(self.disk_lost_s.get(server, -inf) - self.broker_forgot_s) < STORED_GAP_S

    def _first_s(self, epoch: int, owner: ServerProcess) -> float:
        """Return when a server asked something under an epoch for the first time."""
        return min(at_s for (_, number, _), (run, at_s) in self._published.items() if number == epoch and run is owner)

    def _is_forgotten(self, epoch: int, owner: ServerProcess) -> bool:
        """Tell whether a server has ended, and the broker has lost since what it said under an epoch.

        Stations that have not been asked anything under that epoch tell nobody of it.
        """
        said_s = max(
            at_s for (_, number, _), (run, at_s) in self._published.items() if number == epoch and run is owner
        )
        return not owner.alive and self.broker_forgot_s > said_s

    def _channel(self, station: StationProcess, channel: str) -> Led:
        led = self._led.setdefault((station.settings.station.id, channel), Led())
        if led.boot is not station:
            # A process that begins anew begins at 0 W; when the channel was last changed binds it all the same.
            led.boot, led.levels, led.judged, led.lease_until_s = station, Witness(), 0, -inf
        return led

    def _breach(self, text: str) -> None:
        """Keep the first breach: whoever is told something must not be disturbed by an error of ours."""
        if self.breach is None:
            obeyed = "".join(f"\n    {line}" for line in self._obeyed)
            self.breach = f"{text}; last obeyed:{obeyed}"
