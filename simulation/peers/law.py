"""What a peer decides on, and what it answers. Powers in W; positive charges, and draws from the loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Key: TypeAlias = tuple[str, str]
"""Station and channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """An equalization channel."""

    key: Key
    power_w: float
    """As measured."""
    asked_w: float
    """As it was told last."""
    charge_limit_w: float
    discharge_limit_w: float
    soc_ratio: float
    obeyed_s: float | None
    """When the first status came that shows the last order; null: it is still pending."""

    @property
    def rating_w(self) -> float:
        """The larger of both limits."""
        return max(self.charge_limit_w, self.discharge_limit_w)

    def clipped_w(self, power_w: float) -> float:
        """Return a power within the limits now."""
        return min(max(power_w, -self.discharge_limit_w), self.charge_limit_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The loop, as it was measured."""

    load_w: float
    equalization_w: float
    """All equalization channels, as measured."""
    measured_s: float
    """When the newest measurement came."""
    units: tuple[Unit, ...]
    """The channels that may be changed now."""
    held: tuple[Unit, ...] = ()
    """Those that may not."""

    @property
    def held_w(self) -> float:
        """What those were told that may not be changed now."""
        return sum(unit.asked_w for unit in self.held)

    @property
    def total_w(self) -> float:
        """What a meter at the grid shows."""
        return self.load_w + self.equalization_w


Wanted: TypeAlias = Mapping[Key, float]
"""Powers that channels shall go to; the others keep theirs."""


class Law(Protocol):
    """A controller's rules."""

    def wanted(self, pool: Pool, now_s: float) -> Wanted | None:
        """Return what the channels are to do; null: leave them as they are."""


def shared(wanted_w: float, pool: Pool) -> Wanted:
    """Share a total: the channels that may be changed do what the others leave, each by its limits."""
    left_w = wanted_w - pool.held_w
    room_w = sum(unit.charge_limit_w if left_w > 0.0 else unit.discharge_limit_w for unit in pool.units)
    if room_w <= 0.0:
        return {unit.key: 0.0 for unit in pool.units}
    return {
        unit.key: unit.clipped_w(left_w * (unit.charge_limit_w if left_w > 0.0 else unit.discharge_limit_w) / room_w)
        for unit in pool.units
    }
