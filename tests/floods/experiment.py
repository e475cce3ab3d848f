"""A loop of real processes behind the generated configuration, and a rogue client beside it: how fast is it still?

`python -m tests.floods.experiment FOLDER KIND STEPS [ROGUE_NAMESPACE]` prints one JSON line. It may run inside of a
network namespace of its own, with the rogue in another one behind a cable.
"""
# ruff: noqa: S311 - the load's steps need no cryptography

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

from schemas import codec, topics
from schemas.messages import Setpoint
from schemas.settings import BrokerSettings
from schemas.topics import ChannelTopic
from tests.acceptance.hall import EQUALIZER, STATION, channel
from tests.authorities import Hall, make_hall
from tests.floods.cable import SERVER, inside
from tests.ports import free_port
from tests.processes import end
from transport.credentials import resolved
from transport.session import Session

ROGUE = "r1"
_PERIOD_S = 0.2
_NICENESS = -15
_POWERS_W = (6000.0, -6000.0)


class Loop:
    """Equalizer and station as processes; load and observer here."""

    def __init__(self, folder: Path, hall: Hall) -> None:
        self.folder = folder
        self.hall = hall
        self.processes: list[subprocess.Popen[bytes]] = []
        self.power_w = 0.0
        self._seq = 0
        self._moved = asyncio.Event()
        self._asked_w = 0.0
        self.load = self._session("load", lambda *_: None)
        setpoints = (topics.channel_filter("main", ChannelTopic.SETPOINT), 0)
        self.observer = self._session("page", self._heard, lambda: self.observer.subscribe(setpoints))

    def _session(self, who: str, heard: object, connected: object = lambda: None) -> Session:
        told = BrokerSettings(host="127.0.0.1", credentials_file=str(self.hall.file(who)))
        return Session(
            resolved(told, self.folder),
            client_id=who,
            on_message=heard,  # type: ignore[arg-type]  # a test's callback
            on_connected=connected,  # type: ignore[arg-type]  # a test's callback
            clock=time.monotonic,
        )

    def start(self) -> None:
        own = f'[broker]\nhost = "127.0.0.1"\ncredentials_file = "{self.hall.file("battery")}"\n'
        station = STATION.format(id="battery", loop='loop = "main"', broker=own, period_s=_PERIOD_S, on_lost="zero")
        (self.folder / "station.toml").write_text(station + channel("1", equalize=True))
        text = EQUALIZER.format(
            host="127.0.0.1",
            port=self.hall.port,
            policy="dwell",
            delay_s=0.0,
            freeze_w=1e9,
            period_s=_PERIOD_S,
            ttl_s=10.0,
            metrics_port=free_port(),
        )
        where = f'host = "127.0.0.1"\nport = {self.hall.port}\n'
        assert where in text
        named = text.replace(where, where + f'credentials_file = "{self.hall.file("hall-a")}"\n')
        (self.folder / "equalizer.toml").write_text(named)
        for kind in ("station", "equalizer"):
            with (self.folder / f"{kind}.log").open("ab") as log:
                command = [sys.executable, "-m", "zeroloop", kind, "--config", f"{kind}.toml"]
                self.processes.append(subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log))

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:
        assert topic
        assert not retained
        self._asked_w = codec.decode(Setpoint, payload).steps[0].power_w
        self._moved.set()

    async def publish(self) -> None:
        """Be a load of one channel, all the time."""
        status = {
            "status": "online", "boot_id": "b1", "version": "x", "driver": "x", "channels": ["1"], "on_lost": "zero",
            "unix_time_s": 0.0,
        }  # fmt: skip
        self.load.publish(topics.status_topic("main", "load"), json.dumps(status).encode(), qos=1, retain=True)
        while True:
            self.say()
            await asyncio.sleep(_PERIOD_S)

    def say(self) -> None:
        self._seq += 1
        message = {
            "boot_id": "b1", "seq": self._seq, "unix_time_s": 0.0, "work_status": "working", "step_type": "cp_chg",
            "step_id": 1, "cycle_count": 1, "voltage_v": 400.0, "current_a": self.power_w / 400.0,
            "power_w": self.power_w, "battery_connected": True,
        }  # fmt: skip
        topic = topics.channel_topic("main", "load", "1", ChannelTopic.TELEMETRY)
        self.load.publish(topic, json.dumps(message).encode(), retain=True)

    async def reaction_s(self, power_w: float, patience_s: float) -> float:
        """Change the load; return how long it takes until a setpoint meets it, `patience_s` where none does."""
        self.power_w = power_w
        began_s = time.monotonic()
        self.say()
        while abs(self._asked_w + power_w) > 500.0:
            left_s = patience_s - (time.monotonic() - began_s)
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), max(left_s, 0.001))
            except TimeoutError:
                return patience_s
        return time.monotonic() - began_s

    def end(self) -> None:
        end(self.processes)


async def measure(folder: Path, kind: str, steps: int, namespace: str | None) -> dict[str, object]:
    """Return the reactions with and without the rogue, in seconds.

    Loop and rogue share the computer as if it did nothing else: its other work is none of the rogue's.
    """
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    hall = make_hall(folder / "credentials", 8883 if namespace else free_port())
    hall.let_in("station", "battery", "load", ROGUE)
    hall.let_in("equalizer", "hall-a")
    hall.let_in("dashboard", "page")
    with hall.start(folder / "broker") as broker:
        loop = Loop(folder, hall)
        tasks = [asyncio.create_task(session.run()) for session in (loop.load, loop.observer)]
        rogue: subprocess.Popen[bytes] | None = None
        try:
            loop.start()
            while not (loop.load.connected and loop.observer.connected):
                await asyncio.sleep(0.05)
            tasks.append(asyncio.create_task(loop.publish()))
            await loop.reaction_s(3000.0, 30.0)
            before = await _reactions(loop, steps)
            rogue = _rogue(kind, hall, namespace)
            await asyncio.sleep(2.0)
            during = await _reactions(loop, steps)
            memory_bytes = _resident_bytes(broker.pid)
            return {
                "kind": kind,
                "before_s": before,
                "during_s": during,
                "broker_bytes": memory_bytes,
                "equalizer_bytes": _resident_bytes(loop.processes[1].pid),
                "rogue_alive": rogue.poll() is None,
            }
        finally:
            if rogue is not None:
                rogue.kill()
                rogue.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for session in (loop.load, loop.observer):
                await session.close()
            loop.end()


async def _reactions(loop: Loop, steps: int) -> list[float]:
    reactions = []
    for number in range(steps):
        spread = random.uniform(0.9, 1.1)
        reactions.append(await loop.reaction_s(_POWERS_W[number % 2] * spread, 5.0))
        await asyncio.sleep(random.uniform(0.1, 0.3))
    return reactions


def _rogue(kind: str, hall: Hall, namespace: str | None) -> "subprocess.Popen[bytes]":
    prefix = inside(namespace) if namespace else []
    host = SERVER if namespace else "127.0.0.1"
    words = [kind, host, str(hall.port), str(hall.kept(ROGUE)), ROGUE]
    return subprocess.Popen([*prefix, sys.executable, "-m", "tests.floods.rogue", *words])


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def percentile(values: list[float], part: float) -> float:
    """Return the smallest value that `part` of all do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]


if __name__ == "__main__":
    socket.setdefaulttimeout(None)
    given = sys.argv[1:]
    found = asyncio.run(measure(Path(given[0]), given[1], int(given[2]), given[3] if len(given) > 3 else None))
    sys.stdout.write(json.dumps(found) + "\n")
