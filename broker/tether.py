"""Becomes another program that ends when the process that started it ends, however that ends (Linux).

Run as a script: `python -I -S tether.py PARENT_PID PROGRAM ARGUMENT…`. The kernel keeps the parent-death signal
through `exec`; it forgets it where the program changes its user afterwards. The signal comes when the *thread* that
started this process ends, so that thread must live as long as the broker is wanted.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Ask for the signal, make sure that the parent was still there to give it, and become the program."""
    parent, program = int(arguments[0]), arguments[1]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(program, arguments[1:])  # noqa: S606 - the program is the broker that the caller found


if __name__ == "__main__":
    main(sys.argv[1:])
