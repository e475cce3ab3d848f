"""Somebody's program, which the kit starts, kills and ends: what a client alone cannot see."""

import asyncio
import contextlib
import os
import shlex
import signal
import sys

from conform.wire import ConformError

_ENDS_WITHIN_S = 40.0


class Party:
    """A program and all that it starts.

    Args:
        command: as in a shell, but without one.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; what it prints goes to our standard error.

        Raises:
            ConformError: there is no such program.
        """
        try:
            words = shlex.split(self._command)
            self._process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr.fileno(), start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise ConformError(f"{self._command!r} cannot be started: {error}") from None

    async def kill(self) -> None:
        """End it as a crash does."""
        await self._signal(signal.SIGKILL)

    async def end(self) -> int | None:
        """Ask it to end; return its exit code, null where it had to be killed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDS_WITHIN_S):
                return await self._signal(signal.SIGTERM)
        await self.kill()
        return None

    async def wait(self, within_s: float) -> None:
        """Wait until it has ended by itself; kill it where it takes longer."""
        if self._process is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def _signal(self, number: signal.Signals) -> int | None:
        if self._process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        return await self._process.wait()
