"""Real services on a real broker, the page among them, and a station that a test plays itself."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import Page

from broker.run import RunningBroker
from tests.acceptance.hall import EQUALIZER, STATION, channel, power
from tests.ports import free_port
from tests.processes import end

EMPTY_BATTERY = "{ capacity_ah = 150.0, series = 96, parallel = 1, soc_ratio = 0.5, connected = false }"
CHANNELS = (
    channel("eq", equalize=True),
    channel("load", power(12_000.0, 3_600.0)),
    channel("spare"),
    channel("idle", power(3_000.0, 3_600.0), autostart=False),
    channel("empty", battery=EMPTY_BATTERY),
)

CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}

PAGE = """
[page]
host = "{host}"
port = {page_port}
[loop]
name = "main"
[broker]
host = "127.0.0.1"
port = {port}
[tariff]
currency = "€"
price_per_kwh = 0.30
[state]
dir = "state-page"
{more}
"""


@dataclass
class Stage:
    """A folder, a broker, and the processes that were started there."""

    folder: Path
    broker: RunningBroker
    page_port: int = field(default_factory=free_port)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.page_port}"

    def spawn(self, name: str, *words: str) -> None:
        own = {key: value for key, value in os.environ.items() if not key.startswith("ZEROLOOP_")}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "zeroloop", *words],
                cwd=self.folder,
                env={**own, "XDG_STATE_HOME": str(self.folder / "home")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def equalizer(self) -> None:
        text = EQUALIZER.format(
            host="127.0.0.1",
            port=self.broker.port,
            policy="confirm",
            delay_s=1.5,
            freeze_w=1e6,
            ttl_s=6.0,
            period_s=0.5,
            metrics_port=free_port(),
        )
        (self.folder / "equalizer.toml").write_text(text)
        self.spawn("equalizer", "equalizer", "--config", "equalizer.toml")

    def station(self) -> None:
        broker = f'[broker]\nhost = "127.0.0.1"\nport = {self.broker.port}\n'
        text = STATION.format(id="s1", loop='loop = "main"', broker=broker, period_s=0.5, on_lost="zero")
        (self.folder / "s1.toml").write_text(text + "".join(CHANNELS))
        self.spawn("s1", "station", "--config", "s1.toml")

    def page(self, *, host: str = "127.0.0.1", more: str = "") -> None:
        text = PAGE.format(host=host, page_port=self.page_port, port=self.broker.port, more=more)
        (self.folder / "dashboard.toml").write_text(text)
        self.spawn("page", "dashboard", "--config", "dashboard.toml")
        self.until(lambda: self.status("/assets/icon.svg") == 200, 90.0, what="the page answers")

    def status(self, path: str, headers: dict[str, str] | None = None, data: bytes | None = None) -> int:
        """Return the status of an answer; 0: none."""
        request = urllib.request.Request(self.url + path, data=data, headers=headers or {})  # noqa: S310 - our own page
        try:
            with urllib.request.build_opener(_Stay()).open(request, timeout=30.0) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def run(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command line to its end."""
        return subprocess.run(
            [sys.executable, "-m", "zeroloop", *words],
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120.0,
        )

    def until(self, condition: Callable[[], object], timeout_s: float = 90.0, *, what: str = "") -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                pytest.fail(f"not within {timeout_s:g} s: {what or condition}\n{self.story()}")
            time.sleep(0.1)

    def story(self) -> str:
        return "".join(f"── {path.name}\n{path.read_text()[-2000:]}\n" for path in sorted(self.folder.glob("*.log")))

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(60.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail(f"{name} did not end\n{self.story()}")

    def end(self) -> None:
        end(self.processes.values())


def serious(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe finds that is serious or worse, with some of the elements."""
    # What comes fades in: half-way, nothing has its colours.
    page.wait_for_timeout(300)
    page.wait_for_function("!document.querySelector('[class*=-enter-active], [class*=-enter-from]')")
    page.evaluate(
        "Promise.allSettled(document.getAnimations().filter(a => a.effect?.getTiming().iterations !== Infinity)"
        ".map(a => a.finished))"
    )
    found = Axe().run(page).response["violations"]
    return [
        (item["id"], [node["html"][:200] + node.get("failureSummary", "") for node in item["nodes"]][:3])
        for item in found
        if item["impact"] in {"serious", "critical"}
    ]


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class Stranger:
    """Somebody else's station, played by the test: says what it is told to, and answers commands as it likes."""

    def __init__(self, port: int, name: str = "x1", channels: tuple[str, ...] = ("1",)) -> None:
        self.name = name
        self.channels = channels
        self.seq = 0
        self.asked: list[str] = []
        self.refusal: tuple[str, str] | None = None
        self.before_reply: Callable[[], object] = lambda: None
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=f"stranger-{name}")
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port)
        self.client.subscribe(f"zeroloop/v1/main/station/{name}/channel/+/command", 1)
        self.client.loop_start()
        self.say_status("online")

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        command = json.loads(message.payload)
        self.asked.append(command["action"])
        reply = {
            "id": command["id"],
            "action": command["action"],
            "unix_time_s": 0.0,
            "result": "accepted",
            "text": "ok",
        }
        if self.refusal is not None:
            reason, text = self.refusal
            reply |= {"result": "rejected", "reason": reason, "text": text}
        self.before_reply()
        self.client.publish(message.topic.replace("/command", "/reply"), json.dumps(reply), 1)

    def say_status(self, status: str) -> None:
        payload = {
            "status": status,
            "boot_id": "b1",
            "version": "1",
            "driver": "played",
            "channels": list(self.channels),
            "on_lost": "zero",
            "unix_time_s": 0.0,
        }
        self._publish("status", payload, 1)

    def say(self, channel: str = "1", *, retain: bool = True, **values: object) -> None:
        self.seq += 1
        payload = {
            "boot_id": "b1",
            "seq": self.seq,
            "unix_time_s": 0.0,
            "work_status": "idle",
            "step_type": "none",
            "step_id": 0,
            "cycle_count": 0,
            "voltage_v": 350.0,
            "current_a": 0.0,
            "power_w": 0.0,
            "temperature_degc": 25.0,
            "soc_ratio": 0.5,
            "battery_connected": True,
            **values,
        }
        self._publish(f"channel/{channel}/telemetry", payload, 0, retain=retain)

    def tell(self, code: str, text: str, values: dict[str, object] | None, severity: str = "warning") -> None:
        event = {"unix_time_s": 0.0, "source": f"station/{self.name}", "severity": severity, "code": code, "text": text}
        self.client.publish("zeroloop/v1/main/event", json.dumps(event | {"values": values}), 1)

    def end(self) -> None:
        for name in self.channels:
            self.client.publish(f"zeroloop/v1/main/station/{self.name}/channel/{name}/telemetry", b"", 1, retain=True)
        last = self.client.publish(f"zeroloop/v1/main/station/{self.name}/status", b"", 1, retain=True)
        last.wait_for_publish(60.0)
        assert last.is_published(), "what it leaves behind would count in the next experiment"
        self.client.disconnect()
        self.client.loop_stop()

    def _publish(self, leaf: str, payload: dict[str, object], qos: int, *, retain: bool = True) -> None:
        self.client.publish(f"zeroloop/v1/main/station/{self.name}/{leaf}", json.dumps(payload), qos, retain=retain)
