"""What goes into a channel beside samples, and what comes out of it for the shell to carry out."""

from dataclasses import dataclass

from schemas.messages import Alarm, Reply, SetpointReason, SetpointResult, Severity, Values


@dataclass(frozen=True, slots=True)
class TransientTrouble:
    """No sample this time (`TransientDriverError`)."""

    text: str


@dataclass(frozen=True, slots=True)
class DeviceTrouble:
    """The equipment is at fault (`DeviceFaultError`)."""

    text: str


DriverTrouble = TransientTrouble | DeviceTrouble


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a channel knows over a restart of its station. The shell stores it atomically."""

    equalizing: bool = False
    """It was in equalization mode."""
    epoch: int | None = None
    """The highest that it has accepted; null: none yet."""
    server: str | None = None
    """Whose that epoch is."""
    alarm: Alarm | None = None
    """What has tripped it and was not cleared yet."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A setpoint is obeyed."""

    result: SetpointResult
    """`applied`, `clamped`, or `expired` where its lease was over before it came."""
    changed: bool
    """False: a refresh with the same powers."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A setpoint is not obeyed. For `not_equalizing` and `alarm` no echo can say so: `equalization` is null."""

    reason: SetpointReason


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A setpoint that came before, or too late; nothing changes."""


Decision = Accepted | Refused | Duplicate


@dataclass(frozen=True, slots=True)
class ChannelEvent:
    """An Event without the name and the time that only the shell knows."""

    severity: Severity
    code: str
    text: str
    values: Values | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the shell has to do, in this order: store, exchange, publish plan, telemetry, reply, events."""

    remember: Remembered | None = None
    """To be stored before anything else is done or said."""
    clear_fault: bool = False
    """Call the driver's `clear_fault`."""
    off_now: bool = False
    """The channel has tripped: hand its demand (`Off`) to the driver at once, not at the next tick."""
    plan_due: bool = False
    """Publish `plan(…)`; before the telemetry, so that a change is announced before it is seen."""
    telemetry_due_now: bool = False
    """Work status, step or alarm has changed: publish `telemetry(…)` now, without waiting for the period."""
    reply: Reply | None = None
    decision: Decision | None = None
    """What became of a setpoint."""
    events: tuple[ChannelEvent, ...] = ()


QUIET = Outputs()
"""Nothing to do: what nearly every tick returns."""
