"""A broker for each experiment."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.equalizer.actors import Mosquitto

# pytest-asyncio asks for the current loop before its own; on Python 3.11 that makes one that nobody closes.
asyncio.set_event_loop(None)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    yield broker
    broker.stop()
