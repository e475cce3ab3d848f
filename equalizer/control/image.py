"""The plant as one decision sees it: frozen, and complete. `equalizer.control.book` draws it from the messages.

Sign: seen from the batteries; positive power charges and draws from the loop. Times are the equalizer's monotonic
seconds.
"""

from dataclasses import dataclass
from typing import TypeAlias

from schemas.messages import SetpointEcho

ChannelKey: TypeAlias = tuple[str, str]
"""Station and channel."""


@dataclass(frozen=True, slots=True)
class LoadEdge:
    """The announced load changes by `delta_w` at `at_s`."""

    at_s: float
    delta_w: float
    certain: bool = True
    """Its time is known; otherwise it is expected about then, and only thinking ahead reckons with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualizationView:
    """An equalization channel, as its newest telemetry tells it."""

    key: ChannelKey
    boot_id: str
    seq: int
    """`boot_id` and `seq` are the basis of a setpoint."""
    heard_s: float
    fresh: bool
    """Heard live within the last three periods."""
    station_online: bool
    power_w: float
    charge_limit_w: float
    discharge_limit_w: float
    ramp_w_per_s: float
    applied_w: float
    last: SetpointEcho | None
    soc_ratio: float | None
    alarm: bool

    def age_s(self, now_s: float) -> float:
        """Return how long ago the newest telemetry came."""
        return now_s - self.heard_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopImage:
    """The loop at one moment."""

    total_power_w: float
    load_power_w: float
    equalization_power_w: float
    charging_power_w: float
    discharging_power_w: float
    """At most 0."""
    unknown_power_w: float
    """The magnitudes of what counts by its last value only."""
    channels: int
    channels_fresh: int
    channels_stale: int
    """What is neither fresh nor stale has gone: its station said so, and that it leaves 0 W."""
    stations_online: int
    equalization: tuple[EqualizationView, ...]
    """By key."""
    announced_power_w: float
    """The part of the load that valid plans say, now."""
    remainder_power_w: float
    """The part of the load that no plan says: channels without a plan, and what the others are off theirs."""
    transferred_power_w: float
    """All power so far that moved from the announced part into the remainder because a plan ended (less what moved
    back). It is no change of the load, so whoever remembers a remainder shifts it by this."""
    edges: tuple[LoadEdge, ...]
    """The announced changes ahead, rising in time."""
    round_complete: bool
    """Every channel of every online station has been heard live, or was given three periods to speak."""
    meter_power_w: float | None
    meter_heard_s: float | None
    load_losses_w: float = 0.0
    """What the loads draw from the grid beyond what their batteries show, where efficiencies are known."""
