"""Who gives how much: a signed power shared out among the equalization channels. Pure; powers in W.

The result has one sign, changes as few channels as will do, and among those that would do, takes the one that brings
its battery's charge nearer to the middle, and loses least at the power that it would go to.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equalizer.control.image import ChannelKey
from equalizer.control.settings import Curve

MIDDLE_SOC_RATIO = 0.5
ROUNDING_W = 1e-6


@dataclass(frozen=True, slots=True)
class Slot:
    """What an equalization channel can contribute."""

    key: ChannelKey
    power_w: float
    """What it does now, or is about to."""
    charge_limit_w: float
    discharge_limit_w: float
    locked: bool
    """It keeps `power_w` for now."""
    soc_ratio: float | None = None
    lowest_w: float | None = None
    """The lowest it is bound to do while it is locked, if not `power_w`."""
    highest_w: float | None = None
    background: bool = False
    """It serves its battery with no more than the band; its sign binds nobody."""
    curve: Curve = ()
    """Its efficiency by power; empty: nothing is known of it."""

    def loss_ratio(self, power_w: float) -> float:
        """Return which part is lost at a power of either sign; 0 where nothing is known, or nothing flows."""
        return 1.0 - efficiency_ratio(self.curve, abs(power_w)) if self.curve and power_w != 0.0 else 0.0


def efficiency_ratio(curve: Curve, power_w: float) -> float:
    """Return the efficiency at a power (W, not negative), between a curve's points in a straight line."""
    after = bisect_right(curve, power_w, key=lambda point: point[0])
    if after == 0:
        return curve[0][1]
    if after == len(curve):
        return curve[-1][1]
    (low_w, low), (high_w, high) = curve[after - 1], curve[after]
    return low + (high - low) * (power_w - low_w) / (high_w - low_w)


@dataclass(frozen=True, slots=True)
class Allocation:
    """`powers_w` of all channels and `shortfall_w` together are what was asked."""

    powers_w: Mapping[ChannelKey, float]
    changed: tuple[ChannelKey, ...]
    shortfall_w: float


def allocate(asked_w: float, slots: Sequence[Slot], *, least_w: float = 0.0) -> Allocation:
    """Share `asked_w` out among the channels that are not locked.

    Args:
        asked_w: what all equalization channels together should do; positive: charge.
        slots: the channels, in any order; their order does not matter.
        least_w: a rest below this is not worth changing one more channel.
    """
    locked_w = sum(slot.power_w for slot in slots if slot.locked)
    may_charge = all(_lowest_w(slot) >= 0.0 for slot in slots if slot.locked)
    may_discharge = all(_highest_w(slot) <= 0.0 for slot in slots if slot.locked)
    free = sorted((slot for slot in slots if not slot.locked), key=lambda slot: slot.key)
    wanted_w = asked_w - locked_w
    charging = wanted_w > 0.0 and may_charge
    discharging = wanted_w < 0.0 and may_discharge
    ranges = {
        slot.key: (-slot.discharge_limit_w if discharging else 0.0, slot.charge_limit_w if charging else 0.0)
        for slot in free
    }
    powers_w = _fill(wanted_w if charging or discharging else 0.0, free, ranges, least_w)
    changed = tuple(slot.key for slot in free if powers_w[slot.key] != slot.power_w)
    for slot in slots:
        if slot.locked:
            powers_w[slot.key] = slot.power_w
    return Allocation(powers_w, changed, asked_w - sum(powers_w[slot.key] for slot in slots))


def _fill(
    wanted_w: float, free: Sequence[Slot], ranges: Mapping[ChannelKey, tuple[float, float]], least_w: float
) -> dict[ChannelKey, float]:
    """Start from what the channels do, put within what they may, and change one after another."""
    powers_w = {slot.key: min(max(slot.power_w, ranges[slot.key][0]), ranges[slot.key][1]) for slot in free}
    forced = [slot for slot in free if powers_w[slot.key] != slot.power_w]
    others = [slot for slot in free if powers_w[slot.key] == slot.power_w]
    # What must change anyway takes what it can first: that costs no further change.
    for group, worth_w in ((forced, 0.0), (others, least_w)):
        left = list(group)
        while left:
            rest_w = wanted_w - sum(powers_w.values())
            if abs(rest_w) < max(worth_w, ROUNDING_W):
                break
            slot = _next(rest_w, left, powers_w, ranges)
            lowest_w, highest_w = ranges[slot.key]
            powers_w[slot.key] = min(max(powers_w[slot.key] + rest_w, lowest_w), highest_w)
            left.remove(slot)
    return powers_w


def _next(
    rest_w: float,
    left: Sequence[Slot],
    powers_w: Mapping[ChannelKey, float],
    ranges: Mapping[ChannelKey, tuple[float, float]],
) -> Slot:
    """Return who changes next: of those that suffice alone, by charge; where none does, the one with most room.

    A per cent that is lost weighs as much as a per cent of charge off the middle.
    """

    def room_w(slot: Slot) -> float:
        lowest_w, highest_w = ranges[slot.key]
        return highest_w - powers_w[slot.key] if rest_w > 0.0 else powers_w[slot.key] - lowest_w

    def charge(slot: Slot) -> float:
        soc_ratio = slot.soc_ratio if slot.soc_ratio is not None else MIDDLE_SOC_RATIO
        to_w = powers_w[slot.key] + (min(rest_w, room_w(slot)) if rest_w > 0.0 else max(rest_w, -room_w(slot)))
        return (soc_ratio if rest_w > 0.0 else -soc_ratio) + slot.loss_ratio(to_w)

    enough = [slot for slot in left if room_w(slot) >= abs(rest_w)]
    if enough:
        return min(enough, key=lambda slot: (charge(slot), -room_w(slot), slot.key))
    return min(left, key=lambda slot: (-room_w(slot), charge(slot), slot.key))


def _lowest_w(slot: Slot) -> float:
    return slot.lowest_w if slot.lowest_w is not None else slot.power_w


def _highest_w(slot: Slot) -> float:
    return slot.highest_w if slot.highest_w is not None else slot.power_w
