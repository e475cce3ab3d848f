"""Announces the equalizer's broker by DNS-SD, so that stations find it without configuration.

An announcement must be true wherever it is heard. A broker configured as 127.0.0.1 may serve this computer alone, so it
is announced on a LAN address only where it was seen to listen there, and on the loopback interface otherwise.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import ifaddr
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from schemas.settings import BrokerSettings
from schemas.topics import PLAIN_TYPE, SECURE_TYPE, WELL_KNOWN_FILTER

_LISTENS_TIMEOUT_S = 1.0
_LOOPBACK_INTERFACE = "127.0.0.1"
_LABEL_BYTES = 63
"""The longest label of a domain name (RFC 1035, 2.3.4)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Announce:
    """The broker is reachable at these addresses, and is announced on these interfaces (None: all)."""

    addresses: tuple[str, ...]
    interfaces: tuple[str, ...] | None
    reason: str


@dataclass(frozen=True, slots=True)
class KeepQuiet:
    """Announcing the broker would mislead."""

    reason: str


Decision = Announce | KeepQuiet


def decide(resolved: Sequence[str], lan: Sequence[str], listening: Sequence[str]) -> Decision:
    """Return where a broker may be announced.

    Args:
        resolved: the addresses of the configured host.
        lan: this computer's addresses other than loopback and link-local ones.
        listening: those of `lan` on which something accepts connections at the broker's port.
    """
    if not resolved:
        return KeepQuiet("the broker's host has no address")
    if not all(_is_this_computer_only(address) for address in resolved):
        reachable = tuple(address for address in resolved if not _is_this_computer_only(address))
        return Announce(reachable, None, "the broker is configured by an address that others can reach")
    if reachable := tuple(address for address in lan if address in set(listening)):
        return Announce(reachable, None, "the broker listens on this computer's LAN addresses")
    if loopback := [address for address in resolved if ipaddress.ip_address(address).is_loopback]:
        reason = "the broker listens on this computer alone; other computers cannot use it"
        return Announce(tuple(loopback), (_LOOPBACK_INTERFACE,), reason)
    return KeepQuiet("the broker listens on none of this computer's LAN addresses")


def _is_this_computer_only(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or parsed.is_unspecified


class Advertisement:
    """The announcement of one broker, from `start` to `stop`. Without multicast it does nothing but say so.

    Args:
        broker: the broker that the equalizer uses.
        server: the server's name; with the loop's, it names the service.
        loop: the loop's name.
        interfaces: addresses of the interfaces to announce on; None: as decided.
    """

    def __init__(
        self, broker: BrokerSettings, *, server: str, loop: str, interfaces: Sequence[str] | None = None
    ) -> None:
        self._broker = broker
        self._server = server
        self._loop = loop
        self._interfaces = interfaces
        self._responder: AsyncZeroconf | None = None

    async def start(self) -> None:
        """Announce the broker, if that is safe; never raises for want of a network."""
        decision = decide(*await self._observe())
        match decision:
            case KeepQuiet(reason):
                _log.warning("dns_sd_not_announced host=%s reason=%r", self._broker.host, reason)
            case Announce():
                await self._register(decision)

    async def stop(self) -> None:
        """Take the announcement back."""
        responder, self._responder = self._responder, None
        if responder is None:
            return
        try:
            await responder.async_unregister_all_services()
        except (OSError, RuntimeError, ZeroconfError) as error:
            _log.info("dns_sd_farewell_failed error=%r", str(error))
        await responder.async_close()

    async def _observe(self) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        resolved = await _resolve(self._broker.host, self._broker.port)
        lan = _lan_addresses()
        accepted = await asyncio.gather(*(_listens(address, self._broker.port) for address in lan))
        return resolved, lan, [address for address, accepts in zip(lan, accepted, strict=True) if accepts]

    async def _register(self, decision: Announce) -> None:
        interfaces = self._interfaces if self._interfaces is not None else decision.interfaces
        try:
            responder = AsyncZeroconf() if interfaces is None else AsyncZeroconf(interfaces=list(interfaces))
        except (OSError, RuntimeError) as error:
            _log.warning("dns_sd_unavailable error=%r", str(error))
            return
        try:
            registration = await responder.async_register_service(self._service(decision), allow_name_change=True)
            await registration
        except (OSError, RuntimeError, ZeroconfError) as error:
            _log.warning("dns_sd_announcement_failed error=%r", str(error) or type(error).__name__)
            await responder.async_close()
            return
        except BaseException:
            await responder.async_close()
            raise
        self._responder = responder
        _log.info(
            "dns_sd_announced addresses=%s port=%d reason=%r",
            ",".join(decision.addresses),
            self._broker.port,
            decision.reason,
        )

    def _service(self, decision: Announce) -> AsyncServiceInfo:
        service_type = PLAIN_TYPE if self._broker.ca_file is None else SECURE_TYPE
        text = {"topic": WELL_KNOWN_FILTER}
        if self._broker.protocol != "5":
            text["protocol"] = self._broker.protocol
        return AsyncServiceInfo(
            service_type,
            f"{_label(f'zeroloop {self._loop} {self._server}')}.{service_type}",
            port=self._broker.port,
            properties=text,
            server=self._target(decision),
            parsed_addresses=list(decision.addresses),
        )

    def _target(self, decision: Announce) -> str:
        """Return the host name that goes with the addresses.

        A certificate holds the configured name, so a broker over TLS is announced by it. Otherwise the name is one of
        our own: the computer's name may belong to another responder that answers with other addresses.
        """
        if self._broker.ca_file is not None and not _is_address(self._broker.host):
            return f"{self._broker.host.rstrip('.')}."
        place = f"{socket.gethostname()} {decision.addresses} {self._broker.port}"
        return f"zeroloop-{hashlib.sha256(place.encode()).hexdigest()[:16]}.local."


def _label(text: str) -> str:
    """Shorten a name that does not fit one label, keeping it distinct."""
    if len(text.encode()) <= _LABEL_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: _LABEL_BYTES - len(digest) - 1]}-{digest}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _resolve(host: str, port: int) -> tuple[str, ...]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        _log.warning("broker_host_unknown host=%s error=%r", host, str(error))
        return ()
    return tuple(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


def _lan_addresses() -> tuple[str, ...]:
    """Return this computer's addresses that other computers may use."""
    addresses = (str(ip.ip if ip.is_IPv4 else ip.ip[0]) for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    parsed = (ipaddress.ip_address(address.partition("%")[0]) for address in addresses)
    return tuple(dict.fromkeys(str(ip) for ip in parsed if not (ip.is_loopback or ip.is_link_local)))


async def _listens(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_LISTENS_TIMEOUT_S):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
