"""Real processes, started as a user would, on a broker and folders of the test's own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.run import RunningBroker
from tests.processes import end

STATION = """\
[station]
id = "s1"
on_lost = "zero"
[driver]
type = "simulated"
[[channel]]
id = "eq"
charge_limit_w = 30000.0
discharge_limit_w = 30000.0
ramp_w_per_s = 60000.0
battery = {{ capacity_ah = 200.0, series = 96 }}
[[channel]]
id = "load"
charge_limit_w = 30000.0
discharge_limit_w = 30000.0
ramp_w_per_s = 60000.0
battery = {{ capacity_ah = 200.0, series = 96 }}
program = [{{ step = "cp_chg", power_w = {load_w}, until = {{ time_s = 3600.0 }} }}]
[[channel]]
id = "empty"
charge_limit_w = 30000.0
discharge_limit_w = 30000.0
ramp_w_per_s = 60000.0
battery = {{ capacity_ah = 200.0, series = 96, connected = false }}
"""

EQUALIZER = """\
[control]
policy = "dwell"
delay_s = 1.0
[discovery]
advertise = false
[metrics]
port = 0
"""


@dataclass
class Shop:
    """A folder, a broker, and the processes that were started there."""

    folder: Path
    broker: RunningBroker
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("ZEROLOOP_")}
        return {
            **own,
            "XDG_STATE_HOME": str(self.folder / "home"),
            "ZEROLOOP_BROKER_HOST": self.broker.host,
            "ZEROLOOP_BROKER_PORT": str(self.broker.port),
            "ZEROLOOP_STATION_LOOP": "main",
        }

    def start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a command and let it run; its output goes to `NAME.log`."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "zeroloop", *arguments],
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def station(self, load_w: float = 12000.0) -> "subprocess.Popen[bytes]":
        (self.folder / "station.toml").write_text(STATION.format(load_w=load_w))
        return self.start("station", "station", "--config", "station.toml")

    def equalizer(self) -> "subprocess.Popen[bytes]":
        (self.folder / "equalizer.toml").write_text(EQUALIZER)
        return self.start("equalizer", "equalizer", "--config", "equalizer.toml")

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "zeroloop", *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120.0,
        )

    def says(
        self, condition: Callable[["subprocess.CompletedProcess[str]"], object], *arguments: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command again until the condition holds of it: what it looks for in few seconds may be late."""
        until_s = time.monotonic() + 90.0
        while not condition(done := self.run(*arguments)):
            assert time.monotonic() < until_s, done.stdout + done.stderr
        return done

    def shows(self, condition: Callable[[str], bool], within_s: float = 90.0) -> str:
        """Return what `watch --once` prints as soon as the condition holds of it."""
        until_s = time.monotonic() + within_s
        text = ""
        while time.monotonic() < until_s:
            text = self.run("watch", "--once").stdout
            if condition(text):
                return text
        logs = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in self.folder.glob("*.log"))
        pytest.fail(f"not seen within {within_s:g} s; last seen:\n{text}\n{logs}")

    def end(self) -> None:
        end(self.started)


@pytest.fixture
def shop(tmp_path: Path, broker: RunningBroker) -> Iterator[Shop]:
    shop = Shop(tmp_path, broker)
    yield shop
    shop.end()
