"""Who takes the next turn under `dwell`: what nobody announced is answered by one channel after the other.

Nothing is known of what comes, so there is no course to think over: each change is the one that covers most now, and
leaves the channels able to answer more. Pure; powers in W.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from equalizer.control.lookahead import SAME_W, Move, Unit, charge_ratio, range_w
from schemas.values import replace

EVEN_RATIO = 0.2
"""Nobody opposes another, so a load that falls is followed by those only that carry power: what one channel carries
counts as worth so much less."""
CHARGE_RATIO = 0.2
"""A battery full or empty weighs as this part of a change that makes it worse."""
LEAST_W = 1.0
"""Less than this is 0 W."""


def turns(
    now_s: float, mismatch_w: float, units: Sequence[Unit], *, least_w: float, worth_w: Callable[[int], float]
) -> list[Move]:
    """Return the changes to make now.

    Args:
        now_s: the time.
        mismatch_w: what is asked beyond what the channels do.
        units: all channels; those that are locked bind the others to their sign.
        least_w: a rest below this is not worth a change.
        worth_w: what a change must cover at the least, by the number of those made before it.
    """
    present = {unit.slot.key: unit for unit in units}
    moves: list[Move] = []
    while abs(mismatch_w) > least_w:
        ways = [
            way
            for unit in present.values()
            if not unit.slot.locked
            for way in _ways(unit, present.values(), mismatch_w, now_s)
            if way.covered_w > least_w and way.is_worth_it(worth_w, len(moves))
        ]
        if not ways:
            break
        way = max(ways, key=lambda way: way.gain_w(worth_w, len(moves)))
        for move in way.moves:
            slot = present[move.key].slot
            mismatch_w -= move.power_w - slot.power_w
            slot = replace(slot, power_w=move.power_w, locked=True, lowest_w=None, highest_w=None, background=False)
            present[move.key] = replace(present[move.key], slot=slot, coming=())
        moves += way.moves
    return moves


@dataclass(frozen=True, slots=True)
class _Way:
    """Changes that belong together: one, or what it takes to get over zero."""

    moves: tuple[Move, ...]
    covered_w: float
    dear_w: float
    """What speaks against it: losses, charge, and much power on one channel."""

    def gain_w(self, worth_w: Callable[[int], float], made: int) -> float:
        """Return what it covers beyond what its channels are worth, and what speaks against it."""
        return self.covered_w - self.dear_w - self._cost_w(worth_w, made)

    def is_worth_it(self, worth_w: Callable[[int], float], made: int) -> bool:
        """Tell whether it may be gone; what speaks against it counts for no more than its channels are worth."""
        cost_w = self._cost_w(worth_w, made)
        return self.covered_w > cost_w + min(max(self.dear_w, 0.0), cost_w)

    def _cost_w(self, worth_w: Callable[[int], float], made: int) -> float:
        return sum(worth_w(made + n) for n in range(len(self.moves)))


def _ways(unit: Unit, units: Iterable[Unit], mismatch_w: float, now_s: float) -> Iterator[_Way]:
    """Return what a free channel could do: alone, or when those of the opposite sign make room for it."""
    up = mismatch_w > 0.0
    opposed = [
        other
        for other in units
        if other is not unit and (range_w(other)[0] < -SAME_W if up else range_w(other)[1] > SAME_W)
    ]
    limit_w = unit.slot.charge_limit_w if up else unit.slot.discharge_limit_w
    yield _way(unit, (), mismatch_w, 0.0 if opposed else limit_w, now_s)
    room_w = sum(abs(other.slot.power_w) for other in opposed)
    if opposed and room_w < abs(mismatch_w) and not any(other.slot.locked for other in opposed):
        yield _way(unit, opposed, mismatch_w, limit_w, now_s)


def _way(unit: Unit, leaving: Sequence[Unit], mismatch_w: float, limit_w: float, now_s: float) -> _Way:
    """Return a way to go as far as `limit_w` on the side that is asked for, when others have gone to 0 W."""
    slot, sign = unit.slot, 1.0 if mismatch_w > 0.0 else -1.0
    left_w = mismatch_w + sum(other.slot.power_w for other in leaving)
    power_w = sign * max(min(sign * (slot.power_w + left_w), limit_w), sign * slot.power_w)
    if abs(power_w) < LEAST_W:
        power_w = 0.0
    delta_w = power_w - slot.power_w
    dear_w = CHARGE_RATIO * charge_ratio(slot) * delta_w + (EVEN_RATIO + slot.loss_ratio(power_w)) * abs(power_w)
    return _Way(
        moves=(*(Move(now_s, other.slot.key, 0.0) for other in leaving), Move(now_s, slot.key, power_w)),
        covered_w=abs(mismatch_w) - abs(left_w - delta_w),
        dear_w=dear_w,
    )
