"""Controllers set against one hall: every one in a timeline of its own, with a network and batteries of its own."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from equalizer.config import ControlSection, EqualizerSettings
from schemas import topics
from schemas.topics import ChannelTopic
from simulation.clock import BEGIN_S, TICK_S, Timeline, tick_s
from simulation.hall import Hall, build
from simulation.loads import Loads, Sent, schedule, virtual
from simulation.network import Network
from simulation.peers import LAWS, Gates, Peer
from simulation.plantalk import PlanTalk
from simulation.quick import hurry
from simulation.scenario import NetworkSection, PlansSection, Scenario, VariantSection
from simulation.server import Change, Controller, Server
from simulation.station import LOOP, Channel
from simulation.witness import Witness

SLICE_S = 10.0
"""The loads run ahead of their controllers by no more."""

Progress = Callable[[float], None]
"""Called with the seconds that have passed."""
Tamper = Callable[[str, bytes, float], bytes | None]
"""Makes another message of one that a station sends: topic, payload, time; null: it never arrives."""


@dataclass(slots=True, eq=False)
class Trace:
    """What really flowed, in the middle of every step."""

    step_s: float
    """Between two rows."""
    time_s: "array[float]"
    """After the beginning."""
    load_w: "array[float]"
    equalization_w: "array[float]"
    seen_load_w: "array[float]"
    """The load as the controller believed it to be."""
    announced_w: "array[float]"
    setpoint_w: "dict[str, array[float]]"
    """By equalization channel: what it was told last."""
    power_w: "dict[str, array[float]]"
    soc_ratio: "dict[str, array[float]]"
    """Of its battery; not a number where it says nothing of it."""
    reason: list[str]
    phase: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """How one variant went."""

    variant: VariantSection
    settings: EqualizerSettings
    trace: Trace
    orders: tuple[Change, ...]
    witnesses: dict[str, Witness]
    clamped: int
    """Setpoints that a station had to cut to its limits."""
    rejected: dict[str, int]
    """Setpoints that a station refused, by reason."""
    counts: dict[str, dict[str, int]]
    split_wh: dict[str, float]
    """The energy that was left over, by cause, as the equalizer itself saw it; empty for other controllers."""
    events: dict[str, int]
    messages_lost: int
    limit_w: float
    """What all equalization channels can do together, by their ratings; the smaller of both directions."""
    ramp_w_per_s: float
    """Of one of them, in the mean."""
    soc_ratio: dict[str, float]
    """Of the equalization batteries, at the end."""


class Contest:
    """One controller against the loads.

    Args:
        variant: which, and how it differs from the scenario.
        scenario: with everything else.
        hall: whose led stations it gets copies of.
        seed: of everything that is drawn.
        tamper: what becomes of the stations' messages.
        step_s: between two rows of the trace, and two ticks of a station; whole ticks of the production's.
    """

    def __init__(
        self,
        variant: VariantSection,
        scenario: Scenario,
        hall: Hall,
        seed: str,
        *,
        tamper: Tamper | None = None,
        step_s: float = TICK_S,
    ) -> None:
        self.variant = variant
        self._tamper = tamper
        self.settings = settings_of(variant, scenario)
        self.timeline = Timeline()
        self._network = Network(varied(scenario.network, variant, "loss_ratio"), self.timeline, seed)
        self._talk = PlanTalk(varied(scenario.plans, variant, "share_ratio", "shift_s"), seed)
        self._controller = self._made(variant)
        self.stations = tuple(
            virtual(settings, base_dir, timeline=self.timeline, send=self._hear, seed=seed, step_s=step_s)
            for settings, base_dir in zip(hall.stations, hall.base_dirs, strict=True)
            if hall.is_led(settings)
        )
        schedule(hall.happening_in(variant.name), self.stations, self.timeline)
        self._by_name = {station.name: station for station in self.stations}
        self._names = {
            (station.name, section.id): f"{station.name}/{section.id}"
            for station in self.stations
            for section in station.settings.channel
        }
        self._witnesses = {name: Witness() for name in self._names.values()}
        self._reasons: dict[tuple[str, int], str] = {}
        self._numbers: dict[str, int] = {}
        self._noted = 0
        self._trace = _trace(tuple(self._names.values()), step_s)
        self._step_ticks = round(step_s / TICK_S)
        self.timeline.at(self._sampled_s(), self._sample)
        self.timeline.at(BEGIN_S, self._controller.begin)

    def take(self, sent: list[Sent]) -> None:
        """Put what the loads sent into the network."""
        for message in sent:
            self._pass_on(message.topic, message.payload, message.qos, message.sent_s)

    def result(self, load_w: "array[float]") -> Result:
        """Return how it went; the loads' power is added to that of the led stations' own test channels."""
        trace = self._trace
        for number, power_w in enumerate(load_w[: len(trace.time_s)]):
            trace.load_w[number] += power_w
        led = [section for station in self.stations for section in station.settings.channel]
        setpoints = _sum(station.tally.setpoints for station in self.stations)
        return Result(
            variant=self.variant,
            settings=self.settings,
            trace=trace,
            orders=tuple(self._controller.changes),
            witnesses=self._witnesses,
            clamped=setpoints.get("clamped", 0),
            rejected={reason: count for reason, count in setpoints.items() if reason not in _OBEYED},
            counts=self._controller.counts(),
            split_wh=self._controller.split_wh() if isinstance(self._controller, Server) else {},
            events=_sum(station.outlet.events for station in self.stations),
            messages_lost=self._network.lost,
            limit_w=sum(min(section.charge_limit_w, section.discharge_limit_w) for section in led),
            ramp_w_per_s=fmean(section.ramp_w_per_s for section in led) if led else 1.0,
            soc_ratio={
                self._names[station.name, channel.id]: sample.soc_ratio
                for station in self.stations
                for channel in station.channels.values()
                if (sample := channel.state.sample) is not None and sample.soc_ratio is not None
            },
        )

    def _made(self, variant: VariantSection) -> Controller:
        law = LAWS.get(variant.controller)
        if law is None:
            return Server(self.settings, timeline=self.timeline, send=self._order)
        gates = Gates(delay=variant.gated, sign=variant.one_sign)
        return Peer(law(self.settings), self.settings, gates=gates, timeline=self.timeline, send=self._order)

    # ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, topic: str, payload: bytes, qos: int) -> None:
        self._pass_on(topic, payload, qos, self.timeline.now_s)

    def _pass_on(self, topic: str, payload: bytes, qos: int, sent_s: float) -> None:
        if topic.endswith(_PLAN):
            told = self._talk.told(topic, payload) if self.variant.plans else None
            if told is None:
                return
            payload = told
        if self._tamper is not None:
            tampered = self._tamper(topic, payload, sent_s)
            if tampered is None:
                return
            payload = tampered
        self._network.send(topic, partial(self._controller.take, topic, payload), qos=qos, sent_s=sent_s)

    def _order(self, topic: str, payload: bytes, qos: int) -> None:
        self._network.send(topic, partial(self._obey, topic, payload), qos=qos)

    def _obey(self, topic: str, payload: bytes) -> None:
        address = topics.parse(topic)
        if not isinstance(address, topics.ChannelAddress) or address.station not in self._by_name:
            return
        setpoint = self._by_name[address.station].on_setpoint(topic, payload)
        if setpoint is not None:
            name = self._names[address.station, address.channel]
            reason = self._reason_of(address.station, address.channel, setpoint.seq)
            steps = [(step.after_s, step.power_w) for step in setpoint.steps]
            self._witnesses[name].take(steps, reason, self.timeline.now_s)

    def _reason_of(self, station: str, channel: str, seq: int) -> str:
        """A channel's orders are numbered from 1 in the order in which they were made."""
        while self._noted < len(self._controller.changes):
            order = self._controller.changes[self._noted]
            self._noted += 1
            name = self._names[order.station, order.channel]
            self._numbers[name] = number = self._numbers.get(name, 0) + 1
            self._reasons[name, number] = order.reason
        return self._reasons.get((self._names[station, channel], seq), "")

    # ── the trace ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _sample(self) -> None:
        trace, now_s = self._trace, self.timeline.now_s
        equalization_w = others_w = 0.0
        for station in self.stations:
            for channel in station.channels.values():
                name = self._names[station.name, channel.id]
                witness = self._witnesses[name]
                witness.advance(now_s)
                equalizing = channel.state.equalizing
                if channel.state.lease is None:
                    witness.release(now_s)
                trace.power_w[name].append(channel.power_w if equalizing else 0.0)
                trace.setpoint_w[name].append(witness.level_w if equalizing else 0.0)
                trace.soc_ratio[name].append(_soc_ratio(channel))
                if equalizing:
                    equalization_w += channel.power_w
                else:
                    others_w += channel.power_w
        seen_w, announced_w = self._controller.seen()
        trace.time_s.append(round(now_s - BEGIN_S, 3))
        trace.load_w.append(others_w)
        trace.equalization_w.append(equalization_w)
        trace.seen_load_w.append(seen_w)
        trace.announced_w.append(announced_w)
        trace.reason.append(self._controller.reason)
        trace.phase.append(self._controller.phase)
        self.timeline.at(self._sampled_s(), self._sample)

    def _sampled_s(self) -> float:
        """Return when the next row is due: in the middle of its step."""
        return tick_s(len(self._trace.time_s) * self._step_ticks) + self._trace.step_s / 2.0


_Part = TypeVar("_Part", NetworkSection, PlansSection)
_PLAN = f"/{ChannelTopic.PLAN.value}"


_OBEYED = ("applied", "clamped", "duplicate")


def compete(
    scenario: Scenario,
    folder: Path,
    *,
    seed: int | None = None,
    duration_s: float | None = None,
    progress: Progress = lambda passed_s: None,  # noqa: ARG005 - nobody looks
    tamper: Callable[[], Tamper] | None = None,
) -> tuple[Result, ...]:
    """Run a scenario's variants, all against the same loads.

    Args:
        scenario: what is run.
        folder: where paths in it start from.
        seed: another than the scenario's.
        duration_s: another than the scenario's.
        progress: told the virtual seconds that have passed.
        tamper: makes, for each variant, what becomes of the stations' messages.

    Raises:
        ConfigurationError: the scenario cannot be used.
        DriverConfigurationError: a station's channel cannot be used.
    """
    number = scenario.seed if seed is None else seed
    length_s = scenario.duration_s if duration_s is None else duration_s
    hall = build(scenario, folder, seed=number)
    loads = Loads(hall, str(number))
    contests = [
        Contest(variant, scenario, hall, str(number), tamper=None if tamper is None else tamper())
        for variant in scenario.variant
    ]
    return race(loads, contests, length_s, progress)


def race(loads: Loads, contests: Sequence[Contest], length_s: float, progress: Progress) -> tuple[Result, ...]:
    """Run contests against the same loads, from the beginning.

    Args:
        loads: that all of them meet.
        contests: their halls may differ in what is led, but in nothing else.
        length_s: for how long.
        progress: told the virtual seconds that have passed.
    """
    hurry(length_s * len(contests))
    passed_s = 0.0
    while passed_s < length_s:
        passed_s = min(passed_s + SLICE_S, length_s)
        sent = loads.advance(BEGIN_S + passed_s)
        for contest in contests:
            contest.take(sent)
            contest.timeline.run(BEGIN_S + passed_s)
        progress(passed_s)
    return tuple(contest.result(loads.power_w) for contest in contests)


def settings_of(variant: VariantSection, scenario: Scenario) -> EqualizerSettings:
    """Return what the equalizer is configured with in a variant."""
    said = {
        key: value
        for key in ("policy", "delay_s", "engage_w", "release_w")
        if (value := getattr(variant, key)) is not None
    }
    control = ControlSection.model_validate({**scenario.control.model_dump(), **said})
    return EqualizerSettings.model_validate(
        {
            "loop": {"name": LOOP, "server": "virtual"},
            "control": control.model_dump(),
            "telemetry": scenario.telemetry.model_dump(),
            "setpoint": scenario.setpoint.model_dump(),
        }
    )


def varied(section: _Part, variant: VariantSection, *keys: str) -> _Part:
    """Return a section of the scenario with what a variant says otherwise."""
    said = {key: value for key in keys if (value := getattr(variant, key)) is not None}
    return section.model_copy(update=said)


def _soc_ratio(channel: Channel) -> float:
    sample = channel.state.sample
    return nan if sample is None or sample.soc_ratio is None else sample.soc_ratio


def _sum(counters: Iterable[Counter[str]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return dict(total)


def _trace(names: tuple[str, ...], step_s: float) -> Trace:
    return Trace(
        step_s=step_s,
        time_s=array("d"),
        load_w=array("d"),
        equalization_w=array("d"),
        seen_load_w=array("d"),
        announced_w=array("d"),
        setpoint_w={name: array("d") for name in names},
        power_w={name: array("d") for name in names},
        soc_ratio={name: array("d") for name in names},
        reason=[],
        phase=[],
    )
