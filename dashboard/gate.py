"""The door: who comes in, from where, and with which headers everything leaves."""

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, urlsplit

from dashboard.accounts import Role
from dashboard.hub import Hub
from dashboard.sessions import Identity

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "zeroloop_session"
IDENTITY = "zeroloop.identity"
TOKEN = "zeroloop.token"  # noqa: S105 - the name of the place, no secret
SIGN_IN = "/sign-in"

_OPEN = (SIGN_IN, "/assets/", "/prefer", "/favicon.ico")
_SAFE = {"GET", "HEAD", "OPTIONS"}

# NiceGUI compiles its templates in the browser, hence 'unsafe-eval' and inline scripts; nothing comes from elsewhere.
_HEADERS = (
    (
        b"content-security-policy",
        b"; ".join(
            (
                b"default-src 'self'",
                b"script-src 'self' 'unsafe-inline' 'unsafe-eval'",
                b"style-src 'self' 'unsafe-inline'",
                b"img-src 'self' data: blob:",
                b"font-src 'self' data:",
                b"connect-src 'self'",
                b"object-src 'none'",
                b"base-uri 'self'",
                b"form-action 'self'",
                b"frame-ancestors 'none'",
            )
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


class Gate:
    """An ASGI application around the page's own.

    Without a sign-in the page answers to loopback names only: otherwise any web site could have its visitor's browser
    reach it under a name of the site's own (DNS rebinding).
    """

    def __init__(self, app: App, hub: Hub) -> None:
        self.app = app
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, send it to the sign-in, or turn it away."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._is_expected(scope, headers):
            await _refuse(scope, send, 403)
            return
        token = cookie(headers.get("cookie", ""), COOKIE)
        scope[TOKEN] = token
        scope[IDENTITY] = identity = self.identity(token)
        path = scope["path"]
        if identity is None and not path.startswith(_OPEN):
            if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                await _send_away(send, f"{SIGN_IN}?next={quote(path)}")
            else:
                await _refuse(scope, send, 401)
            return
        await self.app(scope, receive, _with_headers(send))

    def identity(self, token: str | None) -> Identity | None:
        """Return who a visitor is; None: one who has to sign in."""
        return whose(self._hub, token)

    def _is_expected(self, scope: Scope, headers: dict[str, str]) -> bool:
        host = headers.get("host", "")
        if not self._hub.wants_sign_in and not _is_loopback_name(host):
            return False
        origin = headers.get("origin")
        if origin is None or (scope["type"] == "http" and scope["method"] in _SAFE):
            return True
        return urlsplit(origin).netloc == host


def whose(hub: Hub, token: str | None) -> Identity | None:
    """Return who a visitor is; None: one who has to sign in."""
    if hub.wants_sign_in:
        identity = hub.sessions.identity(token, hub.accounts.users(), hub.utc())
    else:
        identity = Identity(hub.somebody, Role.OPERATOR)
    if identity is None or hub.may_act:
        return identity
    return Identity(identity.name, Role.VIEWER)


def cookie(header: str, name: str) -> str | None:
    """Return a cookie's value."""
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return None


def local_path(path: str) -> str:
    """Return a path of this page; the front page where it would lead elsewhere."""
    parts = urlsplit(path)
    if parts.scheme or parts.netloc or not path.startswith("/") or path.startswith(("//", "/\\")):
        return "/"
    return path


def _is_loopback_name(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send, status: int) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": status, "headers": list(_HEADERS)})
    await send({"type": "http.response.body", "body": b""})


async def _send_away(send: Send, where: str) -> None:
    headers = [(b"location", where.encode("latin-1")), *_HEADERS]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
