"""DNS-SD (RFC 6763): brokers of zeroloop that announce themselves on the LAN."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from zeroconf import BadTypeInNameException, IPVersion, ServiceStateChange, Zeroconf
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from schemas.topics import PLAIN_TYPE, SECURE_TYPE, WELL_KNOWN_FILTER

_RESOLVE_TIMEOUT_MS = 1500

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """One announced broker: a place may be reachable under several hosts, the best first."""

    name: str
    hosts: tuple[str, ...]
    port: int
    tls: bool
    protocol: Literal["5", "3.1.1"]


def read(info: AsyncServiceInfo) -> Service | None:
    """Return the broker that a resolved service describes; None where it is no broker of zeroloop."""
    text = _text(info.properties)
    if text.get("topic") != WELL_KNOWN_FILTER or info.port is None or info.port == 0:
        return None
    tls = info.type == SECURE_TYPE
    addresses = [
        *info.parsed_scoped_addresses(IPVersion.V4Only),
        *info.parsed_scoped_addresses(IPVersion.V6Only),
    ]
    # A certificate names a host; an address answers only where that name cannot be looked up.
    named = [info.server.rstrip(".")] if tls and info.server else []
    hosts = tuple(dict.fromkeys([*named, *addresses]))
    if not hosts:
        return None
    return Service(info.name, hosts, info.port, tls, "3.1.1" if text.get("protocol") == "3.1.1" else "5")


def _text(properties: Mapping[bytes, bytes | None]) -> dict[str, str]:
    return {
        key.decode("utf-8", "replace").lower(): (value or b"").decode("utf-8", "replace")
        for key, value in properties.items()
    }


class _Collector:
    """Names of the services that answered."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Take up a service; zeroconf calls with these very keywords."""
        del zeroconf
        if state_change is ServiceStateChange.Removed:
            self.names.pop(name, None)
        else:
            self.names[name] = service_type


async def browse(duration_s: float, *, interfaces: Sequence[str] | None = None) -> tuple[Service, ...]:
    """Return zeroloop's brokers that answer within the time; none (with a log line) where there is no multicast.

    Args:
        duration_s: how long to listen.
        interfaces: addresses of the interfaces to ask on; None: all.
    """
    try:
        responder = AsyncZeroconf() if interfaces is None else AsyncZeroconf(interfaces=list(interfaces))
    except (OSError, RuntimeError) as error:
        _log.info("dns_sd_unavailable error=%r", str(error))
        return ()
    try:
        collector = _Collector()
        browser = AsyncServiceBrowser(responder.zeroconf, [PLAIN_TYPE, SECURE_TYPE], handlers=[collector.changed])
        try:
            await asyncio.sleep(duration_s)
        finally:
            await browser.async_cancel()
        return await _resolve(responder, collector.names.items())
    except (OSError, RuntimeError, ZeroconfError) as error:
        _log.info("dns_sd_failed error=%r", str(error))
        return ()
    finally:
        await responder.async_close()


def _named(name: str, service_type: str) -> AsyncServiceInfo | None:
    """Return what is to be resolved; None (with a log line) for a name that DNS-SD does not allow, whoever bears it."""
    try:
        return AsyncServiceInfo(service_type, name)
    except BadTypeInNameException as error:
        _log.info("dns_sd_name_passed_over name=%r error=%r", name, str(error))
        return None


async def _resolve(responder: AsyncZeroconf, names: Iterable[tuple[str, str]]) -> tuple[Service, ...]:
    infos = [info for name, service_type in names if (info := _named(name, service_type)) is not None]
    answered = await asyncio.gather(*(info.async_request(responder.zeroconf, _RESOLVE_TIMEOUT_MS) for info in infos))
    services = [read(info) for info, complete in zip(infos, answered, strict=True) if complete]
    return tuple(sorted((service for service in services if service is not None), key=lambda service: service.name))
