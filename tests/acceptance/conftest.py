"""A hall for each experiment, on a broker of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.run import RunningBroker
from tests.acceptance.hall import Foreign, Hall


@pytest.fixture
async def hall(tmp_path: Path, broker: RunningBroker) -> AsyncIterator[Hall]:
    hall = Hall(tmp_path, broker)
    task = asyncio.create_task(hall.session.run(), name="watcher")
    await hall.until(lambda: hall.session.connected)
    yield hall
    await asyncio.to_thread(hall.end)
    await hall.session.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert hall.watcher.undecodable == []


@pytest.fixture
async def foreign(hall: Hall) -> AsyncIterator[Foreign]:
    station = Foreign(hall)
    yield station
    station.task.cancel()
    await asyncio.gather(station.task, return_exceptions=True)
