"""What the equalizer says: announcement, balance, setpoints, replies, events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from equalizer.audit.clerk import nobody
from equalizer.config import EqualizerSettings
from equalizer.control.energy import SECONDS_PER_HOUR, EnergyBook
from equalizer.control.image import LoopImage
from equalizer.control.state import Order
from schemas.codec import encode
from schemas.messages import (
    ControlSummary,
    EnergyAccount,
    Event,
    LastDecision,
    LoopBalance,
    Phase,
    Presence,
    Reply,
    ServerAnnouncement,
    Setpoint,
    SetpointSummary,
    Severity,
    Values,
)
from schemas.topics import ChannelTopic, LoopTopic, channel_topic, loop_topic
from transport.session import Session, Will

EVENT_EVERY_S = 10.0
"""The same source says the same no more often."""
_EVENT_MEMORY = 10_000
_EVENT_BURST = 100.0
_EVENTS_PER_S = 10.0
"""A hall that goes dark at once must not drown those who listen."""


@dataclass(frozen=True, slots=True)
class Standpoint:
    """What the control makes of the loop at one moment."""

    image: LoopImage
    phase: Phase
    target_power_w: float
    shortfall_w: float
    setpoint_changes: int
    energy: EnergyBook
    last_decision: LastDecision | None
    held_back: str | None = None
    engage_w: float | None = None
    release_w: float | None = None
    regret_ratio: float | None = None
    residual_j: Mapping[str, float] | None = None
    """By cause."""


class Voice:
    """Publishes the equalizer's messages.

    Args:
        settings: what is announced.
        version: of this program.
        started_unix_time_s: tells this run of the server from any other.
        metrics_url: where Prometheus finds it; None: nowhere.
        clock: monotonic seconds.
        utc: seconds, for labels.
    """

    def __init__(
        self,
        settings: EqualizerSettings,
        *,
        version: str,
        started_unix_time_s: float,
        metrics_url: str | None,
        clock: Callable[[], float],
        utc: Callable[[], float],
    ) -> None:
        self.session: Session | None = None
        self.clerk = nobody()
        """Writes down what is said."""
        self._settings = settings
        self._loop = settings.loop.name
        self._version = version
        self._started_unix_time_s = started_unix_time_s
        self._metrics_url = metrics_url
        self._clock = clock
        self._utc = utc
        self._topics = {leaf: loop_topic(self._loop, leaf) for leaf in LoopTopic}
        self._setpoint_topics: dict[tuple[str, str], str] = {}
        self._setpoint_seqs: dict[tuple[str, str], int] = {}
        self._balance_seq = 0
        self._heartbeat = 0
        self._said: dict[tuple[str, str, str], float] = {}
        self._tokens = _EVENT_BURST
        self._refilled_s = clock()
        self.events_withheld = 0
        """Events that were too many at once; the log has them all."""

    def will(self, epoch: int) -> Will:
        """Return what the broker shall say when this server vanishes."""
        gone = self._announcement(Presence.OFFLINE, epoch, Phase.STANDBY)
        return Will(self._topics[LoopTopic.SERVER], encode(gone))

    def bequeath(self, epoch: int) -> None:
        """Have the will of the connections from now on carry an epoch."""
        if self.session is not None:
            self.session.set_will(self.will(epoch))

    def announce(self, presence: Presence, epoch: int, phase: Phase) -> None:
        """Say on the well-known topic that this server is there, or not."""
        self._heartbeat += 1
        self.clerk.announced(presence.value, epoch, phase.value)
        payload = encode(self._announcement(presence, epoch, phase))
        self._publish(self._topics[LoopTopic.SERVER], payload, qos=1, retain=True)

    def balance(self, epoch: int, at: Standpoint) -> None:
        """Say how the loop stands."""
        self._balance_seq += 1
        image, energy = at.image, at.energy
        message = LoopBalance(
            server=self._settings.loop.server,
            epoch=epoch,
            seq=self._balance_seq,
            unix_time_s=self._utc(),
            phase=at.phase,
            total_power_w=image.total_power_w,
            load_power_w=image.load_power_w,
            equalization_power_w=image.equalization_power_w,
            target_power_w=at.target_power_w,
            charging_power_w=image.charging_power_w,
            discharging_power_w=image.discharging_power_w,
            unknown_power_w=image.unknown_power_w,
            shortfall_w=at.shortfall_w,
            meter_power_w=image.meter_power_w,
            stations_online=image.stations_online,
            channels=image.channels,
            channels_stale=image.channels_stale,
            equalization_channels=len(image.equalization),
            setpoint_changes=at.setpoint_changes,
            energy=EnergyAccount(
                import_wh=energy.import_wh,
                export_wh=energy.export_wh,
                unbalanced_wh=energy.unbalanced_wh,
                avoided_wh=energy.avoided_wh,
            ),
            last_decision=at.last_decision,
            held_back=at.held_back,
            engage_w=at.engage_w,
            release_w=at.release_w,
            regret_ratio=at.regret_ratio,
            residual_wh=None
            if at.residual_j is None
            else {cause: joules / SECONDS_PER_HOUR for cause, joules in at.residual_j.items()},
        )
        self._publish(self._topics[LoopTopic.BALANCE], encode(message), retain=True)

    def setpoint(self, order: Order, epoch: int) -> int:
        """Send an order to its channel and return the seq under which it went."""
        key = (order.station, order.channel)
        topic = self._setpoint_topics.get(key)
        if topic is None:
            topic = channel_topic(self._loop, order.station, order.channel, ChannelTopic.SETPOINT)
            self._setpoint_topics[key] = topic
        seq = self._setpoint_seqs.get(key, 0) + 1
        self._setpoint_seqs[key] = seq
        message = Setpoint(
            server=self._settings.loop.server,
            epoch=epoch,
            seq=seq,
            basis=order.basis,
            ttl_s=self._settings.setpoint.ttl_s,
            steps=order.steps,
            unix_time_s=self._utc(),
        )
        self._publish(topic, encode(message))
        self.clerk.setpoint(order, epoch, seq)
        return seq

    def reply(self, reply: Reply) -> None:
        """Answer an operator."""
        self._publish(self._topics[LoopTopic.REPLY], encode(reply), qos=1)

    def event(
        self,
        code: str,
        text: str,
        severity: Severity = Severity.INFO,
        values: Values | None = None,
        *,
        about: str = "",
    ) -> None:
        """Say that something happened, unless the same was said just now.

        Args:
            code: what, for programs; in snake case.
            text: what, for people.
            severity: how much it matters.
            values: what the text says beyond the code, by name; None: only the text says it.
            about: the part of the loop that it happened to; empty: the server itself.
        """
        source = about or f"server/{self._settings.loop.server}"
        if not about:
            self.clerk.event(code, text, severity.value)
        now_s = self._clock()
        key = (source, code, text)
        if now_s - self._said.get(key, -EVENT_EVERY_S) < EVENT_EVERY_S:
            return
        if len(self._said) >= _EVENT_MEMORY:
            self._said.clear()
        self._said[key] = now_s
        self._tokens = min(_EVENT_BURST, self._tokens + _EVENTS_PER_S * (now_s - self._refilled_s))
        self._refilled_s = now_s
        if self._tokens < 1.0 and severity is not Severity.ALARM:
            self.events_withheld += 1
            return
        self._tokens -= 1.0
        message = Event(unix_time_s=self._utc(), source=source, severity=severity, code=code, text=text, values=values)
        self._publish(self._topics[LoopTopic.EVENT], encode(message), qos=1)

    def _announcement(self, presence: Presence, epoch: int, phase: Phase) -> ServerAnnouncement:
        settings = self._settings
        return ServerAnnouncement(
            server=settings.loop.server,
            status=presence,
            epoch=epoch,
            phase=phase,
            version=self._version,
            started_unix_time_s=self._started_unix_time_s,
            telemetry_period_s=settings.telemetry.period_s,
            control=ControlSummary(policy=settings.control.policy, delay_s=settings.control.delay_s),
            setpoint=SetpointSummary(ttl_s=settings.setpoint.ttl_s, refresh_s=settings.setpoint.refresh_s),
            metrics_url=self._metrics_url,
            heartbeat=self._heartbeat if settings.standby.enabled else None,
            dashboard_url=settings.dashboard.url,
        )

    def _publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        if self.session is not None:
            self.session.publish(topic, payload, qos=qos, retain=retain)
