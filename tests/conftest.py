"""What all tests share: a broker, programs that may be absent, and a watch over tasks that nobody ended."""

import asyncio
import inspect
import logging
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from broker.programs import find_mosquitto
from broker.run import RunningBroker, start
from tests.chaos.registry import RESULTS_VARIABLE
from tests.ports import free_port

_PROGRAM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin")

# How long an example takes says more about what else the computer does than about the code.
settings.register_profile("shared_computer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared_computer")


def pytest_configure() -> None:
    """Say that there is no event loop yet: otherwise pytest-asyncio's first look for one makes one, and leaks it.

    What the tests start heeds a terminal's keys, also where the tests themselves run in the background.
    """
    asyncio.set_event_loop(None)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what takes too long for `make test` to `make chaos`; watch over every test that runs in an event loop."""
    if not os.environ.get(RESULTS_VARIABLE):
        long = [item for item in items if item.get_closest_marker("chaos")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_task_left")  # first in, last out


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task pending: it would run into the next one, or hide its error."""
    yield
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert not left, f"left pending: {', '.join(task.get_name() for task in left)}"


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Take a command's log away with its test: it goes to a stderr that is closed then."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    """Yield a Mosquitto of the test's own, on a free port of the loopback interface."""
    if find_mosquitto() is None:
        pytest.skip("needs mosquitto (Debian: apt install mosquitto)")
    with start("mosquitto", port=free_port(), data_dir=tmp_path / "broker") as running:
        yield running


def needs(program: str, package: str) -> str:
    """Return a program's path, or skip the test and say what to install."""
    found = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), *_PROGRAM_FOLDERS)))
    if found is None:
        pytest.skip(f"needs {program} (Debian: apt install {package})")
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the pictures of the documents be taken where the tests of the page look at it anyway."""
    parser.addoption("--pictures", action="store_true", help="take the documents' pictures of the page")
