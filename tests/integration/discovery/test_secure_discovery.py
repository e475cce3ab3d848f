"""Discovery with credentials: what an impostor on the LAN gets to see, and that the real broker is found."""

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from broker import find_mosquitto
from equalizer.advertise import Advertisement
from schemas.codec import encode
from schemas.settings import BrokerSettings
from schemas.topics import LoopTopic, loop_topic
from station.connection import Source
from station.discovery import DiscoveryRequest, discover
from station.errors import NoServerError
from station.probe import Patience
from tests.announcements import ANNOUNCED
from tests.authorities import Hall, make_hall
from tests.patience import PATIENCE_S
from tests.ports import free_port
from transport.credentials import dropped, resolved
from transport.session import ConnectionFailedError, Session

LOOPBACK = ("127.0.0.1",)
_ALERT_FLIGHT_BYTES = 64
"""What a client may say after its hello where it breaks off: a change of cipher, and an alert."""


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Hall:
    hall = make_hall(tmp_path_factory.mktemp("hall") / "credentials", free_port())
    hall.let_in("station", "s1")
    hall.let_in("equalizer", "hall-a")
    return hall


@dataclass
class Impostor:
    """Listens as a broker with TLS whose certificate is somebody else's, and keeps every byte that it is sent."""

    certificate: Path
    key: Path
    highest: ssl.TLSVersion
    port: int = 0
    received: list[bytes] = field(default_factory=list)
    peer: bytes | None = None

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(PATIENCE_S)
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for a connection
        self._server.close()
        self._thread.join()

    def _serve(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = self.highest
        context.load_cert_chain(self.certificate, self.key)
        context.load_verify_locations(self.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL  # it asks for the client's certificate
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            with link:
                link.settimeout(PATIENCE_S)
                self._talk(link, context)

    def _talk(self, link: socket.socket, context: ssl.SSLContext) -> None:
        arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(arriving, leaving, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return
            else:
                self.peer = tls.getpeercert(binary_form=True)
            try:
                link.sendall(leaving.read())
                data = link.recv(65536)
            except OSError:
                return
            if not data:
                return
            self.received.append(data)
            arriving.write(data)

    @property
    def after_the_hello(self) -> bytes:
        """What came behind the client's first record."""
        stream = b"".join(self.received)
        (length,) = struct.unpack(">H", stream[3:5])
        return stream[5 + length :]


@pytest.mark.parametrize("highest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("known_by", ["certificate", "password"])
async def test_a_broker_that_is_not_verified_sees_neither_certificate_nor_password_nor_connect(
    hall: Hall, tmp_path: Path, highest: ssl.TLSVersion, known_by: str
) -> None:
    stranger = make_hall(tmp_path / "stranger", 1)
    own = stranger.folder / "broker"
    with Impostor(own / "server.crt", own / "server.key", highest) as impostor:
        if known_by == "certificate":
            told = BrokerSettings(port=impostor.port, credentials_file=str(hall.file("s1")))
            broker = resolved(told, tmp_path).model_copy(update={"host": "127.0.0.1"})
        else:
            (tmp_path / "password").write_text("correct horse battery staple")
            broker = BrokerSettings(
                port=impostor.port,
                username="s1",
                password_file=str(tmp_path / "password"),
                ca_file=str(hall.folder / "authority.crt"),
            )
        session = Session(broker, client_id="s1", on_message=lambda *_: None, clock=time.monotonic)
        with pytest.raises(ConnectionFailedError, match="certificate verify failed"):
            await session.connect_once(PATIENCE_S)
        await asyncio.sleep(0.2)
    assert impostor.peer is None
    assert impostor.received
    assert len(impostor.after_the_hello) < _ALERT_FLIGHT_BYTES
    assert b"correct horse" not in b"".join(impostor.received)


async def test_a_clients_certificate_makes_no_broker(hall: Hall, tmp_path: Path) -> None:
    """Whoever has a station's file cannot stand as the broker for the others."""
    own = hall.file("s1")
    with Impostor(own, own, ssl.TLSVersion.TLSv1_3) as impostor:
        told = BrokerSettings(host="127.0.0.1", port=impostor.port, credentials_file=str(hall.file("hall-a")))
        session = Session(resolved(told, tmp_path), client_id="x", on_message=lambda *_: None, clock=time.monotonic)
        with pytest.raises(ConnectionFailedError, match="certificate verify failed"):
            await session.connect_once(PATIENCE_S)
    assert impostor.peer is None


@pytest.fixture
def broker_port(hall: Hall, tmp_path: Path) -> Iterator[int]:
    if find_mosquitto() is None:
        pytest.skip("needs mosquitto")
    with hall.start(tmp_path / "broker") as broker:
        yield broker.port


async def announced(broker: BrokerSettings, loop: str) -> Session:
    session = Session(broker, client_id=f"server-{loop}", on_message=lambda *_: None, clock=time.monotonic)
    await session.connect_once(PATIENCE_S)
    session.publish(loop_topic(loop, LoopTopic.SERVER), encode(ANNOUNCED), qos=1, retain=True)
    await session.flush(PATIENCE_S)
    return session


@pytest.mark.broker
async def test_with_one_dropped_file_the_real_broker_is_found_by_dns_sd_and_no_impostor_in_the_clear(
    hall: Hall, broker_port: int, tmp_path: Path, start_broker: Callable[..., BrokerSettings]
) -> None:
    """The file's own host is no more: only the announcement leads there. Another one leads to a plain impostor."""
    server = await announced(
        resolved(BrokerSettings(host="127.0.0.1", credentials_file=str(hall.file("hall-a"))), tmp_path), "tlsloop"
    )
    plain = start_broker()
    impostor = await announced(plain, "tlsloop")
    advertisements = [
        Advertisement(server.broker, server="hall-a", loop="tlsloop", interfaces=LOOPBACK),
        Advertisement(plain, server="evil", loop="tlsloop", interfaces=LOOPBACK),
    ]
    state = tmp_path / "state"
    state.mkdir()
    text = hall.file("s1").read_text().replace(f"port = {hall.port}", f"port = {free_port()}")
    (state / "s1.zeroloop").write_text(text)
    (state / "s1.zeroloop").chmod(0o600)
    request = DiscoveryRequest(
        configured=dropped(state, None),
        cache_file=state / "connection.json",
        local=plain,
        interfaces=LOOPBACK,
        browse_s=1.0,
        patience=Patience(answer_s=30.0, announcement_s=1.0),
    )
    for advertisement in advertisements:
        await advertisement.start()
    try:
        connection = await discover(request, clock=time.monotonic, timeout_s=PATIENCE_S)
        assert (connection.broker.port, connection.source) == (broker_port, Source.DNS_SD)
        assert connection.broker.cert_file == str(state / "s1.zeroloop")
        await advertisements[0].stop()
        (state / "connection.json").unlink()
        with pytest.raises(NoServerError):
            await discover(request, clock=time.monotonic, timeout_s=4.0)
    finally:
        await advertisements[1].stop()
        for session in (server, impostor):
            await session.close()


@pytest.mark.broker
async def test_a_memory_of_a_broker_in_the_clear_is_no_way_round_the_authority(
    hall: Hall, tmp_path: Path, start_broker: Callable[..., BrokerSettings]
) -> None:
    plain = start_broker()
    session = await announced(plain, "main")
    cache = tmp_path / "connection.json"
    cache.write_text(f'{{"host":"127.0.0.1","port":{plain.port},"tls":false,"loop":"main","source":"dns_sd"}}')
    told = BrokerSettings(host="127.0.0.1", port=free_port(), credentials_file=str(hall.file("s1")))
    request = DiscoveryRequest(
        configured=resolved(told, tmp_path), cache_file=cache, local=plain, dns_sd=False, patience=Patience(1.0, 0.5)
    )
    try:
        with pytest.raises(NoServerError):
            await discover(request, clock=time.monotonic, timeout_s=3.0)
    finally:
        await session.close()
