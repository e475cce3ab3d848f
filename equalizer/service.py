"""The equalizer as a process: what wires it together, starts it and ends it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from pathlib import Path

from equalizer import fencing, memory, report
from equalizer.advertise import Advertisement
from equalizer.assistant import Assistant
from equalizer.audit.clerk import Clerk
from equalizer.audit.log import AuditLog
from equalizer.commands import CommandDesk
from equalizer.config import EqualizerSettings, warnings
from equalizer.duty import MATERIAL_RATIO, Duty
from equalizer.exposition import diary_page, live_page, memory_page, metrics_page, ready_page, serve
from equalizer.helm import Helm
from equalizer.journal import Journal
from equalizer.keeping import AGAIN_S, Trouble, Words
from equalizer.ledger import Ledger, SavedAccount, StandingOrders
from equalizer.link import Link
from equalizer.metrics import Counters, EqualizerMetrics
from equalizer.reach import reachable_host
from equalizer.standby import Timing
from equalizer.tenure import LeaseStore, Tenure
from equalizer.voice import Voice
from schemas.codec import MalformedError
from schemas.messages import Phase, Severity
from schemas.settings import ConfigurationError
from schemas.topics import LoopTopic, loop_topic
from transport.credentials import demand
from transport.session import Session, unguessable
from transport.supervision import NOBODY, Supervisor
from transport.tls import ExpiryWatch

_LOG = logging.getLogger(__name__)

_SECOND_S = 1.0
_SAVE_EVERY_S = 30.0
_FLUSH_S = 2.0
_UNSAVED = Words(
    "energy_not_saved",
    "a restart would go on with an older energy account",
    "energy_saved_again",
    "the energy account is stored again",
)
_UNAUDITED = Words(
    "audit_failed",
    "control goes on, entries wait",
    "audit_resumed",
    "{lost} entries were lost",
    Severity.ALARM,
)


class EqualizerService:
    """Balances one loop until it is told to stop.

    Args:
        settings: the whole configuration.
        base_dir: what relative paths in it start from.
        clock: monotonic seconds.
        utc: seconds since 1970, for labels only.
        supervisor: hears that it has started, of every completed cycle, and that it ends.
        ledger: where epoch and account are kept; by default in the state folder.
        open_session: makes the connection to the broker.
    """

    def __init__(
        self,
        settings: EqualizerSettings,
        *,
        base_dir: Path,
        clock: Callable[[], float],
        utc: Callable[[], float],
        supervisor: Supervisor = NOBODY,
        ledger: Ledger | None = None,
        open_session: Callable[..., Session] = Session,
    ) -> None:
        self.settings = settings
        self.counters = Counters()
        self._clock = clock
        self._utc = utc
        self._supervisor = supervisor
        self._ledger = ledger if ledger is not None else Ledger(base_dir / settings.state.dir, settings.loop.name)
        self._open_session = open_session
        demand(settings.broker, "equalizer")
        self._expiry = ExpiryWatch(
            utc, lambda severity, code, text, values: self._voice.event(code, text, severity, values)
        )
        self._reached = asyncio.Event()
        self._duties: list[Duty] = []
        self._journal = Journal(
            base_dir / settings.state.dir / f"decisions-{settings.loop.name}.jsonl",
            most_bytes=settings.state.decision_log_bytes,
        )

        self._audit = AuditLog(
            base_dir / settings.state.dir, settings.loop.name, most_bytes=settings.state.audit_log_bytes, utc=utc
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Balance until `stop` is set; then bring every equalization channel to 0 W and take leave.

        Raises:
            ConfigurationError: the state folder cannot be used, or the metrics' port cannot be listened on.
        """
        for text in warnings(self.settings):
            _LOG.warning("configuration hint=%r", text)
        self._assemble(*self._opened())
        async with contextlib.AsyncExitStack() as exits:
            await self._serve_metrics(exits)
            session = _started(self._session.run(), "equalizer-session", exits)
            exits.push_async_callback(self._session.close)
            second = _started(self._every_second(), "equalizer-second", exits)
            _started(_beside(self._write_log(), "log"), "equalizer-log", exits)
            _started(_beside(self._advertise(), "advertise"), "equalizer-advertise", exits)
            if self.settings.home_assistant.enabled:
                assistant = Assistant(self.settings, version=version("zeroloop"), clock=self._clock)
                _started(_beside(assistant.run(), "home_assistant"), "equalizer-assistant", exits)
            stopped = _started(stop.wait(), "equalizer-stop", exits)
            failed = _started(self._duty.until_failure(), "equalizer-failure", exits)
            tenure, held = self._begin_tenure(exits)
            self._supervisor.ready()
            await asyncio.wait({stopped, session, second, failed, *held}, return_when=asyncio.FIRST_COMPLETED)
            self._supervisor.stopping()
            if tenure is not None:
                await tenure.end()
            await self._duty.leave()
            await self._session.flush(_FLUSH_S)
            self._unsaved.tell(self._save())
            self._journal.write()
            self._audit.write()
            self._tell_of_audit()
            _LOG.info("audit_head seq=%d hash=%s", self._audit.head.seq, self._audit.head.hash)
            for task in (failed, *held, session, second):
                if task.done():
                    task.result()

    # ── the parts ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def standing(self) -> fencing.Standing:
        """Whether it is in charge; before it runs, it is not."""
        return self._duties[0].fence.standing if self._duties else fencing.Standing.STANDBY

    @property
    def phase(self) -> Phase:
        """What the server does, once it runs."""
        return self._duty.phase

    def _opened(self) -> tuple[fencing.Fence, SavedAccount, StandingOrders]:
        """Read the state files, and store the epoch of this run before it is used."""
        own = fencing.Identity(self.settings.loop.server, self._utc())
        try:
            begin = fencing.standing_by if self.settings.standby.enabled else fencing.opened
            fence = begin(own, self._ledger.epoch())
            saved = self._ledger.account()
            orders = self._ledger.orders()
            self._ledger.store_epoch(fence.epoch)
        except OSError as error:
            raise ConfigurationError(f"state.dir: {error.filename}: {error.strerror}") from None
        for text in self._ledger.damaged:
            _LOG.error("state_file_damaged what=%r", text)
        if orders.paused:
            _LOG.warning("paused by an order of an earlier run; `zeroloop resume` ends it")
        return fence, saved, orders

    def _assemble(self, fence: fencing.Fence, saved: SavedAccount, orders: StandingOrders) -> None:
        settings, clock, utc = self.settings, self._clock, self._utc
        self._voice = Voice(
            settings,
            version=version("zeroloop"),
            started_unix_time_s=fence.own.started_unix_time_s,
            metrics_url=self._metrics_url(),
            clock=clock,
            utc=utc,
        )
        self._unsaved, self._unaudited = Trouble(self._voice, _UNSAVED), Trouble(self._voice, _UNAUDITED)
        self._helm = Helm(
            settings,
            saved=saved,
            orders=orders,
            voice=self._voice,
            counters=self.counters,
            clock=clock,
            utc=utc,
            note=self._journal.note,
        )
        self._link = self._make_link()
        self._link.diary.run = fence.own.started_unix_time_s
        self._duty = Duty(
            fence,
            helm=self._helm,
            voice=self._voice,
            ledger=self._ledger,
            link=self._link,
            subscribe=lambda: self._session.subscribe(*self._link.filters, sure=self._link.sure_filters),
            timing=_timing(settings),
            stored=settings.standby.enabled and settings.standby.store == "nats",
            lease_s=settings.setpoint.ttl_s,
            period_s=settings.telemetry.period_s,
            clock=clock,
            log_lines=lambda: {"written": self._journal.written, "lost": self._journal.lost},
        )
        self._duties = [self._duty]
        self._desk = CommandDesk(self._duty, malformed=self._malformed_command, utc=utc)
        self._session = self._open_session(
            settings.broker,
            client_id=unguessable(f"equalizer-{settings.loop.name}"),
            on_message=self._link.take,
            routes=self._link.routes,
            on_connected=self._connected,
            on_disconnected=self._duty.lost_broker,
            will=self._voice.will(fence.epoch),
            clock=clock,
        )
        self._voice.session = self._session
        clerk = Clerk(self._audit.record, server=settings.loop.server, clock=clock)
        self._voice.clerk = self._link.clerk = self._desk.clerk = clerk

    def _make_link(self) -> Link:
        settings = self.settings
        meter = settings.meter
        topic = meter.topic if meter.topic is not None else loop_topic(settings.loop.name, LoopTopic.METER)
        return Link(
            settings.loop.name,
            book=self._helm.book,
            counters=self.counters,
            clock=self._clock,
            material_w=MATERIAL_RATIO * self._helm.band.release_w,
            meter=(topic, meter.power_path, meter.factor),
            command=self._command,
            overhears=settings.standby.enabled,
        )

    def _begin_tenure(
        self, exits: contextlib.AsyncExitStack
    ) -> tuple[Tenure | None, tuple["asyncio.Task[object]", ...]]:
        """Have a store say who is in charge, where one is configured."""
        settings = self.settings
        if not settings.standby.enabled or settings.standby.store != "nats":
            return None, ()
        store = LeaseStore(settings.standby, settings.loop.name)
        exits.push_async_callback(store.close)
        holder = {"server": settings.loop.server, "started_unix_time_s": self._duty.fence.own.started_unix_time_s}
        tenure = Tenure(store, self._duty, holder=holder, lost_s=settings.standby.lost_s, clock=self._clock)
        return tenure, (_started(tenure.run(), "equalizer-tenure", exits),)

    # ── what it does by itself ────────────────────────────────────────────────────────────────────────────────────

    async def _every_second(self) -> None:
        saved_s = self._clock()
        while True:
            await asyncio.sleep(_SECOND_S)
            self._duty.second()
            self._supervisor.alive(report.hindrance(self._duty.condition(), self._helm) or self.phase)
            self._expiry.look(self.settings.broker, self._session.peer_expiry_unix_time_s)
            if self._clock() - saved_s >= (AGAIN_S if self._unsaved.stands else _SAVE_EVERY_S):
                saved_s = self._clock()
                # Said here, not in the thread: a session belongs to its event loop.
                self._unsaved.tell(await asyncio.to_thread(self._save))

    async def _write_log(self) -> None:
        """Write the decision log beside everything else: a slow disk delays nobody."""
        while True:
            await asyncio.sleep(_SECOND_S)
            await asyncio.to_thread(self._journal.write)
            await asyncio.to_thread(self._audit.write)
            self._tell_of_audit()

    def _tell_of_audit(self) -> None:
        self._unaudited.tell(self._audit.trouble, {"lost": self._audit.lost})

    def _save(self) -> str | None:
        """Store the energy account; return why it cannot be."""
        try:
            self._ledger.store_account(self._helm.saved)
        except OSError as error:
            return str(error)
        return None

    async def _advertise(self) -> None:
        """Announce the broker by DNS-SD once it has been reached, until cancelled."""
        if not self.settings.discovery.advertise:
            return
        await self._reached.wait()
        loop = self.settings.loop
        advertisement = Advertisement(self.settings.broker, server=loop.server, loop=loop.name)
        try:
            await advertisement.start()
            await asyncio.Event().wait()
        finally:
            await advertisement.stop()

    def _connected(self) -> None:
        self._reached.set()
        self._duty.connected_to_broker()

    # ── what others ask ───────────────────────────────────────────────────────────────────────────────────────────

    def _command(self, payload: bytes) -> None:
        reply = self._desk.answer(payload)
        if reply is None:
            return
        try:
            self._voice.reply(reply)
        except MalformedError as error:  # an id so long that its reply is longer than the contract allows
            self._malformed_command(error)

    def _malformed_command(self, error: MalformedError) -> None:
        self._link.malformed("command", error.reason, str(error))

    async def _serve_metrics(self, exits: contextlib.AsyncExitStack) -> None:
        metrics = self.settings.metrics
        if metrics.port == 0:
            return
        duty, helm = self._duty, self._helm
        exposition = EqualizerMetrics(
            self.settings.loop.name,
            self.counters,
            lambda: report.gauges(duty.condition(), helm),
            certificates=lambda: self._expiry.left_s,
            audit=lambda: {"written": self._audit.written, "lost": self._audit.lost},
            unsent=lambda: {"dropped": self._session.dropped_messages, "withheld": self._voice.events_withheld},
        ).exposition
        pages = {
            "/metrics": metrics_page(exposition),
            "/ready": ready_page(
                lambda: report.hindrance(duty.condition(), helm), lambda: report.readiness(duty.condition())
            ),
            "/live": live_page,
            "/memory": memory_page(self._remembered, self._clock),
            "/diary": diary_page(self._diary),
        }
        server = await serve(metrics.host, metrics.port, pages)
        exits.callback(server.close)

    def _remembered(self) -> bytes | None:
        """Return what the control remembers, for a recorder; None while this server decides nothing."""
        duty = self._duty
        if not duty.is_fit():
            return None
        remembered = self._helm.remembered(self.settings.loop.server, duty.fence.epoch, self._link.mark)
        return None if remembered is None else memory.encode(remembered)

    def _diary(self) -> bytes:
        """Return when the control decided, and on what, for a recorder."""
        return self._link.diary.page(self.settings.loop.server, self._duty.fence.epoch)

    def _metrics_url(self) -> str | None:
        metrics = self.settings.metrics
        if metrics.port == 0:
            return None
        return f"http://{reachable_host(metrics.host, self.settings.broker.host)}:{metrics.port}/metrics"


def _timing(settings: EqualizerSettings) -> Timing:
    section = settings.standby
    return Timing(section.enabled, section.lost_s, section.settle_s, section.handover_s)


async def _beside(work: "Coroutine[object, object, object]", what: str) -> None:
    """Do what the control can go on without: where it fails, that is said at once, and ends nothing else."""
    try:
        await work
    except Exception:  # noqa: BLE001 - reported with its traceback
        _LOG.exception("failed_beside_the_control what=%s hint='the control goes on without it'", what)


def _started(
    work: "Coroutine[object, object, object]", name: str, exits: contextlib.AsyncExitStack
) -> "asyncio.Task[object]":
    """Start a task that ends with the service."""
    task = asyncio.create_task(work, name=name)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    exits.push_async_callback(end)
    return task
