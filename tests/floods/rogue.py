"""A client with valid credentials and bad manners: `python -m tests.floods.rogue KIND HOST PORT FILE NAME`.

It speaks MQTT by hand, as a client library would be the bottleneck, and goes on until it is killed.
"""

import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

_BLOCK_BYTES = 64 * 1024


def packet(kind: int, body: bytes, announced: int | None = None) -> bytes:
    """Return an MQTT packet; `announced`: the length that it claims to have."""
    length = len(body) if announced is None else announced
    head = bytearray([kind])
    while True:
        length, low = divmod(length, 128)
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def text(value: str) -> bytes:
    """Return a string as MQTT has it."""
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def connect(name: str) -> bytes:
    """Return a CONNECT of MQTT 3.1.1 with a clean session and without keep-alive."""
    return packet(0x10, text("MQTT") + bytes([4, 2, 0, 0]) + text(name))


def publish(topic: str, payload: bytes) -> bytes:
    """Return a PUBLISH at QoS 0."""
    return packet(0x30, text(topic) + payload)


def secured(host: str, port: int, file: Path) -> ssl.SSLSocket:
    """Return a connection that the broker has let in as far as TLS goes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(file)
    return context.wrap_socket(socket.create_connection((host, port), timeout=20.0))


def in_session(host: str, port: int, file: Path, name: str) -> ssl.SSLSocket:
    """Return a connection whose CONNECT was accepted."""
    link = secured(host, port, file)
    link.sendall(connect(name))
    answer = link.recv(4)
    if answer[:1] != b"\x20" or answer[-1] != 0:
        raise ConnectionRefusedError(answer.hex())
    return link


def _endlessly(block: bytes, host: str, port: int, file: Path, name: str) -> None:
    """Send a block again and again, as fast as it is taken; come back when thrown out."""
    block *= max(1, _BLOCK_BYTES // len(block))
    while True:
        try:
            link = in_session(host, port, file, f"rogue-{name}")
            link.settimeout(None)
            while True:
                link.sendall(block)
        except OSError:
            time.sleep(0.01)


def _own(name: str, payload: bytes, channels: int) -> bytes:
    station = f"zeroloop/v1/main/station/{name}/channel"
    return b"".join(publish(f"{station}/{number}/telemetry", payload) for number in range(channels))


def telemetry(name: str) -> bytes:
    """Valid telemetry of one channel, all the time."""
    message = (
        b'{"boot_id":"r","seq":1,"unix_time_s":0.0,"work_status":"working","step_type":"cp_chg","step_id":1,'
        b'"cycle_count":1,"voltage_v":400.0,"current_a":0.0,"power_w":0.0,"battery_connected":true}'
    )
    return _own(name, message, 8)


KINDS: dict[str, Callable[[str], bytes]] = {
    "telemetry": telemetry,
    "garbage": lambda name: _own(name, b"x", 64),
    "long": lambda name: _own(name, b"x" * 65_000, 8),
    "forbidden": lambda _name: publish("zeroloop/v1/main/server", b"{}") * 100,
}


def main(kind: str, host: str, port: str, file: str, name: str) -> None:
    """Misbehave until killed."""
    if kind == "connections":
        while True:
            try:
                in_session(host, int(port), Path(file), f"rogue-{name}").close()
            except OSError:
                time.sleep(0.01)
    _endlessly(KINDS[kind](name), host, int(port), Path(file), name)


if __name__ == "__main__":
    main(*sys.argv[1:])
