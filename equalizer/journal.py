"""The decision log: a JSON line for every change and for every one that began to be held back.

The control only puts lines aside; another task writes them. A full disk, a slow one or a folder that is gone costs
lines, never a decision: it is said once, counted, and tried again.
"""

import contextlib
import json
import logging
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path

_LOG = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Lines that wait for the disk; whatever comes on top is lost."""
_GENERATIONS = 2


class Journal:
    """Two files, the present one and the one before it, of a limited size together.

    Args:
        path: of the present one; its predecessor has `.1` behind its name. The folder is made when needed.
        most_bytes: of both together.
    """

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        self.written = 0
        self.lost = 0
        self._path = path
        self._each_bytes = most_bytes // _GENERATIONS
        self._waiting: deque[bytes] = deque()
        self._failing = False

    def note(self, entry: Mapping[str, object]) -> None:
        """Put one entry aside; the oldest wait longest."""
        if self._each_bytes == 0:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.lost += 1
            return
        self._waiting.append(json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def write(self) -> None:
        """Write what waits. Never raises: what cannot be written is lost and counted."""
        waiting = len(self._waiting)
        if waiting == 0:
            return
        lines = [self._waiting.popleft() for _ in range(waiting)]
        kept = 0
        try:
            while kept < len(lines):
                kept += self._append(lines[kept:])
        except OSError as error:
            self.lost += len(lines) - kept
            if not self._failing:
                _LOG.error("decision_log_failed error=%r hint='decisions go on; lines are lost'", str(error))
            self._failing = True
        else:
            if self._failing:
                _LOG.info("decision_log_works_again lost=%d", self.lost)
            self._failing = False
        self.written += kept

    def _append(self, lines: list[bytes]) -> int:
        """Write as many whole lines as the present file has room for; return how many."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            size = file.tell()
            count = total = 0
            for line in lines:
                if size + total + len(line) > self._each_bytes:
                    break
                total += len(line)
                count += 1
            if count == 0 and size == 0:
                self.lost += 1
                return 1  # a line longer than the file may be
            _write_whole(file.fileno(), b"".join(lines[:count]), size)
        if count < len(lines):
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        return count


def _write_whole(file: int, content: bytes, size: int) -> None:
    """Append all of it, or leave the file as it was."""
    left = memoryview(content)
    try:
        while left:
            left = left[os.write(file, left) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise
