"""What the channels remember over a restart: mode, alarm, and the highest epoch that they obeyed (`channels.json`)."""

import asyncio
import contextlib
import fcntl
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.messages import Alarm, Count, Name
from station.channel.outcome import Remembered
from station.errors import DuplicateStationError, StateFolderError
from transport.files import write_atomically

STATE_FILE = "channels.json"
LOCK_FILE = "station.lock"
_RETRY_S = 5.0

_log = logging.getLogger(__name__)


class _ChannelRecord(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")
    equalizing: bool
    epoch: Count | None = None
    server: Name | None = None
    alarm: Alarm | None = None


class _StateFile(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")
    version: Annotated[int, "of this file's layout"] = 1
    channels: dict[Name, _ChannelRecord]


@dataclass(frozen=True, slots=True)
class Recollection:
    """What was read at the start."""

    channels: Mapping[str, Remembered]
    damage: str | None = None
    """Why nothing could be read although there is a file; the text says where it was put. Null: all is well."""


class Store:
    """The file in the station's state folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATE_FILE

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this process alone; a process that dies lets go of it.

        Two processes would not only overwrite each other's memory: most often they are the same station started twice,
        on the same equipment.

        Raises:
            StateFolderError: it cannot be made or written to.
            DuplicateStationError: another process holds it.
        """
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            lock = (folder / LOCK_FILE).open("ab")
        except OSError as error:
            raise StateFolderError(f"state_dir: {folder} cannot be written to: {_reason(error)}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = f"state_dir: another station works with the folder {folder}; every station needs one of its own"
                raise DuplicateStationError(text) from None
            except OSError as error:  # a file system without locks is no reason to stand still
                _log.warning("state_not_locked folder=%s error=%r", folder, str(error))
            yield

    def read(self) -> Recollection:
        """Return what is remembered. A damaged file is put aside, so that a person can look into it.

        Without its memory a channel starts safe: in equalization mode only where the configuration says so.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return Recollection({})
        except OSError as error:
            # As what is damaged: the next write would replace it, and nobody could look into it any more.
            return Recollection({}, f"{self.path} cannot be read ({_reason(error)}); {self._put_aside()}")
        try:
            state = _StateFile.model_validate_json(content)
        except ValidationError as error:
            reason = error.errors(include_url=False, include_input=False)[0]["msg"]
            return Recollection({}, f"{self.path} is damaged ({reason}); {self._put_aside()}")
        return Recollection(
            {name: Remembered(one.equalizing, one.epoch, one.server, one.alarm) for name, one in state.channels.items()}
        )

    def write(self, channels: Mapping[str, Remembered]) -> None:
        """Replace the memory; after a crash the old or the new one is there.

        Raises:
            OSError: it could not be written; the old one is untouched.
        """
        state = _StateFile(
            channels={
                name: _ChannelRecord(equalizing=one.equalizing, epoch=one.epoch, server=one.server, alarm=one.alarm)
                for name, one in channels.items()
            }
        )
        write_atomically(self.path, state.model_dump_json(indent=1).encode() + b"\n")

    def _put_aside(self) -> str:
        taken = (self.path.with_name(f"{self.path.name}.damaged-{number}") for number in range(1, 1000))
        aside = next((path for path in taken if not path.exists()), None)
        if aside is None:
            return "it is overwritten at the next change"
        try:
            self.path.rename(aside)
        except OSError as error:
            return f"it could not be put aside ({error.strerror})"
        return f"it was kept as {aside.name}"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


class Keeper:
    """Stores what channels hand over before anything is said about it, without holding up the event loop.

    A disk may take a tenth of a second to make a write durable, and a new server changes the epoch of all channels in
    the same moment: the writing is done in a thread, and what is handed over meanwhile goes into the next write.

    Args:
        store: the file.
        channels: what it holds now.
        on_trouble: called with the reason when a write starts to fail, and with None when one succeeds again.
    """

    def __init__(
        self, store: Store, channels: Mapping[str, Remembered], *, on_trouble: Callable[[str | None], None]
    ) -> None:
        self._store = store
        self._channels = dict(channels)
        self._on_trouble = on_trouble
        self._waiting: list[tuple[str, Callable[[], None]]] = []
        self._pending: dict[str, int] = {}
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failing = False

    @property
    def channels(self) -> Mapping[str, Remembered]:
        """What is remembered now."""
        return self._channels

    def put(self, channel_id: str, remembered: Remembered, then: Callable[[], None]) -> None:
        """Store what a channel remembers, and call `then` once it is stored."""
        known = self._channels.get(channel_id)
        if (
            known is not None
            and known.epoch is not None
            and (remembered.epoch is None or remembered.epoch < known.epoch)
        ):
            _log.error("epoch_kept channel=%s stored=%d offered=%s", channel_id, known.epoch, remembered.epoch)
            remembered = replace(remembered, epoch=known.epoch, server=known.server)
        self._channels[channel_id] = remembered
        self._queue(channel_id, then)

    def after(self, channel_id: str, then: Callable[[], None]) -> None:
        """Call `then` once all that the channel handed over is stored: at once, where nothing waits."""
        if self.pending(channel_id):
            self._queue(channel_id, then)
        else:
            then()

    def pending(self, channel_id: str) -> bool:
        """Tell whether something of a channel waits to be stored."""
        return channel_id in self._pending

    async def run(self) -> None:
        """Write whenever something was handed over, and again after a failure, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S if self._failing else None):
                    await self._wanted.wait()
            self._wanted.clear()
            batch, self._waiting = self._waiting, []
            await self._write(dict(self._channels))
            for channel_id, then in batch:
                self._settle(channel_id)
                then()
            if not self._pending:
                self._idle.set()

    async def drain(self) -> None:
        """Wait until everything handed over is stored and said."""
        await self._idle.wait()

    def _queue(self, channel_id: str, then: Callable[[], None]) -> None:
        self._waiting.append((channel_id, then))
        self._pending[channel_id] = self._pending.get(channel_id, 0) + 1
        self._idle.clear()
        self._wanted.set()

    def _settle(self, channel_id: str) -> None:
        left = self._pending[channel_id] - 1
        if left:
            self._pending[channel_id] = left
        else:
            del self._pending[channel_id]

    async def _write(self, channels: Mapping[str, Remembered]) -> None:
        """Write once. A full disk must not silence a channel: what waits is said all the same, and the failure too."""
        try:
            await asyncio.to_thread(self._store.write, channels)
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._on_trouble(f"{self._store.path} cannot be written: {error.strerror or error}")
            return
        if self._failing:
            self._failing = False
            self._on_trouble(None)
