"""The station's channels: driven, ticked, led, and spoken for. Time comes in, messages go out; no I/O of its own."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from schemas.messages import (
    ChannelAction,
    ChannelCommand,
    ChannelPlan,
    ChannelTelemetry,
    Reply,
    ReplyReason,
    Setpoint,
    Severity,
    Values,
)
from station.channel import machine
from station.channel.commands import Refusal, rejection
from station.channel.due import plan_is_due
from station.channel.outcome import (
    QUIET,
    Accepted,
    Duplicate,
    Outputs,
    Refused,
    Remembered,
)
from station.channel.state import ChannelState
from station.channel.states import ACTIVE
from station.config import ChannelSection, TelemetrySection
from station.drivers.protocol import ChannelHardware, Driver
from station.equipment import Equipment
from station.metrics import ChannelReading, Tally
from station.schedule import Cycle, spread

TICK_S = 0.1
PREVIEW_S = 120.0
"""How far ahead equipment that plays its own program is asked."""

_log = logging.getLogger(__name__)


class Outlet(Protocol):
    """Where a channel's messages go; the link is one."""

    @property
    def connected(self) -> bool:
        """Whether anybody hears them."""

    def telemetry(self, channel_id: str, message: ChannelTelemetry, *, retain: bool) -> None:
        """Publish telemetry."""

    def plan(self, channel_id: str, message: ChannelPlan) -> None:
        """Publish a plan."""

    def reply(self, channel_id: str, message: Reply) -> None:
        """Answer a command."""

    def event(
        self, severity: Severity, code: str, text: str, values: Values | None = None, *, channel_id: str | None = None
    ) -> None:
        """Tell people."""


class Memory(Protocol):
    """Where channels are remembered; the keeper is one."""

    def put(self, channel_id: str, remembered: Remembered, then: Callable[[], None]) -> None:
        """Store, and then call `then`."""

    def after(self, channel_id: str, then: Callable[[], None]) -> None:
        """Call `then` once everything is stored."""


class _Slot:
    """One channel's place in the rack."""

    __slots__ = ("id", "period", "retained_s", "state", "waiting")

    def __init__(self, state: ChannelState, period: Cycle) -> None:
        self.id = state.setup.channel_id
        self.state = state
        self.period = period
        self.retained_s: float | None = None
        """When telemetry was last sent with the retain flag."""
        self.waiting = False
        """A period's telemetry waits for the disk; those of later periods need not."""


def hardware(channel: ChannelSection) -> ChannelHardware:
    """Return what a driver is told of a channel."""
    return ChannelHardware(
        id=channel.id,
        charge_limit_w=channel.charge_limit_w,
        discharge_limit_w=channel.discharge_limit_w,
        ramp_w_per_s=channel.ramp_w_per_s,
        options=channel.options,
    )


class Rack:
    """All channels of a station, on an opened driver.

    Args:
        channels: their tables of the configuration.
        remembered: what was stored of them.
        telemetry: how often they are published.
        boot_id: new at every start.
        driver: opened.
        outlet: where their messages go.
        memory: where they are remembered.
        tally: where it counts.
        clock: monotonic seconds.
        utc: seconds since 1970, for labels.
        forgetful: what was stored got lost: the first announcement of a server says which epoch is the least to obey.
    """

    def __init__(
        self,
        channels: tuple[ChannelSection, ...],
        remembered: Mapping[str, Remembered],
        *,
        telemetry: TelemetrySection,
        boot_id: str,
        driver: Driver,
        outlet: Outlet,
        memory: Memory,
        tally: Tally,
        clock: Callable[[], float],
        utc: Callable[[], float],
        forgetful: bool = False,
    ) -> None:
        self._equipment = Equipment(driver, tally)
        self._outlet = outlet
        self._memory = memory
        self._tally = tally
        self._clock = clock
        self._utc = utc
        self._retain_every_s = telemetry.retain_every_s
        self._stopping = False
        self._forgetful = forgetful
        now_s = clock()
        cycles = spread(now_s, telemetry.period_s, len(channels))
        self._slots = {
            channel.id: _Slot(
                machine.initial(
                    channel,
                    remembered.get(channel.id),
                    boot_id,
                    now_s,
                    own_program=self._equipment.has_own_program(channel.id),
                ),
                cycle,
            )
            for channel, cycle in zip(channels, cycles, strict=True)
        }
        accepted = [(one.epoch, one.server) for one in remembered.values() if one.epoch is not None and one.server]
        for slot in self._slots.values() if accepted else ():
            slot.state, _ = machine.heed_epoch(slot.state, *max(accepted), now_s)

    def tick(self) -> None:
        """Drive every channel once and publish what is due. Called every `TICK_S`."""
        now_s = self._clock()
        for slot in self._slots.values():
            # An exchange that takes long must not make the leases of the channels after it last longer.
            self._drive(slot, self._clock())
        # A cycle is due at the tick that comes nearest to it: rounding must not make it skip one.
        soon_s = now_s + TICK_S / 2.0
        for slot in self._slots.values():
            if slot.period.due_s <= soon_s:
                slot.period.take(soon_s)
                if slot.waiting:
                    continue
                slot.waiting = True
                self._memory.after(slot.id, partial(self._publish_telemetry, slot))

    # ── what the link hands over ──────────────────────────────────────────────────────────────────────────────────

    def on_setpoint(self, channel_id: str, setpoint: Setpoint) -> None:
        """Decide on a setpoint, and act on it now."""
        slot, now_s = self._slots[channel_id], self._clock()
        known = slot.state.fence.epoch
        slot.state, outputs = machine.on_setpoint(slot.state, setpoint, now_s)
        self._tally.setpoints[_name(outputs)] += 1
        self._carry_out(slot, outputs, now_s)
        if slot.state.fence.epoch != known:
            self._fence_all(setpoint.epoch, setpoint.server, now_s)
        if isinstance(outputs.decision, Accepted) and outputs.decision.changed:
            # Once for what was measured up to now, and once to hand the new power over and hear what becomes of it.
            self._drive(slot, now_s)
            self._drive(slot, now_s)

    def on_command(self, channel_id: str, command: ChannelCommand) -> None:
        """Carry out a command, and reply once what it changes is stored."""
        slot, now_s = self._slots[channel_id], self._clock()
        answered = any(reply.id == command.id for reply in slot.state.replies)
        if self._stopping and command.action != ChannelAction.STOP and not answered:
            leaving = Refusal(ReplyReason.BUSY, "the station is about to end")
            self._outlet.reply(channel_id, rejection(command.id, command.action, leaving, self._utc()))
            return
        before = slot.state
        slot.state, outputs = machine.on_command(before, command, now_s, self._utc())
        if slot.state is before:
            self._answer(slot, outputs)
        else:
            self._carry_out(slot, outputs, now_s)

    def on_malformed_command(self, channel_id: str, command_id: str, action: str, text: str) -> None:
        """Answer a command that breaks the contract but has an id."""
        slot = self._slots[channel_id]
        slot.state, outputs = machine.on_malformed_command(slot.state, command_id, action, text, self._utc())
        self._answer(slot, outputs)

    def on_server(self, server: str, epoch: int) -> None:
        """Where the epochs that were obeyed are forgotten, obey none below the announced one."""
        if self._forgetful:
            self._forgetful = False
            self._fence_all(epoch, server, self._clock())

    def on_server_begins(self) -> None:
        """Publish every plan anew."""
        for slot in self._slots.values():
            self._memory.after(slot.id, partial(self._publish_plan, slot))

    def on_connected(self) -> None:
        """Publish everything anew."""
        for slot in self._slots.values():
            slot.retained_s = None
            self._memory.after(slot.id, partial(self._say_anew, slot))

    def _fence_all(self, epoch: int, server: str, now_s: float) -> None:
        """What one channel accepts, the station has accepted: an older server leads none of them any more."""
        for slot in self._slots.values():
            slot.state, outputs = machine.heed_epoch(slot.state, epoch, server, now_s)
            if outputs is not QUIET:
                self._carry_out(slot, outputs, now_s)

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def wind_down(self) -> None:
        """Ramp every channel to 0 W. Their modes stay remembered: the next start takes them up again, at 0 W."""
        self._stopping = True
        now_s = self._clock()
        for slot in self._slots.values():
            slot.state, outputs = machine.wind_down(slot.state, now_s)
            self._say(slot, Outputs(plan_due=outputs.plan_due, telemetry_due_now=outputs.telemetry_due_now))

    @property
    def at_rest(self) -> bool:
        """Whether no channel works any more."""
        return not any(slot.state.life in ACTIVE for slot in self._slots.values())

    def say_last(self) -> None:
        """Publish the last telemetry of every channel, retained."""
        for slot in self._slots.values():
            slot.retained_s = None
            self._publish_telemetry(slot)

    # ── what it reads ─────────────────────────────────────────────────────────────────────────────────────────────

    def state(self, channel_id: str) -> ChannelState:
        """Return all that a channel knows."""
        return self._slots[channel_id].state

    def readings(self) -> tuple[ChannelReading, ...]:
        """Return the newest sample of every channel that has one."""
        return tuple(
            ChannelReading(
                channel=slot.id,
                power_w=sample.power_w,
                voltage_v=sample.voltage_v,
                current_a=sample.current_a,
                soc_ratio=sample.soc_ratio,
                equalizing=slot.state.equalizing,
                alarmed=slot.state.alarm is not None,
            )
            for slot in self._slots.values()
            if (sample := slot.state.sample) is not None
        )

    # ── the work ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _drive(self, slot: _Slot, now_s: float) -> None:
        """Exchange with the equipment, and let the channel decide on what it answers."""
        measured = self._equipment.exchange(slot.id, slot.state.demand, now_s)
        slot.state, outputs = machine.tick(slot.state, measured, now_s)
        if outputs is not QUIET:
            self._carry_out(slot, outputs, now_s)

    def _hand_over(self, slot: _Slot, now_s: float) -> None:
        """Give the equipment a demand that must not wait for the next tick; that tick looks at the answer."""
        self._equipment.exchange(slot.id, slot.state.demand, now_s)

    def _carry_out(self, slot: _Slot, outputs: Outputs, now_s: float) -> None:
        """Make the equipment safe at once; say something only after it is stored."""
        if outputs.clear_fault:
            self._equipment.clear_fault(slot.id, now_s)
        if outputs.off_now:
            self._hand_over(slot, now_s)
        remember = outputs.remember
        if self._stopping and (outputs.off_now or outputs.reply is not None):
            # A trip, and an operator's stop, forget the mode that the station's leaving only interrupts.
            remember = slot.state.remembered
        if remember is not None:
            self._memory.put(slot.id, remember, partial(self._say, slot, outputs))
        else:
            self._answer(slot, outputs)

    def _answer(self, slot: _Slot, outputs: Outputs) -> None:
        """Say what changes nothing that is to be stored, behind what waits for the disk."""
        self._memory.after(slot.id, partial(self._say, slot, outputs))

    def _say(self, slot: _Slot, outputs: Outputs) -> None:
        # Both may have been said meanwhile, where this had to wait for the disk.
        if outputs.plan_due and plan_is_due(slot.state, self._clock()):
            self._publish_plan(slot)
        if outputs.telemetry_due_now and slot.state.announce:
            self._publish_telemetry(slot)
        if outputs.reply is not None:
            self._outlet.reply(slot.id, outputs.reply)
        for event in outputs.events:
            _log.log(
                logging.INFO if event.severity is Severity.INFO else logging.WARNING,
                "channel_event channel=%s code=%s text=%r",
                slot.id,
                event.code,
                event.text,
            )
            self._outlet.event(event.severity, event.code, event.text, event.values, channel_id=slot.id)

    def _say_anew(self, slot: _Slot) -> None:
        self._publish_plan(slot)
        self._publish_telemetry(slot)

    def _publish_telemetry(self, slot: _Slot) -> None:
        slot.waiting = False
        if not self._outlet.connected:
            return
        now_s = self._clock()
        news = slot.state.announce
        slot.state, message = machine.telemetry(slot.state, now_s, self._utc())
        if message is None:
            return
        retain = slot.retained_s is None or now_s - slot.retained_s >= self._retain_every_s
        # Of equipment that fails, its alarm may be the last that is told for long.
        retain = retain or (news and message.alarm is not None)
        if retain:
            slot.retained_s = now_s
        self._outlet.telemetry(slot.id, message, retain=retain)

    def _publish_plan(self, slot: _Slot) -> None:
        """Publish the plan; without a connection it is only made, which settles when the next is due."""
        now_s = self._clock()
        own = slot.state.setup.own_program
        preview = self._equipment.preview(slot.id, PREVIEW_S, now_s) if own else None
        slot.state, message = machine.plan(slot.state, preview, now_s, self._utc())
        if message is not None and self._outlet.connected:
            self._outlet.plan(slot.id, message)


def _name(outputs: Outputs) -> str:
    """Return the metric's label for what became of a setpoint."""
    match outputs.decision:
        case Accepted(result):
            return result.value
        case Refused(reason):
            return reason.value
        case Duplicate() | None:
            return "duplicate"
