"""A live loop recorded by the command, ended by Ctrl-C, and exported."""

import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest

from equalizer.config import ControlSection
from recording.reader import Recording
from schemas.messages import Policy
from simulation.redecide import agreement
from tests.conftest import needs
from tests.e2e.conftest import EQUALIZER, Shop
from tests.ports import free_port

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_loop_is_recorded_until_ctrl_c_and_a_channel_exported(shop: Shop) -> None:
    shop.station()
    port = free_port()
    (shop.folder / "equalizer.toml").write_text(EQUALIZER.replace("port = 0", f"port = {port}"))
    shop.start("equalizer", "equalizer", "--config", "equalizer.toml")
    shop.shows(lambda text: "channels 3 (0 stale)" in text and "starting" not in text)
    assert shop.run("equalize", "s1", "eq").returncode == 0
    place = ("--host", shop.broker.host, "--port", str(shop.broker.port), "--config", "equalizer.toml")
    recording = shop.start("record", "record", "--out", "hall.parquet", *place)
    log = Path(shop.folder) / "record.log"
    until_s = time.monotonic() + 60.0
    while "recording loop main" not in log.read_text():
        assert time.monotonic() < until_s, log.read_text()
        time.sleep(0.2)
    # What somebody else hears meanwhile, but for the last of it, the recording has, too.
    place = ("-h", shop.broker.host, "-p", str(shop.broker.port))
    topic = "zeroloop/v1/main/station/s1/channel/load/telemetry"
    words = (needs("mosquitto_sub", "mosquitto-clients"), *place, "-t", topic, "-R", "-C", "3")
    for target_w in (-3000, 2000):
        assert shop.run("target", str(target_w)).returncode == 0
        subprocess.run(words, check=True, capture_output=True, timeout=60.0)
    recording.send_signal(signal.SIGINT)
    assert recording.wait(60.0) == 0, log.read_text()
    assert "Traceback" not in log.read_text()

    held = Recording(shop.folder / "hall.parquet")
    assert held.settings() is not None
    assert set(held.channels()) == {("s1", "eq"), ("s1", "load"), ("s1", "empty")}
    leaves = {row.topic.rpartition("/")[2] for row in held.rows() if not row.retained}
    assert {"telemetry", "balance"} <= leaves

    # Begun amid the work, it is decided again: by what the equalizer has said of itself.
    rows = list(held.rows())
    again = agreement(held, rows, ControlSection(policy=Policy.DWELL, delay_s=1.0), rows[-1].at_s)
    assert again.recorded >= 2
    assert (again.met, again.others, again.why) == (again.recorded, 0, None)

    done = shop.run("export", "--station", "s1", "--channel", "load", "--out", "load.csv")
    assert done.returncode == 0, done.stderr
    frame = pl.read_csv(shop.folder / "load.csv")
    assert frame.height >= 3
    assert abs(frame["Power / W"].mean() - 12_000.0) < 600.0  # type: ignore[operator]  # a number
