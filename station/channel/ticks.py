"""One tick of a channel: a sample in, the next demand out."""

from math import isfinite

from schemas.messages import Alarm, AlarmCode, SetpointResult, Severity, Values, WorkStatus
from schemas.values import replace
from station.channel import moves
from station.channel.commands import begin_pending
from station.channel.due import flags, outputs
from station.channel.lease import Echo, target_w
from station.channel.limits import approach, clamp, derate
from station.channel.outcome import ChannelEvent, DeviceTrouble, DriverTrouble, Outputs, TransientTrouble
from station.channel.program import advance, demand
from station.channel.state import ChannelState, Pending
from station.channel.states import ACTIVE, Life
from station.channel.stuck import STUCK_S, stuck_since_s
from station.drivers.protocol import ConstantPower, Sample

DRIVER_LOST_S = 3.0
"""A bus that stumbles is back within this time."""
DRIVER_START_S = 30.0
"""Equipment that is switched on together with the station answers within this time."""

Events = tuple[ChannelEvent, ...]


def tick(state: ChannelState, measured: Sample | DriverTrouble, now_s: float) -> tuple[ChannelState, Outputs]:
    """Take one sample (or the lack of one) and decide what the driver is to do next (`state.demand`)."""
    match measured:
        case TransientTrouble(text):
            return _without_sample(state, text, now_s)
        case DeviceTrouble(text):
            return _tripped(state, Alarm(code=AlarmCode.DEVICE_FAULT, text=text), now_s)
        case Sample():
            nonsense = _nonsense(measured)
            if nonsense is not None:
                return _tripped(state, Alarm(code=AlarmCode.DEVICE_FAULT, text=nonsense), now_s)
            return _with_sample(state, measured, now_s)


def _with_sample(state: ChannelState, sample: Sample, now_s: float) -> tuple[ChannelState, Outputs]:
    cause = _cause_to_trip(state, sample)
    if cause is not None:
        return _tripped(replace(state, sample=sample, sampled_s=now_s, trouble_since_s=None), cause, now_s)
    match state.life:
        case Life.PROGRAM if state.run is not None:
            return _program(state, sample, now_s)
        case Life.PROGRAM:
            return _own_program(state, sample, now_s)
        case Life.EQUALIZING | Life.STOPPING:
            return _followed(state, sample, now_s)
        case Life.IDLE | Life.FINISHED | Life.STOPPED | Life.PROTECT:
            after = replace(state, sample=sample, sampled_s=now_s, ticked_s=now_s, trouble_since_s=None)
            return (after, flags(after, now_s)) if after.pending is Pending.NOTHING else _begin(after, now_s)


def _begin(state: ChannelState, now_s: float) -> tuple[ChannelState, Outputs]:
    after, refusal = begin_pending(state, now_s)
    if refusal is None:
        return after, outputs(state, after, now_s)
    text = f"does not {state.pending.value} by itself: {refusal.text}"
    event = ChannelEvent(Severity.WARNING, f"{state.pending.value}_refused", text, {"reason": refusal.reason.value})
    return after, outputs(state, after, now_s, events=(event,))


def _program(state: ChannelState, sample: Sample, now_s: float) -> tuple[ChannelState, Outputs]:
    program, before = state.setup.program, state.run
    assert before is not None  # noqa: S101 - `_with_sample` has looked
    run = advance(program, before, sample, now_s - state.sampled_s, now_s)
    if run is None:
        return _finished(state, sample, now_s)
    step_changed = run.place is not before.place
    after = replace(
        state,
        sample=sample,
        sampled_s=now_s,
        ticked_s=now_s,
        trouble_since_s=None,
        run=run,
        demand=demand(program, run, sample.voltage_v, now_s),
        announce=state.announce or step_changed,
        plan_at_s=now_s if step_changed else state.plan_at_s,
    )
    return after, flags(after, now_s)


def _own_program(state: ChannelState, sample: Sample, now_s: float) -> tuple[ChannelState, Outputs]:
    if sample.own_step is not None and sample.own_step.work_status is WorkStatus.FINISHED:
        return _finished(state, sample, now_s)
    step_changed = state.sample is None or sample.own_step != state.sample.own_step
    after = replace(
        state,
        sample=sample,
        sampled_s=now_s,
        ticked_s=now_s,
        trouble_since_s=None,
        announce=state.announce or step_changed,
        plan_at_s=now_s if step_changed else state.plan_at_s,
    )
    return after, flags(after, now_s)


def _finished(state: ChannelState, sample: Sample, now_s: float) -> tuple[ChannelState, Outputs]:
    measured = replace(state, sample=sample, sampled_s=now_s, ticked_s=now_s, trouble_since_s=None)
    after = moves.finish(measured, now_s)
    event = ChannelEvent(Severity.INFO, "program_finished", "the program has run to its end", {})
    return after, outputs(state, after, now_s, events=(event,))


def _followed(state: ChannelState, sample: Sample, now_s: float) -> tuple[ChannelState, Outputs]:
    """Ramp on, unless a sensor is stuck."""
    setup = state.setup
    rating_w = max(setup.charge_limit_w, setup.discharge_limit_w)
    since_s = stuck_since_s(state.stuck_since_s, state.sample, sample, state.demand, rating_w=rating_w, now_s=now_s)
    if since_s != state.stuck_since_s:
        state = replace(state, stuck_since_s=since_s)
    if since_s is None or now_s - since_s < STUCK_S:
        return _ramp(state, sample, now_s)
    text = f"the readings have not moved for {STUCK_S:g} s ({sample.power_w:.0f} W) although other power is asked for"
    values: Values = {"stuck_s": STUCK_S, "power_w": round(sample.power_w)}
    alarm = Alarm(code=AlarmCode.DEVICE_FAULT, text=text, values=values)
    return _tripped(replace(state, sample=sample, sampled_s=now_s, trouble_since_s=None), alarm, now_s)


def _ramp(state: ChannelState, sample: Sample | None, now_s: float) -> tuple[ChannelState, Outputs]:
    """Follow the lease, or the way to 0 W; without a new sample (null) within the limits of the last."""
    setup, lease, echo = state.setup, state.lease, state.echo
    events: Events = ()
    limits = derate(setup.charge_limit_w, setup.discharge_limit_w, state.sample if sample is None else sample)
    if lease is not None and now_s >= lease.expires_s:
        echo = Echo(lease.server, lease.epoch, lease.seq, SetpointResult.EXPIRED)
        events = expired(lease.server)
        lease = None
    target = target_w(lease, now_s)
    if lease is not None and echo is not None and echo.result is SetpointResult.APPLIED:
        # The limits may fall while the lease runs.
        echo = echo if clamp(target, limits) == target else replace(echo, result=SetpointResult.CLAMPED)
    applied_w = approach(state.applied_w, target, limits, setup.ramp_w_per_s, now_s - state.ticked_s)
    after = replace(
        state,
        sample=state.sample if sample is None else sample,
        sampled_s=state.sampled_s if sample is None else now_s,
        trouble_since_s=state.trouble_since_s if sample is None else None,
        ticked_s=now_s,
        lease=lease,
        echo=echo,
        lapsed=state.lapsed or bool(events),
        applied_w=applied_w,
        demand=state.demand if _asks(state, applied_w) else ConstantPower(applied_w),
    )
    if state.life is Life.STOPPING and applied_w == 0.0:
        after = moves.come_to_rest(after, now_s)
    return after, outputs(state, after, now_s, events=events) if events else flags(after, now_s)


def _asks(state: ChannelState, power_w: float) -> bool:
    return isinstance(state.demand, ConstantPower) and state.demand.power_w == power_w


def expired(server: str) -> Events:
    """Return what is told at the end of a lease."""
    text = f"no setpoint of {server!r} came in time: the channel ramps to 0 W and waits for the next"
    return (ChannelEvent(Severity.WARNING, "lease_expired", text, {"server": server}),)


def _without_sample(state: ChannelState, text: str, now_s: float) -> tuple[ChannelState, Outputs]:
    since_s = state.trouble_since_s if state.trouble_since_s is not None else now_s
    patience_s = DRIVER_START_S if state.sample is None else DRIVER_LOST_S
    after = replace(state, trouble_since_s=since_s)
    if now_s - since_s >= patience_s:
        return _tripped(after, Alarm(code=AlarmCode.DRIVER_LOST, text=text), now_s)
    if state.life in (Life.EQUALIZING, Life.STOPPING):
        # The clock of lease and ramp runs on: what was said last must not stand for longer than it may.
        return _ramp(after, None, now_s)
    after = replace(after, ticked_s=now_s)
    return after, flags(after, now_s)


def _tripped(state: ChannelState, alarm: Alarm, now_s: float) -> tuple[ChannelState, Outputs]:
    if state.life is Life.PROTECT:
        after = replace(state, ticked_s=now_s)
        if state.sample is None and state.alarm is not None and state.alarm.code is not alarm.code:
            # It was remembered, and nothing has been measured since that could be told together with it.
            after = replace(after, alarm=alarm, announce=True)
        return after, flags(after, now_s)
    after = replace(moves.trip(state, alarm, now_s), ticked_s=now_s)
    event = ChannelEvent(Severity.ALARM, alarm.code.value, alarm.text, alarm.values)
    return after, outputs(state, after, now_s, events=(event,))


def _cause_to_trip(state: ChannelState, sample: Sample) -> Alarm | None:
    active = state.life in ACTIVE
    if sample.fault is not None and (active or sample.fault.code is not AlarmCode.BATTERY_DISCONNECTED):
        return sample.fault
    if active and not sample.battery_connected:
        text = "the battery went missing while the channel worked"
        return Alarm(code=AlarmCode.BATTERY_DISCONNECTED, text=text, values={})
    return None


def _nonsense(sample: Sample) -> str | None:
    total = sample.voltage_v + sample.current_a + sample.power_w + sample.charge_limit_w + sample.discharge_limit_w
    if isfinite(total + (sample.temperature_degc or 0.0) + (sample.soc_ratio or 0.0)):
        return None
    return f"a reading is no finite number: {sample.voltage_v} V, {sample.current_a} A, {sample.power_w} W"
