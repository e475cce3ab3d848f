"""The sign-in, and the visitors' preferences: plain HTTP, before there is any page."""

import asyncio
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal, TypeVar, get_args
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from markupsafe import escape

from dashboard import gate
from dashboard.config import Language
from dashboard.hub import Hub
from dashboard.sessions import Throttle
from dashboard.words import preferred, words

ASSETS = Path(str(files("dashboard"))) / "assets"
Theme = Literal["auto", "light", "dark"]
T = TypeVar("T")

_YEAR_S = 365 * 86_400
_LARGEST_FORM = 4_096
_HASHES_AT_ONCE = 2
"""Argon2 takes 64 MiB and a core for a while: a crowd at the door must not stop the page."""


class Door:
    """Lets visitors in and out, and remembers what they prefer."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._throttle = Throttle()
        self._hashing = asyncio.Semaphore(_HASHES_AT_ONCE)

    def add_to(self, application: FastAPI) -> None:
        """Add the addresses."""
        application.add_api_route(gate.SIGN_IN, self.ask, methods=["GET"], response_model=None)
        application.add_api_route(gate.SIGN_IN, self.enter, methods=["POST"], response_model=None)
        application.add_api_route("/sign-out", self.leave, methods=["POST"], response_model=None)
        application.add_api_route("/favicon.ico", self.icon, methods=["GET"], response_model=None)
        application.add_api_route("/prefer", self.prefer, methods=["GET"], response_model=None)

    def language(self, request: Request) -> Language:
        """Return a visitor's language: as chosen, as configured, or as the browser says."""
        configured = self._hub.settings.page.language
        chosen = _one_of(get_args(Language), request.cookies.get("language")) or configured
        return chosen if chosen is not None else preferred(request.headers.get("accept-language", ""))

    def ask(self, request: Request) -> Response:
        """Show the form."""
        return self._form(request) if self._hub.wants_sign_in else RedirectResponse("/", 303)

    async def enter(self, request: Request) -> Response:
        """Check a name and a password."""
        hub = self._hub
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST_FORM:
                return Response(status_code=413)
        fields = {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}
        name, password = fields.get("name", ""), fields.get("password", "")
        address = request.client.host if request.client is not None else ""
        keys = (f"address {address}", f"name {name}")
        wait_s = self._throttle.wait_s(keys, hub.clock())
        if wait_s > 0.0:
            return self._form(request, 429, problem="wait", seconds=f"{wait_s:.0f}")
        # Counted before the password is checked: many tries at once shall not all be the first.
        self._throttle.failed(keys, hub.clock())
        async with self._hashing:
            user = await asyncio.to_thread(hub.accounts.check, name, password)
        if user is None:
            return self._form(request, 401, problem="wrong")
        self._throttle.succeeded(keys)
        response = RedirectResponse(gate.local_path(request.query_params.get("next", "/")), 303)
        response.set_cookie(
            gate.COOKIE,
            hub.sessions.begin(name, user, hub.utc()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    def leave(self, request: Request) -> Response:
        """End a session."""
        self._hub.sessions.end(request.cookies.get(gate.COOKIE))
        response = RedirectResponse(gate.SIGN_IN, 303)
        response.delete_cookie(gate.COOKIE)
        return response

    def icon(self) -> Response:
        """Return the picture in the browser's tab."""
        return FileResponse(ASSETS / "icon.svg", media_type="image/svg+xml")

    def prefer(self, request: Request) -> Response:
        """Remember a language or a light."""
        response = RedirectResponse(gate.local_path(request.query_params.get("next", "/")), 303)
        for name, allowed in (("language", get_args(Language)), ("theme", get_args(Theme))):
            value = _one_of(allowed, request.query_params.get(name))
            if value is not None:
                response.set_cookie(name, value, max_age=_YEAR_S, samesite="lax")
        return response

    def _form(self, request: Request, status: int = 200, *, problem: str = "", **values: object) -> HTMLResponse:
        language = self.language(request)
        say = words(language)
        texts = {key.removeprefix("sign_in."): text for key, text in say.texts.items() if key.startswith("sign_in.")}
        template = Template((ASSETS / "sign-in.html").read_text(encoding="utf-8"))
        filled = template.substitute(
            {key: escape(text) for key, text in texts.items()},
            language=say("language.code"),
            theme=theme(request),
            other=next(other for other in get_args(Language) if other != language),
            other_name=say("menu.other_language"),
            next=escape(gate.local_path(request.query_params.get("next", "/"))),
            loop=escape(self._hub.hall.loop),
            problem=escape(say(f"sign_in_problem.{problem}", **values)) if problem else "",
        )
        return HTMLResponse(filled, status, headers={"Cache-Control": "no-store"})


def theme(request: Request) -> Theme:
    """Return a visitor's light."""
    return _one_of(get_args(Theme), request.cookies.get("theme")) or "auto"


def _one_of(allowed: Sequence[T], value: object) -> T | None:
    return next((choice for choice in allowed if choice == value), None)
