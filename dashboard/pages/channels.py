"""Every channel of every station, live."""

from typing import Any

from nicegui import events, ui

from dashboard.figures import DASH, MINUS
from dashboard.hall import Key, natural
from dashboard.pages import acts
from dashboard.pages.parts import Text, box
from dashboard.pages.rows import Row, Rows
from dashboard.pages.visit import Visit
from schemas.messages import ChannelAction

_SEND_EVERY_S = 0.25
_PICKS = ("all", "equalization", "working", "alarm", "stale")
_rows: dict[tuple[int, str], Rows] = {}


def channels_view(visit: Visit) -> None:
    """Build the view."""
    say = visit.say
    ui.page_title(f"{say('frame.channels')} · zeroloop {visit.hall.loop}")
    with box("div", "sheet filling"), box("section", "card", aria_label=say("frame.channels")):
        with box("div", "head"):
            Text("h2", say("frame.channels"))
            count = Text("span", classes="quiet")
            box("div", "grow")
            pick = ui.toggle({name: say(f"channels.{name}") for name in _PICKS}, value="all")
            pick.props("no-caps flat").classes("spans")
            search = ui.input(label=say("channels.search")).props("outlined dense clearable debounce=200 type=search")
        grid = Grid(visit)

    def picked() -> None:
        grid.pick("" if pick.value == "all" else str(pick.value))

    pick.on_value_change(picked)
    search.on_value_change(lambda: grid.search(search.value or ""))

    def tick() -> None:
        grid.send()
        count.show(say.count("now.channels", len(visit.hall.channels)))

    tick()
    ui.timer(_SEND_EVERY_S, tick)


class Grid:
    """The table: it knows all rows and draws those in sight; only what has changed is sent to it."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        hall = visit.hall
        self._rows = _rows.setdefault((id(hall), visit.say.language), Rows(hall, visit.say))
        self._revision = hall.revision
        self._stale: dict[Key, bool] = {}
        first = [self._row(key) for key in sorted(hall.channels, key=natural)]
        self._grid = ui.aggrid(
            {
                "columnDefs": _columns(visit),
                "rowData": first,
                ":getRowId": "p => p.data.id",
                "rowClassRules": {"stale": "data.stale", "alarmed": "data.alarm"},
                "defaultColDef": {"sortable": True, "resizable": True, "suppressHeaderMenuButton": True},
                "rowHeight": 40,
                "headerHeight": 40,
                "animateRows": False,
                "suppressColumnMoveAnimation": True,
                "ensureDomOrder": True,
                # On a phone the channel's name and its stop leave room for the power.
                ":onGridSizeChanged": "e => e.api.setColumnWidths(e.clientWidth < 600"
                " ? [{key: 'name', newWidth: 120}, {key: 'p', newWidth: 96}, {key: 'stop', newWidth: 78}]"
                " : [{key: 'name', newWidth: 180}, {key: 'p', newWidth: 120}, {key: 'stop', newWidth: 96}])",
                "suppressCellFocus": False,
                "asyncTransactionWaitMillis": 50,
                "localeText": {"noRowsToShow": visit.say("channels.none"), "loadingOoo": visit.say("channels.none")},
                # Enter on a cell does what a click on its link or button does.
                ":onCellKeyDown": "e => e.event.key === 'Enter' && e.event.target.querySelector('a, button')?.click()",
            },
            auto_size_columns=False,
        ).classes("table")
        self._grid.on("cellClicked", self._clicked, ["colId", "rowId"])

    def search(self, text: str) -> None:
        """Show the rows that have these words."""
        self._grid.run_grid_method("setGridOption", "quickFilterText", text)

    def pick(self, kind: str) -> None:
        """Show the rows of a kind; empty: all."""
        model = {"kind": {"filterType": "text", "type": "contains", "filter": kind}} if kind else None
        self._grid.run_grid_method("setFilterModel", model)

    def send(self) -> None:
        """Send what has changed since it was last sent."""
        hall, now_s = self._visit.hall, self._visit.now_s
        revision, self._revision = self._revision, hall.revision
        update: list[Row] = []
        add: list[Row] = []
        for key, view in hall.channels.items():
            was_stale = self._stale.get(key)
            if view.revision > revision or was_stale is None or hall.is_stale(view, now_s) is not was_stale:
                (add if was_stale is None else update).append(self._row(key))
        gone = self._stale.keys() - hall.channels.keys()
        for key in gone:
            del self._stale[key]
        transaction: dict[str, list[Row]] = {}
        if update:
            transaction["update"] = update
        if add:
            transaction["add"] = add
        if gone:
            transaction["remove"] = [{"id": f"{key.station}/{key.channel}"} for key in gone]
        if transaction:
            self._grid.run_grid_method("applyTransactionAsync", transaction)

    def _row(self, key: Key) -> Row:
        view = self._visit.hall.channels[key]
        is_stale = self._stale[key] = self._visit.hall.is_stale(view, self._visit.now_s)
        return self._rows.row(view, is_stale=is_stale)

    async def _clicked(self, event: events.GenericEventArguments) -> None:
        station, _, channel = str(event.args["rowId"]).partition("/")
        key = Key(station, channel)
        view = self._visit.hall.channels.get(key)
        if view is None or event.args["colId"] == "name":  # its link leads there by itself
            return
        if event.args["colId"] == "stop":
            if self._rows.row(view, is_stale=False)["stop"]:
                await acts.ask_channel(self._visit, key, ChannelAction.STOP)
            return
        ui.navigate.to(f"/channels/{station}/{channel}")


def _columns(visit: Visit) -> list[dict[str, Any]]:
    say = visit.say
    sign = {"charge": "data.p > 0", "discharge": "data.p < 0"}

    def number(field: str, decimals: int, width: int) -> dict[str, Any]:
        shown = f"value == null ? '{DASH}' : value.toFixed({decimals}).replace('-', '{MINUS}')"
        return {
            "field": field,
            "headerName": say(f"channels.{field}"),
            "type": "rightAligned",
            "width": width,
            "valueFormatter": shown,
        }

    return [
        {
            "field": "name",
            "headerName": say("channels.channel"),
            "pinned": "left",
            "width": 170,
            ":cellRenderer": "p => Object.assign(document.createElement('a'),"
            " {href: '/channels/' + p.data.id, textContent: p.value})",
            ":comparator": "(a, b) => a.localeCompare(b, undefined, {numeric: true})",
            "sort": "asc",
        },
        {**number("p", 2, 110), "cellClassRules": sign},
        {"field": "work", "headerName": say("channels.work"), "flex": 1, "minWidth": 130},
        {"field": "step", "headerName": say("channels.step"), "flex": 1, "minWidth": 150},
        number("soc", 1, 100),
        number("u", 1, 110),
        number("i", 1, 110),
        number("t", 1, 110),
        {"field": "kind", "hide": True, "filter": "agTextColumnFilter"},
        {
            "field": "stop",
            "headerName": say("channels.act"),
            "pinned": "right",
            "width": 96,
            "sortable": False,
            "hide": not visit.identity.may_act,
            ":cellRenderer": "p => p.value ? Object.assign(document.createElement('button'), {type: 'button', "
            "className: 'cell-stop', textContent: p.value, ariaLabel: p.value + ' ' + p.data.name}) : ''",
        },
    ]
