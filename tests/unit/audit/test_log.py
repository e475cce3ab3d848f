"""The log's files: rotation, restarts, power cuts, and a disk that is full."""

import json
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from equalizer.audit import log as module
from equalizer.audit.chain import Verdict, verify
from equalizer.audit.log import FILES, AuditLog, Paths


def opened(folder: Path, most_bytes: int = 1_000_000) -> AuditLog:
    return AuditLog(folder, "main", most_bytes=most_bytes, utc=lambda: 1_795_400_000.0)


def look(folder: Path) -> Verdict:
    paths = Paths(folder, "main")
    return verify(paths.lines(), [paths.claim()])


def entries(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in Paths(folder, "main").lines()]


def write(log: AuditLog, count: int, text: str = "x") -> None:
    for number in range(count):
        log.record("event", number=number, text=text)
    log.write()


def test_entries_are_on_disk_after_a_write_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    log = opened(tmp_path)
    write(log, 3)
    assert [entry["number"] for entry in entries(tmp_path)] == [0, 1, 2]
    assert look(tmp_path).faults == ()
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (log.written, log.lost) == (3, 0)


def test_a_restart_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    for _ in range(3):
        write(opened(tmp_path), 2)
    assert [entry["seq"] for entry in entries(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert look(tmp_path).faults == ()


def test_old_files_make_room_and_the_chain_holds_across_files_and_restarts(tmp_path: Path) -> None:
    most_bytes = FILES * 2000
    for _ in range(40):
        write(opened(tmp_path, most_bytes), 10)
        assert look(tmp_path).faults == ()
    kept = entries(tmp_path)
    assert kept[0]["seq"] != 1
    assert kept[-1]["seq"] == 400
    files = [path for path in tmp_path.iterdir() if path.suffix == ".jsonl"]
    assert len(files) == FILES
    assert sum(path.stat().st_size for path in files) <= most_bytes + 300
    Paths(tmp_path, "main").older()[-1].unlink()
    assert look(tmp_path).faults, "a file that is gone is not taken for one that made room"


def test_what_a_power_cut_left_half_is_taken_away_and_said(tmp_path: Path) -> None:
    write(opened(tmp_path), 3)
    path = Paths(tmp_path, "main").current
    path.write_bytes(path.read_bytes() + b'{"seq":4,"unix_ti')
    assert look(tmp_path).faults
    write(opened(tmp_path), 1)
    assert look(tmp_path).faults == ()
    assert [entry["kind"] for entry in entries(tmp_path)] == ["event"] * 3 + ["torn", "event"]


def test_entries_that_were_taken_away_between_two_runs_stay_missed_for_ever(tmp_path: Path) -> None:
    write(opened(tmp_path), 5)
    path = Paths(tmp_path, "main").current
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    write(opened(tmp_path), 2)
    assert look(tmp_path).faults == ("entries 4 to 5 are missing",)
    gap = entries(tmp_path)[3]
    assert (gap["kind"], gap["first_seq"], gap["last_seq"]) == ("gap", 4, 5)


@contextmanager
def no_room_beyond(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond a size: as on a full disk, a write ends half way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_nothing_and_leaves_no_half_line(tmp_path: Path) -> None:
    log = opened(tmp_path, 100_000_000)
    write(log, 20)
    full = Paths(tmp_path, "main").current.stat().st_size
    with no_room_beyond(full + 100):
        write(log, 5)
    assert log.trouble is not None
    assert Paths(tmp_path, "main").current.stat().st_size == full
    assert look(tmp_path).faults == ()
    log.write()
    assert log.trouble is None
    assert [entry["number"] for entry in entries(tmp_path)] == [*range(20), *range(5)]
    assert look(tmp_path).faults == ()


def test_what_no_longer_fits_in_memory_is_counted_and_the_log_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    log = opened(tmp_path / "state", 100_000_000)
    write(log, module.MOST_WAITING + 7)
    assert log.trouble is not None
    assert log.lost == 7
    (tmp_path / "state").unlink()
    log.write()
    kept = entries(tmp_path / "state")
    assert len(kept) == module.MOST_WAITING + 1
    assert (kept[-1]["kind"], kept[-1]["entries"]) == ("lost", 7)
    assert look(tmp_path / "state").faults == ()


def test_a_log_that_is_switched_off_makes_no_file(tmp_path: Path) -> None:
    write(opened(tmp_path, 0), 5)
    assert list(tmp_path.iterdir()) == []


def test_two_loops_share_a_folder(tmp_path: Path) -> None:
    write(opened(tmp_path), 1)
    other = AuditLog(tmp_path, "main-2", most_bytes=1_000_000, utc=lambda: 0.0)
    write(other, 2)
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize("damage", [b"", b"null", b'{"seq": "x"}'])
def test_a_damaged_head_is_no_reason_to_lose_the_log(tmp_path: Path, damage: bytes) -> None:
    write(opened(tmp_path), 2)
    (tmp_path / "audit-main.head.json").write_bytes(damage)
    write(opened(tmp_path), 2)
    assert [entry["seq"] for entry in entries(tmp_path)] == [1, 2, 3, 4]
    assert look(tmp_path).faults == ()
