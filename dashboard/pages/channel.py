"""One channel: what it measures, what it does, what it was told and what it made of it."""

from collections.abc import Callable

from nicegui import ui

from dashboard import figures
from dashboard.forecast import of_plan, of_setpoint
from dashboard.hall import ChannelView, Key, asked_now_w, lease_left_s
from dashboard.pages import acts, chart
from dashboard.pages.parts import Text, box, card, mark
from dashboard.pages.told import told
from dashboard.pages.visit import Visit
from schemas.messages import ChannelAction, Equalization, SetpointResult, WorkStatus

_DRAW_EVERY_S = 1.0
_TRACE_EVERY_S = 3.0
_TRACED_S = 600.0
_SHOWN_SEGMENTS = 8


def channel_view(visit: Visit, station: str, channel: str) -> None:
    """Build the view."""
    key, say = Key(station, channel), visit.say
    ui.page_title(f"{station} / {channel} · zeroloop {visit.hall.loop}")
    with box("div", "sheet"):
        with box("nav", aria_label=say("channel.back")), box("a", "back", href="/channels"):
            Text("span", f"← {say('frame.channels')}")
        body = box("div", "detail")

    def build() -> Callable[[], None] | None:
        if key not in visit.hall.channels:
            with body, card(f"{station} / {channel}"):
                Text("p", say("channel.unknown"))
            return None
        with body:
            parts = (Head(visit, key), Measures(visit, key), Task(visit, key), Led(visit, key), Trace(visit, key))

        def draw() -> None:
            view = visit.hall.channels.get(key)
            if view is not None:
                for part in parts:
                    part.draw(view)

        draw()
        return draw

    drawing = build()

    def tick() -> None:
        nonlocal drawing
        if drawing is not None:
            drawing()
        elif key in visit.hall.channels:
            body.clear()
            drawing = build()

    ui.timer(_DRAW_EVERY_S, tick)


class Head:
    """Who it is, how it is, and what may be asked of it."""

    def __init__(self, visit: Visit, key: Key) -> None:
        self._visit = visit
        say = visit.say
        with box("section", "card wide", aria_label=say("channel.title", channel=f"{key.station} / {key.channel}")):
            with box("div", "head"):
                Text("h2", f"{key.station} / {key.channel}")
                self._work = Text("span", classes="chip")
                self._age = Text("span", classes="quiet")
                box("div", "grow")
                self._acts = {
                    action: self._button(action, key) for action in ChannelAction if action is not ChannelAction.STOP
                }
                self._stop = self._button(ChannelAction.STOP, key)
            self._alarm = Text("p", classes="trouble")

    def _button(self, action: ChannelAction, key: Key) -> ui.button:
        visit = self._visit
        button = ui.button(
            visit.say(f"act.{action}"), on_click=lambda: acts.ask_channel(visit, key, action), color=None
        )
        return button.props("flat").classes("act stop" if action is ChannelAction.STOP else "act plain")

    def draw(self, view: ChannelView) -> None:
        """Show the channel as it is now."""
        visit, say, telemetry = self._visit, self._visit.say, view.telemetry
        is_stale = visit.hall.is_stale(view, visit.now_s)
        self._work.show(say(f"work.{telemetry.work_status}"))
        mark(self._work, stale=is_stale)
        if visit.hall.is_offline(view.key.station):
            self._age.show(say("channel.offline"))
        elif view.heard_s is None:
            self._age.show(say("channel.remembered"))
        else:
            self._age.show(say("channel.silent", age=figures.duration(visit.now_s - view.heard_s)) if is_stale else "")
        alarm = telemetry.alarm
        text = "" if alarm is None else say.either(f"trouble.{alarm.code}", alarm.code)
        self._alarm.show(
            ""
            if alarm is None
            else say("channel.alarm", alarm=text, said=told(say, alarm.code, alarm.text, alarm.values))
        )
        may, busy = visit.identity.may_act, telemetry.work_status in {WorkStatus.WORKING, WorkStatus.PAUSED}
        self._stop.set_visibility(may)
        self._acts[ChannelAction.EQUALIZE].set_visibility(may and not busy)
        self._acts[ChannelAction.START].set_visibility(may and not busy)
        self._acts[ChannelAction.CLEAR_ALARM].set_visibility(may and alarm is not None)


class Measures:
    """Voltage, current, power, temperature, charge."""

    def __init__(self, visit: Visit, _key: Key) -> None:
        self._visit = visit
        with card(visit.say("channel.measures"), "wide"), box("dl", "measures"):
            self._values = {name: _entry(visit, name) for name in ("p", "u", "i", "t", "soc")}

    def draw(self, view: ChannelView) -> None:
        """Show the last telemetry."""
        telemetry = view.telemetry
        soc_ratio = telemetry.soc_ratio
        texts = {
            "p": figures.signed(telemetry.power_w),
            "u": figures.number(telemetry.voltage_v, 2, "V"),
            "i": figures.number(telemetry.current_a, 2, "A"),
            "t": figures.number(telemetry.temperature_degc, 1, "°C"),
            "soc": figures.number(None if soc_ratio is None else 100.0 * soc_ratio, 1, "%"),
        }
        is_stale = self._visit.hall.is_stale(view, self._visit.now_s)
        for name, text in texts.items():
            self._values[name].show(text)
            mark(self._values[name], stale=is_stale)
        mark(self._values["p"], charge=telemetry.power_w > 0.5, discharge=telemetry.power_w < -0.5)  # noqa: PLR2004 - W


class Task:
    """The step, and what the plan says of what comes."""

    def __init__(self, visit: Visit, _key: Key) -> None:
        self._visit = visit
        with card(visit.say("channel.task")):
            self._step = Text("p", classes="big")
            self._where = Text("p", classes="quiet")
            self._list = box("ol", "done")
        self._shown: tuple[tuple[str, str], ...] | None = None

    def draw(self, view: ChannelView) -> None:
        """Show what it is at."""
        say, telemetry = self._visit.say, view.telemetry
        step = say("step.equalization") if view.is_equalization else say(f"step.{telemetry.step_type}")
        self._step.show(step)
        in_program = telemetry.step_id > 0
        text = say("channel.where", step=telemetry.step_id, cycle=telemetry.cycle_count)
        battery = "" if telemetry.battery_connected else say("channel.no_battery")
        self._where.show(" · ".join(part for part in (text if in_program else "", battery) if part))
        entries = tuple(self._entries(view))
        if entries != self._shown:
            self._shown = entries
            self._list.clear()
            with self._list:
                for when, what in entries:
                    with box("li"):
                        if when:
                            Text("time", when, "quiet")
                        Text("span", what)

    def _entries(self, view: ChannelView) -> list[tuple[str, str]]:
        say, plan = self._visit.say, view.plan
        if view.is_equalization:
            return self._planned(view)
        if plan is None or plan.boot_id != view.telemetry.boot_id:
            return [("", say("channel.no_plan"))]
        age_s = self._visit.now_s - view.plan_s
        left_s = plan.until_s - age_s
        if left_s < 0.0:
            return [("", say("channel.plan_over"))]
        ahead = of_plan(plan, age_s)[:_SHOWN_SEGMENTS]
        entries = [(say("channel.in", time=figures.duration(s)), figures.signed(power_w)) for s, power_w in ahead]
        return [*entries, (say("channel.in", time=figures.duration(left_s)), say("channel.plan_ends"))]

    def _planned(self, view: ChannelView) -> list[tuple[str, str]]:
        """Return what the equalizer has set ahead."""
        if view.setpoint is None:
            return []
        steps = of_setpoint(view.setpoint, self._visit.now_s - view.setpoint_s)[:_SHOWN_SEGMENTS]
        return [
            (self._visit.say("channel.in", time=figures.duration(after_s)), figures.signed(power_w))
            for after_s, power_w in steps
        ]


class Led:
    """What the equalizer told it, until when, and what it made of it."""

    def __init__(self, visit: Visit, _key: Key) -> None:
        self._visit = visit
        with card(visit.say("channel.led")):
            self._none = Text("p", visit.say("channel.not_led"), "quiet")
            with box("dl", "measures small") as self._body:
                names = ("asked", "applied", "lease", "charge_limit", "discharge_limit", "ramp", "sender")
                self._values = {name: _entry(visit, name) for name in names}
            self._verdict = Text("p")

    def draw(self, view: ChannelView) -> None:
        """Show the last setpoint and the limits."""
        equalization = view.telemetry.equalization
        self._none.set_visibility(equalization is None)
        self._body.set_visibility(equalization is not None)
        self._verdict.set_visibility(equalization is not None)
        if equalization is None:
            return
        asked_w = asked_now_w(view, self._visit.now_s)
        left_s = lease_left_s(view, self._visit.now_s)
        last = equalization.last
        texts = {
            "asked": figures.DASH if asked_w is None else figures.signed(asked_w),
            "applied": figures.signed(equalization.applied_w),
            "lease": figures.DASH if left_s is None else figures.duration(left_s),
            "charge_limit": figures.power(equalization.charge_limit_w),
            "discharge_limit": figures.power(equalization.discharge_limit_w),
            "ramp": f"{figures.power(equalization.ramp_w_per_s)}/s",
            "sender": figures.DASH if last is None else f"{last.server} · {last.epoch} · {last.seq}",
        }
        for name, text in texts.items():
            self._values[name].show(text)
        self._verdict.show(self._told(equalization, asked_w))

    def _told(self, equalization: Equalization, asked_w: float | None) -> str:
        """Return what became of the last setpoint, and why."""
        say, last = self._visit.say, equalization.last
        if last is None:
            return say("setpoint.none")
        if last.result is SetpointResult.REJECTED:
            code = "" if last.reason is None else last.reason.value
            return say("setpoint.rejected", reason=say.either(f"setpoint_reason.{code}", code))
        if last.result is SetpointResult.CLAMPED and asked_w is not None:
            limit_w = equalization.charge_limit_w if asked_w > 0.0 else equalization.discharge_limit_w
            return say("setpoint.clamped", limit=figures.power(limit_w))
        return say(f"setpoint.{last.result}" if last.result is not SetpointResult.CLAMPED else "setpoint.clamped_so")


class Trace:
    """The last ten minutes."""

    def __init__(self, visit: Visit, key: Key) -> None:
        self._visit = visit
        say = visit.say
        self._drawn_s = -_TRACE_EVERY_S
        options = chart.frame(zoomable=False)
        axis = options["yAxis"]
        options["yAxis"] = [
            axis,
            {
                **axis,
                "scale": True,
                "axisLabel": {**axis["axisLabel"], "formatter": "{value} V"},
                "splitLine": {"show": False},
            },
        ]
        options["tooltip"].pop(":valueFormatter")
        options["series"] = [
            chart.line("power", f"{say('channels.p')}", "var(--total)", width=2.0),
            chart.line("voltage", f"{say('channels.u')}", "var(--helper)", yAxisIndex=1),
        ]
        self._fill(options, visit.hall.channels[key])
        with card(say("channel.trace"), "wide"), box("figure", "plot", role="img", aria_label=say("channel.trace")):
            self._chart = ui.echart(options, renderer="svg").classes("chart")

    def draw(self, view: ChannelView) -> None:
        """Draw anew, every few seconds."""
        if self._visit.now_s - self._drawn_s >= _TRACE_EVERY_S:
            content: chart.Options = {"series": [{"id": "power"}, {"id": "voltage"}]}
            self._fill(content, view)
            self._chart.run_chart_method("setOption", content)

    def _fill(self, options: chart.Options, view: ChannelView) -> None:
        self._drawn_s = self._visit.now_s
        now_s = self._visit.hub.utc()
        since_s = now_s - _TRACED_S
        limits = {"min": self._visit.chart_ms(since_s), "max": self._visit.chart_ms(now_s)}
        options["xAxis"] = {**options.get("xAxis", {}), **limits}
        samples = [sample for sample in view.trace.samples() if sample[0] >= since_s]
        options["series"][0]["data"] = [[self._visit.chart_ms(at), chart.kilo(p)] for at, _, _, p in samples]
        options["series"][1]["data"] = [[self._visit.chart_ms(at), round(u, 2)] for at, u, _, _ in samples]


def _entry(visit: Visit, name: str) -> Text:
    with box("div"):
        Text("dt", visit.say(f"measure.{name}"), "quiet")
        return Text("dd")
