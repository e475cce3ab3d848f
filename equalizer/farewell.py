"""The end of a server that stops cleanly: its place taken by another, or every equalization channel at 0 W."""

import asyncio
import logging
from collections.abc import Callable

from equalizer.control.image import ChannelKey
from equalizer.fencing import Fence, Identity
from equalizer.helm import Helm
from schemas.messages import Phase, Presence, ServerAnnouncement, SetpointEcho

_LOG = logging.getLogger(__name__)

_LONGEST_S = 5.0
_REPEAT_S = 1.0
"""A setpoint to 0 W that was not answered is sent again after this."""


class Farewell:
    """Sends 0 W, and waits for the echoes.

    Args:
        helm: knows the channels, and sends.
        clock: monotonic seconds.
    """

    def __init__(self, helm: Helm, *, clock: Callable[[], float]) -> None:
        self._helm = helm
        self._clock = clock
        self._epoch = 0
        self._awaited: dict[ChannelKey, int] = {}
        self._answered = asyncio.Event()
        self._claimed = asyncio.Event()
        self._succeeded = asyncio.Event()

    def announcement(self, message: ServerAnnouncement, fence: Fence) -> None:
        """Take note of another server that claims the place, and of its being in charge."""
        other = Identity(message.server, message.started_unix_time_s) != fence.own
        if other and message.status is Presence.ONLINE and message.epoch > fence.epoch:
            self._claimed.set()
            if message.phase is not Phase.STARTING:
                self._succeeded.set()

    async def handed_over(self, claim_s: float, *, while_: Callable[[], bool]) -> bool:
        """Wait until another server has taken the place; the channels go on under their leases meanwhile.

        Args:
            claim_s: how long to wait for its claim; that it is in charge is waited for up to 5 s.
            while_: says whether there is still a connection.
        """
        from_s = self._clock()
        if await self._within(self._claimed, claim_s, while_):
            left_s = _LONGEST_S - (self._clock() - from_s)
            if await self._within(self._succeeded, left_s, while_):
                _LOG.info("handed_over after_s=%.1f", self._clock() - from_s)
                return True
        _LOG.warning("not_handed_over claimed=%s", self._claimed.is_set())
        return False

    async def _within(self, event: asyncio.Event, seconds: float, while_: Callable[[], bool]) -> bool:
        until_s = self._clock() + seconds
        while not event.is_set() and while_() and (left_s := until_s - self._clock()) > 0.0:
            try:
                async with asyncio.timeout(min(left_s, _REPEAT_S)):
                    await event.wait()
            except TimeoutError:
                continue
        return event.is_set()

    def echo(self, key: ChannelKey, echo: SetpointEcho) -> None:
        """Take note of what a channel decided on."""
        seq = self._awaited.get(key)
        if seq is not None and echo.epoch == self._epoch and echo.seq >= seq:
            del self._awaited[key]
            self._answered.set()

    async def to_zero(self, epoch: int, *, while_: Callable[[], bool]) -> None:
        """Bring every equalization channel to 0 W; return when all have answered, or after 5 s.

        Args:
            epoch: under which to send.
            while_: says whether there is still a connection.
        """
        self._epoch = epoch
        until_s = self._clock() + _LONGEST_S
        orders = self._helm.halt(self._clock())
        while orders and while_():
            self._awaited = self._helm.send(orders, epoch)
            await self._wait_for_echoes(min(self._clock() + _REPEAT_S, until_s))
            if not self._awaited:
                _LOG.info("all_at_zero")
                return
            if self._clock() >= until_s:
                break
            again = self._helm.halt(self._clock())
            orders = tuple(order for order in again if (order.station, order.channel) in self._awaited)
        if self._awaited:
            named = ",".join("/".join(key) for key in sorted(self._awaited)[:10])
            _LOG.warning("no_echo channels=%d first=%s hint='their leases run out'", len(self._awaited), named)

    async def _wait_for_echoes(self, until_s: float) -> None:
        while self._awaited and (left_s := until_s - self._clock()) > 0.0:
            self._answered.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._answered.wait()
            except TimeoutError:
                return
