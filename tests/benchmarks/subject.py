"""The equalizer under measurement, in a process of its own: prints what it has counted as JSON lines.

Usage: python subject.py CONFIG EXPECTED_CHANNELS

Lines: `connected`, then `received` once EXPECTED_CHANNELS telemetries are in the book (seconds from just before the
subscription until then, CPU seconds of the process in that time, channels in the book), then `balancing` when the
loop's round is complete.
"""

import asyncio
import json
import logging
import os
import resource
import signal
import sys
import time
from pathlib import Path

from equalizer.config import EqualizerSettings
from equalizer.service import EqualizerService
from schemas.messages import Phase
from schemas.settings import parse
from transport.session import Session
from transport.tap import TappedSocket
from zeroloop.process import calm_collector

WATCH_S = 0.01
PATIENCE_S = 60.0


def say(**fact: float | str) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


class Stopwatch:
    """Runs from the first subscription to the read from the socket that brought the last expected telemetry."""

    def __init__(self, service: EqualizerService, expected: int) -> None:
        self.first: tuple[float, float] | None = None
        self.last: tuple[float, float] | None = None
        fill, subscribe = TappedSocket.fill, Session.subscribe

        def timed_subscribe(session: Session, *filters: tuple[str, int]) -> None:
            if self.first is None:
                self.first = (time.monotonic(), time.process_time())
            subscribe(session, *filters)

        def timed_fill(tapped: TappedSocket) -> bool:
            more = fill(tapped)
            if self.last is None and service.counters.telemetry >= expected:
                self.last = (time.monotonic(), time.process_time())
            return more

        Session.subscribe = timed_subscribe  # type: ignore[method-assign]  # a benchmark looks from within
        TappedSocket.fill = timed_fill  # type: ignore[method-assign]


async def watch(service: EqualizerService, expected: int) -> None:
    stopwatch = Stopwatch(service, expected)
    started_s, idle_kib = time.monotonic(), resident_kib()
    while stopwatch.first is None:
        await asyncio.sleep(WATCH_S)
    first_s, first_cpu_s = stopwatch.first
    say(fact="connected", after_s=first_s - started_s)
    while stopwatch.last is None and time.monotonic() - first_s < PATIENCE_S:
        await asyncio.sleep(WATCH_S)
    last_s, last_cpu_s = stopwatch.last or (time.monotonic(), time.process_time())
    say(
        fact="received",
        seconds=last_s - first_s,
        cpu_s=last_cpu_s - first_cpu_s,
        messages=min(expected, service.counters.telemetry),
        lost=max(0, expected - service.counters.telemetry),
        channels=service._helm.look().channels,
        kib=resident_kib() - idle_kib,
    )
    while service.phase is Phase.STARTING:
        await asyncio.sleep(WATCH_S)
    say(fact="balancing", after_s=time.monotonic() - started_s)


def resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


async def main(path: Path, settings: EqualizerSettings) -> None:
    service = EqualizerService(settings, base_dir=path.parent, clock=time.monotonic, utc=time.time)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    watcher = asyncio.create_task(watch(service, int(sys.argv[2])), name="watch")
    say(fact="started", pid=os.getpid())
    await service.run(stop)
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)


logging.basicConfig(level=logging.ERROR)
calm_collector()
file = Path(sys.argv[1])
asyncio.run(main(file, parse(EqualizerSettings, file.read_text(), source=str(file), environment={})))
