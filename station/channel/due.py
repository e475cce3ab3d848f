"""What a move from one state to the next asks of the shell."""

from schemas.messages import Reply
from station.channel.outcome import QUIET, ChannelEvent, Decision, Outputs
from station.channel.state import ChannelState
from station.channel.states import Life

ANNOUNCE = Outputs(telemetry_due_now=True)
PLAN = Outputs(plan_due=True)
PLAN_AND_ANNOUNCE = Outputs(plan_due=True, telemetry_due_now=True)


def plan_is_due(state: ChannelState, now_s: float) -> bool:
    """Tell whether the last plan is used up or overtaken; a channel in equalization mode has none."""
    return now_s >= state.plan_at_s and state.life is not Life.EQUALIZING


def flags(state: ChannelState, now_s: float) -> Outputs:
    """Return what is due where nothing else has happened."""
    if plan_is_due(state, now_s):
        return PLAN_AND_ANNOUNCE if state.announce else PLAN
    return ANNOUNCE if state.announce else QUIET


def outputs(
    before: ChannelState,
    after: ChannelState,
    now_s: float,
    *,
    reply: Reply | None = None,
    decision: Decision | None = None,
    clear_fault: bool = False,
    events: tuple[ChannelEvent, ...] = (),
) -> Outputs:
    """Return all that has to be done after a move."""
    return Outputs(
        remember=after.remembered if after.remembered != before.remembered else None,
        clear_fault=clear_fault,
        off_now=after.life is Life.PROTECT and before.life is not Life.PROTECT,
        plan_due=plan_is_due(after, now_s),
        telemetry_due_now=after.announce,
        reply=reply,
        decision=decision,
        events=events,
    )
