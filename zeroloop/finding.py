"""Lists what can be found."""

from rich.console import Console

from station.discovery import Found, survey
from zeroloop import clocks
from zeroloop.reach import Reach


async def list_found(reach: Reach, seconds: float, console: Console) -> int:
    """Print a line for every broker that was found, and for every server that announces itself there.

    Returns:
        0 where there is a server, 1 where there is none.
    """
    found = await survey(seconds, clock=clocks.monotonic_s, request=reach.request())
    for place in found:
        console.print("\n".join(_lines(place)), markup=False, highlight=False, soft_wrap=True)
    online = any(server.online for place in found for server in place.servers)
    if not online:
        console.print("no server found", markup=False, highlight=False)
    return 0 if online else 1


def _lines(place: Found) -> list[str]:
    where = f"{place.broker.host}:{place.broker.port} ({place.source})"
    if place.error is not None:
        return [f"{where}: {place.error}"]
    if not place.servers:
        return [f"{where}: a broker without a server"]
    return [
        f"{where}: loop {server.loop}, server {server.announcement.server} {server.announcement.status}, "
        f"epoch {server.announcement.epoch}, {server.announcement.phase}, version {server.announcement.version}"
        for server in place.servers
    ]
