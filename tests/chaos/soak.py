"""`make soak-live MINUTES=60`: a thousand simulated channels on a real broker, for long.

Four stations of 250 channels each with loads that change and some channels that equalize, an equalizer and a broker,
all processes of their own. Once in ten seconds their memory, open files and threads are read from /proc, and every
sequence number is held against the one before. At the end stands a table, and exit code 1 where memory grew by more
than it may, files or threads did not stay flat, or a message was lost. The broker is judged by the heap that it says is
in use: what it once needed for a listener that was held up stays with the process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from broker.run import start
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
STATIONS = 4
EQUALIZING = 5
"""Of each station's channels."""
SAMPLE_S = 10.0
WARM_UP_PART = 0.25
"""Of the time: caches fill, and what a process once needs it keeps."""
MIB = 1024 * 1024
LARGEST_SLOPE_BYTES_PER_H = 8 * MIB
SHORT_S = 600.0
"""In a shorter run memory and threads are shown, and judged by no one: they are still filling up."""

BROKER = "broker"
HEAP = "$SYS/broker/heap/current"
MARKS = 8
"""So many times along the run each process's memory is shown."""

MOST_THREADS = 2 + min(32, (os.cpu_count() or 1) + 4)
"""The event loop's pool begins a thread whenever all that it has are busy, up to this many by Python's own rule."""

FILES, THREADS = 2, 3
"""Columns of a sample."""

EQUALIZER = """
[broker]
port = {port}
[metrics]
port = 0
[discovery]
advertise = false
[state]
dir = "{folder}/state-equalizer"
"""
STATION = """
[station]
id = "s{number}"
loop = "main"
state_dir = "{folder}/state-s{number}"
on_lost = "zero"
[broker]
port = {port}
[driver]
type = "simulated"
seed = {number}
"""
CHANNEL = """
[[channel]]
id = "{name}"
charge_limit_w = {limit_w}
discharge_limit_w = {limit_w}
ramp_w_per_s = 20000.0
battery = {{ capacity_ah = 150.0, series = 96, soc_ratio = 0.5 }}
equalize = {equalize}
program = [{program}]
"""


@dataclass
class Watched:
    """One process, sampled."""

    process: Popen[bytes]
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)
    """When, resident bytes, open files, threads."""

    def sample(self, at_s: float) -> None:
        """Read /proc."""
        folder = Path(f"/proc/{self.process.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        files, threads = (sum(1 for _ in (folder / name).iterdir()) for name in ("fd", "task"))
        self.samples.append((at_s, pages * os.sysconf("SC_PAGE_SIZE"), files, threads))

    def settled(self, begin_s: float) -> list[tuple[float, int, int, int]]:
        """Return the samples from a time on."""
        return [sample for sample in self.samples if sample[0] >= begin_s]

    def slope_bytes_per_h(self, begin_s: float) -> float:
        """Return how fast memory grows."""
        return slope_per_h([(at_s, size) for at_s, size, *_ in self.settled(begin_s)])

    def grows(self, begin_s: float, what: int) -> bool:
        """Tell whether a column of the samples ends higher than it once was."""
        samples = self.settled(begin_s)
        half = len(samples) // 2
        return max(one[what] for one in samples[half:]) > max(one[what] for one in samples[:half])


def slope_per_h(samples: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through samples of time, s, and value."""
    mean_s = sum(at_s for at_s, _ in samples) / len(samples)
    mean = sum(value for _, value in samples) / len(samples)
    spread = sum((at_s - mean_s) ** 2 for at_s, _ in samples)
    return 3600.0 * sum((at_s - mean_s) * (value - mean) for at_s, value in samples) / spread if spread else 0.0


@dataclass
class Gaps:
    """Counts messages, and sequence numbers that are missing."""

    messages: int = 0
    missing: int = 0
    last: dict[str, tuple[object, int]] = field(default_factory=dict)

    def take(self, topic: str, payload: bytes) -> None:
        """Take one message."""
        body = json.loads(payload)
        source, seq = body.get("boot_id", body.get("epoch")), body["seq"]
        before = self.last.get(topic)
        if before is not None and before[0] == source:
            self.missing += max(0, seq - before[1] - 1)
        self.last[topic] = (source, seq)
        self.messages += 1


def station_toml(number: int, channels: int, port: int, folder: Path) -> str:
    """Return a station whose loads change every few seconds, none at the same time as another."""
    text = STATION.format(number=number, port=port, folder=folder)
    for channel in range(channels):
        equalize = channel < EQUALIZING
        time_s = 20.0 + (7 * channel + 3 * number) % 60
        steps = ", ".join(
            f'{{ step = "{step}", power_w = {800 + 13 * (channel % 50)}.0, until = {{ time_s = {time_s} }} }}'
            for step in ("cp_chg", "cp_dchg")
        )
        text += CHANNEL.format(
            name=f"{channel}",
            limit_w=60000.0 if equalize else 5000.0,
            equalize=str(equalize).lower(),
            program="" if equalize else steps,
        )
    return text


def spawn(folder: Path, name: str, kind: str, text: str) -> Watched:
    """Start a part of the hall."""
    path = folder / f"{name}.toml"
    path.write_text(text)
    tomllib.loads(text)
    with (folder / f"{name}.log").open("wb") as log:
        process = Popen(
            [sys.executable, "-m", "zeroloop", kind, "--config", str(path)],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
    return Watched(process)


def listen(port: int, gaps: Mapping[str, Gaps], heap: list[tuple[float, float]]) -> mqtt.Client:
    """Count everything that is said, and note the broker's heap in use, in a thread of its own."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="soak", protocol=mqtt.MQTTv5)

    def heard(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        if message.topic == HEAP:
            heap.append((time.monotonic(), float(message.payload)))
            return
        kind = gaps.get(message.topic.rpartition("/")[2])
        if kind is not None and message.payload and not message.retain:
            kind.take(message.topic, message.payload)

    client.on_message = heard
    client.connect("127.0.0.1", port)
    client.subscribe([("zeroloop/v1/#", 1), (HEAP, 0)])
    client.loop_start()
    return client


def judge(name: str, watched: Watched, begin_s: float, seconds: float) -> tuple[str, list[str]]:
    """Return a process's line of the table, and what is wrong with it."""
    samples = watched.settled(begin_s)
    slope = watched.slope_bytes_per_h(begin_s)
    line = (
        f"{name:12} {samples[0][1] / MIB:8.1f} {samples[-1][1] / MIB:8.1f} {slope / MIB:+12.2f} "
        f"{samples[0][2]:6d} {samples[-1][2]:6d} {samples[0][3]:8d} {samples[-1][3]:8d}"
    )
    faults = []
    if watched.process.poll() is not None:
        faults.append(f"{name} ended with {watched.process.returncode}")
    if seconds >= SHORT_S and name != BROKER and slope > LARGEST_SLOPE_BYTES_PER_H:
        faults.append(f"the memory of {name} grows by {slope / MIB:.1f} MiB/h")
    if watched.grows(begin_s, FILES):
        faults.append(f"the open files of {name} grow")
    if watched.grows(begin_s, THREADS) and samples[-1][THREADS] > MOST_THREADS:
        faults.append(f"the threads of {name} grow")
    return line, faults


def along(watched: Watched) -> str:
    """Return a process's memory at some times of the run, evenly apart."""
    count = len(watched.samples) - 1
    return "".join(f"{watched.samples[count * mark // MARKS][1] / MIB:7.1f}" for mark in range(MARKS + 1))


def soak(seconds: float, channels: int, folder: Path) -> int:
    """Run the hall; return the exit code."""
    port = free_port()
    broker = start("mosquitto", port=port, data_dir=folder / "broker")
    parts: dict[str, Watched] = {BROKER: Watched(broker.process)}
    gaps = {"telemetry": Gaps(), "balance": Gaps()}
    heap: list[tuple[float, float]] = []
    client = listen(port, gaps, heap)
    try:
        parts["equalizer"] = spawn(folder, "equalizer", "equalizer", EQUALIZER.format(port=port, folder=folder))
        for number in range(STATIONS):
            text = station_toml(number, channels // STATIONS, port, folder)
            parts[f"station s{number}"] = spawn(folder, f"s{number}", "station", text)
        began_s = time.monotonic()
        while (at_s := time.monotonic() - began_s) < seconds:
            for part in parts.values():
                part.sample(at_s)
            time.sleep(min(SAMPLE_S, seconds / 12.0))
        lines, faults = zip(*(judge(n, p, WARM_UP_PART * seconds, seconds) for n, p in parts.items()), strict=True)
        marks = [f"{name:12} {along(watched)}" for name, watched in parts.items()]
    finally:
        client.loop_stop()
        client.disconnect()
        for part in list(parts.values())[1:]:
            part.process.terminate()
        for part in list(parts.values())[1:]:
            part.process.wait(60.0)
        broker.stop()
    table = [
        f"{channels} channels, {seconds:.0f} s; from {WARM_UP_PART * seconds:.0f} s on:",
        "",
        f"{'':12} {'MiB':>8} {'at end':>8} {'MiB per hour':>12} {'files':>6} {'at end':>6} {'threads':>8} {'end':>8}",
        *lines,
        "",
    ]
    wrong = [fault for each in faults for fault in each]
    in_use = [sample for sample in heap if sample[0] >= began_s + WARM_UP_PART * seconds]
    if in_use:
        table += ["MiB along the run:", *marks, ""]
        grown = slope_per_h(in_use) / MIB
        table.append(f"the broker's heap in use: {in_use[-1][1] / MIB:.1f} MiB at the end, {grown:+.2f} per hour")
        if seconds >= SHORT_S and grown * MIB > LARGEST_SLOPE_BYTES_PER_H:
            wrong.append(f"the broker's heap grows by {grown:.1f} MiB/h")
    for kind, counted in gaps.items():
        rate = counted.messages / seconds
        table.append(f"{kind}: {counted.messages} messages ({rate:.0f} a second), {counted.missing} missing")
        if counted.missing or not counted.messages:
            wrong.append(f"{kind}: {counted.missing} of {counted.messages} are missing")
    table += ["", *(wrong or ["All flat, nothing lost."])]
    sys.stdout.write("\n".join(table) + "\n")
    return 1 if wrong else 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="A thousand channels on a real broker, for long.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--channels", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return soak(60.0 * given.minutes, given.channels, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
