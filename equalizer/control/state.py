"""What the control remembers from one decision to the next, and what it decides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, TypeAlias

from equalizer.control.image import ChannelKey, EqualizationView, LoadEdge
from equalizer.control.regulator import STILL, Confirmation
from equalizer.control.trim import UNTRIMMED, Trim
from schemas.messages import Basis, Phase, SetpointStep

OrderKind: TypeAlias = Literal["change", "refresh"]
NEVER_S = -math.inf


class Reason(StrEnum):
    """Why something was changed, or held back; labels of metrics and of LoopBalance."""

    LOAD_STEP = "load_step"
    PLAN = "plan"
    TARGET = "target"
    LIMITS = "limits"
    RENEW = "renew"
    RESEND = "resend"
    PLAN_CHANGED = "plan_changed"
    STOP = "stop"
    WITHIN_BAND = "within_band"
    CONFIRMING = "confirming"
    DWELL = "dwell"
    PASSED_OVER = "passed_over"
    NO_HEADROOM = "no_headroom"
    STALE = "stale"
    NOT_DELIVERING = "not_delivering"
    PAUSED = "paused"
    FROZEN = "frozen"
    STARTING = "starting"
    NO_EQUALIZATION_CHANNEL = "no_equalization_channel"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True)
class Level:
    """A power of a channel.

    It is ordered for `at_s`; for the balance it counts from `effect_s` on: at an announced edge the ramp starts half
    before it.
    """

    at_s: float
    effect_s: float
    power_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What an equalization channel has been asked, and whether it does it."""

    levels: tuple[Level, ...]
    """The present one, and what was sent ahead."""
    boot_id: str | None
    """None: it is no equalization channel now; only when it was last changed is remembered."""
    changed_s: float = NEVER_S
    """The last change of power, a coming one included."""
    prior_changed_s: float = NEVER_S
    """The change before a coming one, in case that is called off."""
    settled_s: float = NEVER_S
    """From then on, telemetry must show the last level."""
    sent_s: float = NEVER_S
    basis_seq: int = 0
    echo: tuple[int, int] | None = None
    """Epoch and seq of the channel's last echo: when the order went out (another one answers it), then its answer."""
    answered: bool = True
    pending: bool = False
    """The change itself has not been answered yet: should it have got lost, sending it again makes the change."""
    tries: int = 0
    rejected: bool = False
    """It rejected the last order, or never answered it; a refresh that it applies clears this."""
    withdrawn: bool = False
    """It was asked for more than it delivers; that it is asked for less now has not been sent."""
    off_since_s: float | None = None
    retry_s: float = NEVER_S
    """A channel that did not deliver is not counted upon before this."""

    def is_counted(self, now_s: float) -> bool:
        """Tell whether the channel is counted upon."""
        return not self.rejected and now_s >= self.retry_s

    def power_w(self, at_s: float) -> float:
        """Return the level that counts at a time."""
        power_w = self.levels[0].power_w
        for level in self.levels[1:]:
            if level.effect_s > at_s:
                break
            power_w = level.power_w
        return power_w


@dataclass(frozen=True, slots=True)
class Look:
    """A look ahead; it stands until the situation differs or the time is over."""

    mismatch_w: float
    until_s: float
    passed_over: bool
    """A change that could have been made was held back."""
    edges: tuple[LoadEdge, ...] = ()
    """What was announced ahead then."""
    again_s: float = NEVER_S
    """When it must be thought over, even if nothing differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """What was made of the equalization channels' telemetry; it stands until one of them speaks or is due."""

    equalization: tuple[EqualizationView, ...] = ()
    views: Mapping[ChannelKey, EqualizationView] = field(default_factory=lambda: MappingProxyType({}))
    counted: frozenset[ChannelKey] = frozenset()
    """The channels that are counted upon."""
    error_w: float = 0.0
    """What they do beyond what they were asked."""
    renew_s: float = math.inf
    """When the first order must go out again."""
    until_s: float = NEVER_S


NOTHING_READ = Readout()


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlState:
    """All that the control remembers. Make one with `initial`."""

    target_power_w: float
    phase: Phase = Phase.STARTING
    paused: bool = False
    holds: Mapping[ChannelKey, Hold] = field(default_factory=lambda: MappingProxyType({}))
    baseline_w: float = 0.0
    """The unannounced part of the load that the equalization power is set by."""
    transferred_w: float = 0.0
    """What `LoopImage.transferred_power_w` was when the baseline was set."""
    confirmation: Confirmation = STILL
    engaged: bool = False
    cause: Reason = Reason.PLAN
    held_back: Reason | None = None
    """Why nothing was changed at the last decision; counted once, when it begins."""
    look: Look | None = None
    ahead_s: float = NEVER_S
    """When the edges ahead are looked at again."""
    readout: Readout = NOTHING_READ
    trim: Trim = UNTRIMMED
    changes: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """A setpoint to send; `seq`, `epoch` and `ttl_s` are the service's."""

    station: str
    channel: str
    basis: Basis
    steps: tuple[SetpointStep, ...]
    kind: OrderKind
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What one step decided."""

    phase: Phase
    orders: tuple[Order, ...]
    shortfall_w: float
    """Asked of the equalization channels beyond what their limits allow; signed as what was asked."""
    reason: str
    suppressed: tuple[tuple[str, int], ...]
    """What began to be held back with this decision, and how often."""
    next_due_s: float
    """Decide again no later than this."""
