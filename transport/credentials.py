"""The one file that makes a client known: its name, key and certificate, whom to trust, and where the broker is.

A PEM file with a few lines of TOML before its blocks. Programs that read PEM pass over those lines, so that the same
file serves `mosquitto_sub --cafile F --cert F --key F`. `zeroloop credentials` makes it (`broker.credentials`).
"""

import logging
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from schemas.messages import Name
from schemas.settings import BrokerSettings, ConfigurationError, Port, Section, parse

SUFFIX = ".zeroloop"
BROKER_IDENTITY = "broker.zeroloop.internal"
"""The broker's certificate bears it beside its hosts: under any address, this is how our own clients know it."""
Role = Literal["station", "equalizer", "operator", "dashboard", "meter"]

_FIRST_LINE = "# Credentials of zeroloop. Whoever has this file is let in under its name: keep it secret."
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----\n.+?\n-----END \1-----\n", re.DOTALL)
_MOST_BYTES = 64 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_LOG = logging.getLogger(__name__)


class Header(Section):
    """What stands before the PEM blocks."""

    credentials: Literal[1]
    """The version of this format."""
    role: Role
    name: Name
    host: Annotated[str, Field(min_length=1)]
    """Where the broker is; its certificate bears this name or address."""
    port: Port


@dataclass(frozen=True, slots=True)
class Credentials:
    """A file's content. Its key is not shown in a log or a traceback by accident: there is no field for it."""

    path: Path
    header: Header
    authority_pem: str
    """The only authority whose certificates are believed."""


def render(header: Header, *, key_pem: str, certificate_pem: str, authority_pem: str) -> bytes:
    """Return the file for a client."""
    lines = [_FIRST_LINE, *(f"{key} = {_toml(value)}" for key, value in header.model_dump().items())]
    return ("\n".join(lines) + "\n\n" + key_pem + certificate_pem + authority_pem).encode()


def read(path: Path) -> Credentials:
    """Read a client's file.

    Raises:
        ConfigurationError: one line that says what is wrong with it.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path}: is longer than credentials are")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is no credentials file (`zeroloop credentials` makes one)") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not is_credentials(text):
        raise ConfigurationError(f"{path}: is no credentials file (`zeroloop credentials` makes one)")
    head, begin, _ = text.partition("-----BEGIN")
    header = parse(Header, head, source=str(path), environment={})
    blocks = [(match[1], match[0]) for match in _BLOCK.finditer(text)]
    if [kind for kind, _ in blocks] != ["PRIVATE KEY", "CERTIFICATE", "CERTIFICATE"] or not begin:
        raise ConfigurationError(f"{path}: is damaged: a key and two certificates are expected")
    return Credentials(path, header, blocks[2][1])


def is_credentials(text: str) -> bool:
    """Tell whether a file's text is a client's credentials rather than a configuration."""
    return text.startswith(_FIRST_LINE)


_FILES = ("password_file", "ca_file", "cert_file", "key_file")


def resolved(broker: BrokerSettings, base_dir: Path) -> BrokerSettings:
    """Return the settings with their files found, and with what their credentials file says in its place.

    A host or port that the configuration names itself stands: it is another way to the same broker.

    Args:
        broker: as configured.
        base_dir: what relative paths are relative to.

    Raises:
        ConfigurationError: a file cannot be used.
    """
    if broker.credentials_file is not None:
        return with_credentials(broker, read(base_dir / broker.credentials_file))
    named = {key: path for key in _FILES if (path := getattr(broker, key)) is not None}
    return broker.model_copy(update={key: _readable(key, base_dir / path) for key, path in named.items()})


def _readable(key: str, path: Path) -> str:
    try:
        with path.open("rb"):
            return str(path)
    except OSError as error:
        raise ConfigurationError(f"broker.{key}: {path}: {(error.strerror or str(error)).lower()}") from None


def with_credentials(broker: BrokerSettings, own: Credentials) -> BrokerSettings:
    """Return the settings of a client that has these credentials."""
    if own.path.stat().st_mode & _OTHERS:
        _LOG.warning("credentials_open_to_others file=%s; `chmod 600` it", own.path)
    said = broker.model_fields_set
    path = str(own.path)
    return broker.model_copy(
        update={
            "host": broker.host if "host" in said else own.header.host,
            "port": broker.port if "port" in said else own.header.port,
            "credentials_file": path,
            "ca_file": path,
            "cert_file": path,
            "key_file": path,
        }
    )


def dropped(folder: Path, broker: BrokerSettings | None) -> BrokerSettings | None:
    """Return the settings with the credentials that somebody put into a folder; as they are where there are none.

    A configuration that names credentials of its own means those.

    Raises:
        ConfigurationError: there are several, or the file cannot be used.
    """
    if broker is not None and (broker.ca_file is not None or broker.username is not None):
        return broker
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if not files:
        return broker
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ConfigurationError(f"{folder}: has several credentials ({names}); leave one")
    return with_credentials(broker if broker is not None else BrokerSettings(), read(files[0]))


def own_header(broker: BrokerSettings | None) -> Header | None:
    """Return who these settings say we are; None where they name no credentials file.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    if broker is None or broker.credentials_file is None:
        return None
    return read(Path(broker.credentials_file)).header


def demand(broker: BrokerSettings | None, role: Role, name: str | None = None) -> None:
    """Refuse credentials that are for somebody else: the broker would let them in, and deliver nothing.

    Args:
        broker: resolved settings.
        role: what the credentials must be for.
        name: and for whom; None: for anybody of that role.

    Raises:
        ConfigurationError: they are for another role or name.
    """
    header = own_header(broker)
    if header is None or broker is None:
        return
    if header.role != role:
        raise ConfigurationError(f"{broker.credentials_file}: is for {_article(header.role)}, not for {_article(role)}")
    if name is not None and header.name != name:
        raise ConfigurationError(f"{broker.credentials_file}: is for {role} {header.name!r}, not for {name!r}")


def _article(role: str) -> str:
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def _toml(value: object) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'
