"""A broker, and connections to it that are late, stuck or torn.

The broker keeps what is retained, publishes wills, and gives a silent client up after one and a half keep-alives. A
connection is two pipes, each in order as TCP has it; a blocked way holds back what is on it and lets it all go at once
when it opens, unless the connection was given up meanwhile. `Weather` makes it worse than any broker should be: QoS 0
lost, QoS 1 twice, topics overtaking each other.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from simulation.clock import Timeline

KEEPALIVE_S = 10.0
PATIENCE_S = 1.5 * KEEPALIVE_S
_CHECK_S = 1.0
_LEAST_DELAY_S = 0.001


@dataclass(frozen=True, slots=True)
class Packet:
    """What goes over a connection, either way."""

    kind: str
    """`connect`, `connack`, `subscribe`, `publish`, `puback`, `ping`, `pong`, `disconnect`, `end`."""
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    number: int = 0
    filters: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True)
class Weather:
    """How the network and the broker are at the moment."""

    delay_s: float = 0.01
    """The most that a packet takes, one way."""
    loss_ratio: float = 0.0
    """Of QoS 0."""
    twice_ratio: float = 0.0
    """Of QoS 1."""
    overtaking: bool = False
    """Messages of different topics are not in order."""


@dataclass(slots=True)
class Way:
    """The network between one computer and the broker."""

    up_blocked: bool = False
    down_blocked: bool = False
    pipes: "list[Pipe]" = field(default_factory=list)

    def block(self, *, up: bool, down: bool) -> None:
        """Open or close it, each direction by itself."""
        self.up_blocked, self.down_blocked = up, down
        self.pipes = [pipe for pipe in self.pipes if not pipe.closed]
        for pipe in self.pipes:
            pipe.flow()


class Pipe:
    """One direction of a connection: in order, late, and stuck while the way is blocked."""

    def __init__(self, world: "Network", way: Way, take: Callable[[Packet], None], *, up: bool) -> None:
        self.closed = False
        self._world = world
        self._way = way
        self._take = take
        self._up = up
        self._queue: deque[tuple[float, Packet]] = deque()
        self._last_s = 0.0
        way.pipes.append(self)

    @property
    def _blocked(self) -> bool:
        return self._way.up_blocked if self._up else self._way.down_blocked

    def send(self, packet: Packet) -> None:
        """Put a packet on its way."""
        world = self._world
        delay_s = world.random.uniform(_LEAST_DELAY_S, world.weather.delay_s)
        at_s = world.timeline.now_s + delay_s
        if world.weather.overtaking and packet.kind == "publish" and not self._blocked:
            world.timeline.at(at_s, lambda: None if self.closed else self._take(packet))
            return
        self._last_s = max(self._last_s, at_s)
        self._queue.append((self._last_s, packet))
        world.timeline.at(self._last_s, self.flow)

    def flow(self) -> None:
        """Deliver what has arrived."""
        now_s = self._world.timeline.now_s
        while self._queue and not self.closed and not self._blocked and self._queue[0][0] <= now_s:
            self._take(self._queue.popleft()[1])


class Line:
    """One connection, from its first packet to its end."""

    def __init__(self, network: "Network", way: Way, will: Packet | None, hear: Callable[[Packet], None]) -> None:
        self.will = will
        self.filters: dict[str, int] = {}
        self.heard_s = network.timeline.now_s
        self.known = False
        """To the broker."""
        self._matches: dict[str, int | None] = {}
        self.up = Pipe(network, way, lambda packet: network.broker_hears(self, packet), up=True)
        self.down = Pipe(network, way, hear, up=False)

    def qos(self, topic: str) -> int | None:
        """Return at which QoS a topic is subscribed to; None: not at all."""
        if topic not in self._matches:
            found = [qos for pattern, qos in self.filters.items() if matches(pattern, topic)]
            self._matches[topic] = max(found, default=None)
        return self._matches[topic]

    def subscribe(self, filters: tuple[tuple[str, int], ...]) -> None:
        """Add filters."""
        self.filters.update(filters)
        self._matches.clear()


def matches(pattern: str, topic: str) -> bool:
    """Tell whether a topic filter fits a topic."""
    wanted, given = pattern.split("/"), topic.split("/")
    for number, part in enumerate(wanted):
        if part == "#":
            return True
        if number >= len(given) or part not in {"+", given[number]}:
            return False
    return len(wanted) == len(given)


class Network:
    """The one broker of a loop, with all ways to it.

    Args:
        timeline: in which it lives.
        random: draws delays and losses.
    """

    def __init__(self, timeline: Timeline, random: Random) -> None:
        self.timeline = timeline
        self.random = random
        self.weather = Weather()
        self.up = True
        self.retained: dict[str, bytes] = {}
        self._lines: list[Line] = []
        self._frozen: list[tuple[Line, Packet]] | None = None
        timeline.at(timeline.now_s + _CHECK_S, self._look_for_the_silent)

    def dial(self, way: Way, will: Packet | None, hear: Callable[[Packet], None]) -> Line:
        """Begin a connection: its first packet is on its way."""
        line = Line(self, way, will, hear)
        line.up.send(Packet("connect"))
        return line

    # ── what happens to the broker ────────────────────────────────────────────────────────────────────────────────

    def crash(self) -> None:
        """End without any word: the connections are torn, no will is published."""
        self.up = False
        self._frozen = None
        lines, self._lines = self._lines, []
        for line in lines:
            line.known = False
            line.down.send(Packet("end"))

    def restart(self, retained: dict[str, bytes]) -> None:
        """Begin anew with what the disk has kept."""
        self.up = True
        self.retained = retained

    def freeze(self) -> None:
        """Do nothing more; what comes waits."""
        if self.up and self._frozen is None:
            self._frozen = []

    def thaw(self) -> None:
        """Go on with what has come meanwhile."""
        waiting, self._frozen = self._frozen, None
        for line, packet in waiting or ():
            self.broker_hears(line, packet)

    # ── what the broker does ──────────────────────────────────────────────────────────────────────────────────────

    def broker_hears(self, line: Line, packet: Packet) -> None:  # noqa: C901 - a packet, a case
        """Take a packet from a client."""
        if self._frozen is not None:
            self._frozen.append((line, packet))
            return
        if not self.up or (not line.known and packet.kind != "connect"):
            if packet.kind != "end":
                line.down.send(Packet("end"))  # nobody listens there, or nobody knows of this connection any more
            return
        line.heard_s = self.timeline.now_s
        match packet.kind:
            case "connect":
                line.known = True
                self._lines.append(line)
                line.down.send(Packet("connack"))
            case "subscribe":
                self._subscribe(line, packet.filters)
            case "publish":
                if packet.qos:
                    line.down.send(Packet("puback", number=packet.number))
                self.publish(packet)
            case "ping":
                line.down.send(Packet("pong"))
            case "disconnect":
                self._forget(line)
            case "end":
                self._forget(line)
                if line.will is not None:
                    self.publish(line.will)
            case other:
                raise AssertionError(f"a client sends no {other}")

    def _subscribe(self, line: Line, filters: tuple[tuple[str, int], ...]) -> None:
        """Send all that is retained, in no order that anybody may rely on."""
        line.subscribe(filters)
        for topic, payload in self.retained.items():
            qos = max((qos for pattern, qos in filters if matches(pattern, topic)), default=None)
            if qos is not None:
                line.down.send(Packet("publish", topic, payload, qos, retain=True))

    def publish(self, packet: Packet) -> None:
        """Keep what is retained, and hand a message to everybody who wants it."""
        if packet.retain:
            if packet.payload:
                self.retained[packet.topic] = packet.payload
            else:
                self.retained.pop(packet.topic, None)
        for line in self._lines:
            wanted = line.qos(packet.topic)
            if wanted is not None:
                self._forward(line, Packet("publish", packet.topic, packet.payload, min(wanted, packet.qos)))

    def _forward(self, line: Line, packet: Packet) -> None:
        weather = self.weather
        if packet.qos == 0:
            if weather.loss_ratio and self.random.random() < weather.loss_ratio:
                return
        elif weather.twice_ratio and self.random.random() < weather.twice_ratio:
            line.down.send(packet)
        line.down.send(packet)

    def _look_for_the_silent(self) -> None:
        self.timeline.at(self.timeline.now_s + _CHECK_S, self._look_for_the_silent)
        if self._frozen is not None:
            return
        for line in [line for line in self._lines if self.timeline.now_s - line.heard_s > PATIENCE_S]:
            self._forget(line)
            line.down.send(Packet("end"))
            if line.will is not None:
                self.publish(line.will)

    def _forget(self, line: Line) -> None:
        line.known = False
        if line in self._lines:
            self._lines.remove(line)
