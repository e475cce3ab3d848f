"""A service manager sees real processes start, work, hang and end."""

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.hall import Hall, channel, power
from transport.supervision import ADDRESS_VARIABLE

pytestmark = pytest.mark.broker


class Manager:
    """What listens where systemd would."""

    def __init__(self, address: Path) -> None:
        self.environment = {ADDRESS_VARIABLE: str(address)}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(address))
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        """Take what has come since the last time."""
        new = []
        while True:
            try:
                new.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                self.heard += new
                return new


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


async def test_the_equalizer_feeds_its_watchdog_only_while_it_works(hall: Hall, manager: Manager) -> None:
    """READY once, a word a second that tells the state, silence while it hangs, and STOPPING before it leaves."""
    process = hall.equalizer(environment=manager.environment)
    await hall.until(lambda: manager.listen() and len(manager.heard) > 1)
    assert manager.heard[0] == "READY=1"
    assert "STATUS=not connected" in manager.heard[1] or "STATUS=starting" in manager.heard[1]
    hall.station("s1", [channel("1", program=power(100.0, 600.0))])
    await hall.until(lambda: manager.listen() and any("STATUS=balancing" in text for text in manager.heard))
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.5)
    manager.listen()
    frozen_s = time.monotonic()
    await asyncio.sleep(3.0)
    assert manager.listen() == [], "a process that hangs feeds no watchdog"
    process.send_signal(signal.SIGCONT)
    await hall.until(lambda: any("WATCHDOG=1" in text for text in manager.listen()))
    assert time.monotonic() - frozen_s >= 3.0
    process.terminate()
    await hall.until(lambda: process.poll() is not None)
    manager.listen()
    assert "STOPPING=1" in manager.heard
    assert process.returncode == 0


async def test_a_station_says_that_it_works_even_before_it_has_found_anybody(hall: Hall, manager: Manager) -> None:
    """Its channels are worked on without a server: the watchdog is about that, the words are about the server."""
    hall.station("s1", [channel("1", program=power(100.0, 600.0))], environment=manager.environment)
    await hall.until(lambda: manager.listen() and any("WATCHDOG=1" in text for text in manager.heard))
    assert manager.heard[0] == "READY=1"
    hall.equalizer()
    await hall.until(lambda: manager.listen() and any("server online" in text for text in manager.heard))
