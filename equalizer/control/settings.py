"""What the control needs of equalizer.toml, in one frozen value."""

from dataclasses import dataclass
from typing import Self

from equalizer.config import EqualizerSettings
from schemas.messages import Policy

STALE_PERIODS = 3.0
"""A channel that has been silent for longer than this many telemetry periods is stale (contract)."""

HORIZON_S = 45.0
HORIZON_DELAYS = 2.0
LOCK_MARGIN_S = 0.3
"""Two setpoints may travel differently long; what arrives is still `delay_s` apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """The settings of one loop's control. The defaults are those of equalizer.toml."""

    policy: Policy = Policy.CONFIRM
    delay_s: float = 15.0
    engage_w: float = 1000.0
    release_w: float = 300.0
    freeze_w: float = 50000.0
    target_power_w: float = 0.0
    period_s: float = 1.0
    ttl_s: float = 30.0
    refresh_s: float = 5.0
    meter_gain: float = 0.05
    """Part of what the meter shows beyond the channels that is corrected per second; 0: shown, not used."""
    meter_stale_s: float = 10.0

    @property
    def stale_s(self) -> float:
        """The silence after which a channel is stale."""
        return STALE_PERIODS * self.period_s

    @property
    def horizon_s(self) -> float:
        """How far ahead announced changes are looked at."""
        return max(HORIZON_S, HORIZON_DELAYS * self.delay_s)

    @property
    def certain_s(self) -> float:
        """A plan that knows less far ahead than this announces nothing that the change budget could follow."""
        return 0.5 * self.delay_s

    @classmethod
    def of(cls, settings: EqualizerSettings) -> Self:
        """Return the control's part of a configuration."""
        return cls(
            policy=settings.control.policy,
            delay_s=settings.control.delay_s,
            engage_w=settings.control.engage_w,
            release_w=settings.control.release_w,
            freeze_w=settings.control.freeze_w,
            target_power_w=settings.loop.target_power_w,
            period_s=settings.telemetry.period_s,
            ttl_s=settings.setpoint.ttl_s,
            refresh_s=settings.setpoint.refresh_s,
            meter_gain=settings.meter.gain,
            meter_stale_s=settings.meter.stale_s,
        )
