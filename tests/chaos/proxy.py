"""A link that misbehaves: an asyncio proxy that understands MQTT packets."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

CONNECT = 1
PUBLISH = 3
PUBACK = 4
_QOS = 0x06
_LARGEST_READ = 65536
_SMALL_READ = 256
_MORE = 0x80


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole packets in a stream, and what is left of it (MQTT 5.0, section 2.1)."""
    packets = []
    while len(data) > 1:
        length, position, shift = 0, 1, 0
        while position < len(data):
            byte = data[position]
            length |= (byte & ~_MORE) << shift
            position, shift = position + 1, shift + 7
            if not byte & _MORE:
                break
        else:
            break
        if len(data) < position + length:
            break
        packets.append(data[: position + length])
        data = data[position + length :]
    return packets, data


@dataclass
class Way:
    """What happens to the packets of one direction."""

    delay_s: Callable[[], float] = lambda: 0.0
    """Of the next packet; none overtakes another by it."""
    held: bool = False
    """Packets wait until this is taken back."""
    rate_bytes_per_s: float | None = None
    swallowed: frozenset[int] = frozenset()
    """Packet types that do not arrive."""
    doubled: bool = False
    """Every PUBLISH arrives twice."""
    swapped: bool = False
    """Every second PUBLISH of QoS 0 arrives before the one before it."""
    connect: bytes = field(default=b"", init=False)
    """The last CONNECT that passed."""
    waiting: bytes | None = field(default=None, init=False)

    def changed(self, packet: bytes) -> Iterator[bytes]:
        """Return what arrives of a packet."""
        kind = packet[0] >> 4
        if kind == CONNECT:
            self.connect = packet
        if kind in self.swallowed:
            return
        if kind == PUBLISH and self.swapped and not packet[0] & _QOS and self.waiting is None:
            self.waiting = packet
            return
        yield packet
        if kind == PUBLISH and self.doubled:
            yield packet
        if self.waiting is not None:
            yield self.waiting
            self.waiting = None


class Proxy:
    """Stands between one client and the broker."""

    def __init__(self, broker_port: int) -> None:
        self.up = Way()
        """From the client to the broker."""
        self.down = Way()
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        # As little as the kernel allows: a slow link keeps no packets for later.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._listener.setblocking(False)
        self._connections: dict[asyncio.Task[None], tuple[socket.socket, socket.socket]] = {}
        self._accepting = asyncio.create_task(self._accept(), name="proxy")

    @property
    def port(self) -> int:
        """Where the client connects."""
        return int(self._listener.getsockname()[1])

    async def reset(self) -> float:
        """Break every connection with a reset on both sides; return when."""
        for task, ends in self._connections.items():
            for end in ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        return time.monotonic()

    async def close(self) -> None:
        """End it."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        await self.reset()
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            broker = socket.socket()
            for one in (client, broker):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.create_task(self._serve(client, broker), name="proxy-connection")
            self._connections[task] = (client, broker)
            task.add_done_callback(self._connections.pop)

    async def _serve(self, client: socket.socket, broker: socket.socket) -> None:
        """Pass packets on until one side ends or it is reset; nobody waits for a socket any more when it closes."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await asyncio.get_running_loop().sock_connect(broker, ("127.0.0.1", self._broker_port))
            for source, sink, way in ((client, broker, self.up), (broker, client, self.down)):
                way.waiting = None
                queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
                tasks.append(asyncio.create_task(self._read(source, queue, way), name="proxy-read"))
                tasks.append(asyncio.create_task(self._send(queue, sink, way), name="proxy-send"))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            client.close()
            broker.close()

    @staticmethod
    async def _read(source: socket.socket, queue: "asyncio.Queue[tuple[float, bytes]]", way: Way) -> None:
        loop = asyncio.get_running_loop()
        data = b""
        while arrived := await loop.sock_recv(source, _SMALL_READ if way.rate_bytes_per_s else _LARGEST_READ):
            if way.rate_bytes_per_s:
                await asyncio.sleep(len(arrived) / way.rate_bytes_per_s)
            packets, data = split(data + arrived)
            for packet in packets:
                for part in way.changed(packet):
                    queue.put_nowait((time.monotonic() + way.delay_s(), part))

    @staticmethod
    async def _send(queue: "asyncio.Queue[tuple[float, bytes]]", sink: socket.socket, way: Way) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, packet = await queue.get()
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            while way.held:
                await asyncio.sleep(0.02)
            await loop.sock_sendall(sink, packet)
