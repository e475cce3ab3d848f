"""The live view: one more MQTT client that only listens."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console
from rich.live import Live

from schemas.messages import Presence
from station.connection import Connection
from transport.session import Session, unguessable
from zeroloop import clocks
from zeroloop.hall import Hall
from zeroloop.reach import CONNECT_WITHIN_S
from zeroloop.view import Picture, balance_line, lines

_DRAW_EVERY_S = 0.5
_FIRST_BALANCE_WITHIN_S = 5.0
_SNAPSHOT_SETTLES_S = 1.2
"""A period of the telemetry, and a little: what is retained may be old."""


class NothingHeardError(Exception):
    """The broker is there, and no equalizer speaks on it."""


@asynccontextmanager
async def listening(connection: Connection, hall: Hall) -> AsyncIterator[Session]:
    """Feed a hall with what its loop says, as long as the block lasts.

    Raises:
        ConnectionFailedError: the broker was not reached.
    """
    session = Session(
        connection.broker,
        client_id=unguessable("watch"),
        on_message=lambda topic, payload, retained: hall.take(topic, payload, clocks.monotonic_s(), retained=retained),
        on_connected=lambda: session.subscribe(*hall.filters()),
        clock=clocks.monotonic_s,
    )
    await session.connect_once(CONNECT_WITHIN_S)
    running = asyncio.create_task(session.run(), name="watch connection")
    try:
        yield session
    finally:
        await session.close()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def snapshot(connection: Connection, console: Console, *, as_json: bool = False) -> None:
    """Print what is known now, as plain lines or as JSON.

    Raises:
        NothingHeardError: no equalizer speaks here.
    """
    hall = Hall(connection.loop)
    async with listening(connection, hall):
        await asyncio.sleep(_SNAPSHOT_SETTLES_S)
        for _ in range(round((_FIRST_BALANCE_WITHIN_S - _SNAPSHOT_SETTLES_S) / _DRAW_EVERY_S)):
            if hall.balance is not None:
                break
            await asyncio.sleep(_DRAW_EVERY_S)
    if hall.balance is None and not hall.channels:
        raise NothingHeardError(f"nothing heard of loop {connection.loop} within {_FIRST_BALANCE_WITHIN_S:g} s")
    if as_json:
        print(json.dumps(document(hall), indent=2))  # noqa: T201 - for a program
        return
    for line in lines(hall):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


async def watch(connection: Connection, console: Console, stop: asyncio.Event, *, as_json: bool = False) -> None:
    """Show the loop until stopped: a live picture on a terminal, else a line a message, of JSON if wanted."""
    hall = Hall(connection.loop)
    title = f"zeroloop · {connection.loop} · {connection.broker.host}:{connection.broker.port}"
    async with listening(connection, hall):
        if as_json:
            await _print_json(hall, stop)
            return
        await show(hall, console, stop, title=title, notes=("Ctrl-C ends the view, nothing else.",))


def document(hall: Hall) -> dict[str, object]:
    """Return what is known of a hall, for a program."""
    return {
        "loop": hall.loop,
        "server": None if hall.announcement is None else hall.announcement.model_dump(mode="json"),
        "balance": None if hall.balance is None else hall.balance.model_dump(mode="json"),
        "stations": {name: status.model_dump(mode="json") for name, status in sorted(hall.stations.items())},
        "channels": [
            {"station": station, "channel": channel, **view.telemetry.model_dump(mode="json")}
            for (station, channel), view in sorted(hall.channels.items())
        ],
    }


async def _print_json(hall: Hall, stop: asyncio.Event) -> None:
    shown: int | None = None
    while not await _stopped_within(stop, _DRAW_EVERY_S / 2.0):
        balance = hall.balance
        if balance is not None and hall.balance_s is not None and balance.seq != shown:
            shown = balance.seq
            print(balance.model_dump_json(), flush=True)  # noqa: T201 - for a program


async def show(hall: Hall, console: Console, stop: asyncio.Event, *, title: str, notes: tuple[str, ...] = ()) -> None:
    """Draw a hall until stopped, as the console allows."""
    if console.is_terminal:
        await _draw(hall, console, stop, title, notes)
    else:
        await _print(hall, console, stop)


async def _draw(hall: Hall, console: Console, stop: asyncio.Event, title: str, notes: tuple[str, ...]) -> None:
    def picture() -> Picture:
        return Picture(hall, clocks.monotonic_s(), title=title, notes=notes)

    with Live(picture(), console=console, screen=True, auto_refresh=False) as live:
        while not await _stopped_within(stop, _DRAW_EVERY_S):
            live.update(picture(), refresh=True)
    console.print(picture())


async def _print(hall: Hall, console: Console, stop: asyncio.Event) -> None:
    shown = None
    events = 0
    server = None
    while not await _stopped_within(stop, _DRAW_EVERY_S):
        server = _tell_of_server(hall, console, server)
        balance = hall.balance
        if balance is not None and hall.balance_s is not None and balance.seq != shown:
            shown = balance.seq
            console.print(balance_line(balance), markup=False, highlight=False, soft_wrap=True)
        for event in list(hall.events)[events - hall.messages["event"] :] if events < hall.messages["event"] else ():
            console.print(
                f"{event.severity} {event.source} {event.text}", markup=False, highlight=False, soft_wrap=True
            )
        events = hall.messages["event"]


def _tell_of_server(hall: Hall, console: Console, before: tuple[str, Presence] | None) -> tuple[str, Presence] | None:
    """Say that a server has gone or come, and return which stands now: once it is gone, no balance tells of it."""
    if hall.announcement is None:
        return before
    now = hall.announcement.server, hall.announcement.status
    if now != before and (before is not None or now[1] is Presence.OFFLINE):
        severity = "warning" if now[1] is Presence.OFFLINE else "info"
        console.print(f"{severity} server/{now[0]} is {now[1]}", markup=False, highlight=False, soft_wrap=True)
    return now


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
