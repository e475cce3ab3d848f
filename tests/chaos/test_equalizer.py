"""The equalizer."""

import asyncio
import json
import signal
import time

import pytest

from schemas.messages import Phase, Presence
from tests.chaos.arena import LOAD_W, SERVER, Arena
from tests.chaos.disk import small_disk
from tests.chaos.registry import Measured, fault
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]


@fault(
    "The equalizer is killed, and started again later",
    "Its will says `offline`; leases run out and the channels ramp to 0 W. The next run has a higher epoch, goes on "
    "with the energy account, and leads again.",
    {"0 W": 60.0, "back": 15.0},
)
async def test_the_equalizer_is_killed(arena: Arena) -> Measured:
    equalizer, _ = await arena.balanced()
    epoch = arena.announcement.epoch
    killed_s = time.monotonic()
    equalizer.kill()
    await arena.until(lambda: arena.announcement.status is Presence.OFFLINE, what="the last will")
    zero_s = await arena.until_zero(killed_s)
    await arena.until_told("lease_expired", "eq", "station/eq")
    started_s = time.monotonic()
    arena.lead()
    back_s = await arena.until_back(started_s)
    assert arena.announcement.epoch > epoch
    await arena.until_told("led_again", "eq", "station/eq")
    return {"0 W": zero_s, "back": back_s}


@fault(
    "The equalizer is stopped (SIGTERM), and started again",
    "It brings every channel to 0 W, waits for the echoes, says `offline` and ends with 0; the next run leads again.",
    {"0 W": 10.0, "back": 15.0},
)
async def test_the_equalizer_is_restarted(arena: Arena) -> Measured:
    equalizer, _ = await arena.balanced()
    epoch, changes = arena.announcement.epoch, arena.balance.setpoint_changes
    stopped_s = time.monotonic()
    equalizer.terminate()
    zero_s = await arena.until_zero(stopped_s)
    assert await asyncio.to_thread(equalizer.wait, PATIENCE_S) == 0
    await arena.until(lambda: arena.announcement.status is Presence.OFFLINE)
    started_s = time.monotonic()
    arena.lead()
    back_s = await arena.until_back(started_s)
    assert arena.announcement.epoch == epoch + 1
    assert arena.balance.setpoint_changes > changes
    return {"0 W": zero_s, "back": back_s}


@fault(
    "The equalizer is frozen for 40 s (SIGSTOP) and goes on, while the load has turned round",
    "Leases run out. When it wakes it distrusts all it knew, takes one fresh round of telemetry and only then leads.",
    {"0 W": 60.0, "back": 15.0},
)
async def test_the_equalizer_is_frozen_and_goes_on(arena: Arena) -> Measured:
    equalizer, _ = await arena.balanced()
    frozen_s = time.monotonic()
    equalizer.send_signal(signal.SIGSTOP)
    zero_s = await arena.until_zero(frozen_s)
    arena.load.set_power(-LOAD_W)
    await asyncio.sleep(max(0.0, frozen_s + 40.0 * arena.pace.ttl_s / 30.0 - time.monotonic()))
    woken_s = time.monotonic()
    equalizer.send_signal(signal.SIGCONT)
    back_s = await arena.until_back(woken_s)
    await arena.until_told("stalled", "equalizer", "server/equalizer")
    await arena.until_balanced()
    acted = [power_w for at_s, power_w, _ in arena.equipment().history() if at_s > woken_s]
    assert min(acted) > -100.0, "it worked off what it had believed before"
    return {"0 W": zero_s, "back": back_s}


@fault(
    "A second equalizer is started on the loop",
    "The one with the higher epoch leads; the other stands by, says so with an alarm, and sends nothing. When the one "
    "in charge is gone and its leases have run out, the other leads again.",
    {"one in charge": 15.0, "back": 60.0},
)
async def test_two_equalizers(arena: Arena) -> Measured:
    await arena.balanced()
    started_s = time.monotonic()
    second = arena.lead("second", server="second", metrics=False)
    await arena.until(lambda: "phase from=balancing to=standby" in arena.log("equalizer"), what="one stands by")
    one_s = time.monotonic() - started_s
    await arena.until_told("server_conflict", "equalizer", "server/equalizer")
    await arena.until(lambda: arena.is_led and arena.balance.server == "second")
    # It has heard nothing of what the first one may have sent ahead, and waits until that would have come.
    await arena.until(lambda: arena.setpoints("eq", "1")[-1].message.server == "second", what="the second one's orders")
    # Nothing more of the first one is obeyed, nor sent.
    mark_s = time.monotonic()
    await asyncio.sleep(3.0 * arena.pace.refresh_s)
    servers = {seen.message.server for seen in arena.setpoints("eq", "1") if seen.at_s > mark_s}
    assert servers == {"second"}
    gone_s = time.monotonic()
    second.kill()
    await arena.until(
        lambda: arena.balance.server == "equalizer" and arena.balance.phase is Phase.BALANCING, arena.pace.zero_s + 20.0
    )
    await arena.until_back(gone_s)
    return {"one in charge": one_s, "back": time.monotonic() - gone_s}


@fault(
    "More of the loop's power is unknown than `control.freeze_w` allows",
    "Phase `frozen`: nothing is changed, leases run out and the channel ramps to 0 W. When it is heard again, the loop "
    "is led on.",
    {"frozen": 8.0, "0 W": 60.0, "back": 15.0},
)
async def test_too_much_unknown_power(arena: Arena) -> Measured:
    arena.lead(freeze_w=0.75 * LOAD_W)
    arena.equalize()
    load = arena.add_load()
    await arena.until_balanced()
    silent_s = time.monotonic()
    load.task.cancel()
    await asyncio.gather(load.task, return_exceptions=True)
    await arena.until(lambda: arena.balance.phase is Phase.FROZEN, what="frozen")
    frozen_s = time.monotonic() - silent_s
    sent = len(arena.setpoints("eq", "1"))
    zero_s = await arena.until_zero(silent_s)
    assert len(arena.setpoints("eq", "1")) == sent, "nothing is asked of it"
    for code in ("telemetry_stale", "frozen"):
        await arena.until_told(code, "equalizer", "server/equalizer")
    heard_s = time.monotonic()
    load.task = asyncio.create_task(load.publish(), name="load")
    back_s = await arena.until_back(heard_s)
    await arena.until_told("telemetry_fresh", "equalizer")
    return {"frozen": frozen_s, "0 W": zero_s, "back": back_s}


@pytest.mark.root
@fault(
    "The equalizer's disk is full when its epoch rises",
    "It leads on; a warning says that the epoch is not stored (the retained announcement and the stations remember "
    "it). Once there is room it is stored without being asked.",
    {"told": 5.0, "back": 15.0},
)
async def test_the_equalizers_disk_is_full(arena: Arena) -> Measured:
    with small_disk(arena.folder / "full") as disk:
        arena.equalize()
        arena.lead(state_dir=str(disk.folder))
        await arena.until(lambda: arena.is_back(float("-inf")), 30.0)
        disk.fill()
        full_s = time.monotonic()
        # The will of another server, long gone, of a higher epoch.
        other = {"server": "other", "status": Presence.OFFLINE, "epoch": arena.announcement.epoch + 5}
        arena.publish(SERVER, arena.announcement.model_copy(update=other), retain=True)
        await arena.until_told("epoch_not_stored", "equalizer", "server/equalizer")
        told_s = time.monotonic() - full_s
        await arena.until(lambda: arena.announcement.epoch == other["epoch"] + 1)
        disk.clear()
        cleared_s = time.monotonic()
        await arena.until_told("epoch_stored_again", "equalizer", "server/equalizer")
        back_s = time.monotonic() - cleared_s
        assert json.loads((disk.folder / "epoch-main.json").read_text())["epoch"] == arena.announcement.epoch
        await asyncio.to_thread(arena.end)
    return {"told": told_s, "back": back_s}
