"""What is lost between the batteries and the grid's side of the converters, where somebody has said how much.

A channel that charges draws p / η from the loop, one that discharges gives p · η. Positive charges, as everywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from equalizer.control.image import ChannelKey, EqualizationView

ANY = "*"


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Of one channel, or of several in the mean; above 0, at most 1."""

    charging_ratio: float = 1.0
    discharging_ratio: float = 1.0

    def at_grid_w(self, power_w: float) -> float:
        """Return what a power at the batteries is at the grid's side."""
        return power_w / self.charging_ratio if power_w > 0.0 else power_w * self.discharging_ratio

    def at_batteries_w(self, power_w: float) -> float:
        """Return what a power at the grid's side is at the batteries."""
        return power_w * self.charging_ratio if power_w > 0.0 else power_w / self.discharging_ratio

    def lost_w(self, charging_w: float, discharging_w: float) -> float:
        """Return what is lost: never negative, and an additional draw. `discharging_w` is at most 0."""
        return charging_w * (1.0 / self.charging_ratio - 1.0) - discharging_w * (1.0 - self.discharging_ratio)


LOSSLESS = Efficiency()


@dataclass(frozen=True, slots=True)
class Efficiencies:
    """What was said of each channel; `*` stands for every station, or every channel of a station."""

    said: Mapping[ChannelKey, Efficiency] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_known(self) -> bool:
        """Whether anything was said at all."""
        return bool(self.said)

    def of(self, key: ChannelKey) -> Efficiency:
        """Return what was said of a channel; the most specific counts."""
        said = self.said
        return said.get(key) or said.get((key[0], ANY)) or said.get((ANY, ANY), LOSSLESS)

    def of_all(self, views: Iterable[EqualizationView]) -> Efficiency:
        """Return the mean of some equalization channels, by what each can do in either direction."""
        if not self.said:
            return LOSSLESS
        weighed = [(self.of(view.key), view.charge_limit_w, view.discharge_limit_w) for view in views]
        charge_w, discharge_w = sum(item[1] for item in weighed), sum(item[2] for item in weighed)
        default = self.said.get((ANY, ANY), LOSSLESS)
        return Efficiency(
            sum(e.charging_ratio * w for e, w, _ in weighed) / charge_w if charge_w > 0.0 else default.charging_ratio,
            sum(e.discharging_ratio * w for e, _, w in weighed) / discharge_w
            if discharge_w > 0.0
            else default.discharging_ratio,
        )
