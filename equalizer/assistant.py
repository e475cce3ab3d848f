"""Keeps Home Assistant's devices as they should be: a client of its own, off the hot path."""

import asyncio
import logging
from collections.abc import Callable

from equalizer import homeassistant
from equalizer.config import EqualizerSettings
from schemas import topics
from schemas.codec import MalformedError, decode
from schemas.messages import StationStatus
from transport.session import Session, unguessable

_LOG = logging.getLogger(__name__)

SETTLE_S = 3.0
"""After connecting, until everything that is retained has been heard: what is missing then is gone."""
PERIOD_S = 1.0


class Assistant:
    """Publishes the devices of one loop. Two equalizers that do so say the same, and disturb nobody.

    Args:
        settings: the equalizer's.
        version: of zeroloop.
        clock: monotonic seconds.
    """

    def __init__(self, settings: EqualizerSettings, *, version: str, clock: Callable[[], float]) -> None:
        own = settings.home_assistant
        self._site = homeassistant.Site(settings.loop.name, own.prefix, own.commands, version)
        self._clock = clock
        self._connected_s = clock()
        self._session = Session(
            settings.broker,
            client_id=unguessable(f"assistant-{settings.loop.name}"),
            on_message=self._take,
            on_connected=self._connected,
            clock=clock,
        )

    async def run(self) -> None:
        """Work until cancelled."""
        link = asyncio.create_task(self._session.run(), name="assistant-session")
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                if self._session.connected and self._clock() - self._connected_s >= SETTLE_S:
                    self._publish()
        finally:
            await self._session.close()
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)

    def _publish(self) -> None:
        for topic, payload in homeassistant.due(self._site):
            self._session.publish(topic, payload, qos=1, retain=True)
            _LOG.info("home_assistant %s topic=%s", "device" if payload else "removed", topic)
        self._site = homeassistant.published(self._site)

    def _connected(self) -> None:
        self._connected_s = self._clock()
        # What was known before may be gone: the broker tells all of it again.
        self._site = homeassistant.forgotten(self._site)
        status, config = topics.status_filter(self._site.loop), homeassistant.config_filter(self._site.prefix)
        self._session.subscribe((status, 1), (config, 1), sure=(status,))

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001, ARG002 - the session's signature
        address = topics.parse(topic)
        if not isinstance(address, topics.StatusAddress):
            self._site = homeassistant.heard_config(self._site, topic, payload)
            return
        try:
            status = decode(StationStatus, payload) if payload else None
        except MalformedError as error:
            _LOG.debug("status_malformed station=%s error=%s", address.station, error)
            return
        self._site = homeassistant.heard_status(self._site, address.station, status)
