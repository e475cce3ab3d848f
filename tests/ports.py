"""Ports for what the tests start: each is given out once, whoever else runs tests on this computer."""

import fcntl
import os
import tempfile
from pathlib import Path

from broker.ports import is_free

_FIRST, _LAST = 12_000, 30_000
"""Below the range that systems take the ports of connections from: no client's connection gets in between."""
_LAST_GIVEN = Path(tempfile.gettempdir()) / f"zeroloop-tests-last-port-{os.getuid()}"


def free_port() -> int:
    """Return a port where nobody listens, and which no other test is given before all others have been."""
    with _LAST_GIVEN.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        given = int(file.read() or _FIRST)
        for _ in range(_LAST - _FIRST):
            given = given + 1 if given < _LAST else _FIRST
            if is_free("127.0.0.1", given) and is_free("0.0.0.0", given):  # noqa: S104 - somebody may listen on all
                file.truncate(0)
                file.write(str(given))
                return given
    raise RuntimeError(f"no port from {_FIRST} to {_LAST} is free")
