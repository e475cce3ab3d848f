"""What tests of a web page's answers share."""

import asyncio
import urllib.error
import urllib.request


async def fetched(port: int, path: str) -> tuple[int, str]:
    """Return status and text of a page of this computer."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30.0) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)
