"""What the equalizer's process does beside the control: a full disk, and work that fails, end nothing and are told."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from equalizer.config import EqualizerSettings
from equalizer.ledger import Ledger, SavedAccount
from equalizer.service import EqualizerService
from schemas.settings import parse
from tests.patience import until

SETTINGS = '[loop]\nname = "main"\n[metrics]\nport = 0\n[discovery]\nadvertise = false\n'
HASTE = 60.0
"""The process' clock runs so much faster than the test's."""


class Line:
    """A session that has no connection, and remembers which thread published what."""

    def __init__(self, _broker: object, **_arguments: object) -> None:
        self.peer_expiry_unix_time_s = None
        self.said: list[tuple[int, str, bytes]] = []

    def publish(self, topic: str, payload: bytes, **_how: object) -> None:
        self.said.append((threading.get_ident(), topic, payload))

    async def run(self) -> None:
        await asyncio.Event().wait()

    def subscribe(self, *_filters: tuple[str, int], sure: Collection[str] = ()) -> None:
        """Nobody answers."""

    async def flush(self, _timeout_s: float) -> None:
        """Nothing waits."""

    async def close(self) -> None:
        """Nothing is open."""


class FullDisk(Ledger):
    """Takes the epoch, and no account."""

    def store_account(self, account: SavedAccount) -> None:
        raise OSError(28, "No space left on device", str(account))


def on_a_full_disk(folder: Path) -> tuple[EqualizerService, list[Line]]:
    """Return an equalizer, and the sessions that it opens."""
    opened: list[Line] = []

    def open_session(broker: object, **arguments: object) -> Line:
        opened.append(Line(broker, **arguments))
        return opened[-1]

    service = EqualizerService(
        parse(EqualizerSettings, SETTINGS, source="test", environment={}),
        base_dir=folder,
        clock=lambda: HASTE * time.monotonic(),
        utc=time.time,
        ledger=FullDisk(folder / "state", "main"),
        open_session=open_session,  # type: ignore[arg-type]  # the fake is the boundary
    )
    return service, opened


async def test_a_full_disk_is_told_by_the_event_loop_alone(tmp_path: Path) -> None:
    service, opened = on_a_full_disk(tmp_path)
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop), name="equalizer")
    await until(lambda: any(b"energy_not_saved" in payload for line in opened for _, _, payload in line.said))
    stop.set()
    await running
    (line,) = opened
    assert {thread for thread, _, _ in line.said} == {threading.get_ident()}
    assert [json.loads(payload)["code"] for _, topic, payload in line.said if topic.endswith("event")].count(
        "energy_not_saved"
    ) == 1


async def test_a_disk_that_is_full_at_the_end_is_told_before_the_process_ends(tmp_path: Path) -> None:
    service, opened = on_a_full_disk(tmp_path)
    stop = asyncio.Event()
    stop.set()
    await service.run(stop)
    (line,) = opened
    assert [json.loads(payload)["code"] for _, _, payload in line.said] == ["energy_not_saved"]


async def test_what_fails_beside_the_control_is_told_when_it_happens_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Journal:
        written = lost = 0

        def note(self, entry: object) -> None:
            """Forget it."""

        def write(self) -> None:
            raise RuntimeError("a bug")

    service = EqualizerService(
        parse(EqualizerSettings, SETTINGS, source="test", environment={}),
        base_dir=tmp_path,
        clock=time.monotonic,
        utc=time.time,
        open_session=Line,  # type: ignore[arg-type]  # the fake is the boundary
    )
    kept, service._journal = service._journal, Journal()  # type: ignore[assignment]
    stop = asyncio.Event()
    with caplog.at_level(logging.ERROR):
        running = asyncio.create_task(service.run(stop), name="equalizer")
        await until(lambda: any("failed_beside_the_control what=log" in text for text in caplog.messages))
        assert not running.done()
        service._journal = kept
        stop.set()
        await running
