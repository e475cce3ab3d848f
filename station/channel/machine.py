"""The channel's machine: what the shell calls.

    sample = driver.exchange(id, state.demand, now_s)      # or a DriverTrouble, where it raises
    state, outputs = tick(state, sample, now_s)            # every 0.1 s
    state, outputs = on_setpoint(state, setpoint, now_s)
    state, outputs = on_command(state, command, now_s, unix_time_s)
    state, message = telemetry(state, now_s, unix_time_s)  # every period, and when `telemetry_due_now`
    state, message = plan(state, preview, now_s, unix_time_s)  # when `plan_due`; before the telemetry

Each returns the next state; what has to be done beside stands in `Outputs`.
"""

from schemas.messages import ChannelCommand, ChannelPlan, ChannelTelemetry, Setpoint
from station.channel.outcome import DriverTrouble, Outputs
from station.channel.state import ChannelState, initial
from station.drivers.protocol import Preview, Sample

__all__ = ["initial", "on_command", "on_setpoint", "plan", "telemetry", "tick"]


def tick(state: ChannelState, measured: Sample | DriverTrouble, now_s: float) -> tuple[ChannelState, Outputs]:
    """Take one sample (or the lack of one) and decide what the driver is to do next (`state.demand`)."""
    raise NotImplementedError


def on_setpoint(state: ChannelState, setpoint: Setpoint, now_s: float) -> tuple[ChannelState, Outputs]:
    """Decide on a setpoint that the link has parsed. It takes effect at the next tick."""
    raise NotImplementedError


def on_command(
    state: ChannelState, command: ChannelCommand, now_s: float, unix_time_s: float
) -> tuple[ChannelState, Outputs]:
    """Do what an operator asks; `outputs.reply` is never null."""
    raise NotImplementedError


def telemetry(state: ChannelState, now_s: float, unix_time_s: float) -> tuple[ChannelState, ChannelTelemetry | None]:
    """Return the message of this moment, and note that it was sent; null while nothing true can be said."""
    raise NotImplementedError


def plan(
    state: ChannelState, preview: Preview | None, now_s: float, unix_time_s: float
) -> tuple[ChannelState, ChannelPlan | None]:
    """Return what the channel will do next; null in equalization mode, or where nothing is known.

    `preview`: the driver's, for a channel with `setup.own_program`, else null.
    """
    raise NotImplementedError
