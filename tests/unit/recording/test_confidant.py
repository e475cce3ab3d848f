"""What a recorder asks the equalizer beside the broker, and what it does where that is not to be had."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import polars as pl

from equalizer.exposition import Answer, serve
from recording.writer import DIARY_TOPIC, MEMORY_TOPIC, Writer
from schemas.codec import encode
from schemas.messages import ControlSummary, Phase, Policy, Presence, ServerAnnouncement, SetpointSummary
from zeroloop.confidant import Confidant

TOPIC = "zeroloop/v1/main/server"


def announced(epoch: int, metrics_url: str | None) -> bytes:
    return encode(
        ServerAnnouncement(
            server="hall-a",
            status=Presence.ONLINE,
            epoch=epoch,
            phase=Phase.BALANCING,
            version="0",
            started_unix_time_s=1.0,
            telemetry_period_s=1.0,
            control=ControlSummary(policy=Policy.CONFIRM, delay_s=15.0),
            setpoint=SetpointSummary(ttl_s=30.0, refresh_s=5.0),
            metrics_url=metrics_url,
            dashboard_url=None,
        )
    )


def page(epoch: int, what: str) -> bytes:
    return json.dumps({"server": "hall-a", "epoch": epoch, "what": what}).encode()


@dataclass
class Bench:
    """A recording that is being made, and what the recorder says meanwhile."""

    path: Path
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer = Writer(self.path)
        self.confidant = Confidant(TOPIC, self.writer, 0.0, self.told.append, again_s=0.01)

    @contextlib.asynccontextmanager
    async def running(self, answers: dict[str, Callable[[], Answer]]) -> AsyncIterator[str]:
        server = await serve("127.0.0.1", 0, answers)
        task = asyncio.create_task(self.confidant.run())
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
        finally:
            await self.confidant.end()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            server.close()
            await server.wait_closed()
            self.writer.finish()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30.0):
            while not condition():
                await asyncio.sleep(0.01)

    def rows(self) -> list[tuple[str, bytes]]:
        return list(pl.read_parquet(self.path).select("topic", "payload").iter_rows())


async def test_each_server_in_charge_is_asked_for_its_memory_and_the_last_one_for_its_diary(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "hall.parquet")
    epoch = 7
    refused = [Answer(b"not yet", HTTPStatus.CONFLICT)]

    def memory() -> Answer:
        return refused.pop() if refused else Answer(page(epoch, "memory"))

    async with bench.running({"/memory": memory, "/diary": lambda: Answer(page(epoch, "diary"))}) as url:
        bench.confidant.hear(TOPIC, announced(7, url))
        await bench.until(lambda: bench.writer.messages == 1)
        epoch = 8
        bench.confidant.hear(TOPIC, announced(8, url))
        bench.confidant.hear(TOPIC, announced(8, url))
        await bench.until(lambda: bench.writer.messages == 2)
    expected = [(MEMORY_TOPIC, page(7, "memory")), (MEMORY_TOPIC, page(8, "memory")), (DIARY_TOPIC, page(8, "diary"))]
    assert bench.rows() == expected
    assert bench.told == []


async def test_a_recording_without_a_memory_goes_on_and_says_why(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "hall.parquet")
    async with bench.running({"/memory": lambda: Answer(page(3, "another's"))}) as url:
        bench.confidant.hear(TOPIC, b"{")
        bench.confidant.hear("zeroloop/v1/main/balance", announced(1, None))
        bench.confidant.hear(TOPIC, announced(7, None))
        await bench.until(lambda: len(bench.told) == 1)
        bench.confidant.hear(TOPIC, announced(8, url))
        await bench.until(lambda: len(bench.told) == 2)
    assert "serves no metrics" in bench.told[0]
    assert "another server answers there" in bench.told[1]
    assert bench.rows() == []
