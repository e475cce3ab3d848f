"""Plays the demo: broker, equalizer and four stations as processes of their own, a live view, a summary."""

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from broker import PortTakenError, RunningBroker, free_port, start
from schemas.settings import BrokerSettings
from station.connection import Connection, Source
from zeroloop import clocks, durations, extras
from zeroloop.demo.children import Child, end, spawn
from zeroloop.demo.summary import summarize
from zeroloop.hall import Hall, topics_below
from zeroloop.process import until_stopped
from zeroloop.watch import listening, show

LOOP = "demo"
STATIONS = ("equalization", "grading", "packs", "replay")
CONFIGURATIONS = Path(__file__).parent

_HOST = "127.0.0.1"
_MQTT_PORT = 1883
_METRICS_PORT = 9464
_PAGE_PORT = 8465
_LOOK_EVERY_S = 0.5

BrokerKind = Literal["auto", "mosquitto", "embedded"]


class ChildDiedError(Exception):
    """A process of the demo ended by itself; the text has its last log lines."""


@dataclass(slots=True)
class _Stage:
    """What runs."""

    broker: RunningBroker
    metrics_port: int
    folder: Path
    equalizer: Child
    page: Child | None = None
    page_url: str | None = None
    """None: the page is not installed."""
    stations: list[Child] = field(default_factory=list)

    def check(self) -> None:
        """Raise ChildDiedError where a process has ended by itself."""
        if not self.broker.running:
            raise ChildDiedError(f"the broker ended by itself; its last lines:\n{self.broker.log_tail()}")
        for child in (self.equalizer, *self.stations, *([] if self.page is None else [self.page])):
            if child.status is not None:
                raise ChildDiedError(child.obituary())

    def signpost(self) -> tuple[str, ...]:
        """Return where to look."""
        port = self.broker.port
        missing = f"not installed: {extras.how_to_install('dashboard')}"
        page = missing if self.page_url is None else self.page_url
        return (
            f"page     {page}",
            f"broker   {self.broker.kind}, MQTT {self.broker.protocol}, on {_HOST}:{port}",
            f"topics   mosquitto_sub -p {port} -v -t '{topics_below(LOOP)}'",
            f"metrics  http://{_HOST}:{self.metrics_port}/metrics",
            f"try      zeroloop watch --port {port}; zeroloop target --port {port} -5000; zeroloop pause --port {port}",
            f"logs     {self.folder}",
        )


def run_demo(seconds: float | None, state_dir: Path | None, kind: BrokerKind = "auto") -> int:
    """Play the demo and return its exit code: 0, or 1 where one of its processes ended by itself.

    Args:
        seconds: how long; None: until SIGINT or SIGTERM.
        state_dir: for logs and state; None: a temporary folder that is removed at the end.
        kind: which broker.

    Raises:
        ConfigurationError: no such time is possible.
        BrokerError: no broker could be started.
    """
    durations.check("--seconds", seconds)
    console = Console()
    died: list[str] = []

    async def play(stop: asyncio.Event) -> None:
        try:
            await _play(folder, kind, seconds, console, stop)
        except ChildDiedError as error:
            died.append(str(error))

    with _folder(state_dir) as folder:
        asyncio.run(until_stopped(play))
    for text in died:
        print(f"zeroloop: {text}", file=sys.stderr)  # noqa: T201 - a process's last lines are more than one
    return 1 if died else 0


@contextmanager
def _folder(state_dir: Path | None) -> Iterator[Path]:
    if state_dir is not None:
        state_dir.mkdir(parents=True, exist_ok=True)
        yield state_dir.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="zeroloop-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


async def _play(folder: Path, kind: BrokerKind, seconds: float | None, console: Console, stop: asyncio.Event) -> None:
    hall = Hall(LOOP)
    started_s = clocks.monotonic_s()
    async with _stage(folder, kind) as stage:
        broker = BrokerSettings(host=_HOST, port=stage.broker.port, protocol=stage.broker.protocol)
        for line in stage.signpost():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        over = asyncio.Event()
        title = "zeroloop demo"
        async with listening(Connection(broker, LOOP, Source.CONFIGURED, None), hall):
            view = asyncio.create_task(show(hall, console, over, title=title, notes=stage.signpost()), name="view")
            try:
                await _until_over(stage, stop, None if seconds is None else started_s + seconds)
            finally:
                over.set()
                await view
        elapsed_s = clocks.monotonic_s() - started_s
        console.print("Ending: every channel to 0 W …", markup=False, highlight=False)
    for line in summarize(hall, elapsed_s):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


async def _until_over(stage: _Stage, stop: asyncio.Event, until_s: float | None) -> None:
    """Wait for the end, and look after the processes meanwhile."""
    while not stop.is_set():
        stage.check()
        left_s = _LOOK_EVERY_S if until_s is None else until_s - clocks.monotonic_s()
        if left_s <= 0.0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left_s, _LOOK_EVERY_S)):
                await stop.wait()


@asynccontextmanager
async def _stage(folder: Path, kind: BrokerKind) -> AsyncIterator[_Stage]:
    """Start everything, and end it in the order that leaves nothing delivering: equalizer, stations, broker."""
    with _usual_ports() as usual, _broker(folder / "broker", kind, _MQTT_PORT if usual else 0) as broker:
        metrics_port = free_port(_HOST, _METRICS_PORT if usual else 0)
        page_port = free_port(_HOST, _PAGE_PORT if usual else 0) if extras.has("dashboard") else None
        page_url = None if page_port is None else f"http://{_HOST}:{page_port}/"
        equalizer = _equalizer(folder, broker, metrics_port, page_url)
        stage = _Stage(broker, metrics_port, folder, equalizer, page_url=page_url)
        try:
            if page_port is not None:
                stage.page = _page(folder, broker, page_port)
            stage.stations.extend(_station(name, folder, broker) for name in STATIONS)
            yield stage
        finally:
            end([stage.equalizer])
            end([*stage.stations, *([] if stage.page is None else [stage.page])])


@contextmanager
def _usual_ports() -> Iterator[bool]:
    """Yield whether the usual ports are for this demo: of two that start at once, both would find them free."""
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            if sys.platform == "linux":
                claim.bind("\0zeroloop-demo")  # no file: it ends with this process, and is the network namespace's
        except OSError:
            yield False
            return
        yield True


def _broker(folder: Path, kind: BrokerKind, port: int) -> RunningBroker:
    """Start it on the usual port; where that is taken, if only a moment after it was free, on any."""
    try:
        return start(kind, host=_HOST, port=free_port(_HOST, port), data_dir=folder)
    except PortTakenError:
        return start(kind, host=_HOST, port=free_port(_HOST, 0), data_dir=folder)


def _equalizer(folder: Path, broker: RunningBroker, metrics_port: int, page_url: str | None) -> Child:
    own = {"ZEROLOOP_METRICS_PORT": str(metrics_port), "ZEROLOOP_STATE_DIR": str(folder / "equalizer-state")}
    if page_url is not None:
        own["ZEROLOOP_DASHBOARD_URL"] = page_url
    arguments = ("equalizer", "--config", str(CONFIGURATIONS / "equalizer.toml"))
    return spawn("equalizer", arguments, folder, _reach(broker) | own)


def _page(folder: Path, broker: RunningBroker, port: int) -> Child:
    own = {"ZEROLOOP_PAGE_PORT": str(port), "ZEROLOOP_STATE_DIR": str(folder / "page-state")}
    return spawn(
        "page", ("dashboard", "--config", str(CONFIGURATIONS / "dashboard.toml")), folder, _reach(broker) | own
    )


def _station(name: str, folder: Path, broker: RunningBroker) -> Child:
    own = {"ZEROLOOP_STATION_STATE_DIR": str(folder / f"{name}-state")}
    arguments = ("station", "--config", str(CONFIGURATIONS / f"{name}.toml"))
    return spawn(name, arguments, folder, _reach(broker) | own)


def _reach(broker: RunningBroker) -> dict[str, str]:
    return {
        "ZEROLOOP_BROKER_HOST": broker.host,
        "ZEROLOOP_BROKER_PORT": str(broker.port),
        "ZEROLOOP_BROKER_PROTOCOL": broker.protocol,
    }
