"""Home Assistant's discovery: a retained message that makes a device of the loop, and one of each station.

The format is Home Assistant's "device discovery" over MQTT, one message a device at `PREFIX/device/ID/config`; an empty
one removes the device. Pure: which messages there must be, from what is known.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.messages import Phase, StationStatus, WorkStatus
from schemas.topics import ChannelTopic, LoopTopic, channel_topic, loop_topic, status_topic

Json = dict[str, Any]

_POWER = {"device_class": "power", "unit_of_measurement": "W", "state_class": "measurement"}
_ENERGY = {"device_class": "energy", "unit_of_measurement": "Wh", "state_class": "total_increasing"}
_CHANNEL_SENSORS: tuple[tuple[str, str, Json], ...] = (
    ("power_w", "power", _POWER),
    ("voltage_v", "voltage", {"device_class": "voltage", "unit_of_measurement": "V", "state_class": "measurement"}),
    ("current_a", "current", {"device_class": "current", "unit_of_measurement": "A", "state_class": "measurement"}),
    (
        "temperature_degc",
        "temperature",
        {"device_class": "temperature", "unit_of_measurement": "°C", "state_class": "measurement"},
    ),
)
_LOOP_SENSORS: tuple[tuple[str, str, Json], ...] = (
    ("total_power_w", "Total power", _POWER),
    ("load_power_w", "Load", _POWER),
    ("equalization_power_w", "Equalization", _POWER),
    ("unknown_power_w", "Unknown power", _POWER),
    ("shortfall_w", "Shortfall", _POWER),
    ("setpoint_changes", "Setpoint changes", {"state_class": "total_increasing"}),
    ("stations_online", "Stations online", {"state_class": "measurement"}),
    ("channels_stale", "Silent channels", {"state_class": "measurement"}),
)


@dataclass(frozen=True, slots=True)
class Site:
    """What is known of a loop and of Home Assistant's topics.

    `stations` are those whose retained status is there, `announced` the ids of the devices that are retained already,
    with their payloads.
    """

    loop: str
    prefix: str
    commands: bool
    version: str
    stations: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Station → its channels."""
    announced: dict[str, bytes] = field(default_factory=dict)


def config_filter(prefix: str) -> str:
    """Return the filter for all devices."""
    return f"{prefix}/device/+/config"


def forgotten(site: Site) -> Site:
    """Return the site before anything was heard."""
    return replace(site, stations={}, announced={})


def heard_status(site: Site, station: str, status: StationStatus | None) -> Site:
    """Take note of a station's status; None: it was removed, the station is retired."""
    stations = {name: channels for name, channels in site.stations.items() if name != station}
    if status is not None:
        stations[station] = status.channels
    return replace(site, stations=stations)


def heard_config(site: Site, topic: str, payload: bytes) -> Site:
    """Take note of a device that is retained, or was removed; those of others are not ours to know."""
    device = topic.removeprefix(f"{site.prefix}/device/").removesuffix("/config")
    if not _is_of(site.loop, device):
        return site
    announced = {name: text for name, text in site.announced.items() if name != device}
    if payload:
        announced[device] = payload
    return replace(site, announced=announced)


def due(site: Site) -> list[tuple[str, bytes]]:
    """Return what must be published, retained, so that Home Assistant has just the devices that there are.

    A device whose parts have changed is removed first: what it no longer has would stay otherwise.
    """
    wanted = {_device(site.loop): _loop_device(site)}
    for station, channels in site.stations.items():
        wanted[_device(site.loop, station)] = _station_device(site, station, channels)
    texts = {name: json.dumps(device, ensure_ascii=False, sort_keys=True).encode() for name, device in wanted.items()}
    messages = []
    for name, present in sorted(site.announced.items()):
        if texts.get(name) != present:
            messages.append((_config_topic(site, name), b""))
    messages += [
        (_config_topic(site, name), text) for name, text in sorted(texts.items()) if site.announced.get(name) != text
    ]
    return messages


def published(site: Site) -> Site:
    """Return the site once what was due has been published."""
    for topic, payload in due(site):
        site = heard_config(site, topic, payload)
    return site


def _device(loop: str, station: str | None = None) -> str:
    # Ids have letters, digits, "_" and "-" as names do; with "_" written "_u", "__" can only stand between names.
    names = ("zeroloop", loop) if station is None else ("zeroloop", loop, station)
    return "__".join(name.replace("_", "_u") for name in names)


def _is_of(loop: str, device: str) -> bool:
    return device == _device(loop) or device.startswith(f"{_device(loop)}__")


def _config_topic(site: Site, device: str) -> str:
    return f"{site.prefix}/device/{device}/config"


def _loop_device(site: Site) -> Json:
    name = _device(site.loop)
    balance, server = loop_topic(site.loop, LoopTopic.BALANCE), loop_topic(site.loop, LoopTopic.SERVER)
    parts: Json = {}
    for key, title, kind in _LOOP_SENSORS:
        parts[key] = _sensor(name, key, title, balance, f"value_json.{key}", **kind)
    for key, title in (("import_wh", "Imported"), ("export_wh", "Exported"), ("unbalanced_wh", "Without balancing")):
        parts[key] = _sensor(name, key, title, balance, f"value_json.energy.{key}", **_ENERGY)
    # It falls where balancing has just cost something.
    avoided = {**_ENERGY, "state_class": "total"}
    parts["avoided_wh"] = _sensor(name, "avoided_wh", "Avoided", balance, "value_json.energy.avoided_wh", **avoided)
    options = {"device_class": "enum", "options": [phase.value for phase in Phase]}
    parts["phase"] = _sensor(name, "phase", "Phase", balance, "value_json.phase", **options)
    if site.commands:
        for action, title in (("pause", "Pause"), ("resume", "Resume")):
            parts[action] = {
                "platform": "button",
                "unique_id": f"{name}-{action}",
                "name": title,
                "command_topic": loop_topic(site.loop, LoopTopic.COMMAND),
                "command_template": f'{{"id":"ha-{action}-{{{{ now().timestamp() }}}}","action":"{action}"}}',
                "qos": 1,
            }
    return _of(site, name, parts, title=f"Loop {site.loop}", model="Equalizer", availability=server)


def _station_device(site: Site, station: str, channels: tuple[str, ...]) -> Json:
    name = _device(site.loop, station)
    status = status_topic(site.loop, station)
    parts: Json = {}
    for channel in channels:
        topic = channel_topic(site.loop, station, channel, ChannelTopic.TELEMETRY)
        for key, title, kind in _CHANNEL_SENSORS:
            part = f"{channel}-{key}"
            parts[part] = _sensor(name, part, f"{channel} {title}", topic, f"value_json.{key}", **kind)
        charge = {"device_class": "battery", "unit_of_measurement": "%", "state_class": "measurement"}
        value = "(value_json.soc_ratio * 100) | round(1) if value_json.soc_ratio is number else None"
        parts[f"{channel}-soc"] = _sensor(name, f"{channel}-soc", f"{channel} charge", topic, value, **charge)
        options = {"device_class": "enum", "options": [status_.value for status_ in WorkStatus]}
        value = "value_json.work_status"
        parts[f"{channel}-status"] = _sensor(name, f"{channel}-status", f"{channel} status", topic, value, **options)
        parts[f"{channel}-alarm"] = _binary(
            name, f"{channel}-alarm", f"{channel} alarm", topic, member="alarm", kind="problem"
        )
        parts[f"{channel}-equalizing"] = _binary(
            name, f"{channel}-equalizing", f"{channel} equalizing", topic, member="equalization", kind="running"
        )
    device = _of(site, name, parts, title=f"Station {station}", model="Station", availability=status)
    device["device"]["via_device"] = _device(site.loop)
    return device


def _of(site: Site, name: str, parts: Json, *, title: str, model: str, availability: str) -> Json:
    return {
        "device": {
            "identifiers": [name],
            "name": title,
            "manufacturer": "zeroloop",
            "model": model,
            "sw_version": site.version,
        },
        "origin": {"name": "zeroloop", "sw_version": site.version},
        "availability": [
            {
                "topic": availability,
                "value_template": "{{ value_json.status }}",
                "payload_available": "online",
                "payload_not_available": "offline",
            }
        ],
        "components": parts,
    }


def _sensor(device: str, key: str, title: str, topic: str, value: str, **kind: Any) -> Json:  # noqa: ANN401 - any JSON
    return {
        "platform": "sensor",
        "unique_id": f"{device}-{key}",
        "name": title,
        "state_topic": topic,
        "value_template": f"{{{{ {value} }}}}",
        **kind,
    }


def _binary(device: str, key: str, title: str, topic: str, *, member: str, kind: str) -> Json:
    return {
        "platform": "binary_sensor",
        "unique_id": f"{device}-{key}",
        "name": title,
        "state_topic": topic,
        "value_template": f"{{{{ 'OFF' if value_json.{member} is none else 'ON' }}}}",
        "device_class": kind,
    }
