"""A station of the trial: the production's link, rack, keeper and simulated driver, ticked as the service does."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, cast

from schemas.messages import ChannelTelemetry, OnLost, Setpoint
from schemas.settings import BrokerSettings
from simulation.trials.process import Computer, Process
from simulation.trials.session import VirtualSession
from station.channel.outcome import Remembered
from station.config import StationSettings
from station.connection import Connection, Source
from station.drivers.registry import load
from station.link import Identity, Link
from station.metrics import Tally
from station.rack import TICK_S, Rack, hardware
from station.schedule import Cycle
from station.store import Keeper, Store
from transport.session import Session

LOOP = "main"


class VirtualStore:
    """A disk: it outlives the process."""

    path = "the disk"

    def __init__(self) -> None:
        self.channels: Mapping[str, Remembered] = {}

    def write(self, channels: Mapping[str, Remembered]) -> None:
        """Replace the memory."""
        self.channels = dict(channels)


class Observer(Protocol):
    """Who holds what a station does against the contract."""

    def told(self, station: "StationProcess", channel: str, telemetry: ChannelTelemetry) -> None:
        """Telemetry was sent."""

    def obeyed(self, station: "StationProcess", channel: str, setpoint: Setpoint) -> None:
        """A setpoint was accepted."""


class _ObservedLink(Link):
    observed: Callable[[str, ChannelTelemetry], None]

    def telemetry(self, channel_id: str, message: ChannelTelemetry, *, retain: bool) -> None:
        self.observed(channel_id, message)
        super().telemetry(channel_id, message, retain=retain)


class _ObservedRack(Rack):
    observed: Callable[[str, Setpoint], None]
    tally: Tally

    def on_setpoint(self, channel_id: str, setpoint: Setpoint) -> None:
        before = self.tally.setpoints["applied"] + self.tally.setpoints["clamped"]
        super().on_setpoint(channel_id, setpoint)
        if self.tally.setpoints["applied"] + self.tally.setpoints["clamped"] != before:
            self.observed(channel_id, setpoint)


class StationProcess(Process):
    """One run of a station.

    Args:
        computer: on which it runs.
        settings: its station.toml.
        store: its disk.
        boot_id: of this run.
        observer: told what it does.
    """

    def __init__(
        self, computer: Computer, settings: StationSettings, store: VirtualStore, boot_id: str, observer: Observer
    ) -> None:
        super().__init__(computer)
        self.settings = settings
        self.rack: _ObservedRack | None = None
        self.ended: str | None = None
        """Why it has ended by itself, which it never should."""
        self._store = store
        self._boot_id = boot_id
        self._observer = observer
        self.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._work()
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - the trial judges
            self.ended = f"{type(error).__name__}: {error}"

    async def _work(self) -> None:
        settings = self.settings
        driver = load(settings.driver.type)(dict(settings.driver.model_extra or {}), "")
        await driver.open([hardware(channel) for channel in settings.channel])
        keeper = Keeper(cast("Store", self._store), self._store.channels, on_trouble=lambda _trouble: None)
        tally = Tally()
        link = _ObservedLink(
            Identity(
                station=settings.station.id,
                boot_id=self._boot_id,
                version="virtual",
                driver=settings.driver.type,
                channels=tuple(channel.id for channel in settings.channel),
                on_lost=OnLost(settings.station.on_lost),
            ),
            tally=tally,
            telemetry_period_s=settings.telemetry.period_s,
            clock=self.clock,
            utc=self.utc,
            open_session=cast("Callable[..., Session]", partial(VirtualSession, self)),
        )
        link.observed = partial(self._observer.told, self)
        self.rack = rack = _ObservedRack(
            settings.channel,
            keeper.channels,
            telemetry=settings.telemetry,
            boot_id=self._boot_id,
            driver=driver,
            outlet=link,
            memory=keeper,
            tally=tally,
            clock=self.clock,
            utc=self.utc,
        )
        rack.tally = tally
        rack.observed = partial(self._observer.obeyed, self)
        connection = Connection(BrokerSettings(), LOOP, Source.CONFIGURED, None)
        await asyncio.gather(self._tick(rack), keeper.run(), link.run(connection, rack))

    async def _tick(self, rack: Rack) -> None:
        """Tick every 0.1 s, without drift; after a hold-up, go on from now."""
        cycle = Cycle(self.clock(), TICK_S)
        while True:
            now_s = self.clock()
            if now_s < cycle.due_s:
                await asyncio.sleep(cycle.due_s - now_s)
                continue
            cycle.take(now_s)
            rack.tick()
            await asyncio.sleep(0)

    def powers_w(self) -> dict[str, float]:
        """Return what flows at each channel; nothing where the process, and with it the equipment, is gone."""
        if not self.alive or self.rack is None:
            return {}
        return {reading.channel: reading.power_w for reading in self.rack.readings()}
