"""Sends one command and waits for its one reply."""

import asyncio
import contextlib
import getpass
import secrets
import socket
from dataclasses import dataclass, field

from schemas.codec import MalformedError, decode, encode
from schemas.messages import ChannelCommand, LoopCommand, Presence, Reply, StationStatus
from schemas.settings import BrokerSettings
from schemas.topics import (
    ChannelTopic,
    LoopTopic,
    StatusAddress,
    channel_topic,
    loop_topic,
    parse,
    status_filter,
)
from station.connection import Connection
from transport.credentials import demand, own_header
from transport.session import Session, unguessable
from zeroloop import clocks
from zeroloop.reach import CONNECT_WITHIN_S

_REPLY_WITHIN_S = 4.0
"""The contract gives 2 s; the rest is the network's."""


class NoReplyError(Exception):
    """Nobody answered the command; the text says what is known of the one that should have."""


@dataclass(slots=True)
class _Exchange:
    """What has arrived since the question."""

    command_id: str
    reply_topic: str
    reply: asyncio.Future[Reply]
    stations: dict[str, StationStatus] = field(default_factory=dict)

    def take(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001 - the session's call
        with contextlib.suppress(MalformedError):  # not ours to judge; our own reply would be missed at the timeout
            if topic == self.reply_topic:
                reply = decode(Reply, payload)
                if reply.id == self.command_id and not self.reply.done():
                    self.reply.set_result(reply)
            elif isinstance(address := parse(topic), StatusAddress):
                self.stations[address.station] = decode(StationStatus, payload)

    def lost(self, reason: str) -> None:
        """Take note that the connection is gone."""
        if not self.reply.done():
            self.reply.set_exception(NoReplyError(f"the connection to the broker was lost: {reason}"))


async def ask_channel(connection: Connection, station: str, channel: str, action: str) -> Reply:
    """Return a station's reply to a command for one of its channels.

    Raises:
        NoReplyError: none came in time.
        ConnectionFailedError: the broker was not reached.
        ConfigurationError: the credentials are not an operator's.
    """
    command = ChannelCommand(id=secrets.token_hex(8), action=action, by=author(connection.broker))
    to, back = (
        channel_topic(connection.loop, station, channel, leaf) for leaf in (ChannelTopic.COMMAND, ChannelTopic.REPLY)
    )
    exchange = _Exchange(command.id, back, asyncio.get_running_loop().create_future())
    reply = await _ask(connection, exchange, to, encode(command))
    if reply is None:
        raise NoReplyError(_why_silent(exchange.stations, station, channel))
    return reply


async def ask_loop(connection: Connection, action: str, target_power_w: float | None = None) -> Reply:
    """Return the equalizer's reply to a command for the loop; a positive target draws from the grid.

    Raises:
        NoReplyError: none came in time.
        ConnectionFailedError: the broker was not reached.
        ConfigurationError: the credentials are not an operator's.
    """
    command = LoopCommand(
        id=secrets.token_hex(8), action=action, target_power_w=target_power_w, by=author(connection.broker)
    )
    to, back = (loop_topic(connection.loop, leaf) for leaf in (LoopTopic.COMMAND, LoopTopic.REPLY))
    exchange = _Exchange(command.id, back, asyncio.get_running_loop().create_future())
    reply = await _ask(connection, exchange, to, encode(command))
    if reply is None:
        raise NoReplyError(f"no reply from the equalizer of loop {connection.loop} within {_REPLY_WITHIN_S:g} s")
    return reply


async def _ask(connection: Connection, exchange: _Exchange, topic: str, payload: bytes) -> Reply | None:
    demand(connection.broker, "operator")  # the broker would end the connection without a word
    session = Session(
        connection.broker,
        client_id=unguessable("ask"),
        on_message=exchange.take,
        on_disconnected=exchange.lost,
        clock=clocks.monotonic_s,
    )
    try:
        await session.connect_once(CONNECT_WITHIN_S)
        session.subscribe((exchange.reply_topic, 1), (status_filter(connection.loop), 1))
        session.publish(topic, payload, qos=1)
        async with asyncio.timeout(_REPLY_WITHIN_S):
            return await exchange.reply
    except TimeoutError:
        return None
    finally:
        await session.close()
        if exchange.reply.done() and not exchange.reply.cancelled():
            exchange.reply.exception()


def _why_silent(stations: dict[str, StationStatus], station: str, channel: str) -> str:
    status = stations.get(station)
    if status is None:
        known = ", ".join(sorted(stations)) if stations else "none"
        return f"there is no station {station!r} in this loop; known are: {known}"
    if status.status is Presence.OFFLINE:
        return f"station {station} is offline"
    if channel not in status.channels:
        return f"station {station} has no channel {channel!r}; it has: {', '.join(status.channels)}"
    return f"no reply from station {station} within {_REPLY_WITHIN_S:g} s"


def author(broker: BrokerSettings) -> str:
    """Return who asks; the broker has checked the name, if there are credentials, and nobody the rest."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "unknown"
    place = f"{user}@{socket.gethostname()}"
    header = own_header(broker)
    return place if header is None else f"{header.name} ({place})"
