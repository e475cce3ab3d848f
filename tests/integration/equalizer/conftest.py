"""A broker for each experiment."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.equalizer.actors import Mosquitto


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    yield broker
    broker.stop()
