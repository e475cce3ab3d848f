"""How the page bears 2,000 channels at 1 Hz with three browsers on it: its process, its browsers' frames, its lag.

The load tells the time: one channel's power is the second of the hour at which it was sent, so that the figure which a
browser shows says how old it is. Every channel's power changes with every message, which is the worst for the page.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker.run import RunningBroker
from tests.page.stage import CHROMIUM, DESKTOP, PAGE
from tests.ports import free_port

CHANNELS = 2_000
BROWSERS = 3
VIEWS = ("/channels", "/", "/history")
"""One browser in each; the first is the heaviest."""
SECONDS = 30.0
SETTLES_S = 8.0
CLOCK_S = 1_000.0

WATCH = """
window.lags = []; window.tasks = [];
new PerformanceObserver(list => list.getEntries().forEach(e => window.tasks.push(e.duration)))
  .observe({type: 'longtask'});
setInterval(() => {
  const cell = document.querySelector('.ag-row[row-id="b0/0"] .ag-cell[col-id="p"]');
  if (!cell) return;
  const sent = Number(cell.textContent.replace('\\u2212', '-'));
  if (sent !== window.sent) {
    window.sent = sent;
    const lag = ((Date.now() / 1000) % 1000) - sent;
    // The first figure was there before anybody looked.
    if (!window.looking) { window.looking = true; return; }
    window.lags.push(lag < -500 ? lag + 1000 : lag);
  }
}, 10);
"""


def measure(broker: RunningBroker, folder: Path) -> list[str]:
    """Return the table's rows."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - may be missing

    chromium = shutil.which("chromium")
    if chromium is None:
        return ["Needs chromium (Debian: apt install chromium)."]
    rows = ["| | measured | limit |", "| --- | ---: | ---: |"]
    port = free_port()
    config = folder / "dashboard.toml"
    config.write_text(PAGE.format(host="127.0.0.1", page_port=port, port=broker.port, more=""))
    with (
        _process(folder, sys.executable, __file__, str(broker.port), str(CHANNELS)),
        _process(folder, "mosquitto_sub", "-p", str(broker.port), "-t", "zeroloop/v1/main/#", "-F", "") as reference,
        _process(folder, sys.executable, "-m", "zeroloop", "dashboard", "--config", str(config)) as page,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        _await_page(port)
        # A context each: they share no cache, as three computers would not.
        tabs = [browser.new_context(viewport=DESKTOP).new_page() for _ in range(BROWSERS)]
        for tab, view in zip(tabs, VIEWS, strict=True):
            tab.goto(f"http://127.0.0.1:{port}{view}")
        time.sleep(SETTLES_S)
        for tab in tabs:
            tab.evaluate(WATCH)
        before = _cpu_s(page.pid), _cpu_s(reference.pid), time.monotonic()
        heard = _lines(folder)
        time.sleep(SECONDS)
        seconds = time.monotonic() - before[2]
        rate = (_lines(folder) - heard) / seconds
        page_ratio, reference_ratio = (
            (_cpu_s(process.pid) - was) / seconds for process, was in ((page, before[0]), (reference, before[1]))
        )
        lags = sorted(tabs[0].evaluate("window.lags"))
        tasks = [sorted(tab.evaluate("window.tasks")) for tab in tabs]
        drawn = tabs[0].locator(".ag-center-cols-container .ag-row").count()
        browser.close()
    rows.append(f"| messages a second, by mosquitto_sub | {rate:,.0f} | |")
    rows.append(
        f"| page's process, cores | {page_ratio:.2f} ({page_ratio / reference_ratio:.0f} times mosquitto_sub) | 0.50 |"
    )
    rows += [_lag_row("median", lags, 0.5), _lag_row("99 %", lags, 0.99)]
    for view, long_tasks in zip(VIEWS, tasks, strict=True):
        worst_ms = max(long_tasks, default=0.0)
        text = "none" if not long_tasks else f"{len(long_tasks)}, the longest {worst_ms:.0f} ms"
        rows.append(f"| browser on {view}: frames over 50 ms in {seconds:.0f} s | {text} | none |")
    rows.append(f"| rows in the document, of {CHANNELS:,} | {drawn} | |")
    return rows


def _lag_row(name: str, lags: list[float], ratio: float) -> str:
    if not lags:
        return f"| lag from sending to the figure in the browser, {name} | nothing was shown | 1.00 s |"
    return (
        f"| lag from sending to the figure in the browser, {name} "
        f"| {lags[min(len(lags) - 1, round(ratio * (len(lags) - 1)))]:.2f} s | 1.00 s |"
    )


@contextmanager
def _process(folder: Path, *words: str) -> "Iterator[subprocess.Popen[bytes]]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ZEROLOOP_")}
    with (folder / f"{Path(words[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(15.0)


def _lines(folder: Path) -> int:
    return (folder / "mosquitto_sub.log").read_bytes().count(b"\n")


def _await_page(port: int) -> None:
    until_s = time.monotonic() + 60.0
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        if time.monotonic() > until_s:
            raise SystemExit("the page did not start")
        time.sleep(0.2)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _load(port: int, channels: int) -> None:
    """Publish every channel once a second, evenly, and the balance; until ended."""
    import json  # noqa: PLC0415 - the load is a process of its own

    from paho.mqtt.client import Client  # noqa: PLC0415 - as above
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415 - as above

    client = Client(CallbackAPIVersion.VERSION2, client_id="page-load")
    client.connect("127.0.0.1", port)
    client.loop_start()
    base = "zeroloop/v1/main"
    stations = [f"b{number}" for number in range(channels // 100)]
    for station in stations:
        status: dict[str, Any] = {"status": "online", "boot_id": "b", "version": "1", "driver": "bench"}
        status |= {"channels": [str(n) for n in range(100)], "on_lost": "zero", "unix_time_s": 0.0}
        client.publish(f"{base}/station/{station}/status", json.dumps(status), 1, retain=True)
    server = {"server": "bench", "status": "online", "epoch": 1, "phase": "balancing", "version": "1"}
    server |= {"started_unix_time_s": 0.0, "telemetry_period_s": 1.0, "control": {"policy": "confirm", "delay_s": 15.0}}
    server |= {"setpoint": {"ttl_s": 30.0, "refresh_s": 5.0}}
    client.publish(f"{base}/server", json.dumps(server), 1, retain=True)
    topics = [f"{base}/station/{station}/channel/{n}/telemetry" for station in stations for n in range(100)]
    seq, started_s, slices = 0, time.monotonic(), 50
    while True:
        seq += 1
        for part in range(slices):
            time.sleep(max(0.0, started_s + seq + part / slices - time.monotonic()))
            for number in range(part * channels // slices, (part + 1) * channels // slices):
                wave_w = 1_000.0 * ((seq + number) % 60 - 30)
                power_w = (time.time() % CLOCK_S) * 1_000.0 if number == 0 else wave_w
                client.publish(topics[number], _telemetry(seq, power_w))
        client.publish(f"{base}/balance", json.dumps(_balance(seq)), 0)


def _telemetry(seq: int, power_w: float) -> bytes:
    return (
        b'{"boot_id":"b","seq":%d,"unix_time_s":0.0,"work_status":"working","step_type":"cc_chg","step_id":3,'
        b'"cycle_count":1,"voltage_v":%.2f,"current_a":%.2f,"power_w":%.1f,"temperature_degc":27.1,"soc_ratio":0.53,'
        b'"battery_connected":true}' % (seq, 360.0 + seq % 10, power_w / 360.0, power_w)
    )


def _balance(seq: int) -> dict[str, Any]:
    load_w = 20_000.0 + 500.0 * (seq % 40)
    return {
        "server": "bench",
        "epoch": 1,
        "seq": seq,
        "unix_time_s": 0.0,
        "phase": "balancing",
        "total_power_w": 300.0,
        "load_power_w": load_w,
        "equalization_power_w": 300.0 - load_w,
        "target_power_w": 0.0,
        "charging_power_w": load_w + 1e6,
        "discharging_power_w": 300.0 - load_w - 1e6,
        "unknown_power_w": 0.0,
        "shortfall_w": 0.0,
        "stations_online": 20,
        "channels": 2_000,
        "channels_stale": 0,
        "equalization_channels": 4,
        "setpoint_changes": seq,
        "energy": {"import_wh": 0.0, "export_wh": 0.0, "unbalanced_wh": 5.0 * seq, "avoided_wh": 5.0 * seq},
        "last_decision": {"unix_time_s": float(seq // 20), "reason": "announced"},
    }


if __name__ == "__main__":
    _load(int(sys.argv[1]), int(sys.argv[2]))
