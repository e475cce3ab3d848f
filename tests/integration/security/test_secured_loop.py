"""A whole loop behind TLS, each with its one file: stations, equalizer, operator; and the audit log that it leaves."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker import find_mosquitto
from schemas import topics
from schemas.messages import Event, LoopBalance, Severity
from schemas.settings import BrokerSettings
from schemas.topics import ChannelTopic, LoopTopic
from tests.acceptance.hall import EQUALIZER, STATION, Watcher, channel, power
from tests.authorities import Hall, make_hall
from tests.pages import fetched
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.processes import end
from transport.credentials import resolved
from transport.session import Session
from zeroloop.main import main

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="needs mosquitto (Debian: apt install mosquitto)"),
]


async def zeroloop(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command line to its end and return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "zeroloop",
        *words,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 2 * PATIENCE_S)
    return process.returncode or 0, output.decode()


class Secured:
    """The processes of one loop, each of which knows nothing but its one file."""

    def __init__(self, folder: Path, hall: Hall) -> None:
        self.folder = folder
        self.hall = hall
        self.metrics_port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.watcher = Watcher()
        self.session = Session(
            resolved(BrokerSettings(host="127.0.0.1", credentials_file=str(hall.file("page"))), folder),
            client_id="page",
            on_message=self.watcher.on_message,
            on_connected=lambda: self.session.subscribe((f"{topics.ROOT}/#", 1)),
            clock=time.monotonic,
        )

    def spawn(self, kind: str, name: str, text: str) -> "subprocess.Popen[bytes]":
        (self.folder / f"{name}.toml").write_text(text)
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "zeroloop", kind, "--config", f"{name}.toml"]
            self.processes.append(subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log))
        return self.processes[-1]

    def station(self, name: str, channels: str) -> None:
        """Start a station whose file was dropped into its state folder: its configuration says nothing of a broker."""
        state = self.folder / f"state-{name}"
        state.mkdir(exist_ok=True)
        (state / f"{name}.zeroloop").write_bytes(self.hall.file(name).read_bytes())
        (state / f"{name}.zeroloop").chmod(0o600)
        text = STATION.format(id=name, loop="", broker="", period_s=0.2, on_lost="zero")
        self.spawn("station", name, text + channels)

    def equalizer(self) -> "subprocess.Popen[bytes]":
        text = EQUALIZER.format(
            host="x",
            port=1,
            policy="confirm",
            delay_s=1.0,
            freeze_w=1e6,
            period_s=0.2,
            ttl_s=4.0,
            metrics_port=self.metrics_port,
        )
        own = f'credentials_file = "{self.hall.file("hall-a")}"\n'
        return self.spawn("equalizer", "equalizer", text.replace('host = "x"\nport = 1\n', own))

    @property
    def events(self) -> list[Event]:
        return self.watcher.all(Event, topics.loop_topic("main", LoopTopic.EVENT))

    @property
    def total_w(self) -> float:
        balance = self.watcher.last(LoopBalance, topics.loop_topic("main", LoopTopic.BALANCE))
        return float("nan") if balance is None else balance.total_power_w

    async def until(self, condition: Callable[[], object], what: str, timeout_s: float = 2 * PATIENCE_S) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                logs = "".join(f"── {path.name}\n{path.read_text()[-1500:]}" for path in self.folder.glob("*.log"))
                pytest.fail(f"not within {timeout_s:g} s: {what}\n{logs}")
            await asyncio.sleep(0.05)

    def end(self) -> None:
        end(self.processes)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    hall = make_hall(tmp_path / "credentials", free_port(), loop="main")
    hall.let_in("station", "load")
    hall.let_in("station", "battery", days=10.0)
    hall.let_in("equalizer", "hall-a")
    hall.let_in("operator", "anna")
    hall.let_in("dashboard", "page")
    with hall.start(tmp_path / "broker"):
        secured = Secured(tmp_path, hall)
        yield secured
        secured.end()


async def test_a_loop_whose_members_know_nothing_but_their_one_file_balances_obeys_and_writes_it_all_down(
    secured: Secured, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = secured.folder
    watching = asyncio.create_task(secured.session.run(), name="watching")
    try:
        await secured.until(lambda: secured.session.connected, "the page is connected")
        equalizer = secured.equalizer()
        secured.station("load", channel("1", power(12000.0, 600.0)))
        secured.station("battery", channel("1"))
        telemetry = topics.channel_topic("main", "battery", "1", ChannelTopic.TELEMETRY)
        await secured.until(lambda: telemetry in secured.watcher.heard, "the station is heard")
        anna = ("--config", str(secured.hall.file("anna")))
        code, said = await zeroloop(folder, "equalize", "battery", "1", *anna)
        assert code == 0, said
        await secured.until(lambda: abs(secured.total_w) < 500.0, "the loop is balanced")
        await secured.until(lambda: "certificate_expiry" in [event.code for event in secured.events], "a warning")
        expiring = [event for event in secured.events if event.code == "certificate_expiry"]
        assert [(event.source, event.severity) for event in expiring] == [("station/battery", Severity.WARNING)]
        assert "our certificate expires in 10.0 days" in expiring[0].text
        assert (await zeroloop(folder, "pause", *anna))[0] == 0
        await secured.until(lambda: secured.total_w > 11000.0, "paused")

        code, said = await zeroloop(folder, "pause", "--config", str(secured.hall.file("page")))
        assert code == 2
        assert "is for a dashboard, not for an operator" in said
        _, metrics = await fetched(secured.metrics_port, "/metrics")
        for certificate in ("own", "authority", "broker"):
            (line,) = [
                line
                for line in metrics.splitlines()
                if line.startswith("zeroloop_certificate_expiry_seconds") and f'"{certificate}"' in line
            ]
            assert float(line.rpartition(" ")[2]) > 800 * 86400
        equalizer.terminate()
        assert await asyncio.to_thread(equalizer.wait, PATIENCE_S) == 0
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await secured.session.close()

    written_down(secured, metrics, capsys)


def written_down(secured: Secured, metrics: str, capsys: pytest.CaptureFixture[str]) -> None:
    """See that everything is in the audit log, no secret anywhere, and that a line that is taken out is missed."""
    folder = secured.folder
    state = str(folder / "state-equalizer")
    capsys.readouterr()
    assert main(["audit", "verify", state]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["audit", "show", "--json", state]) == 0
    shown = capsys.readouterr().out
    entries = [json.loads(line) for line in shown.splitlines()]
    kinds = {entry["kind"] for entry in entries}
    assert {"server", "takeover", "setpoint", "result", "command", "channel_command", "channel_reply"} <= kinds
    (asked,) = [entry for entry in entries if entry["kind"] == "channel_command"]
    assert asked["who"].startswith("anna (")
    setpoint = next(entry for entry in entries if entry["kind"] == "setpoint")
    assert setpoint["who"] == "equalizer"
    assert setpoint["epoch"] >= 1
    assert set(setpoint["basis"]) == {"boot_id", "seq"}
    results = [entry for entry in entries if entry["kind"] == "result"]
    became = next(entry for entry in results if entry["setpoint_seq"] >= setpoint["setpoint_seq"])
    assert became["result"] in ("applied", "clamped")
    (command,) = [entry for entry in entries if entry["kind"] == "command"]
    assert (command["action"], command["result"]) == ("pause", "accepted")

    key = secured.hall.file("anna").read_text().partition("PRIVATE KEY-----\n")[2].partition("\n")[0]
    written = "".join(path.read_text() for path in folder.glob("*.log"))
    assert key not in written + shown + metrics

    log = folder / "state-equalizer" / "audit-main.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3] + lines[4:]))
    assert main(["audit", "verify", state]) == 1
    assert "entry 4 is missing" in capsys.readouterr().err
