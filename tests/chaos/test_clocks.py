"""Wall clocks."""

import asyncio
import itertools
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.arena import Arena
from tests.chaos.registry import Measured, fault

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]

OUTCOME = "It is a label: no decision reads it. The channel is led and stays led beyond any lease."


def faketime(**variables: str) -> dict[str, str]:
    """Return the environment of a process with a false wall clock and a true monotonic one."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None or shutil.which("faketime") is None:
        pytest.skip("needs libfaketime (Debian: apt install faketime)")
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1", **variables}


async def led_all_the_time(arena: Arena, environment: dict[str, str]) -> Measured:
    """Run both processes with a false clock, for longer than any lease lasts."""
    started_s = time.monotonic()
    arena.lead(environment=environment)
    arena.equalize(environment=environment)
    back_s = await arena.until_back(started_s)
    arena.add_load()
    await arena.until_balanced()
    await arena.always(lambda: arena.is_led, arena.pace.ttl_s + 2.0, what="led on")
    assert arena.told("lease_expired") == 0
    return {"led": back_s}


@fault("The wall clock is off by an hour", OUTCOME, {"led": 30.0})
async def test_a_clock_that_is_off_by_an_hour(arena: Arena) -> Measured:
    measured = await led_all_the_time(arena, faketime(FAKETIME="+1h"))
    assert arena.telemetry("eq", "1").unix_time_s - time.time() > 3500.0
    assert arena.balance.unix_time_s - time.time() > 3500.0
    return measured


@pytest.fixture
async def jumping(tmp_path: Path) -> AsyncIterator[Path]:
    """A file that moves a clock to and fro by an hour, every second."""
    path = tmp_path / "clock"
    path.write_text("+0\n")

    async def jump() -> None:
        for offset in itertools.cycle(("+3600\n", "-3600\n")):
            aside = path.with_suffix(".new")
            aside.write_text(offset)
            aside.replace(path)
            await asyncio.sleep(1.0)

    task = asyncio.create_task(jump(), name="clock")
    yield path
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@fault("The wall clock jumps by two hours, to and fro, every second", OUTCOME, {"led": 30.0}, quick=False)
async def test_a_clock_that_jumps(arena: Arena, jumping: Path) -> Measured:
    measured = await led_all_the_time(arena, faketime(FAKETIME_TIMESTAMP_FILE=str(jumping)))
    labels = [one.unix_time_s for one in arena.telemetries("eq", "1")]
    assert max(labels) - min(labels) > 7000.0
    return measured


@fault("The wall clock runs 5 % fast", OUTCOME, {"led": 30.0}, quick=False)
async def test_a_clock_that_runs_fast(arena: Arena) -> Measured:
    measured = await led_all_the_time(arena, faketime(FAKETIME="+0 x1.05"))
    seen = [(one.at_s, one.message.unix_time_s) for one in arena.watcher.heard["zeroloop/v1/main/balance"]]
    (first_s, first_label_s), (last_s, last_label_s) = seen[0], seen[-1]
    assert (last_label_s - first_label_s) / (last_s - first_s) == pytest.approx(1.05, abs=0.04)
    return measured
