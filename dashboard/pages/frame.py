"""What surrounds every view: the way about, what is wrong now, and the one button that stops all."""

import logging
from collections.abc import Callable

from nicegui import ui

from dashboard import figures
from dashboard.pages import acts
from dashboard.pages.alarms import alarms_view, notify
from dashboard.pages.channel import channel_view
from dashboard.pages.channels import channels_view
from dashboard.pages.history import history_view
from dashboard.pages.now import now_view
from dashboard.pages.parts import Text, box, mark, put
from dashboard.pages.visit import Visit, leave_for
from dashboard.words import LANGUAGES
from schemas.messages import LoopAction, Phase

_LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_VIEWS = (
    ("/", "now", "bolt"),
    ("/history", "history", "timeline"),
    ("/channels", "channels", "view_list"),
    ("/alarms", "alarms", "notifications"),
)
_THEMES = ("auto", "light", "dark")


def build(visit: Visit) -> None:
    """Build the page for a visitor."""
    ui.add_head_html('<link rel="stylesheet" href="/assets/style.css">')
    Frame(visit)

    def one_channel(station: str, channel: str) -> None:
        channel_view(visit, station, channel)

    views: dict[str, Callable[..., None]] = {
        "/": lambda: now_view(visit),
        "/history": lambda: history_view(visit),
        "/channels": lambda: channels_view(visit),
        "/channels/{station}/{channel}": one_channel,
        "/alarms": lambda: alarms_view(visit),
    }
    _Views(views, visit)


class _Views(ui.sub_pages):
    """The views; what goes wrong with one is said in the visitor's language."""

    def __init__(self, views: dict[str, Callable[..., None]], visit: Visit) -> None:
        self._visit = visit
        super().__init__(views)

    def _render_404(self) -> None:
        self._say("frame.not_found")

    def _render_error(self, error: Exception) -> None:
        _LOG.error("a view failed path=%s", self._router.current_path, exc_info=error)
        self._say("frame.failed")

    def _say(self, key: str) -> None:
        with box("div", "sheet"), box("section", "card"):
            Text("p", self._visit.say(key))


class Frame:
    """Header and banner."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._tabs: dict[str, ui.element] = {}
        self._told = visit.hall.alarms.newest
        say = visit.say
        with ui.header(wrap=False).classes("bar"):
            with box("a", "brand", href="/"):
                Text("b", "zeroloop")
                Text("span", visit.hall.loop)
            self._navigation()
            self._pause = ui.button(on_click=self._pause_or_resume, color=None).classes("act").props("flat no-caps")
            self._menu()
        ui.skip_link(say("frame.skip"), target=ui.context.client.content)
        self._banner = Text("div", classes="banner")
        put(self._banner, "role", "alert")
        ui.context.client.sub_pages_router.on_path_changed(self._at)
        self._at(ui.context.client.sub_pages_router.current_path)
        self._look()
        ui.timer(_LOOK_EVERY_S, self._look)

    def _navigation(self) -> None:
        say = self._visit.say
        with box("nav", "tabs", aria_label=say("frame.views")):
            for path, name, icon in _VIEWS:
                with box("a", href=path) as link:
                    ui.icon(icon)
                    Text("span", say(f"frame.{name}"))
                    if name == "alarms":
                        self._badge = Text("span", classes="badge")
                self._tabs[path] = link

    def _menu(self) -> None:
        visit, say = self._visit, self._visit.say
        with ui.button(icon="more_vert", color=None).props(f'flat round aria-label="{say("frame.menu")}"'), ui.menu():
            for language in LANGUAGES:
                if language != say.language:
                    self._item(say("menu.other_language"), "translate", f"/prefer?language={language}")
            for theme in _THEMES:
                if theme != visit.theme:
                    self._item(say(f"menu.{theme}"), f"{_ICONS[theme]}", f"/prefer?theme={theme}")
            if visit.hub.wants_sign_in:
                with box("form", method="post", action="/sign-out", role="none"):
                    leave = ui.button(say("menu.leave", name=visit.identity.name), icon="logout", color=None)
                    leave.props("flat no-caps type=submit role=menuitem")

            Text("div", f"zeroloop {visit.hub.version}", "quiet version")

    @staticmethod
    def _item(text: str, icon: str, path: str) -> None:
        def go() -> None:
            here = ui.context.client.sub_pages_router.current_path
            leave_for(f"{path}&next={here}")

        with ui.menu_item(on_click=go).props("role=menuitem"), ui.row().classes("items-center no-wrap"):
            ui.icon(icon)
            Text("span", text)

    def _at(self, path: str) -> None:
        front = "/" + path.split("?", maxsplit=1)[0].strip("/").split("/")[0]
        for its_path, link in self._tabs.items():
            put(link, "aria-current", "page" if its_path == front else None)

    def _look(self) -> None:
        if not self._visit.still_here():
            return
        text, is_mild = problem(self._visit)
        self._banner.show(text)
        mark(self._banner, shown=bool(text), mild=is_mild)
        self._call()
        balance = self._visit.hall.balance
        is_paused = balance is not None and balance.phase is Phase.PAUSED
        self._pause.set_visibility(self._visit.identity.may_act)
        text = self._visit.say("act.resume" if is_paused else "act.pause")
        if self._pause.text != text:
            self._pause.set_text(text)
            self._pause.set_icon("play_arrow" if is_paused else "pause")
            mark(self._pause, stop=not is_paused, main=is_paused)

    def _call(self) -> None:
        """Say how many troubles want to be seen, and tell of the new ones."""
        alarms = self._visit.hall.alarms
        calling = alarms.calling
        self._badge.show(str(len(calling)) if calling else "")
        for trouble in calling:
            if trouble.id > self._told:
                notify(self._visit, trouble)
        self._told = alarms.newest

    async def _pause_or_resume(self) -> None:
        balance = self._visit.hall.balance
        is_paused = balance is not None and balance.phase is Phase.PAUSED
        await acts.ask_loop(self._visit, LoopAction.RESUME if is_paused else LoopAction.PAUSE)


_ICONS = {"auto": "brightness_auto", "light": "light_mode", "dark": "dark_mode"}


def problem(visit: Visit) -> tuple[str, bool]:
    """Return what keeps the page from telling the truth now, and whether it is a mild thing; empty: nothing."""
    hub, hall, say, now_s = visit.hub, visit.hall, visit.say, visit.now_s
    if hub.broker_lost_s is not None:
        since = figures.duration(now_s - hub.broker_lost_s)
        return say("problem.broker", since=since), False
    if hall.announcement is None:
        return say("problem.no_server"), True
    if not hall.is_server_online:
        return say("problem.server_offline", server=hall.announcement.server), False
    if hall.is_balance_stale(now_s):
        age_s = hall.balance_age_s(now_s)
        if age_s is None:
            return say("problem.waiting"), True
        return say("problem.server_silent", server=hall.announcement.server, since=figures.duration(age_s)), False
    return "", False
