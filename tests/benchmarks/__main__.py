"""`make bench`: measures the equalizer beside a C client on the same broker, in the same run, and prints tables.

Usage: python -m tests.benchmarks [ingest|flood|reaction|start|station|scaling|page|control|decision|plant ...]
    [--seconds N] [--full] [--undisturbed] [--write docs/benchmarks.md]
    [--seeds N ...] [--delays S ...] [--only CONTROLLER ...] [--processes N]

Absolute times say little on a shared machine; each table carries the reference's figure beside the product's.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from broker.run import RunningBroker, start
from tests.benchmarks import control, decision, page, plant
from tests.benchmarks.asked import Asked
from tests.ports import free_port

HERE = Path(__file__).parent
PAIRS = 9
FILTERS = [f"zeroloop/v1/main/{topic}" for topic in ("server", "balance", "station/+/status", "command", "meter")]
FILTERS += [f"zeroloop/v1/main/station/+/channel/+/{topic}" for topic in ("plan", "telemetry")]
"""What the equalizer subscribes to, in its order."""
INGEST_HEAD = (
    "| channels | C client, 1/s | equalizer, 1/s | ratio | of all pairs | C, CPU µs | equalizer, CPU µs | lost |",
    "| ---: | ---: | ---: | ---: | :---: | ---: | ---: | ---: |",
)
CONFIG = """
[broker]
port = {port}
[control]
policy = "dwell"
delay_s = {delay_s}
engage_w = 1000.0
release_w = 300.0
freeze_w = 1e12
[telemetry]
period_s = {period_s}
[metrics]
port = 0
[discovery]
advertise = false
[state]
dir = "state"
"""


class Bench:
    """A broker and the programs that run against it."""

    def __init__(self, folder: Path, broker: RunningBroker, reference: Path) -> None:
        self.folder = folder
        self.broker = broker
        self.reference = reference

    @contextmanager
    def load(self, channels: int, period_s: float, seconds: float) -> Iterator[subprocess.Popen[str]]:
        words = [str(self.broker.port), str(channels), str(period_s), str(seconds)]
        process = spawn([sys.executable, str(HERE / "load.py"), *words])
        try:
            await_line(process, "ready")
            yield process
        finally:
            end(process)

    @contextmanager
    def subject(
        self, expected: int, *, period_s: float = 60.0, delay_s: float = 15.0
    ) -> Iterator[subprocess.Popen[str]]:
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "equalizer.toml"
        path.write_text(CONFIG.format(port=self.broker.port, period_s=period_s, delay_s=delay_s))
        process = spawn([sys.executable, str(HERE / "subject.py"), str(path), str(expected)])
        try:
            yield process
        finally:
            end(process)

    def count(self, expected: int) -> tuple[float, float]:
        """Return the C client's seconds and CPU seconds from its subscription to the last of so many telemetries."""
        words = ["count", "127.0.0.1", str(self.broker.port), str(expected), "/telemetry", *FILTERS]
        process = spawn([str(self.reference), *words])
        await_line(process, "subscribed")
        seconds, cpu_s = process.stdout.readline().split() if process.stdout is not None else ("nan", "nan")
        process.wait(60)
        return float(seconds), float(cpu_s)


def ingest(bench: Bench) -> list[str]:
    rows = list(INGEST_HEAD)
    for channels in (1_000, 10_000, 50_000):
        with bench.load(channels, 1e6, 1e6):
            rows.append(beside(bench, channels, channels))
    return rows


def flood(bench: Bench) -> list[str]:
    rows = list(INGEST_HEAD)
    for channels in (1_000, 10_000, 50_000):
        # As often as the broker takes it: the period is far shorter than one round lasts.
        with bench.load(channels, 0.001, 1e6):
            rows.append(beside(bench, channels, 4 * max(channels, 25_000)))
    return rows


def beside(bench: Bench, channels: int, messages: int) -> str:
    """Measure the C client and the equalizer in turn, and return the row of the medians.

    Both subscribe to the same filters under the same protocol, and are measured from their subscription until the last
    telemetry has been handled: counted there, validated and in the book here. One runs right after the other, now this
    one first and now that, so that what else the machine does meets both.
    """
    pairs, lost = [], 0
    for turn in range(PAIRS):
        reference = bench.count(messages) if turn % 2 == 0 else None
        with bench.subject(messages) as process:
            got = await_fact(process, "received")
        subject = (got["seconds"] / got["messages"], got["cpu_s"] / got["messages"])
        lost += round(got["lost"] + max(0, channels - got["channels"]))
        c_s, c_cpu_s = reference if reference is not None else bench.count(messages)
        pairs.append((c_s / messages, subject[0], c_cpu_s / messages, subject[1]))
    c_s, our_s, c_cpu_s, our_cpu_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(pair[0] / pair[1] for pair in pairs)
    return (
        f"| {channels:,} | {1 / c_s:,.0f} | {1 / our_s:,.0f} "
        f"| {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} "
        f"| {c_cpu_s * 1e6:.1f} | {our_cpu_s * 1e6:.1f} | {lost} |"
    )


class Probe:
    """A load, an equalization channel and a clock: sends a step and times what comes of it."""

    def __init__(self, port: int) -> None:
        self.came_s = 0.0
        self.seq = 0
        self.power_w = 0.0
        self.applied_w = 0.0
        self.last: dict[str, object] | None = None
        """What the equalization channel says of its last setpoint."""
        self.answered: Callable[[], bool] = lambda: False
        self.waiting_for = ""
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="probe")
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port)
        self.client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # type: ignore[union-attr]  # it is connected
        self.client.subscribe([("zeroloop/v1/main/station/probe/channel/eq/setpoint", 0), ("bench/back", 0)])
        self.client.loop_start()
        status = {
            "status": "online",
            "boot_id": "probe",
            "version": "1",
            "driver": "probe",
            "channels": ["load", "eq"],
            "on_lost": "zero",
            "unix_time_s": 0.0,
        }
        self.client.publish("zeroloop/v1/main/station/probe/status", json.dumps(status), 1, retain=True)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        now_s = time.perf_counter()
        if message.topic == "bench/back":
            if self.waiting_for == "echo":
                self.came_s = now_s
            return
        setpoint = json.loads(message.payload)
        power_w = setpoint["steps"][0]["power_w"]
        said = {key: setpoint[key] for key in ("server", "epoch", "seq")}
        self.last = {**said, "result": "applied", "reason": None, "expires_in_s": setpoint["ttl_s"]}
        if self.waiting_for == "setpoint" and abs(power_w - self.applied_w) > 1.0:
            self.came_s = now_s
        self.applied_w = power_w

    def say(self, channel: str) -> None:
        self.seq += 1
        power_w = self.power_w if channel == "load" else self.applied_w
        payload = {
            "boot_id": "probe",
            "seq": self.seq,
            "unix_time_s": 0.0,
            "work_status": "working",
            "step_type": "sim",
            "step_id": 1,
            "cycle_count": 1,
            "voltage_v": 400.0,
            "current_a": power_w / 400.0,
            "power_w": power_w,
            "battery_connected": True,
        }
        if channel == "eq":
            limits = {"charge_limit_w": 60000.0, "discharge_limit_w": 60000.0, "ramp_w_per_s": 1e9}
            payload["equalization"] = {**limits, "applied_w": power_w, "last": self.last}
        self.client.publish(f"zeroloop/v1/main/station/probe/channel/{channel}/telemetry", json.dumps(payload))

    def time_of(self, waiting_for: str, send: Callable[[], object], timeout_s: float = 3.0) -> float | None:
        self.came_s = 0.0
        self.waiting_for = waiting_for
        sent_s = time.perf_counter()
        send()
        while self.came_s == 0.0 and time.perf_counter() - sent_s < timeout_s:
            time.sleep(0.0005)
        self.waiting_for = ""
        return self.came_s - sent_s if self.came_s else None

    def step(self) -> float | None:
        """Change the load by 20 kW and return how long the setpoint took."""
        self.say("eq")
        self.say("load")
        time.sleep(0.5)  # longer than the last change holds the channel, the network's jitter included
        self.power_w = 20000.0 if self.power_w <= 0.0 else -20000.0
        return self.time_of("setpoint", lambda: self.say("load"))

    def echo(self) -> float | None:
        """Return how long a message to the C client and back takes."""
        return self.time_of("echo", lambda: self.client.publish("bench/there", b"x" * 300))


def reaction(bench: Bench, samples: int = 200) -> list[str]:
    words = ["echo", "127.0.0.1", str(bench.broker.port), "bench/there", "bench/back"]
    echo = spawn([str(bench.reference), *words])
    try:
        with bench.load(10_000, 1.0, 600.0), bench.subject(10_000, period_s=1.0, delay_s=0.05) as subject:
            await_line(echo, "subscribed")
            probe = Probe(bench.broker.port)
            await_fact(subject, "received")
            end_s = time.monotonic() + 6.0
            while time.monotonic() < end_s:  # the loop learns of the probe, and completes its round
                probe.say("eq")
                probe.say("load")
                time.sleep(0.2)
            pairs = [(probe.step(), probe.echo()) for _ in range(samples)]
            probe.client.disconnect()
            probe.client.loop_stop()
    finally:
        end(echo)
    missed = sum(1 for ours, _ in pairs if ours is None)
    ours = sorted(1e3 * a for a, b in pairs if a is not None and b is not None)
    reference = sorted(1e3 * b for a, b in pairs if a is not None and b is not None)
    rows = ["| | p50, ms | p99, ms |", "| --- | ---: | ---: |"]
    rows.append(f"| C client's echo | {quantile(reference, 0.5):.2f} | {quantile(reference, 0.99):.2f} |")
    rows.append(f"| load's telemetry to setpoint | {quantile(ours, 0.5):.2f} | {quantile(ours, 0.99):.2f} |")
    beyond = [quantile(ours, share) - quantile(reference, share) for share in (0.5, 0.99)]
    rows.append(f"| beyond the echo | {beyond[0]:.2f} | {beyond[1]:.2f} |")
    return [*rows, "", f"{len(ours)} steps of 20 kW, {missed} without an answer within 3 s."]


def start_up(bench: Bench) -> list[str]:
    period_s = 10.0
    rows = ["| channels | C client has all, s | equalizer has all, s | one period, s | `balancing` after, s |"]
    rows.append("| ---: | ---: | ---: | ---: | ---: |")
    with bench.load(50_000, period_s, 600.0):
        c_s, _ = bench.count(50_000)
        with bench.subject(50_000, period_s=period_s) as subject:
            got = await_fact(subject, "received")
            balancing = await_fact(subject, "balancing")
    rows.append(f"| 50,000 | {c_s:.2f} | {got['seconds']:.2f} | {period_s:g} | {balancing['after_s']:.2f} |")
    return rows


def scaling(bench: Bench) -> list[str]:
    rows = ["| channels | period, s | messages/s | share of a core | CPU µs a message | memory, KiB a channel |"]
    rows.append("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for channels, period_s in ((100, 1.0), (1_000, 1.0), (10_000, 1.0), (50_000, 10.0)):
        with bench.load(channels, period_s, 600.0), bench.subject(channels, period_s=period_s) as subject:
            got = await_fact(subject, "received")
            await_fact(subject, "balancing")
            time.sleep(1.0)
            before_s, at_s = cpu_s(subject.pid), time.monotonic()
            time.sleep(2.0 * period_s if period_s > 5.0 else 10.0)
            share = (cpu_s(subject.pid) - before_s) / (time.monotonic() - at_s)
        each_us = share * period_s / channels * 1e6
        kib = f"{got['kib'] / channels:.1f}" if channels >= 1_000 else "-"
        rows.append(
            f"| {channels:,} | {period_s:g} | {channels / period_s:,.0f} | {share:.3f} | {each_us:.1f} | {kib} |"
        )
    return rows


STATION = """
[station]
id = "s"
loop = "main"
state_dir = "state"
on_lost = "zero"
[broker]
port = {port}
"""
CHANNEL = """
[[channel]]
id = "{number}"
charge_limit_w = 60000.0
discharge_limit_w = 60000.0
ramp_w_per_s = 60000.0
battery = {{ capacity_ah = 150.0, series = 96, soc_ratio = 0.5 }}
program = [
  {{ step = "cc_chg", current_a = 75.0, until = {{ time_s = {charge_s}, voltage_v = 400.0 }} }},
  {{ step = "cc_dchg", current_a = 75.0, until = {{ time_s = 30.0, voltage_v = 290.0 }} }},
]
"""


def station(bench: Bench) -> list[str]:
    """Measure how well one process holds the period of many simulated channels."""
    rows = ["| channels | period, s | share of a core | p50 of the gap, s | p99, s | worst, s | lost |"]
    rows.append("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for channels in (16, 64, 256):
        folder = Path(tempfile.mkdtemp(dir=bench.folder))
        text = STATION.format(port=bench.broker.port)
        text += "".join(CHANNEL.format(number=n, charge_s=20.0 + n % 17) for n in range(channels))
        (folder / "station.toml").write_text(text)
        came: dict[str, list[tuple[float, int]]] = {}
        ear = Client(CallbackAPIVersion.VERSION2, client_id=f"ear{channels}")

        def hear(_client: Client, _userdata: object, message: MQTTMessage, came: dict = came) -> None:  # type: ignore[type-arg]  # bound early
            if not message.retain:
                seq = json.loads(message.payload)["seq"]
                came.setdefault(message.topic, []).append((time.perf_counter(), seq))

        ear.on_message = hear
        ear.connect("127.0.0.1", bench.broker.port)
        process = spawn([sys.executable, "-m", "zeroloop", "station", "--config", str(folder / "station.toml")])
        try:
            time.sleep(8.0)  # it starts, and its first telemetry is out
            ear.subscribe("zeroloop/v1/main/station/s/channel/+/telemetry", 0)
            ear.loop_start()
            before_s, at_s = cpu_s(process.pid), time.monotonic()
            time.sleep(30.0)
            share = (cpu_s(process.pid) - before_s) / (time.monotonic() - at_s)
            ear.loop_stop()
            ear.disconnect()
        finally:
            end(process)
        gaps, lost = [], 0
        for heard in came.values():
            for (earlier_s, earlier_seq), (later_s, later_seq) in pairwise(heard):
                gaps.append(later_s - earlier_s)
                lost += later_seq - earlier_seq - 1
        gaps.sort()
        rows.append(
            f"| {channels} | 1 | {share:.2f} | {quantile(gaps, 0.5):.3f} | {quantile(gaps, 0.99):.3f} "
            f"| {gaps[-1] if gaps else float('nan'):.3f} | {lost} |"
        )
    return [*rows, "", "Gaps below one second are step changes, which are published at once."]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, round(share * len(ordered)))] if ordered else float("nan")


def spawn(words: list[str]) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)


def await_line(process: "subprocess.Popen[str]", wanted: str) -> None:
    for line in process.stdout or ():
        if line.strip() == wanted:
            return
    raise SystemExit(f"{process.args!r} ended before it said {wanted!r}")


def await_fact(process: "subprocess.Popen[str]", wanted: str) -> dict[str, float]:
    for line in process.stdout or ():
        fact: dict[str, float] = json.loads(line)
        if fact.pop("fact") == wanted:
            return fact
    raise SystemExit(f"{process.args!r} ended before it said {wanted!r}")


def end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def built(folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    program = folder / "reference"
    words = [str(compiler), "-O2", "-o", str(program), str(HERE / "reference.c"), "-lmosquitto"]
    if compiler is None or subprocess.run(words, check=False).returncode != 0:
        raise SystemExit("the reference needs a C compiler and libmosquitto (Debian: gcc, libmosquitto-dev)")
    return program


SECTIONS: dict[str, tuple[str, Callable[[Bench], list[str]]]] = {
    "ingest": ("Ingest: retained telemetry at connect, strictly validated and booked", ingest),
    "flood": ("Ingest: live telemetry, as fast as the broker carries it", flood),
    "reaction": ("Reaction: policy `dwell`, 10,000 channels at 1 Hz in the background", reaction),
    "start": ("Start: 50,000 retained channels waiting, telemetry every 10 s", start_up),
    "station": ("Station: simulated channels at 1 Hz in one process", station),
    "scaling": ("CPU and memory by the number of channels", scaling),
    "page": (
        "Page: 2,000 channels at 1 Hz, three browsers",
        lambda bench: page.measure(bench.broker, bench.folder),
    ),
}

VIRTUAL: dict[str, tuple[str, Callable[[Asked], list[str]]]] = {
    "control": ("Control: the mixed hall, beside others on the same load", control.measure),
    "decision": ("Decision: 10,000 channels, and 50 to equalize with", decision.measure),
    "plant": ("Plant: 1,000 channels in virtual time", plant.measure),
}
"""Sections that need no broker; they take what is asked for."""
SHORT_S: dict[str, float | None] = {"control": 300.0, "decision": None, "plant": 600.0}
"""How long they are where nothing is asked for; null: as long as they are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", default=[*SECTIONS, *VIRTUAL])
    parser.add_argument("--seconds", type=float, help="virtual seconds of what runs in virtual time")
    parser.add_argument("--full", action="store_true", help="run what is in virtual time whole: hours")
    parser.add_argument("--seeds", type=int, nargs="+", default=Asked.seeds, help="of the control's halls")
    parser.add_argument("--delays", type=float, nargs="+", default=Asked.delays_s, help="the control's `delay_s`")
    parser.add_argument("--only", nargs="+", default=(), help="the controllers that take part, by name")
    parser.add_argument("--processes", type=int, help="for the control; one a core, if not said")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--undisturbed", action="store_true", help="let no other program in between; needs root")
    arguments = parser.parse_args()
    if arguments.undisturbed:
        undisturbed()
    out = ["# Benchmarks", "", "Made by `make bench`; each table is one run, with its reference beside it.", ""]
    for name in arguments.sections:
        if name in VIRTUAL:
            title, simulate = VIRTUAL[name]
            seconds = arguments.seconds
            if seconds is None and not arguments.full:
                seconds = SHORT_S[name]
            choice = (tuple(arguments.seeds), tuple(arguments.delays), tuple(arguments.only), arguments.processes)
            rows = simulate(Asked(seconds, *choice))
            if seconds is not None:
                rows = [f"Short: {seconds:g} s in virtual time; `--full` runs it whole.", "", *rows]
        else:
            title, rows = on_broker(name)
        section = [f"## {title}", "", *rows, ""]
        sys.stdout.write("\n".join(section) + "\n")
        sys.stdout.flush()
        out += section
    if arguments.write is not None:
        arguments.write.write_text("\n".join(out))


def undisturbed() -> None:
    """Run broker, reference and product ahead of all other programs: a busy machine measures like an idle one."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        raise SystemExit("--undisturbed needs root (CAP_SYS_NICE)") from None


def on_broker(name: str) -> tuple[str, list[str]]:
    title, measure = SECTIONS[name]
    with tempfile.TemporaryDirectory() as folder:
        broker = start("mosquitto", port=free_port(), data_dir=Path(folder) / "broker")
        try:
            return title, measure(Bench(Path(folder), broker, built(Path(folder))))
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
