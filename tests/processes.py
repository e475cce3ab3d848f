"""Processes that a test has started."""

import signal
import subprocess
from collections.abc import Iterable

_WITHIN_S = 30.0


def end(started: Iterable["subprocess.Popen[bytes]"]) -> None:
    """Ask all of them to end, and see that they do; one that stands still is woken for it."""
    processes = list(started)
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
    for process in processes:
        try:
            process.wait(_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
