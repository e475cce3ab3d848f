"""A very small HTTP server for what machines ask: /metrics, /ready, /live, /memory, /diary."""

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from math import inf

from schemas.settings import ConfigurationError

_REQUEST_BYTES = 16 * 1024
_REQUEST_S = 5.0
_LONGEST_TARGET = 200

MEMORY_EVERY_S = 5.0
"""To hand out a large hall's memory takes the control's time: it is done no more often."""

_LOG = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
METRICS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT


Pages = dict[str, Callable[[], Answer]]


def metrics_page(exposition: Callable[[], bytes]) -> Callable[[], Answer]:
    """Return the page that Prometheus scrapes."""
    return lambda: Answer(exposition(), content_type=METRICS_TEXT)


def ready_page(hindrance: Callable[[], str | None], readiness: Callable[[], str]) -> Callable[[], Answer]:
    """Return a page that answers 200 with what the server does, or 503 with what hinders."""

    def page() -> Answer:
        why = hindrance()
        return (
            Answer(f"{readiness()}\n".encode())
            if why is None
            else Answer(f"{why}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE)
        )

    return page


def live_page() -> Answer:
    """Answer as long as the event loop turns."""
    return Answer(b"live\n")


def memory_page(remembered: Callable[[], bytes | None], clock: Callable[[], float]) -> Callable[[], Answer]:
    """Return the page that a recorder asks once, for what the control remembers; it changes nothing.

    Args:
        remembered: the memory; None: there is nothing to be remembered yet, or another server is in charge.
        clock: monotonic seconds.
    """
    asked_s = -inf

    def page() -> Answer:
        nonlocal asked_s
        if clock() - asked_s < MEMORY_EVERY_S:
            text = f"asked less than {MEMORY_EVERY_S:g} s ago: ask again later\n"
            return Answer(text.encode(), HTTPStatus.TOO_MANY_REQUESTS)
        memory = remembered()
        if memory is None:
            return Answer(b"nothing is remembered here: not in charge, or nothing decided yet\n", HTTPStatus.CONFLICT)
        asked_s = clock()
        return Answer(memory, content_type=JSON)

    return page


def diary_page(diary: Callable[[], bytes]) -> Callable[[], Answer]:
    """Return the page that a recorder asks from time to time, for when the control decided."""
    return lambda: Answer(diary(), content_type=JSON)


async def serve(host: str, port: int, pages: Pages) -> asyncio.Server:
    """Listen, and answer each request in the event loop.

    Raises:
        ConfigurationError: the address cannot be listened on; one line that names the keys to change.
    """
    try:
        return await asyncio.start_server(_answering(pages), host, port, limit=_REQUEST_BYTES)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "another program listens there" if taken else error.strerror or str(error)
        text = f"metrics.port: cannot listen on {host}:{port}: {why}; choose another port, or 0 for none"
        raise ConfigurationError(text) from None


def _answering(pages: Pages) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_REQUEST_S):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_response(request, pages))
                    await writer.drain()
        finally:
            writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    return answer


def _made(page: Callable[[], Answer], target: str) -> Answer:
    try:
        return page()
    except Exception:  # noqa: BLE001 - reported with its traceback; whoever asks must not be left waiting
        _LOG.exception("page_failed target=%r", target[:_LONGEST_TARGET])
        return Answer(b"failed\n", HTTPStatus.INTERNAL_SERVER_ERROR)


def _response(request: bytes, pages: Pages) -> bytes:
    match request.partition(b"\r\n")[0].decode("latin-1").split():
        case [("GET" | "HEAD") as method, target, _]:
            page = pages.get(target.partition("?")[0])
            answer = Answer(b"not found\n", HTTPStatus.NOT_FOUND) if page is None else _made(page, target)
        case [_, _, _]:
            method, answer = "GET", Answer(b"only GET\n", HTTPStatus.METHOD_NOT_ALLOWED)
        case _:
            method, answer = "GET", Answer(b"no HTTP\n", HTTPStatus.BAD_REQUEST)
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else answer.body)
