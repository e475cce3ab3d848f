"""Who is in charge by a store beside the broker: a lease with a time to live in NATS' key-value store.

Several brokers that are one cluster give no order of announcements that all would see alike; their store, which a
majority agrees on, does. A server that holds the lease is in charge, as long as it renews it in time; its epoch is the
revision of one more key, which is written once for each tenure, or one more than any epoch seen where that is higher.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from equalizer.config import StandbySection
from equalizer.fencing import LARGEST_STEP
from schemas.settings import ConfigurationError
from transport.files import first_line

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.kv import KeyValue

_LOG = logging.getLogger(__name__)

_STEP_S = 1.0
_ANSWER_S = 1.5
"""A store that has not answered by then is asked again; a lease is renewed several times within its life."""
_KEY = "loop"


class StoreError(Exception):
    """The store cannot be asked now; a later attempt may succeed."""


class Led(Protocol):
    """The server whose tenure it is."""

    def wants_charge(self) -> bool:
        """Tell whether it stands by, and could be in charge."""

    def is_in_place(self) -> bool:
        """Tell whether it is in charge, or about to be."""

    def is_fit(self) -> bool:
        """Tell whether it is in charge, or about to be, and can do its work."""

    @property
    def highest_epoch(self) -> int:
        """The highest epoch that it has seen or used."""

    def claim(self, least_epoch: int) -> None:
        """Be in charge from now on."""

    def step_down(self, why: str) -> None:
        """Be in charge no more."""


@dataclass(frozen=True, slots=True)
class _Held:
    revision: int
    renewed_s: float


class LeaseStore:
    """The lease and the epoch of one loop, in two buckets.

    Args:
        section: where the store is.
        loop: whose lease it is.
    """

    def __init__(self, section: StandbySection, loop: str) -> None:
        self._section = section
        self._loop = loop
        self._client: Client | None = None
        self._lease: KeyValue | None = None
        self._epoch: KeyValue | None = None

    async def open(self) -> None:
        """Connect, and make the buckets where they are missing.

        Raises:
            ConfigurationError: the package for it is not installed, or a file cannot be read.
            StoreError: no server of it answers.
        """
        try:
            import nats  # noqa: PLC0415 - needed by those alone who configure it
            import nats.errors  # noqa: PLC0415
            import nats.js.errors  # noqa: PLC0415
        except ImportError:
            text = "standby.store: nats needs the package nats-py (pip install 'zeroloop[nats]')"
            raise ConfigurationError(text) from None
        await self.close()
        section = self._section
        try:
            self._client = client = await nats.connect(
                section.url.split(","),
                name=f"zeroloop-{self._loop}",
                user=section.username,
                password=_password(section),
                connect_timeout=2,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.2,
                error_cb=_ignore,
            )
            jetstream = client.jetstream(timeout=_ANSWER_S)
            for name, ttl_s in (("lease", section.lost_s), ("epoch", None)):
                bucket = f"zeroloop-{name}-{self._loop}"
                with contextlib.suppress(nats.js.errors.BadRequestError):  # it is there, made with other settings
                    await jetstream.create_key_value(bucket=bucket, ttl=ttl_s, replicas=section.replicas)
                setattr(self, f"_{name}", await jetstream.key_value(bucket))
        except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError) as error:
            await self.close()
            raise StoreError(str(error) or type(error).__name__) from None

    async def close(self) -> None:
        """Let the connection go."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.close()

    async def take(self, holder: str) -> int | None:
        """Take the lease if nobody holds it; return its revision, None where somebody does."""
        import nats.js.errors  # noqa: PLC0415 - `open` has made sure that it is there

        try:
            return await self._of(self._lease).create(_KEY, holder.encode())
        except nats.js.errors.KeyWrongLastSequenceError:
            return None

    async def renew(self, holder: str, revision: int) -> int:
        """Renew the lease that was taken or renewed under a revision; return the new one.

        Raises:
            nats.js.errors.KeyWrongLastSequenceError: it is lost.
        """
        return await self._of(self._lease).update(_KEY, holder.encode(), last=revision)

    async def release(self, revision: int) -> None:
        """Let the lease go, if it is still the one of this revision."""
        await self._of(self._lease).delete(_KEY, last=revision)

    async def begin_epoch(self, highest_seen: int) -> int:
        """Write down that another tenure begins, and return its epoch.

        The revision rises by one with each, and so does the epoch, unless the stations know a higher one. It never
        exceeds what they have seen by more than they accept.
        """
        import nats.js.errors  # noqa: PLC0415 - as above

        bucket = self._of(self._epoch)
        try:
            entry = await bucket.get(_KEY)
            known, revision = int(entry.value or b"0"), entry.revision or 0
        except nats.js.errors.KeyNotFoundError:
            known = revision = 0
        epoch = next_epoch(known, revision, highest_seen)
        await bucket.update(_KEY, str(epoch).encode(), last=revision)
        return epoch

    @staticmethod
    def _of(bucket: "KeyValue | None") -> "KeyValue":
        if bucket is None:
            raise StoreError("not connected to the store")
        return bucket


def next_epoch(known: int, revision: int, highest_seen: int) -> int:
    """Return the epoch of the tenure that is written down after `revision`: above all that came before."""
    epoch = max(known, revision, highest_seen) + 1
    return min(epoch, highest_seen + LARGEST_STEP) if highest_seen > 0 else epoch


class Tenure:
    """Takes the lease for a server that stands by, renews it, and ends its being in charge where that fails.

    Args:
        store: keeps the lease.
        led: the server.
        holder: what the lease says of it, for people.
        lost_s: how long a lease lives that is not renewed.
        clock: monotonic seconds.
    """

    def __init__(
        self, store: LeaseStore, led: Led, *, holder: dict[str, object], lost_s: float, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._led = led
        self._holder = json.dumps(holder)
        self._lost_s = lost_s
        self._clock = clock
        self._held: _Held | None = None
        self._connected = False
        self._failing = False
        self._ended = False

    async def run(self) -> None:
        """Go on until cancelled, or until the lease is let go for good."""
        while not self._ended:
            try:
                async with asyncio.timeout(2.0 * _ANSWER_S):
                    if not self._connected:
                        await self._store.open()
                        self._connected = True
                    await self._step()
                self._tell(None)
            except ConfigurationError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a client library raises, the store did not do it
                self._tell(str(error) or type(error).__name__)
            self._look_at_the_time()
            await asyncio.sleep(_STEP_S)

    async def end(self) -> None:
        """Let the lease go for good, so that another may take it at once; the server takes its leave by itself."""
        self._ended = True
        await self._release()

    async def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_ANSWER_S):
                    await self._store.release(held.revision)

    async def _step(self) -> None:
        asked_s = self._clock()
        if self._held is not None and self._led.is_fit():
            revision = await self._store.renew(self._holder, self._held.revision)
            self._held = _Held(revision, asked_s)
        elif self._held is not None:
            self._led.step_down("it is not connected")
            await self._release()
        elif self._led.wants_charge():
            taken = await self._store.take(self._holder)
            if taken is not None:
                self._held = _Held(taken, asked_s)
                self._led.claim(await self._store.begin_epoch(self._led.highest_epoch))

    def _look_at_the_time(self) -> None:
        """End in time what the store will end: it counts from a renewal's arrival, this server from its departure."""
        if self._ended:
            return
        if self._held is not None and self._clock() - self._held.renewed_s > self._lost_s - _STEP_S:
            self._held = None
            self._led.step_down("its lease could not be renewed")
        elif self._held is None and self._led.is_in_place():
            self._led.step_down("it holds no lease")

    def _tell(self, trouble: str | None) -> None:
        if trouble is not None and "wrong last sequence" in trouble:
            self._held = None  # somebody else has it
        if (trouble is not None) is not self._failing:
            self._failing = trouble is not None
            if trouble is not None:
                _LOG.warning("store_failing error=%r; trying on", trouble)
            else:
                _LOG.info("store_back")


def _password(section: StandbySection) -> str | None:
    if section.password_file is None:
        return None
    try:
        return first_line(Path(section.password_file))
    except ConfigurationError as error:
        raise ConfigurationError(f"standby.password_file: {error}") from None


async def _ignore(_error: Exception) -> None:
    """What goes wrong is seen where something is asked."""
