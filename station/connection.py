"""The way to the server, and the file that remembers it for the next start (`connection.json`)."""

import logging
import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.messages import Name, ServerAnnouncement
from schemas.settings import BrokerSettings, Port
from transport.files import write_atomically

CACHE_FILE = "connection.json"

_log = logging.getLogger(__name__)


class Source(StrEnum):
    """How a broker was found; in the order in which they are tried."""

    CONFIGURED = "configured"
    CACHED = "cached"
    DNS_SD = "dns_sd"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Connection:
    """A broker that answered, and the loop to work in."""

    broker: BrokerSettings
    loop: str
    source: Source
    announcement: ServerAnnouncement | None
    """What the server said; null where a known loop was used without waiting for it."""


class CachedConnection(BaseModel):
    """What `connection.json` holds. No secret is among it: those stay in the files that the configuration names."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    host: Annotated[str, Field(min_length=1)]
    port: Port
    tls: bool
    loop: Name
    protocol: Literal["5", "3.1.1"] = "5"
    source: Source
    """How it was found in the first place."""


def load(path: Path) -> CachedConnection | None:
    """Return the remembered connection; None where there is none, or (with a log line) where the file is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("connection_cache_unreadable file=%s error=%r", path, str(error))
        return None
    try:
        return CachedConnection.model_validate_json(content)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        _log.warning("connection_cache_damaged file=%s error=%r action=passed_over", path, reason)
        return None


def remember(path: Path, connection: Connection, known: CachedConnection | None) -> None:
    """Write a connection for the next start, unless that is what is `known` already.

    A folder that cannot be written to costs a log line, not the connection.
    """
    source = connection.source
    if source is Source.CACHED:
        source = known.source if known is not None else Source.CACHED
    cached = CachedConnection(
        host=connection.broker.host,
        port=connection.broker.port,
        tls=connection.broker.ca_file is not None,
        loop=connection.loop,
        protocol=connection.broker.protocol,
        source=source,
    )
    if cached == known:
        return
    try:
        write_atomically(path, cached.model_dump_json(indent=2).encode() + b"\n")
    except OSError as error:
        _log.warning("connection_cache_unwritable file=%s error=%r", path, str(error))
        return
    _log.info("connection_cached host=%s port=%d loop=%s source=%s", cached.host, cached.port, cached.loop, source)


def reach(
    host: str, port: int, *, tls: bool, protocol: Literal["5", "3.1.1"], configured: BrokerSettings | None
) -> BrokerSettings | None:
    """Return how to reach a broker that the configuration did not name itself; None where it must not be used.

    Anyone on the LAN can announce a broker. Where an authority is configured, only a broker that proves itself to it is
    believed: one in the clear would get no secret, but its setpoints would be obeyed. Without one, configured secrets
    go to the configured host and port alone.
    """
    if pinned(configured) and not tls:
        return None
    place = {"host": host, "port": port, "protocol": protocol}
    if configured is not None:
        same = (configured.host, configured.port) == (host, port)
        if pinned(configured) or (same and not tls):
            return configured.model_copy(update=place)
    return BrokerSettings(host=host, port=port, protocol=protocol, ca_file=_system_authorities() if tls else None)


def pinned(configured: BrokerSettings | None) -> bool:
    """Tell whether the configuration names the authority that a broker must prove itself to."""
    return configured is not None and configured.ca_file is not None


def _system_authorities() -> str | None:
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.openssl_cafile
