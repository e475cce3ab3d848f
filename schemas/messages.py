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
Values = dict[str, str | int | float]
"""What a text says beyond its code, by name and with the unit in it, for who words it in another language."""


class Message(BaseModel):
    """A payload, or a part of one. Unknown keys are ignored, so that the contract can grow."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Presence(StrEnum):
    """Whether a process is there."""

    ONLINE = "online"
    """It is there."""
    OFFLINE = "offline"
    """It is gone: said by itself, or by its last will."""


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
    """An unannounced imbalance must stand for `delay_s` before it is met."""
    DWELL = "dwell"
    """An imbalance is met at once; then the channel is left alone for `delay_s`."""


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
    """No power, for a time."""
    CC_CHG = "cc_chg"
    """Charges at a constant current."""
    CC_DCHG = "cc_dchg"
    """Discharges at a constant current."""
    CV_CHG = "cv_chg"
    """Charges at a constant voltage."""
    CCCV_CHG = "cccv_chg"
    """Charges at a constant current, and at its end voltage with a falling one."""
    CP_CHG = "cp_chg"
    """Charges at a constant power."""
    CP_DCHG = "cp_dchg"
    """Discharges at a constant power."""
    SIM = "sim"
    """Working condition simulation: power by a profile, or by setpoints."""
    NONE = "none"
    """No step."""


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
    """They go to 0 W: an `offline` station counts as 0 W."""
    CONTINUE = "continue"
    """They may go on: their last power counts, as unknown."""


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
    """Enter equalization mode, at 0 W."""
    STOP = "stop"
    """Ramp to 0 W, end the step, leave equalization mode."""
    START = "start"
    """Run the channel's configured program."""
    CLEAR_ALARM = "clear_alarm"
    """Forget the alarm, once its cause is gone."""


class LoopAction(StrEnum):
    """What an operator may ask of the equalizer."""

    PAUSE = "pause"
    """Bring all equalization channels to 0 W, then send nothing."""
    RESUME = "resume"
    """Balance again."""
    SET_TARGET = "set_target"
    """Steer the total to `target_power_w`."""


class ReplyResult(StrEnum):
    """Whether a command was taken."""

    ACCEPTED = "accepted"
    """It is done, or begun."""
    REJECTED = "rejected"
    """It is not done; `reason` says why."""


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
    """There is nothing to clear, there is no such channel, or this server does not lead the loop."""


class Severity(StrEnum):
    """How much an event matters."""

    INFO = "info"
    """For the record."""
    WARNING = "warning"
    """Somebody should look at it today."""
    ALARM = "alarm"
    """Somebody should look at it now."""


class ControlSummary(Message):
    """The part of the equalizer's control settings that others may rely on."""

    policy: Policy
    """How the delay is spent."""
    delay_s: NonNegative
    """Seconds against shaking: an unannounced imbalance stands so long, or a change of power holds so long."""


class SetpointSummary(Message):
    """How long setpoints live and how often they are renewed."""

    ttl_s: Positive
    """Seconds for which a setpoint holds; a station grants 60 s at most."""
    refresh_s: Positive
    """Seconds after which the same powers are sent again."""


class ServerAnnouncement(Message):
    """The well-known message: there is a server for this loop."""

    server: Name
    """The server's name; two on one loop have different ones."""
    status: Presence
    """`online`, or `offline` (the will, and a clean stop)."""
    epoch: Count
    """Rises whenever a server takes charge; stations obey the highest."""
    phase: Phase
    """What the server does."""
    version: str
    """Of its program."""
    started_unix_time_s: float
    """When its process started, UTC seconds; tells two runs apart."""
    telemetry_period_s: Positive
    """Seconds between two telemetry messages of a channel, as the server expects them."""
    control: ControlSummary
    """The settings of its control that others may rely on."""
    setpoint: SetpointSummary
    """How its setpoints live."""
    metrics_url: str | None = None
    """Where Prometheus reads its metrics; null: nowhere."""
    dashboard_url: str | None = None
    """Where its page is; null: none is known."""
    heartbeat: Count | None = None
    """Counts up with every announcement of a server that others may stand by for; a higher one proves that it lives."""


def _null_is_continue(said: object) -> object:
    """An optional key may be null, and then says the same as if it were absent."""
    return OnLost.CONTINUE if said is None else said


class StationStatus(Message):
    """A station is there, or gone (its last will, or a clean stop)."""

    status: Presence
    """`online`, or `offline` (the will, and a clean stop)."""
    boot_id: str
    """New at every start of the station's process; the will carries it too."""
    version: str
    """Of its program."""
    driver: str
    """The kind of equipment."""
    channels: tuple[Name, ...]
    """All its channels, by name."""
    on_lost: Annotated[OnLost, BeforeValidator(_null_is_continue)] = OnLost.CONTINUE
    """What the channels do when this process is gone; null or absent: `continue`."""
    unix_time_s: float
    """When it was said, UTC seconds; a label."""


class Alarm(Message):
    """Why a channel protects itself, for programs and for people."""

    code: AlarmCode
    """Why, for programs."""
    text: str
    """Why, for people: what was measured, and what is allowed."""
    values: Values | None = None
    """What the text says beyond the code, by name: `value_v`, `limit_v`; null: only the text says it."""


class SetpointEcho(Message):
    """The last setpoint that a channel decided on: the acknowledgement."""

    server: Name
    """Who sent it."""
    epoch: Count
    """Under which epoch."""
    seq: Count
    """Its number in that epoch."""
    result: SetpointResult
    """What became of it."""
    reason: SetpointReason | None = None
    """Why it was rejected; null: it was not."""
    expires_in_s: float | None = None
    """Seconds until the lease ends; null where there is none."""


class Equalization(Message):
    """The state of a channel in equalization mode."""

    charge_limit_w: NonNegative
    """What the channel can take now, derated near the battery's limits."""
    discharge_limit_w: NonNegative
    """What the channel can give now, derated near the battery's limits."""
    ramp_w_per_s: Positive
    """How fast its power can change, W per second."""
    applied_w: float
    """What it is set to now, W; positive charges."""
    last: SetpointEcho | None = None
    """The last setpoint that it decided on; null: none yet."""


class ChannelTelemetry(Message):
    """What a channel measures and does."""

    boot_id: str
    """The station's run that says it."""
    seq: Count
    """Counts up by one per channel and message within a boot."""
    unix_time_s: float
    """When it was measured, UTC seconds; a label."""
    work_status: WorkStatus
    """What the channel is at."""
    step_type: StepType
    """The working step; `sim` in equalization mode."""
    step_id: Count
    """The step in its program, from 1; 0: outside a program."""
    cycle_count: Count
    """The cycle of its program, from 1; 0: outside a program."""
    voltage_v: float
    """The battery's voltage, V."""
    current_a: float
    """Current, A; positive charges."""
    power_w: float
    """Power, W; positive charges, and draws from the loop."""
    temperature_degc: float | None = None
    """The battery's temperature, °C; null: not measured."""
    soc_ratio: float | None = None
    """The battery's charge, 0 to 1; null: not known."""
    battery_connected: bool
    """Whether there is a battery."""
    equalization: Equalization | None = None
    """Its state in equalization mode; null: it is not in that mode."""
    alarm: Alarm | None = None
    """Why it protects itself; null: it does not."""


class PlanSegment(Message):
    """Power from `after_s` on."""

    after_s: NonNegative
    """Seconds from sending at which it begins."""
    power_w: float
    """Power from then on, W; positive charges."""
    sigma_s: NonNegative | None = None
    """Standard deviation of the time at which this segment begins; null: exact."""


class ChannelPlan(Message):
    """What a channel's own program will do next, counted from sending."""

    boot_id: str
    """The station's run that says it."""
    seq: Count
    """Counts up by one per channel and plan within a boot."""
    unix_time_s: float
    """When it was said, UTC seconds; a label."""
    step_id: Count
    """The step that runs now, from 1."""
    until_s: NonNegative
    """Seconds from sending at which knowledge ends."""
    segments: Annotated[tuple[PlanSegment, ...], Field(min_length=1)]
    """What comes, in order; the first begins at 0.0 s."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_rising([segment.after_s for segment in self.segments])
        return self


class Basis(Message):
    """The telemetry that a decision saw last of a channel."""

    boot_id: str
    """The station's run that sent it."""
    seq: Count
    """Its number."""


class SetpointStep(Message):
    """Power from `after_s` on, counted from receipt."""

    after_s: NonNegative
    """Seconds from receipt at which it begins."""
    power_w: float
    """Power from then on, W; positive charges."""


class Setpoint(Message):
    """A short working condition simulation step for an equalization channel."""

    server: Name
    """Who sends it."""
    epoch: Count
    """Under which epoch; a station refuses one below the highest that it knows."""
    seq: Count
    """Rises per channel within an epoch."""
    basis: Basis
    """The channel's newest telemetry that the decision saw; it proves freshness."""
    ttl_s: Positive
    """Seconds for which it holds, from the moment that the basis was sent; 60 at most."""
    steps: Annotated[tuple[SetpointStep, ...], Field(min_length=1, max_length=64)]
    """1 to 64 steps in order; the first begins at 0.0 s, the last holds to the end."""
    unix_time_s: float
    """When it was sent, UTC seconds; a label."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_rising([step.after_s for step in self.steps])
        return self


class ChannelCommand(Message):
    """What an operator asks of a channel. `action` stays text, so that an unknown one gets its reply."""

    id: Annotated[str, Field(min_length=1)]
    """Names the command; the same one again gets the same reply and does nothing twice."""
    action: str
    """`equalize`, `stop`, `start` or `clear_alarm`."""
    by: str | None = None
    """Who asks; null: not said."""


class LoopCommand(Message):
    """What an operator asks of the equalizer. `action` stays text, so that an unknown one gets its reply."""

    id: Annotated[str, Field(min_length=1)]
    """Names the command; the same one again gets the same reply and does nothing twice."""
    action: str
    """`pause`, `resume` or `set_target`."""
    target_power_w: float | None = None
    """What the total is to be, W; positive draws from the grid. For `set_target` only."""
    by: str | None = None
    """Who asks; null: not said."""


class Reply(Message):
    """The one answer to a command."""

    id: str
    """The command's."""
    action: str
    """The command's."""
    result: ReplyResult
    """Whether it was taken."""
    reason: ReplyReason | None = None
    """Why it was rejected; null: it was not."""
    text: str
    """The same for people, in English."""
    unix_time_s: float
    """When it was answered, UTC seconds; a label."""


class EnergyAccount(Message):
    """Energy exchanged with the grid since the account was opened, kept over restarts."""

    import_wh: NonNegative
    """Drawn from the grid, Wh."""
    export_wh: NonNegative
    """Fed into the grid, Wh."""
    unbalanced_wh: NonNegative
    """What |total| would have been with the equalization channels at 0 W."""
    avoided_wh: float
    """`unbalanced_wh` less what was imported and exported."""


class LastDecision(Message):
    """When the equalizer last changed a setpoint, and why."""

    unix_time_s: float
    """When, UTC seconds; a label."""
    reason: str
    """Why, one of the words for a setpoint that was sent."""


class LoopBalance(Message):
    """The loop's power, once a second."""

    server: Name
    """Who says it."""
    epoch: Count
    """Under which epoch."""
    seq: Count
    """Counts up by one per message."""
    unix_time_s: float
    """When it was said, UTC seconds; a label."""
    phase: Phase
    """What the server does."""
    total_power_w: float
    """Sum over all channels, W; positive draws from the grid."""
    load_power_w: float
    """Of it, the test channels, W: what the total would be without balancing."""
    equalization_power_w: float
    """Of it, the equalization channels, W; positive charges."""
    target_power_w: float
    """What the total is steered to, W."""
    charging_power_w: NonNegative
    """Sum over the channels that charge, W."""
    discharging_power_w: Annotated[float, Field(le=0.0)]
    """Sum over the channels that discharge, W, 0 or less."""
    unknown_power_w: NonNegative
    """Magnitude of what stale channels said last, W; it counts in the total."""
    shortfall_w: float
    """What the equalization channels lack of what is asked of them, W; positive: they would have to charge more."""
    meter_power_w: float | None = None
    """The grid meter's power, W; positive draws; null: there is none, or it is silent."""
    stations_online: Count
    """Stations that are online."""
    channels: Count
    """Channels that are known."""
    channels_stale: Count
    """Of them, those silent for more than three periods."""
    equalization_channels: Count
    """Of them, those in equalization mode."""
    setpoint_changes: Count
    """Changes of power sent so far; the same power again is none."""
    energy: EnergyAccount
    """What was exchanged with the grid, and what balancing has spared."""
    last_decision: LastDecision | None = None
    """The last setpoint sent, and why; null: none yet."""
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
    """When it was measured, UTC seconds; a label."""
    power_w: float
    """Power, W; positive: the hall draws from the grid."""


class Event(Message):
    """Something happened that a person may want to know."""

    unix_time_s: float
    """When it happened, UTC seconds; a label."""
    source: str
    """Where: `server/{server}`, `station/{station}` or `station/{station}/channel/{channel}`."""
    severity: Severity
    """How much it matters."""
    code: str
    """What, for programs, in snake case."""
    text: str
    """What, for people, in English."""
    values: Values | None = None
    """What the text says beyond the code, by name: `server`, `epoch`, `gap_s`; null: only the text says it."""


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
