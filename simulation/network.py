"""Messages on their way: delayed, jittered, lost, but in order within a topic, as MQTT has it."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from simulation.clock import Timeline
from simulation.scenario import NetworkSection


@dataclass(slots=True)
class _Line:
    """One topic. Its luck is its own, so that two controllers meet the same network with the same loads."""

    random: Random
    arrives_s: float = 0.0


class Network:
    """Carries messages between stations and a controller.

    Args:
        settings: how long they take and how many get lost.
        timeline: in which they arrive.
        seed: of delays and losses.
    """

    def __init__(self, settings: NetworkSection, timeline: Timeline, seed: str) -> None:
        self._settings = settings
        self._timeline = timeline
        self._seed = seed
        self._lines: dict[str, _Line] = {}
        self.lost = 0

    def send(self, topic: str, arrive: Callable[[], None], *, qos: int = 0, sent_s: float | None = None) -> None:
        """Have a message arrive that is sent now, or was at `sent_s`; at QoS 1 it always does."""
        line = self._lines.get(topic)
        if line is None:
            line = self._lines[topic] = _Line(Random(f"{self._seed}/network/{topic}"))  # noqa: S311 - weather, no secret
        settings = self._settings
        luck, swing = line.random.random(), line.random.random()
        if qos == 0 and luck < settings.loss_ratio:
            self.lost += 1
            return
        delay_s = max(0.0, settings.delay_s + settings.jitter_s * (2.0 * swing - 1.0))
        line.arrives_s = max(line.arrives_s, (self._timeline.now_s if sent_s is None else sent_s) + delay_s)
        self._timeline.at(line.arrives_s, arrive)
