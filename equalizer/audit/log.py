"""The audit log's files: appended to, never changed, of a limited size together.

`audit-LOOP.jsonl` is written to; `audit-LOOP.1.jsonl` and so on are older. `audit-LOOP.head.json` says where the chain
begins and ends, so that lines missing at either end are found. The control only puts entries aside; another task writes
them, and a full disk delays nobody: it is told, what no longer fits in memory is counted, and the log says so later.
"""

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from equalizer.audit import chain
from equalizer.audit.chain import Claim, Head
from transport.files import write_atomically

MOST_WAITING = 10_000
"""Entries that wait for the disk; whatever comes on top is lost."""
FILES = 8
_LOG = logging.getLogger(__name__)


class AuditLog:
    """The log of one loop.

    Args:
        folder: made when it is first written to.
        loop: part of the files' names.
        most_bytes: of all files together; 0: nothing is written.
        utc: seconds since 1970, for the entries' labels.
    """

    def __init__(self, folder: Path, loop: str, *, most_bytes: int, utc: Callable[[], float]) -> None:
        self.written = 0
        self.lost = 0
        self.trouble: str | None = None
        """Why nothing can be written now."""
        self._paths = Paths(folder, loop)
        self._file_bytes = most_bytes // FILES
        self._utc = utc
        self._waiting: deque[Mapping[str, object]] = deque()
        self._unsaid = 0
        self._head: Head | None = None
        self._first_seq = 1
        self._at_work = threading.Lock()

    def record(self, kind: str, **facts: object) -> None:
        """Put an entry aside. Never blocks, never raises."""
        if self._file_bytes == 0:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.lost += 1
            self._unsaid += 1
            return
        self._waiting.append({"unix_time_s": round(self._utc(), 3), "kind": kind, **facts})

    def write(self) -> None:
        """Write what waits, down to the disk. Never raises: see `trouble`."""
        with self._at_work:
            try:
                self._write()
            except OSError as error:
                self.trouble = str(error)
            else:
                self.trouble = None

    @property
    def head(self) -> Head:
        """The last entry that is on disk."""
        return self._head if self._head is not None else Head()

    def _write(self) -> None:
        if not self._waiting:
            return
        if self._head is None:
            self._take_up()
        if self._unsaid:
            self._waiting.append({"unix_time_s": round(self._utc(), 3), "kind": "lost", "entries": self._unsaid})
            self._unsaid = 0
        while self._waiting:
            self._rotate()
            self._append_some()

    def _take_up(self) -> None:
        """Go on where the last run ended; what a power cut left half is taken away, and said."""
        claim = self._paths.claim()
        end, torn_bytes = _last(self._paths.current)
        if end is None:
            end = next((found for path in self._paths.older() if (found := _last(path)[0]) is not None), None)
        kept = end if end is not None else Head()
        if torn_bytes:
            os.truncate(self._paths.current, self._paths.current.stat().st_size - torn_bytes)
            self._waiting.appendleft(self._found("torn", bytes=torn_bytes))
        if claim.head.seq > kept.seq:
            self._waiting.appendleft(self._found("gap", first_seq=kept.seq + 1, last_seq=claim.head.seq))
            kept = Head(claim.head.seq, kept.hash)
        self._head, self._first_seq = kept, claim.first_seq

    def _found(self, kind: str, **facts: object) -> Mapping[str, object]:
        _LOG.warning("audit_damaged kind=%s facts=%s", kind, facts)
        return {"unix_time_s": round(self._utc(), 3), "kind": kind, **facts}

    def _append_some(self) -> None:
        """Append as much as one file takes; whole lines, or none of them."""
        head = self.head
        lines: list[bytes] = []
        length = _size(self._paths.current)
        for entry in list(self._waiting):
            line, next_head = chain.append(head, entry)
            if lines and length + len(line) > self._file_bytes:
                break
            lines.append(line)
            length += len(line)
            head = next_head
        self._paths.current.parent.mkdir(parents=True, exist_ok=True)
        _append(self._paths.current, b"".join(lines))
        self._head = head
        for _ in lines:
            self._waiting.popleft()
        self.written += len(lines)
        self._paths.note(Claim(self._first_seq, head))

    def _rotate(self) -> None:
        """Begin a new file where the present one is full; the oldest is dropped, and its successor is the first."""
        if _size(self._paths.current) < self._file_bytes:
            return
        files = self._paths.numbered()
        if files and files[-1][0] >= FILES - 1:
            files.pop()[1].unlink()
        oldest = files[-1][1] if files else self._paths.current
        self._first_seq = _first_seq(oldest, self._first_seq)
        self._paths.note(Claim(self._first_seq, self.head))
        for number, path in reversed(files):
            path.rename(self._paths.number(number + 1))
        self._paths.current.rename(self._paths.number(1))
        _LOG.info("audit_head seq=%d hash=%s", self.head.seq, self.head.hash)


class Paths:
    """Where a loop's audit log lies."""

    def __init__(self, folder: Path, loop: str) -> None:
        self._folder = folder
        self._stem = f"audit-{loop}"
        self.current = folder / f"{self._stem}.jsonl"
        self._head = folder / f"{self._stem}.head.json"

    def number(self, number: int) -> Path:
        """Return an older file; 1 is the last one before the present."""
        return self._folder / f"{self._stem}.{number}.jsonl"

    def numbered(self) -> list[tuple[int, Path]]:
        """Return the older files that there are, the newest first."""
        found = ((path.name.removeprefix(f"{self._stem}.").removesuffix(".jsonl"), path) for path in self._matching())
        return sorted((int(number), path) for number, path in found if number.isdecimal())

    def _matching(self) -> Iterator[Path]:
        return self._folder.glob(f"{self._stem}.*.jsonl")

    def older(self) -> list[Path]:
        """Return the older files, the newest first."""
        return [path for _, path in self.numbered()]

    def lines(self) -> Iterator[bytes]:
        """Yield all lines, the oldest first."""
        for path in (*reversed(self.older()), self.current):
            if path.exists():
                with path.open("rb") as file:
                    yield from file

    def claim(self) -> Claim:
        """Return where the chain begins and ends, as far as is noted."""
        try:
            noted = json.loads(self._head.read_bytes())
            return Claim(int(noted["first_seq"]), Head(int(noted["seq"]), str(noted["hash"])))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Claim()

    def note(self, claim: Claim) -> None:
        """Note where the chain begins and ends.

        Raises:
            OSError: it cannot be written.
        """
        noted = {"first_seq": claim.first_seq, "seq": claim.head.seq, "hash": claim.head.hash}
        write_atomically(self._head, json.dumps(noted).encode() + b"\n")


def _append(path: Path, content: bytes) -> None:
    """Append all of it, or leave the file as it was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _last(path: Path) -> tuple[Head | None, int]:
    """Return the last whole line's place, and how many bytes of a torn one follow it."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None, 0
    whole, newline, torn = content.rpartition(b"\n")
    if not newline:
        return None, len(torn)
    line = chain.read(whole.rpartition(b"\n")[2])
    return (line.head if line is not None else None), len(torn)


def _first_seq(path: Path, otherwise: int) -> int:
    with path.open("rb") as file:
        line = chain.read(file.readline())
    return line.head.seq if line is not None else otherwise
