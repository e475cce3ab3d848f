"""Who takes part: a broker, fake stations that speak the contract by hand, an observer, an equalizer."""

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equalizer.config import EqualizerSettings
from equalizer.service import EqualizerService
from schemas.settings import BrokerSettings, parse
from tests.patience import PATIENCE_S, settled
from tests.ports import free_port
from transport.session import Session, Will

PERIOD_S = 0.2
ROOT = "zeroloop/v1/main"


class Mosquitto:
    """A real broker on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
            "max_queued_messages 0\npersistence false\nlog_type none\n"
        )
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(["mosquitto", "-c", str(self._configuration)], stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError("mosquitto does not listen")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class FakeChannel:
    """A channel that does what it is told at once."""

    power_w: float = 0.0
    equalizing: bool = False
    limit_w: float = 60_000.0
    last: dict[str, Any] | None = None
    reject: str | None = None
    setpoints: list[dict[str, Any]] = field(default_factory=list)
    seq: int = 0


class FakeStation:
    """Speaks the contract by hand, independent of the project's own station."""

    def __init__(self, port: int, name: str, channels: dict[str, FakeChannel], *, on_lost: str = "continue") -> None:
        self.name = name
        self.channels = channels
        self.boot_id = f"boot-{name}-{time.monotonic_ns()}"
        self.on_lost = on_lost
        self.mute = False
        self.echoing = True
        self._status = f"{ROOT}/station/{name}/status"
        self.session = Session(
            BrokerSettings(port=port),
            client_id=f"station-{name}",
            on_message=self._take,
            on_connected=self._connected,
            will=Will(self._status, self._status_payload("offline")),
            clock=time.monotonic,
        )

    def _status_payload(self, status: str) -> bytes:
        return json.dumps(
            {
                "status": status,
                "boot_id": self.boot_id,
                "version": "1",
                "driver": "fake",
                "channels": list(self.channels),
                "on_lost": self.on_lost,
                "unix_time_s": time.time(),
            }
        ).encode()

    def topic(self, channel: str, leaf: str) -> str:
        return f"{ROOT}/station/{self.name}/channel/{channel}/{leaf}"

    def _connected(self) -> None:
        self.session.subscribe((self.topic("+", "setpoint"), 0))
        self.session.publish(self._status, self._status_payload("online"), qos=1, retain=True)

    def _take(self, topic: str, payload: bytes, _retained: bool) -> None:
        name = topic.split("/")[6]
        channel = self.channels[name]
        setpoint = json.loads(payload)
        channel.setpoints.append(setpoint)
        if not self.echoing:
            return
        if channel.reject is None:
            channel.power_w = setpoint["steps"][0]["power_w"]
        channel.last = {
            "server": setpoint["server"],
            "epoch": setpoint["epoch"],
            "seq": setpoint["seq"],
            "result": "applied" if channel.reject is None else "rejected",
            "reason": channel.reject,
            "expires_in_s": setpoint["ttl_s"],
        }
        self.publish(name)

    def telemetry(self, name: str) -> dict[str, Any]:
        channel = self.channels[name]
        channel.seq += 1
        equalization = None
        if channel.equalizing:
            equalization = {
                "charge_limit_w": channel.limit_w,
                "discharge_limit_w": channel.limit_w,
                "ramp_w_per_s": 60_000.0,
                "applied_w": channel.power_w,
                "last": channel.last,
            }
        return {
            "boot_id": self.boot_id,
            "seq": channel.seq,
            "unix_time_s": time.time(),
            "work_status": "working",
            "step_type": "sim" if channel.equalizing else "cc_chg",
            "step_id": 1,
            "cycle_count": 1,
            "voltage_v": 360.0,
            "current_a": channel.power_w / 360.0,
            "power_w": channel.power_w,
            "temperature_degc": 25.0,
            "soc_ratio": 0.5,
            "battery_connected": True,
            "equalization": equalization,
            "alarm": None,
        }

    def publish(self, name: str) -> None:
        payload = json.dumps(self.telemetry(name)).encode()
        self.session.publish(self.topic(name, "telemetry"), payload, retain=True)

    async def run(self) -> None:
        connection = asyncio.create_task(self.session.run())
        try:
            while True:
                if self.session.connected and not self.mute:
                    for name in self.channels:
                        self.publish(name)
                await asyncio.sleep(PERIOD_S)
        finally:
            connection.cancel()
            await asyncio.gather(connection, return_exceptions=True)
            await self.session.close()


class Observer:
    """Any other client: remembers everything that is said in the loop."""

    def __init__(self, port: int, *filters: str) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._filters = filters or (f"{ROOT}/#",)
        self.session = Session(
            BrokerSettings(port=port),
            client_id=f"observer-{time.monotonic_ns()}",
            on_message=self._take,
            on_connected=lambda: self.session.subscribe(*((name, 1) for name in self._filters)),
            clock=time.monotonic,
        )

    def _take(self, topic: str, payload: bytes, _retained: bool) -> None:
        try:
            message = json.loads(payload)
        except ValueError:
            return
        self.messages.append((topic, message))

    def said(self, leaf: str) -> list[dict[str, Any]]:
        return [message for topic, message in self.messages if topic == f"{ROOT}/{leaf}"]

    def say(self, leaf: str, message: dict[str, Any] | bytes, *, retain: bool = False, qos: int = 1) -> None:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.session.publish(f"{ROOT}/{leaf}", payload, qos=qos, retain=retain)

    @property
    def phase(self) -> str | None:
        said = self.said("server")
        return said[-1]["phase"] if said else None

    def events(self) -> list[str]:
        return [message["code"] for message in self.said("event")]


@asynccontextmanager
async def running(*actors: FakeStation | Observer) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(actor.run() if isinstance(actor, FakeStation) else actor.session.run()) for actor in actors
    ]
    for actor in actors:
        await settled(actor.session)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for actor in actors:
            await actor.session.close()


def settings(port: int, text: str = "", **overrides: str) -> EqualizerSettings:
    """Return settings that make an experiment short: dwell acts at once, telemetry comes five times a second."""
    values = {
        "ZEROLOOP_BROKER_PORT": str(port),
        "ZEROLOOP_CONTROL_POLICY": "dwell",
        "ZEROLOOP_CONTROL_DELAY_S": "0.5",
        "ZEROLOOP_TELEMETRY_PERIOD_S": str(PERIOD_S),
        "ZEROLOOP_SETPOINT_TTL_S": "3.0",
        "ZEROLOOP_SETPOINT_REFRESH_S": "0.5",
        "ZEROLOOP_METRICS_PORT": "0",
        "ZEROLOOP_DISCOVERY_ADVERTISE": "false",
        **{f"ZEROLOOP_{key}".upper(): value for key, value in overrides.items()},
    }
    return parse(EqualizerSettings, text, source="test", environment=values)


class Running:
    """An equalizer in this process, with the handle that ends it."""

    def __init__(self, service: EqualizerService) -> None:
        self.service = service
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(service.run(self.stop))

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, PATIENCE_S)


@asynccontextmanager
async def equalizing(configuration: EqualizerSettings, folder: Path) -> AsyncIterator[Running]:
    service = EqualizerService(configuration, base_dir=folder, clock=time.monotonic, utc=time.time)
    equalizer = Running(service)
    try:
        yield equalizer
    finally:
        if not equalizer.task.done():
            await equalizer.end()
