"""What a station remembers: whole or not at all, before it is said, and never less than it knew."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.messages import Alarm, AlarmCode
from station.channel.outcome import Remembered
from station.store import Keeper, Store
from tests.patience import PATIENCE_S
from transport.files import write_atomically

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
REMEMBERED = st.builds(
    Remembered,
    equalizing=st.booleans(),
    epoch=st.none() | st.integers(0, 2**63 - 1),
    server=st.none() | NAMES,
    alarm=st.none() | st.builds(Alarm, code=st.sampled_from(AlarmCode), text=st.text()),
)


@given(channels=st.dictionaries(NAMES, REMEMBERED, max_size=8))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, channels: dict[str, Remembered]
) -> None:
    store = Store(tmp_path_factory.mktemp("state"))
    store.write(channels)
    assert store.read().channels == channels
    assert store.read().damage is None


def test_a_first_start_remembers_nothing_and_complains_of_nothing(tmp_path: Path) -> None:
    recollection = Store(tmp_path / "none").read()
    assert (recollection.channels, recollection.damage) == ({}, None)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 64, b'{"channels": {"1": {"equali', b'{"channels": {"1": {"equalizing": 1}}}', b"[]", b"\xff"],
)
def test_a_damaged_file_is_put_aside_and_told(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    for number in (1, 2):
        store.path.write_bytes(content)
        recollection = store.read()
        assert recollection.channels == {}
        assert recollection.damage is not None
        assert f"channels.json.damaged-{number}" in recollection.damage
        assert (tmp_path / f"channels.json.damaged-{number}").read_bytes() == content
        assert not store.path.exists()


def test_a_file_that_cannot_be_read_is_put_aside_before_a_write_replaces_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path.mkdir()  # reading a folder fails for root too
    (store.path / "fences").write_text("precious")
    recollection = store.read()
    assert recollection.channels == {}
    assert recollection.damage is not None
    assert "cannot be read" in recollection.damage
    assert "channels.json.damaged-1" in recollection.damage
    store.write({"1": Remembered(equalizing=False)})
    assert (tmp_path / "channels.json.damaged-1" / "fences").read_text() == "precious"


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")
    folder_in_the_way = tmp_path / "folder"
    (folder_in_the_way / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        write_atomically(folder_in_the_way, b"new")
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


class SlowStore(Store):
    """Records its writes; may fail."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.written: list[dict[str, Remembered]] = []
        self.error: OSError | None = None

    def write(self, channels: Mapping[str, Remembered]) -> None:
        if self.error is not None:
            raise self.error
        self.written.append(dict(channels))


@contextlib.asynccontextmanager
async def at_work(keeper: Keeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_nothing_is_said_before_it_is_stored_and_what_follows_waits_its_turn() -> None:
    store, said = SlowStore(), list[str]()
    keeper = Keeper(store, {}, on_trouble=lambda _trouble: None)
    keeper.put("1", Remembered(True), lambda: said.append(f"reply after {len(store.written)}"))
    keeper.after("1", lambda: said.append("telemetry"))
    keeper.after("2", lambda: said.append("another channel"))
    assert said == ["another channel"]
    async with at_work(keeper):
        await asyncio.wait_for(keeper.drain(), PATIENCE_S)
    assert said == ["another channel", "reply after 1", "telemetry"]
    assert store.written[-1] == {"1": Remembered(True)}


async def test_a_new_epoch_on_all_channels_is_few_writes() -> None:
    store = SlowStore()
    keeper = Keeper(store, {}, on_trouble=lambda _trouble: None)
    async with at_work(keeper):
        for number in range(256):
            keeper.put(str(number), Remembered(True, 8, "hall-a"), lambda: None)
        await asyncio.wait_for(keeper.drain(), PATIENCE_S)
    assert len(store.written) == 1
    assert len(store.written[0]) == 256


async def test_a_full_disk_is_told_once_silences_nobody_and_its_end_is_told_too() -> None:
    store, said, troubles = SlowStore(), list[int](), list[str | None]()
    keeper = Keeper(store, {}, on_trouble=troubles.append)
    store.error = OSError(28, "No space left on device")
    async with at_work(keeper):
        for number in range(3):
            keeper.put("1", Remembered(True, number), lambda number=number: said.append(number))  # type: ignore[misc]  # a default in a lambda
            await asyncio.wait_for(keeper.drain(), PATIENCE_S)
        store.error = None
        keeper.put("1", Remembered(True, 9), lambda: said.append(9))
        await asyncio.wait_for(keeper.drain(), PATIENCE_S)
    assert said == [0, 1, 2, 9]
    assert len(troubles) == 2
    assert troubles[0] is not None
    assert "No space left" in troubles[0]
    assert troubles[1] is None


@pytest.mark.parametrize("lower", [None, 6])
async def test_an_epoch_never_falls_silently(lower: int | None, caplog: pytest.LogCaptureFixture) -> None:
    store = SlowStore()
    keeper = Keeper(store, {"1": Remembered(True, 7, "hall-a")}, on_trouble=lambda _trouble: None)
    async with at_work(keeper):
        with caplog.at_level(logging.ERROR):
            keeper.put("1", Remembered(False, lower, "hall-b"), lambda: None)
        await asyncio.wait_for(keeper.drain(), PATIENCE_S)
    assert store.written[-1]["1"] == Remembered(False, 7, "hall-a")
    assert "epoch_kept channel=1 stored=7" in caplog.text


async def test_channels_that_are_not_configured_now_stay_remembered() -> None:
    store = SlowStore()
    keeper = Keeper(store, {"old": Remembered(True, 7, "hall-a")}, on_trouble=lambda _trouble: None)
    async with at_work(keeper):
        keeper.put("1", Remembered(True), lambda: None)
        await asyncio.wait_for(keeper.drain(), PATIENCE_S)
    assert store.written[-1]["old"] == Remembered(True, 7, "hall-a")
