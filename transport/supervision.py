"""Tells the service manager how the process is: the protocol of sd_notify(3), a datagram of text to a local socket."""

import contextlib
import socket
from collections.abc import Mapping

ADDRESS_VARIABLE = "NOTIFY_SOCKET"


class Supervisor:
    """The service manager that started this process, if one did and wants to know.

    Nothing here waits or fails: a manager that does not listen changes nothing for the loop. The library for this is
    libsystemd, which a Python wheel cannot carry; the protocol is stable and this small.

    Args:
        environment: where the manager has left the address of its socket.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get(ADDRESS_VARIABLE, "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """Say that the process has set up everything that it needs of its own."""
        self._tell("READY=1")

    def alive(self, status: str) -> None:
        """Feed the watchdog, because a whole cycle of work has just been done, and say in words what the state is."""
        self._tell(f"WATCHDOG=1\nSTATUS={status.splitlines()[0] if status else ''}")

    def stopping(self) -> None:
        """Say that the process is ending by itself."""
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if self._address:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as to_manager:
                to_manager.sendto(text.encode(), self._address)


NOBODY = Supervisor({})
"""For processes that nobody supervises."""
