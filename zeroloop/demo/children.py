"""The demo's processes: started, watched and ended by their ids."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker import tether

_STOP_WITHIN_S = 10.0
_LOG_LINES = 8


@dataclass(eq=False, slots=True)
class Child:
    """One process of the demo."""

    name: str
    log_path: Path
    process: "subprocess.Popen[bytes]" = field(repr=False)

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self.process.poll()

    def obituary(self) -> str:
        """Return how it ended, and the last that it said."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"{self.name} ended by itself with status {self.status}; its last lines:", *lines])


def spawn(name: str, arguments: Sequence[str], folder: Path, settings: Mapping[str, str]) -> Child:
    """Start a zeroloop command as a process that ends with this one, however this one ends.

    Args:
        name: for people, and of its log file.
        arguments: of the command line.
        folder: its working directory; its log is written here.
        settings: environment variables that override its configuration; none of the user's own do.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ZEROLOOP_")}
    command = [sys.executable, "-m", "zeroloop", *arguments]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command]
    log_path = folder / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - this very program; no shell
            command,
            cwd=folder,
            env={**environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C reaches the demo alone, which decides in which order things end.
            start_new_session=True,
        )
    return Child(name, log_path, process)


def end(children: Iterable[Child], within_s: float = _STOP_WITHIN_S) -> None:
    """Ask processes to end, all at once, and kill those that do not in time."""
    running = [child for child in children if child.status is None]
    for child in running:
        child.process.terminate()
    for child in running:
        try:
            child.process.wait(within_s)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
