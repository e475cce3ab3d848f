"""Stations without equipment, for an equalizer to lead: they keep to the contract and obey at once."""

from collections.abc import Callable
from dataclasses import dataclass, field

from conform.wire import Wire
from schemas.codec import MalformedError, decode
from schemas.messages import (
    ChannelPlan,
    ChannelTelemetry,
    Equalization,
    OnLost,
    PlanSegment,
    Presence,
    Setpoint,
    SetpointEcho,
    SetpointReason,
    SetpointResult,
    StationStatus,
    StepType,
    WorkStatus,
)
from schemas.topics import ChannelAddress, ChannelTopic, channel_topic, parse, status_topic

_VOLTAGE_V = 400.0
_BASIS_S = 15.0
_LONGEST_LEASE_S = 60.0
_HORIZON_S = 120.0
RAMP_W_PER_S = 1e6


@dataclass(slots=True)
class FakeChannel:
    """One channel; a load where it has no limit."""

    station: str
    name: str
    limit_w: float | None = None
    """In either direction, of an equalization channel."""
    power_w: float = 0.0
    seq: int = 0
    mute: bool = False
    deaf: bool = False
    """No setpoint arrives."""
    plans: int = 0
    last: SetpointEcho | None = None
    ends_s: float = 0.0
    sent_s: dict[int, float] = field(default_factory=dict)
    schedule: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class FakeHall:
    """The stations of the kit.

    Args:
        wire: where they speak.
        clock: monotonic seconds.
        utc: labels.
        boot_id: of all of them.
    """

    wire: Wire
    clock: Callable[[], float]
    utc: Callable[[], float]
    boot_id: str
    channels: dict[tuple[str, str], FakeChannel] = field(default_factory=dict)
    epoch: int = 0

    def add(self, station: str, name: str, limit_w: float | None = None) -> FakeChannel:
        """Add a channel."""
        channel = self.channels[station, name] = FakeChannel(station, name, limit_w)
        return channel

    def announce(self, presence: Presence, station: str | None = None) -> None:
        """Say that the stations (or one of them) are there, or gone."""
        for name in sorted({key[0] for key in self.channels}):
            if station in {None, name}:
                status = StationStatus(
                    status=presence,
                    boot_id=self.boot_id,
                    version="conform",
                    driver="fake",
                    channels=tuple(key[1] for key in self.channels if key[0] == name),
                    on_lost=OnLost.ZERO,
                    unix_time_s=self.utc(),
                )
                self.wire.send(status_topic(self.wire.loop, name), status, label=f"status {name}", qos=1, retain=True)

    def tick(self) -> None:
        """Let a period pass: everybody speaks."""
        for channel in self.channels.values():
            self.speak(channel)

    def speak(self, channel: FakeChannel) -> None:
        """Publish a channel's telemetry, unless it is mute."""
        now_s = self.clock()
        self._advance(channel, now_s)
        if channel.mute:
            return
        channel.seq += 1
        recent = {seq: at_s for seq, at_s in channel.sent_s.items() if now_s - at_s <= _BASIS_S}
        channel.sent_s = recent | {channel.seq: now_s}
        topic = channel_topic(self.wire.loop, channel.station, channel.name, ChannelTopic.TELEMETRY)
        self.wire.send(topic, self._telemetry(channel, now_s), key=(channel.station, channel.name), retain=True)

    def plan(self, channel: FakeChannel, *edges: tuple[float, float]) -> None:
        """Announce what a load will do: its power now, and from so many seconds on another one."""
        channel.plans += 1
        segments = ((0.0, channel.power_w), *edges)
        plan = ChannelPlan(
            boot_id=self.boot_id,
            seq=channel.plans,
            unix_time_s=self.utc(),
            step_id=1,
            until_s=_HORIZON_S,
            segments=tuple(PlanSegment(after_s=after_s, power_w=power_w) for after_s, power_w in segments),
        )
        topic = channel_topic(self.wire.loop, channel.station, channel.name, ChannelTopic.PLAN)
        self.wire.send(topic, plan, key=(channel.station, channel.name))

    def lead(self, channel: FakeChannel, power_w: float, *, server: str, epoch: int) -> None:
        """Have a channel be at work already for another server, as long as a lease runs."""
        now_s = self.clock()
        channel.power_w = power_w
        channel.schedule, channel.ends_s = [(now_s, power_w)], now_s + _LONGEST_LEASE_S
        channel.last = SetpointEcho(server=server, epoch=epoch, seq=1, result=SetpointResult.APPLIED)
        self.epoch = max(self.epoch, epoch)

    def take(self, topic: str, payload: bytes) -> None:
        """Obey a setpoint that is for one of them."""
        address = parse(topic)
        if not isinstance(address, ChannelAddress) or address.leaf is not ChannelTopic.SETPOINT:
            return
        channel = self.channels.get((address.station, address.channel))
        if channel is None or channel.limit_w is None or channel.deaf:
            return
        try:
            setpoint = decode(Setpoint, payload)
        except MalformedError:
            return
        self._decide(channel, setpoint, self.clock())
        self.speak(channel)

    def forget(self) -> None:
        """Leave nothing of the kit's stations at the broker."""
        for station, name in self.channels:
            topic = channel_topic(self.wire.loop, station, name, ChannelTopic.TELEMETRY)
            self.wire.session.publish(topic, b"", qos=1, retain=True)
        for station in {key[0] for key in self.channels}:
            self.wire.session.publish(status_topic(self.wire.loop, station), b"", qos=1, retain=True)

    def _decide(self, channel: FakeChannel, setpoint: Setpoint, now_s: float) -> None:
        basis_s = channel.sent_s.get(setpoint.basis.seq)
        reason: SetpointReason | None = None
        if setpoint.basis.boot_id != self.boot_id or basis_s is None or now_s - basis_s > _BASIS_S:
            reason = SetpointReason.STALE_BASIS
        elif setpoint.epoch < self.epoch:
            reason = SetpointReason.STALE_EPOCH
        result = SetpointResult.APPLIED if reason is None else SetpointResult.REJECTED
        echo = SetpointEcho(
            server=setpoint.server, epoch=setpoint.epoch, seq=setpoint.seq, result=result, reason=reason
        )
        if reason is not None or basis_s is None:
            channel.last = echo
            return
        known = channel.last
        if known is not None and known.epoch == setpoint.epoch and setpoint.seq <= known.seq:
            return
        self.epoch = setpoint.epoch
        channel.ends_s = basis_s + min(setpoint.ttl_s, _LONGEST_LEASE_S)
        channel.schedule = [(now_s + step.after_s, step.power_w) for step in setpoint.steps]
        channel.last = echo
        self._advance(channel, now_s)

    def _advance(self, channel: FakeChannel, now_s: float) -> None:
        if channel.limit_w is None or not channel.schedule:
            return
        if now_s >= channel.ends_s:
            channel.schedule, channel.power_w = [], 0.0
            if channel.last is not None:
                channel.last = channel.last.model_copy(update={"result": SetpointResult.EXPIRED})
            return
        due_w = [power_w for at_s, power_w in channel.schedule if at_s <= now_s][-1]
        channel.power_w = max(-channel.limit_w, min(channel.limit_w, due_w))

    def _telemetry(self, channel: FakeChannel, now_s: float) -> ChannelTelemetry:
        equalization = None
        if channel.limit_w is not None:
            last = channel.last
            if last is not None and channel.schedule:
                last = last.model_copy(update={"expires_in_s": max(channel.ends_s - now_s, 0.0)})
            equalization = Equalization(
                charge_limit_w=channel.limit_w,
                discharge_limit_w=channel.limit_w,
                ramp_w_per_s=RAMP_W_PER_S,
                applied_w=channel.power_w,
                last=last,
            )
        return ChannelTelemetry(
            boot_id=self.boot_id,
            seq=channel.seq,
            unix_time_s=self.utc(),
            work_status=WorkStatus.WORKING,
            step_type=StepType.CC_CHG if equalization is None else StepType.SIM,
            step_id=1,
            cycle_count=1,
            voltage_v=_VOLTAGE_V,
            current_a=channel.power_w / _VOLTAGE_V,
            power_w=channel.power_w,
            temperature_degc=25.0,
            soc_ratio=0.5,
            battery_connected=True,
            equalization=equalization,
        )
