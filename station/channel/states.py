"""The channel's life: its states, what moves it, and the one table of what may follow what."""

from enum import StrEnum

from schemas.messages import WorkStatus


class Life(StrEnum):
    """What a channel is at."""

    IDLE = "idle"
    PROGRAM = "program"
    """Runs its configured program, or the equipment's own."""
    EQUALIZING = "equalizing"
    STOPPING = "stopping"
    """On the ramp to 0 W after a stop; obeys no setpoint any more."""
    FINISHED = "finished"
    STOPPED = "stopped"
    PROTECT = "protect"
    """Off, until its alarm is cleared."""


class Trigger(StrEnum):
    """What moves a channel from one state to another."""

    START = "start"
    EQUALIZE = "equalize"
    STOP = "stop"
    AT_REST = "at_rest"
    """The ramp after a stop has reached 0 W."""
    PROGRAM_ENDED = "program_ended"
    TRIP = "trip"
    CLEAR_ALARM = "clear_alarm"


TRANSITIONS: dict[tuple[Life, Trigger], Life] = {
    (Life.IDLE, Trigger.START): Life.PROGRAM,
    (Life.IDLE, Trigger.EQUALIZE): Life.EQUALIZING,
    (Life.IDLE, Trigger.TRIP): Life.PROTECT,
    (Life.PROGRAM, Trigger.STOP): Life.STOPPING,
    (Life.PROGRAM, Trigger.PROGRAM_ENDED): Life.FINISHED,
    (Life.PROGRAM, Trigger.TRIP): Life.PROTECT,
    (Life.EQUALIZING, Trigger.STOP): Life.STOPPING,
    (Life.EQUALIZING, Trigger.TRIP): Life.PROTECT,
    (Life.STOPPING, Trigger.AT_REST): Life.STOPPED,
    (Life.STOPPING, Trigger.TRIP): Life.PROTECT,
    (Life.FINISHED, Trigger.START): Life.PROGRAM,
    (Life.FINISHED, Trigger.EQUALIZE): Life.EQUALIZING,
    (Life.FINISHED, Trigger.TRIP): Life.PROTECT,
    (Life.STOPPED, Trigger.START): Life.PROGRAM,
    (Life.STOPPED, Trigger.EQUALIZE): Life.EQUALIZING,
    (Life.STOPPED, Trigger.TRIP): Life.PROTECT,
    (Life.PROTECT, Trigger.CLEAR_ALARM): Life.IDLE,
}

ACTIVE = frozenset({Life.PROGRAM, Life.EQUALIZING, Life.STOPPING})
"""Current may flow: a battery that goes missing here is an alarm."""

WORK_STATUS: dict[Life, WorkStatus] = {
    Life.IDLE: WorkStatus.IDLE,
    Life.PROGRAM: WorkStatus.WORKING,
    Life.EQUALIZING: WorkStatus.WORKING,
    Life.STOPPING: WorkStatus.WORKING,
    Life.FINISHED: WorkStatus.FINISHED,
    Life.STOPPED: WorkStatus.STOPPED,
    Life.PROTECT: WorkStatus.PROTECT,
}


class TransitionError(RuntimeError):
    """Something asked for a move that the table does not list: a defect of the caller."""


def follow(life: Life, trigger: Trigger) -> Life:
    """Return the state that a trigger leads to.

    Raises:
        TransitionError: the table does not list the pair.
    """
    try:
        return TRANSITIONS[life, trigger]
    except KeyError:
        raise TransitionError(f"a channel that is {life} has no {trigger}") from None
