"""Why something was changed, or held back: the one list of reason codes.

They are the labels of `zeroloop_decisions_total` and `zeroloop_suppressed_changes_total`, `last_decision.reason` and
`held_back` in LoopBalance, and `reason` in the decision log. `docs/why.md` tells the same to operators.
"""

from enum import StrEnum


class Reason(StrEnum):
    """One code for each reason; the first group sends setpoints, the second group sends none."""

    LOAD_STEP = "load_step"
    """A change of the load that nobody announced: it has stood for the delay (`confirm`), or just came (`dwell`)."""
    ANNOUNCED = "announced"
    """A change of the load that a plan announced."""
    TARGET = "target"
    """The target was set to another value."""
    CHARGE = "charge"
    """A battery is brought back towards the middle of its charge by what would have been left over anyway."""
    LIMITS = "limits"
    """The channel said that it can do less than it was asked for."""
    PLAN_CHANGED = "plan_changed"
    """What was sent ahead is called off: its edge is announced no more."""
    RENEW = "renew"
    """The same power again, so that the lease does not run out."""
    RESEND = "resend"
    """The same setpoint again: nobody answered."""
    STOP = "stop"
    """The server stops: 0 W."""

    WITHIN_BAND = "within_band"
    """Less than `engage_w` is left over; alone, it also says that all is well."""
    CONFIRMING = "confirming"
    """An unannounced imbalance has not stood for the delay yet."""
    DWELL = "dwell"
    """Every channel that could help was changed less than the delay ago."""
    SIGN = "sign"
    """A channel that is free would have to take the sign opposite to one that is bound."""
    PASSED_OVER = "passed_over"
    """A channel is free, and is kept for a later, larger step, announced or to be expected: that leaves less over."""
    NO_HEADROOM = "no_headroom"
    """The equalization channels are at their limits."""
    NOT_DELIVERING = "not_delivering"
    """A channel does not do what it was asked; it is asked for what it does (a change), or nobody is left (none)."""
    STALE = "stale"
    """No equalization channel can be sent a setpoint: silent, alarmed, or its station is gone."""
    PAUSED = "paused"
    """An operator paused the control: 0 W (a change), then nothing."""
    FROZEN = "frozen"
    """Too much of the loop's power is unknown."""
    STARTING = "starting"
    """Not every channel has been heard yet."""
    NO_EQUALIZATION_CHANNEL = "no_equalization_channel"
    """There is nothing to balance with."""
    NOT_FINITE = "not_finite"
    """The image holds something that is no number."""


SENT = (
    Reason.LOAD_STEP,
    Reason.ANNOUNCED,
    Reason.TARGET,
    Reason.CHARGE,
    Reason.LIMITS,
    Reason.NOT_DELIVERING,
    Reason.PAUSED,
    Reason.PLAN_CHANGED,
    Reason.RENEW,
    Reason.RESEND,
    Reason.STOP,
)
"""Reasons to send a setpoint."""
HELD_BACK = (
    Reason.WITHIN_BAND,
    Reason.CONFIRMING,
    Reason.DWELL,
    Reason.SIGN,
    Reason.PASSED_OVER,
    Reason.NO_HEADROOM,
    Reason.NOT_DELIVERING,
    Reason.STALE,
    Reason.PAUSED,
    Reason.FROZEN,
    Reason.STARTING,
    Reason.NO_EQUALIZATION_CHANNEL,
    Reason.NOT_FINITE,
)
"""Reasons to send none."""
