"""What the control remembers from one decision to the next, and what it decides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from equalizer.control.band import UNMEASURED, Band
from equalizer.control.image import ChannelKey, EqualizationView, LoadEdge
from equalizer.control.lookahead import Move
from equalizer.control.losses import LOSSLESS, Efficiency
from equalizer.control.reasons import Reason
from equalizer.control.regulator import STILL, Confirmation
from equalizer.control.surprise import UNSURPRISED, Surprise
from equalizer.control.trim import UNTRIMMED, Trim
from schemas.messages import Basis, Phase, SetpointStep

OrderKind: TypeAlias = Literal["change", "refresh"]
NEVER_S = -math.inf


@dataclass(frozen=True, slots=True)
class Level:
    """A power of a channel.

    It is in force at the station from `at_s` on; for the balance it counts from `effect_s` on: at an announced edge
    the ramp starts half before it.
    """

    at_s: float
    effect_s: float
    power_w: float


@dataclass(frozen=True, slots=True)
class Cap:
    """What a channel delivered of what it was asked in one direction: it is taken as its limit for a while."""

    power_w: float
    """Never negative."""
    until_s: float
    wait_s: float
    """Doubles with every failure."""
    order_s: float
    """When the order was given that it did not follow; as long as that stands, the cap does."""

    def is_active(self, hold: "Hold", now_s: float) -> bool:
        """Tell whether the channel is still taken as saturated."""
        return now_s < self.until_s or hold.changed_s == self.order_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What an equalization channel has been asked, and whether it does it."""

    levels: tuple[Level, ...]
    """The present one, and what was sent ahead."""
    boot_id: str | None
    """None: it is no equalization channel now; only when it was last changed is remembered."""
    changed_s: float = NEVER_S
    """When the last change of power is in force at the station, a coming one included."""
    prior_changed_s: float = NEVER_S
    """The change before a coming one, in case that is called off."""
    settled_s: float = NEVER_S
    """From then on, telemetry must show the last level."""
    sent_s: float = NEVER_S
    basis_seq: int = 0
    echo: tuple[int, int] | None = None
    """Epoch and seq of the channel's last echo: when the order went out (another one answers it), then its answer."""
    order: tuple[int, int] | None = None
    """Epoch and seq of the last order, once it has gone out and they are known: no answer is older."""
    under_way: int = 0
    """Orders that went out since that echo; the last of them is the one that wants an answer."""
    answered: bool = True
    pending: bool = False
    """The change itself has not been answered yet: should it have got lost, sending it again makes the change."""
    leased_s: float = math.inf
    """When the lease ends, at the latest, of the last order that was answered."""
    late: bool = False
    """Telemetry that should have told of its arrival did not: when it came, or will, is known by its answer only."""
    superseded: Level | None = None
    """A change that had been sent ahead and was taken back; until that is answered, it may come all the same."""
    abandoned: bool = False
    """The last order was taken for lost; should it come after all, the channel does as it says."""
    tries: int = 0
    rejected: bool = False
    """It rejected the last order, or never answered it; a refresh that it applies clears this."""
    background: bool = False
    """What it does serves its battery, is no more than the band, and binds nobody to its sign."""
    off_since_s: float | None = None
    charge_cap: Cap | None = None
    discharge_cap: Cap | None = None
    retry_s: float = NEVER_S
    """A channel that delivers more than it was asked, or something at 0 W, is not counted upon before this."""
    retry_wait_s: float = 0.0
    unanswered_s: float = 0.0
    """So long after the last order, telemetry still came that did not answer it."""
    missed_s: tuple[float, ...] = ()
    """The same of the orders before, the last `travel.TRIPS` of them."""
    travel_s: float = 0.0
    """How long an order is on its way at the least, as these show it."""
    reckoned_s: float = 0.0
    """What `travel_s` was when the last change was made."""
    unheard: bool = False
    """It is to be taken over, but has not been heard live."""
    guessed: bool = False
    """It is to be taken over, but to what it goes is not known: it was seen on its way, or in the broker's memory, or a
    step may come that was sent ahead."""

    @property
    def is_awaited(self) -> bool:
        """Whether nothing is asked of the channel before its next telemetry."""
        return self.unheard or self.guessed

    @property
    def is_in_doubt(self) -> bool:
        """Whether nobody knows yet that the last change has come: sent again, it may be made only then."""
        return not self.answered and (self.pending or self.late or self.superseded is not None)

    def is_counted(self, now_s: float) -> bool:
        """Tell whether the channel is counted upon."""
        return not self.rejected and not self.is_awaited and now_s >= self.retry_s

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
    moves: tuple[Move, ...] = ()
    """The best course of action that was found."""
    number: int = 0
    """Looks before it, since something had to be balanced."""
    owed: bool = False
    """A channel is still to take the sign that others have left for it."""


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
    efficiency: Efficiency = LOSSLESS
    """Of the channels that are counted upon, in the mean."""
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
    cause: Reason = Reason.ANNOUNCED
    held_back: Reason | None = None
    """Why nothing was changed at the last decision; counted once, when it begins."""
    look: Look | None = None
    ahead_s: float = NEVER_S
    """When the edges ahead are looked at again."""
    readout: Readout = NOTHING_READ
    trim: Trim = UNTRIMMED
    losses_w: float = 0.0
    """What the loads draw beyond what their batteries show."""
    band: Band = UNMEASURED
    """The hysteresis band, where it finds its width by itself."""
    surprise: Surprise = UNSURPRISED
    """By how much the load moves unannounced; learnt under `dwell`."""
    spare_w: float = 0.0
    """What is left over within the band, and could serve a battery; 0: nothing."""
    spare_since_s: float = NEVER_S
    other_phase_s: float | None = None
    """Since when the limits call for the other of `balancing` and `saturated`."""
    changes: int = 0

    @property
    def offset_w(self) -> float:
        """What is drawn from the grid beyond what the channels say."""
        return self.trim.power_w + self.losses_w


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
