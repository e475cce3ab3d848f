"""A setpoint's way into the channel."""

from schemas.messages import Setpoint, SetpointReason, SetpointResult, Severity, Values
from schemas.values import replace
from station.channel.due import outputs
from station.channel.lease import Echo, Fence, Lease, decide, same_powers
from station.channel.limits import clamp, derate
from station.channel.outcome import QUIET, Accepted, ChannelEvent, Duplicate, Outputs, Refused
from station.channel.state import ChannelState
from station.channel.ticks import expired

COMPLAIN_EVERY_S = 10.0
"""A server that does not listen would fill the log."""

_WORTH_AN_EVENT = {
    SetpointReason.NOT_EQUALIZING: Severity.WARNING,
    SetpointReason.ALARM: Severity.WARNING,
    SetpointReason.EPOCH_JUMP: Severity.WARNING,
    SetpointReason.EPOCH_CONFLICT: Severity.ALARM,
}


def on_setpoint(state: ChannelState, setpoint: Setpoint, now_s: float) -> tuple[ChannelState, Outputs]:
    """Decide on a setpoint that the link has parsed. It takes effect at the next tick."""
    verdict = decide(
        setpoint,
        alarm=state.alarm is not None,
        equalizing=state.equalizing,
        boot_id=state.setup.boot_id,
        sent=state.sent,
        fence=state.fence,
        now_s=now_s,
    )
    match verdict:
        case Duplicate():
            return state, outputs(state, state, now_s, decision=verdict)
        case Refused(reason):
            return _refused(state, setpoint, reason, now_s)
        case Lease():
            return _accepted(state, verdict, now_s)


def heed_epoch(state: ChannelState, epoch: int, server: str, now_s: float) -> tuple[ChannelState, Outputs]:
    """Take over an epoch that another channel of the station has accepted: the server before it leads none any more.

    A lease that it has granted runs out by itself.
    """
    if state.fence.epoch is not None and epoch <= state.fence.epoch:
        return state, QUIET
    remembered = replace(state.remembered, epoch=epoch, server=server)
    after = replace(state, fence=Fence(epoch, server), remembered=remembered)
    return after, outputs(state, after, now_s)


def _refused(
    state: ChannelState, setpoint: Setpoint, reason: SetpointReason, now_s: float
) -> tuple[ChannelState, Outputs]:
    after = state
    if state.equalizing:
        echo = Echo(setpoint.server, setpoint.epoch, setpoint.seq, SetpointResult.REJECTED, reason)
        after = replace(after, echo=echo)
    events: tuple[ChannelEvent, ...] = ()
    severity = _WORTH_AN_EVENT.get(reason)
    told = state.complained is not None and state.complained[0] is reason
    if severity is not None and not (told and now_s - _complained_s(state) < COMPLAIN_EVERY_S):
        after = replace(after, complained=(reason, now_s))
        sender = f"{setpoint.server!r}, epoch {setpoint.epoch}"
        text = f"a setpoint of {sender}, was rejected: {reason}"
        values: Values = {"server": setpoint.server, "epoch": setpoint.epoch}
        events = (ChannelEvent(severity, f"setpoint_{reason}", text, values),)
    return after, outputs(state, after, now_s, decision=Refused(reason), events=events)


def _complained_s(state: ChannelState) -> float:
    return 0.0 if state.complained is None else state.complained[1]


def _accepted(state: ChannelState, lease: Lease, now_s: float) -> tuple[ChannelState, Outputs]:
    limits = derate(state.setup.charge_limit_w, state.setup.discharge_limit_w, state.sample)
    if now_s >= lease.expires_s:
        result = SetpointResult.EXPIRED
    elif any(clamp(power_w, limits) != power_w for _, power_w in lease.steps):
        result = SetpointResult.CLAMPED
    else:
        result = SetpointResult.APPLIED
    # The end of the lease before it may not have been seen yet: the process stood still, or this one is over, too.
    ends = state.lease is not None and (result is SetpointResult.EXPIRED or now_s >= state.lease.expires_s)
    lapsed = state.lapsed or ends
    remembered = state.remembered
    if lease.epoch != remembered.epoch or lease.server != remembered.server:
        remembered = replace(remembered, epoch=lease.epoch, server=lease.server)
    after = replace(
        state,
        fence=Fence(lease.epoch, lease.server, lease.seq),
        lease=None if result is SetpointResult.EXPIRED else lease,
        echo=Echo(lease.server, lease.epoch, lease.seq, result),
        lapsed=lapsed and result is SetpointResult.EXPIRED,
        remembered=remembered,
    )
    events = expired(state.lease.server) if ends and state.lease is not None else ()
    if lapsed and not after.lapsed:
        text = f"{lease.server!r} leads the channel again"
        events = (*events, ChannelEvent(Severity.INFO, "led_again", text, {"server": lease.server}))
    decision = Accepted(result, changed=not same_powers(state.lease, lease, now_s))
    return after, outputs(state, after, now_s, decision=decision, events=events)
