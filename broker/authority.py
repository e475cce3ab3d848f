"""A hall's own authority: a folder that decides who is let in, and all that Mosquitto and the clients take from it.

    authority.key authority.crt register.json   the authority; belongs on no computer of the hall
    broker/                                     what the broker's computer gets, whole
    clients/NAME.zeroloop                       what NAME's computer gets: one file

`register.json` is the source; lists, access rights and configuration are made from it again at every change.
"""

import contextlib
import fcntl
import ipaddress
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker import mosquitto
from broker.access import access_list
from broker.certificates import Issued, Signer, new_authority
from broker.errors import AuthorityError
from schemas.messages import Name
from schemas.settings import Port
from schemas.topics import is_name
from transport.credentials import SUFFIX, Header, Role, render
from transport.files import write_atomically

BROKER = "broker"
"""The name under which the broker's own certificate is kept; no client may have it."""
AUTHORITY_DAYS = 3650.0
CLIENT_DAYS = 825.0
RENEW_DAYS = 60.0
"""`renew` without a name renews what expires within this time."""

_DAY_S = 86400.0
_CRL_BACKDATED_S = 3600.0
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*")


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Certificate(_Part):
    """A certificate that was given out, until it has expired."""

    serial: Annotated[str, Field(pattern=r"^[0-9a-f]{1,40}$")]
    """Hexadecimal."""
    expires_unix_time_s: float
    revoked_unix_time_s: float | None = None


class Entry(_Part):
    """A name; `role` null: the broker itself."""

    role: Role | None
    certificates: list[Certificate]
    """The newest last."""

    @property
    def newest(self) -> Certificate:
        """The one that counts."""
        return self.certificates[-1]

    @property
    def revoked(self) -> bool:
        """Whether the name is let in no more."""
        return self.newest.revoked_unix_time_s is not None


class Register(_Part):
    """register.json."""

    version: int = 1
    places: list[str]
    """Where the broker is: host names and addresses; clients use the first."""
    port: Port
    loop: Name | None
    """The only loop that this hall has; null: any."""
    broker_folder: str
    """Where the broker's computer keeps what is in `broker/`."""
    data_folder: str
    """Where Mosquitto keeps retained messages."""
    revocations_unix_time_s: float
    names: dict[Name, Entry] = Field(default_factory=dict)


class Authority:
    """The folder, opened.

    Args:
        folder: with `register.json` in it.
        now_s: seconds since 1970.

    Raises:
        AuthorityError: it is no authority's, or it is damaged.
    """

    def __init__(self, folder: Path, now_s: float) -> None:
        self.folder = folder
        self._now_s = now_s
        try:
            self.register = Register.model_validate_json((folder / "register.json").read_bytes())
            self._certificate_pem = (folder / "authority.crt").read_bytes()
            self._signer = Signer((folder / "authority.key").read_bytes(), self._certificate_pem)
        except FileNotFoundError as error:
            raise AuthorityError(
                f"{error.filename}: is missing; `zeroloop credentials init` makes an authority"
            ) from None
        except OSError as error:
            raise AuthorityError(f"{error.filename}: {(error.strerror or str(error)).lower()}") from None
        except ValidationError as error:
            what = error.errors(include_url=False, include_input=False)[0]
            raise AuthorityError(f"{folder / 'register.json'}: is damaged: {what['msg']}") from None
        except ValueError as error:
            raise AuthorityError(f"{folder}: authority.key or authority.crt is damaged: {error}") from None

    def issue(self, name: str, role: Role, days: float = CLIENT_DAYS) -> Path:
        """Let a new name in, or one that was revoked; return the file for it.

        Raises:
            AuthorityError: the name cannot be used, or is in use.
        """
        if not is_name(name):
            raise AuthorityError(f"{name!r} is no name: 1 to 64 letters, digits, '_' or '-'")
        if name == BROKER:
            raise AuthorityError(f"{name!r} is the broker's own name; choose another")
        entry = self.register.names.get(name)
        if entry is not None and not entry.revoked:
            raise AuthorityError(
                f"{name!r} is let in as {entry.role} already; `renew` gives it a new certificate, `revoke` ends it"
            )
        known = [] if entry is None else entry.certificates
        self.register.names[name] = Entry(role=role, certificates=known)
        return self._give(name, role, days)

    def renew(self, name: str, days: float = CLIENT_DAYS, places: Sequence[str] = ()) -> Path:
        """Give a name a new key and certificate; the old one stays good until it expires.

        Args:
            name: a client's, or `broker`.
            days: how long the new one holds.
            places: for `broker`: where it is from now on; empty: as before.

        Raises:
            AuthorityError: there is no such name, or it is revoked.
        """
        entry = self._known(name)
        if entry.revoked:
            raise AuthorityError(f"{name!r} is revoked; `{entry.role} {name}` lets it in again")
        if entry.role is None:
            if places:
                self.register.places = checked_places(places)
            return self._certify_broker(days)
        return self._give(name, entry.role, days)

    def due(self) -> list[str]:
        """Return the names whose certificates expire soon, or have."""
        limit_s = self._now_s + RENEW_DAYS * _DAY_S
        return [
            name
            for name, entry in sorted(self.register.names.items())
            if not entry.revoked and entry.newest.expires_unix_time_s < limit_s
        ]

    def revoke(self, name: str) -> None:
        """Let a name in no more, with any certificate that it has been given.

        Raises:
            AuthorityError: there is no such name, or it is revoked already.
        """
        entry = self._known(name)
        if entry.role is None:
            raise AuthorityError(
                "the broker's certificate is replaced by `renew broker`: clients fetch no revocation list"
            )
        if entry.revoked:
            raise AuthorityError(f"{name!r} is revoked already")
        for certificate in entry.certificates:
            if certificate.revoked_unix_time_s is None:
                certificate.revoked_unix_time_s = self._now_s
        (self.folder / "clients" / f"{name}{SUFFIX}").unlink(missing_ok=True)
        self._write()

    def _known(self, name: str) -> Entry:
        entry = self.register.names.get(name)
        if entry is None:
            known = ", ".join(sorted(self.register.names))
            raise AuthorityError(f"there is no {name!r} here; known are: {known}")
        return entry

    # ── what is made ──────────────────────────────────────────────────────────────────────────────────────────────

    def _give(self, name: str, role: Role, days: float) -> Path:
        issued = self._signer.client(name, self._now_s, days * _DAY_S)
        self._enter(name, issued)
        self._write()
        register = self.register
        header = Header(credentials=1, role=role, name=name, host=register.places[0], port=register.port)
        path = self.folder / "clients" / f"{name}{SUFFIX}"
        content = render(
            header,
            key_pem=issued.key_pem,
            certificate_pem=issued.certificate_pem,
            authority_pem=self._certificate_pem.decode(),
        )
        write_atomically(path, content)
        return path

    def _certify_broker(self, days: float) -> Path:
        issued = self._signer.server(BROKER, self.register.places, self._now_s, days * _DAY_S)
        self.register.names.setdefault(BROKER, Entry(role=None, certificates=[]))
        self._enter(BROKER, issued)
        folder = self.folder / "broker"
        write_atomically(folder / "server.key", issued.key_pem.encode())
        write_atomically(folder / "server.crt", issued.certificate_pem.encode())
        self._write()
        return folder

    def _enter(self, name: str, issued: Issued) -> None:
        certificates = self.register.names[name].certificates
        certificates[:] = [one for one in certificates if one.expires_unix_time_s > self._now_s]
        certificates.append(Certificate(serial=f"{issued.serial:x}", expires_unix_time_s=issued.expires_unix_time_s))

    def _write(self) -> None:
        """Write the register, and anew all that follows from it."""
        register = self.register
        # Mosquitto keeps what it has read until it is restarted, and believes the latest: whole seconds, ever rising,
        # never in the future.
        register.revocations_unix_time_s = max(
            float(int(self._now_s - _CRL_BACKDATED_S)), register.revocations_unix_time_s + 1.0
        )
        write_atomically(self.folder / "register.json", register.model_dump_json(indent=2).encode() + b"\n")
        revoked = [
            (int(certificate.serial, 16), certificate.revoked_unix_time_s)
            for entry in register.names.values()
            for certificate in entry.certificates
            if certificate.revoked_unix_time_s is not None
        ]
        let_in = {
            name: entry.role for name, entry in register.names.items() if entry.role is not None and not entry.revoked
        }
        made = {
            "authority.crt": self._certificate_pem.decode(),
            "revoked.pem": self._signer.revocations(revoked, register.revocations_unix_time_s),
            "access.acl": access_list(let_in, register.loop),
            "mosquitto.conf": mosquitto.production(register.port, register.broker_folder, register.data_folder),
        }
        for file, text in made.items():
            write_atomically(self.folder / "broker" / file, text.encode())


def found(
    folder: Path,
    places: Sequence[str],
    now_s: float,
    *,
    port: int = 8883,
    loop: str | None = None,
    broker_folder: str | None = None,
    data_folder: str | None = None,
) -> Authority:
    """Make an authority, and the broker's certificate.

    Args:
        folder: made where it is missing; it must be empty of an authority.
        places: host names and addresses of the broker; clients use the first.
        now_s: seconds since 1970.
        port: for MQTT over TLS.
        loop: the only loop that anybody has to do with; None: any.
        broker_folder: where the broker's computer will keep its part; None: where it is made.
        data_folder: where Mosquitto keeps its data; None: below.

    Raises:
        AuthorityError: there is one already, or a place is none.
    """
    checked = checked_places(places)
    if loop is not None and not is_name(loop):
        raise AuthorityError(f"--loop: {loop!r} is no name: 1 to 64 letters, digits, '_' or '-'")
    if (folder / "register.json").exists():
        raise AuthorityError(f"{folder}: has an authority already")
    own = folder.resolve()
    for part in (own, own / "broker", own / "clients"):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.chmod(0o700)
    if data_folder is None and broker_folder is None:
        (own / "broker" / "data").mkdir(mode=0o700, exist_ok=True)
    write_atomically(own / ".gitignore", b"*\n")  # these keys belong into no repository
    issued = new_authority("zeroloop hall authority", now_s, AUTHORITY_DAYS * _DAY_S)
    write_atomically(own / "authority.key", issued.key_pem.encode())
    write_atomically(own / "authority.crt", issued.certificate_pem.encode())
    there = broker_folder if broker_folder is not None else str(own / "broker")
    register = Register(
        places=checked,
        port=port,
        loop=loop,
        broker_folder=there,
        data_folder=data_folder if data_folder is not None else f"{there}/data",
        revocations_unix_time_s=0.0,
    )
    write_atomically(own / "register.json", register.model_dump_json(indent=2).encode() + b"\n")
    authority = Authority(own, now_s)
    authority._certify_broker(CLIENT_DAYS)  # noqa: SLF001 - its own module's
    return authority


@contextlib.contextmanager
def opened(folder: Path, now_s: float) -> Iterator[Authority]:
    """Open an authority for a change; a second one waits.

    Raises:
        AuthorityError: it is no authority's folder, or it is damaged.
    """
    try:
        with (folder / "authority.key").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Authority(folder, now_s)
    except FileNotFoundError as error:
        raise AuthorityError(f"{error.filename}: is missing; `zeroloop credentials init` makes an authority") from None


def checked_places(places: Sequence[str]) -> list[str]:
    """Return the places that a certificate can bear, each once.

    Raises:
        AuthorityError: there are none, or one is neither a host name nor an address.
    """
    if not places:
        raise AuthorityError("name at least one host name or address under which clients reach the broker")
    for place in places:
        try:
            ipaddress.ip_address(place)
        except ValueError:
            if _HOST.fullmatch(place) is None:
                raise AuthorityError(f"{place!r} is neither a host name nor an address") from None
    return list(dict.fromkeys(places))
