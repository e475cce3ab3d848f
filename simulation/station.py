"""A station in virtual time: the production's rack and driver; a rack for each channel, ticked at its own pace."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from pathlib import Path

from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import (
    ChannelCommand,
    ChannelPlan,
    ChannelTelemetry,
    OnLost,
    Presence,
    Reply,
    Setpoint,
    Severity,
    StationStatus,
    Values,
)
from schemas.topics import ChannelTopic
from simulation.clock import TICK_S, Timeline, tick_from, tick_s
from simulation.hall import COMMANDS, Happening
from simulation.pace import rest_until_s
from simulation.scenario import Action
from station.channel.outcome import Remembered
from station.channel.state import ChannelState
from station.config import ChannelSection, StationSettings
from station.drivers.protocol import Driver
from station.drivers.registry import load
from station.drivers.simulated import SimulatedDriver
from station.metrics import Tally
from station.rack import Rack, hardware

LOOP = "main"
KEEPALIVE_S = 15.0
"""A broker gives a silent client up after one and a half of its keep-alive of 10 s."""

Sender = Callable[[str, bytes, int], None]
"""Topic, payload, QoS: into the network."""


class Memory:
    """Remembers without a disk: at once."""

    def put(self, channel_id: str, remembered: Remembered, then: Callable[[], None]) -> None:  # noqa: ARG002 - nobody restarts
        """Go on."""
        then()

    def after(self, channel_id: str, then: Callable[[], None]) -> None:  # noqa: ARG002 - nothing is pending
        """Go on."""
        then()


class Outlet:
    """Where the channels' messages go: as the link's, encoded and under the contract's topics."""

    def __init__(self, station: str, send: Sender) -> None:
        self.connected = True
        self.events: Counter[str] = Counter()
        self.hearer: Callable[[str, ChannelTelemetry], None] | None = None
        """Who takes a channel's telemetry as it is; null: it is published as the contract's bytes."""
        self._send = send
        self._station = station

    def telemetry(self, channel_id: str, message: ChannelTelemetry, *, retain: bool) -> None:  # noqa: ARG002 - nobody comes late
        """Publish telemetry."""
        if self.hearer is None:
            self._publish(channel_id, ChannelTopic.TELEMETRY, encode(message))
        elif self.connected:
            self.hearer(channel_id, message)

    def plan(self, channel_id: str, message: ChannelPlan) -> None:
        """Publish a plan."""
        self._publish(channel_id, ChannelTopic.PLAN, encode(message))

    def reply(self, channel_id: str, message: Reply) -> None:
        """Nobody waits for a reply; it is counted."""
        self.events[f"reply_{message.result}"] += 1
        del channel_id

    def event(
        self, severity: Severity, code: str, text: str, values: Values | None = None, *, channel_id: str | None = None
    ) -> None:
        """Count what people would be told."""
        del severity, text, values, channel_id
        self.events[code] += 1

    def status(self, message: StationStatus) -> None:
        """Say that the station is there, or (for the broker) that it is gone."""
        self._send(topics.status_topic(LOOP, self._station), encode(message), 1)

    def _publish(self, channel_id: str, leaf: ChannelTopic, payload: bytes) -> None:
        if self.connected:
            self._send(topics.channel_topic(LOOP, self._station, channel_id, leaf), payload, 0)


class Channel:
    """One channel: its rack, and when that is ticked next."""

    def __init__(self, section: ChannelSection, rack: Rack, *, begins: int, period_s: float) -> None:
        self.id = section.id
        self.section = section
        self.rack = rack
        self.begins = begins
        """The tick with which its telemetry's period begins."""
        self._begin_s = tick_s(begins)
        self.period_s = period_s
        self.ticked = begins - 1
        self.wanted = begins
        self.power_w = 0.0
        """What really flows, at the last tick; W."""

    @property
    def state(self) -> ChannelState:
        """What the channel knows."""
        return self.rack.state(self.id)

    def next_telemetry(self) -> int:
        """Return the tick of the next telemetry."""
        passed = int((tick_s(self.ticked) + TICK_S / 2.0 - self._begin_s) / self.period_s) + 1
        return tick_from(self._begin_s + passed * self.period_s - TICK_S / 2.0)


class VirtualStation:
    """All channels of a station.

    Args:
        settings: its station.toml.
        base_dir: where paths in it start from.
        timeline: in which it lives.
        send: into the network, towards the controller.
        boot_id: of its one run.
        step_s: its channels are ticked no more often; whole ticks of the production's.
    """

    def __init__(
        self,
        settings: StationSettings,
        base_dir: Path,
        *,
        timeline: Timeline,
        send: Sender,
        boot_id: str,
        step_s: float = TICK_S,
    ) -> None:
        self.name = settings.station.id
        self.settings = settings
        self.tally = Tally()
        self.outlet = Outlet(self.name, send)
        self.power_w = 0.0
        """The sum over its channels."""
        self._timeline = timeline
        self._boot_id = boot_id
        self._driver = _opened(settings, base_dir)
        self._now_s = timeline.now_s
        self._commands = 0
        first, period_s = tick_from(timeline.now_s), settings.telemetry.period_s
        self.channels: dict[str, Channel] = {}
        for number, section in enumerate(settings.channel):
            begins = first + round(number * period_s / len(settings.channel) / TICK_S)
            self._now_s = tick_s(begins)
            self.channels[section.id] = Channel(section, self._rack(section), begins=begins, period_s=period_s)
        self._now_s = timeline.now_s
        self._cuts = 0
        self._every = round(step_s / TICK_S)
        self.outlet.status(self._status(Presence.ONLINE))
        for channel in self.channels.values():
            self._schedule(channel, channel.begins)

    @property
    def samples(self) -> Mapping[str, float]:
        """What really flows, by channel; W."""
        return {channel.id: channel.power_w for channel in self.channels.values()}

    def on_setpoint(self, topic: str, payload: bytes) -> Setpoint | None:
        """Take a setpoint from the network; return it where it is obeyed."""
        address = topics.parse(topic)
        assert isinstance(address, topics.ChannelAddress)  # noqa: S101 - the controller sends on setpoint topics only
        if not self.outlet.connected:
            return None
        channel = self.channels[address.channel]
        setpoint = decode(Setpoint, payload)
        self._catch_up(channel)
        before = self.tally.setpoints.copy()
        self._now_s = self._timeline.now_s
        channel.rack.on_setpoint(channel.id, setpoint)
        self._follow(channel)
        obeyed = self.tally.setpoints - before
        return setpoint if obeyed["applied"] or obeyed["clamped"] else None

    def happen(self, happening: Happening) -> None:
        """Have something happen to the station or to one of its channels."""
        match happening.action:
            case Action.CUT:
                self._cut()
            case Action.HEAL:
                self._heal()
            case Action.PLUG | Action.UNPLUG:
                channel = self.channels[happening.channel]
                self._catch_up(channel)
                if isinstance(self._driver, SimulatedDriver):
                    self._driver.rewire(channel.id, connected=happening.action is Action.PLUG)
                self._follow(channel)
            case _:
                self._command(self.channels[happening.channel], happening.action)

    def _command(self, channel: Channel, action: Action) -> None:
        self._catch_up(channel)
        self._commands += 1
        self._now_s = self._timeline.now_s
        command = ChannelCommand(id=f"{self.name}-{self._commands}", action=COMMANDS[action], by="scenario")
        channel.rack.on_command(channel.id, command)
        self._follow(channel)

    # ── the network of the station ────────────────────────────────────────────────────────────────────────────────

    def _cut(self) -> None:
        """Nothing comes in or goes out; the process goes on, and the broker soon says that it is gone."""
        self.outlet.connected = False
        self._cuts += 1
        self._timeline.at(self._timeline.now_s + KEEPALIVE_S, partial(self._will, self._cuts))

    def _will(self, cut: int) -> None:
        if cut == self._cuts and not self.outlet.connected:
            self.outlet.status(self._status(Presence.OFFLINE))

    def _heal(self) -> None:
        self.outlet.connected = True
        self.outlet.status(self._status(Presence.ONLINE))
        for channel in self.channels.values():
            self._catch_up(channel)
            self._now_s = self._timeline.now_s
            channel.rack.on_connected()

    def _status(self, presence: Presence) -> StationStatus:
        return StationStatus(
            status=presence,
            boot_id=self._boot_id,
            version="virtual",
            driver=self.settings.driver.type,
            channels=tuple(section.id for section in self.settings.channel),
            on_lost=OnLost(self.settings.station.on_lost),
            unix_time_s=self._timeline.utc(),
        )

    # ── ticks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _rack(self, section: ChannelSection) -> Rack:
        return Rack(
            (section,),
            {},
            telemetry=self.settings.telemetry,
            boot_id=self._boot_id,
            driver=self._driver,
            outlet=self.outlet,
            memory=_MEMORY,
            tally=self.tally,
            clock=lambda: self._now_s,
            utc=self._timeline.utc,
        )

    def _schedule(self, channel: Channel, tick: int) -> None:
        tick += (channel.begins - tick) % self._every
        channel.wanted = tick
        self._timeline.at(tick_s(tick), partial(self._ticked, channel, tick))

    def _ticked(self, channel: Channel, tick: int) -> None:
        if channel.wanted != tick or channel.ticked >= tick:
            return  # something happened meanwhile that asked for another
        self._tick(channel, tick)

    def _tick(self, channel: Channel, tick: int) -> None:
        """Tick as the station would have, and find out when the next tick is wanted."""
        before = channel.state
        self._now_s = tick_s(tick)
        channel.rack.tick()
        channel.ticked = tick
        after = channel.state
        self._measure(channel, after)
        rest_s = rest_until_s(before, after, self._driver, self._now_s)
        if rest_s <= self._now_s:
            self._schedule(channel, tick + 1)
            return
        due = min(rest_s, after.plan_at_s if not after.equalizing else inf)
        soonest = channel.next_telemetry()
        self._schedule(channel, max(tick + 1, soonest if due == inf else min(soonest, tick_from(due))))

    def _catch_up(self, channel: Channel) -> None:
        """Make good the last tick of the station's grid, where it was left out."""
        last = tick_from(self._timeline.now_s) - 1
        if channel.begins <= last and channel.ticked < last:
            self._tick(channel, last)

    def _follow(self, channel: Channel) -> None:
        """Tick at the next tick of the grid: something was asked of the channel."""
        self._measure(channel, channel.state)
        self._schedule(channel, max(channel.ticked + 1, tick_from(self._timeline.now_s)))

    def _measure(self, channel: Channel, state: ChannelState) -> None:
        power_w = 0.0 if state.sample is None else state.sample.power_w
        self.power_w += power_w - channel.power_w
        channel.power_w = power_w


_MEMORY = Memory()


def _opened(settings: StationSettings, base_dir: Path) -> Driver:
    driver = load(settings.driver.type)(dict(settings.driver.model_extra or {}), str(base_dir))
    # Drivers of the simulation's kind open without waiting; a loop of its own keeps the rest free of asyncio.
    asyncio.run(driver.open([hardware(section) for section in settings.channel]))
    return driver
