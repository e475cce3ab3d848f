"""Requirement 4, several computers: network namespaces with addresses of their own on a bridge, as in a LAN."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas import codec, topics
from schemas.messages import LoopBalance
from schemas.topics import LoopTopic
from tests.acceptance.hall import EQUALIZER, STATION, channel, power
from tests.patience import PATIENCE_S
from tests.processes import end

pytestmark = [pytest.mark.broker, pytest.mark.root, pytest.mark.timeout(400)]

SERVER, LOAD, BATTERY = "10.77.0.1", "10.77.0.2", "10.77.0.3"

BROKER = """
listener 1883 0.0.0.0
allow_anonymous true
max_queued_messages 0
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)


class Computers:
    """Hosts on a bridge, each with its own loopback and one address; processes run on one of them."""

    def __init__(self, folder: Path, addresses: list[str]) -> None:
        self.folder = folder
        self.tag = f"z{os.getpid()}"  # with what follows, no longer than the 15 letters of an interface
        self.hosts = {address: f"{self.tag}h{number}" for number, address in enumerate(addresses)}
        self.processes: list[subprocess.Popen[bytes]] = []
        # The bridge lives in a namespace of its own: nothing of it shows on the machine.
        self.lan = f"{self.tag}lan"
        ip("netns", "add", self.lan)
        ip("-n", self.lan, "link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
        ip("-n", self.lan, "link", "set", "lan", "up")
        for address, host in self.hosts.items():
            ip("netns", "add", host)
            ip("-n", host, "link", "set", "lo", "up")
            ip("-n", self.lan, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", host)
            ip("-n", self.lan, "link", "set", host, "master", "lan", "up")
            ip("-n", host, "addr", "add", f"{address}/24", "brd", "+", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up", "multicast", "on")
            ip("-n", host, "route", "add", "224.0.0.0/4", "dev", "eth0")

    def run(self, address: str, *words: str, name: str) -> subprocess.Popen[bytes]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.hosts[address], *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def zeroloop(self, address: str, name: str, kind: str, text: str) -> subprocess.Popen[bytes]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / f"{kind}.toml").write_text(text)
        return self.run(address, sys.executable, "-m", "zeroloop", kind, "--config", f"{kind}.toml", name=name)

    def balance(self) -> LoopBalance | None:
        """Ask for the retained balance, as anybody on the server's computer can."""
        topic = topics.loop_topic("main", LoopTopic.BALANCE)
        words = ["mosquitto_sub", "-h", SERVER, "-t", topic, "-C", "1", "-W", "2"]
        done = subprocess.run(
            ["ip", "netns", "exec", self.hosts[SERVER], *words], capture_output=True, timeout=60, check=False
        )
        return codec.decode(LoopBalance, done.stdout.strip()) if done.stdout.strip() else None

    def until(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                logs = "".join(f"── {log}\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*/log")))
                pytest.fail(f"not within {timeout_s:g} s: {what}\n{logs}")
            time.sleep(0.2)

    def end(self) -> None:
        end(reversed(self.processes))
        for namespace in [*self.hosts.values(), self.lan]:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def may_make_namespaces() -> str | None:
    if shutil.which("ip") is None or shutil.which("mosquitto_sub") is None:
        return "needs iproute2 and mosquitto-clients"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    probe = f"zprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], check=False, capture_output=True)
    if made.returncode != 0:
        return f"this machine makes no network namespaces: {made.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=False, capture_output=True)
    return None


@pytest.fixture
def computers(tmp_path: Path) -> Iterator[Computers]:
    why_not = may_make_namespaces()
    if why_not is not None:
        pytest.skip(why_not)
    computers = Computers(tmp_path, [SERVER, LOAD, BATTERY])
    yield computers
    computers.end()


def equalizer_toml(*, advertise: bool) -> str:
    text = EQUALIZER.format(
        host=SERVER, port=1883, policy="confirm", delay_s=1.5, freeze_w=1e6, ttl_s=4.0, period_s=0.2, metrics_port=9464
    )
    return text.replace("advertise = false", f"advertise = {str(advertise).lower()}")


def test_requirement_4_a_server_and_two_stations_on_three_computers_that_find_each_other(computers: Computers) -> None:
    (computers.folder / "broker").mkdir()
    (computers.folder / "broker" / "mosquitto.conf").write_text(BROKER)
    mosquitto = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    if mosquitto is None:
        pytest.skip("needs Mosquitto")
    computers.run(SERVER, mosquitto, "-c", "mosquitto.conf", name="broker")
    computers.zeroloop(SERVER, "equalizer", "equalizer", equalizer_toml(advertise=True))
    # No broker in their configuration, none on their own computer: only DNS-SD in the LAN can tell them.
    nothing = {"loop": "", "broker": "", "period_s": 0.2, "on_lost": "zero"}
    computers.zeroloop(
        LOAD, "load", "station", STATION.format(id="load", **nothing) + channel("1", power(18000.0, 600.0))
    )
    station = computers.zeroloop(
        BATTERY, "battery", "station", STATION.format(id="battery", **nothing) + channel("1", equalize=True)
    )

    def balanced() -> bool:
        balance = computers.balance()
        return (
            balance is not None
            and balance.stations_online == 2
            and balance.load_power_w > 17000.0
            and abs(balance.total_power_w) < 500.0
        )

    computers.until(balanced, 2 * PATIENCE_S, "the loop balanced over three computers")
    cached = json.loads((computers.folder / "battery" / "state-battery" / "connection.json").read_text())
    assert cached["host"] == SERVER

    # The cached connection is enough: the announcement is gone, and the station comes back.
    station.terminate()
    assert station.wait(PATIENCE_S) == 0
    (computers.folder / "equalizer" / "equalizer.toml").write_text(equalizer_toml(advertise=False))
    server = computers.processes[1]
    server.terminate()
    assert server.wait(PATIENCE_S) == 0
    computers.run(SERVER, sys.executable, "-m", "zeroloop", "equalizer", "--config", "equalizer.toml", name="equalizer")
    computers.run(BATTERY, sys.executable, "-m", "zeroloop", "station", "--config", "station.toml", name="battery")
    computers.until(balanced, 2 * PATIENCE_S, "the loop balanced again after a start from memory")
