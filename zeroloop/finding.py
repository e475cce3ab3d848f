"""Lists what can be found."""

import json

from rich.console import Console

from station.connection import Source
from station.discovery import Found, survey
from zeroloop import clocks, durations
from zeroloop.reach import Reach


async def list_found(reach: Reach, seconds: float, console: Console, *, as_json: bool = False) -> int:
    """Print a line for every broker that was found, and for every server that announces itself there.

    Returns:
        0 where there is a server, 1 where there is none.

    Raises:
        ConfigurationError: an option or the file cannot be used.
    """
    durations.check("--seconds", seconds)
    found = await survey(seconds, clock=clocks.monotonic_s, request=reach.request())
    online = any(server.online for place in found for server in place.servers)
    if as_json:
        print(json.dumps([_plain(place) for place in found], indent=2))  # noqa: T201 - for a program
        return 0 if online else 1
    for place in found:
        console.print("\n".join(_lines(place)), markup=False, highlight=False, soft_wrap=True)
    if not online:
        console.print("no server found", markup=False, highlight=False)
    return 0 if online else 1


def _plain(place: Found) -> dict[str, object]:
    return {
        "host": place.broker.host,
        "port": place.broker.port,
        "tls": place.broker.ca_file is not None,
        "source": place.source,
        "announced": place.announced,
        "error": place.error,
        "servers": [{"loop": s.loop, **s.announcement.model_dump(mode="json")} for s in place.servers],
    }


def _lines(place: Found) -> list[str]:
    announced = ", dns_sd" if place.announced and place.source is not Source.DNS_SD else ""
    where = f"{place.broker.host}:{place.broker.port} ({place.source}{announced})"
    if place.why is not None:
        return [f"{where}: {place.why}"]
    if not place.servers:
        return [f"{where}: a broker without a server"]
    return [
        f"{where}: loop {server.loop}, server {server.announcement.server} {server.announcement.status}, "
        f"epoch {server.announcement.epoch}, {server.announcement.phase}, version {server.announcement.version}"
        for server in place.servers
    ]
