"""Mosquitto's configurations: the shipped files, and one for a broker of our own."""

from pathlib import Path
from typing import NamedTuple

DATA_DIRECTORY = Path(__file__).with_name("data")
DEVELOPMENT_FILE = DATA_DIRECTORY / "development.conf"
PRODUCTION_FILE = DATA_DIRECTORY / "production.conf"

_SHIPPED_FOLDER = "/etc/zeroloop/broker/"
_SHIPPED_DATA = "/var/lib/zeroloop-broker/"
_SHIPPED_LISTENER = "listener 8883\n"

_WHERE = "# --- Where it listens and what it keeps"
"""The line of development.conf below which a broker of our own has its own lines."""


class Listener(NamedTuple):
    """Where clients connect."""

    host: str
    port: int


def config(host: str, port: int, websocket_port: int | None, data_dir: Path, *, as_root: bool) -> str:
    """Return the development configuration with other listeners, and with persistence in `data_dir`."""
    limits, mark, _ = DEVELOPMENT_FILE.read_text(encoding="utf-8").partition(_WHERE)
    lines = [
        mark,
        "allow_anonymous true",
        f"listener {port} {host}",
        *([] if websocket_port is None else [f"listener {websocket_port} {host}", "protocol websockets"]),
        "persistence true",
        f"persistence_location {data_dir}/",
        "autosave_interval 10",
        # Mosquitto started by root becomes the user `mosquitto`, who may not write here; and the kernel would forget
        # that it is to end with its parent.
        *(["user root"] if as_root else []),
    ]
    return limits + "\n".join(lines) + "\n"


def production(port: int, folder: str, data_folder: str) -> str:
    """Return the production configuration with another port, and with other folders for what it reads and keeps."""
    text = PRODUCTION_FILE.read_text(encoding="utf-8")
    for shipped, here in (
        (_SHIPPED_FOLDER, f"{folder.rstrip('/')}/"),
        (_SHIPPED_DATA, f"{data_folder.rstrip('/')}/"),
        (_SHIPPED_LISTENER, f"listener {port}\n"),
    ):
        text = text.replace(shipped, here)
    return text


def first_listener(text: str) -> Listener | None:
    """Return the first listener of a configuration that speaks MQTT itself (no WebSockets), or None."""
    listeners: list[Listener] = []
    websockets: list[int] = []
    for line in text.splitlines():
        match line.split():
            case ["listener", port, *host] if port.isdecimal():
                listeners.append(Listener(host[0] if host else "127.0.0.1", int(port)))
            case ["protocol", "websockets"] if listeners:
                websockets.append(len(listeners) - 1)
            case _:
                pass
    return next((listener for index, listener in enumerate(listeners) if index not in websockets), None)
