"""Wires broker, store and web server."""

import asyncio
import contextlib
import logging
import os
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import uvicorn

from dashboard.accounts import Accounts
from dashboard.alarms import AlarmBook
from dashboard.config import DashboardSettings
from dashboard.desk import Desk
from dashboard.energy import DayBook, Local
from dashboard.hall import Hall
from dashboard.history import History
from dashboard.hub import Hub
from dashboard.sessions import Sessions
from dashboard.store import Store
from schemas.settings import BrokerSettings, ConfigurationError
from transport.session import Session, unguessable
from transport.supervision import NOBODY, Supervisor

_LOG = logging.getLogger(__name__)

_WRITE_EVERY_S = 5.0
_SECONDS_PER_HOUR = 3_600.0
_CLOSE_WITHIN_S = 1


class _Server(uvicorn.Server):
    """A web server that leaves the signals to the command line."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class DashboardService:
    """The page of one loop.

    Args:
        settings: of dashboard.toml.
        broker: where the loop is.
        loop: its name.
        base_dir: what relative paths are counted from.
        clock: monotonic seconds.
        utc: unix seconds, for labels.
        local: unix seconds → the hall's local time.
        somebody: who acts where nobody signs in.
        version: of this program.
        may_act: whether the broker lets this page send commands.
        supervisor: told when the page can be visited, and that it lives.

    Raises:
        ConfigurationError: it would be open to the network, or a file cannot be used.
    """

    def __init__(
        self,
        settings: DashboardSettings,
        *,
        broker: BrokerSettings,
        loop: str,
        base_dir: Path,
        clock: Callable[[], float],
        utc: Callable[[], float],
        local: Local,
        somebody: str,
        version: str,
        may_act: bool = True,
        supervisor: Supervisor = NOBODY,
    ) -> None:
        folder = base_dir / settings.state.dir
        accounts = Accounts(folder)
        refuse_to_be_open(settings, accounts)
        self._settings = settings
        self._supervisor = supervisor
        self._base_dir = base_dir
        self._clock = clock
        self._utc = utc
        self._store = Store(folder)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._is_failing = False
        history = History()
        history.restore(*self._store.history())
        hall = Hall(
            loop,
            history=history,
            alarms=AlarmBook(self._store.troubles()),
            days=DayBook(settings.tariff.price_at, local, *self._store.day()),
            band_w=settings.page.band_w,
        )
        self.hub = Hub(
            settings=settings,
            hall=hall,
            desk=Desk(loop, self._publish),
            accounts=accounts,
            sessions=Sessions(settings.sign_in.session_hours * _SECONDS_PER_HOUR, self._store.fact("sessions")),
            clock=clock,
            utc=utc,
            local=local,
            somebody=somebody,
            version=version,
            may_act=may_act,
            broker_lost_s=clock(),
        )
        self._session = Session(
            broker,
            client_id=unguessable("dashboard"),
            on_message=self._take,
            on_connected=self._connected,
            on_disconnected=self._disconnected,
            clock=clock,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stopped.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        # Its information has every visitor's address and the id of their view: nothing for a log.
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        # NiceGUI keeps visitors' preferences in a folder of its own where it is asked to; the page asks for none.
        os.environ.setdefault("NICEGUI_STORAGE_PATH", str(self._base_dir / self._settings.state.dir / "nicegui"))
        from dashboard.site import application  # noqa: PLC0415 - after the folder is known

        page = self._settings.page
        with _listening(page.host, page.port) as listener:
            server = _Server(self._configuration(application(self.hub)))
            async with self._connection(), self._writing():
                serving = asyncio.create_task(server.serve([listener]), name="page")
                stopping = asyncio.create_task(stop.wait(), name="stop")
                self._supervisor.ready()
                _LOG.info("the page is at %s", address(self._settings))
                await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                self._supervisor.stopping()
                server.should_exit = True
                await serving

    def _configuration(self, application: Callable[..., object]) -> uvicorn.Config:
        page = self._settings.page
        return uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_CLOSE_WITHIN_S,
            ssl_certfile=None if page.cert_file is None else self._base_dir / page.cert_file,
            ssl_keyfile=None if page.key_file is None else self._base_dir / page.key_file,
        )

    # ── the broker ────────────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self._session.run(), name="broker connection")
        try:
            yield
        finally:
            await self._session.close()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    def _connected(self) -> None:
        self.hub.broker_lost_s = None
        hall = self.hub.hall
        self._session.subscribe(*hall.filters(), *self.hub.desk.filters(), sure=hall.sure_filters())

    def _disconnected(self, reason: str) -> None:
        _LOG.warning("the broker is lost: %s", reason)
        self.hub.broker_lost_s = self._clock()

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - the session's call
        hub = self.hub
        if not hub.desk.take(topic, payload):
            hub.hall.take(topic, payload, self._clock(), self._utc(), retained=retained)

    def _publish(self, topic: str, payload: bytes) -> bool:
        if not self._session.connected:
            return False
        self._session.publish(topic, payload, qos=1, only_now=True)
        return True

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        async def write_on() -> None:
            while True:
                await asyncio.sleep(_WRITE_EVERY_S)
                await self._write()
                self._supervisor.alive(f"loop {self.hub.hall.loop}")

        task = asyncio.create_task(write_on(), name="store")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self._write(everything=True)
            await asyncio.get_running_loop().run_in_executor(self._disk, self._store.close)
            self._disk.shutdown()

    async def _write(self, *, everything: bool = False) -> None:
        hall, now_s = self.hub.hall, self._utc()
        buckets, marks = hall.history.drain(everything=everything)
        troubles, forgotten = hall.alarms.drain()
        facts = [("sessions", self.hub.sessions.stored(now_s))]
        if hall.days.last is not None and hall.days.day is not None:
            facts += [("reading", asdict(hall.days.last)), ("day", asdict(hall.days.day))]
        try:
            write = partial(
                self._store.write,
                now_s,
                buckets=buckets,
                marks=marks,
                troubles=troubles,
                forgotten=forgotten,
                facts=facts,
            )
            await asyncio.get_running_loop().run_in_executor(self._disk, write)
        except sqlite3.Error as error:
            if not self._is_failing:
                _LOG.warning("the history cannot be written: %s; the page goes on", error)
            self._is_failing = True
        else:
            self._is_failing = False


def refuse_to_be_open(settings: DashboardSettings, accounts: Accounts) -> None:
    """Let nobody but this computer see the page without signing in.

    Raises:
        ConfigurationError: there is nobody who could sign in.
    """
    if (settings.sign_in.always or not settings.page.is_loopback) and not accounts.users():
        where = "sign_in.always is set" if settings.page.is_loopback else f"page.host is {settings.page.host}"
        raise ConfigurationError(
            f"{where}, and there is no user yet who could sign in; add one: "
            "zeroloop dashboard-user add NAME --role operator"
        )


def address(settings: DashboardSettings) -> str:
    """Return where the page is found from this computer."""
    page = settings.page
    host = page.host if page.is_loopback else socket.gethostname()
    return f"{'http' if page.cert_file is None else 'https'}://{f'[{host}]' if ':' in host else host}:{page.port}/"


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"page: cannot listen on {host}:{port}: {os.strerror(error.errno or 0).lower()}"
        ) from None
    with listener:
        yield listener
