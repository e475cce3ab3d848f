"""Writes the pages of the reference that the code knows best: `make reference`.

Configuration from the settings' models, the command line from its own help, metrics from the collectors, topics and
payloads from the contract's models, reasons from their enums. A test compares the pages with what this makes.
"""

import ast
import contextlib
import inspect
import io
import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer.main
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from pydantic import BaseModel

from dashboard.config import DashboardSettings
from equalizer.config import EqualizerSettings
from equalizer.control.reasons import HELD_BACK, SENT, Reason
from equalizer.control.residual import Cause
from equalizer.metrics import Counters, EqualizerMetrics, Gauges
from schemas.examples import EXAMPLES
from schemas.messages import (
    MAX_COUNT,
    PAYLOADS,
    AlarmCode,
    Phase,
    ReplyReason,
    SetpointReason,
    SetpointResult,
    WorkStatus,
)
from simulation.scenario import Scenario
from station.config import StationSettings
from station.drivers.replay.options import ChannelOptions as ReplayChannel
from station.drivers.simulated.options import ChannelOptions as SimulatedChannel
from station.drivers.simulated.options import DriverOptions as SimulatedDriver
from station.metrics import ChannelReading, StationCollector, StationReading, Tally
from zeroloop.asyncapi import CHANNELS
from zeroloop.commands import app
from zeroloop.main import main

FOLDER = Path(__file__).parent
MADE = "<!-- Made by `make reference`; change the code instead. -->"
HELP_COLUMNS = "100"

Json = dict[str, Any]


def pages() -> dict[str, str]:
    """Return every generated page: file name → text."""
    return {
        "configuration.md": configuration(),
        "cli.md": command_line(),
        "metrics.md": metrics(),
        "topics.md": topics(),
        "reasons.md": reasons(),
    }


def write() -> None:
    """Write them beside this script."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def _made(head: str) -> str:
    """Say below the title, which the site takes from the first line, how the page came about."""
    title, _, rest = head.partition("\n")
    return f"{title}\n\n{MADE}\n{rest}"


# ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────

CONFIGURATION = """\
# Configuration

Every key of every file, made from the models that read them. A key that is not here is an error, and is named with the
ones that are meant. Powers are in W, times in s; positive power charges, and draws from the grid. Paths are relative to
the file's folder.

Keys of tables (not of `[[lists]]`) may be overridden by an environment variable: `ZEROLOOP_` + table + `_` + key, as
`ZEROLOOP_CONTROL_DELAY_S=12`; one that names a table and no key of it is told in the log. Secrets stand in files only.
"""


def configuration() -> str:
    """Return the page of all configuration files."""
    parts = [_made(CONFIGURATION)]
    for title, model, said in (
        ("equalizer.toml", EqualizerSettings, "Read by `zeroloop equalizer --config`. Everything has a default."),
        ("station.toml", StationSettings, "Read by `zeroloop station --config`."),
        ("dashboard.toml", DashboardSettings, "Read by `zeroloop dashboard --config`. Everything has a default."),
        ("Scenarios", Scenario, "Read by `zeroloop simulate`; `simulation/scenarios` has some."),
    ):
        parts.append(f"## {title}\n\n{said}\n")
        parts += Tables(model).sections()
        if model is StationSettings:
            for driver, options in (
                ("simulated", SimulatedDriver),
                ("simulated", SimulatedChannel),
                ("replay", ReplayChannel),
            ):
                table = "[driver]" if options is SimulatedDriver else "[[channel]]"
                parts.append(f"### `{table}` with the driver `{driver}`\n\n{inspect.getdoc(options)}\n")
                stem = "driver" if options is SimulatedDriver else "channel"
                parts += Tables(options, stem=stem, level=4).sections()
    return "\n".join(parts)


class Tables:
    """The tables of one configuration file, from its JSON Schema."""

    def __init__(self, model: type[BaseModel], *, stem: str = "", level: int = 3) -> None:
        self._schema = model.model_json_schema()
        self._stem = stem
        self._level = level
        self._shown: set[tuple[str, str]] = set()

    def sections(self) -> Iterator[str]:
        """Yield one part of the page a table."""
        yield from self._section(self._schema, self._stem, is_list=False, level=self._level, is_top=True)

    def _section(self, schema: Json, path: str, *, is_list: bool, level: int, is_top: bool = False) -> Iterator[str]:
        rows, nested = [], []
        for key, said in schema["properties"].items():
            inner = list(self.objects(said))
            if inner:
                nested.append((key, said, inner))
            if not inner or not is_top or self._stem:
                rows.append(self._row(path, key, said, required=key in schema.get("required", ())))
        if not is_top:
            mark = f"[[{path}]]" if is_list else f"[{path}]"
            steps = _values(schema["properties"].get("step", {}))
            mark += f" step = {steps}" if steps else ""
            yield f"{'#' * level} `{mark}`\n\n{schema.get('description', '')}\n"
        if rows:
            yield "| key | type | default | meaning |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
        for key, said, inner in nested:
            under = f"{path}.{key}" if path else key
            for one in inner:
                if (under, one["title"]) in self._shown:
                    continue
                self._shown.add((under, one["title"]))
                yield from self._section(
                    one, under, is_list=said.get("type") == "array", level=min(level + (not is_top), 5)
                )

    def _row(self, path: str, key: str, said: Json, *, required: bool) -> str:
        inner = next(self.objects(said), self._definition(said))
        meaning = said.get("description", inner.get("description", "")).replace("|", "\\|").replace("\n", " ")
        if not meaning:
            raise ValueError(f"{path}.{key} has no docstring")
        default = "needed" if required else _toml(said.get("default"))
        return f"| `{key}` | {self.kind(said)} | {default} | {meaning} |"

    def objects(self, said: Json) -> Iterator[Json]:
        """Yield the tables that a key holds."""
        if said.get("type") == "array":
            said = said.get("items", {})
        for one in [said, *said.get("anyOf", ()), *said.get("oneOf", ())]:
            definition = self._definition(one)
            if definition.get("type") == "object":
                yield definition

    def _definition(self, said: Json) -> Json:
        name = said.get("$ref", "").rpartition("/")[2]
        return self._schema["$defs"][name] if name else {}

    def kind(self, said: Json) -> str:
        """Return a key's type in words."""
        if "$ref" in said:
            definition = self._definition(said)
            return "table" if definition.get("type") == "object" else _one_of(definition["enum"])
        if "anyOf" in said or "oneOf" in said:
            kinds = [self.kind(one) for one in said.get("anyOf", said.get("oneOf", ())) if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
        if "const" in said or "enum" in said:
            return _one_of(said.get("enum", [said.get("const")]))
        if said.get("type") == "array":
            return self._list(said)
        return _scalar(said)

    def _list(self, said: Json) -> str:
        if "prefixItems" in said:
            return "[" + ", ".join(self.kind(item) for item in said["prefixItems"]) + "]"
        return f"list of {self.kind(said['items'])}"


def _scalar(said: Json) -> str:
    match said.get("type"):
        case "number":
            return "number" + _bounds(said)
        case "integer":
            return "whole number" + _bounds(said)
        case "string":
            return "name" if "{1,64}" in said.get("pattern", "") else "text"
        case "boolean":
            return "true or false"
        case "object":
            return "table"
        case other:
            return str(other)


def _bounds(said: Json) -> str:
    low, above, high = said.get("minimum"), said.get("exclusiveMinimum"), said.get("maximum")
    high = None if high == MAX_COUNT else high
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    if above is not None and high is not None:
        return f", above {above:g}, to {high:g}"
    if above is not None:
        return f", above {above:g}"
    return f", {low:g} or more" if low is not None else ""


def _values(said: Json) -> str:
    return " or ".join(json.dumps(value) for value in said.get("enum", [said["const"]] if "const" in said else []))


def _one_of(values: list[Any]) -> str:
    return ", ".join(f"`{json.dumps(value, ensure_ascii=False)}`" for value in values)


def _toml(value: Any) -> str:  # noqa: ANN401 - a TOML value is of any type
    return "none" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


# ── command line ─────────────────────────────────────────────────────────────────────────────────────────────────

COMMANDS = """\
# Command line

What `zeroloop COMMAND --help` says, of every command. How they end: [exit codes](exit-codes.md).

Commands that speak to a loop find its server as a station does: by what they remember, DNS-SD, or this computer.
`--host` and `--port` name the broker instead, `--config` a configuration or a credentials file that has it.
"""


def command_line() -> str:
    """Return the page of all commands."""
    root = typer.main.get_command(app)
    return _made(COMMANDS) + "".join(
        f"\n## {path}\n\n```text\n{_help(path)}\n```\n" for path in _paths(root, "zeroloop")
    )


def _paths(command: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - typer does not export its commands' class
    inner = getattr(command, "commands", {})
    if not inner:
        yield path
    for name in sorted(inner):
        if not inner[name].hidden:
            yield from _paths(inner[name], f"{path} {name}")


def _help(path: str) -> str:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = HELP_COLUMNS
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            main([*path.split()[1:], "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return said.getvalue().strip()


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────

METRICS = """\
# Metrics

What Prometheus scrapes, from the collectors themselves. The equalizer serves it at `http://HOST:9464/metrics`
(`[metrics]` in equalizer.toml; `/ready` and `/live` are beside it, and `/memory` and `/diary` for recorders), a station
where its own `[metrics]` says.
Units are Prometheus': watts, joules, seconds.
"""

_EVERYTHING = Gauges(
    phase=Phase.BALANCING,
    connected=True,
    in_charge=True,
    leader_silent_s=0.0,
    epoch=1,
    total_power_w=0.0,
    load_power_w=0.0,
    equalization_power_w=0.0,
    target_power_w=0.0,
    unknown_power_w=0.0,
    shortfall_w=0.0,
    meter_power_w=0.0,
    stations_online=1,
    channels={"fresh": 1, "stale": 0},
    headroom_w={"charge": 0.0, "discharge": 0.0},
    regret_ratio=1.0,
    bound_w=0.0,
    ignored={"": 0},
    decision_log={"written": 0, "lost": 0},
)


def metrics() -> str:
    """Return the page of all metrics."""
    equalizer = EqualizerMetrics(
        "main",
        Counters(),
        lambda: _EVERYTHING,
        certificates=lambda: {"own": 0.0},
        audit=lambda: {"written": 0, "lost": 0},
        unsent=lambda: {"dropped": 0, "withheld": 0},
    )
    tally = Tally()
    for counts in (tally.setpoints, tally.commands, tally.malformed, tally.driver_errors):
        counts[""] = 0
    channel = ChannelReading("1", 0.0, 0.0, 0.0, 0.5, equalizing=False, alarmed=False)
    reading = StationReading("main", connected=True, server_online=True, channels=[channel], certificates={"own": 0.0})
    station = StationCollector("s1", tally, lambda: reading)
    process = ProcessCollector(registry=CollectorRegistry())
    return (
        _made(METRICS)
        + _families("The equalizer", [*equalizer.collect(), *process.collect()])
        + _families("A station", station.collect())
    )


def _families(title: str, families: Iterable[Metric]) -> str:
    rows = [f"\n## {title}\n\n| name | type | labels | meaning |\n| --- | --- | --- | --- |"]
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        shown = ", ".join(_label(family, label) for label in labels)
        rows.append(f"| `{name}` | {family.type} | {shown} | {family.documentation} |")
    return "\n".join(rows) + "\n"


def _label(family: Metric, label: str) -> str:
    if label in {"loop", "station", "channel"}:
        return f"`{label}`"
    values = list(dict.fromkeys(sample.labels[label] for sample in family.samples))
    known = [value for value in values if value]
    return f"`{label}`" + (f": {', '.join(known)}" if known and label != "certificate" else "")


# ── topics and payloads ──────────────────────────────────────────────────────────────────────────────────────────

TOPICS = """\
# Topics and payloads

What passes between stations, equalizer and everybody else, made from the contract's models. The same for machines:
[JSON Schemas](../../schemas/json) and [AsyncAPI](asyncapi.html) (`schemas/asyncapi.json`). How to speak it yourself:
[Any MQTT client](../integrate.md).

Payloads are UTF-8 JSON objects of at most 64 KiB. Unknown keys are ignored; a missing or mistyped one, NaN, or a key
that stands twice makes the message malformed: it is counted and dropped. Where "or null" stands, the key may be absent.
`{loop}`, `{station}`, `{channel}`: 1 to 64 letters, digits, `_` or `-`. MQTT 5 or 3.1.1.

## Topics
"""


def topics() -> str:
    """Return the page of all topics and payloads."""
    rows = ["| topic | payload | from → to | QoS | retained | |", "| --- | --- | --- | ---: | --- | --- |"]
    for one in CHANNELS:
        who = f"{', '.join(one.senders)} → {', '.join(one.receivers)}"
        payload = f"[{one.payload}](#{one.payload.lower()})"
        rows.append(
            f"| `{one.address}` | {payload} | {who} | {one.qos} | {'yes' if one.retain else 'no'} | {one.said} |"
        )
    parts = [_made(TOPICS), "\n".join(rows) + "\n", "## Payloads\n"]
    for name, model in PAYLOADS.items():
        parts.append(f"### {name}\n\n{inspect.getdoc(model)}\n")
        parts += _fields(model)
        example = json.dumps(json.loads(EXAMPLES[name][0]), indent=2, ensure_ascii=False)
        parts.append(f"```json\n{example}\n```\n")
    return "\n".join(parts)


def _fields(model: type[BaseModel]) -> Iterator[str]:
    tables = Tables(model)
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    wanted = [("", schema)]
    while wanted:
        path, said = wanted.pop(0)
        if path:
            yield f"`{path}`:\n"
        rows = ["| key | type | meaning |", "| --- | --- | --- |"]
        for key, one in said["properties"].items():
            optional = key not in said.get("required", ()) or {"type": "null"} in one.get("anyOf", ())
            kind = tables.kind(one) + (" or null" if optional else "")
            rows.append(f"| `{key}` | {kind} | {one.get('description', '')} |")
            wanted += [(f"{path}.{key}".lstrip("."), definitions[inner["title"]]) for inner in tables.objects(one)]
        yield "\n".join(rows) + "\n"


# ── reasons ──────────────────────────────────────────────────────────────────────────────────────────────────────

REASONS = """\
# Phases, reasons, results

The words that messages, metrics and logs use, each with what it means. What to do about them:
[Why it did that](../why.md) and [Alarms and events](../howto/alarms.md).
"""


def reasons() -> str:
    """Return the page of all words."""
    parts = [_made(REASONS)]
    parts.append(_words("Phases of the loop", "`phase` of the balance and of the announcement.", Phase))
    meaning = "`last_decision.reason`, `zeroloop_decisions_total`, and `reason` in the decision log."
    parts.append(_words("Why a setpoint was sent", meaning, Reason, SENT))
    meaning = "`held_back` of the balance, `zeroloop_suppressed_changes_total`."
    parts.append(_words("Why nothing was changed", meaning, Reason, HELD_BACK))
    parts.append(_words("Where the rest comes from", "`residual_wh`, `zeroloop_residual_energy_joules_total`.", Cause))
    parts.append(_words("What became of a setpoint", "`equalization.last.result` of the telemetry.", SetpointResult))
    parts.append(_words("Why a setpoint was rejected", "`equalization.last.reason` of the telemetry.", SetpointReason))
    parts.append(_words("Why a command was rejected", "`reason` of the reply.", ReplyReason))
    parts.append(_words("Alarms of a channel", "`alarm.code` of the telemetry, and `code` of the event.", AlarmCode))
    parts.append(_words("Work status of a channel", "`work_status` of the telemetry.", WorkStatus))
    return "\n".join(parts)


def _words(title: str, where: str, kind: type[StrEnum], members: tuple[StrEnum, ...] | None = None) -> str:
    meanings = member_docstrings(kind)
    rows = [f"| `{one.value}` | {meanings[one.name]} |" for one in (kind if members is None else members)]
    return f"## {title}\n\n{where}\n\n| word | meaning |\n| --- | --- |\n" + "\n".join(rows) + "\n"


def member_docstrings(kind: type[StrEnum]) -> dict[str, str]:
    """Return what stands below each member of an enum in its source."""
    said = {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)).body
    for member, text in pairwise(body):
        match member, text:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(meaning))):
                said[name] = re.sub(r"\s+", " ", meaning)
            case _:
                pass
    return said


if __name__ == "__main__":
    write()
