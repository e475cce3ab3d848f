"""Looks at everything, and prints what was found."""

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from schemas.messages import Presence
from schemas.settings import BrokerSettings
from schemas.topics import ROOT
from station.connection import load
from station.discovery import DiscoveryRequest, Found, survey
from transport.credentials import own_header
from transport.session import ConnectionFailedError, Session, unguessable
from zeroloop import clocks
from zeroloop.doctor.ears import Ears
from zeroloop.doctor.findings import Finding, Look, OpenFile, Weight, judge
from zeroloop.doctor.trials import QUEUED, ask_server, try_broker
from zeroloop.reach import CONNECT_WITHIN_S, Reach

_SURVEY_S = 4.0
_LISTENED_PERIODS = 3.5
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_COLORS = {Weight.NOTE: "dim", Weight.WARNING: "yellow", Weight.FAULT: "bold red"}


async def examine(reach: Reach, seconds: float) -> Look:
    """Look at a hall for so many seconds.

    Raises:
        ConfigurationError: an option or the file cannot be used.
    """
    request = reach.request()
    look = Look(where=reach.as_options(), told=reach.told, version=version("zeroloop"))
    _look_at_files(look, request)
    look.found = await survey(_SURVEY_S, clock=clocks.monotonic_s, request=request)
    look.place = chosen(look.found, request.loop)
    if look.place is None:
        return look
    broker = look.place.broker
    look.loops = tuple(server.loop for server in look.place.servers if server.online)
    look.loop = _loop(request, look.place)
    header = own_header(broker)
    look.role = None if header is None else header.role
    try:
        async with asyncio.TaskGroup() as group:
            trial = group.create_task(try_broker(broker, clocks.monotonic_s))
            if look.loop is not None:
                group.create_task(_listen(look, broker, look.loop, seconds))
        look.trial = trial.result()
        await _ask(look, broker)
    except* ConnectionFailedError as lost:
        error = str(lost.exceptions[0])
        look.found = (*look.found, Found(broker, look.place.source, (), error))
        look.place = None
    return look


async def diagnose(reach: Reach, seconds: float, console: Console, *, as_json: bool) -> int:
    """Print what is wrong, and the command that mends it.

    Returns:
        0 where all is well, 1 where something was found.
    """
    look = await examine(reach, seconds)
    findings = judge(look)
    if as_json:
        document = {"facts": facts(look), "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(document, indent=2))  # noqa: T201 - for a program
    else:
        _show(look, findings, console)
    return 1 if any(finding.weight is not Weight.NOTE for finding in findings) else 0


def facts(look: Look) -> dict[str, Any]:
    """Return what was seen, in figures."""
    seen: dict[str, Any] = {"version": look.version}
    if look.place is not None:
        broker = look.place.broker
        seen |= {"broker": f"{broker.host}:{broker.port}", "found_by": look.place.source, "mqtt": broker.protocol}
        seen["tls"] = broker.ca_file is not None
    if look.trial is not None and look.trial.exchange_s:
        seen["exchange_median_ms"] = round(1000.0 * median(look.trial.exchange_s), 2)
        seen["exchange_worst_ms"] = round(1000.0 * max(look.trial.exchange_s), 2)
        seen["retains"] = look.trial.retains
        seen["queued"] = f"{look.trial.queued} of {QUEUED}"
    ears = look.ears
    if ears is not None:
        seen |= {"loop": ears.loop, "retained_messages": ears.kept, "stations": len(ears.stations)}
        seen["stations_online"] = sum(status.status is Presence.ONLINE for status in ears.stations.values())
        seen["channels_heard"] = sum(bool(heard.live) for heard in ears.channels.values())
        if ears.announcement is not None:
            said = ears.announcement
            seen |= {"server": said.server, "server_status": said.status, "epoch": said.epoch, "phase": said.phase}
        seen["clock_off_worst_s"] = round(max(map(abs, ears.clock_off_s.values()), default=0.0), 3)
    if look.reply_s is not None:
        seen["reply_ms"] = round(1000.0 * look.reply_s, 1)
    return seen


def chosen(found: tuple[Found, ...], loop: str | None) -> Found | None:
    """Return the broker to look at: the first that has a server (of the loop), else the first that answers."""
    answering = [place for place in found if place.error is None]
    served = (p for p in answering if any(s.online and loop in (None, s.loop) for s in p.servers))
    return next(served, answering[0] if answering else None)


@asynccontextmanager
async def listening(broker: BrokerSettings, ears: Ears) -> AsyncIterator[Session]:
    """Hear everything that a loop says, as long as the block lasts.

    Raises:
        ConnectionFailedError: the broker was not reached.
    """
    session = Session(
        broker,
        client_id=unguessable("doctor"),
        on_message=lambda topic, payload, retained: ears.take(
            topic, payload, clocks.monotonic_s(), clocks.unix_time_s(), retained=retained
        ),
        clock=clocks.monotonic_s,
    )
    try:
        await session.connect_once(CONNECT_WITHIN_S)
        session.subscribe((f"{ROOT}/{ears.loop}/#", 1))
        yield session
    finally:
        await session.close()


async def _listen(look: Look, broker: BrokerSettings, loop: str, seconds: float) -> None:
    look.ears = await heard(broker, loop, seconds)
    look.listened_s = clocks.monotonic_s() - look.ears.began_s


async def heard(broker: BrokerSettings, loop: str, seconds: float) -> Ears:
    """Return what is said on a loop within so many seconds; who speaks rarely is listened to for longer."""
    ears = Ears(loop, clocks.monotonic_s())
    async with listening(broker, ears):
        await asyncio.sleep(seconds)
        if ears.announcement is not None:
            await asyncio.sleep(max(0.0, _LISTENED_PERIODS * ears.announcement.telemetry_period_s - seconds))
    return ears


async def _ask(look: Look, broker: BrokerSettings) -> None:
    ears = look.ears
    if ears is None or ears.announcement is None or ears.announcement.status is Presence.OFFLINE:
        return
    look.asked = True
    look.reply_s = await ask_server(broker, ears.loop, clocks.monotonic_s)


def _loop(request: DiscoveryRequest, place: Found) -> str | None:
    online = [server.loop for server in place.servers if server.online]
    known = online or [server.loop for server in place.servers]
    return request.loop if request.loop is not None else known[0] if len(known) == 1 else None


def _look_at_files(look: Look, request: DiscoveryRequest) -> None:
    broker = request.configured
    secrets = () if broker is None else (broker.password_file, broker.key_file, broker.credentials_file)
    for path in sorted({path for path in secrets if path is not None}):
        with contextlib.suppress(OSError):  # whoever opens it says that it is missing
            mode = stat.S_IMODE(Path(path).stat().st_mode)
            if mode & _OTHERS:
                look.open_files.append(OpenFile(path, mode))
    if request.cache_file is not None:
        look.cache_path = str(request.cache_file)
        look.cached = load(request.cache_file)
        folder = next(folder for folder in request.cache_file.parents if folder.exists())
        look.cache_writable = os.access(folder, os.W_OK)


def _show(look: Look, findings: list[Finding], console: Console) -> None:
    for name, value in facts(look).items():
        console.print(f"{name.replace('_', ' '):<20} {value}", markup=False, highlight=False)
    console.print()
    for finding in findings:
        console.print(f"{finding.weight}: {finding.text}", style=_COLORS[finding.weight], markup=False, soft_wrap=True)
        console.print(f"    {finding.remedy}", markup=False, highlight=False, soft_wrap=True)
    if all(finding.weight is Weight.NOTE for finding in findings):
        console.print("all is well", style="green", markup=False)
