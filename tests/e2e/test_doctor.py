"""The doctor in a real hall: it finds nothing in one that is well, and names what is put wrong; purge mends it."""

import json
import signal
from pathlib import Path

import pytest

from broker.programs import find_mosquitto
from broker.run import RunningBroker, start
from schemas.settings import BrokerSettings
from tests.e2e.conftest import Shop
from tests.ports import free_port
from zeroloop import clocks
from zeroloop.doctor.trials import QUEUED, try_broker

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(400)]


def codes(shop: Shop) -> tuple[int, dict[str, str]]:
    done = shop.run("doctor", "--port", str(shop.broker.port), "--json")
    found = json.loads(done.stdout)["findings"]
    return done.returncode, {finding["code"]: finding["remedy"] for finding in found if finding["weight"] != "note"}


def test_a_hall_that_is_well_then_a_dead_station_and_its_ghosts(shop: Shop) -> None:
    station = shop.station()
    shop.equalizer()
    shop.shows(lambda text: "channels 3 (0 stale)" in text and "starting" not in text)
    assert codes(shop) == (0, {})

    living = shop.run("purge", "--port", str(shop.broker.port), "--yes")
    assert (living.returncode, living.stdout.strip()) == (0, "nothing to remove in loop main")

    station.send_signal(signal.SIGTERM)
    assert station.wait(60.0) == 0
    unasked = shop.run("purge", "--port", str(shop.broker.port), "--json")
    topics = [ghost["topic"] for ghost in json.loads(unasked.stdout)["ghosts"]]
    assert len(topics) == 4  # three channels and the status
    done = shop.run("purge", "--port", str(shop.broker.port), "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "4 removed"
    after = shop.run("purge", "--port", str(shop.broker.port), "--json")
    assert json.loads(after.stdout)["ghosts"] == []


def test_nobody_there_is_a_finding_and_no_traceback(shop: Shop) -> None:
    port = free_port()
    done = shop.run("doctor", "--port", str(port))
    assert done.returncode == 1
    assert "fault: no broker answers" in done.stdout
    assert done.stderr == ""


async def test_a_broker_that_queues_little_and_keeps_nothing_is_found_out(tmp_path: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("needs mosquitto (Debian: apt install mosquitto)")
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nretain_available false\n"
        "max_queued_messages 500\nmax_inflight_messages 20\n"
    )
    with start("mosquitto", port=port, data_dir=tmp_path / "data", config=config):
        trial = await try_broker(BrokerSettings(port=port), clocks.monotonic_s)
    assert trial.may_write
    assert trial.retains is False
    assert trial.queued is not None
    assert 400 < trial.queued < QUEUED


async def test_our_own_broker_queues_and_keeps_all(broker: RunningBroker) -> None:
    trial = await try_broker(BrokerSettings(host=broker.host, port=broker.port), clocks.monotonic_s)
    assert (trial.retains, trial.queued) == (True, QUEUED)
