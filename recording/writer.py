"""Writes a recording: parts as they fill, one Parquet file in the end. Memory is bounded by one part.

A recorder that is killed leaves its parts, of which `finish` makes the file.
"""

import shutil
from pathlib import Path

import polars as pl

from schemas.settings import ConfigurationError

SCHEMA = pl.Schema(
    {
        "at_s": pl.Float64,
        "unix_time_s": pl.Float64,
        "topic": pl.String,
        "retained": pl.Boolean,
        "payload": pl.Binary,
    }
)
"""A row a message: monotonic arrival since the beginning, the recorder's clock (a label), and what came, as it came."""

SUFFIX = ".parquet"
"""What a recording's name ends with; by it the other commands know one."""

SETTINGS_TOPIC = "settings"
"""The row whose payload is the equalizer's configuration, as JSON; a topic that the contract cannot have."""

MEMORY_TOPIC = "memory"
"""The row whose payload is what the control remembered at that time, as the equalizer hands it out."""

DIARY_TOPIC = "diary"
"""The rows whose payloads are when the control decided, as the equalizer hands it out from time to time."""
OWN_TOPICS = (SETTINGS_TOPIC, MEMORY_TOPIC, DIARY_TOPIC)
"""What is no message."""

PART_ROWS = 50_000
PART_BYTES = 16 * 1024 * 1024
ROW_GROUP_ROWS = 100_000


def parts_folder(path: Path) -> Path:
    """Return where the parts of an unfinished recording lie."""
    return path.with_name(path.name + ".parts")


def refuse_unusable(path: Path) -> None:
    """See to it that a recording can be begun.

    Raises:
        ConfigurationError: the file is there already, or the parts of an unfinished one are, or it has another name.
    """
    if path.suffix != SUFFIX:
        raise ConfigurationError(f"--out: {path}: a recording's name ends with {SUFFIX}")
    if path.exists():
        raise ConfigurationError(f"{path}: is there already; give another --out")
    if parts_folder(path).exists():
        raise ConfigurationError(f"{path}: an unfinished recording is there; `zeroloop record --finish --out {path}`")


class Writer:
    """A recording that is being made.

    Args:
        path: the file that will be.

    Raises:
        ConfigurationError: the file is there already, or the parts of an unfinished one are.
        OSError: the folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        refuse_unusable(path)
        self._folder = parts_folder(path)
        self._folder.mkdir(parents=True)
        self._path = path
        self._rows: list[tuple[float, float, str, bool, bytes]] = []
        self._bytes = 0
        self._parts = 0
        self.messages = 0

    @property
    def full(self) -> bool:
        """Whether a part's worth of messages waits to be written."""
        return len(self._rows) >= PART_ROWS or self._bytes >= PART_BYTES

    def add(self, at_s: float, unix_time_s: float, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take a message."""
        self._rows.append((at_s, unix_time_s, topic, retained, payload))
        self._bytes += len(payload) + len(topic)
        self.messages += 1

    def flush(self) -> None:
        """Write what waits as a part; may run in a thread of its own, one at a time, while messages are added."""
        rows, self._rows, self._bytes = self._rows, [], 0
        if not rows:
            return
        self._parts += 1
        part = self._folder / f"{self._parts:06d}.parquet"
        waiting = part.with_suffix(".new")
        pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(waiting, compression="zstd")
        waiting.replace(part)

    def finish(self) -> None:
        """Make one file of the parts."""
        self.flush()
        finish(self._path)


def finish(path: Path) -> int:
    """Make a recording of its parts, and return how many messages it holds.

    Raises:
        ConfigurationError: there are no parts.
    """
    folder = parts_folder(path)
    parts = sorted(folder.glob("*.parquet"))
    if not folder.is_dir():
        raise ConfigurationError(f"{path}: there is no unfinished recording of it")
    frame = pl.scan_parquet(parts, schema=SCHEMA) if parts else pl.LazyFrame(schema=SCHEMA)
    waiting = path.with_name(path.name + ".new")
    frame.sink_parquet(waiting, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    waiting.replace(path)
    shutil.rmtree(folder)
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())
