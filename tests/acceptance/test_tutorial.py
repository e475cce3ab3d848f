"""The tutorial does what it promises, with shorter times: its hall, and its two computers, by its own commands."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas import codec, topics
from schemas.messages import ChannelTelemetry, LoopBalance, Phase, SetpointResult
from schemas.topics import ChannelTopic, LoopTopic
from tests.acceptance.hall import Hall
from tests.acceptance.test_computers import LOAD, SERVER, Computers, computers, ip
from tests.patience import PATIENCE_S

__all__ = ["computers"]  # a fixture

DOCUMENT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()


@pytest.mark.broker
@pytest.mark.timeout(300)
async def test_the_tutorials_hall_is_balanced_stopped_and_left_alone(hall: Hall) -> None:
    match = re.search(r"<!-- s1.toml -->\n```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert match is not None
    (hall.folder / "s1.toml").write_text(match[1])
    equalizer = hall.equalizer()
    place = {"ZEROLOOP_BROKER_PORT": str(hall.broker.port), "ZEROLOOP_TELEMETRY_PERIOD_S": str(hall.period_s)}
    hall.spawn("station", "--config", "s1.toml", name="s1", environment=place)
    await hall.until(lambda: hall.power_w("s1", "1") > 7900.0, what="channel 1 charges with 8 kW")
    await hall.until(lambda: hall.total_w() > 7900.0)

    assert (await hall.command("equalize", "s1", "2"))[0] == 0
    await hall.until(lambda: abs(hall.total_w()) < 200.0, what="the grid sees about 0 W")
    assert (await hall.command("stop", "s1", "2"))[0] == 0
    await hall.until(lambda: hall.power_w("s1", "2") == 0.0, what="it was stopped")
    assert (await hall.command("equalize", "s1", "2"))[0] == 0
    await hall.until(lambda: abs(hall.total_w()) < 200.0, what="the grid sees about 0 W again")

    equalizer.send_signal(signal.SIGQUIT)  # Ctrl-\
    assert await asyncio.to_thread(equalizer.wait, PATIENCE_S) == -signal.SIGQUIT
    await hall.until(lambda: last_result(hall) is SetpointResult.EXPIRED and hall.power_w("s1", "2") == 0.0)
    hall.equalizer()
    await hall.until(lambda: hall.power_w("s1", "2") < -7000.0, what="it is led again")


def last_result(hall: Hall) -> SetpointResult | None:
    telemetry = hall.telemetry("s1", "2")
    if telemetry is None or telemetry.equalization is None or telemetry.equalization.last is None:
        return None
    return telemetry.equalization.last.result


# ── two computers ────────────────────────────────────────────────────────────────────────────────────────────────

SHORTER = {
    "ZEROLOOP_CONTROL_DELAY_S": "2",
    "ZEROLOOP_SETPOINT_TTL_S": "8",
    "ZEROLOOP_SETPOINT_REFRESH_S": "1",
    "ZEROLOOP_TELEMETRY_PERIOD_S": "0.5",
}
COMMANDS = re.findall(r"^\.venv/bin/zeroloop .*$", DOCUMENT, re.MULTILINE)


class Terminals:
    """The terminals of somebody who sits before the document and two computers."""

    def __init__(self, computers: Computers) -> None:
        self.computers = computers
        self.typed: set[str] = set()
        self.open: dict[str, subprocess.Popen[bytes]] = {}
        for computer in ("server", "second"):
            program = computers.folder / computer / ".venv" / "bin" / "zeroloop"
            program.parent.mkdir(parents=True)
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -m zeroloop "$@"\n')
            program.chmod(0o755)
        (computers.folder / "second" / "s1.toml").write_text(
            re.findall(r"<!-- s1.toml -->\n```toml\n(.*?)```", DOCUMENT, re.DOTALL)[0]
        )

    def type(self, computer: str, command: str) -> "subprocess.Popen[bytes]":
        """Type a command of the document; what it says goes to `command.log`."""
        (line,) = {line for line in COMMANDS if line.removeprefix(".venv/bin/zeroloop ").startswith(command)}
        self.typed.add(line)
        address = {"server": SERVER, "second": LOAD}[computer]
        folder = self.computers.folder / computer
        own = {key: value for key, value in os.environ.items() if not key.startswith("ZEROLOOP_")}
        with self._log(command).open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.computers.hosts[address], "sh", "-c", f"exec {line}"],
                cwd=folder,
                env={**own, **SHORTER, "XDG_STATE_HOME": str(folder / "home")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's keys reach all that runs in it
            )
        self.computers.processes.append(process)
        self.open[command] = process
        return process

    def press(self, command: str, key: signal.Signals) -> int:
        r"""Press Ctrl-C or Ctrl-\ where a command runs, and return how it ended."""
        os.killpg(self.open[command].pid, key)
        return self.open[command].wait(PATIENCE_S)

    def said(self, command: str) -> str:
        return self._log(command).read_text() if self._log(command).exists() else ""

    def reads(self, command: str, part: str, timeout_s: float = 2 * PATIENCE_S) -> None:
        self.computers.until(lambda: part in self.said(command), timeout_s, f"{command}: {part}")

    def done(self, computer: str, command: str) -> str:
        """Type a command that ends, and return what it says."""
        before = len(self.said(command))
        assert self.type(computer, command).wait(2 * PATIENCE_S) == 0, self.said(command)
        return self.said(command)[before:]

    def sees(self, what: str, condition: Callable[[LoopBalance], bool], timeout_s: float = 2 * PATIENCE_S) -> None:
        """Wait until a server says so; what the broker remembers of one that is gone does not count."""
        topic = topics.loop_topic("main", LoopTopic.BALANCE)
        words = ["mosquitto_sub", "-h", SERVER, "-t", topic, "-R", "-C", "1", "-W", "3"]
        on_server = ["ip", "netns", "exec", self.computers.hosts[SERVER], *words]

        def is_so() -> bool:
            said = subprocess.run(on_server, capture_output=True, timeout=60, check=False).stdout.strip()
            return bool(said) and condition(codec.decode(LoopBalance, said))

        self.computers.until(is_so, timeout_s, what)

    def channel_2(self) -> ChannelTelemetry:
        """Return what the broker remembers of it."""
        topic = topics.channel_topic("main", "s1", "2", ChannelTopic.TELEMETRY)
        words = ["mosquitto_sub", "-h", SERVER, "-t", topic, "-C", "1", "-W", "30"]
        on_server = ["ip", "netns", "exec", self.computers.hosts[SERVER], *words]
        done = subprocess.run(on_server, capture_output=True, timeout=60, check=True)
        return codec.decode(ChannelTelemetry, done.stdout.strip())

    def _log(self, command: str) -> Path:
        folder = self.computers.folder / command.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        return folder / "log"


def is_balanced(balance: LoopBalance) -> bool:
    at_work = abs(balance.load_power_w) > 5000.0 and abs(balance.total_power_w) < 500.0
    return at_work and balance.channels_stale == 0 and balance.phase is Phase.BALANCING


def is_alone(balance: LoopBalance) -> bool:
    return balance.equalization_power_w == 0.0 and abs(balance.total_power_w) > 5000.0


def balance_the_hall(at: Terminals) -> None:
    """Type parts 2 to 4."""
    # 2. A server
    at.type("server", "broker")
    at.reads("broker", "on 0.0.0.0:1883")
    at.type("server", "equalizer")
    at.reads("equalizer", "connected epoch=1")
    at.reads("equalizer", "dns_sd_announced")
    at.sees("nothing is there yet", lambda balance: balance.phase is Phase.STARTING and balance.channels == 0)
    assert any(SERVER in at.done("server", "discover") for _ in range(5))  # a loaded computer answers late
    # 3. A station
    at.type("second", "station")
    at.reads("station", "source=dns_sd")
    at.reads("station", "connection_cached")
    at.type("server", "watch")
    at.reads("watch", "channels 2 (0 stale)")
    at.sees("the load alone", is_alone)
    # 4. Balance it
    assert "equalization mode" in at.done("second", "equalize s1 2")
    at.sees("the grid at about 0 W", is_balanced)
    at.done("server", "stop s1 2")
    at.sees("the load alone again", is_alone)
    at.done("server", "equalize s1 2")
    at.sees("the grid at about 0 W again", is_balanced)


@pytest.mark.broker
@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorials_two_computers_by_its_own_commands(computers: Computers) -> None:
    at = Terminals(computers)
    balance_the_hall(at)
    # 5. Let things fail: the equalizer dies, and is stopped
    assert at.press("equalizer", signal.SIGQUIT) == -signal.SIGQUIT
    at.reads("station", "lease_expired")
    at.reads("watch", "server/equalizer is offline")
    at.type("server", "equalizer")
    at.sees("it is led again", is_balanced)
    assert at.press("equalizer", signal.SIGINT) == 0
    computers.until(lambda: at.channel_2().power_w == 0.0, PATIENCE_S, "channel 2 at 0 W")
    at.type("server", "equalizer")
    at.sees("it is led once more", is_balanced)
    # The network fails
    host = computers.hosts[LOAD]
    expired = at.said("station").count("lease_expired")
    ip("-n", computers.lan, "link", "set", host, "down")
    at.sees(
        "two channels are unknown", lambda balance: balance.channels_stale == 2 and balance.unknown_power_w > 5000.0
    )
    computers.until(
        lambda: at.said("station").count("lease_expired") > expired, 2 * PATIENCE_S, "0 W without anybody's help"
    )
    ip("-n", computers.lan, "link", "set", host, "up")
    at.sees("the network is back", is_balanced, 120.0)
    # The server's plug is pulled
    expired = at.said("station").count("lease_expired")
    for command in ("broker", "equalizer"):
        at.press(command, signal.SIGQUIT)
    computers.until(lambda: at.said("station").count("lease_expired") > expired, 2 * PATIENCE_S, "0 W, by itself")
    at.type("server", "broker")
    at.type("server", "equalizer")
    at.sees("the station has come back by itself", is_balanced, 120.0)
    # The station starts anew
    looked = at.said("station").count("source=dns_sd")
    assert at.press("station", signal.SIGINT) == 0
    at.type("second", "station")
    at.sees("channel 2 is in equalization mode as it was", is_balanced)
    assert at.said("station").count("source=dns_sd") == looked, "it did not have to look"
    # 6. End everything with Ctrl-C
    for command in ("watch", "station", "equalizer", "broker"):
        assert at.press(command, signal.SIGINT) in {0, 130}, at.said(command)
    assert at.typed == set(COMMANDS), "every command of the document was typed"
