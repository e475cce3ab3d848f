"""Removes from the broker what it keeps of stations that are gone."""

import asyncio
import json

import typer
from rich.console import Console

from schemas.settings import BrokerSettings, ConfigurationError
from schemas.topics import StatusAddress, parse
from station.discovery import survey
from transport.session import ConnectionFailedError, Session, unguessable
from zeroloop import clocks
from zeroloop.doctor.ears import Ghost
from zeroloop.doctor.findings import nobody_answers
from zeroloop.doctor.run import chosen, heard
from zeroloop.reach import CONNECT_WITHIN_S, Reach

_SURVEY_S = 4.0
_LISTEN_S = 5.0
_FLUSH_S = 10.0


async def _place(reach: Reach) -> tuple[BrokerSettings, str]:
    request = reach.request()
    found = await survey(_SURVEY_S, clock=clocks.monotonic_s, request=request)
    place = chosen(found, request.loop)
    if place is None:
        raise ConnectionFailedError(nobody_answers(found))
    loops = [request.loop] if request.loop is not None else [server.loop for server in place.servers]
    if len(loops) != 1:
        known = f"there are {', '.join(loops)}" if loops else "no server has announced one here"
        raise ConfigurationError(f"--loop: say which loop to purge; {known}")
    return place.broker, loops[0]


async def _removed(broker: BrokerSettings, loop: str, ghosts: list[Ghost]) -> tuple[list[Ghost], list[str]]:
    """Look again, remove what is still gone, and return it with the topics that the broker would not let us clear."""
    # What has come to life since it was shown is left alone.
    still = set((await heard(broker, loop, _LISTEN_S)).ghosts())
    gone = [ghost for ghost in ghosts if ghost in still]
    refused: list[str] = []
    session = Session(
        broker,
        client_id=unguessable("purge"),
        on_message=lambda _topic, _payload, _retained: None,
        on_refused=lambda topic, _reason: refused.append(topic),
        clock=clocks.monotonic_s,
    )
    try:
        await session.connect_once(CONNECT_WITHIN_S)
        # The status last: as long as it stands, the rest is known to be of a station that is gone.
        for ghost in sorted(gone, key=lambda ghost: isinstance(parse(ghost.topic), StatusAddress)):
            session.publish(ghost.topic, b"", qos=1, retain=True)
        await session.flush(_FLUSH_S)
    finally:
        await session.close()
    return gone, refused


def purge(reach: Reach, console: Console, *, yes: bool, as_json: bool) -> int:
    """Show what the broker keeps of what is gone, ask, and remove it.

    Returns:
        0 where it is removed, or there was nothing; 1 where the user or the broker refused.

    Raises:
        ConfigurationError: the loop must be named.
        ConnectionFailedError: no broker answers.
    """
    broker, loop = asyncio.run(_place(reach))
    ghosts = asyncio.run(heard(broker, loop, _LISTEN_S)).ghosts()
    if as_json and not yes:
        print(json.dumps({"loop": loop, "ghosts": [ghost._asdict() for ghost in ghosts]}, indent=2))  # noqa: T201
        return 0
    if not as_json:
        for ghost in ghosts:
            console.print(f"{ghost.topic}   ({ghost.why})", markup=False, highlight=False, soft_wrap=True)
    if not ghosts and not as_json:
        console.print(f"nothing to remove in loop {loop}", markup=False, highlight=False)
        return 0
    if not yes and not typer.confirm(f"Remove these {len(ghosts)} retained messages from {broker.host}:{broker.port}?"):
        return 1
    gone, refused = asyncio.run(_removed(broker, loop, ghosts)) if ghosts else ([], [])
    if as_json:
        removed = [ghost._asdict() for ghost in gone if ghost.topic not in refused]
        print(json.dumps({"loop": loop, "removed": removed, "refused": refused}, indent=2))  # noqa: T201
    else:
        console.print(f"{len(gone) - len(refused)} removed", markup=False, highlight=False)
        for topic in refused:
            console.print(f"the broker does not let us: {topic}", style="red", markup=False, soft_wrap=True)
    return 1 if refused else 0
