"""Options of the charts. Colours are the style sheet's own, so that light and dark need no second chart."""

from typing import Any

from dashboard.figures import DASH

_FONT = "Roboto, system-ui, 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', sans-serif"
_INK, _MUTED, _LINE, _CARD = "var(--ink)", "var(--muted)", "var(--line)", "var(--card)"
_SMALL = "0.8 * parseFloat(getComputedStyle(document.documentElement).fontSize)"
"""The page grows with a wall's screen; a chart counts in pixels."""
_TOP = "innerWidth < 600 ? 62 : 40"
"""Below the legend, which needs two lines on a phone."""
KILO = 1_000.0

Options = dict[str, Any]
Point = list[float | None]


def frame(*, zoomable: bool, unit: str = "kW") -> Options:
    """Return a chart over time without anything in it."""
    axis_text = {"color": _MUTED, "fontFamily": _FONT, ":fontSize": _SMALL}
    options: Options = {
        "animation": False,
        "useUTC": True,
        "textStyle": {"fontFamily": _FONT, "color": _MUTED},
        "grid": {"left": 8, "right": 16, ":top": _TOP, "bottom": 52 if zoomable else 8, "containLabel": True},
        "legend": {"top": 0, "left": 0, "itemWidth": 20, "itemHeight": 9, "textStyle": axis_text},
        "tooltip": {
            "trigger": "axis",
            "confine": True,
            "backgroundColor": _CARD,
            "borderColor": _LINE,
            "textStyle": {"color": _INK, "fontFamily": _FONT, ":fontSize": _SMALL},
            "axisPointer": {"lineStyle": {"color": _MUTED}},
            ":valueFormatter": f"v => v == null ? '{DASH}' : Number(v).toFixed(2) + ' {unit}'",
        },
        "xAxis": {
            "type": "time",
            "axisLabel": {**axis_text, "hideOverlap": True, "formatter": _times()},
            "axisLine": {"lineStyle": {"color": _LINE}},
            "axisTick": {"show": False},
            "splitLine": {"show": False},
        },
        "yAxis": {
            "type": "value",
            "scale": unit != "kW",
            "axisLabel": {**axis_text, "formatter": f"{{value}} {unit}"},
            "splitLine": {"lineStyle": {"color": _LINE}},
        },
    }
    if zoomable:
        options["dataZoom"] = [
            {"type": "inside", "filterMode": "none"},
            {
                "type": "slider",
                "filterMode": "none",
                "height": 22,
                "bottom": 8,
                "borderColor": _LINE,
                "fillerColor": "rgba(128, 140, 150, 0.16)",
                "backgroundColor": "transparent",
                "handleStyle": {"color": _CARD, "borderColor": _MUTED},
                "moveHandleStyle": {"color": _MUTED},
                "textStyle": axis_text,
                "brushSelect": False,
                "showDataShadow": False,
            },
        ]
    return options


def line(identity: str, name: str, color: str, *, width: float = 1.5, **more: Any) -> Options:  # noqa: ANN401 - ECharts'
    """Return a line without points."""
    return {
        "id": identity,
        "name": name,
        "type": "line",
        "symbol": "none",
        "color": color,
        "lineStyle": {"width": width, "color": color, **more.pop("lineStyle", {})},
        "emphasis": {"disabled": True},
        "data": [],
        **more,
    }


def now_line(at_ms: float, text: str) -> Options:
    """Return what parts the past from the future."""
    return {
        "silent": True,
        "symbol": "none",
        "lineStyle": {"color": _MUTED, "type": "solid", "width": 1},
        "label": {"formatter": text, "color": _MUTED, "fontFamily": _FONT, ":fontSize": _SMALL, "position": "end"},
        "data": [{"xAxis": at_ms}],
    }


def band(low_w: float, high_w: float) -> Options:
    """Return where the total should be."""
    return {
        "silent": True,
        "itemStyle": {"color": "var(--good)", "opacity": 0.13},
        "data": [[{"yAxis": low_w / KILO}, {"yAxis": high_w / KILO}]],
    }


def kilo(power_w: float) -> float:
    """Return kW as charts are told them."""
    return round(power_w / KILO, 3)


def _times() -> Options:
    return {
        "year": "{yyyy}",
        "month": "{MM}-{dd}",
        "day": "{MM}-{dd}",
        "hour": "{HH}:{mm}",
        "minute": "{HH}:{mm}",
        "second": "{HH}:{mm}:{ss}",
        "millisecond": "{HH}:{mm}:{ss}",
        "none": "{HH}:{mm}:{ss}",
    }
