"""The broker."""

import asyncio
import os
import signal
import time

import pytest

from schemas import codec, topics
from schemas.messages import ChannelTelemetry, Message, Presence, ServerAnnouncement, SetpointResult, StationStatus
from schemas.topics import ChannelTopic, LoopTopic
from tests.chaos.arena import Arena
from tests.chaos.disk import small_disk
from tests.chaos.registry import Measured, fault
from tests.patience import PATIENCE_S
from transport.session import Session

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]


async def both_parts_logged_it(arena: Arena) -> None:
    """Station and equalizer each have logged once that the connection was lost, and once that it is back.

    Their events may come before this test is connected again; `a_reset` holds those.
    """
    for process in ("eq", "equalizer"):
        for code in ("connection_lost", "connection_back"):
            await arena.until(lambda p=process, c=code: arena.log(p).count(c) == 1, what=f"{code} in the log")


async def until_lease_and_leader_are_told(arena: Arena) -> None:
    """Wait until the station has told of the end of its lease, and that it is led again: once each."""
    await arena.until_balanced()
    await arena.until_told("lease_expired", "eq", "station/eq")
    await arena.until_told("led_again", "eq", "station/eq")


@fault(
    "The broker is stopped, and started again later",
    "Leases run out, the channel ramps to 0 W and stays in its mode; everybody connects again and is led on.",
    {"0 W": 60.0, "back": 15.0},
    quick=False,
)
async def test_the_broker_is_stopped_and_started_again(arena: Arena) -> Measured:
    await arena.balanced()
    stopped_s = time.monotonic()
    await asyncio.to_thread(arena.broker.stop)
    zero_s = await arena.until_zero(stopped_s)
    back_s = await arena.until_back(await arena.restart_broker("broker"))
    await both_parts_logged_it(arena)
    await until_lease_and_leader_are_told(arena)
    return {"0 W": zero_s, "back": back_s}


async def retained(arena: Arena, wanted: dict[str, type[Message]]) -> dict[str, Message]:
    """Return what a newcomer finds on some topics."""
    found: dict[str, Message] = {}

    def on_message(topic: str, payload: bytes, kept: bool) -> None:
        if kept and topic in wanted:
            found[topic] = codec.decode(wanted[topic], payload)

    newcomer = Session(
        arena.settings,
        client_id=f"newcomer-{time.monotonic()}",
        on_message=on_message,
        on_connected=lambda: newcomer.subscribe((f"{topics.ROOT}/#", 1)),
        clock=time.monotonic,
    )
    await newcomer.connect_once(PATIENCE_S)
    await arena.until(lambda: found.keys() == wanted.keys(), what="everything retained")
    await newcomer.close()
    return found


@fault(
    "The broker is killed, and starts again with nothing kept",
    "As above; stations and equalizer publish status, telemetry and announcement anew, retained, on connecting.",
    {"0 W": 60.0, "back": 15.0},
)
async def test_the_broker_is_killed_and_everything_is_published_anew(arena: Arena) -> Measured:
    await arena.balanced()
    killed_s = time.monotonic()
    arena.broker.kill()
    zero_s = await arena.until_zero(killed_s)
    started_s = await arena.restart_broker("again")
    back_s = await arena.until_back(started_s)
    status, server = topics.status_topic("main", "eq"), topics.loop_topic("main", LoopTopic.SERVER)
    telemetry = topics.channel_topic("main", "eq", "1", ChannelTopic.TELEMETRY)
    found = await retained(arena, {status: StationStatus, server: ServerAnnouncement, telemetry: ChannelTelemetry})
    assert found[status].status is Presence.ONLINE
    assert found[server].status is Presence.ONLINE
    assert found[telemetry].boot_id == found[status].boot_id
    await both_parts_logged_it(arena)
    await until_lease_and_leader_are_told(arena)
    return {"0 W": zero_s, "back": back_s}


@fault(
    "The broker is frozen (SIGSTOP) and goes on later",
    "As if it were gone; what waited in its sockets comes too late and is refused as resting on old telemetry, or has "
    "run out on arrival.",
    {"0 W": 60.0, "back": 15.0},
)
async def test_the_broker_is_frozen_and_goes_on(arena: Arena) -> Measured:
    await arena.balanced()
    frozen_s = time.monotonic()
    os.kill(arena.broker.pid, signal.SIGSTOP)
    zero_s = await arena.until_zero(frozen_s)
    await asyncio.sleep(0.5 * arena.pace.ttl_s)
    woken_s = time.monotonic()
    os.kill(arena.broker.pid, signal.SIGCONT)
    back_s = await arena.until_back(woken_s)
    late = [
        one.equalization.last
        for one in arena.telemetries("eq", "1")
        if one.equalization is not None and one.equalization.last is not None
    ]
    assert any(last.result is SetpointResult.EXPIRED for last in late)
    await arena.until_balanced()
    # What the station says to a broker that stands still may come to listeners before they are back.
    await arena.until(lambda: arena.log("eq").count("lease_expired") == 1, what="the end of the lease in the log")
    await arena.until_told("led_again", "eq", "station/eq")
    return {"0 W": zero_s, "back": back_s}


@pytest.mark.root
@fault(
    "The broker's disk is full, and then it is killed",
    "It goes on without saving. After the restart what it had kept is old or gone, and is published anew.",
    {"back": 15.0},
    quick=False,
)
async def test_the_brokers_disk_is_full(arena: Arena) -> Measured:
    with small_disk(arena.folder / "full") as disk:
        await asyncio.to_thread(arena.broker.stop)
        config = arena.folder / "full.conf"
        config.write_text(
            f"listener {arena.broker.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser root\n"
            f"persistence true\npersistence_location {disk.folder}/\nautosave_interval 1\n"
        )
        await arena.restart_broker("on-full-disk", config=config)
        await arena.balanced()
        disk.fill()
        await arena.always(lambda: arena.is_led, 3.0, what="led on")
        arena.kill_broker()
        back_s = await arena.until_back(await arena.restart_broker("on-full-disk", config=config))
        assert arena.told("lease_expired") == 0
        await arena.until_balanced()
        arena.kill_broker()
    return {"back": back_s}
