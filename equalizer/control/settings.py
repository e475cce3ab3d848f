"""What the control needs of equalizer.toml, in one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self, TypeAlias

from equalizer.config import AUTO, FIRST_ENGAGE_W, EqualizerSettings
from equalizer.control.image import ChannelKey
from equalizer.control.losses import Efficiencies, Efficiency
from equalizer.control.plausibility import BELIEVED, Plausibility
from schemas.messages import Policy

STALE_PERIODS = 3.0
"""A channel that has been silent for longer than this many telemetry periods is stale (contract)."""

HORIZON_S = 45.0
HORIZON_DELAYS = 2.0
LOCK_MARGIN_S = 0.3
"""Two setpoints may travel differently long; what arrives is still `delay_s` apart."""
LEAD_S = 1.5
"""A change for an announced edge goes out this long before it (and half the ramp)."""
CHANGE_PRICE_S = 5.0
"""A change must save at least the band held for this long, where the delay is 15 s …"""
PRICED_DELAY_S = 15.0
LEAST_PRICED_DELAY_S = 10.0
"""… and more where it is shorter, down to this: a change wears equipment, however soon the next would be allowed."""
RELEASE_RATIO = 0.3
"""With `engage_w = "auto"`, `release_w` is this part of it."""

Curve: TypeAlias = tuple[tuple[float, float], ...]
"""Efficiency by power: pairs of W (rising) and ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """The settings of one loop's control. The defaults are those of equalizer.toml."""

    policy: Policy = Policy.CONFIRM
    delay_s: float = 15.0
    engage_w: float = FIRST_ENGAGE_W
    release_w: float = 300.0
    auto_band: bool = False
    """The band finds its width by itself; the two above are the first ones."""
    freeze_w: float = 50000.0
    target_power_w: float = 0.0
    period_s: float = 1.0
    ttl_s: float = 30.0
    refresh_s: float = 5.0
    meter_gain: float = 0.05
    """Part of what the meter shows beyond the channels that is corrected per second; 0: shown, not used."""
    meter_stale_s: float = 10.0
    meter_delay_s: float = 0.0
    """By how much the meter's readings are later than the channels' telemetry."""
    plausibility: Plausibility = BELIEVED
    charge_recovery: bool = False
    """Batteries are brought back towards the middle by what is left over anyway."""
    efficiencies: Efficiencies = field(default_factory=Efficiencies)
    curves: Mapping[ChannelKey, Curve] = field(default_factory=lambda: MappingProxyType({}))
    """Of equalization channels, at partial load."""

    @property
    def stale_s(self) -> float:
        """The silence after which a channel is stale."""
        return STALE_PERIODS * self.period_s

    @property
    def horizon_s(self) -> float:
        """How far ahead announced changes are looked at."""
        return max(HORIZON_S, HORIZON_DELAYS * self.delay_s)

    @property
    def change_price_ws(self) -> float:
        """What a change must save at least; Ws.

        Found by trial in the mixed hall: less leaves no less over there, because channels spent on little are missing
        for what comes unannounced. With the square of the delay, channels are changed as often at 10 s as at 15 s.
        """
        return CHANGE_PRICE_S * (PRICED_DELAY_S / max(self.delay_s, LEAST_PRICED_DELAY_S)) ** 2 * self.engage_w

    @property
    def certain_s(self) -> float:
        """A plan that knows less far ahead than this announces nothing that the change budget could follow."""
        return 0.5 * self.delay_s

    @classmethod
    def of(cls, settings: EqualizerSettings) -> Self:
        """Return the control's part of a configuration."""
        auto = settings.control.engage_w == AUTO
        return cls(
            policy=settings.control.policy,
            delay_s=settings.control.delay_s,
            engage_w=settings.control.first_engage_w,
            release_w=RELEASE_RATIO * FIRST_ENGAGE_W if auto else settings.control.release_w,
            auto_band=auto,
            freeze_w=settings.control.freeze_w,
            target_power_w=settings.loop.target_power_w,
            period_s=settings.telemetry.period_s,
            ttl_s=settings.setpoint.ttl_s,
            refresh_s=settings.setpoint.refresh_s,
            meter_gain=settings.meter.gain,
            meter_stale_s=settings.meter.stale_s,
            meter_delay_s=settings.meter.delay_s,
            plausibility=Plausibility(
                tolerance_ratio=settings.plausibility.tolerance_ratio,
                tolerance_w=settings.plausibility.tolerance_w,
                rating_w=settings.plausibility.rating_w,
            ),
            charge_recovery=settings.control.charge_recovery,
            efficiencies=Efficiencies(
                MappingProxyType(
                    {
                        (item.station, item.channel): Efficiency(item.charging_efficiency, item.discharging_efficiency)
                        for item in settings.channel
                    }
                )
            ),
            curves=MappingProxyType(
                {(item.station, item.channel): item.efficiency for item in settings.channel if item.efficiency}
            ),
        )
