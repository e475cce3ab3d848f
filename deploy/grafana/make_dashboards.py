"""Makes the dashboards in dashboards/ from what stands here: `python deploy/grafana/make_dashboards.py`.

A dashboard is a list of rows, a row a list of panels. Every expression names metrics of the equalizer and the stations; a
test asks each of them of a living Prometheus and wants an answer.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
LOOP = 'loop=~"$loop"'
STATION = f'{LOOP},station=~"$station"'
CHANNEL = f'{STATION},channel=~"$channel"'

CHARGING, DISCHARGING, CALM, TOTAL, WARNING = "#3274d9", "#e0752d", "#8e8e8e", "#1a9e77", "#c4162a"
"""Told apart by those who see red and green alike."""

Json = dict[str, Any]
Target = tuple[str, str]
"""Expression, legend."""


def panel(
    kind: str,
    title: str,
    *targets: Target,
    unit: str = "short",
    about: str = "",
    width: int = 12,
    height: int = 8,
    **more: Any,
) -> Json:
    """Return a panel without its place."""
    defaults: Json = {"unit": unit, "color": {"mode": "palette-classic"}, **more.pop("defaults", {})}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": SOURCE,
                "expr": expr,
                "legendFormat": legend,
                **more.get("query", {}),
            }
            for i, (expr, legend) in enumerate(targets)
        ],
        "options": more.pop("options", {}),
    }


def lines(title: str, *targets: Target, **more: Any) -> Json:
    """Return curves over time."""
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    custom = {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "stacking": {"mode": more.pop("stack", "none")}}
    return panel("timeseries", title, *targets, options=options, defaults={"custom": custom}, **more)


def number(title: str, expr: str, **more: Any) -> Json:
    """Return one number, large."""
    defaults = {"color": {"mode": "thresholds"}, "thresholds": steps(*more.pop("limits", ()))}
    if "mappings" in more:
        defaults["mappings"] = more.pop("mappings")
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"]},
        "colorMode": "value",
        "graphMode": more.pop("graph", "area"),
    }
    more.setdefault("width", 4)
    return panel("stat", title, (expr, ""), height=5, defaults=defaults, options=options, **more)


def steps(*limits: tuple[float, str]) -> Json:
    """Return colours by value: calm below the first limit."""
    return {
        "mode": "absolute",
        "steps": [{"value": None, "color": TOTAL}, *({"value": at, "color": c} for at, c in limits)],
    }


def coloured(name: str, colour: str) -> Json:
    """Return the rule that gives a curve its colour."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
    }


def dashboard(uid: str, title: str, about: str, variables: list[Json], rows: list[tuple[str, list[Json]]]) -> Json:
    """Return a dashboard: rows with a heading, panels from left to right."""
    panels: list[Json] = []
    top = 0
    for heading, members in rows:
        panels.append(
            {"type": "row", "title": heading, "collapsed": False, "panels": [], "gridPos": _at(0, top, WIDTH, 1)}
        )
        top += 1
        left = tallest = 0
        for member in members:
            width, height = member["gridPos"]["w"], member["gridPos"]["h"]
            if left + width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            panels.append({**member, "gridPos": _at(left, top, width, height)})
            left, tallest = left + width, max(tallest, height)
        top += tallest
    for number_, one in enumerate(panels, start=1):
        one["id"] = number_
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["zeroloop"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "tags": ["zeroloop"], "asDropdown": False, "title": "zeroloop", "keepTime": True}
        ],
        "templating": {"list": [DATASOURCE, *variables]},
        "panels": panels,
    }


def _at(left: int, top: int, width: int, height: int) -> Json:
    return {"x": left, "y": top, "w": width, "h": height}


DATASOURCE: Json = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus", "hide": 2}


def variable(name: str, metric: str) -> Json:
    """Return a choice among the values of a label."""
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


PHASES = ("starting", "balancing", "saturated", "frozen", "paused", "standby")
PHASE_MAPPINGS = [
    {"type": "value", "options": {str(i): {"text": name, "color": colour}}}
    for i, (name, colour) in enumerate(zip(PHASES, (CALM, TOTAL, DISCHARGING, WARNING, CALM, CALM), strict=True))
]
PHASE = " + ".join(
    f'{i} * max(zeroloop_phase{{{LOOP},phase="{name}"}} and on (instance) zeroloop_in_charge == 1)'
    for i, name in enumerate(PHASES)
)
IN_CHARGE = "and on (instance) zeroloop_in_charge == 1"
"""A server that stands by sees the loop too; what it would show twice is left out."""

LOOP_DASHBOARD = dashboard(
    "zeroloop-loop",
    "Loop",
    "What the hall draws, what balances it, and what is left over.",
    [variable("loop", "zeroloop_total_power_watts")],
    [
        (
            "Now",
            [
                number(
                    "Total power",
                    f"zeroloop_total_power_watts{{{LOOP}}} {IN_CHARGE}",
                    unit="watt",
                    about="Positive: drawn from the grid.",
                ),
                number("Phase", PHASE, mappings=PHASE_MAPPINGS, graph="none"),
                number(
                    "Left over of the load",
                    f"loop:zeroloop_residual_power:ratio15m{{{LOOP}}}",
                    unit="percentunit",
                    about="Mean |total - target| by mean |load|, 15 minutes.",
                ),
                number(
                    "Avoided, 24 h",
                    f'sum(increase(zeroloop_energy_joules_total{{{LOOP},kind="avoided"}}[24h]))'
                    f' - sum(increase(zeroloop_energy_joules_total{{{LOOP},kind="added"}}[24h]))',
                    unit="joule",
                    graph="none",
                    about="What the grid was spared of exchange, what balancing added taken off.",
                ),
                number("Changes per channel and hour", f"loop:zeroloop_setpoint_changes:per_channel_hour{{{LOOP}}}"),
                number(
                    "Unknown power",
                    f"zeroloop_unknown_power_watts{{{LOOP}}} {IN_CHARGE}",
                    unit="watt",
                    limits=((1.0, DISCHARGING),),
                ),
            ],
        ),
        (
            "Power",
            [
                lines(
                    "The loop",
                    (f"zeroloop_load_power_watts{{{LOOP}}} {IN_CHARGE}", "load"),
                    (f"zeroloop_equalization_power_watts{{{LOOP}}} {IN_CHARGE}", "equalization"),
                    (f"zeroloop_total_power_watts{{{LOOP}}} {IN_CHARGE}", "total"),
                    (f"zeroloop_target_power_watts{{{LOOP}}} {IN_CHARGE}", "target"),
                    unit="watt",
                    width=24,
                    height=10,
                    about="Positive: charges, draws from the grid.",
                    overrides=[
                        coloured("load", CHARGING),
                        coloured("equalization", DISCHARGING),
                        coloured("total", TOTAL),
                        coloured("target", CALM),
                    ],
                ),
                lines(
                    "Left over, against the band",
                    (
                        f"abs(zeroloop_total_power_watts{{{LOOP}}} - zeroloop_target_power_watts{{{LOOP}}}) {IN_CHARGE}",
                        "left over",
                    ),
                    (f"zeroloop_engage_power_watts{{{LOOP}}} {IN_CHARGE}", "engage"),
                    (f"zeroloop_release_power_watts{{{LOOP}}} {IN_CHARGE}", "release"),
                    unit="watt",
                ),
                lines(
                    "What the equalization channels could still do",
                    (f"zeroloop_headroom_power_watts{{{LOOP}}} {IN_CHARGE}", "{{direction}}"),
                    (f"zeroloop_shortfall_power_watts{{{LOOP}}} {IN_CHARGE}", "shortfall"),
                    unit="watt",
                ),
            ],
        ),
        (
            "Why",
            [
                lines(
                    "Left over, by cause",
                    (f"sum by (cause) (rate(zeroloop_residual_energy_joules_total{{{LOOP}}}[1m]))", "{{cause}}"),
                    unit="watt",
                    stack="normal",
                    about="The parts sum to the mean of |total - target|.",
                ),
                lines(
                    "Setpoints, by reason",
                    (f"sum by (reason) (increase(zeroloop_decisions_total{{{LOOP}}}[5m]))", "{{reason}}"),
                    stack="normal",
                ),
                lines(
                    "Changes held back, by reason",
                    (f"sum by (reason) (increase(zeroloop_suppressed_changes_total{{{LOOP}}}[5m]))", "{{reason}}"),
                    stack="normal",
                ),
                lines(
                    "Energy through the grid",
                    (
                        f'sum by (kind) (rate(zeroloop_energy_joules_total{{{LOOP},kind=~"import|export|avoided|added"}}[5m]))',
                        "{{kind}}",
                    ),
                    unit="watt",
                    about="Mean power of what was imported, exported, avoided and added.",
                ),
            ],
        ),
    ],
)

STATIONS_DASHBOARD = dashboard(
    "zeroloop-stations",
    "Stations",
    "Every cycler: is it there, what does it do, does it keep its time.",
    [variable("loop", "zeroloop_station_connected"), variable("station", "zeroloop_station_connected")],
    [
        (
            "Now",
            [
                number("Stations that answer", f"count(zeroloop_station_connected{{{STATION}}} == 1)", width=6),
                number("Channels", f"count(zeroloop_station_channel_power_watts{{{STATION}}})", width=6),
                number("Equalization channels", f"sum(zeroloop_station_channel_equalizing{{{STATION}}})", width=6),
                number(
                    "Alarms", f"sum(zeroloop_station_channel_alarm{{{STATION}}})", width=6, limits=((1.0, WARNING),)
                ),
            ],
        ),
        (
            "Power and links",
            [
                lines(
                    "Power by station",
                    (f"sum by (station) (zeroloop_station_channel_power_watts{{{STATION}}})", "{{station}}"),
                    unit="watt",
                    width=24,
                ),
                lines("Connected to the broker", (f"zeroloop_station_connected{{{STATION}}}", "{{station}}")),
                lines("Sees the server", (f"zeroloop_station_server_online{{{STATION}}}", "{{station}}")),
            ],
        ),
        (
            "Work",
            [
                lines(
                    "Telemetry a second",
                    (f"rate(zeroloop_station_telemetry_messages_total{{{STATION}}}[1m])", "{{station}}"),
                ),
                lines(
                    "Setpoints a minute, by what became of them",
                    (f"60 * sum by (result) (rate(zeroloop_station_setpoints_total{{{STATION}}}[5m]))", "{{result}}"),
                ),
                lines(
                    "How late control cycles begin",
                    (
                        f"rate(zeroloop_station_tick_lag_seconds_sum{{{STATION}}}[1m]) / "
                        f"rate(zeroloop_station_tick_lag_seconds_count{{{STATION}}}[1m])",
                        "{{station}}",
                    ),
                    unit="s",
                ),
                lines(
                    "Cycles left out",
                    (f"increase(zeroloop_station_tick_overruns_total{{{STATION}}}[5m])", "{{station}}"),
                ),
            ],
        ),
    ],
)

CHANNEL_DASHBOARD = dashboard(
    "zeroloop-channel",
    "Channel",
    "One channel and its battery.",
    [
        variable("loop", "zeroloop_station_channel_power_watts"),
        variable("station", "zeroloop_station_channel_power_watts"),
        variable("channel", "zeroloop_station_channel_power_watts"),
    ],
    [
        (
            "Battery",
            [
                lines(
                    "Power",
                    (f"zeroloop_station_channel_power_watts{{{CHANNEL}}}", "{{station}}/{{channel}}"),
                    unit="watt",
                    about="Positive: charges.",
                ),
                lines(
                    "Voltage",
                    (f"zeroloop_station_channel_voltage_volts{{{CHANNEL}}}", "{{station}}/{{channel}}"),
                    unit="volt",
                ),
                lines(
                    "Current",
                    (f"zeroloop_station_channel_current_amperes{{{CHANNEL}}}", "{{station}}/{{channel}}"),
                    unit="amp",
                    about="Positive: charges.",
                ),
                lines(
                    "State of charge",
                    (f"zeroloop_station_channel_soc_ratio{{{CHANNEL}}}", "{{station}}/{{channel}}"),
                    unit="percentunit",
                ),
            ],
        ),
        (
            "State",
            [
                lines(
                    "In equalization mode",
                    (f"zeroloop_station_channel_equalizing{{{CHANNEL}}}", "{{station}}/{{channel}}"),
                ),
                lines("Alarm", (f"zeroloop_station_channel_alarm{{{CHANNEL}}}", "{{station}}/{{channel}}")),
            ],
        ),
    ],
)

SERVICES_DASHBOARD = dashboard(
    "zeroloop-services",
    "Services",
    "The processes themselves.",
    [variable("loop", "zeroloop_total_power_watts")],
    [
        (
            "Servers",
            [
                lines(
                    "In charge",
                    (f"zeroloop_in_charge{{{LOOP}}}", "{{instance}}"),
                    about="Exactly one server of a loop.",
                ),
                lines("Connected to the broker", (f"zeroloop_connected{{{LOOP}}}", "{{instance}}")),
                lines("Epoch", (f"zeroloop_epoch{{{LOOP}}}", "{{instance}}")),
                lines(
                    "Channels, by what is known of them", (f"max by (state) (zeroloop_channels{{{LOOP}}})", "{{state}}")
                ),
            ],
        ),
        (
            "Messages",
            [
                lines("Telemetry a second", (f"rate(zeroloop_telemetry_messages_total{{{LOOP}}}[1m])", "{{instance}}")),
                lines(
                    "Broken messages a minute",
                    (f"60 * sum by (reason) (rate(zeroloop_malformed_messages_total{{{LOOP}}}[5m]))", "{{reason}}"),
                ),
                lines(
                    "Setpoints a minute",
                    (f"60 * sum by (kind) (rate(zeroloop_setpoints_sent_total{{{LOOP}}}[5m]))", "{{kind}}"),
                ),
                lines(
                    "Setpoints refused a minute",
                    (f"60 * sum by (reason) (rate(zeroloop_setpoints_refused_total{{{LOOP}}}[5m]))", "{{reason}}"),
                ),
                lines(
                    "Reaction, mean",
                    (
                        f"sum(rate(zeroloop_reaction_seconds_sum{{{LOOP}}}[5m])) / "
                        f"(sum(rate(zeroloop_reaction_seconds_count{{{LOOP}}}[5m])) > 0) or vector(0)",
                        "mean",
                    ),
                    unit="s",
                    about="From the telemetry that completes a decision to its publication; 0 where there was none.",
                ),
            ],
        ),
        (
            "Logs",
            [
                lines(
                    "Audit log, entries in 5 min",
                    (f"sum by (result) (increase(zeroloop_audit_entries_total{{{LOOP}}}[5m]))", "{{result}}"),
                ),
                lines(
                    "Decision log, lines in 5 min",
                    (f"sum by (result) (increase(zeroloop_decision_log_lines_total{{{LOOP}}}[5m]))", "{{result}}"),
                ),
            ],
        ),
        (
            "Processes",
            [
                lines("Cores used", ('rate(process_cpu_seconds_total{job=~"zeroloop.*"}[1m])', "{{job}} {{instance}}")),
                lines(
                    "Memory", ('process_resident_memory_bytes{job=~"zeroloop.*"}', "{{job}} {{instance}}"), unit="bytes"
                ),
                lines("Open files", ('process_open_fds{job=~"zeroloop.*"}', "{{job}} {{instance}}")),
                lines("Answers", ('up{job=~"zeroloop.*"}', "{{job}} {{instance}}")),
            ],
        ),
    ],
)

DASHBOARDS = {
    "loop": LOOP_DASHBOARD,
    "stations": STATIONS_DASHBOARD,
    "channel": CHANNEL_DASHBOARD,
    "services": SERVICES_DASHBOARD,
}


def text(dashboard_: Json) -> str:
    """Return the file that Grafana reads."""
    return json.dumps(dashboard_, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, made in DASHBOARDS.items():
        (HERE / f"dashboards/{name}.json").write_text(text(made), encoding="utf-8")
