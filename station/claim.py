"""Looks, before a station takes its name, whether a living one has it already."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from schemas.codec import MalformedError, decode, encode
from schemas.messages import ChannelTelemetry, Event, Presence, Severity, StationStatus
from schemas.topics import (
    ChannelAddress,
    ChannelTopic,
    LoopTopic,
    StatusAddress,
    channel_filter,
    loop_topic,
    parse,
    status_topic,
)
from station.connection import Connection
from transport.session import Session, unguessable

_STATUS_S = 1.0
"""A retained status comes right after the subscription, or there is none."""
_CONNECT_S = 5.0
_LISTEN_MARGIN_S = 1.0
LONGEST_BOOT_ID = 64
"""Of another's, in the log and in events."""

_log = logging.getLogger(__name__)


class _Witness:
    """Collects signs of life under our own name that are not ours."""

    def __init__(self) -> None:
        self.status: StationStatus | None = None
        self.status_came = asyncio.Event()
        self.decided = asyncio.Event()
        self.alive: set[str] = set()
        """Boot ids that publish telemetry now."""

    def on_message(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - the session's call
        with contextlib.suppress(MalformedError):
            match parse(topic):
                case StatusAddress():
                    self.status = decode(StationStatus, payload)
                    self.status_came.set()
                case ChannelAddress(leaf=ChannelTopic.TELEMETRY) if not retained:
                    self.alive.add(decode(ChannelTelemetry, payload).boot_id)
                case _:
                    return
            if self.claimed_by is None or self.claimed_by in self.alive:
                self.decided.set()

    @property
    def claimed_by(self) -> str | None:
        """The boot that says it is online under this name."""
        if self.status is None or self.status.status is Presence.OFFLINE:
            return None
        return self.status.boot_id


async def living_namesake(
    connection: Connection,
    station: str,
    boot_id: str,
    *,
    telemetry_period_s: float,
    clock: Callable[[], float],
    utc: Callable[[], float],
) -> str | None:
    """Return the boot id of a living station of this name, or None; an alarm names both of them.

    A status that says `online` may be left from a crash. Only telemetry that arrives while we listen proves life: a
    living station sends some of it in every period.

    Args:
        connection: the loop.
        station: the name.
        boot_id: of this process.
        telemetry_period_s: how often a station of this loop publishes.
        clock: monotonic seconds.
        utc: seconds since 1970, for the alarm's label.

    Raises:
        ConnectionFailedError: the broker is gone again.
    """
    witness = _Witness()
    session = Session(
        connection.broker,
        client_id=unguessable(f"{station}-claim"),
        on_message=witness.on_message,
        on_connected=lambda: session.subscribe(
            (status_topic(connection.loop, station), 1),
            (channel_filter(connection.loop, ChannelTopic.TELEMETRY, station=station), 0),
        ),
        on_disconnected=lambda _reason: None,
        clock=clock,
    )
    try:
        await session.connect_once(_CONNECT_S)
        await _wait(witness.status_came, _STATUS_S)
        suspect = witness.claimed_by
        if suspect is None or suspect == boot_id:
            return None
        _log.info("name_taken station=%s boot_id=%r; listening whether it lives", station, suspect[:LONGEST_BOOT_ID])
        await _wait(witness.decided, 1.5 * telemetry_period_s + _LISTEN_MARGIN_S)
        if witness.claimed_by != suspect or suspect not in witness.alive:
            return None
        alarm = Event(
            unix_time_s=utc(),
            source=f"station/{station}",
            severity=Severity.ALARM,
            code="duplicate_station",
            text=f"a second station {station} (boot {boot_id}) was refused: one is running (boot {suspect})",
            values={"boot_id": boot_id},
        )
        session.publish(loop_topic(connection.loop, LoopTopic.EVENT), encode(alarm), qos=1)
        return suspect
    finally:
        await session.close()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
