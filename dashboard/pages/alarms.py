"""What went wrong: what stands first, what was seen is kept."""

import json
from typing import NamedTuple

from nicegui import ui

from dashboard import figures
from dashboard.alarms import Trouble
from dashboard.hall import Key
from dashboard.pages import acts
from dashboard.pages.parts import Text, box, mark
from dashboard.pages.told import told
from dashboard.pages.visit import Visit
from schemas.messages import ChannelAction, Severity

_LISTED = 100
_ICONS = {Severity.ALARM: "error", Severity.WARNING: "warning", Severity.INFO: "info"}
_PARTS = ("open", "unseen", "seen")


def alarms_view(visit: Visit) -> None:
    """Build the view."""
    say = visit.say
    ui.page_title(f"{say('frame.alarms')} · zeroloop {visit.hall.loop}")
    with box("div", "sheet"):
        with box("div", "head"):
            Text("h2", say("frame.alarms"))
            box("div", "grow")
            all_seen = ui.button(say("alarms.all_seen"), on_click=lambda: _see_all(visit), color=None)
            all_seen.props("flat").classes("act plain")
            ui.button(say("alarms.notify"), icon="notifications", on_click=lambda: _allow(visit), color=None).props(
                "flat"
            ).classes("act plain")
        body = box("div", "troubles")
    with body:
        lists = {part: _list(say(f"alarms.{part}")) for part in _PARTS}
    with lists["open"].region:
        none = Text("p", say("alarms.none"))
    rows: dict[int, tuple[tuple[Trouble, bool], ui.element]] = {}
    drawn: tuple[int, bool] | None = None

    def row_of(trouble: Trouble, entries: ui.element, *, may_act: bool) -> ui.element:
        """Return a trouble's row; one that stays as it is keeps its buttons: somebody may just be pressing one."""
        known = rows.get(trouble.id)
        if known is not None and known[0] == (trouble, may_act):
            return known[1]
        if known is not None:
            known[1].delete()
        with entries:
            row = _draw(visit, trouble)
        rows[trouble.id] = ((trouble, may_act), row)
        return row

    def draw() -> None:
        nonlocal drawn
        may_act = visit.identity.may_act
        stamp = (visit.hall.alarms.revision, may_act)
        if stamp == drawn:
            return
        drawn = stamp
        listed = visit.hall.alarms.listed()
        all_seen.set_visibility(may_act and any(trouble.is_new for trouble in listed))
        none.set_visibility(not any(trouble.is_open for trouble in listed))
        shown = set()
        for part, (region, entries) in lists.items():
            troubles = [trouble for trouble in listed if _part(trouble) == part][:_LISTED]
            region.set_visibility(bool(troubles) or part == "open")
            for place, trouble in enumerate(troubles):
                shown.add(trouble.id)
                row = row_of(trouble, entries, may_act=may_act)
                if row.parent_slot is not entries.default_slot or entries.default_slot.children.index(row) != place:
                    row.move(entries, place)
        for gone in rows.keys() - shown:
            rows.pop(gone)[1].delete()

    draw()
    ui.timer(1.0, draw)


class _List(NamedTuple):
    region: ui.element
    entries: ui.element


def _list(title: str) -> _List:
    with box("section", "card", aria_label=title) as region:
        Text("h2", title)
        entries = box("ul")
    return _List(region, entries)


def _part(trouble: Trouble) -> str:
    return "open" if trouble.is_open else "unseen" if trouble.is_new else "seen"


def _draw(visit: Visit, trouble: Trouble) -> ui.element:
    say = visit.say
    key = _channel(trouble.source)
    with box("li", f"trouble-row {trouble.severity}") as row:
        mark(row, over=not trouble.is_open)
        ui.icon(_ICONS[trouble.severity])
        with box("div", "grow"):
            Text("div", headline(visit, trouble), "headline")
            said = told(say, trouble.code, trouble.text, trouble.values)
            if said:
                Text("div", said, "quiet")
            Text("div", _times(visit, trouble), "quiet")
        if key is not None:
            with box("a", "more", href=f"/channels/{key.station}/{key.channel}"):
                Text("span", say("alarms.look"))
        if not visit.identity.may_act:
            return row
        if key is not None and trouble.is_open and trouble.code != "station_offline":
            ui.button(
                say("act.clear_alarm"),
                on_click=lambda: acts.ask_channel(visit, key, ChannelAction.CLEAR_ALARM),
                color=None,
            ).props("flat").classes("act plain")
        if trouble.is_new:
            ui.button(say("alarms.seen_it"), on_click=lambda: _see(visit, trouble), color=None).props("flat").classes(
                "act main"
            )
    return row


def headline(visit: Visit, trouble: Trouble) -> str:
    """Return where and what, in words."""
    what = visit.say.either(f"trouble.{trouble.code}", trouble.code.replace("_", " "))
    return f"{visit.place(trouble.source)}: {what}"


def _times(visit: Visit, trouble: Trouble) -> str:
    say = visit.say
    parts = [say("alarms.since", at=visit.moment(trouble.opened_unix_time_s))]
    if trouble.closed_unix_time_s is not None and trouble.closed_unix_time_s > trouble.opened_unix_time_s:
        lasted = figures.duration(trouble.closed_unix_time_s - trouble.opened_unix_time_s)
        parts.append(say("alarms.over", lasted=lasted))
    if trouble.acknowledged_unix_time_s is not None:
        at = visit.moment(trouble.acknowledged_unix_time_s)
        parts.append(say("alarms.seen_by", name=trouble.acknowledged_by, at=at))
    return " · ".join(parts)


def _see(visit: Visit, trouble: Trouble) -> None:
    if visit.still_here() and visit.identity.may_act:
        visit.hall.alarms.acknowledge(trouble.id, visit.identity.name, visit.hub.utc())


def _see_all(visit: Visit) -> None:
    if visit.still_here() and visit.identity.may_act:
        for trouble in visit.hall.alarms.listed():
            visit.hall.alarms.acknowledge(trouble.id, visit.identity.name, visit.hub.utc())


def _channel(source: str) -> Key | None:
    match source.split("/"):
        case ["station", station, "channel", channel]:
            return Key(station, channel)
        case _:
            return None


async def _allow(visit: Visit) -> None:
    """Ask the browser whether alarms may be shown outside of the page."""
    code = "return window.Notification ? await Notification.requestPermission() : 'missing'"
    try:
        answer = await ui.run_javascript(f"{code}", timeout=60.0)
    except TimeoutError:
        return
    known = answer if answer in {"granted", "denied", "missing"} else "denied"
    ui.notify(visit.say(f"alarms.{known}"), position="bottom")


def notify(visit: Visit, trouble: Trouble) -> None:
    """Show a trouble outside of the page, where the browser's user has allowed it."""
    title, options = f"zeroloop {visit.hall.loop}", {"body": headline(visit, trouble), "tag": f"zeroloop-{trouble.id}"}
    ui.run_javascript(
        "if (window.Notification && Notification.permission === 'granted') "
        f"new Notification({json.dumps(title)}, {json.dumps(options)})"
    )
