"""A process of the trial, and the computer that it runs on."""

from collections.abc import Callable
from random import Random

from simulation.clock import Timeline
from simulation.trials.eventloop import VirtualLoop
from simulation.trials.mqtt import Line, Network, Packet, Way


class Computer:
    """What outlives a process: its clocks, its network, its disk.

    Args:
        name: of the one process that runs on it.
        network: to the broker.
        random: draws its clocks.
    """

    def __init__(self, name: str, network: Network, random: Random) -> None:
        self.name = name
        self.network = network
        self.random = random
        self.way = Way()
        self.origin_s = random.uniform(-500.0, 1e5)
        """What its monotonic clock is ahead of the timeline."""
        self.ahead_s = random.uniform(-2.0, 2.0)
        """What its wall clock is ahead of the true time; may jump."""

    @property
    def timeline(self) -> Timeline:
        """The time that passes for all."""
        return self.network.timeline


class Process:
    """One run of a program.

    Args:
        computer: on which it runs.
        note: told the topic and the payload of all that it publishes.
    """

    def __init__(self, computer: Computer, note: Callable[[str, bytes], None] = lambda topic, payload: None) -> None:  # noqa: ARG005
        self.computer = computer
        self.random = computer.random
        self.note = note
        self.loop = VirtualLoop(computer.timeline, computer.origin_s)
        self.alive = True
        self._lines: list[Line] = []

    def clock(self) -> float:
        """Return its monotonic time."""
        return self.loop.time()

    def utc(self) -> float:
        """Return its wall clock's time."""
        return self.computer.timeline.utc() + self.computer.ahead_s

    def dial(self, will: Packet | None, hear: Callable[[Packet], None]) -> Line:
        """Begin a connection to the broker."""
        line = self.computer.network.dial(self.computer.way, will, hear)
        self._lines = [*(known for known in self._lines if not known.down.closed), line]
        return line

    def freeze(self) -> None:
        """Stand still (SIGSTOP)."""
        self.loop.frozen = True

    def thaw(self) -> None:
        """Go on (SIGCONT)."""
        if self.alive:
            self.loop.thaw()

    def kill(self, *, silently: bool = False) -> None:
        """End at once. Silently: with the computer's power, so that no network hears of it."""
        if not self.alive:
            return
        self.alive = False
        for line in self._lines:
            line.down.closed = True
            if not silently:
                line.up.send(Packet("end"))
            line.up.closed = silently
        self.loop.kill()
