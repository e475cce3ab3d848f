"""Which of this computer's addresses others can use."""

import ipaddress
import socket

_ANYWHERE = "192.0.2.1"
"""Reserved for documentation (RFC 5737): a route to it is the default route."""


def reachable_host(listening: str, broker_host: str) -> str:
    """Return the host under which others reach what listens here.

    A wildcard listens everywhere, and is no address to give away: then it is the address that this computer uses
    towards the broker, or towards the network where the broker runs beside it.
    """
    if not _is_wildcard(listening):
        return f"[{listening}]" if ":" in listening else listening
    for towards in (broker_host, _ANYWHERE):
        own = _own_address(towards)
        if own is not None and not ipaddress.ip_address(own).is_loopback:
            return f"[{own}]" if ":" in own else own
    return socket.gethostname()


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == ""


def _own_address(towards: str) -> str | None:
    """Ask the routing table; connecting a UDP socket sends nothing."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None
