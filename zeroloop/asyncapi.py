"""The contract as an AsyncAPI 3 document, made from the models and topics, and a page that shows it.

AsyncAPI 3.0.0, with the MQTT bindings 0.2.0: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.json_schema import models_json_schema

import schemas
from schemas.examples import EXAMPLES
from schemas.messages import PAYLOADS
from schemas.topics import NAME_PATTERN, ROOT, ChannelTopic, LoopTopic

FILE = Path(schemas.__file__).parent / "asyncapi.json"
"""Where it stands in the tree and in the package."""

Json = dict[str, Any]

_LOOP = f"{ROOT}/{{loop}}"
_STATION = f"{_LOOP}/station/{{station}}"
_CHANNEL = f"{_STATION}/channel/{{channel}}"
_MQTT = "0.2.0"
EVERYBODY = ("station", "equalizer", "operator")


class Channel(NamedTuple):
    """One row of the contract's table of topics."""

    name: str
    address: str
    payload: str
    qos: int
    retain: bool
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    said: str
    answered: str | None = None
    """The channel on which each message gets its one reply."""


CHANNELS = (
    Channel(
        "server",
        f"{_LOOP}/{LoopTopic.SERVER}",
        "ServerAnnouncement",
        1,
        True,
        ("equalizer",),
        ("station", "operator"),
        "The well-known topic: there is a server for this loop. Subscribe to zeroloop/v1/+/server to find all of them. "
        "Its last will says `offline`.",
    ),
    Channel(
        "balance",
        f"{_LOOP}/{LoopTopic.BALANCE}",
        "LoopBalance",
        0,
        True,
        ("equalizer",),
        ("operator",),
        "The loop's power, every second.",
    ),
    Channel(
        "event",
        f"{_LOOP}/{LoopTopic.EVENT}",
        "Event",
        1,
        False,
        EVERYBODY,
        ("operator",),
        "Something happened that a person may want to know.",
    ),
    Channel(
        "loop_command",
        f"{_LOOP}/{LoopTopic.COMMAND}",
        "LoopCommand",
        1,
        False,
        ("operator",),
        ("equalizer",),
        "Pause, resume, or another target. Gets one reply within 2 s; the same id again gets the same reply.",
        "loop_reply",
    ),
    Channel(
        "loop_reply",
        f"{_LOOP}/{LoopTopic.REPLY}",
        "Reply",
        1,
        False,
        ("equalizer",),
        ("operator",),
        "The one answer to a command for the loop.",
    ),
    Channel(
        "meter",
        f"{_LOOP}/{LoopTopic.METER}",
        "MeterReading",
        0,
        True,
        ("meter",),
        ("equalizer",),
        "The power at the grid's connection; optional.",
    ),
    Channel(
        "status",
        f"{_STATION}/status",
        "StationStatus",
        1,
        True,
        ("station",),
        ("equalizer", "operator"),
        "A station is there, or gone: its last will, or a clean stop.",
    ),
    Channel(
        "telemetry",
        f"{_CHANNEL}/{ChannelTopic.TELEMETRY}",
        "ChannelTelemetry",
        0,
        True,
        ("station",),
        ("equalizer", "operator"),
        "What a channel measures and does: every period, and at once when its work status, step or alarm changes.",
    ),
    Channel(
        "plan",
        f"{_CHANNEL}/{ChannelTopic.PLAN}",
        "ChannelPlan",
        0,
        False,
        ("station",),
        ("equalizer",),
        "What a channel's program will do next: at every step change, before half of the last horizon is used, and "
        "when a server begins to listen.",
    ),
    Channel(
        "setpoint",
        f"{_CHANNEL}/{ChannelTopic.SETPOINT}",
        "Setpoint",
        0,
        False,
        ("equalizer",),
        ("station",),
        "A short working condition simulation step under a lease. With the retain flag it is dropped and counted.",
    ),
    Channel(
        "channel_command",
        f"{_CHANNEL}/{ChannelTopic.COMMAND}",
        "ChannelCommand",
        1,
        False,
        ("operator",),
        ("station",),
        "Set, stop or start a channel, or clear its alarm. Gets one reply within 2 s; the same id, the same reply.",
        "channel_reply",
    ),
    Channel(
        "channel_reply",
        f"{_CHANNEL}/{ChannelTopic.REPLY}",
        "Reply",
        1,
        False,
        ("station",),
        ("operator",),
        "The one answer to a command for a channel.",
    ),
)
"""The contract's table of topics; a test holds it against `schemas.topics`."""

_ABOUT = (
    "What passes between the stations, the equalizer and everybody else of a battery test hall. Powers are in W and "
    "seen from the battery: positive charges it and draws from the loop. Times ending in unix_time_s are labels; no "
    "decision subtracts one computer's clock from another's. Payloads are JSON objects of at most 64 KiB; unknown "
    "keys are ignored. Each operation carries the tag of the party that performs it: station, equalizer, operator "
    "(people and their programs) or meter."
)


def document() -> Json:
    """Return the AsyncAPI document."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:zeroloop:v1",
        "info": {
            "title": "zeroloop",
            "version": "1.0.0",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": party} for party in (*EVERYBODY, "meter")],
        },
        "defaultContentType": "application/json",
        "servers": {
            "plain": _server("mqtt", 1883, "On a network of the hall's own."),
            "secure": _server("secure-mqtt", 8883, "With certificates that `zeroloop credentials` makes."),
        },
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": dict(operation for channel in CHANNELS for operation in _operations(channel)),
        "components": {
            "messages": {name: _message(name) for name in PAYLOADS},
            "schemas": _schemas(),
            "parameters": {
                name: {"description": f"The {name}'s name: 1 to 64 letters, digits, '_' or '-' ({NAME_PATTERN})."}
                for name in ("loop", "station", "channel")
            },
        },
    }


def render() -> str:
    """Return the document's text."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _server(protocol: str, port: int, said: str) -> Json:
    return {
        "host": f"{{host}}:{port}",
        "protocol": protocol,
        "protocolVersion": "5",
        "description": f"{said} MQTT 5 by default; the contract needs nothing that 3.1.1 lacks.",
        "variables": {"host": {"description": "The broker; DNS-SD announces it.", "default": "127.0.0.1"}},
        "bindings": {"mqtt": {"cleanSession": True, "keepAlive": 10, "bindingVersion": _MQTT}},
    }


def _channel(channel: Channel) -> Json:
    names = [name for name in ("loop", "station", "channel") if f"{{{name}}}" in channel.address]
    return {
        "address": channel.address,
        "description": channel.said,
        "messages": {channel.payload: {"$ref": f"#/components/messages/{channel.payload}"}},
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in names},
    }


def _operations(channel: Channel) -> Iterator[tuple[str, Json]]:
    for action, parties in (("send", channel.senders), ("receive", channel.receivers)):
        for party in parties:
            operation: Json = {
                "action": action,
                "channel": {"$ref": f"#/channels/{channel.name}"},
                "title": f"{party} {action}s {channel.name.replace('_', ' ')}",
                "summary": channel.said,
                "tags": [{"name": party}],
                "messages": [{"$ref": f"#/channels/{channel.name}/messages/{channel.payload}"}],
                "bindings": {"mqtt": {"qos": channel.qos, "retain": channel.retain, "bindingVersion": _MQTT}},
            }
            if channel.answered is not None:
                operation["reply"] = {
                    "channel": {"$ref": f"#/channels/{channel.answered}"},
                    "messages": [{"$ref": f"#/channels/{channel.answered}/messages/Reply"}],
                }
            yield f"{party}_{action}s_{channel.name}", operation


def _message(name: str) -> Json:
    return {
        "name": name,
        "title": name,
        "summary": (PAYLOADS[name].__doc__ or "").splitlines()[0],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "examples": [
            {"name": f"{name}{number}", "payload": json.loads(text)} for number, text in enumerate(EXAMPLES[name], 1)
        ],
    }


def _schemas() -> Json:
    models = [(model, "validation") for model in PAYLOADS.values()]
    _, made = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]  # a literal
    return dict(made["$defs"])


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;
border-bottom:1px solid #d0d7de}code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f3f5f7;padding:.8rem;
overflow:auto}h2{margin-top:2.5rem}h3{margin-top:2rem}
@media(prefers-color-scheme:dark){body{background:#0f1317;color:#e3e8ed}th,td{border-color:#38424d}pre{background:#1a2027}
a{color:#79b8ff}}
@media(max-width:40rem){table{display:block;overflow-x:auto}}
"""


def page(made: Json) -> str:
    """Return the document as one self-contained HTML page."""
    info = made["info"]
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}: topics</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>',
        f"<h1>{escape(info['title'])} {escape(info['version'])}: topics and messages</h1>",
        f"<p>{escape(info['description'])}</p>",
        *_topics_part(made),
        *_messages_part(made),
        *_parts_part(made),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _topics_part(made: Json) -> Iterator[str]:
    yield "<h2>Topics</h2><table><thead><tr><th>topic<th>from → to<th>QoS<th>retained<th>message</tr></thead><tbody>"
    for name, channel in made["channels"].items():
        own = [o for o in made["operations"].values() if o["channel"]["$ref"].endswith(f"/{name}")]
        senders, receivers = (
            ", ".join(o["tags"][0]["name"] for o in own if o["action"] == action) for action in ("send", "receive")
        )
        mqtt = own[0]["bindings"]["mqtt"]
        messages = ", ".join(f'<a href="#{key}">{key}</a>' for key in channel["messages"])
        yield (
            f'<tr id="topic-{name}"><td><code>{escape(channel["address"])}</code><br>{escape(channel["description"])}'
            f"<td>{senders} → {receivers}<td>{mqtt['qos']}<td>{'yes' if mqtt['retain'] else 'no'}<td>{messages}</tr>"
        )
    yield "</tbody></table>"


def _messages_part(made: Json) -> Iterator[str]:
    yield "<h2>Messages</h2>"
    for name, message in made["components"]["messages"].items():
        yield f'<h3 id="{name}">{name}</h3><p>{escape(message["summary"])}</p>'
        yield _table(made["components"]["schemas"][name])
        for example in message["examples"]:
            yield f"<pre>{escape(json.dumps(example['payload'], indent=1, ensure_ascii=False))}</pre>"


def _parts_part(made: Json) -> Iterator[str]:
    yield "<h2>Parts</h2>"
    for name, schema in sorted(made["components"]["schemas"].items()):
        if name in made["components"]["messages"]:
            continue
        yield f'<h3 id="{name}">{name}</h3><p>{escape(schema.get("description", ""))}</p>'
        if "enum" in schema:
            yield "<p>" + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"]) + "</p>"
        else:
            yield _table(schema)


def _table(schema: Json) -> str:
    needed = schema.get("required", ())
    rows = (
        f"<tr><td><code>{escape(key)}</code><td>{_type(part)}<td>{'required' if key in needed else 'optional'}"
        f"<td>{escape(part.get('description', ''))}</tr>"
        for key, part in schema.get("properties", {}).items()
    )
    return f"<table><thead><tr><th>key<th>type<th><th>meaning</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("minItems", "≥"), ("maxItems", "≤"))
    said = " ".join(f"{sign} {schema[key]}" for key, sign in bounds if key in schema and schema[key] < 2**62)
    text = str(schema.get("type", "any"))
    if "items" in schema:
        text = f"list of {_type(schema['items'])}"
    return f"{text} {escape(said)}".rstrip()
