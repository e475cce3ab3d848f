"""What deploy/ ships is accepted by the programs that it is for."""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from equalizer.config import EqualizerSettings
from schemas.settings import parse
from schemas.topics import WELL_KNOWN_FILTER
from station.config import StationSettings

DEPLOY = Path(__file__).parents[3] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DROP_IN = DEPLOY / "systemd/mosquitto.service.d/zeroloop.conf"
EXPOSURE = "20"
"""The most that `systemd-analyze security` may find, in tenths."""


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


def programs(unit: Path) -> list[str]:
    return re.findall(r"^Exec\w+=(\S+)", unit.read_text(), re.MULTILINE)


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────────────────────


@needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    """In a root of their own, where the programs that they start exist."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(unit, units)
        for program in programs(unit):
            there = tmp_path / program.lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            there.touch(mode=0o755)
    system = next(folder for folder in ("/usr/lib/systemd/system", "/lib/systemd/system") if Path(folder).is_dir())
    shutil.copytree(system, tmp_path / "usr/lib/systemd/system", symlinks=True)
    names = [unit.name.replace("@.", "@s1.") for unit in UNITS]
    (units / "zeroloop-station@s1.service").symlink_to("zeroloop-station@.service")
    command = ["systemd-analyze", "verify", f"--root={tmp_path}", "--man=no", "--recursive-errors=no", *names]
    run = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert "zeroloop" not in run.stderr, run.stderr
    assert run.returncode == 0, run.stderr


@needs("systemd-analyze")
def test_systemd_would_have_found_a_misspelt_setting(tmp_path: Path) -> None:
    """The test above can fail."""
    wrong = tmp_path / "zeroloop-wrong.service"
    text = (DEPLOY / "systemd/zeroloop-equalizer.service").read_text()
    wrong.write_text(text.replace("RestartSec=", "RestartSecs=").replace("/opt/zeroloop/bin/zeroloop", sys.executable))
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(wrong)], capture_output=True, text=True, timeout=110, check=False
    )
    assert "RestartSecs" in run.stderr


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_every_unit_confined(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", str(unit)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@needs("systemd-analyze")
def test_the_drop_in_confines_debians_mosquitto(tmp_path: Path) -> None:
    """Without it that unit is far from it: the check can fail."""
    debian = next(Path(folder) / "mosquitto.service" for folder in ("/usr/lib/systemd/system", "/lib/systemd/system"))
    if not debian.is_file():
        pytest.skip("needs Debian's mosquitto")
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(debian, units)
    system = next(folder for folder in ("/usr/lib/systemd/system", "/lib/systemd/system") if Path(folder).is_dir())
    shutil.copytree(system, tmp_path / "usr/lib/systemd/system", symlinks=True, ignore=lambda *_: {"mosquitto.service"})
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--root={tmp_path}"]
    command += [f"--threshold={EXPOSURE}", "mosquitto.service"]
    bare = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert bare.returncode != 0
    (units / "mosquitto.service.d").mkdir()
    shutil.copy(DROP_IN, units / "mosquitto.service.d")
    confined = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert confined.returncode == 0, confined.stdout + confined.stderr


@pytest.mark.parametrize("name", ["zeroloop-equalizer.service", "zeroloop-station@.service"])
def test_a_process_that_hangs_is_started_anew(name: str) -> None:
    lines = (DEPLOY / "systemd" / name).read_text().splitlines()
    assert {"Type=notify", "NotifyAccess=main", "WatchdogSec=10"} <= set(lines)
    assert "Restart=on-failure" in lines, "which a watchdog's end is"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_unit_gives_up_what_it_does_not_need_and_comes_back(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    for needed in ("NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes"):
        assert needed in lines
    assert "StartLimitIntervalSec=0" in lines, "a hall does not stay dark because of five failures in a row"
    assert any(line.startswith("Restart=") and line != "Restart=no" for line in lines)
    assert any(line.startswith("User=") and line != "User=root" for line in lines)


# ── configurations ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", ["etc/equalizer.toml", "compose/equalizer.toml"])
def test_the_equalizers_configurations_are_valid(file: str) -> None:
    parse(EqualizerSettings, (DEPLOY / file).read_text(), source=file, environment={})


@pytest.mark.parametrize("file", ["etc/stations/s1.toml", "etc/stations/s2.toml"])
def test_the_stations_configurations_are_valid_and_their_certificates_bear_their_ids(file: str) -> None:
    settings = parse(StationSettings, (DEPLOY / file).read_text(), source=file, environment={})
    assert settings.station.id == Path(file).stem
    assert settings.broker is not None
    assert settings.broker.credentials_file == f"/etc/zeroloop/credentials/{settings.station.id}.zeroloop"


def test_an_equalization_channel_is_among_the_examples() -> None:
    for folder in ("etc/stations", "compose"):
        texts = [file.read_text() for file in (DEPLOY / folder).glob("*.toml")]
        assert any("equalize = true" in text for text in texts)


# ── containers ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("ruamel.yaml")
    loaded: dict[str, Any] = yaml.YAML(typ="safe").load((DEPLOY / "compose/compose.yaml").read_text())
    return loaded


def test_every_container_has_what_it_mounts_waits_for_and_runs(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"broker", "equalizer", "grading", "balance"}
    folder = DEPLOY / "compose"
    for service in services.values():
        assert (folder / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (folder / source).is_file() if source.startswith("./") else source in compose["volumes"]
        assert set(service.get("depends_on", {})) <= {"broker"}
        assert service["command"][0] in {"broker", "equalizer", "station"}
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "healthcheck" in service


def test_a_broker_that_lets_everybody_in_is_published_on_this_computer_only(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_containers_environment_reaches_the_configuration(compose: dict[str, Any]) -> None:
    environment = compose["services"]["grading"]["environment"]
    text = (DEPLOY / "compose/grading.toml").read_text()
    settings = parse(StationSettings, text, source="grading.toml", environment=environment)
    assert settings.broker is not None
    assert settings.broker.host == "broker"
    assert settings.station.state_dir == "/var/lib/zeroloop"
    assert settings.metrics.port == 9464, "which the health check asks"
    environment = compose["services"]["equalizer"]["environment"]
    text = (DEPLOY / "compose/equalizer.toml").read_text()
    equalizer = parse(EqualizerSettings, text, source="equalizer.toml", environment=environment)
    assert (equalizer.broker.host, equalizer.metrics.host) == ("broker", "0.0.0.0")  # noqa: S104 - in a container
    assert equalizer.state.dir == "/var/lib/zeroloop"


# ── Prometheus, DNS-SD ───────────────────────────────────────────────────────────────────────────────────────────


@needs("promtool")
def test_promtool_accepts_the_scrape_configuration_and_the_rules() -> None:
    command = ["promtool", "check", "config", "--lint=all", "--lint-fatal", str(DEPLOY / "prometheus/prometheus.yml")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"[1-9]\d* rules found", run.stdout)


@pytest.mark.parametrize(
    ("file", "kind", "port"),
    [
        ("zeroloop-mqtt.service", "_mqtt._tcp", 1883),
        ("zeroloop-secure-mqtt.service", "_secure-mqtt._tcp", 8883),
    ],
)
def test_the_announcement_says_what_a_station_looks_for(file: str, kind: str, port: int) -> None:
    root = ET.parse(DEPLOY / "avahi" / file).getroot()  # noqa: S314 - our own file
    assert root.tag == "service-group"
    assert root.findtext("service/type") == kind
    assert root.findtext("service/port") == str(port)
    assert root.findtext("service/txt-record") == f"topic={WELL_KNOWN_FILTER}"


# ── README.md ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_readme_names_only_files_that_are_there() -> None:
    for path in set(re.findall(r"\bdeploy/[\w./@-]+\w", (DEPLOY / "README.md").read_text())):
        assert (DEPLOY.parent / path).exists(), path
