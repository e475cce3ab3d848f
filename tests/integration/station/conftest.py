"""A station on a real broker: equipment that obeys at once, and somebody who hears everything."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from broker.run import RunningBroker
from schemas.settings import BrokerSettings, parse
from station.config import StationSettings
from station.drivers.protocol import (
    ChannelHardware,
    ConstantCurrent,
    ConstantPower,
    Demand,
    Off,
    OwnProgram,
    Preview,
    Sample,
)
from station.service import StationService
from tests.patience import PATIENCE_S, settled
from transport.session import Session

ROOT = "zeroloop/v1/main"
VOLTAGE_V = 400.0


class ObedientDriver:
    """Batteries of 400 V that do at once what is asked."""

    def __init__(self) -> None:
        self.failures: dict[str, Exception] = {}
        """What the next exchanges of a channel raise."""
        self.demands: dict[str, list[tuple[float, Demand]]] = {}
        """Every change of demand, with its time."""
        self.connected = True
        self.is_open = False
        self.calls: list[str] = []
        """Openings and closings."""

    async def open(self, channels: Sequence[ChannelHardware]) -> None:
        self.demands = {channel.id: [] for channel in channels}
        self.is_open = True
        self.calls.append("open")

    async def close(self) -> None:
        self.is_open = False
        self.calls.append("close")

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample:
        if channel_id in self.failures:
            raise self.failures[channel_id]
        history = self.demands[channel_id]
        if not history or history[-1][1] != demand:
            history.append((now_s, demand))
        power_w = _power_w(demand)
        return Sample(
            voltage_v=VOLTAGE_V,
            current_a=power_w / VOLTAGE_V,
            power_w=power_w,
            battery_connected=self.connected,
            charge_limit_w=60000.0,
            discharge_limit_w=60000.0,
            soc_ratio=0.5,
        )

    def has_own_program(self, channel_id: str) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def preview(self, channel_id: str, horizon_s: float, now_s: float) -> Preview | None:  # noqa: ARG002 - the protocol's
        return None

    def clear_fault(self, channel_id: str, now_s: float) -> None:  # noqa: ARG002 - the protocol's
        self.failures.pop(channel_id, None)


def _power_w(demand: Demand) -> float:
    match demand:
        case ConstantPower(power_w):
            return power_w
        case ConstantCurrent(current_a):
            return current_a * VOLTAGE_V
        case Off() | OwnProgram():
            return 0.0


@dataclass(frozen=True)
class Heard:
    """One message."""

    topic: str
    payload: bytes
    retained: bool
    at_s: float

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.payload))


@dataclass
class Witness:
    """Somebody who hears everything in the loop, and may speak."""

    session: Session
    heard: list[Heard] = field(default_factory=list)

    def of(self, leaf: str, *, since: int = 0) -> list[Heard]:
        """Messages below the loop's root, by the end of their topic, in their order."""
        return [one for one in self.heard[since:] if one.topic.endswith(leaf)]

    def say(self, leaf: str, body: Mapping[str, Any] | bytes, *, qos: int = 1, retain: bool = False) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.session.publish(f"{ROOT}/{leaf}", payload, qos=qos, retain=retain)

    async def hear(
        self, leaf: str, matches: Callable[[dict[str, Any]], bool] = lambda _body: True, *, since: int = 0
    ) -> Heard:
        """Wait for a message."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            found = next((one for one in self.of(leaf, since=since) if one.payload and matches(one.body)), None)
            if found is not None:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"nothing heard on …/{leaf}; there were {sorted({one.topic for one in self.heard})}")


Listen = Callable[[], AbstractAsyncContextManager[Witness]]


@pytest.fixture
def place(broker: RunningBroker) -> BrokerSettings:
    """Where the broker is."""
    return BrokerSettings(host=broker.host, port=broker.port)


@pytest.fixture
def listen(place: BrokerSettings) -> Listen:
    """Hear everything that is said in the loop."""

    @asynccontextmanager
    async def listening() -> AsyncIterator[Witness]:
        heard: list[Heard] = []
        session = Session(
            place,
            client_id=f"witness-{time.monotonic_ns()}",
            on_message=lambda topic, payload, retained: heard.append(Heard(topic, payload, retained, time.monotonic())),
            on_connected=lambda: session.subscribe((f"{ROOT}/#", 1)),
            on_disconnected=lambda _reason: None,
            clock=time.monotonic,
        )
        task = asyncio.create_task(session.run(), name="witness")
        await settled(session)
        try:
            yield Witness(session, heard)
        finally:
            await session.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return listening


@dataclass
class Running:
    """A station at work."""

    service: StationService
    driver: ObedientDriver
    stop: asyncio.Event
    task: "asyncio.Task[None]"

    async def end(self) -> None:
        """Stop it, as SIGTERM does."""
        self.stop.set()
        await self.task


StartStation = Callable[..., AbstractAsyncContextManager[Running]]

ANNOUNCEMENT = {
    "server": "hall-a",
    "status": "online",
    "epoch": 7,
    "phase": "balancing",
    "version": "1",
    "started_unix_time_s": 0.0,
    "telemetry_period_s": 1.0,
    "control": {"policy": "confirm", "delay_s": 15.0},
    "setpoint": {"ttl_s": 30.0, "refresh_s": 5.0},
}
"""What a server says of itself."""

CHANNEL = """
[[channel]]
id = "{id}"
charge_limit_w = 60000.0
discharge_limit_w = 60000.0
ramp_w_per_s = {ramp_w_per_s}
{more}
"""


@pytest.fixture
def start_station(place: BrokerSettings, tmp_path: Path) -> StartStation:
    """Start a station with channels 1 to n; it ends with the block."""

    @asynccontextmanager
    async def started(
        *,
        channels: int = 1,
        more: str = "",
        tables: str = "[telemetry]\nperiod_s = 0.2",
        ramp_w_per_s: float = 600000.0,
        boot_id: str | None = None,
        driver: ObedientDriver | None = None,
        folder: str = ".",
    ) -> AsyncIterator[Running]:
        text = f'[station]\nid = "s1"\nloop = "main"\nstate_dir = "state"\n[broker]\nport = {place.port}\n{tables}\n'
        text += "".join(CHANNEL.format(id=n, more=more, ramp_w_per_s=ramp_w_per_s) for n in range(1, channels + 1))
        equipment = driver if driver is not None else ObedientDriver()
        service = StationService(
            parse(StationSettings, text, source="test", environment={}),
            base_dir=tmp_path / folder,
            driver=equipment,
            clock=time.monotonic,
            utc=time.time,
            version="1.0.0",
            boot_id=boot_id,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(service.run(stop), name="station")
        try:
            yield Running(service, equipment, stop, task)
        finally:
            stop.set()
            await asyncio.gather(task, return_exceptions=True)

    return started


@pytest.fixture
def promtool() -> Callable[[str], str]:
    """Return what `promtool check metrics` has to say."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool (Debian: apt install prometheus)")

    def check(text: str) -> str:
        done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return check
