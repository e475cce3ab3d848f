"""Does a broker answer there? One MQTT CONNECT by hand, so that no client library's threads are needed to ask."""

import socket
import ssl
import sys

_CONNECT = bytes([0x10, 16, 0, 4]) + b"MQTT" + bytes([4, 0b10, 0, 5, 0, 4]) + b"zl-?"
"""MQTT 3.1.1, clean session, keep-alive 5 s, client id `zl-?`: what every broker we start understands."""
_CONNACK_TYPE = 0x20
_DISCONNECT = bytes([0xE0, 0])
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


def answers(host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Tell whether an MQTT broker is ready there: it sends a CONNACK (a refusal counts), or it speaks TLS."""
    address = (_ANY_ADDRESS.get(host, host), port)
    try:
        link = socket.create_connection(address, timeout_s)
    except OSError:
        return False
    with link:
        reply = _reply(link)
    return reply == _CONNACK_TYPE or (reply is None and _speaks_tls(address, timeout_s))


def _reply(link: socket.socket) -> int | None:
    """Return the type of the packet that answers a CONNECT; None where the link ends instead, or stays silent."""
    try:
        link.sendall(_CONNECT)
        reply = link.recv(4)
        link.sendall(_DISCONNECT)
    except OSError:
        return None
    return reply[0] if reply else None


def _speaks_tls(address: tuple[str, int], timeout_s: float) -> bool:
    """A handshake is enough, or an alert that asks for a certificate: who is let in is not this question's business."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is said over this link
    try:
        with socket.create_connection(address, timeout_s) as link, context.wrap_socket(link):
            return True
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)
    except OSError:
        return False


if __name__ == "__main__":  # a container's health check
    sys.exit(0 if answers(sys.argv[1], int(sys.argv[2])) else 1)
