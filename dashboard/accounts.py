"""Who may sign in, and as what. Passwords are kept as Argon2id hashes only."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from schemas.settings import ConfigurationError
from schemas.topics import is_name
from transport.files import write_atomically

FILE = "users.json"
SHORTEST_PASSWORD = 10
_LONGEST_PASSWORD = 256


class Role(StrEnum):
    """What somebody may do: see, or see and act."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class User(BaseModel):
    """One who may sign in."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Role
    password_hash: Annotated[str, Field(min_length=1)]


class _File(RootModel[dict[str, User]]):
    pass


class Accounts:
    """The file of users: read anew when it has changed, so that who is removed is out at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._hasher = PasswordHasher()
        self._read: tuple[int, int] | None = None
        self._users: dict[str, User] = {}
        self._decoy: str | None = None

    def users(self) -> dict[str, User]:
        """Return all by name.

        Raises:
            ConfigurationError: the file cannot be read.
        """
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._read:
                self._users = _File.model_validate_json(self._path.read_bytes()).root
                self._read = stamp
        except FileNotFoundError:
            self._users, self._read = {}, None
        except (ValidationError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self._path}: is no file of users: {str(error).splitlines()[0]}") from None
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {(error.strerror or str(error)).lower()}") from None
        return self._users

    def put(self, name: str, role: Role, password: str) -> bool:
        """Add a user or change one; True: the name was there before.

        Raises:
            ConfigurationError: the name or the password cannot be used.
        """
        if not is_name(name):
            raise ConfigurationError(f"{name!r} is no name: 1 to 64 letters, digits, '_' or '-'")
        if not SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
            raise ConfigurationError(f"a password has {SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} letters")
        users = dict(self.users())
        known = name in users
        users[name] = User(role=role, password_hash=self._hasher.hash(password))
        self._write(users)
        return known

    def remove(self, name: str) -> None:
        """Take a user out.

        Raises:
            ConfigurationError: there is no such user.
        """
        users = dict(self.users())
        if users.pop(name, None) is None:
            known = ", ".join(sorted(users)) or "none"
            raise ConfigurationError(f"there is no user {name!r}; known are: {known}")
        self._write(users)

    def check(self, name: str, password: str) -> User | None:
        """Return the user whose name and password these are; it takes its time, on purpose."""
        user = self.users().get(name)
        if self._decoy is None:
            # Checked where there is no such user, so that a name's existence does not show in the time that it takes.
            self._decoy = self._hasher.hash("nobody has this password")
        try:
            self._hasher.verify(self._decoy if user is None else user.password_hash, password[:_LONGEST_PASSWORD])
        except (VerificationError, InvalidHashError):
            return None
        return user

    def _write(self, users: dict[str, User]) -> None:
        content = {name: user.model_dump(mode="json") for name, user in sorted(users.items())}
        write_atomically(self._path, json.dumps(content, indent=2).encode())
        self._read = None
