"""The channel's machine: what the shell calls.

    sample = driver.exchange(id, state.demand, now_s)          # or a DriverTrouble, where it raises
    state, outputs = tick(state, sample, now_s)                # every 0.1 s
    state, outputs = on_setpoint(state, setpoint, now_s)
    state, outputs = heed_epoch(state, epoch, server, now_s)   # when another channel accepts a higher one
    state, outputs = on_command(state, command, now_s, unix_time_s)
    state, message = plan(state, preview, now_s, unix_time_s)  # when `plan_due`; before the telemetry
    state, message = telemetry(state, now_s, unix_time_s)      # every period, and when `telemetry_due_now`

Each returns the next state; what has to be done beside stands in `Outputs`.
"""

from station.channel.commands import on_command, on_malformed_command, wind_down
from station.channel.report import plan, telemetry
from station.channel.setpoints import heed_epoch, on_setpoint
from station.channel.state import initial
from station.channel.ticks import tick

__all__ = [
    "heed_epoch",
    "initial",
    "on_command",
    "on_malformed_command",
    "on_setpoint",
    "plan",
    "telemetry",
    "tick",
    "wind_down",
]
