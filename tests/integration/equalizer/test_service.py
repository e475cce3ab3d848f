"""The equalizer beside a real broker and stations that speak the contract by hand."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from broker.run import start
from equalizer.control.residual import Cause
from equalizer.service import EqualizerService
from schemas.settings import BrokerSettings, ConfigurationError
from tests.integration.equalizer.actors import (
    ROOT,
    FakeChannel,
    FakeStation,
    Mosquitto,
    Observer,
    equalizing,
    running,
    settings,
)
from tests.pages import fetched
from tests.patience import PATIENCE_S, until
from tests.ports import free_port

pytestmark = pytest.mark.broker

LOAD_W = 20_000.0


def hall(port: int, load_w: float = LOAD_W) -> tuple[FakeStation, FakeStation]:
    """One load and one equalization channel, each at a station of its own."""
    load = FakeStation(port, "load", {"1": FakeChannel(power_w=load_w)})
    return load, FakeStation(port, "eq", {"1": FakeChannel(equalizing=True)})


def newest(observer: Observer, leaf: str) -> dict[str, Any]:
    return observer.said(leaf)[-1]


async def next_balances(observer: Observer) -> list[dict[str, Any]]:
    """Return the next two that are said from now on; the one before them may have been on its way."""
    heard = len(observer.said("balance"))
    await until(lambda: len(observer.said("balance")) >= heard + 3)
    return observer.said("balance")[heard + 1 :]


async def test_a_load_is_met_and_the_loop_is_told(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path):
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        await until(lambda: newest(observer, "balance")["equalization_power_w"] == -LOAD_W)
        balance = newest(observer, "balance")
        assert abs(balance["total_power_w"]) < 1.0
        assert balance["phase"] == "balancing"
        assert balance["load_power_w"] == LOAD_W
        assert balance["equalization_power_w"] == -LOAD_W
        assert (balance["stations_online"], balance["channels"], balance["equalization_channels"]) == (2, 2, 1)
        assert balance["setpoint_changes"] >= 1
        assert balance["last_decision"]["reason"] == "load_step"
        assert (balance["engage_w"], balance["release_w"], balance["held_back"]) == (1000.0, 300.0, None)
        assert set(balance["residual_wh"]) == {cause.value for cause in Cause}
        assert newest(observer, "server") | {"status": "online", "phase": "balancing", "epoch": 1} == newest(
            observer, "server"
        )
        setpoint = eq.channels["1"].setpoints[-1]
        assert setpoint["basis"]["boot_id"] == eq.boot_id
        assert setpoint["epoch"] == 1
        seqs = [sent["seq"] for sent in eq.channels["1"].setpoints]
        assert seqs == sorted(set(seqs))


async def test_the_embedded_broker_serves_as_well(tmp_path: Path) -> None:
    broker = start("embedded", port=free_port(), data_dir=tmp_path / "broker")
    try:
        load, eq = hall(broker.port)
        for station in (load, eq):
            station.session.broker = settings(broker.port, broker_protocol="3.1.1").broker
        observer = Observer(broker.port)
        observer.session.broker = load.session.broker
        async with running(load, eq, observer):
            observer.say("server", announcement(41, status="offline"), retain=True)
            await served(broker.port, observer.session.broker, "server")
            async with equalizing(settings(broker.port, broker_protocol="3.1.1"), tmp_path) as equalizer:
                await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
                assert eq.channels["1"].setpoints[-1]["epoch"] == 42
                await equalizer.end()
            assert eq.channels["1"].power_w == 0.0
            await until(lambda: newest(observer, "server")["status"] == "offline")
    finally:
        broker.stop()


async def served(port: int, broker: BrokerSettings, leaf: str) -> None:
    """Wait until newcomers are given what is retained: NATS acknowledges it a moment before."""
    heard: list[dict[str, Any]] = []
    while not heard:
        newcomer = Observer(port, f"{ROOT}/{leaf}")
        newcomer.session.broker = broker
        async with running(newcomer):
            with contextlib.suppress(AssertionError):
                await until(lambda newcomer=newcomer: newcomer.messages, 0.5)
            heard += newcomer.said(leaf)


async def test_leases_are_renewed_without_a_change(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    async with running(load, eq), equalizing(settings(mosquitto.port), tmp_path) as equalizer:
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        counted = equalizer.service.counters.sent
        await until(lambda: counted["refresh"] > 0)
        changes, sent = counted["change"], len(eq.channels["1"].setpoints)
        await until(lambda: len(eq.channels["1"].setpoints) >= sent + 3)
        assert counted["change"] == changes
        assert counted["refresh"] >= 3


async def test_a_clean_stop_ends_at_zero_says_offline_and_keeps_the_energy(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer):
        async with equalizing(settings(mosquitto.port), tmp_path) as equalizer:
            await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
            await until(lambda: newest(observer, "balance")["energy"]["unbalanced_wh"] > 0.0)
            loop = asyncio.get_running_loop()
            started_s = loop.time()
            await equalizer.end()
            assert loop.time() - started_s < 5.0, "it waited for echoes that had come"
        assert eq.channels["1"].power_w == 0.0
        await until(lambda: newest(observer, "server")["status"] == "offline")
        last = newest(observer, "balance")
        assert (last["phase"], last["equalization_power_w"]) == ("standby", 0.0)
        log = (tmp_path / "state" / "decisions-main.jsonl").read_text().splitlines()
        decisions = [(entry["kind"], entry["reason"]) for entry in map(json.loads, log)]
        assert ("held_back", "starting") in decisions
        assert decisions[-1] == ("change", "stop")
        before = json.loads((tmp_path / "state" / "energy-main.json").read_text())
        assert before["unbalanced_wh"] > 0.0
        async with equalizing(settings(mosquitto.port), tmp_path):
            await until(
                lambda: newest(observer, "server") | {"status": "online", "epoch": 2} == newest(observer, "server")
            )
            await until(lambda: newest(observer, "balance")["epoch"] == 2)
            assert newest(observer, "balance")["energy"]["unbalanced_wh"] >= before["unbalanced_wh"]
            assert newest(observer, "balance")["setpoint_changes"] >= before["setpoint_changes"]


async def test_a_stop_without_echoes_takes_five_seconds_and_not_more(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path) as equalizer:
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        eq.echoing = False
        await equalizer.end()
        await until(lambda: newest(observer, "server")["status"] == "offline")
        sent = observer.said("station/eq/channel/1/setpoint")
        zero = [setpoint for setpoint in sent if [step["power_w"] for step in setpoint["steps"]] == [0.0]]
        assert zero[-1] == sent[-1]
        # By the server's own clock: what it says last comes when it no longer waits.
        assert 4.5 < newest(observer, "balance")["unix_time_s"] - zero[0]["unix_time_s"] < 8.0


async def test_a_damaged_account_is_kept_aside_and_a_new_one_begun(mosquitto: Mosquitto, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "energy-main.json").write_bytes(b'{"import_wh": 1')
    async with equalizing(settings(mosquitto.port), tmp_path) as equalizer:
        await asyncio.sleep(0.5)
        await equalizer.end()
    assert (state / "energy-main.json.damaged-1").read_bytes() == b'{"import_wh": 1'
    assert json.loads((state / "energy-main.json").read_text())["import_wh"] == 0.0


# ── epochs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def announcement(epoch: int, server: str = "other", *, started: float = 1.0, status: str = "online") -> dict[str, Any]:
    return {
        "server": server,
        "status": status,
        "epoch": epoch,
        "phase": "balancing",
        "version": "1",
        "started_unix_time_s": started,
        "telemetry_period_s": 1.0,
        "control": {"policy": "confirm", "delay_s": 15.0},
        "setpoint": {"ttl_s": 30.0, "refresh_s": 5.0},
    }


OWN_42 = ("equalizer", 42)


async def test_the_epoch_is_one_more_than_the_retained_announcement(mosquitto: Mosquitto, tmp_path: Path) -> None:
    observer = Observer(mosquitto.port)
    async with running(observer):
        observer.say("server", announcement(41, status="offline"), retain=True)
        await observer.session.flush(PATIENCE_S)
        async with equalizing(settings(mosquitto.port), tmp_path):
            await until(lambda: (newest(observer, "server")["server"], newest(observer, "server")["epoch"]) == OWN_42)
    assert json.loads((tmp_path / "state" / "epoch-main.json").read_text()) == {"epoch": 42}


async def test_the_epoch_is_one_more_than_the_stations_echo(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    eq.channels["1"].last = {
        "server": "gone", "epoch": 99, "seq": 5, "result": "expired", "reason": None, "expires_in_s": None
    }  # fmt: skip
    async with running(load, eq), equalizing(settings(mosquitto.port), tmp_path):
        await until(lambda: eq.channels["1"].setpoints)
        assert eq.channels["1"].setpoints[0]["epoch"] == 100


async def test_nothing_is_asked_of_a_channel_before_the_announcement_says_that_the_start_is_over(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """Whoever is asked to deliver can look up, in what the broker retains, that its server has listened first."""
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path):
        await until(lambda: observer.said("station/eq/channel/1/setpoint"))
    said = [(topic.rpartition("/")[2], message) for topic, message in observer.messages]
    asked = next(at for at, (leaf, _) in enumerate(said) if leaf == "setpoint")
    assert [message["phase"] for leaf, message in said[:asked] if leaf == "server"] == ["starting", "balancing"]


async def test_a_newer_server_takes_over_and_gives_back(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    first = settings(mosquitto.port, loop_server="first")
    second = settings(mosquitto.port, loop_server="second")
    async with running(load, eq, observer), equalizing(first, tmp_path / "a"):
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        async with equalizing(second, tmp_path / "b"):
            await until(lambda: eq.channels["1"].setpoints[-1]["server"] == "second")
            assert eq.channels["1"].setpoints[-1]["epoch"] == 2
            await until(lambda: "server_conflict" in observer.events())
            await asyncio.sleep(1.5)
            taken = [sent["server"] for sent in eq.channels["1"].setpoints]
            assert "first" not in taken[taken.index("second") :]
            assert newest(observer, "server")["server"] == "second"
        await until(lambda: eq.channels["1"].setpoints[-1]["server"] == "first")
        assert eq.channels["1"].setpoints[-1]["epoch"] == 3
        await until(
            lambda: newest(observer, "server") | {"server": "first", "status": "online"} == newest(observer, "server")
        )


async def test_a_station_that_refuses_the_epoch_stops_the_server(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    eq.channels["1"].reject = "stale_epoch"
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path) as equalizer:
        await until(lambda: observer.phase == "standby")
        assert "server_conflict" in observer.events()
        assert equalizer.service.counters.refused["stale_epoch"] >= 1
        # Nobody else is there: once the old leases are over, it tries again above.
        eq.channels["1"].reject = None
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        assert eq.channels["1"].setpoints[-1]["epoch"] > 1
        await until(lambda: observer.said("station/eq/channel/1/setpoint")[-1]["epoch"] > 1)
    said = [(topic.rpartition("/")[2], message) for topic, message in observer.messages]
    phases = [(at, message["phase"]) for at, (leaf, message) in enumerate(said) if leaf == "server"]
    stood_by, began = next(pair for pair in pairwise(phases) if pair[0][1] == "standby")
    assert "setpoint" not in [leaf for leaf, _ in said[stood_by[0] : began[0]]]


async def test_a_late_will_of_an_older_server_is_overruled(mosquitto: Mosquitto, tmp_path: Path) -> None:
    observer = Observer(mosquitto.port)
    async with running(observer), equalizing(settings(mosquitto.port), tmp_path):
        await until(lambda: observer.said("server"))
        observer.say("server", announcement(0, status="offline"), retain=True)
        await until(lambda: "offline" in [message["status"] for message in observer.said("server")])
        await until(lambda: newest(observer, "server")["status"] == "online")
        assert newest(observer, "server")["server"] == "equalizer"


async def test_a_malformed_announcement_that_the_broker_retains_is_replaced(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    observer = Observer(mosquitto.port)
    async with running(observer), equalizing(settings(mosquitto.port), tmp_path):
        await until(lambda: bool(observer.said("balance")))
        observer.say("server", b"junk", retain=True)
        await observer.session.flush(PATIENCE_S)

        async def is_replaced() -> bool:
            newcomer = Observer(mosquitto.port, f"{ROOT}/server")
            async with running(newcomer):
                return newcomer.phase is not None and newest(newcomer, "server")["status"] == "online"

        async with asyncio.timeout(PATIENCE_S):
            while not await is_replaced():
                await asyncio.sleep(0.1)


PROCESS = textwrap.dedent(
    """
    import asyncio, sys, time
    from pathlib import Path
    from equalizer.config import EqualizerSettings
    from equalizer.service import EqualizerService
    from schemas.settings import parse
    configuration = parse(EqualizerSettings, sys.argv[1], source="test", environment={})
    service = EqualizerService(configuration, base_dir=Path(sys.argv[2]), clock=time.monotonic, utc=time.time)
    asyncio.run(service.run(asyncio.Event()))
    """
)


def start_process(port: int, folder: Path) -> "subprocess.Popen[bytes]":
    text = (
        f"broker = {{ port = {port} }}\ncontrol = {{ policy = 'dwell', delay_s = 0.5 }}\n"
        "telemetry = { period_s = 0.2 }\nsetpoint = { ttl_s = 3.0, refresh_s = 0.5 }\n"
        "metrics = { port = 0 }\ndiscovery = { advertise = false }\n"
    )
    return subprocess.Popen([sys.executable, "-c", PROCESS, text, str(folder)])


async def test_a_killed_server_is_announced_offline_by_its_will(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer):
        process = start_process(mosquitto.port, tmp_path)
        try:
            await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        finally:
            process.kill()
            process.wait()
        await until(lambda: newest(observer, "server")["status"] == "offline")
        assert newest(observer, "server")["epoch"] == 1


async def test_a_stalled_server_begins_anew_when_it_wakes(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer):
        process = start_process(mosquitto.port, tmp_path)
        try:
            await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
            await until(lambda: newest(observer, "server")["phase"] == "balancing")
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(4.0)
            phases = len(observer.said("server"))
            load.channels["1"].power_w = -5_000.0
            os.kill(process.pid, signal.SIGCONT)
            await until(lambda: "stalled" in observer.events())
            await until(lambda: abs(eq.channels["1"].power_w - 5_000.0) < 1.0)
            await until(lambda: len(observer.said("server")) >= phases + 2)
            after = [message["phase"] for message in observer.said("server")[phases:]]
            assert after[:2] == ["starting", "balancing"]
        finally:
            process.kill()
            process.wait()


# ── what it hears ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_malformed_messages_are_counted_and_change_nothing(
    mosquitto: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)  # whatever a test before has left
    load, eq = hall(mosquitto.port)
    good = json.dumps(load.telemetry("1"))
    malformed = {
        "not_json": b"\xff\xfe",
        "oversized": b" " * 65537,
        "missing_key": b"{}",
        "wrong_type": good.replace('"power_w": 20000.0', '"power_w": "20000"').encode(),
        "non_finite": good.replace('"power_w": 20000.0', '"power_w": NaN').encode(),
        "duplicate_key": good.replace('"power_w": 20000.0', '"power_w": 1.0, "power_w": 2.0').encode(),
        "out_of_range": good.replace('"seq": 1', '"seq": -1').encode(),
    }
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path) as equalizer:
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        await until(lambda: equalizer.service.counters.sent["refresh"] > 0)
        changes = equalizer.service.counters.sent["change"]
        for _ in range(2):  # of a topic that says more of this kind, the link stops reading
            for payload in malformed.values():
                observer.say("station/load/channel/1/telemetry", payload, qos=0)
                await observer.session.flush(PATIENCE_S)  # of one topic, a newer message may replace one that waits
        counted = equalizer.service.counters.malformed
        await until(lambda: sum(counted.values()) >= 2 * len(malformed))
        assert {reason: counted[reason] for reason in malformed} == dict.fromkeys(malformed, 2)
        assert {balance["load_power_w"] for balance in await next_balances(observer)} == {LOAD_W}
        assert equalizer.service.counters.sent["change"] == changes
        complaints = [record for record in caplog.records if "malformed source" in record.getMessage()]
        assert len(complaints) == 1


async def test_a_removed_station_counts_no_more(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    other = FakeStation(mosquitto.port, "other", {"1": FakeChannel(power_w=3_000.0)})
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path):
        async with running(other):
            await until(lambda: observer.said("balance") and newest(observer, "balance")["channels"] == 3)
        await until(lambda: newest(observer, "balance")["unknown_power_w"] == 3_000.0)
        observer.say("station/other/status", b"", retain=True)
        await until(lambda: newest(observer, "balance")["channels"] == 2)
        assert "station_removed" in observer.events()
        await until(lambda: newest(observer, "balance")["unknown_power_w"] == 0.0)


async def test_a_lost_station_is_said_once_and_its_return_too(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(eq, observer), equalizing(settings(mosquitto.port), tmp_path):
        async with running(load):
            await until(lambda: observer.said("balance") and newest(observer, "balance")["phase"] == "balancing")
            observer.say("station/load/status", json.loads(load._status_payload("offline")), retain=True)
            await until(lambda: "station_offline" in observer.events())
            observer.say("station/load/status", json.loads(load._status_payload("online")), retain=True)
            await until(lambda: "station_online" in observer.events())
        lost = [event for event in observer.said("event") if event["code"] == "station_offline"]
        assert [event["source"] for event in lost] == ["station/load"]
        assert lost[0]["severity"] == "warning"


def metered(observer: Observer, topic: str, reading: bytes) -> float | None:
    """Say it again, as meters do: a reading grows old. Return what the loop was last said to draw."""
    observer.session.publish(topic, reading)
    power_w: float | None = newest(observer, "balance")["meter_power_w"]
    return power_w


async def test_a_meter_of_any_shape_is_read(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    configuration = settings(
        mosquitto.port, "[meter]\ntopic = 'tele/grid/SENSOR'\npower_key = 'ENERGY.Power'\nfactor = -1000.0\n"
    )
    async with running(load, eq, observer), equalizing(configuration, tmp_path):
        await until(lambda: observer.phase == "balancing")
        await until(lambda: metered(observer, "tele/grid/SENSOR", b'{"ENERGY": {"Power": "-0.25"}}') == 250.0)


async def test_a_retained_meter_reading_says_nothing_of_now(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer):
        observer.say("meter", {"unix_time_s": 0.0, "power_w": 77.0}, retain=True)
        await observer.session.flush(PATIENCE_S)
        async with equalizing(settings(mosquitto.port), tmp_path):
            await until(lambda: observer.said("balance") and observer.phase == "balancing")
            assert newest(observer, "balance")["meter_power_w"] is None
            await until(lambda: metered(observer, f"{ROOT}/meter", b'{"unix_time_s": 0.0, "power_w": 78.0}') == 78.0)


# ── what it is told ───────────────────────────────────────────────────────────────────────────────────────────────────


async def answered(observer: Observer, command: dict[str, Any] | bytes, command_id: str) -> dict[str, Any]:
    """Return the reply to a command, which comes within 2 s by the server's own clock."""

    def replies() -> list[dict[str, Any]]:
        return [reply for reply in observer.said("reply") if reply["id"] == command_id]

    asked_unix_time_s = time.time()
    observer.say("command", command)
    await until(replies)
    assert replies()[0]["unix_time_s"] - asked_unix_time_s < 2.0
    return replies()[0]


async def test_commands_are_obeyed_and_answered(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path) as equalizer:
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        reply = await answered(observer, {"id": "t", "action": "set_target", "target_power_w": 5_000.0}, "t")
        assert (reply["result"], reply["action"]) == ("accepted", "set_target")
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W - 5_000.0) < 1.0)
        assert (await answered(observer, {"id": "p", "action": "pause"}, "p"))["result"] == "accepted"
        await until(lambda: eq.channels["1"].power_w == 0.0 and observer.phase == "paused")
        reply = await answered(observer, {"id": "x", "action": "explode"}, "x")
        assert (reply["result"], reply["reason"]) == ("rejected", "unknown_action")
        reply = await answered(observer, {"id": "n", "action": "set_target"}, "n")
        assert (reply["result"], reply["reason"]) == ("rejected", "malformed")
        reply = await answered(observer, b'{"id": "m", "action": "set_target", "target_power_w": "0"}', "m")
        assert (reply["result"], reply["reason"]) == ("rejected", "malformed")
        assert equalizer.service.counters.malformed["wrong_type"] == 1
        assert (await answered(observer, {"id": "r", "action": "resume"}, "r"))["result"] == "accepted"
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W - 5_000.0) < 1.0)


async def test_a_paused_loop_stays_paused_over_a_restart_and_keeps_its_target(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer):
        async with equalizing(settings(mosquitto.port), tmp_path):
            await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
            await answered(observer, {"id": "t", "action": "set_target", "target_power_w": 5_000.0}, "t")
            await answered(observer, {"id": "p", "action": "pause"}, "p")
            await until(lambda: eq.channels["1"].power_w == 0.0 and observer.phase == "paused")
        await until(lambda: newest(observer, "server")["status"] == "offline")
        before = len(observer.said("server"))
        async with equalizing(settings(mosquitto.port), tmp_path):
            await until(lambda: len(observer.said("server")) >= before + 2)
            assert [said["phase"] for said in observer.said("server")[before:]] == ["starting", "paused"]
            await next_balances(observer)
            assert eq.channels["1"].power_w == 0.0
            await answered(observer, {"id": "r", "action": "resume"}, "r")
            await until(lambda: abs(eq.channels["1"].power_w + LOAD_W - 5_000.0) < 1.0)


async def test_the_same_id_gets_the_same_reply_and_does_nothing_twice(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path):
        await until(lambda: observer.phase == "balancing")
        first = await answered(observer, {"id": "once", "action": "pause"}, "once")
        await answered(observer, {"id": "then", "action": "resume"}, "then")
        await until(lambda: observer.phase == "balancing")
        observer.say("command", {"id": "once", "action": "pause"})
        await until(lambda: len(observer.said("reply")) == 3)
        assert newest(observer, "reply") == first
        assert {balance["phase"] for balance in await next_balances(observer)} == {"balancing"}


async def test_a_retained_command_is_dropped_and_counted(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    observer = Observer(mosquitto.port)
    async with running(load, eq, observer):
        observer.say("command", {"id": "old", "action": "pause"}, retain=True)
        await observer.session.flush(PATIENCE_S)
        async with equalizing(settings(mosquitto.port), tmp_path) as equalizer:
            await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
            assert equalizer.service.counters.malformed["unexpected_retain"] == 1
            assert observer.said("reply") == []


# ── losses ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_after_a_lost_broker_it_begins_with_a_fresh_round(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    async with running(load, eq), equalizing(settings(mosquitto.port), tmp_path) as equalizer:
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        mosquitto.stop()
        await asyncio.sleep(0.5)
        load.channels["1"].power_w = 8_000.0
        mosquitto.start()
        observer = Observer(mosquitto.port)
        async with running(observer):
            await until(lambda: abs(eq.channels["1"].power_w + 8_000.0) < 1.0)
            await until(lambda: observer.phase == "balancing")
            assert {message["epoch"] for message in observer.said("server")} == {1}
        await equalizer.end()
        assert eq.channels["1"].power_w == 0.0


async def shown(port: int, path: str, status: int, *parts: str) -> None:
    """Wait until a page answers so, and begins with the first of some parts or has them all."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await fetched(port, path)
            if answer[0] == status and (answer[1].startswith(parts) or all(part in answer[1] for part in parts)):
                return
            await asyncio.sleep(0.1)


async def test_ready_says_whether_it_balances_on_fresh_measurements(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq = hall(mosquitto.port)
    port = free_port()
    configuration = settings(mosquitto.port, metrics_port=str(port), control_freeze_w="1000.0")
    async with running(load, eq), equalizing(configuration, tmp_path):
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        await shown(port, "/ready", 200, "ready\n")
        status, text = await fetched(port, "/metrics")
        assert status == 200
        assert 'zeroloop_phase{loop="main",phase="balancing"} 1.0' in text
        assert 'zeroloop_reaction_seconds_count{loop="main"}' in text
        load.mute = True
        await shown(port, "/ready", 503, "frozen")
        mosquitto.stop()
        await shown(port, "/ready", 503, "not connected to the broker\n")
        assert await fetched(port, "/live") == (200, "live\n")
        mosquitto.start()


async def test_a_loop_that_has_gone_is_not_fresh(mosquitto: Mosquitto, tmp_path: Path) -> None:
    port = free_port()
    idle = FakeStation(mosquitto.port, "idle", {"1": FakeChannel()})
    going = FakeStation(mosquitto.port, "going", {"1": FakeChannel(power_w=500.0)}, on_lost="zero")
    observer = Observer(mosquitto.port)
    async with running(idle, observer), equalizing(settings(mosquitto.port, metrics_port=str(port)), tmp_path):
        async with running(going):
            await until(lambda: observer.said("balance") and newest(observer, "balance")["channels"] == 2)
        observer.say("station/going/status", json.loads(going._status_payload("offline")), retain=True)
        await until(lambda: newest(observer, "balance")["stations_online"] == 1)
        counts = (("fresh", 1), ("stale", 0), ("gone", 1))
        lines = [f'zeroloop_channels{{loop="main",state="{state}"}} {count:.1f}\n' for state, count in counts]
        await shown(port, "/metrics", 200, "".join(lines))
        await shown(port, "/ready", 200, "ready\n")
        idle.mute = True  # at 0 W: nothing is unknown, and still nothing is known either
        await until(lambda: newest(observer, "balance")["channels_stale"] == 1)
        await shown(port, "/ready", 503, "no channel is heard\n")


async def test_other_loops_are_none_of_its_business(mosquitto: Mosquitto, tmp_path: Path) -> None:
    observer = Observer(mosquitto.port, f"{ROOT}/#")
    load, eq = hall(mosquitto.port)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path):
        await until(lambda: observer.phase == "balancing")
        foreign = json.dumps(load.telemetry("1")).encode()
        observer.session.publish("zeroloop/v1/elsewhere/station/load/channel/9/telemetry", foreign)
        assert {balance["channels"] for balance in await next_balances(observer)} == {2}


# ── what it cannot start with ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_taken_metrics_port_is_one_clear_line(mosquitto: Mosquitto, tmp_path: Path) -> None:
    listening = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        service = EqualizerService(
            settings(mosquitto.port, metrics_port=str(port)), base_dir=tmp_path, clock=time.monotonic, utc=time.time
        )
        with pytest.raises(ConfigurationError, match=rf"metrics\.port: cannot listen on 127\.0\.0\.1:{port}: another"):
            await service.run(asyncio.Event())


async def test_a_state_folder_that_is_none_is_one_clear_line(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    service = EqualizerService(settings(mosquitto.port), base_dir=tmp_path, clock=time.monotonic, utc=time.time)
    with pytest.raises(ConfigurationError, match=r"^state\.dir: .*state.*"):
        await service.run(asyncio.Event())


async def test_it_advertises_its_broker_and_stops_without_a_trace(mosquitto: Mosquitto, tmp_path: Path) -> None:
    configuration = settings(mosquitto.port, discovery_advertise="true")
    async with equalizing(configuration, tmp_path) as equalizer:
        await asyncio.sleep(1.0)
        await equalizer.end()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("equalizer-")]


async def test_without_a_broker_it_waits_and_stops_when_told(tmp_path: Path) -> None:
    async with equalizing(settings(free_port()), tmp_path) as equalizer:
        await asyncio.sleep(0.5)
        await equalizer.end()
    assert not (tmp_path / "state" / "energy-main.json.damaged-1").exists()
