"""One station: equipment, channels and link wired together, from start to clean stop."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from schemas.messages import Severity
from station.claim import living_namesake
from station.config import StationSettings
from station.connection import CACHE_FILE, Connection, Source
from station.discovery import DiscoveryRequest, discover
from station.drivers.protocol import Driver
from station.errors import DuplicateStationError, StationError
from station.link import Identity, Link
from station.metrics import MetricsServer, StationCollector, StationReading, Tally
from station.rack import TICK_S, Rack, hardware
from station.schedule import Cycle
from station.store import Keeper, Store
from transport import credentials
from transport.session import ConnectionFailedError
from transport.supervision import NOBODY, Supervisor
from transport.tls import ExpiryWatch

_RETRY_S = 1.0
_LOOK_AGAIN_S = 10.0
"""Without its broker for so long, a station looks whether that has moved."""
_LONGEST_WIND_DOWN_S = 30.0
_WIND_DOWN_MARGIN_S = 2.0
_STORE_S = 5.0
_STALLED_S = 3.0
"""A tick so late means that the process stood still."""
_LOOK_AT_EXPIRY_S = 10.0
_SETTLE_TICKS = 3
"""After the last ramp: the equipment takes its `Off`, and a sample shows it."""
_TELL_S = 1.0
"""Between two words to the service manager."""

_log = logging.getLogger(__name__)


class StationService:
    """A station's process.

    Args:
        settings: the configuration.
        base_dir: where relative paths of the configuration start from.
        driver: the equipment, not opened yet.
        clock: monotonic seconds.
        utc: seconds since 1970, for labels.
        version: of zeroloop.
        boot_id: new at every start; made here where it is not given.
        request: where to look for the server; by default, what the configuration and the state folder say.
        supervisor: hears that it has started, every second that its channels are worked on, and that it ends.
    """

    def __init__(
        self,
        settings: StationSettings,
        *,
        base_dir: Path,
        driver: Driver,
        clock: Callable[[], float],
        utc: Callable[[], float],
        version: str = "0",
        boot_id: str | None = None,
        request: DiscoveryRequest | None = None,
        supervisor: Supervisor = NOBODY,
    ) -> None:
        self.settings = settings
        self.tally = Tally()
        state_dir = base_dir / settings.station.state_dir
        self._store = Store(state_dir)
        self._driver = driver
        self._clock = clock
        self._utc = utc
        self._supervisor = supervisor
        self._request = request if request is not None else request_for(settings, state_dir)
        self._link = Link(
            Identity(
                station=settings.station.id,
                boot_id=boot_id if boot_id is not None else secrets.token_hex(4),
                version=version,
                driver=settings.driver.type,
                channels=tuple(channel.id for channel in settings.channel),
                on_lost=settings.station.on_lost,
            ),
            tally=self.tally,
            telemetry_period_s=settings.telemetry.period_s,
            clock=clock,
            utc=utc,
        )

        self._expiry = ExpiryWatch(utc, self._link.event)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then ramp to 0 W, say so, and return.

        Raises:
            DriverConfigurationError: a channel's options are wrong.
            SeveralLoopsError: the configuration must name a loop.
            StateFolderError: nothing can be remembered.
            DuplicateStationError: a living station has this id, or works with this state folder.
        """
        with self._store.claimed():
            try:
                await self._driver.open([hardware(channel) for channel in self.settings.channel])
                keeper, forgetful = self._remember()
                rack = self._take_up(keeper, forgetful=forgetful)
                collector = StationCollector(self.settings.station.id, self.tally, partial(self._reading, rack))
                with MetricsServer(self.settings.metrics, collector):
                    await self._operate(stop, rack, keeper)
            finally:
                await self._driver.close()

    # ── the start ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _remember(self) -> tuple[Keeper, bool]:
        """Return what is remembered, and whether there was more that got lost."""
        recollection = self._store.read()
        if recollection.damage is not None:
            _log.error("state_lost error=%r", recollection.damage)
            text = f"{recollection.damage}; modes and epochs are forgotten"
            self._link.event(Severity.WARNING, "state_lost", text, {"cause": recollection.damage})
        keeper = Keeper(self._store, recollection.channels, on_trouble=self._tell_of_disk)
        return keeper, recollection.damage is not None

    def _take_up(self, keeper: Keeper, *, forgetful: bool) -> Rack:
        return Rack(
            self.settings.channel,
            keeper.channels,
            telemetry=self.settings.telemetry,
            boot_id=self._link.identity.boot_id,
            driver=self._driver,
            outlet=self._link,
            memory=keeper,
            tally=self.tally,
            clock=self._clock,
            utc=self._utc,
            forgetful=forgetful,
        )

    def _tell_of_disk(self, trouble: str | None) -> None:
        if trouble is None:
            _log.info("state_stored_again file=%s", self._store.path)
            self._link.event(Severity.INFO, "state_stored_again", "modes and epochs are remembered again", {})
            return
        _log.error("state_not_stored error=%r", trouble)
        text = f"{trouble}; a restart would not remember modes and epochs"
        self._link.event(Severity.ALARM, "state_not_stored", text, {"cause": trouble})

    def _reading(self, rack: Rack) -> StationReading:
        link = self._link
        return StationReading(
            link.loop or "",
            link.connected,
            link.server_online,
            rack.readings(),
            self._expiry.left_s,
            link.dropped_messages,
        )

    # ── the work ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _operate(self, stop: asyncio.Event, rack: Rack, keeper: Keeper) -> None:
        """Run the tasks of a station until it is told to stop, or one of them fails."""
        tasks = [
            asyncio.create_task(self._tick(rack), name="station-tick"),
            asyncio.create_task(keeper.run(), name="station-keeper"),
            asyncio.create_task(self._stay_linked(rack), name="station-link"),
            asyncio.create_task(self._watch_expiry(), name="station-expiry"),
        ]
        stopping = asyncio.create_task(stop.wait(), name="station-stop")
        _log.info("station_started station=%s boot_id=%s", self.settings.station.id, self._link.identity.boot_id)
        self._supervisor.ready()
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            self._supervisor.stopping()
            failure = next((error for task in done if (error := task.exception()) is not None), None)
            if failure is None or isinstance(failure, StationError):
                await self._wind_down(rack, keeper)
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            await self._link.close()
            _log.info("station_ended station=%s", self.settings.station.id)
        if failure is not None:
            raise failure

    async def _tick(self, rack: Rack) -> None:
        """Tick every 0.1 s, without drift; after a hold-up, go on from now."""
        cycle = Cycle(self._clock(), TICK_S)
        told_s = self._clock()
        while True:
            now_s = self._clock()
            if now_s < cycle.due_s:
                await asyncio.sleep(cycle.due_s - now_s)
                continue
            self.tally.ticks += 1
            self.tally.tick_lag_s += now_s - cycle.due_s
            if now_s - cycle.due_s > _STALLED_S:
                self._tell_of_stall(now_s - cycle.due_s)
            self.tally.overruns += cycle.take(now_s)
            rack.tick()
            if now_s - told_s >= _TELL_S:
                told_s = now_s
                self._supervisor.alive(self._state_in_words())
            # Whoever waits for the loop comes first, however far behind this is.
            await asyncio.sleep(0)

    def _state_in_words(self) -> str:
        link = self._link
        if not link.connected:
            return "not connected to a broker"
        return f"loop {link.loop}, server {'online' if link.server_online else 'not heard'}"

    def _tell_of_stall(self, gap_s: float) -> None:
        _log.warning("stalled gap_s=%.1f", gap_s)
        text = f"this process stood still for {gap_s:.1f} s; meanwhile its equipment was on its own"
        self._link.event(Severity.WARNING, "stalled", text, {"gap_s": round(gap_s, 1)})

    async def _stay_linked(self, rack: Rack) -> None:
        """Find the server, make sure that the name is free, and stay connected; look again where that has moved."""
        request = self._request
        while True:
            connection = await discover(request, clock=self._clock)
            try:
                await self._claim(connection)
            except ConnectionFailedError as error:
                _log.warning("broker_lost_again error=%r", str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            except DuplicateStationError as error:
                if request is self._request:
                    raise
                # It works on batteries already: a namesake that it meets later is no reason to stop them.
                _log.error("duplicate_station error=%r action=looking_again", str(error))
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            # A broker that was found may move; one that is configured has its place, and is waited for.
            give_up_s = None if connection.source is Source.CONFIGURED else _LOOK_AGAIN_S
            try:
                await self._link.run(connection, rack, give_up_s=give_up_s)
            except ConnectionFailedError as error:
                _log.warning("broker_given_up error=%r action=looking_again", str(error))
                request = replace(request, loop=connection.loop)
                continue
            return

    async def _watch_expiry(self) -> None:
        """Look from the start, connected or not: an expired certificate is why there is no connection."""
        while True:
            self._expiry.look(self._request.configured, self._link.peer_expiry_unix_time_s)
            await asyncio.sleep(_LOOK_AT_EXPIRY_S)

    async def _claim(self, connection: Connection) -> None:
        station = self.settings.station.id
        namesake = await living_namesake(
            connection,
            station,
            self._link.identity.boot_id,
            telemetry_period_s=self.settings.telemetry.period_s,
            clock=self._clock,
            utc=self._utc,
        )
        if namesake is not None:
            raise DuplicateStationError(
                f"a station {station!r} is running already in loop {connection.loop} (boot {namesake}, on the broker "
                f"{connection.broker.host}:{connection.broker.port}); every station needs an id of its own"
            )

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _wind_down(self, rack: Rack, keeper: Keeper) -> None:
        """Bring everything to 0 W, and say so."""
        rack.wind_down()
        deadline_s = self._clock() + _longest_ramp_s(self.settings)
        while not rack.at_rest and self._clock() < deadline_s:  # noqa: ASYNC110 - it comes to rest tick by tick
            await asyncio.sleep(TICK_S)
        if not rack.at_rest:
            _log.warning("wind_down_incomplete station=%s; the driver switches off", self.settings.station.id)
        await asyncio.sleep(_SETTLE_TICKS * TICK_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STORE_S):
                await keeper.drain()
        rack.say_last()


def request_for(settings: StationSettings, state_dir: Path) -> DiscoveryRequest:
    """Return what a station knows of its server beforehand.

    Raises:
        ConfigurationError: the credentials in the configuration or in the state folder are not for this station.
    """
    configured = credentials.dropped(state_dir, settings.broker)
    credentials.demand(configured, "station", settings.station.id)
    return DiscoveryRequest(configured=configured, loop=settings.station.loop, cache_file=state_dir / CACHE_FILE)


def _longest_ramp_s(settings: StationSettings) -> float:
    """Return how long the slowest channel may take from full power to 0 W."""
    ramps_s = (max(one.charge_limit_w, one.discharge_limit_w) / one.ramp_w_per_s for one in settings.channel)
    return min(max(ramps_s) + _WIND_DOWN_MARGIN_S, _LONGEST_WIND_DOWN_S)
