"""The loads of a hall as arrays, and what of them reaches a controller in each second."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import ceil, inf

import numpy as np
import numpy.typing as npt

from schemas.messages import ChannelPlan, OnLost, Presence, StationStatus
from schemas.settings import ConfigurationError
from simulation.clock import BEGIN_S, UNIX_BEGIN_S
from simulation.hall import Hall
from simulation.loads import FIRST_S
from simulation.plant.book import Ints
from simulation.plant.course import Course, course
from simulation.plant.foresight import plan
from simulation.plantalk import PlanTalk
from simulation.scenario import Action, NetworkSection
from simulation.station import KEEPALIVE_S
from station.config import StationSettings

Floats = npt.NDArray[np.float64]

BOOT_ID = "traces"


@dataclass(frozen=True, slots=True)
class Batch:
    """What reaches a controller in a second; times are of the timeline."""

    statuses: tuple[tuple[str, StationStatus], ...]
    plans: tuple[tuple[float, str, str, ChannelPlan], ...]
    """Arrival, station, channel, plan; in the order of arrival."""
    numbers: Ints
    """The loads whose telemetry came."""
    power_w: Floats


class PlantLoads:
    """The test channels of all stations that are not led.

    Args:
        hall: with all stations.
        length_s: for how long they run.
        period_s: of telemetry.
        seed: of measurement noise.

    Raises:
        ConfigurationError: something happens to them that arrays cannot show.
        DriverConfigurationError: a channel cannot be used.
    """

    def __init__(self, hall: Hall, length_s: int, period_s: float, seed: str) -> None:
        if period_s < 1.0 or period_s != round(period_s):
            raise ConfigurationError(
                f"telemetry.period_s is {period_s:g}; with plant = 'traces', whole seconds allowed"
            )
        self.length_s = length_s
        self.period_s = round(period_s)
        self.keys: list[tuple[str, str]] = []
        self.courses: list[Course] = []
        self.stations: list[StationSettings] = []
        self.cuts: dict[str, list[tuple[float, float]]] = {}
        phases: list[float] = []
        spans = _spans(hall)
        rows: list[npt.NDArray[np.float32]] = []
        for settings, base_dir in zip(hall.stations, hall.base_dirs, strict=True):
            if hall.is_led(settings):
                continue
            name = settings.station.id
            self.stations.append(settings)
            self.cuts[name] = _cuts(hall, name)
            for place, section in enumerate(settings.channel):
                start_s, stop_s = spans.get((name, section.id), (inf, inf))
                made = course(section, base_dir, start_s=start_s, stop_s=stop_s, length_s=length_s)
                rows.append(made.power_w)
                self.keys.append((name, section.id))
                self.courses.append(made)
                phases.append(place / len(settings.channel))
        self.phase_s = np.array(phases)
        self.power_w = np.ascontiguousarray(np.array(rows).T) if rows else np.zeros((length_s, 0), np.float32)
        self.load_w: Floats = self.power_w.sum(axis=1, dtype=np.float64)
        self._noise = np.random.default_rng([int.from_bytes(seed.encode(), "little") % 2**63, 1])
        ratings = [section.charge_limit_w for settings in self.stations for section in settings.channel]
        self.noise_w = NOISE_RATIO * np.array(ratings)

    def measured_w(self, second: int) -> Floats:
        """Return what the channels measure in a second; every second once, in order."""
        measured_w: Floats = self.power_w[second].astype(np.float64)
        measured_w += self.noise_w * self._noise.standard_normal(len(self.keys))
        return measured_w


NOISE_RATIO = 1e-4
"""Of the rating: the families' default noise of current."""


class Wire:
    """One controller's network between it and the loads.

    Args:
        loads: which speak.
        network: how messages travel.
        talk: what becomes of plans; null: they are not sent.
        seed: of delays and losses.
    """

    def __init__(self, loads: PlantLoads, network: NetworkSection, talk: PlanTalk | None, seed: str) -> None:
        self._loads = loads
        self._network = network
        self._talk = talk
        number = int.from_bytes(seed.encode(), "little") % 2**63
        self._luck, self._plan_luck = np.random.default_rng([number, 2]), np.random.default_rng([number, 3])
        self._arrived_s = np.zeros(len(loads.keys))
        self._under_way: dict[int, list[tuple[Ints, Floats]]] = defaultdict(list)
        self._plans_under_way: list[tuple[float, int, str, str, ChannelPlan]] = []
        self._due = [(0.0, number) for number in range(len(loads.keys))] if talk is not None else []
        heapify(self._due)
        self._seqs = [0] * len(loads.keys)
        self._said = 0
        self._statuses = sorted(_statuses(loads), key=lambda status: status[0])
        self.lost = 0

    def second(self, second: int, measured_w: Floats) -> Batch:
        """Return what arrives up to the end of a second, given what is measured in it."""
        end_s = second + 1.0
        statuses = []
        while self._statuses and self._statuses[0][0] <= end_s:
            _, name, status = self._statuses.pop(0)
            statuses.append((name, status))
        self._send(second, measured_w)
        self._send_plans(end_s)
        plans = []
        while self._plans_under_way and self._plans_under_way[0][0] <= end_s:
            at_s, _, station, channel, said = heappop(self._plans_under_way)
            plans.append((BEGIN_S + at_s, station, channel, said))
        return Batch(tuple(statuses), tuple(plans), *self._arrived(second + 1))

    def _arrived(self, second: int) -> tuple[Ints, Floats]:
        """Return the loads whose telemetry arrives in a second, and their power; the later of two messages counts."""
        parts = self._under_way.pop(second, [])
        if len(parts) == 1:
            return parts[0]
        heard, power_w = np.zeros(len(self._loads.keys), np.bool_), np.zeros(len(self._loads.keys))
        for numbers, said_w in parts:
            heard[numbers], power_w[numbers] = True, said_w
        return np.flatnonzero(heard), power_w[heard]

    def _send(self, second: int, measured_w: Floats) -> None:
        loads, network = self._loads, self._network
        luck, swing = self._luck.random((2, len(loads.keys)))
        speaks = self._speaking(second)
        comes = luck >= network.loss_ratio
        if speaks is not None:
            comes &= speaks
        self.lost += (len(comes) if speaks is None else int(np.count_nonzero(speaks))) - int(np.count_nonzero(comes))
        delay_s = np.maximum(0.0, network.delay_s + network.jitter_s * (2.0 * swing - 1.0))
        arrives_s = np.maximum(self._arrived_s, second + loads.phase_s + delay_s)
        np.copyto(self._arrived_s, arrives_s, where=comes)
        due = second + 1
        while comes.any():
            now = comes & (arrives_s <= due)
            (numbers,) = now.nonzero()
            self._under_way[due].append((numbers, measured_w[numbers]))
            comes ^= now
            due += 1

    def _speaking(self, second: int) -> npt.NDArray[np.bool_] | None:
        """Return who speaks in a second; null: everybody."""
        loads = self._loads
        away = {name for name, cuts in loads.cuts.items() for begin_s, end_s in cuts if begin_s <= second < end_s}
        if loads.period_s == 1 and not away:
            return None
        due: npt.NDArray[np.bool_] = (second + np.arange(len(loads.keys))) % loads.period_s == 0
        there = np.array([station not in away for station, _ in loads.keys], np.bool_)
        return due & there

    def _send_plans(self, end_s: float) -> None:
        loads, network, talk = self._loads, self._network, self._talk
        while talk is not None and self._due and self._due[0][0] < end_s:
            at_s, number = heappop(self._due)
            station, channel = loads.keys[number]
            self._seqs[number] += 1
            said, next_s = plan(
                loads.courses[number],
                at_s,
                boot_id=BOOT_ID,
                seq=self._seqs[number],
                unix_time_s=UNIX_BEGIN_S + at_s,
            )
            if next_s < loads.length_s:
                heappush(self._due, (next_s, number))
            luck, swing = self._plan_luck.random(2).tolist()
            told = talk.of(station, channel, said)
            away = any(begin_s <= at_s < back_s for begin_s, back_s in loads.cuts[station])
            if told is None or away or luck < network.loss_ratio:
                continue
            delay_s = max(0.0, network.delay_s + network.jitter_s * (2.0 * swing - 1.0))
            self._said += 1
            heappush(self._plans_under_way, (at_s + delay_s, self._said, station, channel, told))


def _statuses(loads: PlantLoads) -> Iterator[tuple[float, str, StationStatus]]:
    for settings in loads.stations:
        name = settings.station.id
        yield 0.0, name, _status(settings, Presence.ONLINE)
        for begin_s, end_s in loads.cuts[name]:
            if begin_s + KEEPALIVE_S < end_s:
                yield begin_s + KEEPALIVE_S, name, _status(settings, Presence.OFFLINE)
            yield end_s, name, _status(settings, Presence.ONLINE)


def _status(settings: StationSettings, presence: Presence) -> StationStatus:
    return StationStatus(
        status=presence,
        boot_id=BOOT_ID,
        version="virtual",
        driver="traces",
        channels=tuple(section.id for section in settings.channel),
        on_lost=OnLost(settings.station.on_lost),
        unix_time_s=UNIX_BEGIN_S,
    )


def _spans(hall: Hall) -> dict[tuple[str, str], tuple[float, float]]:
    """Return when each channel starts and when it is stopped for good."""
    spans: dict[tuple[str, str], tuple[float, float]] = {}
    led = {settings.station.id for settings in hall.stations if hall.is_led(settings)}
    for happening in hall.happening_in(None):
        if not happening.channel or happening.station in led:
            continue
        key = (happening.station, happening.channel)
        start_s, stop_s = spans.get(key, (inf, inf))
        if happening.action is Action.START and start_s == inf:
            spans[key] = (FIRST_S + happening.at_s, stop_s)
        elif happening.action is Action.STOP:
            spans[key] = (start_s, min(stop_s, FIRST_S + happening.at_s))
        else:
            raise ConfigurationError(
                f"{happening.action} at {happening.station}/{happening.channel}: with plant = 'traces', a test channel "
                "is started once and stopped; leave `plant` out for more"
            )
    return spans


def _cuts(hall: Hall, station: str) -> list[tuple[float, float]]:
    """Return when a station was cut off, and when it was back."""
    cuts: list[tuple[float, float]] = []
    for happening in hall.happening_in(None):
        if happening.station == station and not happening.channel:
            at_s = float(ceil(FIRST_S + happening.at_s))
            if happening.action is Action.CUT:
                cuts.append((at_s, inf))
            elif cuts and cuts[-1][1] == inf:
                cuts[-1] = (cuts[-1][0], at_s)
    return cuts
