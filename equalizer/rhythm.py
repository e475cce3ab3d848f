"""When to run a cycle: once after each batch of messages that matters, and when the time has come."""

import asyncio
from collections.abc import Callable

Cycle = Callable[[float, float | None, float | None], float]

_REST = 4.0
"""A cycle that took a time is followed by this many times as much for reading, so that the link never starves; by no
more than the longest time, because a process that was frozen within a cycle did not decide for so long."""


class Rhythm:
    """Calls a cycle in the event loop.

    Args:
        cycle: called with the time, with when the message came that asked for it (None: the time asked), and with how
            long this process stood still (None: it did not); returns when to call it next at the latest.
        clock: monotonic seconds.
        longest_s: the longest time between two cycles.
        stalled_s: more than this between two cycles means that the process stood still.
    """

    def __init__(self, cycle: Cycle, *, clock: Callable[[], float], longest_s: float, stalled_s: float) -> None:
        self._cycle = cycle
        self._clock = clock
        self._longest_s = longest_s
        self._stalled_s = stalled_s
        self._running = False
        self._asked_s: float | None = None
        self._alive_s = 0.0
        self._rested_s = 0.0
        self._next: asyncio.Handle | None = None
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def until_failure(self) -> None:
        """Wait for a cycle that raises, and raise the same; no cycle runs after it."""
        await asyncio.shield(self._failure)

    def fail(self, error: Exception) -> None:
        """Run no more cycles, for this reason; whoever waits for a failure is told."""
        self.stop()
        if not self._failure.done():
            self._failure.set_exception(error)

    def start(self) -> None:
        """Begin with a cycle at once."""
        self._running = True
        self._alive_s = self._clock()
        self._schedule(self._alive_s)

    def stop(self) -> None:
        """Run no more cycles."""
        self._running = False
        self._asked_s = None
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def is_stalled(self, now_s: float) -> bool:
        """Tell whether this process has just stood still; the next cycle is told."""
        return self._running and now_s - self._alive_s > self._stalled_s

    def soon(self, now_s: float) -> None:
        """Ask for a cycle after the present batch of messages."""
        if self._running and self._asked_s is None:
            self._asked_s = now_s
            self._schedule(now_s)

    def _schedule(self, at_s: float) -> None:
        if self._next is not None:
            self._next.cancel()
        loop = asyncio.get_running_loop()
        delay_s = max(at_s, self._rested_s) - self._clock()
        self._next = loop.call_soon(self._run) if delay_s <= 0.0 else loop.call_later(delay_s, self._run)

    def _run(self) -> None:
        self._next = None
        now_s = self._clock()
        gap_s = now_s - self._alive_s
        self._alive_s = now_s
        asked_s, self._asked_s = self._asked_s, None
        try:
            due_s = self._cycle(now_s, asked_s, gap_s if gap_s > self._stalled_s else None)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits; a server that cannot decide must end
            self.fail(error)
            return
        ended_s = self._clock()
        self._rested_s = ended_s + min(_REST * (ended_s - now_s), self._longest_s)
        if self._running and self._next is None:
            self._schedule(min(due_s, now_s + self._longest_s))
