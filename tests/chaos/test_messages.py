"""Messages that should not be."""

import asyncio
import time

import pytest

from schemas import codec, topics
from schemas.messages import (
    Basis,
    ChannelCommand,
    ChannelTelemetry,
    Phase,
    Presence,
    Setpoint,
    SetpointResult,
    SetpointStep,
    StepType,
    WorkStatus,
)
from schemas.topics import ChannelTopic, LoopTopic
from tests.chaos.arena import LIMIT_W, LOAD_W, REST_W, Arena
from tests.chaos.registry import Measured, fault

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

SETPOINT = topics.channel_topic("main", "eq", "1", ChannelTopic.SETPOINT)
COMMAND = topics.channel_topic("main", "eq", "1", ChannelTopic.COMMAND)
SERVER = topics.loop_topic("main", LoopTopic.SERVER)


def setpoint(arena: Arena, power_w: float, seq: int) -> Setpoint:
    """A setpoint of the server in charge, as far as a station can tell."""
    newest = arena.telemetry("eq", "1")
    return Setpoint(
        server=arena.announcement.server,
        epoch=arena.announcement.epoch,
        seq=seq,
        basis=Basis(boot_id=newest.boot_id, seq=newest.seq),
        ttl_s=10.0,
        steps=(SetpointStep(after_s=0.0, power_w=power_w),),
        unix_time_s=time.time(),
    )


@fault(
    "A setpoint and a command wait retained for a station",
    "They may be of any age: dropped, counted, logged once; the station does as if there were none.",
    {"back": 15.0},
)
async def test_a_retained_setpoint_and_a_retained_command(arena: Arena) -> Measured:
    _, station = await arena.balanced()
    station.kill()
    await arena.until(lambda: arena.status("eq").status is Presence.OFFLINE)
    arena.publish(SETPOINT, setpoint(arena, 50000.0, 10**9), retain=True)
    arena.publish(COMMAND, ChannelCommand(id="old", action="stop"), retain=True)
    started_s = time.monotonic()
    arena.equalize()
    back_s = await arena.until_back(started_s)
    assert arena.log("eq").count("unexpected_retain") == 2
    assert max(power_w for at_s, power_w, _ in arena.equipment().history() if at_s > started_s) < REST_W
    return {"back": back_s}


@fault(
    "The equalizer starts and finds the retained telemetry of a station that is long dead",
    "It counts with its last value, as unknown; the equalizer waits three periods for it and then balances the rest.",
    {"balancing": 15.0},
)
async def test_stale_retained_telemetry_at_the_equalizers_start(arena: Arena) -> Measured:
    dead = ChannelTelemetry(
        boot_id="dead",
        seq=7,
        unix_time_s=0.0,
        work_status=WorkStatus.WORKING,
        step_type=StepType.CP_CHG,
        step_id=1,
        cycle_count=1,
        voltage_v=400.0,
        current_a=30.0,
        power_w=12000.0,
        battery_connected=True,
    )
    arena.publish(topics.channel_topic("main", "dead", "1", ChannelTopic.TELEMETRY), dead, retain=True)
    started_s = time.monotonic()
    arena.lead()
    await arena.until(lambda: arena.balance is not None and arena.balance.phase != Phase.STARTING)
    balancing_s = time.monotonic() - started_s
    assert arena.balance.unknown_power_w == pytest.approx(12000.0)
    assert arena.balance.channels_stale == 1
    arena.equalize()
    await arena.until(lambda: arena.equipment().power_w < -11000.0, arena.pace.settle_s, what="it is met as it was")
    return {"balancing": balancing_s}


@fault(
    "A late last will says `offline` of a station, or of the server, that has connected again",
    "Whoever is meant says `online` again at once; nothing else changes.",
    {"corrected": 2.0},
)
async def test_a_late_last_will(arena: Arena) -> Measured:
    await arena.balanced()
    status, announcement = arena.status("eq"), arena.announcement
    sent_s = time.monotonic()
    will = status.model_copy(update={"status": Presence.OFFLINE})
    arena.publish(topics.status_topic("main", "eq"), will, retain=True)
    gone = announcement.model_copy(update={"status": Presence.OFFLINE})
    arena.publish(SERVER, gone, retain=True)
    await arena.until(lambda: [one.status for one in arena.statuses("eq")[-2:]] == [Presence.OFFLINE, Presence.ONLINE])
    await arena.until(lambda: arena.announcement.status is Presence.ONLINE and arena.is_led)
    corrected_s = time.monotonic() - sent_s
    await arena.always(lambda: arena.is_led, 2.0)
    assert arena.told("telemetry_stale") == 0
    assert arena.equipment().power_w == pytest.approx(-LOAD_W, abs=600.0)
    return {"corrected": corrected_s}


@fault(
    "A setpoint asks for ten times what the channel can do",
    "It is cut to the limits of now (`clamped`), approached on the ramp, and ends with its lease.",
    {"clamped": 5.0, "0 W": 60.0},
)
async def test_a_setpoint_outside_the_limits(arena: Arena) -> Measured:
    equalizer, _ = await arena.balanced()
    equalizer.kill()
    await arena.until(lambda: arena.announcement.status is Presence.OFFLINE)
    sent_s = time.monotonic()
    arena.session.publish(SETPOINT, codec.encode(setpoint(arena, 10.0 * LIMIT_W, 10**6)))
    await arena.until(lambda: arena.telemetry("eq", "1").equalization.last.result is SetpointResult.CLAMPED)
    clamped_s = time.monotonic() - sent_s
    await arena.until(lambda: arena.equipment().power_w > 0.7 * LIMIT_W, 10.0, what="what it can do")
    await asyncio.sleep(1.0)
    await arena.until(lambda: abs(arena.equipment().power_w) < REST_W, 20.0)
    return {"clamped": clamped_s, "0 W": time.monotonic() - sent_s}
