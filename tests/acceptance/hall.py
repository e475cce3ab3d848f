"""A hall of real processes on a real broker, watched through MQTT alone: what an integrator would see."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from broker.run import RunningBroker
from schemas import codec, topics
from schemas.messages import (
    ChannelPlan,
    ChannelTelemetry,
    Event,
    LoopBalance,
    Message,
    Reply,
    ServerAnnouncement,
    Setpoint,
    StationStatus,
)
from schemas.settings import BrokerSettings
from schemas.topics import ChannelAddress, ChannelTopic, LoopAddress, LoopTopic, StatusAddress
from tests.patience import PATIENCE_S, until
from tests.ports import free_port
from tests.processes import end
from transport.session import Session

M = TypeVar("M", bound=Message)

MODELS: dict[object, type[Message]] = {
    LoopTopic.SERVER: ServerAnnouncement,
    LoopTopic.BALANCE: LoopBalance,
    LoopTopic.EVENT: Event,
    LoopTopic.REPLY: Reply,
    ChannelTopic.TELEMETRY: ChannelTelemetry,
    ChannelTopic.PLAN: ChannelPlan,
    ChannelTopic.SETPOINT: Setpoint,
    ChannelTopic.REPLY: Reply,
}

EQUALIZER = """
[loop]
name = "main"
[broker]
host = "{host}"
port = {port}
[control]
policy = "{policy}"
delay_s = {delay_s}
engage_w = 500.0
release_w = 200.0
freeze_w = {freeze_w}
[telemetry]
period_s = {period_s}
[setpoint]
ttl_s = {ttl_s}
refresh_s = 0.5
[metrics]
port = {metrics_port}
[discovery]
advertise = false
[state]
dir = "state-equalizer"
"""

STATION = """
[station]
id = "{id}"
{loop}
state_dir = "state-{id}"
on_lost = "{on_lost}"
{broker}
[telemetry]
period_s = {period_s}
[driver]
type = "simulated"
"""

BATTERY = "{ capacity_ah = 150.0, series = 96, parallel = 1, soc_ratio = 0.5, connected = true }"


def channel(
    name: str,
    program: str = "",
    *,
    equalize: bool = False,
    autostart: bool = True,
    limit_w: float = 60000.0,
    battery: str = BATTERY,
) -> str:
    """Return a channel's table for station.toml."""
    return f"""
[[channel]]
id = "{name}"
charge_limit_w = {limit_w}
discharge_limit_w = {limit_w}
ramp_w_per_s = 60000.0
battery = {battery}
equalize = {str(equalize).lower()}
autostart = {str(autostart).lower()}
program = [{program}]
"""


def power(power_w: float, time_s: float) -> str:
    """Return a constant power step: positive charges."""
    step = "cp_chg" if power_w > 0 else "cp_dchg"
    return f'{{ step = "{step}", power_w = {abs(power_w)}, until = {{ time_s = {time_s} }} }}'


def rest(time_s: float) -> str:
    """Return a rest."""
    return f'{{ step = "rest", until = {{ time_s = {time_s} }} }}'


@dataclass
class Seen:
    """A message and when it came (monotonic)."""

    at_s: float
    message: Message
    retained: bool


@dataclass
class Watcher:
    """Any MQTT client: keeps all that it hears."""

    heard: dict[str, list[Seen]] = field(default_factory=dict)
    undecodable: list[str] = field(default_factory=list)

    def on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        match topics.parse(topic):
            case StatusAddress():
                model: type[Message] | None = StationStatus
            case LoopAddress(_, leaf) | ChannelAddress(_, _, _, leaf):
                model = MODELS.get(leaf)
            case _:
                model = None
        if model is None or not payload:
            return
        try:
            message = codec.decode(model, payload)
        except codec.MalformedError as error:
            self.undecodable.append(f"{topic}: {error}")
            return
        self.heard.setdefault(topic, []).append(Seen(time.monotonic(), message, retained))

    def all(self, model: type[M], topic: str) -> list[M]:
        return [seen.message for seen in self.heard.get(topic, []) if isinstance(seen.message, model)]

    def last(self, model: type[M], topic: str) -> M | None:
        messages = self.all(model, topic)
        return messages[-1] if messages else None


class Hall:
    """The processes of one experiment, and what is said on its loop."""

    def __init__(self, folder: Path, broker: RunningBroker) -> None:
        self.folder = folder
        self.broker = broker
        self.watcher = Watcher()
        self.settings = BrokerSettings(port=broker.port, protocol=broker.protocol)
        self.metrics_port = free_port()
        self.session = Session(
            self.settings,
            client_id="watcher",
            on_message=self.watcher.on_message,
            on_connected=lambda: self.session.subscribe((f"{topics.ROOT}/#", 1)),
            clock=time.monotonic,
        )
        self.processes: list[subprocess.Popen[bytes]] = []
        self.period_s = 0.2

    def spawn(
        self, *words: str, name: str, environment: dict[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "zeroloop", *words],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
            )
        self.processes.append(process)
        return process

    def equalizer(
        self,
        *,
        policy: str = "confirm",
        delay_s: float = 1.5,
        freeze_w: float = 1e6,
        ttl_s: float = 4.0,
        name: str = "equalizer",
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        text = EQUALIZER.format(
            host="127.0.0.1",
            port=self.broker.port,
            policy=policy,
            delay_s=delay_s,
            freeze_w=freeze_w,
            ttl_s=ttl_s,
            period_s=self.period_s,
            metrics_port=self.metrics_port,
        )
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return self.spawn("equalizer", "--config", str(path), name=name, environment=environment)

    def station(
        self,
        name: str,
        channels: Sequence[str],
        *,
        configured: bool = True,
        on_lost: str = "zero",
        loop: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        broker = f'[broker]\nhost = "127.0.0.1"\nport = {self.broker.port}\n' if configured else ""
        named = "" if loop is None else f'loop = "{loop}"'
        text = STATION.format(id=name, loop=named, broker=broker, period_s=self.period_s, on_lost=on_lost) + "".join(
            channels
        )
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return self.spawn("station", "--config", str(path), name=name, environment=environment)

    async def command(self, *words: str) -> tuple[int, str]:
        """Run a command line to its end and return its exit code and what it said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "zeroloop",
            *words,
            "--host",
            "127.0.0.1",
            "--loop",
            "main",
            "--port",
            str(self.broker.port),
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 2 * PATIENCE_S)
        return process.returncode or 0, output.decode()

    def publish(self, topic: str, message: Message, *, qos: int = 1, retain: bool = False) -> None:
        self.session.publish(topic, codec.encode(message), qos=qos, retain=retain)

    # What is heard, by name.

    def telemetry(self, station: str, name: str) -> ChannelTelemetry | None:
        return self.watcher.last(ChannelTelemetry, topics.channel_topic("main", station, name, ChannelTopic.TELEMETRY))

    def telemetries(self, station: str, name: str) -> list[ChannelTelemetry]:
        return self.watcher.all(ChannelTelemetry, topics.channel_topic("main", station, name, ChannelTopic.TELEMETRY))

    def status(self, station: str) -> StationStatus | None:
        return self.watcher.last(StationStatus, topics.status_topic("main", station))

    def setpoints(self, station: str, name: str) -> list[Seen]:
        return self.watcher.heard.get(topics.channel_topic("main", station, name, ChannelTopic.SETPOINT), [])

    @property
    def balance(self) -> LoopBalance | None:
        return self.watcher.last(LoopBalance, topics.loop_topic("main", LoopTopic.BALANCE))

    @property
    def announcement(self) -> ServerAnnouncement | None:
        return self.watcher.last(ServerAnnouncement, topics.loop_topic("main", LoopTopic.SERVER))

    def events(self) -> list[Event]:
        return self.watcher.all(Event, topics.loop_topic("main", LoopTopic.EVENT))

    def power_w(self, station: str, name: str) -> float:
        telemetry = self.telemetry(station, name)
        return float("nan") if telemetry is None else telemetry.power_w

    def total_w(self) -> float:
        return float("nan") if self.balance is None else self.balance.total_power_w

    async def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S, *, what: str = "") -> None:
        """Wait until a condition holds; fail with what the processes said."""
        try:
            await until(condition, timeout_s, what=what)
        except AssertionError as error:
            pytest.fail(f"{error}\n{self.story()}")

    async def always(self, condition: Callable[[], object], seconds: float, *, what: str = "") -> None:
        """Fail as soon as a condition does not hold during the time."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if not condition():
                pytest.fail(f"no longer: {what or condition}\n{self.story()}")
            await asyncio.sleep(0.05)

    def story(self) -> str:
        logs = "".join(f"── {path.name}\n{path.read_text()[-1500:]}\n" for path in sorted(self.folder.glob("*.log")))
        return f"{self.balance}\n{logs}"

    def end(self) -> None:
        end(self.processes)


class Foreign:
    """Somebody else's station, written from the contract alone: publishes one load channel without any plan."""

    def __init__(self, hall: Hall, name: str = "foreign") -> None:
        self.hall = hall
        self.name = name
        self.power_w = 0.0
        self.seq = 0
        self.task = asyncio.create_task(self.publish(), name=name)

    async def publish(self) -> None:
        """Say every period what the load does."""
        self.say_status("online")
        while True:
            self.say_power()
            await asyncio.sleep(self.hall.period_s)

    def set_power(self, power_w: float) -> float:
        """Change the load's power at once; return when."""
        self.power_w = power_w
        self.say_power()
        return time.monotonic()

    def say_status(self, status: str) -> None:
        payload = {
            "status": status,
            "boot_id": "b1",
            "version": "x",
            "driver": "x",
            "channels": ["1"],
            "on_lost": "zero",
            "unix_time_s": 0.0,
        }
        topic = topics.status_topic("main", self.name)
        self.hall.session.publish(topic, json.dumps(payload).encode(), qos=1, retain=True)

    def say_power(self) -> None:
        self.seq += 1
        payload = {
            "boot_id": "b1",
            "seq": self.seq,
            "unix_time_s": 0.0,
            "work_status": "working",
            "step_type": "cp_chg",
            "step_id": 1,
            "cycle_count": 1,
            "voltage_v": 400.0,
            "current_a": self.power_w / 400.0,
            "power_w": self.power_w,
            "battery_connected": True,
        }
        topic = topics.channel_topic("main", self.name, "1", ChannelTopic.TELEMETRY)
        self.hall.session.publish(topic, json.dumps(payload).encode(), retain=True)
