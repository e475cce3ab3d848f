"""An arena for each experiment."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.run import RunningBroker
from tests.chaos.arena import PRODUCT, QUICK, Arena, Pace
from tests.chaos.proxy import Proxy
from tests.chaos.registry import RESULTS_VARIABLE


def pace() -> Pace:
    """Return the product's defaults in `make chaos`, and shorter times elsewhere."""
    return PRODUCT if os.environ.get(RESULTS_VARIABLE) else QUICK


@pytest.fixture
async def arena(tmp_path: Path, broker: RunningBroker) -> AsyncIterator[Arena]:
    arena = Arena(tmp_path, broker, pace())
    task = asyncio.create_task(arena.watch(), name="watcher")
    await arena.until(lambda: arena.session.connected)
    yield arena
    await arena.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    arena.check_equipment()


@pytest.fixture
async def proxy(arena: Arena) -> AsyncIterator[Proxy]:
    """Stand between the station and the broker."""
    proxy = Proxy(arena.broker.port)
    yield proxy
    await proxy.close()
