"""The pages that machines ask for."""

import asyncio
import logging

import pytest

from equalizer.exposition import Answer, live_page, serve


async def asked(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    async with asyncio.timeout(60.0):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_page_that_fails_is_answered_and_told_and_leaves_no_one_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> Answer:
        raise ValueError("a bug")

    server = await serve("127.0.0.1", 0, {"/live": live_page, "/metrics": broken})
    port = server.sockets[0].getsockname()[1]
    with caplog.at_level(logging.ERROR):
        assert (await asked(port, "/metrics")).startswith(b"HTTP/1.1 500 ")
    assert any("page_failed target='/metrics'" in text for text in caplog.messages)
    assert (await asked(port, "/live")).endswith(b"live\n")
    server.close()
    await server.wait_closed()
