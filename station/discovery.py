"""Finds the server: the configured broker, the remembered one, DNS-SD, this computer; in this order.

A configured broker is waited for (`stays`), unless the configuration names the loop too: then that loop is looked for
everywhere. A remembered broker that does not answer is passed over.

Used by the station at its start and by every command that needs a server. What is decided stands in pure functions
(`choose`, `loop_known`); what asks the network, in `station.probe` and `station.dns_sd`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from schemas.messages import Presence, ServerAnnouncement
from schemas.settings import BrokerSettings
from station import dns_sd
from station.connection import CachedConnection, Connection, Source, load, pinned, reach, remember
from station.errors import NoServerError, SeveralLoopsError
from station.probe import Answer, Patience, Server, probe
from transport.session import ConnectionFailedError

LOCAL_BROKER = BrokerSettings(host="127.0.0.1", port=1883)
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DiscoveryRequest:
    """What is known beforehand."""

    configured: BrokerSettings | None = None
    loop: str | None = None
    """Needed only where more than one loop answers."""
    cache_file: Path | None = None
    local: BrokerSettings | None = LOCAL_BROKER
    """What is tried last; None: nothing."""
    dns_sd: bool = True
    interfaces: tuple[str, ...] | None = None
    """Addresses of the interfaces to ask for DNS-SD on; None: all."""
    browse_s: float = 1.5
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Found:
    """One broker that was reached, for a list of all of them."""

    broker: BrokerSettings
    source: Source
    servers: tuple[Server, ...]
    error: str | None = None
    """Why it was not reached; null: it was."""
    announced: bool = False
    """Whether DNS-SD names it too, however it was found first."""

    @property
    def why(self) -> str | None:
        """Why it was not reached, for a line that names the place already."""
        return None if self.error is None else self.error.removeprefix(f"{self.broker.host}:{self.broker.port}: ")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A broker to try, under any of its hosts."""

    brokers: tuple[BrokerSettings, ...]
    source: Source
    known_loop: str | None = None
    """A loop that makes the broker usable as soon as it answers, server or not."""


# ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────


def loop_known(
    source: Source, broker: BrokerSettings, request_loop: str | None, cached: CachedConnection | None
) -> str | None:
    """Return the loop for which a broker needs no announcement, or None where it must announce one.

    The configured broker's loop is known from the configuration, or from the memory of that very broker; the
    remembered broker's from the memory, unless the configuration names another by now.
    """
    match source:
        case Source.CONFIGURED:
            if request_loop is not None:
                return request_loop
            same = cached is not None and (cached.host, cached.port) == (broker.host, broker.port)
            return cached.loop if cached is not None and same else None
        case Source.CACHED:
            return cached.loop if cached is not None and request_loop in (None, cached.loop) else None
        case Source.DNS_SD | Source.LOCAL:
            return None


def choose(answers: Sequence[tuple[Source, Answer]], loop: str | None) -> Connection | None:
    """Return the connection that equally ranked brokers amount to; None where none of them has the server.

    Raises:
        SeveralLoopsError: no loop is asked for, and more than one answers.
    """
    loops = {name for _, answer in answers for name in answer.online_loops}
    if loop is None and len(loops) > 1:
        raise SeveralLoopsError(tuple(sorted(loops)))
    for source, answer in answers:
        for server in answer.servers:
            if server.online and loop in (None, server.loop):
                return Connection(answer.broker, server.loop, source, server.announcement)
    return None


def stays(request: DiscoveryRequest, *, answered: bool) -> bool:
    """Tell whether the configured broker, which has no server now, is to be waited for and nothing else tried.

    Who configures a broker and no loop means that broker's loop. Whoever answers elsewhere may lead another hall: to
    wait is safe, to join that hall is not. Only a broker for which the configured authority vouches may take the place
    of one that does not answer.
    """
    configured = request.configured
    if configured is None or request.loop is not None:
        return False
    return answered or configured.ca_file is None


def unled(source: Source, answer: Answer, loop: str | None) -> str:
    """Return why a broker that answers is no way to a server."""
    place = f"{source}: {answer.broker.host}:{answer.broker.port} answers, "
    gone = [server.loop for server in answer.servers if not server.online and loop in (None, server.loop)]
    others = answer.online_loops
    if gone:
        return f"{place}but the server of loop {', '.join(gone)} is offline"
    if loop is not None and others:
        return f"{place}but has no server of loop {loop} (it has {', '.join(others)})"
    of_loop = "" if loop is None else f" of loop {loop}"
    return f"{place}but no server{of_loop} has announced itself there"


# ── the search ───────────────────────────────────────────────────────────────────────────────────────────────────


async def discover(
    request: DiscoveryRequest, *, clock: Callable[[], float], timeout_s: float | None = None
) -> Connection:
    """Return a way to the server, and remember it for the next start.

    Args:
        request: what is known beforehand.
        clock: monotonic seconds.
        timeout_s: how long to look; None: until one is found.

    Raises:
        NoServerError: none was found in time; the text says where it was looked for.
        SeveralLoopsError: the configuration must name a loop.
    """
    cached = load(request.cache_file) if request.cache_file is not None else None
    pause_s = _FIRST_PAUSE_S
    failure = "no broker answered"
    waiting = False
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    connection = await _sweep(request, cached, clock)
                except NoServerError as error:
                    failure = str(error)
                    if not waiting:
                        _log.warning("server_not_found error=%r; looking on", failure)
                        waiting = True
                else:
                    _log.info(
                        "server_found host=%s port=%d loop=%s source=%s",
                        connection.broker.host,
                        connection.broker.port,
                        connection.loop,
                        connection.source,
                    )
                    if request.cache_file is not None:
                        remember(request.cache_file, connection, cached)
                    return connection
                await asyncio.sleep(pause_s)
                pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
    except TimeoutError:
        raise NoServerError(f"no server found within {timeout_s:g} s: {failure}") from None


async def _sweep(request: DiscoveryRequest, cached: CachedConnection | None, clock: Callable[[], float]) -> Connection:
    """Look everywhere once."""
    tried: list[str] = []
    search = _Search(request, cached)
    for source in Source:
        candidates = await search.candidates(source)
        results = await asyncio.gather(*(_try(candidate, request, clock) for candidate in candidates))
        answers: list[tuple[Source, Answer]] = []
        for candidate, result in zip(candidates, results, strict=True):
            if isinstance(result, str):
                tried.append(f"{candidate.source}: {result}")
                continue
            if candidate.known_loop is not None:
                announcement = _online(result.announcement(candidate.known_loop))
                return Connection(result.broker, candidate.known_loop, source, announcement)
            answers.append((source, result))
            tried.append(unled(source, result, request.loop))
        found = choose(answers, request.loop)
        if found is not None:
            return found
        if source is Source.CONFIGURED and stays(request, answered=bool(answers)):
            break
    raise NoServerError("; ".join(tried) if tried else "nowhere to look")


class _Search:
    """Candidates of each rank; a place that was offered once is not offered again."""

    def __init__(self, request: DiscoveryRequest, cached: CachedConnection | None) -> None:
        self._request = request
        self._cached = cached
        self._seen: set[tuple[str, int]] = set()
        self.announced: set[tuple[str, int]] = set()
        """Where DNS-SD says that brokers are."""

    async def candidates(self, source: Source) -> tuple[_Candidate, ...]:
        """Return what is to be tried at a rank; DNS-SD takes its time to answer."""
        offered = await self._announced() if source is Source.DNS_SD else self._named(source)
        new = tuple(one for one in offered if not any(_place(broker) in self._seen for broker in one.brokers))
        self._seen.update(_place(broker) for one in new for broker in one.brokers)
        return new

    def _named(self, source: Source) -> tuple[_Candidate, ...]:
        broker: BrokerSettings | None = None
        match source:
            case Source.CONFIGURED:
                broker = self._request.configured
            case Source.CACHED:
                broker = self._cached_broker()
            case Source.LOCAL:
                broker = self._local_broker()
            case Source.DNS_SD:
                pass
        if broker is None:
            return ()
        return (_Candidate((broker,), source, loop_known(source, broker, self._request.loop, self._cached)),)

    def _local_broker(self) -> BrokerSettings | None:
        local, configured = self._request.local, self._request.configured
        if local is None or not pinned(configured):
            return local
        return reach(local.host, local.port, tls=pinned(local), protocol=local.protocol, configured=configured)

    def _cached_broker(self) -> BrokerSettings | None:
        cached = self._cached
        if cached is None:
            return None
        configured = self._request.configured
        return reach(cached.host, cached.port, tls=cached.tls, protocol=cached.protocol, configured=configured)

    async def _announced(self) -> tuple[_Candidate, ...]:
        request = self._request
        if not request.dns_sd:
            return ()
        services = await dns_sd.browse(request.browse_s, interfaces=request.interfaces)
        reached = [tuple(_reached(service, request.configured)) for service in services]
        self.announced.update(_place(broker) for brokers in reached for broker in brokers)
        return tuple(_Candidate(brokers, Source.DNS_SD) for brokers in reached if brokers)


def _reached(service: dns_sd.Service, configured: BrokerSettings | None) -> Iterator[BrokerSettings]:
    for host in service.hosts:
        broker = reach(host, service.port, tls=service.tls, protocol=service.protocol, configured=configured)
        if broker is not None:
            yield broker


def _place(broker: BrokerSettings) -> tuple[str, int]:
    return broker.host, broker.port


async def _try(candidate: _Candidate, request: DiscoveryRequest, clock: Callable[[], float]) -> Answer | str:
    """Return the first answer under the candidate's hosts, or why there is none."""
    patience = Patience(request.patience.answer_s, 0.0) if candidate.known_loop is not None else request.patience
    failure = "no address"
    for broker in candidate.brokers:
        try:
            return await probe(broker, wanted_loop=request.loop, patience=patience, clock=clock)
        except ConnectionFailedError as error:
            failure = str(error)
            if candidate.source is Source.CACHED:
                _log.info("cached_connection_passed_over error=%r", failure)
    return failure


def _online(announcement: ServerAnnouncement | None) -> ServerAnnouncement | None:
    return announcement if announcement is not None and announcement.status is Presence.ONLINE else None


async def survey(
    timeout_s: float, *, clock: Callable[[], float], request: DiscoveryRequest | None = None
) -> tuple[Found, ...]:
    """Return every broker that can be found within the time, with how it was found and what servers it knows of."""
    asked = request if request is not None else DiscoveryRequest()
    patience = Patience(answer_s=max(timeout_s / 2.0, 0.1), announcement_s=max(timeout_s / 4.0, 0.1))
    cached = load(asked.cache_file) if asked.cache_file is not None else None
    browsing = DiscoveryRequest(
        configured=asked.configured,
        local=asked.local,
        dns_sd=asked.dns_sd,
        interfaces=asked.interfaces,
        # Who was asked a moment ago, or shares a busy computer with who asks, answers only the question a second later.
        browse_s=max(timeout_s / 2.0, 0.1),
    )
    found: list[Found] = []
    search = _Search(browsing, cached)
    for source in Source:
        candidates = await search.candidates(source)
        found.extend(await asyncio.gather(*(_look(candidate, source, patience, clock) for candidate in candidates)))
    return tuple(replace(one, announced=_place(one.broker) in search.announced) for one in found)


async def _look(candidate: _Candidate, source: Source, patience: Patience, clock: Callable[[], float]) -> Found:
    failure: str | None = None
    for broker in candidate.brokers:
        try:
            answer = await probe(broker, wanted_loop=None, patience=patience, clock=clock)
        except ConnectionFailedError as error:
            failure = str(error)
        else:
            return Found(answer.broker, source, answer.servers)
    return Found(candidate.brokers[0], source, (), failure)
