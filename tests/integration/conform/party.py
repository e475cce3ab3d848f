"""Our own programs, each with one thing done wrong: what the kit must find.

Run as a module:

    party.py station WRONG CONFIG [PULLED]    a station; its battery is gone as long as the file PULLED exists
    party.py equalizer WRONG CONFIG           an equalizer

WRONG `nothing` changes nothing.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import station.link
import station.store
from equalizer import fencing
from equalizer.config import EqualizerSettings
from equalizer.control.book import LoopBook
from equalizer.control.state import Order
from equalizer.duty import Duty
from equalizer.service import EqualizerService
from equalizer.voice import Voice
from schemas.messages import Presence, SetpointEcho, SetpointResult, SetpointStep, StationStatus, WorkStatus
from schemas.settings import parse
from station.channel import commands, lease, report, states
from station.channel.outcome import Remembered
from station.channel.states import Life, Trigger
from station.config import StationSettings
from station.drivers.protocol import ChannelHardware, Demand, Driver, Off, Preview, Sample
from station.drivers.registry import load
from station.service import StationService
from transport.session import Session

STATION: dict[str, Callable[[], None]] = {"nothing": lambda: None}


def wrong(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def keep(change: Callable[[], None]) -> Callable[[], None]:
        STATION[name] = change
        return change

    return keep


@wrong("it leaves no will")
def _no_will() -> None:
    begin = Session.__init__

    def without(self: Session, *arguments: object, will: object = None, **named: object) -> None:
        del will
        begin(self, *arguments, **named)  # type: ignore[arg-type]  # passed on

    Session.__init__ = without  # type: ignore[method-assign]


@wrong("its will names another boot")
def _another_boot() -> None:
    status = station.link.Link._status

    def named(self: station.link.Link, presence: Presence) -> StationStatus:
        said = status(self, presence)
        return said if presence is Presence.ONLINE else said.model_copy(update={"boot_id": "other"})

    station.link.Link._status = named  # type: ignore[method-assign]


@wrong("it goes without a word")
def _no_goodbye() -> None:
    publish = station.link.Link._publish_status

    def silently(self: station.link.Link, session: Session, presence: Presence) -> None:
        if presence is Presence.ONLINE:
            publish(self, session, presence)

    station.link.Link._publish_status = silently  # type: ignore[method-assign]


@wrong("it comes back without a word")
def _says_once() -> None:
    publish, said = station.link.Link._publish_status, []

    def once(self: station.link.Link, session: Session, presence: Presence) -> None:
        if presence is Presence.OFFLINE or not said:
            said.append(presence)
            publish(self, session, presence)

    station.link.Link._publish_status = once  # type: ignore[method-assign]
    station.link.Link._correct_status = lambda *_: None  # type: ignore[method-assign]


@wrong("it obeys what is retained")
def _obeys_retained() -> None:
    station.link._refuse_retained = lambda **_: None


@wrong("its lease never ends")
def _endless() -> None:
    grant = lease.grant
    lease.grant = lambda *arguments: replace(grant(*arguments), expires_s=1e12)


@wrong("its boot is always the same")
def _one_boot() -> None:
    begin = StationService.__init__

    def same(self: StationService, *arguments: object, **named: object) -> None:
        begin(self, *arguments, **(named | {"boot_id": "same"}))  # type: ignore[arg-type]  # passed on

    StationService.__init__ = same  # type: ignore[method-assign]


def _forgetting(forget: Callable[[Remembered], Remembered]) -> None:
    read = station.store.Store.read

    def forgetful(self: station.store.Store) -> station.store.Recollection:
        found = read(self)
        channels: Mapping[str, Remembered] = {name: forget(one) for name, one in found.channels.items()}
        return replace(found, channels=channels)

    station.store.Store.read = forgetful  # type: ignore[method-assign]


@wrong("it forgets the mode")
def _forgets_mode() -> None:
    _forgetting(lambda one: replace(one, equalizing=False))


@wrong("it forgets the epoch")
def _forgets_epoch() -> None:
    _forgetting(lambda one: replace(one, epoch=None, server=None))


@wrong("it trips and says that it has stopped")
def _just_stops() -> None:
    report.WORK_STATUS[Life.PROTECT] = WorkStatus.STOPPED


@wrong("it equalizes in spite of its alarm")
def _in_spite() -> None:
    refuse = commands._against_equalizing
    commands._against_equalizing = lambda state: refuse(replace(state, alarm=None))
    states.TRANSITIONS[Life.PROTECT, Trigger.EQUALIZE] = Life.EQUALIZING


def _unseen() -> None:
    fencing._seen = lambda fence, _epoch: fence


def _no_plans() -> None:
    LoopBook.plan = lambda *_: None  # type: ignore[method-assign]


def _at_once() -> None:
    age = LoopBook._age

    def complete(self: LoopBook, now_s: float) -> None:
        self._round_complete = True
        age(self, now_s)

    LoopBook._age = complete  # type: ignore[method-assign]


def _speaking(replaced: Callable[[Order], Order | None]) -> None:
    say = Voice.setpoint

    def otherwise(self: Voice, order: Order, epoch: int) -> int:
        said = replaced(order)
        return 0 if said is None else say(self, said, epoch)

    Voice.setpoint = otherwise  # type: ignore[method-assign]


def _at_zero() -> None:
    begun_s = time.monotonic()

    def zero(order: Order) -> Order:
        young = time.monotonic() - begun_s < _YOUNG_S
        return replace(order, steps=(SetpointStep(after_s=0.0, power_w=0.0),)) if young else order

    _speaking(zero)


def _gives_up() -> None:
    heard, expired = Duty.echo, []

    def hears(self: Duty, name: str, channel: str, echo: SetpointEcho, *, fresh: bool) -> None:
        if echo.result is SetpointResult.EXPIRED:
            expired.append(channel)
        heard(self, name, channel, echo, fresh=fresh)

    Duty.echo = hears  # type: ignore[method-assign]
    _speaking(lambda order: None if expired else order)


def _goes_on() -> None:
    fencing.announced = lambda fence, _message, *, retained: fence  # noqa: ARG005 - the caller's keyword


_YOUNG_S = 5.0
EQUALIZER: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "it sends before it has listened": _at_once,
    "it begins at 0 W": _at_zero,
    "its epoch is its own": _unseen,
    "it ignores plans": _no_plans,
    "it gives up when a lease has run out": _gives_up,
    "it goes on beside a newer server": _goes_on,
    "it returns under an old epoch": _unseen,
}


class Pulled:
    """Equipment whose battery somebody pulls, by making a file."""

    def __init__(self, driver: Driver, pulled: Path | None) -> None:
        self._driver = driver
        self._pulled = pulled

    async def open(self, channels: Sequence[ChannelHardware]) -> None:
        await self._driver.open(channels)

    async def close(self) -> None:
        await self._driver.close()

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample:
        if self._pulled is not None and self._pulled.exists():
            sample = self._driver.exchange(channel_id, Off(), now_s)
            return replace(sample, battery_connected=False, voltage_v=0.0, current_a=0.0, power_w=0.0)
        return self._driver.exchange(channel_id, demand, now_s)

    def has_own_program(self, channel_id: str) -> bool:
        return self._driver.has_own_program(channel_id)

    def preview(self, channel_id: str, horizon_s: float, now_s: float) -> Preview | None:
        return self._driver.preview(channel_id, horizon_s, now_s)

    def clear_fault(self, channel_id: str, now_s: float) -> None:
        self._driver.clear_fault(channel_id, now_s)


async def run(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await work(stop)


def a_station(change: str, config: Path, pulled: Path | None) -> None:
    STATION[change]()
    settings = parse(StationSettings, config.read_text(), source=config.name, environment={})
    driver = Pulled(load("simulated")({}, str(config.parent)), pulled)
    service = StationService(
        settings, base_dir=config.parent, driver=driver, clock=time.monotonic, utc=time.time, version="party"
    )
    asyncio.run(run(service.run))


def an_equalizer(change: str, config: Path) -> None:
    EQUALIZER[change]()
    settings = parse(EqualizerSettings, config.read_text(), source=config.name, environment={})
    service = EqualizerService(settings, base_dir=config.parent, clock=time.monotonic, utc=time.time)
    asyncio.run(run(service.run))


if __name__ == "__main__":
    _, kind, change, config, *pulled = sys.argv
    if kind == "station":
        a_station(change, Path(config), Path(pulled[0]) if pulled else None)
    else:
        an_equalizer(change, Path(config))
