"""Where the energy that is left over comes from: what each cause leaves, second by second, as whole numbers.

The power that is left over is a sum of signed parts: what is beyond all limits, what is not confirmed yet, what is
still on its way, what the change budget held back. Parts of the sign of the whole take from it in that order, each no
more than is left; the last rest is the controller's own. So the parts sum to the whole exactly, in integers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from types import MappingProxyType

from equalizer.control import holds as channel
from equalizer.control.cycle import Cycle
from equalizer.control.energy import MAX_GAP_S
from equalizer.control.explain import rooms
from equalizer.control.image import LoopImage
from equalizer.control.settings import ControlSettings
from equalizer.control.state import ControlState
from schemas.messages import Phase

SAMPLE_S = 1.0
"""The split is made this often; a power holds until the next."""
_MICRO = 1e6
_MILLI = 1e3
NANOJOULES_PER_J = 1e9


class Cause(StrEnum):
    """Why power was left over, the least avoidable first."""

    NO_CAPACITY = "no_capacity"
    """Beyond what the equalization channels can do, or deliver; also while there are none, or the control is paused."""
    UNKNOWN_POWER = "unknown_power"
    """Too much of the loop is unknown (phase `frozen`), or a silent equalization channel cannot be used."""
    UNANNOUNCED = "unannounced"
    """A change that no plan announced, not yet confirmed."""
    RAMP = "ramp"
    """Ordered, and still on its way or ramping; before an edge, the half of the ramp that comes early."""
    DWELL = "dwell"
    """The change budget: the channels that could help are locked, or kept for what comes."""
    CONTROLLER = "controller"
    """What a better controller would have avoided, the hysteresis band included."""


def split_uw(
    state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float
) -> tuple[int, Mapping[Cause, int]]:
    """Return what is left over now, and by which cause: microwatts, without sign.

    Call it with the state and the image of one decision.
    """
    residual_w = left_over_w(state, image)
    if not isfinite(residual_w):
        return 0, dict.fromkeys(Cause, 0)
    left_uw = whole_uw = abs(round(residual_w * _MICRO))
    sign = 1.0 if residual_w > 0.0 else -1.0
    parts_uw = dict.fromkeys(Cause, 0)
    for cause, part_w in _signed_w(state, image, settings, now_s, residual_w).items():
        if isfinite(part_w):
            parts_uw[cause] = min(max(round(sign * part_w * _MICRO), 0), left_uw)
            left_uw -= parts_uw[cause]
    parts_uw[Cause.CONTROLLER] += left_uw
    return whole_uw, parts_uw


def left_over_w(state: ControlState, image: LoopImage) -> float:
    """Return what crosses the grid's connection beyond the target, by all that is known; W, positive: drawn."""
    at_grid_w = state.readout.efficiency.at_grid_w(image.equalization_power_w)
    return image.load_power_w + at_grid_w + state.offset_w - state.target_power_w


def _signed_w(
    state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float, residual_w: float
) -> dict[Cause, float]:
    """Return the parts that are known, signed as the residual is."""
    match state.phase:
        case Phase.FROZEN | Phase.STARTING:
            return {Cause.UNKNOWN_POWER: residual_w}
        case Phase.PAUSED | Phase.STANDBY:
            return {Cause.NO_CAPACITY: residual_w}
        case Phase.BALANCING | Phase.SATURATED:
            if not image.equalization:
                return {Cause.NO_CAPACITY: residual_w}
            return _balancing_w(state, Cycle(image, settings, now_s, state.readout, dict(state.holds), is_read=False))


def _balancing_w(state: ControlState, cycle: Cycle) -> dict[Cause, float]:
    image = cycle.image
    efficiency = cycle.readout.efficiency
    ideal_w = efficiency.at_batteries_w(state.target_power_w - image.load_power_w - state.offset_w)
    confirmed_w = efficiency.at_batteries_w(
        state.target_power_w - image.announced_power_w - state.baseline_w - state.trim.power_w
    )
    short_w = cycle.shortfall_w(ideal_w)
    possible_w, sought_w = ideal_w - short_w, confirmed_w - cycle.shortfall_w(confirmed_w)
    ordered_w = cycle.total_w(cycle.now_s)
    ramping_w, undelivered_w = _deviations_w(cycle)
    unusable_w = _unusable_w(cycle, short_w)
    behind_w = ordered_w - sought_w
    return {
        Cause.NO_CAPACITY: undelivered_w - (short_w - unusable_w),
        Cause.UNKNOWN_POWER: -unusable_w,
        Cause.UNANNOUNCED: 0.0 if state.confirmation.since_s is None else sought_w - possible_w,
        Cause.RAMP: ramping_w,
        Cause.DWELL: _bound_w(state, cycle, behind_w),
    }


def _deviations_w(cycle: Cycle) -> tuple[float, float]:
    """Return what the channels do beyond what counts as ordered: while that is on its way, and after."""
    ramping_w = other_w = 0.0
    for key in sorted(cycle.counted):
        hold, view = cycle.holds[key], cycle.views[key]
        off_w = view.power_w - channel.clipped_w(hold.power_w(cycle.now_s), view)
        if len(hold.levels) > 1 or cycle.now_s < hold.settled_s or view.heard_s < hold.settled_s:
            ramping_w += off_w
        else:
            other_w += off_w
    return ramping_w, other_w


def _unusable_w(cycle: Cycle, short_w: float) -> float:
    """Return how much of what is short a silent channel could have done; signed as what is asked."""
    if short_w == 0.0:
        return 0.0
    silent = [view for key, view in cycle.views.items() if key not in cycle.counted and not view.fresh]
    if short_w > 0.0:
        return min(short_w, sum(max(view.charge_limit_w - view.power_w, 0.0) for view in silent))
    return -min(-short_w, sum(max(view.discharge_limit_w + view.power_w, 0.0) for view in silent))


def _bound_w(state: ControlState, cycle: Cycle, behind_w: float) -> float:
    """Return how much of what is not ordered yet the change budget holds back; signed as `behind_w`."""
    if not state.engaged or behind_w == 0.0:
        return 0.0
    if state.look is not None and state.look.passed_over:
        return behind_w
    bound_w = max(abs(behind_w) - rooms(cycle, charging=behind_w < 0.0).open_w, 0.0)
    return bound_w if behind_w > 0.0 else -bound_w


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualBook:
    """The energy that was left over, nanojoules, and the powers that hold since `at_s`."""

    whole_nj: int = 0
    parts_nj: Mapping[Cause, int] = field(default_factory=lambda: MappingProxyType(dict.fromkeys(Cause, 0)))
    at_s: float | None = None
    whole_uw: int = 0
    parts_uw: Mapping[Cause, int] = field(default_factory=lambda: MappingProxyType(dict.fromkeys(Cause, 0)))

    def is_due(self, now_s: float) -> bool:
        """Tell whether the next sample is due."""
        return self.at_s is None or now_s - self.at_s >= SAMPLE_S

    def joules(self) -> dict[str, float]:
        """Return what each cause has left, J."""
        return {cause.value: self.parts_nj[cause] / NANOJOULES_PER_J for cause in Cause}


def advance(book: ResidualBook, whole_uw: int, parts_uw: Mapping[Cause, int], now_s: float) -> ResidualBook:
    """Return the book at `now_s`, from when on these powers hold; a longer gap than 10 s is not known."""
    held_s = 0.0 if book.at_s is None else min(max(now_s - book.at_s, 0.0), MAX_GAP_S)
    held_ms = round(held_s * _MILLI)
    return ResidualBook(
        whole_nj=book.whole_nj + book.whole_uw * held_ms,
        parts_nj=MappingProxyType({cause: book.parts_nj[cause] + book.parts_uw[cause] * held_ms for cause in Cause}),
        at_s=now_s,
        whole_uw=whole_uw,
        parts_uw=MappingProxyType(dict(parts_uw)),
    )
