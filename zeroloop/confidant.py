"""What the equalizer tells a recorder beside the broker: what its control remembers, and when it decides.

A recording that begins amid its work can be decided again by these alone. Both are asked by HTTP, beside its metrics.
"""

import asyncio
import http.client
import json
from collections.abc import Callable
from urllib.parse import urlsplit

from recording.writer import DIARY_TOPIC, MEMORY_TOPIC, Writer
from schemas.codec import MalformedError, decode
from schemas.messages import Presence, ServerAnnouncement
from zeroloop import clocks

_MEMORY_PATH = "/memory"
_DIARY_PATH = "/diary"
_DIARY_EVERY_S = 20.0
"""The equalizer keeps more than a minute's decisions."""
_TRIES = 6
_AGAIN_S = 2.0
_WITHIN_S = 5.0
_MOST_BYTES = 256 * 1024 * 1024
"""More than any hall's; what announces itself as an equalizer may be anything."""


class Confidant:
    """Asks the equalizer that is in charge.

    Args:
        server_topic: where it announces itself.
        writer: takes what it says.
        began_s: when the recording began; monotonic.
        tell: told once why a recording will lack it.
        again_s: so long after a refusal it is asked again.
    """

    def __init__(
        self,
        server_topic: str,
        writer: Writer,
        began_s: float,
        tell: Callable[[str], None],
        *,
        again_s: float = _AGAIN_S,
    ) -> None:
        self._again_s = again_s
        self._server_topic = server_topic
        self._writer = writer
        self._began_s = began_s
        self._tell = tell
        self._said: ServerAnnouncement | None = None
        self._heard = asyncio.Event()
        self._trusted: ServerAnnouncement | None = None

    def hear(self, topic: str, payload: bytes) -> None:
        """Take note of who is in charge."""
        if topic != self._server_topic:
            return
        try:
            said = decode(ServerAnnouncement, payload)
        except MalformedError:
            return
        if said.status is Presence.ONLINE and (self._said is None or said.epoch > self._said.epoch):
            self._said = said
            self._heard.set()

    async def run(self) -> None:
        """Ask, until cancelled."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            said = self._said
            if said is None or not await self._remember(said):
                continue
            self._trusted = said
            while not self._heard.is_set():
                try:
                    async with asyncio.timeout(_DIARY_EVERY_S):
                        await self._heard.wait()
                except TimeoutError:
                    await self._leaf(said)

    async def end(self) -> None:
        """Ask for the last decisions."""
        if self._trusted is not None and self._trusted is self._said:
            await self._leaf(self._trusted)

    async def _remember(self, said: ServerAnnouncement) -> bool:
        """Ask for the memory; tell whether it was given."""
        why = "it serves no metrics (`[metrics] port`)"
        for _ in range(_TRIES if said.metrics_url is not None else 0):
            try:
                asked_s, memory = await asyncio.to_thread(_ask, said, _MEMORY_PATH)
            except (OSError, http.client.HTTPException, ValueError) as error:
                why = str(error)
                await asyncio.sleep(self._again_s)
                continue
            self._writer.add(asked_s - self._began_s, clocks.unix_time_s(), MEMORY_TOPIC, memory, retained=False)
            return True
        self._tell(f"without the equalizer's memory: {why}. A replay can judge hardly any of its decisions")
        return False

    async def _leaf(self, said: ServerAnnouncement) -> None:
        """Ask for the decisions since the last time; what is missed now comes with the next."""
        try:
            asked_s, diary = await asyncio.to_thread(_ask, said, _DIARY_PATH)
        except (OSError, http.client.HTTPException, ValueError):
            return
        self._writer.add(asked_s - self._began_s, clocks.unix_time_s(), DIARY_TOPIC, diary, retained=False)


def _ask(said: ServerAnnouncement, path: str) -> tuple[float, bytes]:
    """Return what the announced server says, and when it was asked; monotonic.

    Raises:
        OSError: it does not answer.
        HTTPException: it is no HTTP server.
        ValueError: it does not say it, or another server answers there.
    """
    url = urlsplit(said.metrics_url or "")
    if url.scheme != "http" or url.hostname is None:
        raise ValueError(f"{said.metrics_url!r} is no address")
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=_WITHIN_S)
    try:
        connection.connect()
        asked_s = clocks.monotonic_s()
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
    finally:
        connection.close()
    where = f"{url.hostname}:{url.port}"
    if answer.status != http.client.OK:
        raise ValueError(f"{where}: {body[:100].decode(errors='replace').strip()}")
    table = json.loads(body)
    if not isinstance(table, dict) or (table.get("server"), table.get("epoch")) != (said.server, said.epoch):
        raise ValueError(f"{where}: another server answers there")
    return asked_s, body
