"""The embedded default: the NATS server with its MQTT listener. What it lacks: docs/decisions/0004-broker.md."""

import json
from pathlib import Path

from schemas.codec import MAX_PAYLOAD_BYTES

TOPIC_HEADROOM_BYTES = 4096
"""The longest topic of the contract, and what MQTT and NATS put around a message."""


def config(host: str, port: int, websocket_port: int | None, data_dir: Path) -> str:
    """Return a configuration for the NATS server (JSON is a part of its language).

    MQTT keeps retained messages and sessions in JetStream, below `data_dir`. The NATS protocol's own listener cannot be
    switched off: it takes a port that the system chooses, on the loopback only.
    """
    settings: dict[str, object] = {
        "server_name": "zeroloop",
        "host": "127.0.0.1",
        "port": -1,
        "max_payload": MAX_PAYLOAD_BYTES + TOPIC_HEADROOM_BYTES,
        "jetstream": {"store_dir": str(data_dir)},
        "mqtt": {"host": host, "port": port},
    }
    if websocket_port is not None:
        settings["websocket"] = {"host": host, "port": websocket_port, "no_tls": True}
    return json.dumps(settings, indent=2) + "\n"
