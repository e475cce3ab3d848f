"""The test channels of a hall. Nothing that a controller does reaches them: all controllers meet the same loads."""

from array import array
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from simulation.clock import TICK_S, Timeline, tick_s
from simulation.hall import Hall, Happening
from simulation.station import Sender, VirtualStation
from station.config import StationSettings

FIRST_S = 1.5
"""Scenarios count from here: by then every channel has a sample, without which it takes no command."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that a load's station handed to the network."""

    sent_s: float
    topic: str
    payload: bytes
    qos: int


class Loads:
    """The stations that no controller leads, in a timeline of their own.

    Args:
        hall: with all stations.
        seed: of everything that is drawn.
    """

    def __init__(self, hall: Hall, seed: str) -> None:
        self.timeline = Timeline()
        self.power_w = array("d")
        """What they really draw together, in the middle of every tick."""
        self._sent: list[Sent] = []
        self.stations = tuple(
            virtual(settings, base_dir, timeline=self.timeline, send=self._send, seed=seed)
            for settings, base_dir in zip(hall.stations, hall.base_dirs, strict=True)
            if not hall.is_led(settings)
        )
        schedule(hall.happening_in(None), self.stations, self.timeline)
        self.timeline.at(tick_s(0) + TICK_S / 2.0, self._sample)

    def advance(self, until_s: float) -> list[Sent]:
        """Let time pass, and return what was sent meanwhile."""
        self.timeline.run(until_s)
        sent, self._sent = self._sent, []
        return sent

    def _send(self, topic: str, payload: bytes, qos: int) -> None:
        self._sent.append(Sent(self.timeline.now_s, topic, payload, qos))

    def _sample(self) -> None:
        self.power_w.append(sum(station.power_w for station in self.stations))
        self.timeline.at(tick_s(len(self.power_w)) + TICK_S / 2.0, self._sample)


def virtual(
    settings: StationSettings, base_dir: Path, *, timeline: Timeline, send: Sender, seed: str, step_s: float = TICK_S
) -> VirtualStation:
    """Return a station at the beginning of time."""
    name = settings.station.id
    return VirtualStation(
        settings,
        base_dir,
        timeline=timeline,
        send=send,
        step_s=step_s,
        boot_id=f"{Random(f'{seed}/boot/{name}').getrandbits(32):08x}",  # noqa: S311 - a name, no secret
    )


def schedule(happenings: tuple[Happening, ...], stations: tuple[VirtualStation, ...], timeline: Timeline) -> None:
    """Put what happens to some stations into their timeline."""
    by_name = {station.name: station for station in stations}
    for happening in happenings:
        station = by_name.get(happening.station)
        if station is not None:
            timeline.at(tick_s(0) + FIRST_S + happening.at_s, partial(station.happen, happening))
