"""The commands against real processes: what an operator types, and what becomes of it."""

import json
import re
import signal

import pytest

from tests.e2e.conftest import Shop

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(400)]


def balance(text: str) -> str:
    return next((line for line in text.splitlines() if " grid " in line), "")


def channel(text: str, name: str) -> str:
    return next((line for line in text.splitlines() if line.startswith(f"s1/{name} ")), "")


def grid_w(text: str) -> float:
    found = re.search(r"grid +([+-]?[0-9.]+) (k?)W", balance(text))
    assert found is not None, text
    return float(found[1]) * (1000.0 if found[2] else 1.0)


def in_charge(text: str) -> bool:
    """Tell whether the equalizer knows the whole loop, with its load of 12 kW and nothing to balance it with."""
    return "starting" not in balance(text) and "channels 3 (0 stale)" in text and "+12.00 kW" in channel(text, "load")


def test_an_operator_sets_a_channel_balances_pauses_resumes_aims_and_stops(shop: Shop) -> None:
    station, equalizer = shop.station(), shop.equalizer()
    shop.shows(in_charge)

    done = shop.run("equalize", "s1", "eq")
    assert (done.returncode, done.stdout[:9]) == (0, "accepted:"), done.stderr
    shop.shows(lambda text: abs(grid_w(text)) < 1000.0 and "applied" in channel(text, "eq"))

    assert shop.run("target", "-5000").returncode == 0
    shop.shows(lambda text: abs(grid_w(text) + 5000.0) < 1000.0)

    assert shop.run("pause").returncode == 0
    paused = shop.shows(lambda text: "paused" in balance(text) and abs(grid_w(text) - 12000.0) < 500.0)
    assert "equalization        0 W" in balance(paused)

    assert shop.run("target", "0").returncode == 0
    assert shop.run("resume").returncode == 0
    shop.shows(lambda text: "balancing" in balance(text) and abs(grid_w(text)) < 1000.0)

    done = shop.run("stop", "s1", "eq")
    assert done.returncode == 0, done.stderr
    stopped = shop.shows(lambda text: "stopped" in channel(text, "eq"))
    assert "0 W" in channel(stopped, "eq")

    for process in (equalizer, station):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60.0) == 0


def test_a_refused_command_says_why_and_ends_with_one(shop: Shop) -> None:
    shop.station()
    shop.shows(lambda text: "+12.00 kW" in channel(text, "load"))

    empty = shop.run("equalize", "s1", "empty")
    assert (empty.returncode, empty.stdout) == (1, "")
    assert empty.stderr.startswith("rejected, battery_not_connected: ")

    busy = shop.run("equalize", "s1", "load")
    assert busy.returncode == 1
    assert busy.stderr.startswith("rejected, busy: ")

    programless = shop.run("start", "s1", "eq")
    assert programless.returncode == 1
    assert programless.stderr.startswith("rejected, no_program: ")


def test_a_command_that_nobody_answers_says_who_is_there(shop: Shop) -> None:
    shop.station()
    shop.shows(lambda text: channel(text, "load") != "")
    for arguments, text in (
        (("stop", "s2", "eq"), "there is no station 's2' in this loop; known are: s1"),
        (("pause",), "no reply from the equalizer of loop main"),
    ):
        done = shop.run(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"zeroloop: {text}")
        assert done.stderr.count("\n") == 1
    nowhere = shop.run("stop", "s1", "9")
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert nowhere.stderr.startswith("rejected, not_active: station s1 has no channel '9'; it has: eq, load, empty")


def test_discover_lists_the_server_and_the_next_command_remembers_it(shop: Shop) -> None:
    shop.station()
    discover = ("discover", "--seconds", "2", "--port", str(shop.broker.port))
    nobody = shop.says(lambda done: "a broker without a server" in done.stdout, *discover)
    assert nobody.returncode == 1

    shop.equalizer()
    shop.shows(in_charge)
    place = f"{shop.broker.host}:{shop.broker.port} (configured)"
    found = shop.says(lambda done: f"{place}: loop main, server equalizer online" in done.stdout, *discover)
    assert found.returncode == 0

    listed = json.loads(shop.says(lambda done: '"online"' in done.stdout, *discover, "--json").stdout)
    assert [(place["port"], place["servers"][0]["status"]) for place in listed] == [(shop.broker.port, "online")]
    snapshot = ("watch", "--once", "--json")
    known = json.loads(shop.says(lambda done: len(json.loads(done.stdout)["channels"]) == 3, *snapshot).stdout)
    assert known["balance"]["channels"] == 3
    assert known["stations"]["s1"]["status"] == "online"

    assert shop.run("pause").returncode == 0
    remembered = (shop.folder / "home" / "zeroloop" / "connection.json").read_text()
    assert f'"port": {shop.broker.port}' in remembered


def test_watch_prints_lines_until_it_is_asked_to_end(shop: Shop) -> None:
    shop.station()
    shop.equalizer()
    shop.shows(in_charge)
    watching = shop.start("watch", "watch")
    log = shop.folder / "watch.log"
    shop.shows(lambda _: log.read_text().count(" grid ") >= 3)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(60.0) == 0
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_end_cleanly_on_a_signal(shop: Shop, number: signal.Signals) -> None:
    station, equalizer = shop.station(), shop.equalizer()
    shop.shows(in_charge)
    equalizer.send_signal(number)
    assert equalizer.wait(60.0) == 0
    station.send_signal(number)
    assert station.wait(60.0) == 0
    for name in ("equalizer", "station"):
        assert "Traceback" not in (shop.folder / f"{name}.log").read_text()
