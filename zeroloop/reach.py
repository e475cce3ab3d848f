"""How a command finds its server: as a station does, unless it is told."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from schemas.messages import Name
from schemas.settings import BrokerSettings, ConfigurationError, Section
from schemas.topics import is_name
from station.connection import CACHE_FILE, Connection
from station.discovery import DiscoveryRequest, discover
from station.probe import Patience
from transport.credentials import is_credentials, read, with_credentials
from zeroloop import clocks, ports
from zeroloop.process import read_settings

_PATIENCE = Patience(answer_s=3.0, announcement_s=2.0)
CONNECT_WITHIN_S = 5.0
"""A broker that was found answers within this time."""
_FIND_TOLD_WITHIN_S = 5.0
_FIND_WITHIN_S = 10.0


class _LoopPart(Section):
    model_config = ConfigDict(extra="ignore")
    name: Name | None = None


class _StationPart(Section):
    model_config = ConfigDict(extra="ignore")
    loop: Name | None = None


class _ClientPart(Section):
    """What a command needs of an equalizer's or a station's configuration: the broker, and which loop."""

    model_config = ConfigDict(extra="ignore")
    broker: BrokerSettings | None = None
    loop: _LoopPart = _LoopPart()
    station: _StationPart = _StationPart()


@dataclass(frozen=True, slots=True)
class Reach:
    """What was said on the command line of where the server is."""

    host: str | None = None
    port: int | None = None
    loop: str | None = None
    config: Path | None = None

    def request(self) -> DiscoveryRequest:
        """Return what to look for.

        Raises:
            ConfigurationError: an option or the file cannot be used.
        """
        if self.loop is not None and not is_name(self.loop):
            raise ConfigurationError(f"--loop: {self.loop!r} is no name: 1 to 64 letters, digits, '_' or '-'")
        ports.check("--port", self.port)
        if self.host is not None and not self.host:
            raise ConfigurationError("--host: must be a text that is not empty")
        settings = self._settings()
        named = settings.loop.name if settings.loop.name is not None else settings.station.loop
        loop = self.loop if self.loop is not None else named
        broker = self._configured(settings.broker)
        if self.told:
            # Whoever names a broker means that one: a command must not reach another hall instead.
            return DiscoveryRequest(broker, loop, local=None, dns_sd=False, patience=_PATIENCE)
        return DiscoveryRequest(broker, loop, _cache_file(), patience=_PATIENCE)

    def _settings(self) -> "_ClientPart":
        """Read the configuration; a credentials file is as good as one that names nothing else."""
        if self.config is None or not _is_credentials(self.config):
            return read_settings(_ClientPart, self.config)
        broker = with_credentials(BrokerSettings(), read(self.config.resolve()))
        return _ClientPart().model_copy(update={"broker": broker})

    @property
    def told(self) -> bool:
        """Whether the command line says where the broker is, so that nothing needs to be remembered."""
        return self.host is not None or self.port is not None

    def as_options(self) -> str:
        """Return what a command needs to reach the same place: ` --host …`, or nothing."""
        said = {"host": self.host, "port": self.port, "loop": self.loop, "config": self.config}
        return "".join(f" --{name} {value}" for name, value in said.items() if value is not None)

    async def connection(self) -> Connection:
        """Return the way to the server.

        Raises:
            ConfigurationError: an option or the file cannot be used.
            DiscoveryError: no server was found, or too many.
        """
        timeout_s = _FIND_TOLD_WITHIN_S if self.told else _FIND_WITHIN_S
        return await discover(self.request(), clock=clocks.monotonic_s, timeout_s=timeout_s)

    def _configured(self, broker: BrokerSettings | None) -> BrokerSettings | None:
        if not self.told:
            return broker
        told: dict[str, Any] = {}
        if self.host is not None:
            told["host"] = self.host
        if self.port is not None:
            told["port"] = self.port
        return (broker if broker is not None else BrokerSettings()).model_copy(update=told)


def _is_credentials(path: Path) -> bool:
    try:
        return is_credentials(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False  # whoever reads it as a configuration says what is wrong


def _cache_file() -> Path:
    folder = os.environ.get("XDG_STATE_HOME", "")
    return (Path(folder) if folder else Path.home() / ".local" / "state") / "zeroloop" / CACHE_FILE
