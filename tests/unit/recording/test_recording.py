"""A recording: what is written is read back, whatever ends the writing; and a channel's history of it."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from recording import writer as writing
from recording.bdf import COLUMNS, history, write
from recording.reader import Recording
from recording.writer import SETTINGS_TOPIC, Writer, finish, parts_folder
from schemas.settings import ConfigurationError
from zeroloop.main import main

TOPIC = "zeroloop/v1/main/station/s1/channel/1/telemetry"
UTC_S = 1795412000.0


def telemetry(seq: int, *, current_a: float = 10.0, step_id: int = 1, temperature: str = "25.5") -> bytes:
    return (
        f'{{"boot_id":"b","seq":{seq},"unix_time_s":{UTC_S + seq},"work_status":"working","step_type":"cc_chg",'
        f'"step_id":{step_id},"cycle_count":1,"voltage_v":360.0,"current_a":{current_a},"power_w":{360.0 * current_a},'
        f'"temperature_degc":{temperature},"soc_ratio":null,"battery_connected":true,"equalization":null,"alarm":null}}'
    ).encode()


def recorded(path: Path, count: int = 60) -> Path:
    record = Writer(path)
    record.add(0.0, UTC_S, SETTINGS_TOPIC, b'{"control":{"delay_s":15.0}}', retained=False)
    record.add(0.1, UTC_S, TOPIC, telemetry(0, current_a=99.0), retained=True)
    for number in range(1, count + 1):
        charging = number <= count // 2
        payload = telemetry(number, current_a=10.0 if charging else -5.0, step_id=1 if charging else 2)
        record.add(float(number), UTC_S + number, TOPIC, payload, retained=False)
        if record.full:
            record.flush()
    record.add(count + 0.5, UTC_S + count, TOPIC, b"{malformed", retained=False)
    record.finish()
    return path


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    recording = Recording(recorded(tmp_path / "hall.parquet"))
    rows = list(recording.rows())
    assert [row.at_s for row in rows] == sorted(row.at_s for row in rows)
    assert (rows[0].retained, rows[1].retained) == (True, False)
    assert rows[1].payload == telemetry(1)
    assert rows[-1].payload == b"{malformed"
    assert recording.settings() == b'{"control":{"delay_s":15.0}}'
    assert recording.channels() == [("s1", "1")]


def test_memory_holds_one_part_and_the_file_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(Recording(recorded(tmp_path / "whole.parquet")).rows())
    monkeypatch.setattr(writing, "PART_ROWS", 7)
    record = Writer(tmp_path / "parts.parquet")
    for row in whole:
        record.add(row.at_s, row.unix_time_s, row.topic, row.payload, retained=row.retained)
        assert not record.full or len(record._rows) == 7
        if record.full:
            record.flush()
    assert len(list(parts_folder(tmp_path / "parts.parquet").iterdir())) == len(whole) // 7
    record.finish()
    assert list(Recording(tmp_path / "parts.parquet").rows()) == whole
    assert not parts_folder(tmp_path / "parts.parquet").exists()


def test_a_recorder_that_was_killed_leaves_parts_of_which_the_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "hall.parquet"
    record = Writer(path)
    record.add(1.0, UTC_S, TOPIC, telemetry(1), retained=False)
    record.flush()
    record.add(2.0, UTC_S, TOPIC, telemetry(2), retained=False)  # in memory, and lost
    del record
    with pytest.raises(ConfigurationError, match="--finish"):
        Writer(path)
    assert finish(path) == 1
    assert [row.payload for row in Recording(path).rows()] == [telemetry(1)]
    with pytest.raises(ConfigurationError, match="is there already"):
        Writer(path)


def test_a_channels_history_has_the_formats_columns(tmp_path: Path) -> None:
    frame = history(Recording(recorded(tmp_path / "hall.parquet")), "s1", "1")
    assert frame.schema == COLUMNS
    assert frame.height == 60  # neither the broker's memory nor the malformed message is among it
    assert frame["Test Time / s"][0] == 0.0
    assert frame["Test Time / s"].is_sorted()
    assert frame["Unix Time / s"][-1] == UTC_S + 60.0
    assert (frame["Current / A"][0], frame["Current / A"][-1]) == (10.0, -5.0)
    assert frame["Step Count / 1"].unique().to_list() == [1, 2]
    assert frame["Surface Temperature T1 / degC"][0] == 25.5


def test_from_and_to_cut_the_history_and_the_time_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = recorded(tmp_path / "hall.parquet")
    out = tmp_path / "cut.csv"
    span = ("--from", str(UTC_S + 11.0), "--to", str(UTC_S + 20.0))
    assert (
        main(["export", "--recording", str(recording), "--station", "s1", "--channel", "1", *span, "--out", str(out)])
        == 0
    )
    frame = pl.read_csv(out)
    assert frame.height == 10
    assert frame["Test Time / s"].to_list() == [float(second) for second in range(10)]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--station", "s1", "--channel", "9"), "has nothing of s1/9; it has: s1/1"),
        (("--station", "s1", "--channel", "1", "--from", "yesterday"), "--from: 'yesterday' is no time"),
        (("--station", "s1", "--channel", "1", "--to", "5"), "none in that time"),
        (("--station", "s1", "--channel", "1", "--out", "x.xlsx"), ".csv or .parquet is known"),
    ],
)
def test_what_cannot_be_exported_is_one_clear_line(
    tmp_path: Path, arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = recorded(tmp_path / "hall.parquet")
    assert main(["export", "--recording", str(recording), *arguments]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_another_file_is_no_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(other)
    for path in (other, tmp_path / "missing.parquet", Path(__file__)):
        assert main(["export", "--recording", str(path), "--station", "s1", "--channel", "1"]) == 2
        assert "is no recording" in capsys.readouterr().err


READER = """
import sys, warnings
warnings.simplefilter("ignore")
from bdf.io import load
from bdf.validate import validate_df
frame = load(sys.argv[1])
assert validate_df(frame, report=True)["ok"]
frame.to_csv(sys.argv[2], index=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_formats_own_reader_takes_it(tmp_path: Path, suffix: str) -> None:
    """In a process of its own: it brings pandas, and redefines units where it is imported."""
    if find_spec("bdf") is None:
        pytest.skip("needs batterydf (pip install batterydf)")
    frame = history(Recording(recorded(tmp_path / "hall.parquet")), "s1", "1")
    path, again = tmp_path / f"s1-1.bdf{suffix}", tmp_path / "again.csv"
    write(frame, path)
    subprocess.run([sys.executable, "-c", READER, path, again], check=True, capture_output=True, timeout=100.0)
    read = pl.read_csv(again)
    for column in COLUMNS:
        assert read[column].to_list() == frame[column].to_list(), column
