"""Ports of this computer."""

import errno
import socket


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
