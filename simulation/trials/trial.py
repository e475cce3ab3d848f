"""A trial: a hall with two or three equalizers, a seed that draws what goes wrong, and a witness."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from equalizer.config import EqualizerSettings
from schemas.codec import encode
from schemas.messages import LoopAction, LoopCommand, Phase
from schemas.settings import validate
from schemas.topics import LoopTopic, loop_topic
from simulation.clock import BEGIN_S, TICK_S, Timeline
from simulation.trials.faults import BROKER, Fault, Kind, draw
from simulation.trials.mqtt import Network, Packet, Weather
from simulation.trials.process import Computer
from simulation.trials.servers import ServerProcess, VirtualLedger
from simulation.trials.stations import LOOP, StationProcess, VirtualStore
from simulation.trials.witness import BreachError, TrialWitness
from station.config import StationSettings

WARM_UP_S = 15.0
TROUBLED_S = 130.0
QUIET_S = 20.0
RECOVERED_S = 15.0
"""After the last fault, the loop must be balanced again within this time (issue: without a person in 15 s)."""
SNAPSHOT_S = 10.0
CALM_DELAY_S = 0.01
STORM_DELAY_S = 0.9
STORM_RATIO = 0.3
OVERTAKING = 0.5
"""Storms of more than this size let topics overtake each other."""
CLOCK_JUMP_S = 7200.0
RESUMED_S = (0.5, 3.0, 6.0, 9.0)
"""How long after all faults an operator looks whether the loop was resumed: who was to obey may have been down."""
LIMIT_W = 30_000.0
LED_CHANNELS = 3
LOAD_CHANNELS = 3
LAG_S = 3.0
"""Telemetry tells of a load's step up to a period late, and the account counts it from then on."""
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a trial went that has broken nothing."""

    seed: int
    virtual_s: float
    faults: int
    takeovers: int
    obeyed_setpoints: int
    recovered_s: float
    """From the end of the last fault until the loop was balanced again for good."""


class Trial:
    """One loop with all its processes.

    Args:
        seed: of everything that is drawn.
        faults: instead of those that the seed draws.
        troubled_s: how long faults may come.
        servers: how many; by default the seed says.
        options: of every equalizer, by table and key, beyond what the seed draws.
    """

    def __init__(
        self,
        seed: int,
        *,
        faults: tuple[Fault, ...] | None = None,
        troubled_s: float = TROUBLED_S,
        servers: int | None = None,
        options: dict[str, dict[str, object]] | None = None,
    ) -> None:
        self.seed = seed
        self.random = random = Random(f"{seed}/trial")  # noqa: S311 - a trial's variety, no secret
        self.timeline = Timeline()
        self.network = Network(self.timeline, Random(f"{seed}/network"))  # noqa: S311
        self.network.weather = Weather(CALM_DELAY_S)
        self.server_settings = _server_settings(random, options or {})
        self.witness = TrialWitness(
            self.timeline, self.server_settings.control.delay_s, LIMIT_W * (LED_CHANNELS + LOAD_CHANNELS)
        )
        count = servers if servers is not None else random.choice((2, 2, 3))
        self._servers = {name: _server_settings_of(self.server_settings, name) for name in "abc"[:count]}
        self._stations = {settings.station.id: settings for settings in _hall(random)}
        names = [*self._servers, *self._stations]
        self.computers = {name: Computer(name, self.network, Random(f"{seed}/{name}")) for name in names}  # noqa: S311
        self._ledgers = {name: VirtualLedger() for name in self._servers}
        self._stores = {name: VirtualStore() for name in self._stations}
        self._processes: list[ServerProcess | StationProcess] = []
        self.servers: dict[str, ServerProcess] = {}
        self.stations: dict[str, StationProcess] = {}
        self.faults = (
            tuple(faults)
            if faults is not None
            else tuple(
                draw(random, [*self._servers], [*self._stations], from_s=WARM_UP_S, until_s=WARM_UP_S + troubled_s)
            )
        )
        self._boots = 0
        self._commands = 0
        self._snapshot: dict[str, bytes] = {}
        self._recovered_s: float | None = None
        self._is_judged = False
        """Whether the loop must be balanced once the faults are over: an experiment by hand has faults of its own."""
        self._truths: list[tuple[float, float]] = []

    @property
    def healed_s(self) -> float:
        """When the last fault is over, after the beginning."""
        return max((fault.until_s for fault in self.faults), default=WARM_UP_S)

    @property
    def passed_s(self) -> float:
        """The time since the beginning."""
        return self.timeline.now_s - BEGIN_S

    def run(self) -> Verdict:
        """Let it all happen.

        Raises:
            BreachError: the contract was broken; the text says when, where, and with which seed.
        """
        logging.disable(logging.CRITICAL)
        self._is_judged = True
        try:
            self.begin()
            self.advance(self.healed_s + RECOVERED_S + QUIET_S)
            self._judge_account()
        except BreachError as error:
            faults = "".join(f"\n  {fault}" for fault in self.faults)
            raise BreachError(f"seed {self.seed}: {error}{faults}") from None
        finally:
            self.end()
            logging.disable(logging.NOTSET)
        return Verdict(
            seed=self.seed,
            virtual_s=self.passed_s,
            faults=len(self.faults),
            takeovers=self.witness.takeovers,
            obeyed_setpoints=self.witness.obeyed_setpoints,
            recovered_s=max(0.0, (self._recovered_s or 0.0) - self.healed_s),
        )

    def end(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.kill()

    # ── the course of it ──────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """Start everything, the servers one after another, and have the faults come."""
        for number, name in enumerate(self._stations):
            self._at(0.1 * number, lambda name=name: self._start_station(name))  # type: ignore[misc]
        for name in self._servers:
            self._at(self.random.uniform(0.0, 3.0), lambda name=name: self.start_server(name))  # type: ignore[misc]
        for fault in self.faults:
            self._at(fault.at_s, lambda fault=fault: self._strike(fault))  # type: ignore[misc]
            self._at(fault.until_s, lambda fault=fault: self._mend(fault))  # type: ignore[misc]
        self._at(TICK_S, self._look)
        self._at(SNAPSHOT_S, self._save)

    def advance(self, until_s: float) -> None:
        """Let time pass up to a time after the beginning."""
        self.timeline.run(BEGIN_S + until_s)

    def _at(self, at_s: float, call: Callable[[], None]) -> None:
        self.timeline.at(BEGIN_S + at_s, call)

    def start_server(self, name: str) -> None:
        """Start a server, unless it runs."""
        known = self.servers.get(name)
        if known is None or not known.alive:
            process = ServerProcess(
                self.computers[name], self._servers[name], self._ledgers[name], self.witness.published
            )
            self.servers[name] = process
            self._processes.append(process)

    def _start_station(self, name: str) -> None:
        known = self.stations.get(name)
        if known is None or not known.alive:
            self._boots += 1
            self.stations[name] = StationProcess(
                self.computers[name], self._stations[name], self._stores[name], f"boot-{self._boots}", self.witness
            )
            self._processes.append(self.stations[name])

    def _save(self) -> None:
        self._snapshot = dict(self.network.retained)
        self._at(self.passed_s + SNAPSHOT_S, self._save)

    # ── what goes wrong ───────────────────────────────────────────────────────────────────────────────────────────

    def _strike(self, fault: Fault) -> None:
        if fault.target in self._stations:
            self.witness.disturbed_s[fault.target] = self.timeline.now_s
        process = self.servers.get(fault.target) or self.stations.get(fault.target)
        if process is not None:
            self._strike_process(fault, process)
        elif fault.target == BROKER:
            self._strike_broker(fault)

    def _strike_broker(self, fault: Fault) -> None:
        network, size = self.network, fault.size
        match fault.kind:
            case Kind.BROKER_CRASH | Kind.BROKER_OLD | Kind.BROKER_EMPTY:
                network.crash()
            case Kind.BROKER_FREEZE:
                network.freeze()
            case Kind.STORM:
                delay_s = CALM_DELAY_S + STORM_DELAY_S * size
                network.weather = Weather(delay_s, STORM_RATIO * size, STORM_RATIO * size, overtaking=size > OVERTAKING)
                self.witness.worst_delay_s = delay_s
            case Kind.PAUSE:
                self.witness.zero_until_s = BEGIN_S + fault.until_s + RECOVERED_S
                self._command(LoopAction.PAUSE)
            case _:
                raise AssertionError(f"{fault.kind} is nothing that happens to a broker")

    def _strike_process(self, fault: Fault, process: "ServerProcess | StationProcess") -> None:
        computer = self.computers[fault.target]
        match fault.kind:
            case Kind.KILL | Kind.POWER_CUT | Kind.LOSE_DISK:
                process.kill(silently=fault.kind is Kind.POWER_CUT)
                if fault.kind is Kind.LOSE_DISK:
                    self._ledgers[fault.target] = VirtualLedger()
                    self.witness.disk_lost_s[fault.target] = self.timeline.now_s
            case Kind.STOP if isinstance(process, ServerProcess):
                self.witness.zero_until_s = max(self.witness.zero_until_s, self.timeline.now_s + RECOVERED_S)
                process.stop()
            case Kind.FREEZE:
                process.freeze()
            case Kind.CUT_UP | Kind.CUT_DOWN | Kind.CUT:
                computer.way.block(up=fault.kind is not Kind.CUT_DOWN, down=fault.kind is not Kind.CUT_UP)
            case Kind.CLOCK:
                computer.ahead_s += CLOCK_JUMP_S * (fault.size - 0.5)
            case _:
                raise AssertionError(f"{fault.kind} is nothing that happens to {fault.target}")

    def _mend(self, fault: Fault) -> None:
        if fault.target in self._stations:
            self.witness.disturbed_s[fault.target] = self.timeline.now_s
        process = self.servers.get(fault.target) or self.stations.get(fault.target)
        if process is not None:
            self._mend_process(fault, process)
        elif fault.target == BROKER:
            self._mend_broker(fault)

    def _mend_broker(self, fault: Fault) -> None:
        network = self.network
        kept = {Kind.BROKER_CRASH: network.retained, Kind.BROKER_OLD: self._snapshot, Kind.BROKER_EMPTY: {}}
        if fault.kind in kept and not network.up:
            network.restart(dict(kept[fault.kind]))
            if fault.kind is not Kind.BROKER_CRASH:
                self.witness.broker_forgot_s = self.timeline.now_s
        elif fault.kind is Kind.BROKER_FREEZE:
            network.thaw()
        elif fault.kind is Kind.STORM:
            network.weather = Weather(CALM_DELAY_S)
            delay_s = 2.0 * self.server_settings.control.delay_s
            self._at(self.passed_s + delay_s, lambda: setattr(self.witness, "worst_delay_s", 0.0))
        elif fault.kind is Kind.PAUSE:
            for at_s in (self.passed_s, *(self.healed_s + after_s for after_s in RESUMED_S)):
                self._at(at_s, lambda: self._command(LoopAction.RESUME))

    def _mend_process(self, fault: Fault, process: "ServerProcess | StationProcess") -> None:
        if fault.kind is Kind.FREEZE:
            self.witness.thawed_s[fault.target] = self.timeline.now_s
            process.thaw()
        elif fault.kind in (Kind.CUT, Kind.CUT_UP, Kind.CUT_DOWN):
            self.computers[fault.target].way.block(up=False, down=False)
        elif fault.kind is not Kind.CLOCK:
            process.kill()
            begin = self.start_server if fault.target in self._servers else self._start_station
            begin(fault.target)

    def _command(self, action: LoopAction) -> None:
        """Ask the loop something, as an operator beside the broker would."""
        self._commands += 1
        command = LoopCommand(id=f"operator-{self._commands}", action=action, by="trial")
        if self.network.up:
            self.network.publish(Packet("publish", loop_topic(LOOP, LoopTopic.COMMAND), encode(command), 1))

    # ── what is looked at ─────────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        self._at(self.passed_s + TICK_S, self._look)
        self.witness.look(list(self.stations.values()), TICK_S)
        if self.witness.breach is not None:
            raise BreachError(f"at {self.passed_s:.1f} s: {self.witness.breach}")
        self._truths.append((self.timeline.now_s, self.witness.truth.unbalanced_wh))
        self._judge_processes()
        if not self.is_balanced():
            self._recovered_s = None
            if self._is_judged and self.passed_s > self.healed_s + RECOVERED_S:
                raise BreachError(f"at {self.passed_s:.1f} s: not balanced, {self.story()}")
        elif self._recovered_s is None:
            self._recovered_s = self.passed_s

    def _judge_processes(self) -> None:
        """Make sure that nobody has failed inside, or ended without being told to."""
        for process in (*self.servers.values(), *self.stations.values()):
            if process.loop.errors:
                raise BreachError(f"at {self.passed_s:.1f} s: {process.computer.name}: {process.loop.errors[0]}")
        for name, station in self.stations.items():
            if station.ended is not None:
                raise BreachError(f"at {self.passed_s:.1f} s: station {name} has ended: {station.ended}")
        for name, server in self.servers.items():
            if server.ended is not None and not (server.stopping and server.ended == "stopped"):
                raise BreachError(f"at {self.passed_s:.1f} s: server {name} has ended: {server.ended}")

    def is_balanced(self) -> bool:
        """Tell whether exactly one server is in charge, and does its work."""
        leaders = [server for server in self.servers.values() if server.leads]
        return len(leaders) == 1 and leaders[0].service.phase in (Phase.BALANCING, Phase.SATURATED)

    def story(self) -> str:
        """Say what the servers do."""
        return ", ".join(
            f"{name}: {server.service.standing} {server.service.phase if server.alive else 'dead'}"
            for name, server in self.servers.items()
        )

    def _judge_account(self) -> None:
        """Compare what the account has grown by since all is well with what was really exchanged."""
        from_s = BEGIN_S + self.healed_s + RECOVERED_S
        known = [(at_s, account) for at_s, account in self.witness.balances if at_s >= from_s]
        if len(known) < QUIET_S / 2.0:
            raise BreachError(f"{len(known)} balances in the last {QUIET_S:g} s")
        (begin_s, first), (end_s, last) = known[0], known[-1]
        truth_wh = self._truth_wh(end_s) - self._truth_wh(begin_s)
        said_wh = last.unbalanced_wh - first.unbalanced_wh
        slack_wh = LIMIT_W * LOAD_CHANNELS * LAG_S / SECONDS_PER_HOUR
        if abs(said_wh - truth_wh) > slack_wh:
            raise BreachError(f"the account has grown by {said_wh:.1f} Wh where {truth_wh:.1f} Wh were exchanged")

    def _truth_wh(self, at_s: float) -> float:
        return next(wh for when_s, wh in self._truths if when_s >= at_s - TICK_S)


def _server_settings(random: Random, options: dict[str, dict[str, object]]) -> EqualizerSettings:
    ttl_s = random.choice((12.0, 20.0, 30.0))
    drawn: dict[str, dict[str, object]] = {
        "loop": {"name": LOOP},
        "control": {
            "policy": random.choice(("confirm", "dwell")),
            "delay_s": random.choice((3.0, 5.0)),
            "engage_w": 500.0,
            "release_w": 200.0,
            "freeze_w": random.choice((1e6, 15_000.0)),
        },
        "telemetry": {"period_s": random.choice((0.5, 1.0))},
        "setpoint": {"ttl_s": ttl_s, "refresh_s": random.choice((1.0, ttl_s / 4.0))},
        "metrics": {"port": 0},
        "discovery": {"advertise": False},
        "state": {"decision_log_bytes": 0, "audit_log_bytes": 0},
        "standby": {"enabled": True, "lost_s": random.choice((4.0, 5.0))},
    }
    for table, keys in options.items():
        drawn[table] = {**drawn.get(table, {}), **keys}
    return validate(EqualizerSettings, drawn, source="trial")


def _server_settings_of(settings: EqualizerSettings, name: str) -> EqualizerSettings:
    return settings.model_copy(update={"loop": settings.loop.model_copy(update={"server": name})})


def _hall(random: Random) -> list[StationSettings]:
    """Return a station of loads and two of equalization channels."""
    period_s = 1.0
    battery = {"capacity_ah": 300.0, "series": 96, "parallel": 1, "soc_ratio": 0.5, "connected": True}
    rated = {"charge_limit_w": LIMIT_W, "discharge_limit_w": LIMIT_W, "ramp_w_per_s": 60_000.0, "battery": battery}
    loads = [{"id": str(number + 1), **rated, "program": _program(random), "repeat": 0} for number in range(3)]
    led = [{"id": "1", **rated, "equalize": True}, {"id": "2", **rated, "equalize": True}]
    halls = [("loads", loads), ("eq1", led), ("eq2", led[:1])]
    return [
        validate(
            StationSettings,
            {
                "station": {"id": name, "on_lost": "zero"},
                "telemetry": {"period_s": period_s, "retain_every_s": random.choice((0.0, 5.0))},
                "driver": {"type": "simulated", "seed": random.randrange(1000)},
                "channel": channels,
            },
            source="trial",
        )
        for name, channels in halls
    ]


def _program(random: Random) -> list[dict[str, object]]:
    steps: list[dict[str, object]] = []
    for _ in range(6):
        power_w = random.choice((-1.0, 1.0)) * random.uniform(3_000.0, 20_000.0)
        steps.append(
            {
                "step": "cp_chg" if power_w > 0 else "cp_dchg",
                "power_w": abs(power_w),
                "until": {"time_s": random.uniform(8.0, 40.0)},
            }
        )
        steps.append({"step": "rest", "until": {"time_s": random.uniform(2.0, 10.0)}})
    return steps
