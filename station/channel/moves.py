"""The moves from one state to another, each with all that it brings with it."""

from schemas.messages import Alarm
from schemas.values import replace
from station.channel.outcome import Remembered
from station.channel.program import begin, demand
from station.channel.state import OFF, ChannelState, Pending
from station.channel.states import Life, Trigger, follow
from station.drivers.protocol import ConstantPower, Demand, Off, OwnProgram

HOLD = ConstantPower(0.0)
OWN_PROGRAM = OwnProgram()


def start(state: ChannelState, now_s: float) -> ChannelState:
    """Start the program, the configured one or the equipment's own."""
    run = None if state.setup.own_program else begin(now_s)
    voltage_v = state.sample.voltage_v if state.sample is not None else 0.0
    asked: Demand = OWN_PROGRAM if run is None else demand(state.setup.program, run, voltage_v, now_s)
    return replace(_moved(state, Trigger.START, now_s), run=run, demand=asked)


def equalize(state: ChannelState, now_s: float) -> ChannelState:
    """Enter equalization mode and hold 0 W until the first setpoint."""
    return replace(
        _moved(state, Trigger.EQUALIZE, now_s),
        demand=HOLD,
        applied_w=0.0,
        remembered=_remembering(state, equalizing=True),
    )


def stop(state: ChannelState, now_s: float) -> ChannelState:
    """Begin the ramp to 0 W, and forget the mode."""
    applied_w = state.applied_w
    if state.life is Life.PROGRAM:
        # The equipment's own program knows no demand between itself and off, a rest none to ramp from.
        flows = state.sample is not None and not isinstance(state.demand, Off | OwnProgram)
        applied_w = state.sample.power_w if flows and state.sample is not None else 0.0
    return replace(
        _moved(state, Trigger.STOP, now_s),
        demand=ConstantPower(applied_w) if applied_w else OFF,
        applied_w=applied_w,
        lease=None,
        echo=None,
        lapsed=False,
        stuck_since_s=None,
        remembered=_remembering(state, equalizing=False),
    )


def come_to_rest(state: ChannelState, now_s: float) -> ChannelState:
    """End the ramp of a stop."""
    return replace(_moved(state, Trigger.AT_REST, now_s), demand=OFF, applied_w=0.0, run=None)


def finish(state: ChannelState, now_s: float) -> ChannelState:
    """End a program that has run to its end."""
    return replace(_moved(state, Trigger.PROGRAM_ENDED, now_s), demand=OFF, run=None)


def trip(state: ChannelState, alarm: Alarm, now_s: float) -> ChannelState:
    """Switch off at once, and stay off until the alarm is cleared."""
    return replace(
        _moved(state, Trigger.TRIP, now_s),
        demand=OFF,
        alarm=alarm,
        applied_w=0.0,
        run=None,
        lease=None,
        echo=None,
        lapsed=False,
        stuck_since_s=None,
        remembered=replace(state.remembered, equalizing=False, alarm=alarm),
    )


def clear_alarm(state: ChannelState, now_s: float) -> ChannelState:
    """Return from protection. A cause that is still there trips again at the next sample."""
    remembered = replace(state.remembered, alarm=None)
    return replace(_moved(state, Trigger.CLEAR_ALARM, now_s), alarm=None, remembered=remembered)


def _moved(state: ChannelState, trigger: Trigger, now_s: float) -> ChannelState:
    life = follow(state.life, trigger)
    return replace(state, life=life, pending=Pending.NOTHING, announce=True, plan_at_s=now_s)


def _remembering(state: ChannelState, *, equalizing: bool) -> Remembered:
    if state.remembered.equalizing == equalizing:
        return state.remembered
    return replace(state.remembered, equalizing=equalizing)
