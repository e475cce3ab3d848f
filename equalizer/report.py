"""What the equalizer tells of itself to machines that ask: ready or not, and its gauges."""

from collections.abc import Mapping
from dataclasses import dataclass

from equalizer.fencing import Fence, Standing
from equalizer.helm import Helm
from equalizer.metrics import Gauges
from schemas.messages import Phase


@dataclass(frozen=True, slots=True)
class Condition:
    """How this server stands at one moment."""

    fence: Fence
    phase: Phase
    connected: bool
    leaving: bool
    follows: str | None
    """The server in charge, known to be alive, for which this one stands by; None: there is none."""
    leader_silent_s: float | None
    """How long the server in charge has given no sign of life; None: none is followed."""
    decision_log: Mapping[str, int]
    """Lines, written and lost."""


def hindrance(at: Condition, helm: Helm) -> str | None:
    """Return why this server does not do its part; None where it balances, or stands by for one that lives."""
    if not at.connected:
        return "not connected to the broker"
    if at.leaving:
        return "stopping"
    if at.fence.standing is Standing.STANDBY:
        return None if at.follows is not None else f"standby: {at.fence.conflict}"
    if helm.phase in (Phase.STARTING, Phase.FROZEN):
        return f"{helm.phase}: {helm.image.channels_stale} channels are silent"
    if helm.image.channels > 0 and helm.image.channels_fresh == 0:
        return "no channel is heard"
    return None


def readiness(at: Condition) -> str:
    """Return what a server that is ready does."""
    return "ready" if at.follows is None else f"standby: {at.follows} is in charge"


def gauges(at: Condition, helm: Helm) -> Gauges:
    """Return what holds now."""
    stand = helm.standpoint(at.phase)
    image = stand.image
    regret = helm.account.regret
    return Gauges(
        phase=stand.phase,
        connected=at.connected,
        in_charge=at.fence.standing is Standing.IN_CHARGE,
        leader_silent_s=at.leader_silent_s,
        epoch=at.fence.epoch,
        total_power_w=image.total_power_w,
        load_power_w=image.load_power_w,
        equalization_power_w=image.equalization_power_w,
        target_power_w=stand.target_power_w,
        unknown_power_w=image.unknown_power_w,
        shortfall_w=stand.shortfall_w,
        meter_power_w=image.meter_power_w,
        stations_online=image.stations_online,
        channels={
            "fresh": image.channels_fresh,
            "stale": image.channels_stale,
            "gone": image.channels - image.channels_fresh - image.channels_stale,
            "equalizing": len(image.equalization),
        },
        engage_w=helm.band.engage_w,
        release_w=helm.band.release_w,
        headroom_w=helm.headroom_w(),
        regret_ratio=stand.regret_ratio,
        bound_w=None if regret is None else regret.bound_w,
        ignored=helm.ignored,
        decision_log=at.decision_log,
    )
