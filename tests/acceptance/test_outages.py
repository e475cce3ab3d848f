"""What happens when a part fails: each case on real processes, with the contract's outcome."""

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest

from broker.run import start
from schemas.messages import Phase, Presence, SetpointResult
from tests.acceptance.hall import Foreign, Hall, channel, power

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]


async def balanced_hall(hall: Hall, foreign: Foreign, **control: float) -> subprocess.Popen[bytes]:
    equalizer = hall.equalizer(**control)
    hall.station("eq", [channel("1", equalize=True)])
    foreign.set_power(20000.0)
    await hall.until(
        lambda: hall.balance is not None and abs(hall.total_w()) < 500.0 and hall.power_w("eq", "1") < -19000
    )
    return equalizer


async def test_the_equalizer_is_killed_and_the_channels_go_to_zero_when_their_lease_ends(
    hall: Hall, foreign: Foreign
) -> None:
    equalizer = await balanced_hall(hall, foreign)
    epoch = hall.announcement.epoch
    equalizer.kill()
    await hall.until(lambda: hall.announcement.status is Presence.OFFLINE, what="the last will")
    await hall.until(lambda: hall.telemetry("eq", "1").equalization.last.result is SetpointResult.EXPIRED, 8.0)
    await hall.until(lambda: abs(hall.power_w("eq", "1")) < 1.0)
    assert hall.telemetry("eq", "1").equalization is not None
    # The next one is in charge with a higher epoch, and the channel obeys it.
    hall.equalizer()
    await hall.until(lambda: hall.announcement.status is Presence.ONLINE and hall.announcement.epoch > epoch)
    await hall.until(lambda: hall.power_w("eq", "1") < -19000.0)


async def test_the_equalizer_is_stopped_and_leaves_every_channel_at_zero(hall: Hall, foreign: Foreign) -> None:
    equalizer = await balanced_hall(hall, foreign, ttl_s=30.0)
    equalizer.terminate()
    code = await asyncio.to_thread(equalizer.wait, 10.0)
    assert code == 0
    await hall.until(lambda: hall.announcement.status is Presence.OFFLINE, 2.0)
    await hall.until(lambda: abs(hall.power_w("eq", "1")) < 1.0, 3.0, what="0 W long before the lease's end")


async def test_a_station_is_killed_and_its_load_counts_as_zero(hall: Hall, foreign: Foreign) -> None:
    await balanced_hall(hall, foreign)
    load = hall.station("load", [channel("1", power(10000.0, 600.0))], on_lost="zero")
    await hall.until(lambda: hall.power_w("eq", "1") < -29000.0)
    load.kill()
    await hall.until(lambda: hall.status("load").status is Presence.OFFLINE, what="the last will")
    await hall.until(lambda: hall.power_w("eq", "1") > -21000.0)
    assert hall.balance.unknown_power_w < 100.0


async def test_a_killed_station_whose_equipment_goes_on_is_never_taken_for_zero(hall: Hall, foreign: Foreign) -> None:
    await balanced_hall(hall, foreign)
    load = hall.station("load", [channel("1", power(10000.0, 600.0))], on_lost="continue")
    await hall.until(lambda: hall.power_w("eq", "1") < -29000.0)
    load.kill()
    await hall.until(lambda: hall.balance.unknown_power_w > 9000.0)
    await hall.always(lambda: hall.power_w("eq", "1") < -29000.0, 3.0)
    assert hall.balance.channels_stale == 1


async def test_too_much_unknown_power_freezes_the_loop(hall: Hall, foreign: Foreign) -> None:
    await balanced_hall(hall, foreign, freeze_w=15000.0)
    foreign.task.cancel()
    await hall.until(lambda: hall.balance.phase is Phase.FROZEN, 8.0)
    seen = len(hall.setpoints("eq", "1"))
    await hall.until(lambda: hall.telemetry("eq", "1").equalization.last.result is SetpointResult.EXPIRED, 8.0)
    assert len(hall.setpoints("eq", "1")) == seen


async def test_a_killed_equalization_station_comes_back_at_zero_in_its_mode(hall: Hall, foreign: Foreign) -> None:
    await balanced_hall(hall, foreign)
    station = hall.processes[1]
    boot_id = hall.status("eq").boot_id
    station.kill()
    await hall.until(lambda: hall.status("eq").status is Presence.OFFLINE)
    # Without `equalize` in its configuration: the mode is remembered.
    hall.station("eq", [channel("1", autostart=False)])
    await hall.until(lambda: hall.status("eq").boot_id != boot_id)
    first = next(t for t in hall.telemetries("eq", "1") if t.boot_id == hall.status("eq").boot_id)
    assert first.power_w == pytest.approx(0.0, abs=1.0)
    await hall.until(lambda: hall.telemetry("eq", "1").boot_id != boot_id and hall.power_w("eq", "1") < -19000.0)


async def test_the_broker_is_killed_and_restarted(hall: Hall, foreign: Foreign, tmp_path: Path) -> None:
    await balanced_hall(hall, foreign)
    hall.broker.kill()
    await asyncio.sleep(1.0)
    again = start("mosquitto", port=hall.broker.port, data_dir=tmp_path / "again")
    try:
        await hall.until(lambda: hall.session.connected)
        foreign.say_status("online")
        before = len(hall.telemetries("eq", "1"))
        await hall.until(lambda: len(hall.telemetries("eq", "1")) > before + 3, 15.0)
        assert hall.announcement.status is Presence.ONLINE
        await hall.until(lambda: hall.balance.phase is Phase.BALANCING and abs(hall.total_w()) < 500.0, 20.0)
        assert hall.power_w("eq", "1") < -19000.0
    finally:
        await asyncio.to_thread(hall.end)
        await hall.session.close()
        again.stop()


async def test_an_equalizer_frozen_beyond_its_leases_does_no_harm_when_it_wakes(hall: Hall, foreign: Foreign) -> None:
    equalizer = await balanced_hall(hall, foreign)
    equalizer.send_signal(signal.SIGSTOP)
    await hall.until(lambda: hall.telemetry("eq", "1").equalization.last.result is SetpointResult.EXPIRED, 10.0)
    foreign.set_power(-20000.0)
    await asyncio.sleep(1.0)
    equalizer.send_signal(signal.SIGCONT)
    # What it believed is old: nothing of its -20 kW may be worked off against the load that now gives.
    await hall.always(lambda: hall.power_w("eq", "1") > -100.0, 2.0)
    await hall.until(lambda: hall.power_w("eq", "1") > 19000.0, 15.0)
