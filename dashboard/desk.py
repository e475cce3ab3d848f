"""Asks on an operator's behalf and waits for the one reply."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from schemas.codec import MalformedError, decode, encode
from schemas.messages import ChannelAction, ChannelCommand, LoopAction, LoopCommand, Reply
from schemas.topics import (
    ChannelAddress,
    ChannelTopic,
    LoopAddress,
    LoopTopic,
    channel_filter,
    channel_topic,
    loop_topic,
    parse,
)

REPLY_WITHIN_S = 4.0
"""The contract gives 2 s; the rest is the network's."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Nobody answered, and why is all that is known: `no_broker` or `no_reply`."""

    reason: str


Publish = Callable[[str, bytes], bool]
"""Sends a command that is good only now; False: there is no connection."""


class Desk:
    """Open questions, by id."""

    def __init__(self, loop: str, publish: Publish) -> None:
        self._loop = loop
        self._publish = publish
        self._open: dict[str, asyncio.Future[Reply]] = {}

    def filters(self) -> tuple[tuple[str, int], ...]:
        """Return what to subscribe to, each with its QoS."""
        return (loop_topic(self._loop, LoopTopic.REPLY), 1), (channel_filter(self._loop, ChannelTopic.REPLY), 1)

    def take(self, topic: str, payload: bytes) -> bool:
        """Take a reply up; False: the message is none."""
        match parse(topic):
            case LoopAddress(leaf=LoopTopic.REPLY) | ChannelAddress(leaf=ChannelTopic.REPLY):
                pass
            case _:
                return False
        try:
            reply = decode(Reply, payload)
        except MalformedError:  # the one who asked will be told that there was no reply
            return True
        future = self._open.pop(reply.id, None)
        if future is not None and not future.done():
            future.set_result(reply)
        return True

    async def channel(self, station: str, channel: str, action: ChannelAction, by: str) -> Reply | NoReply:
        """Ask a channel."""
        command = ChannelCommand(id=secrets.token_hex(8), action=action, by=by)
        topic = channel_topic(self._loop, station, channel, ChannelTopic.COMMAND)
        return await self._ask(command.id, topic, encode(command))

    async def loop(self, action: LoopAction, by: str, target_power_w: float | None = None) -> Reply | NoReply:
        """Ask the equalizer; a positive target draws from the grid."""
        command = LoopCommand(id=secrets.token_hex(8), action=action, target_power_w=target_power_w, by=by)
        return await self._ask(command.id, loop_topic(self._loop, LoopTopic.COMMAND), encode(command))

    async def _ask(self, identity: str, topic: str, payload: bytes) -> Reply | NoReply:
        future = self._open[identity] = asyncio.get_running_loop().create_future()
        try:
            if not self._publish(topic, payload):
                return NoReply("no_broker")
            async with asyncio.timeout(REPLY_WITHIN_S):
                reply: Reply = await future
                return reply
        except TimeoutError:
            return NoReply("no_reply")
        finally:
            self._open.pop(identity, None)
