"""A door between a station and its broker, which the kit can shut: nobody else can break a connection from outside."""

import asyncio
import contextlib

_CHUNK_BYTES = 65536
_LOOK_S = 0.02


class Relay:
    """Passes bytes on between those who connect here and the broker, TLS or not.

    Args:
        host: where to listen.
        port: where to listen.
        broker: host and port to pass on to.
    """

    def __init__(self, host: str, port: int, broker: tuple[str, int]) -> None:
        self._place = host, port
        self._broker = broker
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._shut = False

    async def open(self) -> None:
        """Listen.

        Raises:
            OSError: something else listens there.
        """
        self._server = await asyncio.start_server(self._serve, *self._place)

    async def shut(self) -> None:
        """Break every connection without a word, and let nobody in."""
        self._shut = True
        for end in self._ends:
            end.transport.abort()  # no DISCONNECT, and nothing of what is on its way: so does a pulled cable end
        while self._ends:  # noqa: ASYNC110 - connection by connection
            await asyncio.sleep(_LOOK_S)

    def admit(self) -> None:
        """Let everybody in again."""
        self._shut = False

    async def close(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.close()
        await self.shut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._shut:
            writer.transport.abort()
            return
        try:
            from_broker, broker = await asyncio.open_connection(*self._broker)
        except OSError:  # whoever has connected is told by the end of the connection
            writer.transport.abort()
            return
        ends = {writer, broker}
        self._ends |= ends
        if self._shut:
            broker.transport.abort()
        await asyncio.gather(_pass(reader, broker), _pass(from_broker, writer))
        self._ends -= ends


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends; then so does the other."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
