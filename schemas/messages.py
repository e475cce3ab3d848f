"""Every payload of the contract, version 1, as a frozen model.

Sign: seen from the battery; positive current and power charge it and draw from the loop. Units are in the names.
`unix_time_s` is a label (UTC seconds) that no decision subtracts.
"""

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.topics import NAME_PATTERN

MAX_COUNT = 2**63 - 1

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]


class Message(BaseModel):
    """A payload, or a part of one. Unknown keys are ignored, so that the contract can grow."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Presence(StrEnum):
    """Whether a process is there."""

    ONLINE = "online"
    OFFLINE = "offline"


class Phase(StrEnum):
    """What the equalizer does."""

    STARTING = "starting"
    """It listens for one full round of telemetry, and sends nothing."""
    BALANCING = "balancing"
    """The total is steered to the target."""
    SATURATED = "saturated"
    """The equalization channels are at their limits, or there are none: the rest goes through the grid."""
    FROZEN = "frozen"
    """More power than `control.freeze_w` is unknown: nothing is changed, leases run out."""
    PAUSED = "paused"
    """An operator paused it: all equalization channels at 0 W."""
    STANDBY = "standby"
    """Another server leads the loop."""


class Policy(StrEnum):
    """How the delay against shaking is spent."""

    CONFIRM = "confirm"
    DWELL = "dwell"


class WorkStatus(StrEnum):
    """What a channel is at."""

    IDLE = "idle"
    """Nothing was started since the station's start."""
    WORKING = "working"
    """It works."""
    PAUSED = "paused"
    """Its program was interrupted and can go on."""
    FINISHED = "finished"
    """Its program has run to its end."""
    STOPPED = "stopped"
    """It was stopped."""
    PROTECT = "protect"
    """It protects itself; the alarm says why."""


class StepType(StrEnum):
    """The working step of a channel."""

    REST = "rest"
    CC_CHG = "cc_chg"
    CC_DCHG = "cc_dchg"
    CV_CHG = "cv_chg"
    CCCV_CHG = "cccv_chg"
    CP_CHG = "cp_chg"
    CP_DCHG = "cp_dchg"
    SIM = "sim"
    NONE = "none"


class AlarmCode(StrEnum):
    """Why a channel protects itself."""

    OVER_VOLTAGE = "over_voltage"
    """The voltage is above its protection limit."""
    UNDER_VOLTAGE = "under_voltage"
    """The voltage is below its protection limit."""
    OVER_CURRENT = "over_current"
    """The current is above its protection limit."""
    OVER_TEMPERATURE = "over_temperature"
    """The battery is too hot."""
    REVERSE_POLARITY = "reverse_polarity"
    """The battery is connected the wrong way round."""
    BATTERY_DISCONNECTED = "battery_disconnected"
    """The battery was lost at work."""
    DRIVER_LOST = "driver_lost"
    """The equipment does not answer any more."""
    DEVICE_FAULT = "device_fault"
    """The equipment says itself that it is faulty, or stands still."""


class OnLost(StrEnum):
    """What the channels do when their station's process is gone."""

    ZERO = "zero"
    CONTINUE = "continue"


class SetpointResult(StrEnum):
    """What became of the last setpoint that a channel decided on."""

    APPLIED = "applied"
    """It is done as it was sent."""
    CLAMPED = "clamped"
    """It is done as far as a local limit allows."""
    REJECTED = "rejected"
    """It is not done; `reason` says why."""
    EXPIRED = "expired"
    """Its lease ended: the channel ramps to 0 W, and stays ready."""


class SetpointReason(StrEnum):
    """Why a setpoint was rejected."""

    NOT_EQUALIZING = "not_equalizing"
    """The channel is not in equalization mode."""
    ALARM = "alarm"
    """The channel has an alarm."""
    STALE_BASIS = "stale_basis"
    """It rests on telemetry older than 15 s, or from before the station's start."""
    STALE_EPOCH = "stale_epoch"
    """An older server sent it."""
    EPOCH_CONFLICT = "epoch_conflict"
    """Two servers send under one epoch."""
    EPOCH_JUMP = "epoch_jump"
    """Its epoch is more than 1000 above the last: no honest server gets there."""


class ChannelAction(StrEnum):
    """What an operator may ask of a channel."""

    EQUALIZE = "equalize"
    STOP = "stop"
    START = "start"
    CLEAR_ALARM = "clear_alarm"


class LoopAction(StrEnum):
    """What an operator may ask of the equalizer."""

    PAUSE = "pause"
    RESUME = "resume"
    SET_TARGET = "set_target"


class ReplyResult(StrEnum):
    """Whether a command was taken."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class ReplyReason(StrEnum):
    """Why a command was rejected."""

    BATTERY_NOT_CONNECTED = "battery_not_connected"
    """There is no battery, or the equipment does not answer."""
    BUSY = "busy"
    """The channel runs something else: stop it first."""
    ALARM = "alarm"
    """The channel has an alarm: clear it first."""
    NOT_WORKING = "not_working"
    """There is nothing to stop."""
    NO_PROGRAM = "no_program"
    """The channel has no program, or the equipment plays its own only."""
    UNKNOWN_ACTION = "unknown_action"
    """There is no such action."""
    MALFORMED = "malformed"
    """The command breaks the contract."""
    NOT_ACTIVE = "not_active"
    """There is nothing to clear, or this server does not lead the loop."""


class Severity(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


class ControlSummary(Message):
    """The part of the equalizer's control settings that others may rely on."""

    policy: Policy
    delay_s: NonNegative


class SetpointSummary(Message):
    """How long setpoints live and how often they are renewed."""

    ttl_s: Positive
    refresh_s: Positive


class ServerAnnouncement(Message):
    """The well-known message: there is a server for this loop."""

    server: Name
    status: Presence
    epoch: Count
    phase: Phase
    version: str
    started_unix_time_s: float
    telemetry_period_s: Positive
    control: ControlSummary
    setpoint: SetpointSummary
    metrics_url: str | None = None
    dashboard_url: str | None = None
    heartbeat: Count | None = None
    """Counts up with every announcement of a server that others may stand by for; a higher one proves that it lives."""


def _null_is_continue(said: object) -> object:
    """An optional key may be null, and then says the same as if it were absent."""
    return OnLost.CONTINUE if said is None else said


class StationStatus(Message):
    """A station is there, or gone (its last will, or a clean stop)."""

    status: Presence
    boot_id: str
    version: str
    driver: str
    channels: tuple[Name, ...]
    on_lost: Annotated[OnLost, BeforeValidator(_null_is_continue)] = OnLost.CONTINUE
    unix_time_s: float


class Alarm(Message):
    """Why a channel protects itself, for programs and for people."""

    code: AlarmCode
    text: str


class SetpointEcho(Message):
    """The last setpoint that a channel decided on: the acknowledgement."""

    server: Name
    epoch: Count
    seq: Count
    result: SetpointResult
    reason: SetpointReason | None = None
    expires_in_s: float | None = None
    """Seconds until the lease ends; null where there is none."""


class Equalization(Message):
    """The state of a channel in equalization mode."""

    charge_limit_w: NonNegative
    """What the channel can take now, derated near the battery's limits."""
    discharge_limit_w: NonNegative
    """What the channel can give now, derated near the battery's limits."""
    ramp_w_per_s: Positive
    applied_w: float
    last: SetpointEcho | None = None


class ChannelTelemetry(Message):
    """What a channel measures and does."""

    boot_id: str
    seq: Count
    unix_time_s: float
    work_status: WorkStatus
    step_type: StepType
    step_id: Count
    cycle_count: Count
    voltage_v: float
    current_a: float
    power_w: float
    temperature_degc: float | None = None
    soc_ratio: float | None = None
    battery_connected: bool
    equalization: Equalization | None = None
    alarm: Alarm | None = None


class PlanSegment(Message):
    """Power from `after_s` on."""

    after_s: NonNegative
    power_w: float
    sigma_s: NonNegative | None = None
    """Standard deviation of the time at which this segment begins; null: exact."""


class ChannelPlan(Message):
    """What a channel's own program will do next, counted from sending."""

    boot_id: str
    seq: Count
    unix_time_s: float
    step_id: Count
    until_s: NonNegative
    segments: Annotated[tuple[PlanSegment, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_rising([segment.after_s for segment in self.segments])
        return self


class Basis(Message):
    """The telemetry that a decision saw last of a channel."""

    boot_id: str
    seq: Count


class SetpointStep(Message):
    """Power from `after_s` on, counted from receipt."""

    after_s: NonNegative
    power_w: float


class Setpoint(Message):
    """A short working condition simulation step for an equalization channel."""

    server: Name
    epoch: Count
    seq: Count
    basis: Basis
    ttl_s: Positive
    steps: Annotated[tuple[SetpointStep, ...], Field(min_length=1, max_length=64)]
    unix_time_s: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_rising([step.after_s for step in self.steps])
        return self


class ChannelCommand(Message):
    """What an operator asks of a channel. `action` stays text, so that an unknown one gets its reply."""

    id: Annotated[str, Field(min_length=1)]
    action: str
    by: str | None = None


class LoopCommand(Message):
    """What an operator asks of the equalizer. `action` stays text, so that an unknown one gets its reply."""

    id: Annotated[str, Field(min_length=1)]
    action: str
    target_power_w: float | None = None
    by: str | None = None


class Reply(Message):
    """The one answer to a command."""

    id: str
    action: str
    result: ReplyResult
    reason: ReplyReason | None = None
    text: str
    unix_time_s: float


class EnergyAccount(Message):
    """Energy exchanged with the grid since the account was opened, kept over restarts."""

    import_wh: NonNegative
    export_wh: NonNegative
    unbalanced_wh: NonNegative
    """What |total| would have been with the equalization channels at 0 W."""
    avoided_wh: float
    """`unbalanced_wh` less what was imported and exported."""


class LastDecision(Message):
    """When the equalizer last changed a setpoint, and why."""

    unix_time_s: float
    reason: str


class LoopBalance(Message):
    """The loop's power, once a second."""

    server: Name
    epoch: Count
    seq: Count
    unix_time_s: float
    phase: Phase
    total_power_w: float
    load_power_w: float
    equalization_power_w: float
    target_power_w: float
    charging_power_w: NonNegative
    discharging_power_w: Annotated[float, Field(le=0.0)]
    unknown_power_w: NonNegative
    shortfall_w: float
    meter_power_w: float | None = None
    stations_online: Count
    channels: Count
    channels_stale: Count
    equalization_channels: Count
    setpoint_changes: Count
    energy: EnergyAccount
    last_decision: LastDecision | None = None
    held_back: str | None = None
    """Why nothing is changed now although something is left over; null: nothing is held back."""
    engage_w: NonNegative | None = None
    """The hysteresis band in force: a correction begins above this …"""
    release_w: NonNegative | None = None
    """… and is worked until the rest is below this."""
    regret_ratio: NonNegative | None = None
    """What was left over in the last quarter of an hour by what the best possible controller leaves; null: unknown."""
    residual_wh: dict[str, NonNegative] | None = None
    """Energy left over since the server's start, by cause; together they are the whole."""


class MeterReading(Message):
    """The power at the grid's connection: positive, the hall draws."""

    unix_time_s: float
    power_w: float


class Event(Message):
    """Something happened that a person may want to know."""

    unix_time_s: float
    source: str
    severity: Severity
    code: str
    text: str


PAYLOADS: dict[str, type[Message]] = {
    model.__name__: model
    for model in (
        ServerAnnouncement,
        StationStatus,
        ChannelTelemetry,
        ChannelPlan,
        Setpoint,
        ChannelCommand,
        LoopCommand,
        Reply,
        LoopBalance,
        MeterReading,
        Event,
    )
}
"""The messages that stand alone on a topic, by name."""


def _check_rising(after_s: list[float]) -> None:
    if after_s[0] != 0.0:
        raise ValueError("the first after_s must be 0.0")
    if any(later <= earlier for earlier, later in pairwise(after_s)):
        raise ValueError("after_s must rise")
