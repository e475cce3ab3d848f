"""Every alert comes with its fault and not without; every panel shows something in a living hall."""

import asyncio
import importlib.util
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from broker.run import start
from tests.acceptance.hall import Hall, channel, power
from tests.ports import free_port

DEPLOY = Path(__file__).parents[3] / "deploy"
GRAFANA = DEPLOY / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dashboards", GRAFANA / "make_dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    """Every expression, as a dashboard asks it with all of its choices at `All`."""
    boards = [(file.stem, json.loads(file.read_text())) for file in DASHBOARDS]
    return [
        (f"{name}: {panel['title']}", re.sub(r"\$(loop|station|channel)", ".*", target["expr"]))
        for name, board in boards
        for panel in panels(board)
        for target in panel["targets"]
    ]


def test_the_dashboards_are_those_that_the_script_makes(maker: ModuleType) -> None:
    assert {file.stem for file in DASHBOARDS} == set(maker.DASHBOARDS)
    for file in DASHBOARDS:
        assert file.read_text() == maker.text(maker.DASHBOARDS[file.stem]), "run deploy/grafana/make_dashboards.py"


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_no_panel_lies_on_another(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(file.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


@needs_promtool
def test_every_alert_comes_with_its_fault_and_not_without() -> None:
    command = ["promtool", "test", "rules", "alerts_test.yml"]
    run = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_is_tried() -> None:
    alerts = re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus/alerts.yml").read_text())
    tried = (DEPLOY / "prometheus/alerts_test.yml").read_text()
    for alert in alerts:
        # Once where all is well, once with its fault.
        assert len(re.findall(rf"alertname: {alert}\b", tried)) == 2


class Prometheus:
    """A Prometheus of our own, with the rules that are shipped."""

    def __init__(self, folder: Path, targets: dict[str, list[int]]) -> None:
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(DEPLOY / "prometheus/recording.yml"), str(DEPLOY / "prometheus/alerts.yml")],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
                for job, ports in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that answer an expression now; none before it listens and is ready."""
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=30) as answer:
                series: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                return []
            pytest.fail(f"{expression}: {error.read().decode()}")
        except OSError:
            return []
        return series

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60.0)


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    broker = start("mosquitto", port=free_port(), data_dir=tmp_path / "broker")
    hall = Hall(tmp_path, broker)
    task = asyncio.create_task(hall.session.run(), name="watcher")
    await hall.until(lambda: hall.session.connected)
    yield hall
    await asyncio.to_thread(hall.end)
    await hall.session.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    broker.stop()


@pytest.mark.broker
@pytest.mark.slow
@needs_prometheus
async def test_no_panel_is_without_data_in_a_living_hall(hall: Hall, tmp_path: Path) -> None:
    station_port = free_port()
    hall.equalizer()
    channels = [channel("1", equalize=True), channel("2", program=power(20000.0, 600.0))]
    hall.station("s1", channels, environment={"ZEROLOOP_METRICS_PORT": str(station_port)})
    await hall.until(lambda: hall.balance is not None and hall.balance.setpoint_changes > 0)
    jobs = {"zeroloop-equalizer": [hall.metrics_port], "zeroloop-station": [station_port]}
    (tmp_path / "prometheus").mkdir()
    prometheus = Prometheus(tmp_path / "prometheus", jobs)
    try:
        silent = expressions()
        assert len(silent) > 50

        async def some_are_silent() -> bool:
            nonlocal silent
            silent = [(where, asked) for where, asked in silent if not await asyncio.to_thread(prometheus.ask, asked)]
            return bool(silent)

        for _ in range(60):
            if not await some_are_silent():
                break
            await asyncio.sleep(1.0)
        assert silent == [], "panels that show nothing"
        firing = await asyncio.to_thread(prometheus.ask, 'ALERTS{alertstate="firing"}')
        assert firing == [], "alerts in a hall where all is well"
    finally:
        await asyncio.to_thread(prometheus.end)
