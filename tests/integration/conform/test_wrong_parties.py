"""The kit on a real broker, against parties that do one thing wrong: each is found, by the rule that it breaks."""

import asyncio
import re
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest

from broker.run import RunningBroker
from conform.equalizer import EqualizerTrial
from conform.parts import EqualizerPart, StationPart
from conform.party import Party
from conform.record import State, Verdict
from conform.relay import Relay
from conform.station import StationTrial
from schemas.settings import BrokerSettings
from tests.integration.conform.parties import BROKER, CHANNEL, EQUALIZER, STATION
from tests.ports import free_port

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]

AT_ONCE = 12
"""More of them would disturb each other."""
PARTY = f"{sys.executable} -m tests.integration.conform.party"
DOCUMENT = Path(__file__).parents[3] / "docs" / "integrate.md"
PULL = "import pathlib, sys, time\nf = pathlib.Path(sys.argv[1])\nf.touch()\ntime.sleep(2.0)\nf.unlink()\n"

WRONG_STATIONS = (
    ("it leaves no will", StationPart.RECONNECT, "station.will"),
    ("its will names another boot", StationPart.RECONNECT, "station.will"),
    ("it goes without a word", StationPart.RESTART, "station.goodbye"),
    ("it comes back without a word", StationPart.RECONNECT, "reconnect.anew"),
    ("it obeys what is retained", StationPart.RECONNECT, "reconnect.retained"),
    ("its lease never ends", StationPart.RECONNECT, "lease.cut_off"),
    ("its boot is always the same", StationPart.RESTART, "restart.boot"),
    ("it forgets the mode", StationPart.RESTART, "restart.mode"),
    ("it forgets the epoch", StationPart.RESTART, "restart.epoch"),
    ("it trips and says that it has stopped", StationPart.TRIP, "trip.protect"),
    ("it equalizes in spite of its alarm", StationPart.TRIP, "trip.until_cleared"),
)
WRONG_EQUALIZERS = (
    ("it sends before it has listened", EqualizerPart.START, "start.passive"),
    ("it begins at 0 W", EqualizerPart.START, "start.takes_over"),
    ("its epoch is its own", EqualizerPart.START, "start.epoch"),
    ("it ignores plans", EqualizerPart.PLAN, "plan.edge"),
    ("it gives up when a lease has run out", EqualizerPart.LEASE, "lease.lost"),
    ("it goes on beside a newer server", EqualizerPart.RIVAL, "epoch.yields"),
    ("it returns under an old epoch", EqualizerPart.RIVAL, "epoch.returns"),
)


def kept_by_who_does_right(part: StationPart | EqualizerPart) -> set[str]:
    """Return the rules that a part tries, each of which somebody here breaks."""
    return {rule for _, its, rule in (*WRONG_STATIONS, *WRONG_EQUALIZERS) if its is part}


def failed(tried: Iterable[tuple[StationPart | EqualizerPart, list[Verdict]]]) -> list[Verdict]:
    """Return what was broken, and what should have been tried and was not."""
    return [
        verdict
        for part, verdicts in tried
        for verdict in verdicts
        if verdict.state is State.BROKEN
        or (verdict.state is State.NOT_TRIED and verdict.rule in kept_by_who_does_right(part))
    ]


def written(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)


def block(name: str) -> str:
    """Return a program that the document shows."""
    found = re.search(rf"<!-- file {re.escape(name)} -->\n```\w*\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


async def tried_station(broker: RunningBroker, folder: Path, wrong: str, part: StationPart) -> list[Verdict]:
    port, pulled = free_port(), folder / "pulled"
    settings = STATION.format(loop=folder.name) + BROKER.format(port=port) + CHANNEL.format(channel="eq")
    written(folder, {"station.toml": settings, "pull.py": PULL})
    trial = StationTrial(
        BrokerSettings(host=broker.host, port=broker.port),
        folder.name,
        "s1",
        time.monotonic,
        time.time,
        relay=Relay("127.0.0.1", port, (broker.host, broker.port)),
        party=Party(f"{PARTY} station '{wrong}' {folder}/station.toml {pulled}"),
        trip=Party(f"{sys.executable} {folder}/pull.py {pulled}"),
        only=part,
    )
    return await trial.run()


async def tried_equalizer(broker: RunningBroker, folder: Path, wrong: str, part: EqualizerPart) -> list[Verdict]:
    settings = EQUALIZER.format(loop=folder.name) + BROKER.format(port=broker.port)
    written(folder, {"equalizer.toml": settings})
    trial = EqualizerTrial(
        BrokerSettings(host=broker.host, port=broker.port),
        folder.name,
        time.monotonic,
        time.time,
        party=Party(f"{PARTY} equalizer '{wrong}' {folder}/equalizer.toml"),
        only=part,
    )
    return await trial.run()


Try = Callable[[RunningBroker, Path, str, Any], Coroutine[Any, Any, list[Verdict]]]


async def found(
    tried: Try, broker: RunningBroker, tmp_path: Path, parties: tuple[tuple[str, Any, str], ...]
) -> dict[str, Verdict]:
    """Try all of them, some at once; return what became of each one's rule."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, wrong: str, part: StationPart | EqualizerPart, rule: str) -> tuple[str, Verdict]:
        async with room:
            verdicts = await tried(broker, tmp_path / f"loop-{number}", wrong, part)
        return wrong, next(verdict for verdict in verdicts if verdict.rule == rule)

    return dict(await asyncio.gather(*(one(number, *party) for number, party in enumerate(parties))))


@pytest.mark.chaos
async def test_every_wrong_station_is_found(broker: RunningBroker, tmp_path: Path) -> None:
    seen = await found(tried_station, broker, tmp_path, WRONG_STATIONS)
    assert {wrong: verdict for wrong, verdict in seen.items() if verdict.state is not State.BROKEN} == {}


@pytest.mark.chaos
async def test_every_wrong_equalizer_is_found(broker: RunningBroker, tmp_path: Path) -> None:
    seen = await found(tried_equalizer, broker, tmp_path, WRONG_EQUALIZERS)
    assert {wrong: verdict for wrong, verdict in seen.items() if verdict.state is not State.BROKEN} == {}


async def test_nothing_is_found_of_the_documents_own_parties(broker: RunningBroker, tmp_path: Path) -> None:
    written(tmp_path / "documents", {name: block(name) for name in ("my_station.py", "my_controller.py")})
    place = BrokerSettings(host=broker.host, port=broker.port)
    port = free_port()
    begin = f"env -C {tmp_path}/documents BROKER={broker.host} DELAY_S=1.5"
    station = StationTrial(
        place,
        "main",
        "my-station",
        time.monotonic,
        time.time,
        relay=Relay("127.0.0.1", port, (broker.host, broker.port)),
        party=Party(f"{begin} PORT={port} {sys.executable} my_station.py"),
        only=StationPart.RECONNECT,
    )
    equalizer = EqualizerTrial(
        place,
        "main",
        time.monotonic,
        time.time,
        party=Party(f"{begin} PORT={broker.port} {sys.executable} my_controller.py"),
        only=EqualizerPart.START,
    )
    # One after the other: both mean the loop `main`.
    found = failed([(StationPart.RECONNECT, await station.run()), (EqualizerPart.START, await equalizer.run())])
    # The controller announces itself only when it leads, which the document's rules allow.
    assert [one for one in found if (one.rule, one.state) != ("start.passive", State.NOT_TRIED)] == []


async def test_nothing_is_found_of_those_that_do_nothing_wrong(broker: RunningBroker, tmp_path: Path) -> None:
    stations = (StationPart.RECONNECT, StationPart.RESTART, StationPart.TRIP)
    equalizers = (EqualizerPart.START, EqualizerPart.PLAN, EqualizerPart.LEASE, EqualizerPart.RIVAL)
    verdicts = await asyncio.gather(
        *(tried_station(broker, tmp_path / f"station-{part}", "nothing", part) for part in stations),
        *(tried_equalizer(broker, tmp_path / f"equalizer-{part}", "nothing", part) for part in equalizers),
    )
    assert failed(zip((*stations, *equalizers), verdicts, strict=True)) == []
