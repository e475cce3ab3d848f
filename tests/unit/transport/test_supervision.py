"""What a service manager hears, and that nothing depends on whether it listens."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from transport.supervision import ADDRESS_VARIABLE, Supervisor


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60.0)
        yield listener


def test_start_life_and_end_are_told_in_the_managers_words(manager: socket.socket) -> None:
    supervisor = Supervisor({ADDRESS_VARIABLE: manager.getsockname()})
    supervisor.ready()
    supervisor.alive("balancing")
    supervisor.stopping()
    assert [manager.recv(1024) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1\nSTATUS=balancing", b"STOPPING=1"]


def test_a_status_cannot_bring_an_assignment_of_its_own(manager: socket.socket) -> None:
    Supervisor({ADDRESS_VARIABLE: manager.getsockname()}).alive("fine\nMAINPID=1")
    assert manager.recv(1024) == b"WATCHDOG=1\nSTATUS=fine"


def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(b"\0zeroloop-test-%d" % id(listener))
        listener.settimeout(60.0)
        Supervisor({ADDRESS_VARIABLE: "@" + listener.getsockname()[1:].decode()}).ready()
        assert listener.recv(1024) == b"READY=1"


@pytest.mark.parametrize("environment", [{}, {ADDRESS_VARIABLE: ""}, {ADDRESS_VARIABLE: "/nowhere/notify"}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    supervisor = Supervisor(environment)
    supervisor.ready()
    supervisor.alive("balancing")
    supervisor.stopping()


def test_a_manager_that_does_not_read_holds_nothing_up(manager: socket.socket) -> None:
    supervisor = Supervisor({ADDRESS_VARIABLE: manager.getsockname()})
    for _ in range(10_000):
        supervisor.alive("balancing")
    assert manager.recv(1024).startswith(b"WATCHDOG=1")
