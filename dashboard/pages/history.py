"""What was, what was done and why, and what will be."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from nicegui import ui

from dashboard.history import Bucket, Mark, with_gaps
from dashboard.pages import chart
from dashboard.pages.parts import Text, box, card
from dashboard.pages.told import act
from dashboard.pages.visit import Visit

_MARKS_SIDE_BY_SIDE = 240
_LISTED = 200


class Span(NamedTuple):
    """How far back a chart goes, how finely, how far ahead, and how often it is drawn anew."""

    name: str
    back_s: float
    width_s: int
    ahead_s: float
    every_s: float


SPANS = (
    Span("quarter", 900.0, 1, 150.0, 2.0),
    Span("shift", 8 * 3_600.0, 10, 600.0, 10.0),
    Span("day", 24 * 3_600.0, 60, 900.0, 30.0),
)


def history_view(visit: Visit) -> None:
    """Build the view."""
    say = visit.say
    ui.page_title(f"{say('frame.history')} · zeroloop {visit.hall.loop}")
    with box("div", "sheet"):
        with box("section", "card", aria_label=say("history.title")):
            with box("div", "head"):
                Text("h2", say("history.title"))
                box("div", "grow")
                choice = ui.toggle({span.name: say(f"history.{span.name}") for span in SPANS}, value=SPANS[0].name)
                choice.props("no-caps flat").classes("spans")
            past = Past(visit, SPANS[0], "tall")
            Text("p", say("history.ahead"), "quiet")
        with card(say("history.done")):
            done = Done(visit)

    def chosen() -> None:
        past.span = next(span for span in SPANS if span.name == choice.value)
        past.draw()

    choice.on_value_change(chosen)

    def tick() -> None:
        past.draw_when_due()
        done.draw()

    ui.timer(1.0, tick)


class Past:
    """The chart of load, equalization and total."""

    def __init__(self, visit: Visit, span: Span, classes: str, *, zoomable: bool = True) -> None:
        self._visit = visit
        self.span = span
        self._zoomable = zoomable
        self._drawn_s = visit.now_s
        with box("figure", "plot", role="img", aria_label=visit.say("history.chart")):
            self._chart = ui.echart(self._options(), renderer="svg").classes(f"chart {classes}")

    def draw_when_due(self) -> None:
        """Draw anew, as often as the span asks for."""
        if self._visit.now_s - self._drawn_s >= self.span.every_s:
            self.draw()

    def draw(self) -> None:
        """Draw anew; what was zoomed in on stays."""
        self._drawn_s = self._visit.now_s
        self._chart.run_chart_method("setOption", self._content())

    def _options(self) -> chart.Options:
        say = self._visit.say
        options = chart.frame(zoomable=self._zoomable)
        content = self._content()
        dashed = {"lineStyle": {"type": "dashed"}, "step": "end"}
        unseen = {"tooltip": {"show": False}, "silent": True, "stack": "range", "stackStrategy": "all", "z": 1}
        lines = [
            # What the mean of ten seconds or a minute does not show: how far the total went in them.
            chart.line("lowest", "", "transparent", width=0.0, **unseen),
            chart.line(
                "range", "", "transparent", width=0.0, areaStyle={"color": "var(--total)", "opacity": 0.3}, **unseen
            ),
            chart.line("load", say("history.load"), "var(--muted)"),
            chart.line("equalization", say("history.equalization"), "var(--helper)"),
            chart.line("total", say("history.total"), "var(--total)", width=2.5, z=4),
            chart.line("load-ahead", say("history.load"), "var(--muted)", **_copy(dashed)),
            chart.line("equalization-ahead", say("history.equalization"), "var(--helper)", **_copy(dashed)),
            chart.line("total-ahead", say("history.total"), "var(--total)", width=2.0, z=4, **_copy(dashed)),
            {
                "id": "marks",
                "name": say("history.decisions"),
                "type": "scatter",
                "symbol": "triangle",
                "symbolSize": 9,
                "color": "var(--helper)",
                "z": 6,
                "tooltip": {"trigger": "item", "formatter": "{b}"},
                "data": [],
            },
        ]
        shown = lines if self._zoomable else lines[:5]
        filled = {series["id"]: series for series in content["series"]}
        options["series"] = [{**series, **filled[series["id"]]} for series in shown]
        options["xAxis"] = {**options["xAxis"], **content["xAxis"]}
        return options

    def _content(self) -> chart.Options:
        """Return what changes from one drawing to the next."""
        visit, span = self._visit, self.span
        now_unix_s = visit.hub.utc()
        past = _points(visit, visit.hall.history.window(now_unix_s - span.back_s, span.width_s), span.width_s)
        balance, band_w = visit.hall.balance, visit.hall.band_w
        target_w = 0.0 if balance is None else balance.target_power_w
        total: chart.Options = {
            "id": "total",
            "data": past.total,
            "markArea": chart.band(target_w - band_w, target_w + band_w),
        }
        changing: list[chart.Options] = [
            {"id": "lowest", "data": past.lowest},
            {"id": "range", "data": past.range},
            {"id": "load", "data": past.load},
            {"id": "equalization", "data": past.equalization},
            total,
        ]
        if self._zoomable:
            total["markLine"] = chart.now_line(visit.chart_ms(now_unix_s), visit.say("history.now"))
            ahead = _ahead(visit, span, now_unix_s)
            changing += [
                {"id": "load-ahead", "data": ahead.load},
                {"id": "equalization-ahead", "data": ahead.equalization},
                {"id": "total-ahead", "data": ahead.total},
                {"id": "marks", "data": _marks(visit, span, now_unix_s)},
            ]
        ends_s = now_unix_s + (span.ahead_s if self._zoomable else 0.0)
        limits = {"min": visit.chart_ms(now_unix_s - span.back_s), "max": visit.chart_ms(ends_s)}
        return {"xAxis": limits, "series": changing}


@dataclass(frozen=True, slots=True)
class _Lines:
    load: list[chart.Point]
    equalization: list[chart.Point]
    total: list[chart.Point]
    lowest: list[chart.Point]
    range: list[chart.Point]
    """How far the highest total is above the lowest."""


def _points(visit: Visit, buckets: list[Bucket], width_s: int) -> _Lines:
    lines = _Lines([], [], [], [], [])
    for item in with_gaps(buckets, width_s):
        if isinstance(item, int):
            at_ms = visit.chart_ms(item)
            for points in (lines.load, lines.equalization, lines.total, lines.lowest, lines.range):
                points.append([at_ms, None])
            continue
        at_ms = visit.chart_ms(item.unix_time_s + width_s / 2)
        lines.load.append([at_ms, chart.kilo(item.load_w)])
        lines.equalization.append([at_ms, chart.kilo(item.equalization_w)])
        lines.total.append([at_ms, chart.kilo(item.total_w)])
        if width_s > 1:
            lines.lowest.append([at_ms, chart.kilo(item.lowest_w)])
            lines.range.append([at_ms, chart.kilo(item.highest_w - item.lowest_w)])
    return lines


def _ahead(visit: Visit, span: Span, now_unix_s: float) -> _Lines:
    lines = _Lines([], [], [], [], [])
    if visit.hall.is_balance_stale(visit.now_s):
        return lines
    for edge in visit.hall.forecast(visit.now_s, span.ahead_s):
        at_ms = visit.chart_ms(now_unix_s + edge.after_s)
        lines.load.append([at_ms, chart.kilo(edge.load_w)])
        lines.equalization.append([at_ms, chart.kilo(edge.equalization_w)])
        lines.total.append([at_ms, chart.kilo(edge.total_w)])
    return lines


def _marks(visit: Visit, span: Span, now_unix_s: float) -> list[dict[str, Any]]:
    """Return what was done, as points on the total; what lies too close to be told apart is one point."""
    history, since_s = visit.hall.history, now_unix_s - span.back_s
    totals = {bucket.unix_time_s: bucket.total_w for bucket in history.window(since_s, span.width_s)}
    groups: dict[int, list[Mark]] = {}
    for mark in history.marks_since(since_s):
        groups.setdefault(int((mark.unix_time_s - since_s) / span.back_s * _MARKS_SIDE_BY_SIDE), []).append(mark)
    points = []
    for marks in groups.values():
        at_s = marks[0].unix_time_s
        total_w = totals.get(int(at_s) // span.width_s * span.width_s, 0.0)
        texts = list(dict.fromkeys(told(visit, mark) for mark in marks))
        name = texts[0] if len(marks) == 1 else visit.say("history.several", count=len(marks), what="; ".join(texts))
        points.append({"name": name, "value": [visit.chart_ms(at_s), chart.kilo(total_w)]})
    return points


def told(visit: Visit, mark: Mark) -> str:
    """Return what happened, in words."""
    say = visit.say
    match mark.kind:
        case "decision":
            return say("history.decision", reason=say.either(f"decision.{mark.code}", mark.code))
        case "phase":
            return say("history.phase", phase=say.either(f"phase.{mark.code}", mark.code))
        case _:
            return act(visit, mark)


class Done:
    """The list of what was done, the newest first: the chart's marks for those who cannot point at them."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._shown: tuple[int, float] | None = None
        self._list = box("ol", "done")
        self.draw()

    def draw(self) -> None:
        """Show what is new."""
        marks = self._visit.hall.history.marks
        stamp = (len(marks), marks[-1].unix_time_s if marks else 0.0)
        if stamp == self._shown:
            return
        self._shown = stamp
        self._list.clear()
        with self._list:
            if not marks:
                Text("li", self._visit.say("history.nothing"), "quiet")
            for mark in list(marks)[: -_LISTED - 1 : -1]:
                with box("li"):
                    Text("time", self._visit.moment(mark.unix_time_s), "quiet")
                    Text("span", told(self._visit, mark))


def _copy(options: dict[str, Any]) -> dict[str, Any]:
    return {key: dict(value) if isinstance(value, dict) else value for key, value in options.items()}
