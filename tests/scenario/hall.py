"""A tiny hall in virtual time: loads and equalization channels that keep to the contract, and the real control.

`plant.load(ch=3, power_w=400); plant.run(5); assert abs(plant.total_w) < 50`
"""

import random
from dataclasses import dataclass, field, replace
from math import inf

from equalizer.control.book import LoopBook
from equalizer.control.image import LoopImage
from equalizer.control.settings import ControlSettings
from equalizer.control.state import ControlState, Decision, Order
from equalizer.control.step import initial, pause, resume, set_target, step, stop
from equalizer.control.travel import least_s
from schemas.messages import (
    Alarm,
    AlarmCode,
    ChannelPlan,
    ChannelTelemetry,
    Equalization,
    OnLost,
    PlanSegment,
    Presence,
    SetpointEcho,
    SetpointReason,
    SetpointResult,
    StationStatus,
    StepType,
    WorkStatus,
)

TICK_S = 0.1
LEASE_S = 30.0


@dataclass
class Channel:
    """A channel of the hall: a load, or an equalization channel that follows setpoints."""

    name: str
    phase_s: float
    power_w: float = 0.0
    equalizing: bool = False
    limit_w: float = 60_000.0
    charge_limit_w: float | None = None
    ramp_w_per_s: float = 60_000.0
    soc_ratio: float = 0.5
    noise_w: float = 0.0
    delivers: float = 1.0
    """The part of what is applied that really flows."""
    charges: float = 1.0
    """The same, in that direction only."""
    deaf: bool = False
    """Setpoints to it get lost."""
    rejects: SetpointReason | None = None
    alarm: bool = False
    silent: bool = False
    seq: int = 0
    plan_seq: int = 0
    next_s: float = 0.0
    applied_w: float = 0.0
    schedule: list[tuple[float, float]] = field(default_factory=list)
    expires_s: float = inf
    order_seq: int = 0
    last: SetpointEcho | None = None
    commanded: list[tuple[float, float]] = field(default_factory=list)
    """Every change of what it is told to do: time and power. The end of a lease is none."""

    def limits_w(self) -> tuple[float, float]:
        """What it can take and give now."""
        return self.limit_w if self.charge_limit_w is None else self.charge_limit_w, self.limit_w

    def tick(self, now_s: float) -> None:
        """Follow the schedule at the ramp; let the lease run out."""
        if not self.equalizing:
            return
        if now_s >= self.expires_s:
            self.schedule, self.expires_s, self.applied_w = [], inf, 0.0
            if self.last is not None:
                self.last = self.last.model_copy(update={"result": SetpointResult.EXPIRED, "expires_in_s": None})
        due = [power_w for at_s, power_w in self.schedule if at_s <= now_s + 1e-9]
        if due:
            charge_w, discharge_w = self.limits_w()
            told_w = min(max(due[-1], -discharge_w), charge_w)
            if told_w != self.applied_w:
                self.commanded.append((now_s, told_w))
            self.applied_w = told_w
        step_w = self.ramp_w_per_s * TICK_S
        goal_w = self.applied_w * self.delivers * (self.charges if self.applied_w > 0.0 else 1.0)
        self.power_w += min(max(goal_w - self.power_w, -step_w), step_w)

    def take(self, order: Order, epoch: int, now_s: float) -> None:
        """Decide on a setpoint as a station does."""
        self.order_seq += 1  # the sender's count: an order that gets lost has its number too
        if self.deaf:
            return
        result = SetpointResult.APPLIED if self.rejects is None else SetpointResult.REJECTED
        self.last = SetpointEcho(server="test", epoch=epoch, seq=self.order_seq, result=result, reason=self.rejects)
        if self.rejects is None:
            self.schedule = [(now_s + item.after_s, item.power_w) for item in order.steps]
            self.expires_s = now_s + LEASE_S


class Plant:
    """The hall, its messages, and the control that works on them."""

    def __init__(self, *, loads: int = 4, equalizers: int = 1, seed: int = 1, **settings: object) -> None:
        self.settings = replace(ControlSettings(engage_w=100.0, release_w=30.0), **settings)  # type: ignore[arg-type]  # test keywords
        self.random = random.Random(seed)  # noqa: S311 - noise, no secrets
        self.now_s = 1000.0
        self.book = LoopBook(self.settings)
        self.state: ControlState = initial(self.settings)
        self.boot_id = "boot-a"
        self.online = True
        self.channels: dict[str, Channel] = {}
        self.decisions: list[tuple[float, Decision]] = []
        self.orders: list[tuple[float, Order]] = []
        self.edges: list[tuple[float, str, float]] = []
        for n in range(1, loads + 1):
            self.channels[str(n)] = Channel(str(n), phase_s=0.1 * (n % 10))
        for n in range(1, equalizers + 1):
            self.channels[f"e{n}"] = Channel(f"e{n}", phase_s=0.05 + 0.1 * n, equalizing=True)
        for channel in self.channels.values():
            channel.next_s = self.now_s + channel.phase_s
        self.say_status()

    # What an experiment does

    def load(self, ch: int, power_w: float, *, after_s: float = 0.0) -> None:
        """Change a load's power, now or later."""
        self.edges.append((self.now_s + after_s, str(ch), power_w))

    def eq(self, n: int = 1) -> Channel:
        """An equalization channel."""
        return self.channels[f"e{n}"]

    def plan(
        self, ch: int, *segments: tuple[float, float], until_s: float = 600.0, sigma_s: float | None = None
    ) -> None:
        """Announce what a load will do; `sigma_s` belongs to every segment but the first."""
        channel = self.channels[str(ch)]
        channel.plan_seq += 1
        message = ChannelPlan(
            boot_id=self.boot_id,
            seq=channel.plan_seq,
            unix_time_s=0.0,
            step_id=1,
            until_s=until_s,
            segments=tuple(
                PlanSegment(after_s=after_s, power_w=power_w, sigma_s=sigma_s if n > 0 else None)
                for n, (after_s, power_w) in enumerate(segments)
            ),
        )
        self.book.plan("s", channel.name, message, self.now_s)

    def announce(self, ch: int, *segments: tuple[float, float], until_s: float = 600.0) -> None:
        """Announce what a load will do, and do it."""
        self.plan(ch, *segments, until_s=until_s)
        for after_s, power_w in segments:
            self.load(ch, power_w, after_s=after_s)

    def say_status(self, *, on_lost: OnLost = OnLost.CONTINUE) -> None:
        """Publish the station's status."""
        message = StationStatus(
            status=Presence.ONLINE if self.online else Presence.OFFLINE,
            boot_id=self.boot_id,
            version="0",
            driver="test",
            channels=tuple(self.channels),
            on_lost=on_lost,
            unix_time_s=0.0,
        )
        self.book.status("s", message, self.now_s)

    def pause(self) -> None:
        self.state = pause(self.state)

    def resume(self) -> None:
        self.state = resume(self.state)

    def restart_server(self) -> None:
        """Put a control in charge that has seen nothing yet; the stations go on."""
        self.state, self.book = initial(self.settings), LoopBook(self.settings)
        self.say_status()

    def take_out(self, n: int = 1) -> None:
        """An operator's `stop`: the channel is at 0 W, and no equalization channel any more."""
        channel = self.eq(n)
        channel.equalizing, channel.last, channel.schedule, channel.expires_s = False, None, [], inf
        channel.applied_w = channel.power_w = 0.0

    def target(self, power_w: float) -> None:
        self.state = set_target(self.state, power_w)

    def stop(self) -> tuple[Order, ...]:
        return stop(self.state, self.image)

    def run(self, seconds: float) -> None:
        """Let virtual time pass; the control decides after every tick's messages."""
        for _ in range(round(seconds / TICK_S)):
            self.now_s = round(self.now_s + TICK_S, 6)
            self._tick()

    def settled(self, seconds: float = 5.0) -> "Plant":
        """Let the first round pass."""
        self.run(seconds)
        return self

    # What an experiment sees

    @property
    def image(self) -> LoopImage:
        return self.book.image(self.now_s)

    @property
    def total_w(self) -> float:
        """What really flows."""
        return sum(channel.power_w for channel in self.channels.values())

    @property
    def phase(self) -> str:
        return self.decisions[-1][1].phase.value

    @property
    def reason(self) -> str:
        return self.decisions[-1][1].reason

    @property
    def changes(self) -> list[tuple[float, Order]]:
        """The orders that changed a power, and when."""
        return [(at_s, order) for at_s, order in self.orders if order.kind == "change"]

    # Inside

    def _tick(self) -> None:
        for edge in [edge for edge in self.edges if edge[0] <= self.now_s + 1e-9]:
            self.edges.remove(edge)
            self.channels[edge[1]].power_w = edge[2]
        for channel in self.channels.values():
            channel.tick(self.now_s)
            if channel.next_s <= self.now_s and not channel.silent and self.online:
                channel.next_s += self.settings.period_s
                self.say(channel)
        self.decide()

    def decide(self) -> Decision:
        """Decide once, and send what was decided."""
        self.state, decision = step(self.state, self.image, self.settings, self.now_s)
        self.book.travel_s = least_s(self.state.holds.values())
        self.decisions.append((self.now_s, decision))
        for order in decision.orders:
            self.orders.append((self.now_s, order))
            self.channels[order.channel].take(order, 1, self.now_s)
        return decision

    def say(self, channel: Channel, *, retained: bool = False) -> None:
        """Publish a channel's telemetry."""
        channel.seq += 1
        charge_w, discharge_w = channel.limits_w()
        measured_w = channel.power_w + self.random.gauss(0.0, 1.0) * channel.noise_w
        message = ChannelTelemetry(
            boot_id=self.boot_id,
            seq=channel.seq,
            unix_time_s=0.0,
            work_status=WorkStatus.WORKING,
            step_type=StepType.SIM if channel.equalizing else StepType.CP_CHG,
            step_id=1,
            cycle_count=1,
            voltage_v=365.0,
            current_a=measured_w / 365.0,
            power_w=measured_w,
            soc_ratio=channel.soc_ratio,
            battery_connected=True,
            alarm=Alarm(code=AlarmCode.OVER_TEMPERATURE, text="hot") if channel.alarm else None,
            equalization=Equalization(
                charge_limit_w=charge_w,
                discharge_limit_w=discharge_w,
                ramp_w_per_s=channel.ramp_w_per_s,
                applied_w=channel.applied_w,
                last=channel.last,
            )
            if channel.equalizing
            else None,
        )
        self.book.telemetry("s", channel.name, message, retained=retained, now_s=self.now_s)
