"""Controllers set against a hall of arrays, second by second."""

import gc
from array import array
from collections.abc import Sequence
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np

from equalizer.config import EqualizerSettings
from equalizer.control.settings import ControlSettings
from schemas import topics
from schemas.codec import encode
from schemas.messages import ChannelTelemetry
from schemas.topics import ChannelTopic
from simulation.clock import BEGIN_S, Timeline
from simulation.hall import Hall, build
from simulation.peers import LAWS, Gates, Peer
from simulation.plant.book import BulkBook, microwatts
from simulation.plant.wire import Batch, Floats, PlantLoads, Wire
from simulation.plantalk import PlanTalk
from simulation.quick import hurry
from simulation.run import Contest, Progress, Result, varied
from simulation.scenario import Scenario, VariantSection
from simulation.server import Controller, Server
from simulation.station import LOOP, Sender

STEP_S = 1.0
PROGRESS_S = 60.0


class BulkServer(Server):
    """The equalizer, asked for a decision once a second.

    Args:
        settings: its equalizer.toml.
        timeline: in which it lives.
        send: into the network, towards the stations.
        loads: their keys.
    """

    def __init__(
        self, settings: EqualizerSettings, *, timeline: Timeline, send: Sender, loads: list[tuple[str, str]]
    ) -> None:
        super().__init__(settings, timeline=timeline, send=send)
        self.book = BulkBook(ControlSettings.of(settings), loads, timeline.now_s)
        self._helm.book = self.book
        self._link.reset(self.book)
        self._link.of_unknown_age = False

    def material(self, now_s: float) -> None:
        """The second's decision comes anyway."""

    def hear(self, batch: Batch) -> None:
        """Take a second's messages, and decide."""
        for name, status in batch.statuses:
            self.take(topics.status_topic(LOOP, name), encode(status))
        for at_s, station, channel, plan in batch.plans:
            self.book.plan(station, channel, plan, at_s)
        if len(batch.numbers):
            self.book.hear_all(batch.numbers, microwatts(batch.power_w), self._timeline.now_s)
        self._cycle()

    def hear_led(self, station: str, channel: str, message: ChannelTelemetry) -> None:
        """Take the telemetry of a led station's channel, which has come through the network."""
        self._helm.book.telemetry(station, channel, message, retained=False, now_s=self._timeline.now_s)

    def _cycle_at(self, at_s: float) -> None:
        pass


class BulkPeer(Peer):
    """A peer that hears its loads at once."""

    powers_w: Floats | None = None

    def hear_loads(self, batch: Batch, count: int) -> None:
        """Take a second's telemetry; it decides by itself once a second."""
        if self.powers_w is None:
            self.powers_w = np.zeros(count)
        self.powers_w[batch.numbers] = batch.power_w
        self._load_w = float(self.powers_w.sum())
        self._measured_s = self._timeline.now_s


class PlantContest(Contest):
    """One controller against the arrays.

    Args:
        variant: which, and how it differs from the scenario.
        scenario: with everything else.
        hall: whose led stations it gets copies of.
        loads: that it is set against.
        seed: of everything that is drawn.
    """

    def __init__(self, variant: VariantSection, scenario: Scenario, hall: Hall, loads: PlantLoads, seed: str) -> None:
        self._loads = loads
        self._topics: dict[tuple[str, str], str] = {}
        talk = PlanTalk(varied(scenario.plans, variant, "share_ratio", "shift_s"), seed) if variant.plans else None
        self._wire = Wire(loads, varied(scenario.network, variant, "loss_ratio"), talk, seed)
        super().__init__(variant, scenario, hall, seed, step_s=STEP_S)
        if isinstance(self._controller, BulkServer):
            for station in self.stations:
                for channel in station.channels:
                    self._topics[station.name, channel] = topics.channel_topic(
                        LOOP, station.name, channel, ChannelTopic.TELEMETRY
                    )
                station.outlet.hearer = partial(self._hear_led, self._controller, station.name)

    def second(self, second: int, measured_w: Floats) -> None:
        """Let a second pass."""
        self.timeline.run(BEGIN_S + second + 1.0)
        batch = self._wire.second(second, measured_w)
        controller = self._controller
        if isinstance(controller, BulkServer):
            controller.hear(batch)
        elif isinstance(controller, BulkPeer):
            controller.hear_loads(batch, len(self._loads.keys))

    def result(self, load_w: "array[float]") -> Result:
        """Return how it went."""
        self._network.lost += self._wire.lost
        return super().result(load_w)

    def _hear_led(self, server: BulkServer, station: str, channel: str, message: ChannelTelemetry) -> None:
        """Send telemetry through the network; to write it down as bytes, and to read these again, changes nothing."""
        self._network.send(self._topics[station, channel], partial(server.hear_led, station, channel, message))

    def _made(self, variant: VariantSection) -> Controller:
        law = LAWS.get(variant.controller)
        if law is None:
            return BulkServer(self.settings, timeline=self.timeline, send=self._order, loads=self._loads.keys)
        gates = Gates(delay=variant.gated, sign=variant.one_sign)
        return BulkPeer(law(self.settings), self.settings, gates=gates, timeline=self.timeline, send=self._order)


def compete(
    scenario: Scenario,
    folder: Path,
    *,
    seed: int | None = None,
    duration_s: float | None = None,
    progress: Progress = lambda passed_s: None,  # noqa: ARG005 - nobody looks
) -> tuple[Result, ...]:
    """Run a scenario's variants on arrays, all against the same loads.

    Args:
        scenario: what is run.
        folder: where paths in it start from.
        seed: another than the scenario's.
        duration_s: another than the scenario's.
        progress: told the virtual seconds that have passed.

    Raises:
        ConfigurationError: the scenario cannot be used.
        DriverConfigurationError: a station's channel cannot be used.
    """
    number = scenario.seed if seed is None else seed
    length_s = ceil(scenario.duration_s if duration_s is None else duration_s)
    hall = build(scenario, folder, seed=number)
    loads = PlantLoads(hall, length_s, scenario.telemetry.period_s, str(number))
    contests = [PlantContest(variant, scenario, hall, loads, str(number)) for variant in scenario.variant]
    return race(loads, contests, progress)


def race(loads: PlantLoads, contests: Sequence[PlantContest], progress: Progress) -> tuple[Result, ...]:
    """Run contests against the same loads, for as long as these are worked out.

    Args:
        loads: that all of them meet.
        contests: their halls may differ in what is led, but in nothing else.
        progress: told the virtual seconds that have passed.
    """
    hurry(loads.length_s * len(contests))
    gc.freeze()  # of a day's objects none is ever freed; to look through them again and again takes long
    try:
        for second in range(loads.length_s):
            measured_w = loads.measured_w(second)
            for contest in contests:
                contest.second(second, measured_w)
            if (second + 1) % PROGRESS_S == 0 or second + 1 == loads.length_s:
                progress(second + 1.0)
    finally:
        gc.unfreeze()
    load_w = array("d", loads.load_w.tobytes())
    return tuple(contest.result(load_w) for contest in contests)
