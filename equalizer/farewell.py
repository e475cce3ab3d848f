"""The end of a server that stops cleanly: every equalization channel at 0 W, and acknowledged."""

import asyncio
import logging
from collections.abc import Callable

from equalizer.control.image import ChannelKey
from equalizer.helm import Helm
from schemas.messages import SetpointEcho

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
