"""Messages that should not be."""

import asyncio
import json
import socket
import time

import pytest

from schemas import codec, topics
from schemas.messages import (
    Basis,
    ChannelCommand,
    ChannelTelemetry,
    Message,
    Phase,
    Presence,
    Setpoint,
    SetpointResult,
    SetpointStep,
    StepType,
    WorkStatus,
)
from schemas.topics import ChannelTopic
from tests.chaos.arena import BALANCE, LIMIT_W, LOAD_W, REST_W, SERVER, Arena
from tests.chaos.registry import Measured, fault
from tests.patience import PATIENCE_S
from transport.session import Session

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]

SETPOINT = topics.channel_topic("main", "eq", "1", ChannelTopic.SETPOINT)
COMMAND = topics.channel_topic("main", "eq", "1", ChannelTopic.COMMAND)


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
    await arena.until(lambda: arena.log("eq").count("unexpected_retain") == 2, what="both in the log")
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


@fault(
    "Somebody clears a station's retained status, and the announcement",
    "Whoever is meant says it again at once; newcomers find both.",
    {"corrected": 3.0},
)
async def test_what_was_retained_is_cleared(arena: Arena) -> Measured:
    await arena.balanced()
    status = topics.status_topic("main", "eq")
    before = len(arena.statuses("eq")), len(arena.watcher.heard[SERVER])
    cleared_s = time.monotonic()
    for topic in (status, SERVER):
        arena.session.publish(topic, b"", qos=1, retain=True)
    await arena.until(
        lambda: len(arena.statuses("eq")) > before[0] and len(arena.watcher.heard[SERVER]) > before[1],
        what="both are said again",
    )
    await arena.until(lambda: arena.is_led)
    corrected_s = time.monotonic() - cleared_s
    await arena.until_balanced()
    return {"corrected": corrected_s}


DEEP = 30_000
HOSTILE: tuple[bytes, ...] = (
    b"\x00",
    b"\xff\xfe\xfd",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"{}",
    b"NaN",
    b"1e999",
    b'{"power_w":NaN}',
    b'{"power_w":Infinity,"power_w":1}',
    b"[" * DEEP,
    b'{"a":' * 12_000,
    b'{"id":"\\ud800","action":"stop"}',
    b'{"id":"x","action":' + b"[" * DEEP,
    b'{"id":"' + b"x" * 65_000 + b'","action":"' + b"y" * 400 + b'"}',
    b'{"epoch":' + b"9" * 5_000 + b"}",
    b'{"boot_id":"x","seq":-1,"voltage_v":"400"}',
    b"{" + b",".join(b'"k%d":1' % number for number in range(6_000)) + b"}",
)
LEAVES = ("server", "balance", "event", "command", "reply", "meter", "station/eq/status", "station/eq/x")


def mutated(message: Message) -> list[bytes]:
    """Return a message of the contract with each key in turn missing, of another type, or not finite."""
    values = json.loads(codec.encode(message))
    strange: tuple[object, ...] = (None, "x", [], {}, -1, 2**64, 1e308, True)
    others = [{**values, key: other} for key in values for other in strange]
    others += [{name: value for name, value in values.items() if name != key} for key in values]
    return [json.dumps(other).encode() for other in others] + [
        codec.encode(message)[:-1] + b',"seq":1,"seq":2}',
        codec.encode(message)[:-7],
    ]


@fault(
    "Malformed, oversized, deeply nested and hostile payloads on every topic",
    "Dropped, counted by reason, logged once a source; nobody falters, and the loop stays balanced. `silence` is the "
    "longest time without a word from the equalizer.",
    {"silence": 5.0, "reply": 2.0},
)
async def test_hostile_payloads_on_every_topic(arena: Arena) -> Measured:
    equalizer, station = await arena.balanced()
    names = [*LEAVES, *(f"station/eq/channel/{channel}/{leaf}" for channel in ("1", "9") for leaf in ChannelTopic)]
    began_s = time.monotonic()
    for name in names:
        for payload in HOSTILE:
            arena.session.publish(f"{topics.ROOT}/main/{name}", payload, qos=1)
        await asyncio.sleep(0.01)
    # The newest valid messages, broken in every key; what of them is still valid is old, and says nothing new.
    for payload in mutated(setpoint(arena, 50_000.0, 1)):
        arena.session.publish(SETPOINT, payload, qos=1)
    for payload in mutated(arena.telemetry("eq", "1")):
        stranger = topics.channel_topic("main", "x", "1", ChannelTopic.TELEMETRY)
        arena.session.publish(stranger, payload.replace(b"null", b"{}"), qos=1)
    for payload in mutated(ChannelCommand(id="z", action="dance")):
        arena.session.publish(COMMAND, payload.replace(b'"x"', b"7"), qos=1)
    intruder = Session(arena.settings, client_id="intruder", on_message=lambda *_: None, clock=time.monotonic)
    await intruder.connect_once(PATIENCE_S)
    intruder.publish(SETPOINT, b"x" * 70_000, qos=1)  # larger than the broker lets pass
    await arena.session.flush(20.0)
    await asyncio.sleep(2.0)
    await intruder.close()
    silence_s = arena.longest_silence_s(BALANCE, began_s)
    assert equalizer.poll() is None
    assert station.poll() is None
    assert "Traceback" not in arena.log("eq") + arena.log("equalizer")
    assert arena.telemetry("eq", "1").equalization is not None, "it obeyed something hostile"
    await arena.until_balanced()
    assert await arena.ask("equalize") < arena.pace.reply_s
    reply_s = await arena.ask("stop")
    return {"silence": silence_s, "reply": reply_s}


@fault(
    "A client that subscribes to everything and reads nothing, while megabytes pass",
    "It delays nobody else; the broker lets it go when its keep-alive is over. `silence` is the longest time without a "
    "word from the equalizer.",
    {"silence": 3.0},
    quick=False,
)
async def test_a_slow_consumer(arena: Arena) -> Measured:
    await arena.balanced()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    slow.connect(("127.0.0.1", arena.broker.port))
    # CONNECT (MQTT 3.1.1, keep-alive 60 s, client "slow") and SUBSCRIBE to "#".
    slow.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04slow" + b"\x82\x06\x00\x01\x00\x01#\x00")
    began_s = time.monotonic()
    for number in range(300):
        arena.session.publish("noise", b"%d " % number + bytes(60_000), qos=1)
        if number % 20 == 0:
            await asyncio.sleep(0.1)
    await arena.session.flush(20.0)
    await asyncio.sleep(3.0)
    silence_s = arena.longest_silence_s(BALANCE, began_s)
    assert arena.told("lease_expired") == 0
    assert arena.is_led
    slow.close()
    return {"silence": silence_s}
