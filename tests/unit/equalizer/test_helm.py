"""The control at work: what it takes over from another server, and what no server can have meant."""

import pytest

from equalizer.config import EqualizerSettings
from equalizer.helm import Helm
from equalizer.ledger import SavedAccount
from equalizer.metrics import Counters
from equalizer.voice import Voice
from schemas.messages import EnergyAccount, LoopBalance, Phase


def helm() -> Helm:
    settings = EqualizerSettings()
    voice = Voice(settings, version="1", started_unix_time_s=0.0, metrics_url=None, clock=lambda: 0.0, utc=lambda: 0.0)
    return Helm(settings, saved=SavedAccount(), voice=voice, counters=Counters(), clock=lambda: 0.0, utc=lambda: 0.0)


def balance(target_power_w: float) -> LoopBalance:
    return LoopBalance(
        server="a",
        epoch=7,
        seq=1,
        unix_time_s=0.0,
        phase=Phase.BALANCING,
        total_power_w=0.0,
        load_power_w=0.0,
        equalization_power_w=0.0,
        target_power_w=target_power_w,
        charging_power_w=0.0,
        discharging_power_w=0.0,
        unknown_power_w=0.0,
        shortfall_w=0.0,
        stations_online=0,
        channels=0,
        channels_stale=0,
        equalization_channels=0,
        setpoint_changes=0,
        energy=EnergyAccount(import_wh=0.0, export_wh=0.0, unbalanced_wh=0.0, avoided_wh=0.0),
    )


@pytest.mark.parametrize(("said_w", "taken_w"), [(-5e3, -5e3), (1e300, 0.0)])
def test_another_servers_target_is_taken_over_where_a_hall_can_have_it(said_w: float, taken_w: float) -> None:
    following = helm()
    following.follow(balance(said_w))
    assert following.standpoint(Phase.STANDBY).target_power_w == taken_w
