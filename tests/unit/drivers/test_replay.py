"""Recordings played as loads: every kind of file, what is shown and announced of it, and what bad input says."""

import io
import logging
import zipfile
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.messages import StepType, WorkStatus
from station.drivers.protocol import (
    ChannelHardware,
    ConstantPower,
    DeviceFaultError,
    DriverConfigurationError,
    Off,
    OwnProgram,
    Preview,
    Sample,
)
from station.drivers.replay import ReplayDriver, create
from station.drivers.replay.outline import outline
from station.drivers.replay.reading import read
from station.drivers.replay.recording import Recording, from_table

DATA = Path(__file__).parents[2] / "data"
BUNDLED = Path(__file__).parents[3] / "station" / "recordings"


class Player:
    """One channel that plays a recording, and a clock."""

    def __init__(self, path: str | Path, *, limit_w: float = 100000.0, **options: object) -> None:
        self.driver: ReplayDriver = create({}, str(DATA))
        table = {"recording": {"path": str(path), **options}}
        with pytest.raises(StopIteration):  # awaits nothing, and so needs no event loop
            self.driver.open([ChannelHardware("1", limit_w, limit_w, limit_w, table)]).send(None)

    def play(self, *times_s: float) -> list[Sample]:
        return [self.driver.exchange("1", OwnProgram(), time_s) for time_s in times_s]

    def announced(self, now_s: float, horizon_s: float = 120.0) -> Preview:
        preview = self.driver.preview("1", horizon_s, now_s)
        assert preview is not None
        return preview


def power_at(preview: Preview, after_s: float) -> float:
    return next(segment.power_w for segment in reversed(preview.segments) if segment.after_s <= after_s)


@pytest.mark.parametrize(
    ("path", "duration_s", "kinds"),
    [
        ("bundled:cell-cycling.ndax", 77704.2, {StepType.REST, StepType.CC_DCHG, StepType.CCCV_CHG}),
        ("bundled:sim-200A.nda.zip", 1085.41, {StepType.REST, StepType.SIM}),
        ("bundled:pulse.nda.zip", 3601.65, {StepType.SIM}),
        ("short-2A.ndax", 80.0, {StepType.REST, StepType.CC_CHG, StepType.CC_DCHG}),
        ("corrupt.ndax", 300.0, {StepType.REST}),
    ],
)
def test_every_recording_plays_to_its_end(path: str, duration_s: float, kinds: set[StepType]) -> None:
    player = Player(path, loop=False)
    seen = player.play(*[duration_s * part / 1000.0 for part in range(1000)])
    steps = [sample.own_step for sample in seen]
    assert {step.step_type for step in steps if step is not None} == kinds
    assert all(sample.voltage_v > 2.0 for sample in seen)
    end = player.play(duration_s + 1.0)[0]
    assert end.own_step is not None
    assert end.own_step.work_status is WorkStatus.FINISHED
    assert (end.current_a, end.power_w) == (0.0, 0.0)


def test_a_cell_becomes_a_pack() -> None:
    cell, pack = Player("short-2A.ndax"), Player("short-2A.ndax", series=96, parallel=30)
    single, whole = cell.play(0.0, 25.0)[-1], pack.play(0.0, 25.0)[-1]
    assert whole.voltage_v == pytest.approx(96 * single.voltage_v)
    assert whole.current_a == pytest.approx(30 * single.current_a)
    assert whole.power_w == pytest.approx(2880 * single.power_w)
    assert single.temperature_degc == pytest.approx(23.7, abs=0.4)


def test_steps_and_cycles_are_the_recordings_own() -> None:
    samples = Player("bundled:cell-cycling.ndax").play(0.0, 5000.0, 12000.0, 26000.0)
    steps = [sample.own_step for sample in samples]
    assert [(step.step_type, step.step_id, step.cycle_count) for step in steps if step is not None] == [
        (StepType.REST, 1, 1),
        (StepType.CC_DCHG, 2, 1),
        (StepType.CCCV_CHG, 4, 2),
        (StepType.CCCV_CHG, 9, 3),
    ]


def test_time_scale_and_start_choose_the_place() -> None:
    fast = Player("bundled:cell-cycling.ndax", time_scale=100.0, start_s=300.0)
    step = fast.play(1000.0, 1050.0)[-1].own_step  # 300 s + 50 s at 100 to 1
    assert step is not None
    assert (step.step_type, step.step_id) == (StepType.CC_DCHG, 2)
    step = fast.play(1100.0)[-1].own_step
    assert step is not None
    assert step.step_id == 4


def test_looping_counts_cycles_on() -> None:
    player = Player("short-2A.ndax")
    cycles = [sample.own_step.cycle_count for sample in player.play(0.0, 79.0, 81.0, 159.0, 161.0) if sample.own_step]
    assert cycles == [1, 1, 2, 2, 3]


def test_off_ends_a_run_and_the_next_begins_anew() -> None:
    player = Player("short-2A.ndax")
    assert player.play(0.0, 20.0)[-1].power_w > 5.0
    stopped = player.driver.exchange("1", Off(), 21.0)
    assert (stopped.current_a, stopped.power_w, stopped.own_step) == (0.0, 0.0, None)
    assert stopped.voltage_v == pytest.approx(3.0, abs=0.1)
    assert player.driver.preview("1", 60.0, 22.0) is None
    again = player.play(100.0)[0].own_step
    assert again is not None
    assert again.step_type is StepType.REST


def test_another_demand_is_refused() -> None:
    with pytest.raises(DeviceFaultError, match="no other demand"):
        Player("short-2A.ndax").driver.exchange("1", ConstantPower(1.0), 0.0)


def test_energy_adds_up_over_fast_swings() -> None:
    """10 ms swings of ±650 W, sampled once a second: the samples' energy is the recording's."""
    player = Player("bundled:sim-200A.nda.zip")
    samples = player.play(*[float(second) for second in range(1085)])
    recording = loaded(BUNDLED / "sim-200A.nda.zip")
    swing_j = float(abs(recording.power_w).mean() * recording.duration_s)
    assert sum(sample.power_w for sample in samples) == pytest.approx(
        float(recording.energy_j[-1]), abs=0.002 * swing_j
    )


def test_pulses_between_two_records_are_counted() -> None:
    """The cycler counted 0.3 A in the mean; its records alone, held, would give 0.11 A."""
    samples = Player("bundled:pulse.nda.zip").play(*[float(second) for second in range(100)])
    mean_a = sum(sample.current_a for sample in samples[1:]) / 99.0
    assert mean_a == pytest.approx(-0.2999, abs=0.005)


def test_a_new_step_shows_its_full_power_at_once() -> None:
    """A tick that straddles an edge shows the new step, not a mixture."""
    player = Player("short-2A.ndax")
    before, after = player.play(0.0, 39.6, 40.6)[1:]
    assert before.current_a == pytest.approx(2.0, abs=0.01)
    assert after.current_a == pytest.approx(-2.0, abs=0.03)


def test_preview_announces_the_edges_exactly() -> None:
    player = Player("short-2A.ndax", series=100, parallel=20, limit_w=13000.0)
    player.play(0.0, 5.0)
    preview = player.announced(5.0, 60.0)
    assert [power_at(preview, after_s) for after_s in (0.0, 4.999)] == [0.0, 0.0]
    assert [power_at(preview, after_s) for after_s in (5.0, 34.999)] == pytest.approx([11480.0, 12250.0], rel=0.01)
    assert power_at(preview, 35.001) == pytest.approx(-12000.0, rel=0.01)
    assert {5.0, 35.0} <= {round(segment.after_s, 6) for segment in preview.segments}
    assert preview.until_s == 60.0


def test_preview_runs_on_into_the_next_loop_and_ends_with_the_recording() -> None:
    looped, once = Player("short-2A.ndax", limit_w=10.0), Player("short-2A.ndax", limit_w=10.0, loop=False)
    for player in (looped, once):
        player.play(0.0, 60.0)
    assert power_at(looped.announced(60.0), 32.0) == pytest.approx(6.0, abs=0.2)
    assert power_at(once.announced(60.0), 32.0) == 0.0
    assert once.announced(60.0).until_s == 120.0
    assert once.play(90.0)
    assert [segment.power_w for segment in once.announced(90.0).segments] == [0.0]


def test_preview_of_fast_swings_ends_where_its_segments_do() -> None:
    player = Player("bundled:sim-200A.nda.zip", limit_w=700.0)
    player.play(0.0, 100.0)
    preview = player.announced(100.0, 600.0)
    assert len(preview.segments) == 64
    assert preview.segments[-1].after_s < preview.until_s < 100.0


@pytest.mark.parametrize("path", ["bundled:cell-cycling.ndax", "short-2A.ndax", "bundled:pulse.nda.zip"])
def test_what_was_announced_comes(path: str) -> None:
    """Slow recordings: every later sample lies within the tolerance of what the first preview said."""
    player = Player(path, limit_w=22.0)
    player.play(9000.0, 9200.0)
    preview = player.announced(9200.0, 1800.0)
    late = 0
    for second in range(1, int(preview.until_s)):
        sample = player.play(9200.0 + second)[0]
        late += abs(sample.power_w - power_at(preview, float(second))) > 0.02 * 22.0
    assert late <= 2 * len(preview.segments)  # a record that an edge falls into


@pytest.mark.parametrize("kind", ["bdf", "bdf-preferred", "plain", "milliampere"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_play_under_each_of_their_names(tmp_path: Path, kind: str, suffix: str) -> None:
    time, volts, amps, scale = {
        "bdf": ("test_time_second", "voltage_volt", "current_ampere", 1.0),
        "bdf-preferred": ("Test Time / s", "Voltage / V", "Current / A", 1.0),
        "plain": ("time_s", "voltage_v", "current_a", 1.0),
        "milliampere": ("total_time_s", "voltage_V", "current_mA", 1000.0),
    }[kind]
    table = pl.DataFrame({time: [0, 10, 20], volts: [3.6, 3.7, 3.5], amps: [2.0 * scale, -1.0 * scale, 0.0]})
    path = tmp_path / f"test.{suffix}"
    table.write_csv(path) if suffix == "csv" else table.write_parquet(path)
    samples = Player(path, loop=False).play(100.0, 105.0, 110.0, 115.0)
    assert [sample.current_a for sample in samples] == pytest.approx([2.0, 2.0, 2.0, -1.0])
    step = samples[0].own_step
    assert step is not None
    assert (step.step_type, step.step_id) == (StepType.SIM, 1)


def test_a_table_with_steps_keeps_them(tmp_path: Path) -> None:
    table = pl.DataFrame({
        "Test Time / s": [0.0, 10.0, 10.0, 20.0, 20.0, 30.0], "Voltage / V": [3.6] * 6,
        "Current / A": [0.0, 0.0, 2.0, 2.0, -2.0, -2.0], "Step ID": [1, 1, 2, 2, 3, 3],
        "Step Type": ["Rest", "Rest", "CC_Chg", "CC_Chg", "CR_DChg", "CR_DChg"], "Cycle Count / 1": [1, 1, 1, 1, 2, 2],
    })  # fmt: skip
    table.write_parquet(tmp_path / "test.parquet")
    steps = [sample.own_step for sample in Player(tmp_path / "test.parquet").play(0.0, 15.0, 25.0)]
    assert [(step.step_type, step.step_id, step.cycle_count) for step in steps if step is not None] == [
        (StepType.REST, 1, 1),
        (StepType.CC_CHG, 2, 1),
        (StepType.SIM, 3, 2),
    ]


def loaded(path: Path) -> Recording:
    return from_table(read(path), path.name)


def test_records_out_of_order_are_sorted_and_the_last_of_a_time_holds(tmp_path: Path) -> None:
    times = [*range(40), 38, 40, 40, 41]
    amps = [1.0] * 40 + [5.0, 2.0, 3.0, 3.0]
    path = tmp_path / "test.csv"
    pl.DataFrame({"time_s": times, "voltage_v": [4.0] * 44, "current_a": amps}).write_csv(path)
    recording = loaded(path)
    assert recording.time_s.tolist() == [float(second) for second in range(42)]
    assert recording.power_w[[37, 38, 39, 40]].tolist() == [4.0, 20.0, 4.0, 12.0]


def test_a_clock_that_starts_again_is_no_disorder(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    times = [*range(50), *range(50)]
    pl.DataFrame({"time_s": times, "voltage_v": [4.0] * 100, "current_a": [1.0] * 100}).write_csv(path)
    with pytest.raises(DriverConfigurationError, match="backwards at record 51"):
        Player(path)


def refusal(path: str | Path, **options: object) -> str:
    with pytest.raises(DriverConfigurationError) as error:
        Player(path, **options)  # type: ignore[arg-type]  # a table's values
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("channel 1: ")
    return text


def test_an_empty_recording_says_so() -> None:
    assert "empty.ndax: holds no records" in refusal("empty.ndax")


def test_a_missing_file_says_so() -> None:
    assert "nothing.ndax: there is no such file" in refusal("nothing.ndax")
    assert "bundled are: cell-cycling.ndax, pulse.nda.zip, sim-200A.nda.zip" in refusal("bundled:nothing.ndax")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("path", [DATA / "short-2A.ndax", BUNDLED / "pulse.nda.zip"])
def test_a_truncated_archive_says_what_to_do(tmp_path: Path, path: Path, kept: float) -> None:
    whole = path.read_bytes()
    (tmp_path / path.name).write_bytes(whole[: int(len(whole) * kept)])
    assert f"{path.name}: is damaged" in (text := refusal(tmp_path / path.name))
    assert text.endswith("copy or export it again")


@pytest.mark.parametrize("suffix", ["nda", "ndax", "csv", "parquet", "zip"])
def test_a_file_of_another_kind_says_so(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"test.{suffix}"
    path.write_bytes(b"\x93NUMPY\x01\x00 neither a test nor a table" * 50)
    assert f"test.{suffix}: " in refusal(path)


def test_columns_and_numbers_that_are_missing_are_named(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("time_s,voltage_v\n0,3.5\n1,3.5\n")
    assert "has no column for current_a; one of these must head it: Current / A" in refusal(path)
    path.write_text("time_s,voltage_v,current_a\n0,3.5,1\n1,n/a,1\n2,3.5,NaN\n")
    assert "voltage_v of record 2 is not a number" in refusal(path)
    path.write_text("time_s,voltage_v,current_a\n7,3.5,1\n7,3.5,1\n")
    assert "all its records are of one time" in refusal(path)


def test_an_archive_of_several_recordings_says_so(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("a.csv", "x")
        zipped.writestr("b.csv", "x")
    (tmp_path / "two.zip").write_bytes(archive.getvalue())
    assert "must hold one file of .nda, .ndax, .csv, .parquet, not 2" in refusal(tmp_path / "two.zip")


def test_an_archive_is_read_the_same_every_time() -> None:
    """Threads on one archive are mixed up by some Pythons' zipfile."""
    lengths = {len(loaded(DATA / "short-2A.ndax").time_s) for _ in range(100)}
    assert len(lengths) == 1


def test_wrong_options_are_named() -> None:
    assert "recording.serie: unknown key; did you mean series?" in refusal("short-2A.ndax", serie=96)
    assert "recording.start_s: must be below the recording's 80 s, not 100" in refusal("short-2A.ndax", start_s=100.0)
    assert "charge_limit_w: the recording reaches 614 W with series 10 and parallel 10, above 100 W" in refusal(
        "short-2A.ndax", limit_w=100.0, series=10, parallel=10
    )


def test_damaged_side_information_is_one_warning_and_no_traceback(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """All 301 records are there; only the auxiliary channels' description is damaged."""
    with caplog.at_level(logging.INFO):
        Player("corrupt.ndax")
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "corrupt.ndax: records are complete, but: Aux files found" in record.getMessage()
    assert record.exc_info is None
    assert len(loaded(DATA / "corrupt.ndax").time_s) == 301
    assert "Traceback" not in capfd.readouterr().err


POWERS = st.lists(st.floats(-10.0, 10.0), min_size=3, max_size=60)


def recording_of(powers_w: list[float]) -> Recording:
    count = len(powers_w)
    table = {"time_s": [float(k) for k in range(count)], "voltage_v": [1.0] * count, "current_a": powers_w}
    return from_table(pl.DataFrame(table), "made up")


@given(POWERS, st.floats(0.0, 5.0))
def test_no_piece_strays_further_than_the_tolerance(powers_w: list[float], tolerance_w: float) -> None:
    recording = recording_of(powers_w)
    pieces = outline(recording, resolution_s=1.0, tolerance_w=tolerance_w)
    for k, power_w in enumerate(powers_w[:-1]):
        assert abs(float(pieces.power_w[pieces.piece_at(k + 0.5)]) - power_w) <= tolerance_w + 1e-9
    assert pieces.starts_s[0] == 0.0
    assert all(before < after for before, after in pairwise(pieces.starts_s))
    spans_s = [after - before for before, after in pairwise([*pieces.starts_s, recording.duration_s])]
    assert float(pieces.power_w @ spans_s) == pytest.approx(float(recording.energy_j[-1]), abs=1e-6)


@settings(deadline=None)
@given(POWERS, st.lists(st.floats(0.01, 7.0), min_size=1, max_size=40))
def test_samples_carry_the_recordings_energy_whatever_the_ticks(powers_w: list[float], ticks_s: list[float]) -> None:
    recording = recording_of(powers_w)
    now_s, energy_j = 0.0, 0.0
    for tick_s in ticks_s:
        end_s = min(now_s + tick_s, recording.duration_s)
        energy_j += recording.mean(now_s, end_s)[1] * (end_s - now_s)
        now_s = end_s
    whole = recording.mean(0.0, now_s)[1] * now_s
    assert energy_j == pytest.approx(whole, abs=1e-6)
    assert min(powers_w) - 1e-6 <= recording.mean(0.0, now_s)[1] <= max(powers_w) + 1e-6
