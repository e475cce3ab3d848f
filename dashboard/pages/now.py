"""The loop as one picture."""

from nicegui import ui

from dashboard import figures
from dashboard.hall import ChannelView, Key, lease_left_s
from dashboard.pages import acts
from dashboard.pages.history import SPANS, Past
from dashboard.pages.parts import Text, box, card, describe, mark, place, put
from dashboard.pages.visit import Visit
from schemas.messages import ChannelAction, LoopBalance, Phase

_DRAW_EVERY_S = 1.0
_THINNEST_PX, _THICKEST_PX = 3.0, 16.0
_GAUGE_BANDS = 4.0
"""The gauge reaches so many bands to either side."""
_SHOWN_HELPERS = 8
_STILL_W = 0.5
_MOODS = {
    Phase.BALANCING: "well",
    Phase.SATURATED: "worse",
    Phase.FROZEN: "bad",
    Phase.PAUSED: "worse",
    Phase.STARTING: "",
    Phase.STANDBY: "",
}


def now_view(visit: Visit) -> None:
    """Build the view."""
    ui.page_title(f"zeroloop {visit.hall.loop}")
    with box("div", "sheet now"):
        picture = Picture(visit)
        with box("div", "side"):
            parts = (PhaseCard(visit), Residual(visit), Today(visit), Helpers(visit))
        with card(visit.say("now.past"), "past"):
            past = Past(visit, SPANS[0], "low", zoomable=False)

    def draw() -> None:
        for part in (picture, *parts):
            part.draw()
        past.draw_when_due()

    draw()
    ui.timer(_DRAW_EVERY_S, draw)


class Picture:
    """What charges, what discharges, what balances, and what the grid sees."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        say = visit.say
        with box("section", "card picture", aria_label=say("now.picture")) as self._card:
            Text("h1", say("now.title"), "unseen")
            with box("div", "loop"):
                self._grid = _Node(say("now.grid"), "grid")
                self._up = _Flow("along u", say)
                self._left = _Node(say("now.discharging"), "left discharge")
                self._lflow = _Flow("across l", say)
                with box("div", "hub") as self._hub:
                    self._sign = ui.icon("sync_alt")
                self._rflow = _Flow("across r", say)
                self._right = _Node(say("now.charging"), "right charge")
                self._down = _Flow("along d", say)
                self._bottom = _Node(say("now.equalization"), "bottom")
            self._sentence = Text("p", classes="unseen")

    def draw(self) -> None:
        """Show the loop as it is now."""
        visit, hall, say = self._visit, self._visit.hall, self._visit.say
        flows, balance = hall.flows(), hall.balance
        charging, discharging = hall.counts()
        largest_w = max(flows.charging_w, flows.discharging_w, abs(flows.equalization_w), abs(flows.grid_w), 1.0)
        grid = _direction(flows.grid_w, "now.draws", "now.feeds", "now.nothing")
        helping = _direction(flows.equalization_w, "now.charge", "now.discharge", "now.nothing")
        helpers = 0 if balance is None else balance.equalization_channels
        self._grid.show(figures.power(flows.grid_w), say(grid))
        self._left.show(figures.power(flows.discharging_w), say.count("now.channels", discharging))
        self._right.show(figures.power(flows.charging_w), say.count("now.channels", charging))
        detail = f"{say(helping)} · {say.count('now.channels', helpers)}" if helpers else say("now.no_helpers")
        self._bottom.show(figures.power(flows.equalization_w), detail)
        self._bottom.direct(flows.equalization_w)
        self._up.show(flows.grid_w, largest_w)
        self._lflow.show(flows.discharging_w, largest_w)
        self._rflow.show(flows.charging_w, largest_w)
        self._down.show(flows.equalization_w, largest_w)
        is_stale = hall.is_balance_stale(visit.now_s)
        is_inside = abs(hall.residual_w) <= hall.band_w
        mark(self._hub, inside=is_inside and not is_stale, outside=not is_inside and not is_stale)
        put(self._sign, "name", "check" if is_inside and not is_stale else "sync_alt")
        mark(self._card, stale=is_stale)
        self._sentence.show(
            say(
                "now.sentence",
                charging=figures.power(flows.charging_w),
                discharging=figures.power(flows.discharging_w),
                equalization=figures.power(flows.equalization_w),
                helping=say(helping),
                grid=figures.power(flows.grid_w),
                drawing=say(grid),
            )
        )


class _Node:
    """One of the four that exchange power."""

    def __init__(self, name: str, classes: str) -> None:
        with box("div", f"node {classes}") as self._node:
            self._value = Text("div", classes="value")
            Text("div", name, "name")
            self._detail = Text("div", classes="note")

    def show(self, value: str, detail: str) -> None:
        self._value.show(value)
        self._detail.show(detail)

    def direct(self, power_w: float) -> None:
        mark(self._node, charge=power_w > _STILL_W, discharge=power_w < -_STILL_W)


class _Flow:
    """What runs between one of them and the loop."""

    def __init__(self, classes: str, _say: object) -> None:
        self._flow = box("div", f"flow {classes}", aria_hidden="true")
        self._is_fixed = "across" in classes
        if self._is_fixed:
            mark(self._flow, discharge=classes.endswith("l"), charge=classes.endswith("r"))
        self._is_helper = classes.endswith("d")

    def show(self, power_w: float, largest_w: float) -> None:
        thick_px = _THINNEST_PX + (_THICKEST_PX - _THINNEST_PX) * min(abs(power_w) / largest_w, 1.0)
        place(self._flow, __thick=f"{thick_px:.0f}px")
        mark(self._flow, still=abs(power_w) <= _STILL_W, forth=power_w > _STILL_W, back=power_w < -_STILL_W)
        if self._is_helper:
            mark(self._flow, charge=power_w > _STILL_W, discharge=power_w < -_STILL_W)


class PhaseCard:
    """The phase and its reason in words."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        with box("section", "card", aria_label=visit.say("now.phase")):
            with box("div", "phase") as self._row:
                box("span", "dot", aria_hidden="true")
                with box("div"):
                    self._title = Text("h2")
                    self._why = Text("p")
                    self._last = Text("p", classes="quiet")
            describe(self._title, role="status")

    def draw(self) -> None:
        """Show the phase as it is now."""
        visit, balance = self._visit, self._visit.hall.balance
        say = visit.say
        if balance is None:
            self._title.show(say("phase.unknown"))
            self._why.show(say("reason.unknown"))
            return
        is_stale = visit.hall.is_balance_stale(visit.now_s)
        mood = "" if is_stale else _MOODS[balance.phase]
        mark(self._row, well=mood == "well", worse=mood == "worse", bad=mood == "bad", stale=is_stale)
        self._title.show(say(f"phase.{balance.phase}"))
        self._why.show(_reason(visit, balance))
        decision = balance.last_decision
        if decision is None:
            self._last.show(say("now.no_change"))
        else:
            reason = say.either(f"decision.{decision.reason}", decision.reason)
            self._last.show(say("now.last_change", at=visit.moment(decision.unix_time_s), reason=reason))


def _reason(visit: Visit, balance: LoopBalance) -> str:
    """Return why the phase is what it is."""
    hall, say = visit.hall, visit.say
    match balance.phase:
        case Phase.FROZEN:
            return say(
                "reason.frozen",
                power=figures.power(balance.unknown_power_w),
                channels=say.count("now.channels", balance.channels_stale),
            )
        case Phase.SATURATED if balance.equalization_channels:
            return say("reason.saturated", power=figures.power(balance.shortfall_w))
        case Phase.BALANCING | Phase.SATURATED if not balance.equalization_channels:
            return say("reason.no_helpers")
        case Phase.BALANCING if hall.outside_since_s is not None:
            delay_s = 0.0 if hall.announcement is None else hall.announcement.control.delay_s
            since_s = max(0.0, visit.now_s - hall.outside_since_s)
            outside = say("reason.outside", since=figures.duration(since_s))
            held = say.texts.get(f"held.{balance.held_back}", "").format(delay=figures.duration(delay_s))
            return f"{outside} {held}".rstrip()
        case _:
            return say(f"reason.{balance.phase}")


class Residual:
    """How far the total is from the target, against the band."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        say = visit.say
        with card(say("now.residual")):
            with box("div", "figures"):
                self._value = Text("div", classes="big")
                self._target = ui.button(on_click=lambda: acts.ask_target(visit), color=None)
                self._target.classes("act plain").props("flat")
            with box("div", "gauge", role="img") as self._gauge:
                box("div", "band")
                box("div", "middle")
                self._marker = box("div", "marker")
            with box("div", "ends"):
                self._ends = [Text("span") for _ in range(3)]

    def draw(self) -> None:
        """Show the residual as it is now."""
        visit, hall, say = self._visit, self._visit.hall, self._visit.say
        residual_w, band_w = hall.residual_w, hall.band_w
        self._value.show(figures.signed(residual_w))
        mark(self._value, stale=hall.is_balance_stale(visit.now_s))
        reach_w = _GAUGE_BANDS * band_w
        part = max(-1.0, min(1.0, residual_w / reach_w)) if reach_w > 0.0 else 0.0
        place(self._marker, left=f"{50.0 + 50.0 * part:.1f}%")
        side = "now.inside" if abs(residual_w) <= band_w else "now.outside"
        self._ends[0].show(say("now.feeds_end", power=figures.power(reach_w)))
        self._ends[1].show(say(side, band=figures.power(band_w)))
        self._ends[2].show(say("now.draws_end", power=figures.power(reach_w)))
        describe(self._gauge, aria_label=f"{figures.signed(residual_w)}, {say(side, band=figures.power(band_w))}")
        target_w = 0.0 if hall.balance is None else hall.balance.target_power_w
        text = say("now.target", power=figures.signed(target_w))
        if self._target.text != text:
            self._target.set_text(text)
        self._target.set_enabled(visit.identity.may_act)


class Today:
    """What balancing has spared since midnight."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        say = visit.say
        with card(say("now.today")), box("div", "figures"):
            with box("div"):
                self._energy = Text("div", classes="big")
                Text("div", say("now.avoided"), "quiet")
            if visit.hub.settings.tariff.is_set:
                with box("div"):
                    self._money = Text("div", classes="big")
                    Text("div", say("now.saved"), "quiet")
            with box("div"):
                self._share = Text("div", classes="big")
                Text("div", say("now.share"), "quiet")

    def draw(self) -> None:
        """Show the day up to now."""
        hub = self._visit.hub
        day = hub.hall.days.day
        if day is None:
            self._energy.show(figures.DASH)
            self._share.show(figures.DASH)
            return
        self._energy.show(figures.energy(day.avoided_wh))
        self._share.show(figures.share(day.avoided_wh, day.unbalanced_wh))
        if hub.settings.tariff.is_set:
            self._money.show(figures.money(day.saved, hub.settings.tariff.currency))


class Helpers:
    """The equalization channels, each with its stop."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._rows: dict[Key, _Helper] = {}
        with card(visit.say("now.helpers")):
            self._list = box("ul", "helpers")
            self._note = Text("p", classes="quiet")

    def draw(self) -> None:
        """Show them as they are now."""
        visit, say = self._visit, self._visit.say
        views = visit.hall.equalization_channels()
        shown = {view.key: view for view in views[:_SHOWN_HELPERS]}
        if list(shown) != list(self._rows):
            self._list.clear()
            with self._list:
                self._rows = {key: _Helper(visit, key) for key in shown}
        for key, view in shown.items():
            self._rows[key].show(view)
        if not views:
            self._note.show(say("now.set_first"))
        elif len(views) > len(shown):
            self._note.show(say("now.more", count=len(views) - len(shown)))
        else:
            self._note.show("")


class _Helper:
    """One equalization channel."""

    def __init__(self, visit: Visit, key: Key) -> None:
        self._visit = visit
        say = visit.say
        with box("li"):
            with box("a", href=f"/channels/{key.station}/{key.channel}"):
                Text("span", f"{key.station} / {key.channel}")
            self._power = Text("span")
            with box("div", "cell", role="img") as self._cell:
                self._charge = box("div")
            stop = ui.button(say("act.stop"), on_click=lambda: acts.ask_channel(visit, key, ChannelAction.STOP))
            stop.props("flat").classes("act stop")
            describe(stop, aria_label=say("act.stop_of", channel=f"{key.station} / {key.channel}"))
            put(stop, "color", None)
            stop.set_visibility(visit.identity.may_act)

    def show(self, view: ChannelView) -> None:
        telemetry, visit = view.telemetry, self._visit
        power_w = telemetry.power_w
        way = _direction(power_w, "now.charge", "now.discharge", "now.nothing")
        self._power.show(f"{figures.power(power_w)} {visit.say(way)}")
        mark(
            self._power,
            charge=power_w > _STILL_W,
            discharge=power_w < -_STILL_W,
            stale=visit.hall.is_stale(view, visit.now_s) or lease_left_s(view, visit.now_s) == 0.0,
        )
        soc_ratio = telemetry.soc_ratio
        self._cell.set_visibility(soc_ratio is not None)
        if soc_ratio is not None:
            place(self._charge, width=f"{100.0 * soc_ratio:.0f}%")
            describe(self._cell, aria_label=visit.say("now.charge_of", percent=f"{100.0 * soc_ratio:.0f}"))


def _direction(power_w: float, positive: str, negative: str, none: str) -> str:
    return positive if power_w > _STILL_W else negative if power_w < -_STILL_W else none
