"""The web application."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from nicegui import app as inner
from nicegui import ui
from nicegui.language import Language as QuasarLanguage
from nicegui.page import page as Page  # noqa: N812 - a class in small letters

from dashboard import gate
from dashboard.config import Language
from dashboard.door import ASSETS, Door, Theme, theme
from dashboard.hub import Hub
from dashboard.pages.frame import build
from dashboard.pages.visit import Visit
from dashboard.words import words

_RECONNECT_WITHIN_S = 10.0
_RESENT_MESSAGES = 200
"""What a browser may have missed while it was away for a moment; beyond, it loads the page anew."""
_QUASAR: dict[Language, QuasarLanguage] = {"en": "en-US", "zh": "zh-CN"}
_DARK: dict[Theme, bool | None] = {"light": False, "dark": True, "auto": None}

_preferences: ContextVar[tuple[Language, Theme]] = ContextVar("preferences", default=("en", "auto"))
"""Of the visitor whose request is being answered."""


class _Page(Page):
    """A page in its visitor's language and light."""

    def resolve_language(self) -> QuasarLanguage:
        return _QUASAR[_preferences.get()[0]]

    def resolve_dark(self) -> bool | None:
        return _DARK[_preferences.get()[1]]


def application(hub: Hub) -> gate.App:
    """Return the page of a hub as an ASGI application; one in a process, as NiceGUI has it."""
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    door = Door(hub)
    door.add_to(outer)
    outer.mount("/assets", StaticFiles(directory=ASSETS))

    @_Page("/{_:path}")
    def everything(request: Request) -> None:
        language, light = _preferences.get()
        build(Visit(hub, words(language), light, request.scope[gate.IDENTITY], request.scope[gate.TOKEN]))

    @inner.middleware("http")
    async def prefer(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        _preferences.set((door.language(request), theme(request)))
        return await call_next(request)

    ui.run_with(
        outer,
        title=f"zeroloop {hub.hall.loop}",
        favicon=ASSETS / "icon.svg",
        tailwind=False,
        binding_refresh_interval=None,
        message_history_length=_RESENT_MESSAGES,
        reconnect_timeout=_RECONNECT_WITHIN_S,
        show_welcome_message=False,
    )
    return gate.Gate(outer, hub)
