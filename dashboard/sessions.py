"""Who is signed in, and how often a wrong password may be tried. Pure; time is an argument."""

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace

from dashboard.accounts import Role, User

_MOST_SESSIONS = 1_000
_FREE_TRIES = 5
_FIRST_WAIT_S = 2.0
_LONGEST_WAIT_S = 300.0
_FORGIVEN_AFTER_S = 900.0
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who signed in."""

    name: str
    mark: str
    """Of the password that was given: another one ends it."""
    used_unix_time_s: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, and what they may."""

    name: str
    role: Role

    @property
    def may_act(self) -> bool:
        """Whether power may be moved on their word."""
        return self.role is Role.OPERATOR


class Sessions:
    """Sessions by the hash of their token: who reads the store cannot sign in with it."""

    def __init__(self, lifetime_s: float, stored: dict[str, list[str | float]] | None = None) -> None:
        self._lifetime_s = lifetime_s
        self._sessions: OrderedDict[str, Session] = OrderedDict(
            (key, Session(str(name), str(mark), float(used_s))) for key, (name, mark, used_s) in (stored or {}).items()
        )

    def begin(self, name: str, user: User, now_s: float) -> str:
        """Return the token of a new session."""
        token = secrets.token_urlsafe(32)
        self._sessions[_hash(token)] = Session(name, _hash(user.password_hash), now_s)
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def identity(self, token: str | None, users: dict[str, User], now_s: float) -> Identity | None:
        """Return whose a token is; None: nobody's, or no longer."""
        if token is None:
            return None
        key = _hash(token)
        session = self._sessions.get(key)
        if session is None:
            return None
        user = users.get(session.name)
        if user is None or session.mark != _hash(user.password_hash) or self._is_over(session, now_s):
            del self._sessions[key]
            return None
        self._sessions[key] = replace(session, used_unix_time_s=now_s)
        return Identity(session.name, user.role)

    def end(self, token: str | None) -> None:
        """End a session."""
        if token is not None:
            self._sessions.pop(_hash(token), None)

    def stored(self, now_s: float) -> dict[str, list[str | float]]:
        """Return what the store keeps."""
        return {
            key: [session.name, session.mark, session.used_unix_time_s]
            for key, session in self._sessions.items()
            if not self._is_over(session, now_s)
        }

    def _is_over(self, session: Session, now_s: float) -> bool:
        return now_s - session.used_unix_time_s > self._lifetime_s


@dataclass(slots=True)
class _Tries:
    count: int = 0
    last_s: float = 0.0


class Throttle:
    """After a few wrong passwords every further try of a name or from an address waits, twice as long each time."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def wait_s(self, keys: tuple[str, ...], now_s: float) -> float:
        """Return how long the next try has to wait; 0: none."""
        return max((self._wait_s(self._tries.get(key), now_s) for key in keys), default=0.0)

    def failed(self, keys: tuple[str, ...], now_s: float) -> None:
        """A password was wrong."""
        for key in keys:
            tries = self._tries.pop(key, None)
            if tries is None or now_s - tries.last_s > _FORGIVEN_AFTER_S:
                tries = _Tries()
            self._tries[key] = _Tries(tries.count + 1, now_s)
            while len(self._tries) > _REMEMBERED:
                self._tries.popitem(last=False)

    def succeeded(self, keys: tuple[str, ...]) -> None:
        """A password was right."""
        for key in keys:
            self._tries.pop(key, None)

    @staticmethod
    def _wait_s(tries: _Tries | None, now_s: float) -> float:
        if tries is None or tries.count < _FREE_TRIES:
            return 0.0
        wait_s = min(_FIRST_WAIT_S * 2.0 ** (tries.count - _FREE_TRIES), _LONGEST_WAIT_S)
        return max(0.0, tries.last_s + wait_s - now_s)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
