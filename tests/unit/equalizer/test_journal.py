"""The decision log: what is written, how large it grows, and that a disk that fails costs lines and nothing else."""

import json
import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from equalizer.journal import MOST_WAITING, Journal


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["n"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_entry_becomes_a_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state" / "decisions.jsonl", most_bytes=100_000)
    for n in range(3):
        journal.note({"n": n, "reason": "load_step"})
    journal.write()
    assert numbers(tmp_path / "state" / "decisions.jsonl") == [0, 1, 2]
    assert (journal.written, journal.lost) == (3, 0)


def test_both_files_together_stay_below_the_cap_and_hold_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    journal = Journal(path, most_bytes=20_000)
    for n in range(3000):
        journal.note({"n": n, "padding": "x" * (n % 40)})
        if n % 70 == 0:
            journal.write()
            assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 20_000
    journal.write()
    kept = numbers(path.with_name("decisions.jsonl.1")) + numbers(path)
    assert kept == list(range(kept[0], 3000))
    assert len(kept) > 200
    assert journal.written == 3000


def test_a_log_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    for n in range(3):
        journal = Journal(tmp_path / "decisions.jsonl", most_bytes=20_000)
        journal.note({"n": n})
        journal.write()
    assert numbers(tmp_path / "decisions.jsonl") == [0, 1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(Path("/dev/full"), most_bytes=20_000)
    with caplog.at_level(logging.INFO):
        for n in range(5):
            journal.note({"n": n})
            journal.write()
    assert (journal.written, journal.lost) == (0, 5)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "No space left" in caplog.text


def test_a_disk_that_works_again_is_written_to_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "state"
    folder.write_text("no folder")
    journal = Journal(folder / "decisions.jsonl", most_bytes=20_000)
    journal.note({"n": 0})
    journal.write()
    folder.unlink()
    with caplog.at_level(logging.INFO):
        journal.note({"n": 1})
        journal.write()
    assert numbers(folder / "decisions.jsonl") == [1]
    assert (journal.written, journal.lost) == (1, 1)
    assert "decision_log_works_again lost=1" in caplog.text


def test_half_a_line_that_still_had_room_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    script = f"""
        import resource
        from pathlib import Path
        from equalizer.journal import Journal
        journal = Journal(Path({str(path)!r}), most_bytes=100_000)
        journal.note({{"n": 0, "padding": "x" * 300}})
        journal.write()
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        journal.note({{"n": 1, "padding": "x" * 300}})
        journal.write()
        print(journal.written, journal.lost)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
    assert numbers(path) == [0]


def test_lines_that_nobody_writes_do_not_pile_up_for_ever(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "decisions.jsonl", most_bytes=20_000_000)
    for n in range(MOST_WAITING + 5):
        journal.note({"n": n})
    assert journal.lost == 5
    journal.write()
    assert journal.written == MOST_WAITING


def test_a_cap_of_nothing_keeps_no_log(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "decisions.jsonl", most_bytes=0)
    journal.note({"n": 0})
    journal.write()
    assert list(tmp_path.iterdir()) == []
