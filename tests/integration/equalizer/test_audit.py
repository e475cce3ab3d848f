"""What the equalizer writes down at work, beside a real broker; and what it does where it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest

from equalizer.audit.chain import verify
from equalizer.audit.log import Paths
from tests.integration.equalizer.actors import (
    FakeChannel,
    FakeStation,
    Mosquitto,
    Observer,
    equalizing,
    running,
    settings,
)
from tests.patience import until
from zeroloop.main import main

pytestmark = pytest.mark.broker

LOAD_W = 20_000.0


def hall(port: int) -> tuple[FakeStation, FakeStation, Observer]:
    load = FakeStation(port, "load", {"1": FakeChannel(power_w=LOAD_W)})
    return load, FakeStation(port, "eq", {"1": FakeChannel(equalizing=True)}), Observer(port)


def written(folder: Path, kind: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in Paths(folder / "state", "main").lines()]
    return [entry for entry in entries if entry["kind"] == kind]


def faults(folder: Path) -> tuple[str, ...]:
    paths = Paths(folder / "state", "main")
    return verify(paths.lines(), [paths.claim()]).faults


async def test_a_takeover_is_in_the_logs_of_both_servers(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq, observer = hall(mosquitto.port)
    first = settings(mosquitto.port, loop_server="first")
    second = settings(mosquitto.port, loop_server="second")
    async with running(load, eq, observer), equalizing(first, tmp_path / "a"):
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        async with equalizing(second, tmp_path / "b"):
            await until(lambda: "server_conflict" in observer.events())
            await until(lambda: eq.channels["1"].setpoints[-1]["server"] == "second")
    for folder, who, epoch in (("a", "first", 1), ("b", "second", 2)):
        taken = written(tmp_path / folder, "takeover")[0]
        assert (taken["who"], taken["epoch"]) == (who, epoch)
    (conflict,) = [entry for entry in written(tmp_path / "a", "event") if entry["code"] == "server_conflict"]
    assert "second" in conflict["text"]
    for folder in ("a", "b"):
        assert faults(tmp_path / folder) == ()


async def test_a_refusal_is_written_with_its_reason(mosquitto: Mosquitto, tmp_path: Path) -> None:
    load, eq, observer = hall(mosquitto.port)
    eq.channels["1"].reject = "stale_epoch"
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path):
        await until(lambda: observer.phase == "standby")
    refused = [entry for entry in written(tmp_path, "result") if entry["result"] == "rejected"]
    assert (refused[0]["station"], refused[0]["channel"], refused[0]["reason"]) == ("eq", "1", "stale_epoch")
    (asked,) = [e for e in written(tmp_path, "setpoint") if e["setpoint_seq"] == refused[0]["setpoint_seq"]]
    assert asked["steps"][0][1] == pytest.approx(-LOAD_W)


async def test_where_nothing_can_be_written_control_goes_on_and_people_are_told(
    mosquitto: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder stands in the log's place: every write fails, as on a disk that is full."""
    load, eq, observer = hall(mosquitto.port)
    in_its_place = tmp_path / "state" / "audit-main.jsonl"
    in_its_place.mkdir(parents=True)
    async with running(load, eq, observer), equalizing(settings(mosquitto.port), tmp_path):
        await until(lambda: "audit_failed" in observer.events())
        await until(lambda: abs(eq.channels["1"].power_w + LOAD_W) < 1.0)
        load.channels["1"].power_w = -LOAD_W
        await until(lambda: abs(eq.channels["1"].power_w - LOAD_W) < 1.0)
        in_its_place.rmdir()
        await until(lambda: "audit_resumed" in observer.events())
    assert faults(tmp_path) == ()
    powers_w = [entry["steps"][0][1] for entry in written(tmp_path, "setpoint")]
    assert powers_w[0] == pytest.approx(-LOAD_W), "what was done meanwhile is written down late, and whole"
    assert main(["audit", "verify", str(tmp_path / "state")]) == 0
    head = capsys.readouterr().out.partition("head ")[2].strip()
    assert main(["audit", "verify", str(tmp_path / "state"), "--known", head]) == 0
    forged = f"{head.partition(':')[0]}:{'0' * 64}"
    assert main(["audit", "verify", str(tmp_path / "state"), "--known", forged]) == 1
    assert "is not the one that was noted" in capsys.readouterr().err
    assert main(["audit", "show", str(tmp_path / "state"), "--kind", "setpoint", "--last", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert " setpoint " in line
    assert "station=eq" in line


def test_an_absent_log_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["verify", str(tmp_path)], ["show", str(tmp_path)], ["verify", str(tmp_path), "--loop", "a/b"]):
        assert main(["audit", *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
