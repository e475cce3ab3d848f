"""What survives a restart of the page: history, marks, alarms, the day's account and sessions, in one SQLite file.

Bounded: what is older than its tier keeps is deleted with every write. The calls block; the service makes them in a
thread of their own, one at a time.
"""

import json
import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dashboard.alarms import Trouble
from dashboard.energy import Day, Reading
from dashboard.history import TIERS, Bucket, History, Kept, Mark
from schemas.messages import Severity

_LOG = logging.getLogger(__name__)

FILE = "dashboard.sqlite"
_VERSION = 2
_MARK = "unix_time_s, kind, code, text, source, content"
_SINCE_VERSION_1 = """
ALTER TABLE mark ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE mark ADD COLUMN content TEXT;
"""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS bucket (
    width_s INTEGER, unix_time_s INTEGER, load_w REAL, equalization_w REAL, total_w REAL, lowest_w REAL, highest_w REAL,
    PRIMARY KEY (width_s, unix_time_s)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark (
    unix_time_s REAL, kind TEXT, code TEXT, text TEXT, source TEXT NOT NULL DEFAULT '', content TEXT);
CREATE INDEX IF NOT EXISTS mark_time ON mark (unix_time_s);
CREATE TABLE IF NOT EXISTS trouble (id INTEGER PRIMARY KEY, content TEXT);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, content TEXT);
"""


class Store:
    """The file.

    Args:
        folder: where it lies; made where it is missing.

    Raises:
        OSError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        try:
            self._database = self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(f"{self._path}: {error}") from None
            aside = self._path.with_suffix(".broken")
            self._path.replace(aside)
            _LOG.warning("the history cannot be read (%s); it is kept as %s, and a new one is begun", error, aside)
            self._database = self._opened()

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, check_same_thread=False, timeout=5.0)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            if database.execute("PRAGMA user_version").fetchone()[0] == 1:
                database.executescript(_SINCE_VERSION_1)
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA user_version = {_VERSION}")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def history(self) -> tuple[list[Kept], list[Mark]]:
        """Return the buckets and the marks, the oldest first."""
        rows = self._database.execute("SELECT * FROM bucket ORDER BY width_s, unix_time_s")
        widths = {tier.width_s for tier in TIERS}
        buckets = [Kept(width_s, Bucket(*values)) for width_s, *values in rows if width_s in widths]
        newest = f"SELECT {_MARK} FROM mark ORDER BY unix_time_s DESC LIMIT ?"  # noqa: S608 - our own columns
        marks = self._database.execute(newest, (History.MARKS,))
        return buckets, [_mark(row) for row in marks][::-1]

    def troubles(self) -> list[Trouble]:
        """Return the alarms."""
        return [_trouble(content) for (content,) in self._database.execute("SELECT content FROM trouble")]

    def day(self) -> tuple[Reading | None, Day | None]:
        """Return the last reading of the energy account, and the day that it belongs to."""
        reading, day = self.fact("reading"), self.fact("day")
        return None if reading is None else Reading(**reading), None if day is None else Day(**day)

    def fact(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Return a small thing that was kept by its name; None: nothing."""
        row = self._database.execute("SELECT content FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def write(
        self,
        now_unix_time_s: float,
        *,
        buckets: Iterable[Kept] = (),
        marks: Iterable[Mark] = (),
        troubles: Iterable[Trouble] = (),
        forgotten: Iterable[int] = (),
        facts: Iterable[tuple[str, Any]] = (),
    ) -> None:
        """Write what is new, all or nothing, and delete what is too old.

        Raises:
            sqlite3.Error: the disk is full, or the like; the file is as it was.
        """
        with self._database as database:
            database.executemany(
                "INSERT OR REPLACE INTO bucket VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(width_s, *bucket) for width_s, bucket in buckets],
            )
            database.executemany(
                f"INSERT INTO mark ({_MARK}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own columns
                [(*mark[:-1], None if mark.values is None else json.dumps(mark.values)) for mark in marks],
            )
            database.executemany(
                "INSERT OR REPLACE INTO trouble VALUES (?, ?)",
                [(trouble.id, json.dumps(asdict(trouble))) for trouble in troubles],
            )
            database.executemany("DELETE FROM trouble WHERE id = ?", [(identity,) for identity in forgotten])
            database.executemany(
                "INSERT OR REPLACE INTO fact VALUES (?, ?)", [(name, json.dumps(content)) for name, content in facts]
            )
            for tier in TIERS:
                database.execute(
                    "DELETE FROM bucket WHERE width_s = ? AND unix_time_s < ?",
                    (tier.width_s, now_unix_time_s - tier.keep_s),
                )
            database.execute("DELETE FROM mark WHERE unix_time_s < ?", (now_unix_time_s - TIERS[-1].keep_s,))

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _mark(row: tuple[Any, ...]) -> Mark:
    *said, content = row
    return Mark._make([*said, None if content is None else json.loads(content)])


def _trouble(content: str) -> Trouble:
    values = json.loads(content)
    return Trouble(**{**values, "severity": Severity(values["severity"])})
