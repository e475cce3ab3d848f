"""Two equalizers on one loop: one in charge, one standing by; real processes on a real broker."""

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.ports import free_port
from broker.run import start
from schemas import topics
from schemas.messages import LoopBalance, Phase, Presence, ServerAnnouncement, Setpoint, SetpointReason, SetpointResult
from schemas.topics import LoopTopic
from tests.acceptance.hall import EQUALIZER, Foreign, Hall, channel
from tests.pages import fetched

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

LOAD_W = 20_000.0
STEP_W = 500.0
"""What measuring and ramps show of an unchanged power; a takeover that began at 0 W would show all of it."""


def server(hall: Hall, name: str, *, port: int = 0) -> "subprocess.Popen[bytes]":
    """Start an equalizer of this name, with a state folder of its own."""
    text = EQUALIZER.format(
        host="127.0.0.1",
        port=hall.broker.port,
        policy="dwell",
        delay_s=1.5,
        freeze_w=1e6,
        ttl_s=20.0,
        period_s=hall.period_s,
        metrics_port=port,
    )
    path = hall.folder / f"{name}.toml"
    path.write_text(text + "[standby]\nenabled = true\n")
    environment = {"ZEROLOOP_LOOP_SERVER": name, "ZEROLOOP_STATE_DIR": f"state-{name}"}
    return hall.spawn("equalizer", "--config", str(path), name=name, environment=environment)


def said(hall: Hall, code: str) -> list[str]:
    return [event.source for event in hall.events() if event.code == code]


def in_charge(hall: Hall, name: str) -> bool:
    """Whether the server is announced, balances, and is obeyed."""
    announced, telemetry = hall.announcement, hall.telemetry("eq", "1")
    if announced is None or telemetry is None or telemetry.equalization is None or telemetry.equalization.last is None:
        return False
    return (announced.server, announced.status) == (name, Presence.ONLINE) and (
        telemetry.equalization.last.server == name and announced.phase is Phase.BALANCING
    )


async def pair(hall: Hall, foreign: Foreign, *, port: int = 0) -> dict[str, "subprocess.Popen[bytes]"]:
    """A balanced hall with server a in charge and server b standing by."""
    foreign.set_power(LOAD_W)
    hall.station("eq", [channel("1", equalize=True)])
    a = server(hall, "a")
    await hall.until(lambda: in_charge(hall, "a") and hall.power_w("eq", "1") < -19_500.0, what="a in charge")
    b = server(hall, "b", port=port)
    await hall.until(lambda: "server/b" in said(hall, "standby"), what="b stands by")
    return {"a": a, "b": b}


async def taken_over(hall: Hall, name: str, from_s: float) -> tuple[float, float]:
    """Wait until a server is in charge: after how long it was obeyed, and the largest step in power on the way."""
    await hall.until(lambda: in_charge(hall, name), 20.0, what=f"{name} in charge")
    first = next(
        seen.at_s
        for seen in hall.setpoints("eq", "1")
        if seen.at_s > from_s and isinstance(seen.message, Setpoint) and seen.message.server == name
    )
    await asyncio.sleep(2 * hall.period_s)
    powers = [t.power_w for t in hall.telemetries("eq", "1")[-int((time.monotonic() - from_s) / hall.period_s) :]]
    return first - from_s, max(abs(power_w + LOAD_W) for power_w in powers)


async def test_the_standby_takes_over_without_a_step_after_a_kill_and_after_a_clean_stop(
    hall: Hall, foreign: Foreign, record_property: Callable[[str, object], None]
) -> None:
    port = free_port("127.0.0.1", 0)
    servers = await pair(hall, foreign, port=port)
    assert "standby: a is in charge" in (await fetched(port, "/ready"))[1]
    epoch = hall.announcement.epoch
    killed_s = time.monotonic()
    servers["a"].kill()
    after_s, step_w = await taken_over(hall, "b", killed_s)
    record_property("takeover_after_kill_s", after_s)
    record_property("step_after_kill_w", step_w)
    assert after_s < 15.0
    assert step_w < STEP_W
    assert hall.announcement.epoch == epoch + 1
    account = hall.balance.energy.unbalanced_wh

    server(hall, "a")  # it comes back, and does not take the place that b has now
    await hall.until(lambda: said(hall, "standby").count("server/a") == 1, what="a stands by")
    assert in_charge(hall, "b")

    stopped_s = time.monotonic()
    servers["b"].terminate()
    after_s, step_w = await taken_over(hall, "a", stopped_s)
    record_property("takeover_after_stop_s", after_s)
    record_property("step_after_stop_w", step_w)
    assert after_s < 5.0  # 2 s on a computer that has nothing else to do
    assert step_w < STEP_W
    assert await asyncio.to_thread(servers["b"].wait, 10.0) == 0
    assert hall.announcement.epoch == epoch + 2
    assert hall.balance.energy.unbalanced_wh > account > 0.0


def is_refused(hall: Hall) -> bool:
    """Whether the channel has lately refused a setpoint of an epoch that is over."""
    echoes = [telemetry.equalization.last for telemetry in hall.telemetries("eq", "1")[-20:]]
    return (SetpointResult.REJECTED, SetpointReason.STALE_EPOCH) in [(echo.result, echo.reason) for echo in echoes]


async def test_a_frozen_leader_that_wakes_up_is_obeyed_by_nobody_and_stands_by(
    hall: Hall, foreign: Foreign, record_property: Callable[[str, object], None]
) -> None:
    servers = await pair(hall, foreign)
    frozen_s = time.monotonic()
    servers["a"].send_signal(signal.SIGSTOP)
    after_s, step_w = await taken_over(hall, "b", frozen_s)
    record_property("takeover_after_freeze_s", after_s)
    assert after_s < 15.0
    assert step_w < STEP_W
    # What a would send if it had not noticed: under its epoch, on the channel's newest telemetry. The refusal stands in
    # one telemetry or two, until b renews its order.
    stale = [seen.message for seen in hall.setpoints("eq", "1") if seen.message.server == "a"][-1]
    for again in range(100):
        telemetry = hall.telemetry("eq", "1")
        basis = stale.basis.model_copy(update={"boot_id": telemetry.boot_id, "seq": telemetry.seq})
        steps = (stale.steps[0].model_copy(update={"power_w": 5_000.0}),)
        forged = stale.model_copy(update={"seq": stale.seq + 1000 + again, "basis": basis, "steps": steps})
        topic = topics.channel_topic("main", "eq", "1", topics.ChannelTopic.SETPOINT)
        hall.publish(topic, forged, qos=0)
        await asyncio.sleep(0.1)
        if is_refused(hall):
            break
    assert is_refused(hall)
    woken_s = time.monotonic()
    servers["a"].send_signal(signal.SIGCONT)
    await hall.until(lambda: "server/a" in said(hall, "stepped_down"), what="a steps down")
    await hall.always(lambda: abs(hall.power_w("eq", "1") + LOAD_W) < STEP_W, 2.0)
    assert in_charge(hall, "b")
    assert [s for s in hall.setpoints("eq", "1") if s.at_s > woken_s + 0.2 and s.message.server == "a"] == []


async def test_a_broker_that_crashes_under_both_leaves_one_in_charge(
    hall: Hall, foreign: Foreign, tmp_path: Path
) -> None:
    await pair(hall, foreign)
    hall.broker.kill()
    await asyncio.sleep(0.3)
    again = start("mosquitto", port=hall.broker.port, data_dir=tmp_path / "again")
    try:
        await hall.until(lambda: hall.session.connected)
        back_s = time.monotonic()
        foreign.say_status("online")
        await hall.until(lambda: in_charge(hall, "a") or in_charge(hall, "b"), 20.0)
        await hall.always(lambda: abs(hall.power_w("eq", "1") + LOAD_W) < STEP_W, 2.5)
        topic = topics.loop_topic("main", LoopTopic.BALANCE)
        late = [seen.message for seen in hall.watcher.heard[topic] if seen.at_s > max(back_s, time.monotonic() - 2.5)]
        assert len({message.server for message in late if isinstance(message, LoopBalance)}) == 1
    finally:
        await asyncio.to_thread(hall.end)
        await hall.session.close()
        again.stop()


async def test_a_dead_rival_that_the_broker_remembers_as_online_keeps_nobody_standing_by(
    hall: Hall, foreign: Foreign
) -> None:
    foreign.set_power(LOAD_W)
    dead = {
        "server": "dead", "status": "online", "epoch": 41, "phase": "balancing", "version": "1",
        "started_unix_time_s": 1.0, "telemetry_period_s": 1.0, "control": {"policy": "confirm", "delay_s": 15.0},
        "setpoint": {"ttl_s": 30.0, "refresh_s": 5.0},
    }  # fmt: skip
    topic = topics.loop_topic("main", LoopTopic.SERVER)
    hall.session.publish(topic, json.dumps(dead).encode(), qos=1, retain=True)
    hall.station("eq", [channel("1", equalize=True)])
    server(hall, "a")
    await hall.until(lambda: in_charge(hall, "a"), 20.0)
    assert hall.announcement.epoch == 42

    # One of the same name is told off, and the one in charge goes on.
    second = server(hall, "a")
    assert await asyncio.to_thread(second.wait, 20.0) == 2
    log = (hall.folder / "a.log").read_text()
    assert "zeroloop: loop.server: a server 'a' runs on this loop already" in log
    assert "duplicate_server" in [event.code for event in hall.events()]
    assert in_charge(hall, "a")
    assert isinstance(hall.announcement, ServerAnnouncement)
