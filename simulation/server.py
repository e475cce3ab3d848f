"""The equalizer in virtual time: the production's link, helm and voice, called as its service and rhythm call them."""

from dataclasses import dataclass
from typing import Protocol, cast

from equalizer.config import EqualizerSettings
from equalizer.control.image import LoopImage
from equalizer.control.state import Decision
from equalizer.duty import MATERIAL_RATIO
from equalizer.helm import Helm
from equalizer.ledger import SavedAccount
from equalizer.link import Link
from equalizer.memory import Memory
from equalizer.metrics import JOULES_PER_WH, Counters
from equalizer.voice import Voice
from schemas.messages import LoopBalance, Presence, ServerAnnouncement, Setpoint, SetpointEcho
from schemas.topics import LoopTopic, loop_topic
from simulation.clock import Timeline
from simulation.station import LOOP, Sender
from transport.session import Session

LONGEST_S = 1.0
EPOCH = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A channel was told another power."""

    at_s: float
    station: str
    channel: str
    reason: str
    steps: tuple[tuple[float, float], ...]
    charge_limit_w: float
    """What the controller knew that the channel could do."""
    discharge_limit_w: float
    load_power_w: float
    total_power_w: float
    announced_power_w: float
    edges: tuple[tuple[float, float], ...]
    """Announced changes of the load ahead: after how many seconds, and by how much."""
    kind: str = "change"


class Controller(Protocol):
    """What is set against the loads."""

    reason: str
    """Why it does what it does now."""
    phase: str
    changes: list[Change]

    def begin(self) -> None:
        """Begin at the timeline's present."""

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message from the network."""

    def seen(self) -> tuple[float, float]:
        """Return the load's power as it believes it to be, and the part of it that plans announce."""

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what it counted."""


class _Outbox:
    """Stands in for the session: setpoints go into the network, the rest has no listener here."""

    def __init__(self, send: Sender) -> None:
        self._send = send

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Send a setpoint."""
        if not retain and topic.endswith("/setpoint"):
            self._send(topic, payload, qos)


class Server:
    """The equalizer.

    Args:
        settings: its equalizer.toml.
        timeline: in which it lives.
        send: into the network, towards the stations.
    """

    def __init__(self, settings: EqualizerSettings, *, timeline: Timeline, send: Sender) -> None:
        self.reason = "starting"
        self.phase = "starting"
        self.changes: list[Change] = []
        self.counters = Counters()
        self.cycles = 0
        self._timeline = timeline
        self._longest_s = min(LONGEST_S, settings.telemetry.period_s)
        voice = Voice(
            settings,
            version="virtual",
            started_unix_time_s=timeline.utc(),
            metrics_url=None,
            clock=timeline.clock,
            utc=timeline.utc,
        )
        voice.session = cast("Session", _Outbox(send))
        self._helm = Helm(
            settings,
            saved=SavedAccount(),
            voice=voice,
            counters=self.counters,
            clock=timeline.clock,
            utc=timeline.utc,
        )
        self._link = Link(
            LOOP,
            book=self._helm.book,
            counters=self.counters,
            clock=timeline.clock,
            material_w=MATERIAL_RATIO * self._helm.band.release_w,
            meter=(loop_topic(LOOP, LoopTopic.METER), ("power_w",), 1.0),
            command=lambda payload: None,  # noqa: ARG005 - no operator here
        )
        self._link.of_unknown_age = False
        self._link.listener = self
        self._asked = False
        self._round = 0

    def begin(self) -> None:
        """Run the first cycle."""
        self._cycle()

    def end(self) -> None:
        """Decide no more."""
        self._round += 1

    def remembered(self) -> Memory | None:
        """Return what it remembers; None before the first decision."""
        return self._helm.remembered("virtual", EPOCH, self._link.mark)

    @property
    def diary(self) -> bytes:
        """When it decided, and on what."""
        return self._link.diary.page("virtual", EPOCH)

    def take(self, topic: str, payload: bytes) -> None:
        """Hand a message to the link."""
        self._link.take(topic, payload, False)

    def seen(self) -> tuple[float, float]:
        """Return the load's power in the image of the last decision, and its announced part."""
        image = self._helm.image
        return image.load_power_w, image.announced_power_w

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the counters, and what the book ignored."""
        return {
            "sent": dict(self.counters.sent),
            "decisions": {reason: count for reason, count in self.counters.decisions.items() if count},
            "suppressed": {reason: count for reason, count in self.counters.suppressed.items() if count},
            "ignored": dict(self._helm.book.ignored),
            "malformed": {reason: count for reason, count in self.counters.malformed.items() if count},
            "cycles": {"decisions": self.cycles},
        }

    def split_wh(self) -> dict[str, float]:
        """Return the energy that was left over as this server saw it, by cause."""
        return {cause: joules / JOULES_PER_WH for cause, joules in self.counters.residual_j.items()}

    # ── what the link tells ───────────────────────────────────────────────────────────────────────────────────────

    def material(self, now_s: float) -> None:
        """Decide after the messages of this moment."""
        if not self._asked:
            self._asked = True
            self._cycle_at(now_s)

    def announcement(self, message: ServerAnnouncement, *, retained: bool) -> None:
        """There is no other server."""

    def balance(self, message: LoopBalance, *, retained: bool) -> None:
        """Nobody listens to it here."""

    def overheard(self, station: str, channel: str, setpoint: Setpoint) -> None:
        """There is no other server."""

    def announcement_cleared(self) -> None:
        """Nobody removes anything here."""

    def station(self, name: str, presence: Presence | None, *, retained: bool) -> None:
        """The book knows."""

    def echo(self, station: str, channel: str, echo: SetpointEcho, *, fresh: bool) -> None:
        """The epoch is never challenged."""

    # ── the rhythm ────────────────────────────────────────────────────────────────────────────────────────────────

    def _cycle_at(self, at_s: float) -> None:
        self._round += 1
        number = self._round
        self._timeline.at(at_s, lambda: self._cycle() if number == self._round else None)

    def _cycle(self) -> None:
        self._asked = False
        self.cycles += 1
        now_s = self._timeline.now_s
        self._link.decided(now_s)
        decision = self._helm.decide(now_s)
        self._link.material_w = MATERIAL_RATIO * self._helm.band.release_w
        if decision.orders:
            self._send(decision, now_s)
        self.reason, self.phase = decision.reason, decision.phase.value
        self._cycle_at(min(decision.next_due_s, now_s + self._longest_s))

    def _send(self, decision: Decision, now_s: float) -> None:
        self._helm.send(decision.orders, EPOCH)
        self._note(decision, self._helm.image, now_s)

    def _note(self, decision: Decision, image: LoopImage, now_s: float) -> None:
        views = {view.key: view for view in image.equalization}
        for order in decision.orders:
            view = views[order.station, order.channel]
            self.changes.append(
                Change(
                    at_s=now_s,
                    station=order.station,
                    channel=order.channel,
                    reason=order.reason,
                    steps=tuple((step.after_s, step.power_w) for step in order.steps),
                    charge_limit_w=view.charge_limit_w,
                    discharge_limit_w=view.discharge_limit_w,
                    load_power_w=image.load_power_w,
                    total_power_w=image.total_power_w,
                    announced_power_w=image.announced_power_w,
                    edges=tuple((edge.at_s - now_s, edge.delta_w) for edge in image.edges[:4]),
                    kind=order.kind,
                )
            )


__all__ = ["Change", "Controller", "Server"]
