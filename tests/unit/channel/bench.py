"""A channel on the bench: the machine, a plain battery, and a log of all that is published, in virtual time."""

from dataclasses import dataclass, field
from typing import Any

from schemas.messages import ChannelCommand, ChannelPlan, ChannelTelemetry, Reply, Setpoint
from station.channel import machine
from station.channel.outcome import ChannelEvent, Decision, DriverTrouble, Outputs, Remembered
from station.channel.state import ChannelState
from station.config import ChannelSection
from station.drivers.protocol import ConstantCurrent, ConstantPower, Demand, Off, OwnProgram, OwnStep, Preview, Sample

TICK_S = 0.1
BOOT = "boot-1"


@dataclass
class Battery:
    """An open-circuit voltage that rises with charge, and one resistance."""

    empty_v: float = 300.0
    volts_per_ah: float = 1.0
    resistance_ohm: float = 0.1
    charge_ah: float = 50.0
    connected: bool = True

    def carry(self, demand: Demand, elapsed_s: float) -> tuple[float, float]:
        """Return voltage and current under a demand, and keep the charge."""
        open_v = self.empty_v + self.volts_per_ah * self.charge_ah
        match demand:
            case Off() | OwnProgram():
                current_a = 0.0
            case ConstantCurrent(current_a, limit_v):
                if limit_v is not None:
                    current_a = min(current_a, (limit_v - open_v) / self.resistance_ohm)
            case ConstantPower(power_w):
                current_a = power_w / open_v
        self.charge_ah += current_a * elapsed_s / 3600.0
        return open_v + current_a * self.resistance_ohm, current_a


@dataclass
class Bench:
    """One channel, its shell and its battery."""

    state: ChannelState
    battery: Battery
    now_s: float = 100.0
    charge_limit_w: float = 60000.0
    """What the equipment says that it can take now."""
    discharge_limit_w: float = 60000.0
    published: list[ChannelPlan | ChannelTelemetry | Reply] = field(default_factory=list)
    stored: list[Remembered] = field(default_factory=list)
    events: list[ChannelEvent] = field(default_factory=list)
    next_telemetry_s: float = 0.0
    preview: Preview | None = None
    own_step: OwnStep | None = None
    seq: int = 0

    def measure(self, **changes: Any) -> Sample:  # noqa: ANN401 - any field of a sample
        """Return what the equipment measures under the present demand."""
        voltage_v, current_a = self.battery.carry(self.state.demand, TICK_S)
        values: dict[str, Any] = {
            "voltage_v": voltage_v,
            "current_a": current_a,
            "power_w": voltage_v * current_a,
            "battery_connected": self.battery.connected,
            "charge_limit_w": self.charge_limit_w,
            "discharge_limit_w": self.discharge_limit_w,
            "own_step": self.own_step,
        }
        return Sample(**(values | changes))

    def tick(self, measured: Sample | DriverTrouble | None = None) -> Outputs:
        """Let one tick pass."""
        self.now_s = round(self.now_s + TICK_S, 6)
        self.state, outputs = machine.tick(self.state, self.measure() if measured is None else measured, self.now_s)
        self.carry_out(outputs)
        return outputs

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TICK_S)):
            self.tick()

    def carry_out(self, outputs: Outputs) -> None:
        """Do what a shell does."""
        if outputs.remember is not None:
            self.stored.append(outputs.remember)
        if outputs.plan_due:
            self.state, plan = machine.plan(self.state, self.preview, self.now_s, 0.0)
            self._publish(plan)
        if outputs.telemetry_due_now or self.now_s >= self.next_telemetry_s:
            self.state, telemetry = machine.telemetry(self.state, self.now_s, 0.0)
            self._publish(telemetry)
            self.next_telemetry_s = self.now_s + 1.0
        self._publish(outputs.reply)
        self.events += outputs.events

    def _publish(self, message: ChannelPlan | ChannelTelemetry | Reply | None) -> None:
        if message is not None:
            self.published.append(message)

    def command(self, action: str, command_id: str | None = None) -> Reply:
        """Let an operator ask for something."""
        self.seq += 1
        command = ChannelCommand(id=command_id or f"c{self.seq}", action=action)
        self.state, outputs = machine.on_command(self.state, command, self.now_s, self.now_s)
        self.carry_out(outputs)
        assert outputs.reply is not None
        return outputs.reply

    def setpoint(self, *steps: float | tuple[float, float], **changes: Any) -> Decision:  # noqa: ANN401 - any key
        """Let a server send a setpoint on the newest telemetry."""
        self.seq += 1
        given = [step if isinstance(step, tuple) else (0.0, step) for step in steps]
        values: dict[str, Any] = {
            "server": "hall-a",
            "epoch": 7,
            "seq": self.seq,
            "basis": {"boot_id": BOOT, "seq": self.state.telemetry_seq},
            "ttl_s": 30.0,
            "steps": [{"after_s": after_s, "power_w": power_w} for after_s, power_w in given],
            "unix_time_s": 0.0,
        }
        message = Setpoint.model_validate(values | changes, strict=False)
        self.state, outputs = machine.on_setpoint(self.state, message, self.now_s)
        self.carry_out(outputs)
        assert outputs.decision is not None
        return outputs.decision

    def telemetry(self) -> ChannelTelemetry:
        """Return the newest one, published now."""
        self.state, message = machine.telemetry(self.state, self.now_s, 0.0)
        assert message is not None
        self.published.append(message)
        return message

    def plan(self) -> ChannelPlan:
        """Return a plan, made now."""
        self.state, message = machine.plan(self.state, self.preview, self.now_s, 0.0)
        assert message is not None
        return message

    def steps_seen(self) -> list[tuple[int, int]]:
        """Return step and cycle of all telemetry, repetitions left out."""
        seen: list[tuple[int, int]] = []
        for message in self.published:
            if isinstance(message, ChannelTelemetry) and (message.step_id, message.cycle_count) not in seen[-1:]:
                seen.append((message.step_id, message.cycle_count))
        return seen


def build(
    *program: dict[str, Any],
    memory: Remembered | None = None,
    own_program: bool = False,
    battery: Battery | None = None,
    **settings: Any,  # noqa: ANN401 - any key of a channel's table
) -> Bench:
    """Return a channel at its start, before its first tick."""
    values: dict[str, Any] = {
        "id": "1",
        "charge_limit_w": 60000.0,
        "discharge_limit_w": 60000.0,
        "ramp_w_per_s": 60000.0,
        "program": program,
        "repeat": 1,
    }
    section = ChannelSection.model_validate(values | settings)
    return Bench(machine.initial(section, memory, BOOT, 100.0, own_program=own_program), battery or Battery())
