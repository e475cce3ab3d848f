"""Waiting for what takes its time: as long as a loaded computer may need, which costs nothing where it is soon."""

import asyncio
import time
from collections.abc import Callable

from transport.session import Session

PATIENCE_S = 60.0
"""Bounds a failure; nothing that is promised in seconds is held against it."""


async def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S, *, what: str = "") -> None:
    """Wait until a condition holds. What it looks at may not be there yet: a look that fails is no answer."""
    end_s = time.monotonic() + timeout_s
    while True:
        missing: Exception | None = None
        try:
            if condition():
                return
        except (LookupError, AttributeError) as error:
            missing = error
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {timeout_s:g} s{what and f': {what}'}") from missing
        await asyncio.sleep(0.02)


async def settled(session: Session) -> None:
    """Wait until a session is connected, the broker has taken its subscriptions, and all that it said to begin with."""
    await until(lambda: session.connected)
    await asyncio.sleep(0.02)  # what it does on connecting
    await until(lambda: not session._asked)
    await session.flush(PATIENCE_S)
