"""The kit on a real broker, against our own station and equalizer: they pass; and what the kit refuses to begin."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.run import RunningBroker
from conform.fakes import FakeHall
from conform.record import Record
from conform.rules import lifecycle
from conform.wire import Wire
from schemas.codec import encode
from schemas.messages import (
    Message,
    OnLost,
    Presence,
    StationStatus,
)
from schemas.settings import BrokerSettings
from tests.announcements import ANNOUNCED
from tests.integration.conform.parties import CHANNEL, EQUALIZER, STATION
from tests.patience import PATIENCE_S
from transport.session import Session, unguessable

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PROGRAM = """\
program = [
  { step = "cp_chg", power_w = 5000.0, until = { time_s = 7.0 } },
  { step = "cc_dchg", current_a = 20.0, until = { time_s = 11.0 } },
]
"""
ONE_LED = STATION.format(loop="main") + CHANNEL.format(channel="eq") + CHANNEL.format(channel="load") + PROGRAM


def command(folder: Path, broker: RunningBroker) -> tuple[list[str], dict[str, str]]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("ZEROLOOP_")}
    place = {"ZEROLOOP_BROKER_HOST": broker.host, "ZEROLOOP_BROKER_PORT": str(broker.port)}
    return [sys.executable, "-m", "zeroloop"], {**own, **place, "XDG_STATE_HOME": str(folder)}


@contextmanager
def running(folder: Path, broker: RunningBroker, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    start, environment = command(folder, broker)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*start, *arguments], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def conform(folder: Path, broker: RunningBroker, *arguments: str) -> "subprocess.CompletedProcess[str]":
    start, environment = command(folder, broker)
    place = ("--host", broker.host, "--port", str(broker.port))
    return subprocess.run(
        [*start, "conform", *arguments, *place],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200.0,
    )


def verdicts(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    return {verdict["rule"]: verdict["state"] for verdict in json.loads(done.stdout)}


GONE = ANNOUNCED.model_copy(update={"status": Presence.OFFLINE, "epoch": 3, "telemetry_period_s": 0.2})
"""A server that is gone: its telemetry period makes the trial of a station quick."""

KILLED = StationStatus(
    status=Presence.ONLINE,
    boot_id="killed",
    version="conform",
    driver="fake",
    channels=("1",),
    on_lost=OnLost.ZERO,
    unix_time_s=0.0,
)
"""A station of a trial that was killed: nobody has taken it back."""


async def leave(broker: RunningBroker, leaf: str, said: Message) -> None:
    """Leave something retained at the broker."""
    session = Session(
        BrokerSettings(host=broker.host, port=broker.port),
        client_id=unguessable("test"),
        on_message=lambda _topic, _payload, _retained: None,
        clock=time.monotonic,
    )
    await session.connect_once(PATIENCE_S)
    session.publish(f"zeroloop/v1/{leaf}", encode(said), qos=1, retain=True)
    await session.close()


@pytest.mark.timeout(240)
def test_our_station_keeps_the_contract(tmp_path: Path, broker: RunningBroker) -> None:
    asyncio.run(leave(broker, "main/server", GONE))
    (tmp_path / "station.toml").write_text(ONE_LED)
    with running(tmp_path, broker, "station", "--config", "station.toml"):
        done = conform(tmp_path, broker, "station", "--station", "s1", "--quick", "--yes", "--provoke", "--json")
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "log").read_text()
    assert {rule for rule, state in verdicts(done).items() if state != "kept"} == set(lifecycle.RULES)


@pytest.mark.timeout(240)
def test_our_equalizer_keeps_the_contract_after_a_trial_that_was_killed(tmp_path: Path, broker: RunningBroker) -> None:
    asyncio.run(leave(broker, "kit/station/kit-load/status", KILLED))
    (tmp_path / "equalizer.toml").write_text(EQUALIZER.format(loop="kit"))
    with running(tmp_path, broker, "equalizer", "--config", "equalizer.toml"):
        done = conform(tmp_path, broker, "equalizer", "--loop", "kit", "--quick", "--json")
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "log").read_text()
    assert [rule for rule, state in verdicts(done).items() if state != "kept"] == [
        "stale.unknown",
        "stale.frozen",
        "offline.zero",
        "start.passive",
        "start.takes_over",
        "start.epoch",
    ]


def test_nothing_begins_without_consent_or_where_somebody_leads(tmp_path: Path, broker: RunningBroker) -> None:
    asked = conform(tmp_path, broker, "station", "--station", "s1")
    assert asked.returncode in {1, 2}
    assert "1000 W" in asked.stderr
    (tmp_path / "equalizer.toml").write_text(EQUALIZER.format(loop="kit"))
    with running(tmp_path, broker, "equalizer", "--config", "equalizer.toml"):
        until_s = time.monotonic() + PATIENCE_S
        led = conform(tmp_path, broker, "station", "--station", "s1", "--loop", "kit", "--yes")
        while "has a server" not in led.stderr and time.monotonic() < until_s:
            led = conform(tmp_path, broker, "station", "--station", "s1", "--loop", "kit", "--yes")
    assert led.returncode == 2
    assert "two of them would fight" in led.stderr


async def test_nothing_begins_beside_the_stations_of_another_trial(tmp_path: Path, broker: RunningBroker) -> None:
    wire = Wire(BrokerSettings(host=broker.host, port=broker.port), "kit", Record(), time.monotonic)
    other = FakeHall(wire, time.monotonic, time.time, "other")
    other.add("kit-load", "1")
    (tmp_path / "equalizer.toml").write_text(EQUALIZER.format(loop="kit"))
    with running(tmp_path, broker, "equalizer", "--config", "equalizer.toml"):
        async with wire.connected():
            other.announce(Presence.ONLINE)
            tried = asyncio.create_task(
                asyncio.to_thread(conform, tmp_path, broker, "equalizer", "--loop", "kit", "--only", "steps")
            )
            while not tried.done():
                other.tick()
                await asyncio.sleep(0.2)
        done = await tried
    assert done.returncode == 2
    assert "has stations (kit-load): it needs a loop of its own" in done.stderr
