"""Ports of this computer."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp, whose second column is the local address and the tenth the socket (Linux, proc(5))."""


def refusal(host: str, port: int) -> str | None:
    """Return why no server could listen there now, in words; None: one could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as candidate:
        # As the brokers do: connections of a broker that has just ended do not count as taken.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
            candidate.listen(1)
        except OSError as error:
            match error.errno:
                case errno.EADDRINUSE:
                    return f"port {port} on {host} is taken by another program"
                case errno.EADDRNOTAVAIL:
                    return f"{host} is no address of this computer"
                case _:
                    return f"{host}:{port}: {(error.strerror or str(error)).lower()}"
    return None


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there now."""
    return refusal(host, port) is None


def listens(pid: int, port: int) -> bool:
    """Tell whether it is this process that listens at a port; true where the system does not tell.

    A port that was free may be another's by the time that a server asks for it, and that one answers.
    """
    sockets = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                sockets.add(os.readlink(descriptor))  # noqa: PTH115 - `socket:[…]` is no path
        tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6")]
        rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return True
    return any(
        row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port and f"socket:[{row[9]}]" in sockets
        for row in rows
    )


def free_port(host: str = "127.0.0.1", preferred: int = 1883) -> int:
    """Return `preferred` where it is free, else (and with 0) a port that the system chooses.

    Nothing holds the port until the server listens: another program may be quicker.
    """
    if preferred != 0 and is_free(host, preferred):
        return preferred
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as candidate:
        candidate.bind((host, 0))
        return int(candidate.getsockname()[1])
