"""How others would control the same hall, from their published behaviour, in our own words. None of them reads plans.

`LiteralDelay`: what a reader of "a delay of 10 to 20 s" may build: one correction of everything at once, after an
imbalance has stood outside the band for the delay.

`OpenEms`: OpenEMS' balancing of a grid connection, without its filter: every second the storage is told what it does
now less what the grid shows, within its limits. See io.openems.edge.controller.ess.balancing.

Each tells the channels what the total is to be, shared by their limits. Gated, a channel that was changed less than
`delay_s` ago keeps its power, and the others take what they can.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from equalizer.config import EqualizerSettings
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Basis, ChannelTelemetry, Setpoint, SetpointStep
from schemas.topics import ChannelTopic
from simulation.clock import Timeline
from simulation.scenario import Controller as Kind
from simulation.server import EPOCH, Change
from simulation.station import LOOP, Sender
from simulation.witness import SAME_W

PERIOD_S = 1.0
GATE_MARGIN_S = 0.2
"""Two setpoints travel differently long."""


@dataclass(slots=True)
class _Led:
    """An equalization channel, as a peer knows it."""

    station: str
    channel: str
    power_w: float = 0.0
    charge_limit_w: float = 0.0
    discharge_limit_w: float = 0.0
    boot_id: str = ""
    seq: int = 0
    asked_w: float = 0.0
    changed_s: float = float("-inf")
    sent_s: float = float("-inf")
    orders: int = 0

    def clipped_w(self, power_w: float) -> float:
        """Return a power within the limits now."""
        return min(max(power_w, -self.discharge_limit_w), self.charge_limit_w)


class Law(Protocol):
    """What all equalization channels together are to do."""

    def wanted_w(self, load_w: float, equalization_w: float, now_s: float) -> float | None:
        """Return the power, from what was measured; null: leave it as it is."""


class LiteralDelay:
    """One correction after the imbalance has stood."""

    def __init__(self, settings: EqualizerSettings) -> None:
        self._control = settings.control
        self._since_s: float | None = None

    def wanted_w(self, load_w: float, equalization_w: float, now_s: float) -> float | None:
        """Return the load's opposite once the time is over."""
        if abs(load_w + equalization_w) <= self._control.engage_w:
            self._since_s = None
            return None
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < self._control.delay_s:
            return None
        self._since_s = None
        return -load_w


class OpenEms:
    """A correction every second."""

    def wanted_w(self, load_w: float, equalization_w: float, now_s: float) -> float | None:
        """Return what the storage does less what the grid shows."""
        del now_s
        total_w = load_w + equalization_w
        return equalization_w - total_w


LAWS: dict[Kind, Callable[[EqualizerSettings], Law]] = {
    Kind.LITERAL_DELAY: LiteralDelay,
    Kind.OPENEMS: lambda settings: OpenEms(),  # noqa: ARG005 - it has none of our settings
}


class Peer:
    """A law at work over the contract's messages.

    Args:
        law: what to ask of all channels together.
        settings: the delay, the lease.
        gated: hold back a channel that was changed less than `delay_s` ago.
        timeline: in which it lives.
        send: into the network, towards the stations.
    """

    def __init__(self, law: Law, settings: EqualizerSettings, *, gated: bool, timeline: Timeline, send: Sender) -> None:
        self.reason = "waiting"
        self.phase = "balancing"
        self.changes: list[Change] = []
        self._law = law
        self._settings = settings
        self._gated = gated
        self._timeline = timeline
        self._send = send
        self._loads_w: dict[tuple[str, str], float] = {}
        self._led: dict[tuple[str, str], _Led] = {}

    def begin(self) -> None:
        """Decide once a second."""
        self._timeline.at(self._timeline.now_s + PERIOD_S, self._cycle)

    def take(self, topic: str, payload: bytes) -> None:
        """Note what a channel does; nothing else is listened to."""
        address = topics.parse(topic)
        if not isinstance(address, topics.ChannelAddress) or address.leaf is not ChannelTopic.TELEMETRY:
            return
        telemetry = decode(ChannelTelemetry, payload)
        key = (address.station, address.channel)
        equalization = telemetry.equalization
        if equalization is None:
            self._led.pop(key, None)
            self._loads_w[key] = telemetry.power_w
            return
        self._loads_w.pop(key, None)
        led = self._led.setdefault(key, _Led(*key))
        led.power_w, led.boot_id, led.seq = telemetry.power_w, telemetry.boot_id, telemetry.seq
        led.charge_limit_w, led.discharge_limit_w = equalization.charge_limit_w, equalization.discharge_limit_w

    def seen(self) -> tuple[float, float]:
        """Return the sum of what was measured; plans are not read."""
        return sum(self._loads_w.values()), 0.0

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many orders were made."""
        return {"sent": {kind: sum(order.kind == kind for order in self.changes) for kind in ("change", "refresh")}}

    def _cycle(self) -> None:
        now_s = self._timeline.now_s
        self._timeline.at(now_s + PERIOD_S, self._cycle)
        load_w, equalization_w = sum(self._loads_w.values()), sum(led.power_w for led in self._led.values())
        wanted_w = self._law.wanted_w(load_w, equalization_w, now_s)
        self.reason = "waiting" if wanted_w is None else "correcting"
        if wanted_w is not None:
            self._share(wanted_w, now_s)
        for led in self._led.values():
            if now_s - led.sent_s >= self._settings.setpoint.refresh_s:
                self._order(led, led.clipped_w(led.asked_w), now_s, "refresh")

    def _share(self, wanted_w: float, now_s: float) -> None:
        """Have every free channel do its part of what the held ones leave, by its limits."""
        hold_s = self._settings.control.delay_s + GATE_MARGIN_S
        free = [led for led in self._led.values() if not self._gated or now_s - led.changed_s >= hold_s]
        left_w = wanted_w - sum(led.asked_w for led in self._led.values() if led not in free)
        room_w = sum(led.charge_limit_w if left_w > 0.0 else led.discharge_limit_w for led in free)
        for led in free:
            limit_w = led.charge_limit_w if left_w > 0.0 else led.discharge_limit_w
            power_w = led.clipped_w(left_w * limit_w / room_w) if room_w > 0.0 else 0.0
            if abs(power_w - led.asked_w) > SAME_W:
                led.changed_s = now_s
                self._order(led, power_w, now_s, "change")

    def _order(self, led: _Led, power_w: float, now_s: float, kind: str) -> None:
        led.asked_w, led.sent_s = power_w, now_s
        led.orders += 1
        loads_w, _ = self.seen()
        self.changes.append(
            Change(
                at_s=now_s,
                station=led.station,
                channel=led.channel,
                reason=kind,
                steps=((0.0, power_w),),
                charge_limit_w=led.charge_limit_w,
                discharge_limit_w=led.discharge_limit_w,
                load_power_w=loads_w,
                total_power_w=loads_w + sum(other.power_w for other in self._led.values()),
                announced_power_w=0.0,
                edges=(),
                kind=kind,
            )
        )
        message = Setpoint(
            server="peer",
            epoch=EPOCH,
            seq=led.orders,
            basis=Basis(boot_id=led.boot_id, seq=led.seq),
            ttl_s=self._settings.setpoint.ttl_s,
            steps=(SetpointStep(after_s=0.0, power_w=power_w),),
            unix_time_s=self._timeline.utc(),
        )
        topic = topics.channel_topic(LOOP, led.station, led.channel, ChannelTopic.SETPOINT)
        self._send(topic, encode(message), 0)
