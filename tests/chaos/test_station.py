"""The station's process."""

import asyncio
import json
import re
import signal
import time

import pytest

from schemas import codec, topics
from schemas.messages import Basis, ChannelTelemetry, Presence, Setpoint, SetpointReason, SetpointStep
from schemas.topics import ChannelTopic
from tests.acceptance.hall import power
from tests.chaos.arena import LOAD_W, NEAR_W, Arena
from tests.chaos.disk import small_disk
from tests.chaos.proxy import Proxy
from tests.chaos.registry import Measured, fault
from tests.patience import PATIENCE_S
from transport.session import Session

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]


@fault(
    "A station with a load is killed",
    'Its will says `offline`; with `on_lost = "zero"` its load counts as 0 W at once, and the loop is balanced '
    "without it.",
    {"known": 3.0, "balanced": 60.0},
)
async def test_a_station_with_a_load_is_killed(arena: Arena) -> Measured:
    await arena.balanced()
    load = arena.equalize("load", equalize=False, program=power(10000.0, 600.0))
    await arena.until(lambda: arena.equipment().power_w < -LOAD_W - 9000.0, arena.pace.settle_s)
    killed_s = time.monotonic()
    load.kill()
    await arena.until(lambda: abs(arena.balance.load_power_w - LOAD_W) < NEAR_W, what="its load counts no more")
    known_s = time.monotonic() - killed_s
    await arena.until_told("station_offline", "equalizer", "station/load")
    await arena.until_balanced()
    return {"known": known_s, "balanced": time.monotonic() - killed_s}


@fault(
    'A station is killed whose equipment goes on by itself (`on_lost = "continue"`)',
    "Its load counts on with its last value, as unknown power; it is never taken for 0 W.",
    {"unknown": 6.0},
)
async def test_a_station_is_killed_whose_equipment_goes_on(arena: Arena) -> Measured:
    await arena.balanced()
    load = arena.equalize("load", equalize=False, program=power(10000.0, 600.0), on_lost="continue")
    await arena.until(lambda: arena.equipment().power_w < -LOAD_W - 9000.0, arena.pace.settle_s)
    killed_s = time.monotonic()
    load.kill()
    await arena.until(lambda: arena.balance.unknown_power_w > 9000.0, what="its power is unknown")
    unknown_s = time.monotonic() - killed_s
    await arena.until_told("telemetry_stale", "equalizer")
    await arena.always(lambda: arena.equipment().power_w < -LOAD_W - 9000.0, 2.0 * arena.pace.delay_s)
    return {"unknown": unknown_s}


@fault(
    "A station that equalizes is killed, and started again",
    "It begins at 0 W, in its mode, without being told to; a server of an older epoch is refused as before.",
    {"back": 15.0},
)
async def test_an_equalizing_station_is_killed_and_restarted(arena: Arena) -> Measured:
    _, station = await arena.balanced()
    boot_id, epoch = arena.status("eq").boot_id, arena.announcement.epoch
    station.kill()
    await arena.until(lambda: arena.status("eq").status is Presence.OFFLINE)
    stored = json.loads((arena.folder / "state-eq" / "channels.json").read_text())["channels"]["1"]
    assert (stored["equalizing"], stored["epoch"]) == (True, epoch)
    started_s = time.monotonic()
    # Not by its configuration: the mode is remembered.
    arena.equalize(equalize=False)
    await arena.until(lambda: arena.status("eq").boot_id != boot_id)

    def since() -> list[ChannelTelemetry]:
        """What its new run has said: some time after its status."""
        return [one for one in arena.telemetries("eq", "1") if one.boot_id == arena.status("eq").boot_id]

    await arena.until(since)
    first = since()[0]
    assert first.power_w == pytest.approx(0.0, abs=1.0)
    back_s = await arena.until_back(started_s)
    await arena.until_told("station_offline", "equalizer", "station/eq")
    newest = arena.telemetry("eq", "1")
    old = Setpoint(
        server="old",
        epoch=epoch - 1,
        seq=10**6,
        basis=Basis(boot_id=newest.boot_id, seq=newest.seq),
        ttl_s=10.0,
        steps=(SetpointStep(after_s=0.0, power_w=30000.0),),
        unix_time_s=0.0,
    )
    payload = codec.encode(old)

    def refused() -> bool:
        # Again and again: telemetry tells of the last setpoint only, and the equalizer goes on sending its own.
        arena.session.publish(topics.channel_topic("main", "eq", "1", ChannelTopic.SETPOINT), payload)
        return any(
            one.equalization is not None
            and one.equalization.last is not None
            and one.equalization.last.server == "old"
            and one.equalization.last.reason is SetpointReason.STALE_EPOCH
            for one in arena.telemetries("eq", "1")
        )

    await arena.until(
        refused,
        what="the older server is refused",
    )
    return {"back": back_s}


@fault(
    "A station that equalizes is frozen (SIGSTOP) beyond its lease, and goes on",
    "Its power counts as unknown after 3 periods. While the process stands still, its equipment does what it was told "
    "last, unless its own watchdog ends that. When the process wakes, the lease is over: it ramps towards 0 W at once, "
    "and is led again by what it says then.",
    {"unknown": 5.0, "ramps": 5.0, "back": 15.0},
)
async def test_an_equalizing_station_is_frozen_and_goes_on(arena: Arena) -> Measured:
    _, station = await arena.balanced()
    frozen_s = time.monotonic()
    station.send_signal(signal.SIGSTOP)
    await arena.until(lambda: arena.balance.unknown_power_w > LOAD_W - NEAR_W, what="its power is unknown")
    unknown_s = time.monotonic() - frozen_s
    await arena.until_told("telemetry_stale", "equalizer")
    await asyncio.sleep(max(0.0, frozen_s + arena.pace.ttl_s + 1.0 - time.monotonic()))
    woken_s = time.monotonic()
    station.send_signal(signal.SIGCONT)
    # It may be led again at once; but the old lease is over, and that shows first.
    await arena.until(lambda: arena.told("lease_expired", "station/eq") == 1, what="the end of its lease")
    ramps_s = time.monotonic() - woken_s
    back_s = await arena.until_back(woken_s)
    await arena.until_told("telemetry_fresh", "equalizer")
    await arena.until_told("stalled", "eq", "station/eq")
    return {"unknown": unknown_s, "ramps": ramps_s, "back": back_s}


@fault(
    "A second station is started with the id of a living one",
    "It refuses to start, says why and ends with 2; an alarm names both. The first goes on.",
    {"refused": 15.0},
)
async def test_two_stations_with_one_id(arena: Arena) -> Measured:
    await arena.balanced()
    first = arena.status("eq").boot_id
    started_s = time.monotonic()
    second = arena.equalize(file="namesake", equipment="other", state_dir="state-namesake")
    assert await asyncio.to_thread(second.wait, PATIENCE_S) == 2
    refused_s = time.monotonic() - started_s
    said = arena.log("namesake").strip().splitlines()[-1]
    assert "a station 'eq' is running already" in said
    assert first in said
    await arena.until(lambda: arena.told("duplicate_station", "station/eq") == 1, what="the alarm")
    alarm = next(event for event in arena.events() if event.code == "duplicate_station")
    named = [word for word in alarm.text.replace(")", " ").replace(",", " ").split() if len(word) == len(first)]
    assert first in named
    assert len({word for word in named if all(digit in "0123456789abcdef" for digit in word)}) == 2
    await arena.until(lambda: arena.is_led, what="the first goes on")
    return {"refused": refused_s}


@pytest.mark.root
@fault(
    "The station's disk is full",
    "Commands and setpoints are obeyed on; an alarm says that a restart would not remember them. Once there is room it "
    "is stored without being asked.",
    {"told": 5.0, "back": 15.0},
)
async def test_the_stations_disk_is_full(arena: Arena) -> Measured:
    with small_disk(arena.folder / "full") as disk:
        await arena.balanced(state_dir=str(disk.folder))
        disk.fill()
        full_s = time.monotonic()
        assert await arena.ask("stop") < arena.pace.reply_s
        await arena.until_stopped()
        assert await arena.ask("equalize") < arena.pace.reply_s
        await arena.until_told("state_not_stored", "eq", "station/eq")
        told_s = time.monotonic() - full_s
        await arena.until_balanced()
        disk.clear()
        cleared_s = time.monotonic()
        await arena.until_told("state_stored_again", "eq", "station/eq")
        back_s = time.monotonic() - cleared_s
        stored = json.loads((disk.folder / "channels.json").read_text())["channels"]["1"]
        assert (stored["equalizing"], stored["epoch"]) == (True, arena.announcement.epoch)
        await asyncio.to_thread(arena.end)
    return {"told": told_s, "back": back_s}


@fault(
    "Another client takes a station's client id, three times",
    "The broker throws the station out each time; it connects again, and says so.",
    {"back": 15.0},
    quick=False,
)
async def test_two_processes_with_one_client_id(arena: Arena, proxy: Proxy) -> Measured:
    await arena.balanced(port=proxy.port)
    # It holds 128 random bits; only who sits on the way knows it.
    found = re.search(rb"zeroloop-eq-[0-9a-f]{32}", proxy.up.connect)
    assert found is not None
    back_s = 0.0
    for number in range(1, 4):
        intruder = Session(
            arena.settings,
            client_id=found[0].decode(),
            on_message=lambda *_: None,
            clock=time.monotonic,
        )
        await intruder.connect_once(PATIENCE_S)
        taken_s = time.monotonic()
        await arena.until(lambda n=number: arena.log("eq").count("connection_back") == n, what="it is back")
        back_s = max(back_s, await arena.until_back(taken_s))
        await intruder.close()
    await arena.until_told("connection_lost", "eq", "station/eq", times=3)
    assert arena.told("lease_expired") == 0
    return {"back": back_s}
