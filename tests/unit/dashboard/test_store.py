"""What survives a restart of the page."""

import json
import sqlite3
from pathlib import Path

import pytest

from dashboard.alarms import AlarmBook
from dashboard.history import TIERS, Bucket, Kept, Mark
from dashboard.store import FILE, Store
from schemas.messages import Severity

NOW_S = 1_795_000_000.0


def test_what_was_written_is_read_by_the_next(tmp_path: Path) -> None:
    book = AlarmBook()
    book.open("station/s1", "station_offline", "gone", Severity.WARNING, NOW_S)
    store = Store(tmp_path)
    bucket = Kept(10, Bucket(int(NOW_S) - 100, 1.0, -1.0, 0.5, -2.0, 3.0))
    mark = Mark(NOW_S - 50.0, "act", "command_stop", "stops", "station/s1/channel/3", {"by": "ann"})
    troubles, _ = book.drain()
    store.write(
        NOW_S, buckets=[bucket], marks=[mark], troubles=troubles, facts=[("sessions", {"k": ["ann", "m", 1.0]})]
    )
    store.close()
    again = Store(tmp_path)
    assert again.history() == ([bucket], [mark])
    assert again.troubles() == book.listed()
    assert again.fact("sessions") == {"k": ["ann", "m", 1.0]}
    assert again.fact("nothing") is None
    again.close()


def test_a_file_of_the_first_version_is_read_and_written_on(tmp_path: Path) -> None:
    Store(tmp_path).close()
    database = sqlite3.connect(tmp_path / FILE)
    database.executescript(
        "DROP TABLE mark; PRAGMA user_version = 1;CREATE TABLE mark (unix_time_s REAL, kind TEXT, code TEXT, text TEXT)"
    )
    old = {"id": 1, "source": "station/s1", "code": "state_lost", "text": "gone", "severity": "warning"}
    times = {"opened_unix_time_s": NOW_S, "closed_unix_time_s": None, "acknowledged_unix_time_s": None}
    with database:
        database.execute("INSERT INTO mark VALUES (?, 'act', 'operator', 'paused')", (NOW_S,))
        content = json.dumps(old | times | {"acknowledged_by": ""})
        database.execute("INSERT INTO trouble VALUES (1, ?)", (content,))
    database.close()
    store = Store(tmp_path)
    new = Mark(NOW_S + 1.0, "act", "operator", "paused", "server/hall-a", {"action": "pause"})
    store.write(NOW_S + 1.0, marks=[new])
    assert store.history()[1] == [Mark(NOW_S, "act", "operator", "paused"), new]
    assert [trouble.values for trouble in store.troubles()] == [None]
    store.close()


def test_the_file_is_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tier = TIERS[0]
    for start_s in range(0, 3 * tier.keep_s, 600):
        buckets = [Kept(tier.width_s, Bucket(start_s + s, 0.0, 0.0, 0.0, 0.0, 0.0)) for s in range(600)]
        store.write(start_s + 600.0, buckets=buckets)
    kept, _ = store.history()
    assert len(kept) == tier.keep_s
    store.close()


def test_a_broken_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all, but long enough to be looked at" * 100)
    store = Store(tmp_path)
    assert store.history() == ([], [])
    assert (tmp_path / "dashboard.broken").exists()
    assert "a new one is begun" in caplog.text
    store.close()


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Store(tmp_path / "file" / "state")
