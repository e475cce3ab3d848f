"""A peer's rules at work over the contract's messages."""

from dataclasses import dataclass

from equalizer.config import EqualizerSettings
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Basis, ChannelTelemetry, Setpoint, SetpointStep
from schemas.topics import ChannelTopic
from simulation.clock import Timeline
from simulation.peers.law import Key, Law, Pool, Unit
from simulation.server import EPOCH, Change
from simulation.station import LOOP, Sender
from simulation.witness import SAME_W

PERIOD_S = 1.0
GATE_MARGIN_S = 0.2
"""Two setpoints travel differently long."""
AT_REST_W = 50.0
"""Noise and rounding of a channel that does nothing."""
MIDDLE_SOC_RATIO = 0.5
"""Of a battery that does not say."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What of our own rules a peer is made to keep."""

    delay: bool = False
    """Hold back a channel that was changed less than `delay_s` ago."""
    sign: bool = False
    """Hold back the sign that is opposite to another channel's."""


@dataclass(slots=True)
class _Led:
    """An equalization channel, as a peer knows it."""

    station: str
    channel: str
    power_w: float = 0.0
    charge_limit_w: float = 0.0
    discharge_limit_w: float = 0.0
    soc_ratio: float = MIDDLE_SOC_RATIO
    boot_id: str = ""
    seq: int = 0
    asked_w: float = 0.0
    changed_s: float = float("-inf")
    changed_seq: int = 0
    obeyed_s: float | None = float("-inf")
    sent_s: float = float("-inf")
    orders: int = 0

    def hear(self, telemetry: ChannelTelemetry, now_s: float) -> None:
        """Note what it says of itself."""
        equalization = telemetry.equalization
        if equalization is None:
            return
        self.power_w, self.boot_id, self.seq = telemetry.power_w, telemetry.boot_id, telemetry.seq
        self.charge_limit_w, self.discharge_limit_w = equalization.charge_limit_w, equalization.discharge_limit_w
        if telemetry.soc_ratio is not None:
            self.soc_ratio = telemetry.soc_ratio
        if self.obeyed_s is None and equalization.last is not None and equalization.last.seq >= self.changed_seq:
            self.obeyed_s = now_s

    def unit(self) -> Unit:
        """Return it as a law sees it."""
        return Unit(
            key=(self.station, self.channel),
            power_w=self.power_w,
            asked_w=self.asked_w,
            charge_limit_w=self.charge_limit_w,
            discharge_limit_w=self.discharge_limit_w,
            soc_ratio=self.soc_ratio,
            obeyed_s=self.obeyed_s,
        )

    def clipped_w(self, power_w: float) -> float:
        """Return a power within the limits now."""
        return min(max(power_w, -self.discharge_limit_w), self.charge_limit_w)


class Peer:
    """A law at work.

    Args:
        law: its rules.
        settings: the delay, the lease.
        gates: what holds its changes back.
        timeline: in which it lives.
        send: into the network, towards the stations.
    """

    def __init__(
        self, law: Law, settings: EqualizerSettings, *, gates: Gates, timeline: Timeline, send: Sender
    ) -> None:
        self.reason = "waiting"
        self.phase = "balancing"
        self.changes: list[Change] = []
        self._law = law
        self._settings = settings
        self._gates = gates
        self._timeline = timeline
        self._send = send
        self._loads_w: dict[Key, float] = {}
        self._load_w = 0.0
        self._measured_s = timeline.now_s
        self._led: dict[Key, _Led] = {}

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
        self._measured_s = self._timeline.now_s
        if telemetry.equalization is not None:
            self._led.setdefault(key, _Led(*key)).hear(telemetry, self._measured_s)
            if self._loads_w.pop(key, None) is None:
                return
        else:
            self._led.pop(key, None)
            self._loads_w[key] = telemetry.power_w
        self._load_w = sum(self._loads_w.values())

    def seen(self) -> tuple[float, float]:
        """Return the sum of what was measured; plans are not read."""
        return self._load_w, 0.0

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many orders were made."""
        return {"sent": {kind: sum(order.kind == kind for order in self.changes) for kind in ("change", "refresh")}}

    def _cycle(self) -> None:
        now_s = self._timeline.now_s
        self._timeline.at(now_s + PERIOD_S, self._cycle)
        hold_s = self._settings.control.delay_s + GATE_MARGIN_S
        free = {key: led for key, led in self._led.items() if not self._gates.delay or now_s - led.changed_s >= hold_s}
        pool = Pool(
            load_w=self._load_w,
            equalization_w=sum(led.power_w for led in self._led.values()),
            measured_s=self._measured_s,
            units=tuple(led.unit() for _, led in sorted(free.items())),
            held=tuple(led.unit() for key, led in sorted(self._led.items()) if key not in free),
        )
        wanted = self._law.wanted(pool, now_s)
        self.reason = "waiting" if wanted is None else "correcting"
        for key, power_w in (wanted or {}).items():
            led = free[key]
            told_w = self._of_one_sign_w(led, led.clipped_w(power_w))
            if abs(told_w - led.asked_w) > SAME_W:
                led.changed_s, led.changed_seq, led.obeyed_s = now_s, led.orders + 1, None
                self._order(led, told_w, now_s, "change")
        for led in self._led.values():
            if now_s - led.sent_s >= self._settings.setpoint.refresh_s:
                self._order(led, led.clipped_w(led.asked_w), now_s, "refresh")

    def _of_one_sign_w(self, led: _Led, power_w: float) -> float:
        """Return a power that is not opposite to what another channel does, or has been told."""
        if not self._gates.sign:
            return power_w
        others_w = [w for other in self._led.values() if other is not led for w in (other.asked_w, other.power_w)]
        if min(others_w, default=0.0) < -AT_REST_W:
            power_w = min(power_w, 0.0)
        if max(others_w, default=0.0) > AT_REST_W:
            power_w = max(power_w, 0.0)
        return power_w

    def _order(self, led: _Led, power_w: float, now_s: float, kind: str) -> None:
        led.asked_w, led.sent_s = power_w, now_s
        led.orders += 1
        self.changes.append(
            Change(
                at_s=now_s,
                station=led.station,
                channel=led.channel,
                reason=kind,
                steps=((0.0, power_w),),
                charge_limit_w=led.charge_limit_w,
                discharge_limit_w=led.discharge_limit_w,
                load_power_w=self._load_w,
                total_power_w=self._load_w + sum(other.power_w for other in self._led.values()),
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
