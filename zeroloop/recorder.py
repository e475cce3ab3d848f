"""`zeroloop record` and `zeroloop export`."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from equalizer.config import EqualizerSettings
from recording.bdf import history, write
from recording.reader import Recording
from recording.writer import SETTINGS_TOPIC, Writer, refuse_unusable
from schemas.settings import ConfigurationError, parse
from schemas.topics import ROOT, LoopTopic, loop_topic
from station.connection import Connection
from transport.files import read_text
from transport.session import Session, unguessable
from zeroloop import clocks, durations
from zeroloop.confidant import Confidant
from zeroloop.reach import CONNECT_WITHIN_S, Reach

_PART_EVERY_S = 30.0
_LOOK_S = 1.0
_REPLAYED = ("loop", "control", "telemetry", "setpoint", "meter", "channel", "plausibility")
"""What a replay needs of the equalizer's configuration; nothing of it is a secret."""


async def record(
    reach: Reach, out: Path, seconds: float | None, stop: asyncio.Event, tell: Callable[[str], None]
) -> int:
    """Write what a loop says to a file until stopped, and return how many messages it holds.

    Raises:
        ConfigurationError: the file is there already, or an option cannot be used.
        DiscoveryError: no server was found, or too many.
        ConnectionFailedError: the broker was not reached.
    """
    durations.check("--seconds", seconds)
    refuse_unusable(out)  # before a server is looked for
    connection = await reach.connection()
    writer = Writer(out)
    began_s = clocks.monotonic_s()
    settings = _settings(reach.config)
    if settings is not None:
        writer.add(0.0, clocks.unix_time_s(), SETTINGS_TOPIC, settings, retained=False)
    try:
        async with asyncio.timeout(seconds):
            await _listen(connection, writer, began_s, stop, tell)
    except TimeoutError:
        pass
    finally:
        await asyncio.to_thread(writer.finish)
    return writer.messages


async def _listen(
    connection: Connection, writer: Writer, began_s: float, stop: asyncio.Event, tell: Callable[[str], None]
) -> None:
    confidant = Confidant(loop_topic(connection.loop, LoopTopic.SERVER), writer, began_s, tell)

    def hear(topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - the session's callback
        writer.add(clocks.monotonic_s() - began_s, clocks.unix_time_s(), topic, payload, retained=retained)
        confidant.hear(topic, payload)

    session = Session(
        connection.broker,
        client_id=unguessable("record"),
        on_message=hear,
        on_connected=lambda: session.subscribe((f"{ROOT}/{connection.loop}/#", 1)),
        clock=clocks.monotonic_s,
    )
    await session.connect_once(CONNECT_WITHIN_S)
    running = asyncio.create_task(session.run(), name="record connection")
    tell(f"recording loop {connection.loop} at {connection.broker.host}:{connection.broker.port}; Ctrl-C ends it")
    asking = asyncio.create_task(confidant.run(), name="record memory")
    written_s = clocks.monotonic_s()
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await stop.wait()
            if writer.full or clocks.monotonic_s() - written_s >= _PART_EVERY_S:
                await asyncio.to_thread(writer.flush)
                written_s = clocks.monotonic_s()
    finally:
        await confidant.end()
        await session.close()
        for task in (running, asking):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _settings(config: Path | None) -> bytes | None:
    """Return what a replay needs of an equalizer's configuration; None where there is no such file."""
    if config is None:
        return None
    try:
        settings = parse(EqualizerSettings, read_text(config), source=str(config), environment={})
    except ConfigurationError:
        return None  # a station's configuration, or credentials: they say where the broker is, and no more
    return json.dumps(settings.model_dump(mode="json", include=set(_REPLAYED))).encode()


def export(recording: Path, station: str, channel: str, out: Path, *, since: str | None, until: str | None) -> int:
    """Write a channel's history as Battery Data Format, and return how many rows it has.

    Raises:
        ConfigurationError: a time or a file cannot be used, or there is nothing of that channel.
    """
    if not out.parent.is_dir():
        raise ConfigurationError(f"--out: {out.parent}: no such folder")
    frame = history(
        Recording(recording),
        station,
        channel,
        since_unix_time_s=_moment("--from", since),
        until_unix_time_s=_moment("--to", until),
    )
    write(frame, out)
    return frame.height


def _moment(option: str, text: str | None) -> float | None:
    """Return seconds since 1970 of a time of day here, an ISO 8601 time, or of seconds themselves."""
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        return float(text)
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise ConfigurationError(
            f"{option}: {text!r} is no time: 2026-11-23T08:00 (here), 2026-11-23T08:00+01:00, or seconds since 1970"
        ) from None
