"""What an operator may ask of a channel, and the one reply to it."""

from dataclasses import dataclass

from schemas.messages import ChannelAction, ChannelCommand, Reply, ReplyReason, ReplyResult, Severity, Values
from schemas.values import replace
from station.channel import moves
from station.channel.due import outputs
from station.channel.outcome import ChannelEvent, Outputs
from station.channel.state import ChannelState, Pending
from station.channel.states import ACTIVE, Life

REPLIES_KEPT = 256
LONGEST_SIGNATURE = 64
"""Of `by` in an Event: whoever signs at length must not make it too long to be sent."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command is not carried out, for programs and for people."""

    reason: ReplyReason
    text: str


def on_command(
    state: ChannelState, command: ChannelCommand, now_s: float, unix_time_s: float
) -> tuple[ChannelState, Outputs]:
    """Do what an operator asks, once; `reply` of the outputs is never null.

    The same id again gets the same reply, time label included, and nothing is done.
    """
    known = next((reply for reply in state.replies if reply.id == command.id), None)
    if known is not None:
        return state, Outputs(reply=known)
    after, result = _carried_out(state, command.action, now_s)
    if isinstance(result, Refusal):
        reply = rejection(command.id, command.action, result, unix_time_s)
    else:
        accepted = ReplyResult.ACCEPTED
        reply = Reply(id=command.id, action=command.action, result=accepted, text=result, unix_time_s=unix_time_s)
    events: tuple[ChannelEvent, ...] = ()
    if after is not state:
        by = "" if command.by is None else f" (by {command.by[:LONGEST_SIGNATURE]})"
        values: Values = {} if command.by is None else {"by": command.by[:LONGEST_SIGNATURE]}
        events = (ChannelEvent(Severity.INFO, f"command_{command.action}", f"{reply.text}{by}", values),)
    after = _remembering(after, reply)
    cleared = state.alarm is not None and after.alarm is None
    return after, outputs(state, after, now_s, reply=reply, clear_fault=cleared, events=events)


def on_malformed_command(
    state: ChannelState, command_id: str, action: str, text: str, unix_time_s: float
) -> tuple[ChannelState, Outputs]:
    """Answer a command that could not be parsed but whose id could be read; the same id again gets the same reply."""
    known = next((reply for reply in state.replies if reply.id == command_id), None)
    if known is not None:
        return state, Outputs(reply=known)
    reply = rejection(command_id, action, Refusal(ReplyReason.MALFORMED, text), unix_time_s)
    return _remembering(state, reply), Outputs(reply=reply)


def rejection(command_id: str, action: str, refusal: Refusal, unix_time_s: float) -> Reply:
    """Return the reply to a command that is not carried out."""
    return Reply(
        id=command_id,
        action=action,
        result=ReplyResult.REJECTED,
        reason=refusal.reason,
        text=refusal.text,
        unix_time_s=unix_time_s,
    )


def _remembering(state: ChannelState, reply: Reply) -> ChannelState:
    return replace(state, replies=(*state.replies[-REPLIES_KEPT + 1 :], reply))


def wind_down(state: ChannelState, now_s: float) -> tuple[ChannelState, Outputs]:
    """Stop because the station ends: nobody asked, so nobody is answered."""
    after, _ = _stopped(state, now_s)
    return after, outputs(state, after, now_s)


def begin_pending(state: ChannelState, now_s: float) -> tuple[ChannelState, Refusal | None]:
    """Do what a channel does by itself at its first sample; where that cannot be, say why and leave it at that."""
    action = ChannelAction.EQUALIZE if state.pending is Pending.EQUALIZE else ChannelAction.START
    after, result = _carried_out(replace(state, pending=Pending.NOTHING), action, now_s)
    if isinstance(result, str):
        return after, None
    return replace(after, remembered=replace(after.remembered, equalizing=False)), result


def _carried_out(state: ChannelState, action: str, now_s: float) -> tuple[ChannelState, str | Refusal]:
    match action:
        case ChannelAction.EQUALIZE:
            return _equalized(state, now_s)
        case ChannelAction.START:
            return _started(state, now_s)
        case ChannelAction.STOP:
            return _stopped(state, now_s)
        case ChannelAction.CLEAR_ALARM:
            return _cleared(state, now_s)
        case _:
            allowed = ", ".join(ChannelAction)
            return state, Refusal(ReplyReason.UNKNOWN_ACTION, f"{action[:64]!r} is no action; there are {allowed}")


def _equalized(state: ChannelState, now_s: float) -> tuple[ChannelState, str | Refusal]:
    if state.life is Life.EQUALIZING:
        return state, "is in equalization mode already"
    refusal = _against_equalizing(state) or _against_battery(state)
    return (state, refusal) if refusal else (moves.equalize(state, now_s), "is in equalization mode, at 0 W")


def _started(state: ChannelState, now_s: float) -> tuple[ChannelState, str | Refusal]:
    refusal = _against_starting(state) or _against_battery(state)
    return (state, refusal) if refusal else (moves.start(state, now_s), "the program is started")


def _cleared(state: ChannelState, now_s: float) -> tuple[ChannelState, str | Refusal]:
    if state.alarm is None:
        return state, Refusal(ReplyReason.NOT_ACTIVE, "there is no alarm to clear")
    return moves.clear_alarm(state, now_s), f"the alarm {state.alarm.code} is cleared"


def _stopped(state: ChannelState, now_s: float) -> tuple[ChannelState, str | Refusal]:
    if state.life is Life.STOPPING:
        return state, "is on its way to 0 W already"
    if state.life in ACTIVE:
        return moves.stop(state, now_s), "ramps to 0 W, and ends its step"
    if state.pending is not Pending.NOTHING:
        forgotten = replace(state.remembered, equalizing=False)
        return replace(state, pending=Pending.NOTHING, remembered=forgotten), "will not start by itself"
    return state, Refusal(ReplyReason.NOT_WORKING, f"the channel is {state.life}: there is nothing to stop")


def _against_equalizing(state: ChannelState) -> Refusal | None:
    if state.alarm is not None:
        return Refusal(ReplyReason.ALARM, f"clear the alarm {state.alarm.code} first")
    if state.life in ACTIVE:
        return Refusal(ReplyReason.BUSY, "the channel runs another program; stop it first")
    if state.setup.own_program:
        text = "the equipment plays its own program only, and has no working condition simulation step to be led in"
        return Refusal(ReplyReason.NO_PROGRAM, text)
    return None


def _against_starting(state: ChannelState) -> Refusal | None:
    if state.alarm is not None:
        return Refusal(ReplyReason.ALARM, f"clear the alarm {state.alarm.code} first")
    if state.life in ACTIVE:
        what = "equalization mode" if state.life is Life.EQUALIZING else "a program"
        return Refusal(ReplyReason.BUSY, f"the channel is in {what}; stop it first")
    if not state.setup.own_program and not state.setup.program.instructions:
        return Refusal(ReplyReason.NO_PROGRAM, "no program is configured for the channel")
    return None


def _against_battery(state: ChannelState) -> Refusal | None:
    if state.sample is None or state.trouble_since_s is not None:
        return Refusal(ReplyReason.BATTERY_NOT_CONNECTED, "the equipment does not answer: no battery is known of")
    if not state.sample.battery_connected:
        return Refusal(ReplyReason.BATTERY_NOT_CONNECTED, "no battery is connected")
    return None
