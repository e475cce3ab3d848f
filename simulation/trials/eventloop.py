"""An asyncio event loop for one process of many, in virtual time: it turns when the timeline says so.

A frozen process's loop does not turn, and finds everything that came meanwhile when it goes on: what its sockets hold
first, its timers after that, as selectors have it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, cast

from simulation.clock import Timeline

_MOST_TURNS = 10_000
_LEAST_DELAY_S = 1e-6


class EndlessTurnError(RuntimeError):
    """Callbacks ask for callbacks without time ever passing."""


class VirtualLoop:
    """One process's event loop: what asyncio's tasks, futures and timers ask of a loop, and no more.

    Args:
        timeline: common to all processes.
        origin_s: what this process's monotonic clock is ahead of the timeline.
    """

    def __init__(self, timeline: Timeline, origin_s: float) -> None:
        self.errors: list[str] = []
        """What nobody has caught."""
        self.frozen = False
        self._timeline = timeline
        self._origin_s = origin_s
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._asked = 0
        self._wake_s: float | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._dead = False
        self._asyncio = cast("asyncio.AbstractEventLoop", self)

    # ── the process ───────────────────────────────────────────────────────────────────────────────────────────────

    def thaw(self) -> None:
        """Go on after a freeze."""
        self.frozen = False
        self._wake(self._timeline.now_s)

    def kill(self) -> None:
        """End everything at once.

        Python's coroutines cannot just vanish: they are cancelled and run to their ends without time passing. The
        caller has cut the process off from the world before.
        """
        self._ready.clear()
        self._timers.clear()
        with self._running():
            for task in self._tasks:
                task.cancel()
            while not all(task.done() for task in self._tasks):
                if self._ready:
                    self._ready.popleft()._run()  # noqa: SLF001 - as in `_turn`
                elif self._timers:
                    self._ready.append(heappop(self._timers)[2])
                else:
                    raise EndlessTurnError(f"a task does not end: {[task for task in self._tasks if not task.done()]}")
        self._dead = True
        self._ready.clear()
        self._timers.clear()
        self._tasks.clear()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        asyncio._set_running_loop(self._asyncio)  # noqa: SLF001 - what an event loop is told to call
        try:
            yield
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001

    def _wake(self, at_s: float) -> None:
        if self._wake_s is None or at_s < self._wake_s:
            self._wake_s = at_s
            self._timeline.at(at_s, self._turn)

    def _turn(self) -> None:
        now_s = self._timeline.now_s
        if self._wake_s is None or self._wake_s > now_s:
            return  # a wake that an earlier one has made needless
        self._wake_s = None
        if self.frozen or self._dead:
            return
        with self._running():
            self._run_due(now_s)
        while self._timers and self._timers[0][2].cancelled():
            heappop(self._timers)
        if self._timers:
            self._wake(self._timers[0][0])

    def _run_due(self, now_s: float) -> None:
        for _ in range(_MOST_TURNS):
            while self._timers and self._timers[0][0] <= now_s:
                self._ready.append(heappop(self._timers)[2])
            if not self._ready or self._dead:
                return
            for _ in range(len(self._ready)):
                handle = self._ready.popleft() if self._ready else None
                if handle is not None and not handle.cancelled():
                    handle._run()  # noqa: SLF001 - an event loop is who calls it
        raise EndlessTurnError(f"at {now_s}: {[*self._ready, *self._timers][:3]}")

    # ── what asyncio asks of a loop ───────────────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        """Return the process's monotonic time."""
        return self._timeline.now_s + self._origin_s

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # noqa: ANN401
        """Call with the next turn."""
        handle = asyncio.Handle(callback, args, self._asyncio, context)
        if not self._dead:
            self._ready.append(handle)
            self._wake(self._timeline.now_s)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,  # noqa: ANN401
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call after a time."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,  # noqa: ANN401
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call at a time of the process's clock."""
        handle = asyncio.TimerHandle(when, callback, args, self._asyncio, context)
        if not self._dead:
            self._asked += 1
            # What rounding makes of a delay must not be none: whoever waits for a time would ask for ever.
            least_s = _LEAST_DELAY_S if when > self.time() else 0.0
            at_s = max(when - self._origin_s, self._timeline.now_s + least_s)
            heappush(self._timers, (at_s, self._asked, handle))
            self._wake(at_s)
        return handle

    def create_task(self, coro: Any, **options: Any) -> "asyncio.Task[Any]":  # noqa: ANN401
        """Begin a task."""
        task = asyncio.Task(coro, loop=self._asyncio, **options)
        self._tasks = [known for known in self._tasks if not known.done()]
        self._tasks.append(task)
        return task

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a future of this loop."""
        return asyncio.Future(loop=self._asyncio)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # noqa: ANN401, ARG002
        """Do at once what a thread would do."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody caught: a trial must not pass over it."""
        if not self._dead:
            error = context.get("exception")
            self.errors.append(f"{context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        """Return False: debugging aids are for real loops."""
        return False

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return not self._dead

    def is_closed(self) -> bool:
        """Tell whether the process is dead."""
        return self._dead

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to do: a cancelled timer is passed over."""
