"""What Home Assistant finds on the broker: devices that come with a station, and go when it is retired."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.hall import Hall, channel, power

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


async def retained(hall: Hall, folder: Path) -> set[str]:
    command = ["mosquitto_sub", "-p", str(hall.broker.port), "-t", "homeassistant/#", "-F", "%t", "-W", "1"]
    run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, cwd=folder)
    return set(run.stdout.split())


async def test_devices_come_with_a_station_and_go_when_it_is_retired(hall: Hall, tmp_path: Path) -> None:
    loop, station = (f"homeassistant/device/{name}/config" for name in ("zeroloop__main", "zeroloop__main__s1"))
    hall.equalizer(environment={"ZEROLOOP_HOME_ASSISTANT_ENABLED": "true"})
    process = hall.station("s1", [channel("1", program=power(1000.0, 600.0))])
    await hall.until(lambda: hall.status("s1") is not None)
    for _ in range(20):
        if await retained(hall, tmp_path) == {loop, station}:
            break
    assert await retained(hall, tmp_path) == {loop, station}
    process.terminate()
    await asyncio.to_thread(process.wait, 20.0)
    assert await retained(hall, tmp_path) == {loop, station}, "a station that is switched off is not retired"
    # What `zeroloop purge` does for it.
    command = ["mosquitto_pub", "-p", str(hall.broker.port), "-t", "zeroloop/v1/main/station/s1/status", "-n", "-r"]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=10)
    for _ in range(20):
        if await retained(hall, tmp_path) == {loop}:
            break
    assert await retained(hall, tmp_path) == {loop}
