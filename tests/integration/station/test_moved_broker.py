"""A running station whose broker, which it had found by itself, is somewhere else now."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.run import RunningBroker, start
from schemas.settings import BrokerSettings, parse
from station.config import StationSettings
from station.discovery import DiscoveryRequest
from station.service import StationService
from tests.integration.station.conftest import ANNOUNCEMENT, ObedientDriver
from tests.patience import PATIENCE_S, until
from tests.ports import free_port
from transport.session import Session

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

ROOT = "zeroloop/v1/main"
STATION = """
[station]
id = "s1"
state_dir = "state"
[telemetry]
period_s = 0.2
[[channel]]
id = "1"
charge_limit_w = 1000.0
discharge_limit_w = 1000.0
ramp_w_per_s = 1000.0
"""


@contextlib.asynccontextmanager
async def watching(port: int) -> AsyncIterator[tuple[Session, list[str]]]:
    """Be a client of the broker; the list holds the boot ids of all who say that they are s1."""
    boots: list[str] = []
    session = Session(
        BrokerSettings(port=port),
        client_id="watcher",
        on_message=lambda _topic, payload, _retained: boots.append(json.loads(payload)["boot_id"]),
        on_connected=lambda: session.subscribe((f"{ROOT}/station/s1/status", 1)),
        clock=time.monotonic,
    )
    await session.connect_once(PATIENCE_S)
    try:
        yield session, boots
    finally:
        await session.close()


async def test_it_looks_again_and_a_namesake_that_it_meets_there_does_not_end_it(
    broker: RunningBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = free_port()
    cache = tmp_path / "state" / "connection.json"
    cache.parent.mkdir()
    cache.write_text(
        json.dumps({"host": "127.0.0.1", "port": broker.port, "tls": False, "loop": "main", "source": "dns_sd"})
    )
    service = StationService(
        parse(StationSettings, STATION, source="test", environment={}),
        base_dir=tmp_path,
        driver=ObedientDriver(),
        clock=time.monotonic,
        utc=time.time,
        boot_id="mine",
        request=DiscoveryRequest(cache_file=cache, local=BrokerSettings(port=moved), dns_sd=False),
    )
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop), name="station")
    try:
        async with watching(broker.port) as (_, boots):
            await until(lambda: "mine" in boots)
        broker.kill()
        with start("mosquitto", port=moved, data_dir=tmp_path / "moved"):
            async with watching(moved) as (session, boots):
                session.publish(f"{ROOT}/server", json.dumps(ANNOUNCEMENT).encode(), qos=1, retain=True)
                # Another loop there is none of its business.
                session.publish("zeroloop/v1/other/server", json.dumps(ANNOUNCEMENT).encode(), qos=1, retain=True)
                speaking = asyncio.create_task(speak(session), name="namesake")
                await until(lambda: "duplicate_station" in caplog.text)
                assert not task.done()
                speaking.cancel()
                await asyncio.gather(speaking, return_exceptions=True)
                await until(lambda: "mine" in boots)
        assert json.loads(cache.read_text())["port"] == moved
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)


async def speak(session: Session) -> None:
    """Live under the name of the station, until cancelled."""
    status = {
        "status": "online",
        "boot_id": "namesake",
        "version": "1",
        "driver": "x",
        "channels": ["1"],
        "unix_time_s": 0.0,
    }
    session.publish(f"{ROOT}/station/s1/status", json.dumps(status).encode(), qos=1, retain=True)
    telemetry = {
        "boot_id": "namesake",
        "unix_time_s": 0.0,
        "work_status": "idle",
        "step_type": "none",
        "step_id": 0,
        "cycle_count": 0,
        "voltage_v": 400.0,
        "current_a": 0.0,
        "power_w": 0.0,
        "battery_connected": True,
    }
    seq = 0
    while True:
        seq += 1
        payload = json.dumps({**telemetry, "seq": seq}).encode()
        session.publish(f"{ROOT}/station/s1/channel/1/telemetry", payload, retain=True)
        await asyncio.sleep(0.1)
