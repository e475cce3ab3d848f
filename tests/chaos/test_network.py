"""The network."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import pytest

from schemas import codec, topics
from schemas.messages import ChannelTelemetry
from schemas.topics import ChannelTopic
from tests.acceptance.test_computers import may_make_namespaces
from tests.chaos.arena import TELEMETRY, Arena, Pace
from tests.chaos.conftest import pace
from tests.chaos.registry import Measured, fault
from tests.conftest import needs

pytestmark = [pytest.mark.broker, pytest.mark.root, pytest.mark.timeout(400)]

SERVER, BATTERY, MOVED = "10.79.0.1", "10.79.0.2", "10.79.0.3"

BROKER = """
listener 1883 0.0.0.0
listener 0 {folder}/broker.sock
allow_anonymous true
max_queued_messages 0
user root
"""


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=60)


class Lan(Arena):
    """Two computers on a switch, each in a namespace of its own: the server's with the broker, and the battery's.

    What the test itself says and hears goes through a socket of the broker's in the file system.
    """

    def __init__(self, folder: Path, port: int, pace: Pace) -> None:
        super().__init__(folder, SimpleNamespace(port=port, protocol="5"), pace)
        self.tag = f"z{os.getpid()}"
        self.namespaces: list[str] = []
        self.switch = self._namespace("w")
        run("ip", "-n", self.switch, "link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
        run("ip", "-n", self.switch, "link", "set", "lan", "up")
        self.server = self.computer("s", SERVER, "server")
        self.battery = self.computer("b", BATTERY, "battery")
        self.on(self.switch, "nft", "add", "table", "bridge", "cut")
        self.on(self.switch, "nft", "add chain bridge cut forward { type filter hook forward priority 0; }")
        (folder / "lan.conf").write_text(BROKER.format(folder=folder))

    def _namespace(self, letter: str) -> str:
        name = f"{self.tag}{letter}"
        run("ip", "netns", "add", name)
        self.namespaces.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def computer(self, letter: str, address: str, port: str) -> str:
        """Connect one more computer to a port of the switch; return its namespace."""
        host = self._namespace(letter)
        run("ip", "-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
        run("ip", "-n", self.switch, "link", "set", port, "master", "lan", "up")
        run("ip", "-n", host, "addr", "add", f"{address}/24", "brd", "+", "dev", "eth0")
        run("ip", "-n", host, "link", "set", "eth0", "up", "multicast", "on")
        run("ip", "-n", host, "route", "add", "224.0.0.0/4", "dev", "eth0")
        return host

    @staticmethod
    def on(computer: str, *words: str) -> None:
        """Run a command on a computer."""
        run("ip", "netns", "exec", computer, *words)

    def start_broker(self, computer: str | None = None) -> Popen[bytes]:
        """Start Mosquitto, on the server's computer unless another is named."""
        mosquitto = needs("mosquitto", "mosquitto")
        (self.folder / "broker.sock").unlink(missing_ok=True)
        where = self.server if computer is None else computer
        words = ["ip", "netns", "exec", where, mosquitto, "-c", str(self.folder / "lan.conf")]
        with (self.folder / "mosquitto.log").open("ab") as log:
            process = Popen(words, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def lead(self, name: str = "equalizer", **other: Any) -> Popen[bytes]:  # noqa: ANN401 - the arena's
        place = {"host": "127.0.0.1", "port": 1883, "prefix": ("ip", "netns", "exec", self.server)}
        return super().lead(name, **{**place, **other})

    def equalize(self, name: str = "eq", channels: tuple[str, ...] = ("1",), **other: Any) -> Popen[bytes]:  # noqa: ANN401 - the arena's
        place = {"host": SERVER, "port": 1883, "prefix": ("ip", "netns", "exec", self.battery)}
        return super().equalize(name, channels, **{**place, **other})

    def cut(self, *sides: str) -> float:
        """Drop what the switch gets from the battery's computer (`iifname`), or what it has for it (`oifname`)."""
        for side in sides:
            self.on(self.switch, "nft", "add", "rule", "bridge", "cut", "forward", side, "battery", "drop")
        return time.monotonic()

    def heal(self) -> float:
        """Let everything through again."""
        self.on(self.switch, "nft", "flush", "table", "bridge", "cut")
        return time.monotonic()

    async def close(self) -> None:
        await super().close()
        for name in self.namespaces:
            await asyncio.to_thread(subprocess.run, ["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
async def lan(tmp_path: Path) -> AsyncIterator[Lan]:
    why_not = may_make_namespaces()
    if why_not is None and (shutil.which("nft") is None or shutil.which("tc") is None):
        why_not = "needs nftables and iproute2"
    if why_not is not None:
        pytest.skip(why_not)
    tasks: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(tmp_path / "broker.sock")
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, inner_writer), (inner_reader, writer)):
            task = asyncio.create_task(pump(source, sink), name="forward")
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    lan = Lan(tmp_path, server.sockets[0].getsockname()[1], pace())
    lan.start_broker()
    watching = asyncio.create_task(lan.watch(), name="watcher")
    await lan.until(lambda: lan.session.connected)
    yield lan
    await lan.close()
    server.close()
    for task in (watching, *tasks):
        task.cancel()
    await asyncio.gather(watching, *tasks, return_exceptions=True)
    lan.check_equipment()


SILENCE = (
    "Nobody is told, but telemetry or echoes stay away: the channel's power counts as unknown after 3 periods, its "
    "lease runs out and it ramps to 0 W by itself. Later both ends give the connection up (keep-alive)."
)


async def silenced(lan: Lan, *sides: str, told: bool) -> Measured:
    """Cut the cable until the channel is at 0 W, and for half a minute."""
    await lan.balanced()
    cut_s = lan.cut(*sides)
    zero_s = await lan.until_zero(cut_s)
    if told:
        await lan.until_told("telemetry_stale", "equalizer")
    await asyncio.sleep(max(0.0, cut_s + 1.5 * lan.pace.ttl_s - time.monotonic()))
    back_s = await lan.until_back(lan.heal())
    if told:
        await lan.until_told("telemetry_fresh", "equalizer")
    await lan.until_balanced()
    return {"0 W": zero_s, "back": back_s}


@fault("The network between station and broker is cut silently", SILENCE, {"0 W": 60.0, "back": 15.0})
async def test_a_cut_in_both_directions(lan: Lan) -> Measured:
    return await silenced(lan, "iifname", "oifname", told=True)


@fault("It is cut from the station to the broker only", SILENCE, {"0 W": 60.0, "back": 15.0}, quick=False)
async def test_a_cut_from_the_station(lan: Lan) -> Measured:
    return await silenced(lan, "iifname", told=True)


@fault("It is cut from the broker to the station only", SILENCE, {"0 W": 60.0, "back": 15.0}, quick=False)
async def test_a_cut_to_the_station(lan: Lan) -> Measured:
    return await silenced(lan, "oifname", told=False)


@fault(
    "A half-open connection: the broker has forgotten it, and the station does not know",
    "The first answer to what the station sends tells it; it connects again. Nothing is obeyed meanwhile.",
    {"back": 15.0},
    quick=False,
)
async def test_a_half_open_connection(lan: Lan) -> Measured:
    await lan.balanced()
    broker = lan.processes[0]
    lan.cut("iifname", "oifname")
    broker.kill()
    await asyncio.to_thread(broker.wait)
    lan.start_broker()
    await lan.until(lambda: lan.session.connected)
    lan.load.say_status("online")
    await asyncio.sleep(2.0)
    back_s = await lan.until_back(lan.heal())
    await lan.until_told("connection_back", "eq", "station/eq")
    await lan.until_balanced()
    return {"back": back_s}


@fault("The kernel ends the connection (`ss -K`)", "As a reset: connected again at once.", {"back": 15.0}, quick=False)
async def test_a_killed_socket(lan: Lan) -> Measured:
    await lan.balanced()
    killed_s = time.monotonic()
    lan.on(lan.battery, "ss", "-K", "dst", SERVER)
    await lan.until(lambda: "connection_lost" in lan.log("eq"), what="it is noticed")
    back_s = await lan.until_back(killed_s)
    await lan.until_told("connection_back", "eq", "station/eq")
    return {"back": back_s}


@fault(
    "A cable carries a third of what a station of 64 channels has to say (`tc tbf`)",
    "Of each channel the newest telemetry is sent and what was older is left out; no backlog is replayed when the link "
    "is well again. `age` is that of the oldest telemetry on arrival.",
    {"age": 10.0, "back": 15.0},
    quick=False,
)
async def test_a_starved_cable(lan: Lan) -> Measured:
    channels = tuple(str(number) for number in range(1, 65))
    lan.equalize(channels=channels)
    lan.lead()
    await lan.until(lambda: lan.is_back(float("-inf")), 30.0)
    whole = sum(len(codec.encode(lan.telemetry("eq", channel))) + len(TELEMETRY) for channel in channels)
    starved_s = time.monotonic()
    rate = f"{round(whole * 8.0 / lan.pace.period_s / 3.0)}bit"
    shape = ("qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "2000", "limit", "4000")
    lan.on(lan.battery, "tc", *shape)
    await asyncio.sleep(25.0 * lan.pace.period_s + 5.0)
    lan.on(lan.battery, "tc", "qdisc", "del", "dev", "eth0", "root")
    relieved_s = time.monotonic()
    await asyncio.sleep(5.0 * lan.pace.period_s)
    back_s = await lan.until_back(relieved_s)
    offset_s = time.time() - time.monotonic()
    oldest_s = 0.0
    for channel in channels:
        seen = lan.watcher.heard[topics.channel_topic("main", "eq", channel, ChannelTopic.TELEMETRY)]
        late = [one for one in seen if one.at_s > starved_s]
        seqs = [one.message.seq for one in late if isinstance(one.message, ChannelTelemetry)]
        assert seqs == sorted(seqs)
        assert seqs[-1] - seqs[0] > len(seqs) + 5, "the link was not starved"
        oldest_s = max(oldest_s, *(one.at_s + offset_s - one.message.unix_time_s for one in late))
    return {"age": oldest_s, "back": back_s}


@fault(
    "The broker moves to another computer, and a running station had found it by DNS-SD",
    "After 10 s without it the station looks again, as at its start, and remembers the new place. A configured broker "
    "it waits for.",
    {"back": 30.0},
    quick=False,
)
async def test_a_broker_that_moves(lan: Lan) -> Measured:
    first = lan.lead(host=SERVER, advertise=True)
    lan.equalize(broker=False)
    await lan.until(lambda: lan.is_back(float("-inf")), 40.0)
    first.kill()
    lan.processes[0].kill()
    moved = lan.computer("m", MOVED, "moved")
    lan.start_broker(moved)
    moved_s = time.monotonic()
    lan.lead(host=MOVED, advertise=True, prefix=("ip", "netns", "exec", moved))
    back_s = await lan.until_back(moved_s)
    cached = json.loads((lan.folder / "state-eq" / "connection.json").read_text())
    assert cached["host"] == MOVED
    await lan.until_told("connection_back", "eq", "station/eq")
    return {"back": back_s}
