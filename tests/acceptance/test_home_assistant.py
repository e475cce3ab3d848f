"""What Home Assistant finds on the broker: devices that come with a station, and go when it is retired."""

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from schemas.messages import Presence
from tests.acceptance.hall import Hall, channel, power
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


async def are_retained(hall: Hall, folder: Path, *expected: str) -> None:
    """Look again and again until all these are retained, and nothing else: a look of a second may see a part."""
    command = ["mosquitto_sub", "-p", str(hall.broker.port), "-t", "homeassistant/#", "-F", "%t", "-W", "1"]
    seen: set[str] = set()
    end_s = time.monotonic() + PATIENCE_S
    while seen != set(expected):
        assert time.monotonic() < end_s, seen
        run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, cwd=folder)
        seen = set(run.stdout.split())


async def test_devices_come_with_a_station_and_go_when_it_is_retired(hall: Hall, tmp_path: Path) -> None:
    loop, station = (f"homeassistant/device/{name}/config" for name in ("zeroloop__main", "zeroloop__main__s1"))
    hall.equalizer(environment={"ZEROLOOP_HOME_ASSISTANT_ENABLED": "true"})
    process = hall.station("s1", [channel("1", program=power(1000.0, 600.0))])
    await hall.until(lambda: hall.status("s1") is not None)
    await are_retained(hall, tmp_path, loop, station)
    process.terminate()
    await asyncio.to_thread(process.wait, PATIENCE_S)
    await hall.until(lambda: hall.status("s1").status is Presence.OFFLINE)
    await are_retained(hall, tmp_path, loop, station)  # a station that is switched off is not retired
    # What `zeroloop purge` does for it.
    command = ["mosquitto_pub", "-p", str(hall.broker.port), "-t", "zeroloop/v1/main/station/s1/status", "-n", "-r"]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=PATIENCE_S)
    await are_retained(hall, tmp_path, loop)
