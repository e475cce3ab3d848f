"""How a station finds its server, on real brokers: each way of the contract, in its order."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zeroconf import DNSOutgoing, DNSPointer
from zeroconf.asyncio import AsyncZeroconf
from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR

from equalizer.advertise import Advertisement
from schemas.messages import Presence
from schemas.settings import BrokerSettings
from schemas.topics import PLAIN_TYPE
from station import dns_sd
from station.connection import Connection, Source
from station.discovery import DiscoveryRequest, Found, discover, survey
from station.errors import NoServerError, SeveralLoopsError
from station.probe import Patience
from tests.patience import PATIENCE_S, until
from transport.session import Session

pytestmark = pytest.mark.broker

LOOPBACK = ("127.0.0.1",)
MakeRequest = Callable[..., DiscoveryRequest]
StartBroker = Callable[..., BrokerSettings]
Announce = Callable[..., AbstractAsyncContextManager[Session]]


def remembered(cache_file: Path) -> dict[str, Any]:
    return dict(json.loads(cache_file.read_text()))


def write(cache_file: Path, content: str) -> None:
    cache_file.write_text(content)


async def found(request: DiscoveryRequest, timeout_s: float = PATIENCE_S) -> Connection:
    return await discover(request, clock=time.monotonic, timeout_s=timeout_s)


async def why_not_found(request: DiscoveryRequest, expected: str) -> None:
    """Look again and again until the error says why; who is asked may be slower than one search."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with pytest.raises(NoServerError) as caught:
                await found(request, timeout_s=1.5)
            if expected in str(caught.value):
                return


async def test_the_well_known_topic_of_the_configured_broker_names_loop_and_server(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest
) -> None:
    broker = start_broker()
    async with announced(broker, "main"):
        connection = await found(request_with(configured=broker))
    assert connection.loop == "main"
    assert connection.source is Source.CONFIGURED
    assert connection.announcement is not None
    assert connection.announcement.server == "hall-a"


async def test_the_connection_is_remembered_and_the_next_start_needs_nothing_else(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest, cache_file: Path
) -> None:
    broker = start_broker()
    async with announced(broker, "main"):
        await found(request_with(configured=broker))
    cache = remembered(cache_file)
    assert cache == {
        "host": "127.0.0.1",
        "port": broker.port,
        "tls": False,
        "loop": "main",
        "protocol": "5",
        "source": "configured",
    }
    again = await found(request_with())
    assert (again.broker, again.loop, again.source) == (broker, "main", Source.CACHED)
    assert remembered(cache_file)["source"] == "configured"


async def test_a_configured_broker_whose_loop_is_known_is_used_without_a_server(
    start_broker: StartBroker, request_with: MakeRequest
) -> None:
    broker = start_broker()
    started_s = time.monotonic()
    patience = Patience(answer_s=PATIENCE_S, announcement_s=PATIENCE_S)
    connection = await found(request_with(configured=broker, loop="main", patience=patience))
    assert connection.loop == "main"
    assert connection.announcement is None
    assert time.monotonic() - started_s < PATIENCE_S, "it waited for an announcement"


async def test_without_a_server_and_a_known_loop_the_error_says_that_the_broker_answers(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest
) -> None:
    broker = start_broker()
    async with announced(broker, "main", status=Presence.OFFLINE):
        expected = f"{broker.port} answers, but the server of loop main is offline"
        await why_not_found(request_with(configured=broker), expected)


@pytest.mark.parametrize("up", [True, False])
async def test_a_station_waits_for_its_configured_broker_and_joins_no_other_hall(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest, nobody: BrokerSettings, up: bool
) -> None:
    other = start_broker()
    configured = start_broker() if up else nobody
    async with announced(other, "other-hall"):
        with pytest.raises(NoServerError):
            await found(request_with(configured=configured, local=other), timeout_s=2.5)
        assert (await found(request_with(configured=configured, local=other, loop="other-hall"))).loop == "other-hall"


async def test_a_station_that_waits_takes_the_server_as_soon_as_it_comes(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest
) -> None:
    broker = start_broker()
    looking = asyncio.create_task(discover(request_with(configured=broker), clock=time.monotonic))
    await asyncio.sleep(1.5)
    assert not looking.done()
    async with announced(broker, "late"):
        assert (await asyncio.wait_for(looking, PATIENCE_S)).loop == "late"


async def test_two_loops_need_a_name_and_the_error_lists_them(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest
) -> None:
    broker = start_broker()
    async with announced(broker, "south"), announced(broker, "north"):
        with pytest.raises(SeveralLoopsError, match="north, south") as caught:
            await found(request_with(configured=broker))
        assert caught.value.loops == ("north", "south")
        assert (await found(request_with(local=broker, loop="south"))).loop == "south"


async def test_a_remembered_broker_that_is_gone_is_passed_over_and_replaced(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest, cache_file: Path, nobody: BrokerSettings
) -> None:
    write(
        cache_file,
        json.dumps({"host": "127.0.0.1", "port": nobody.port, "tls": False, "loop": "main", "source": "dns_sd"}),
    )
    broker = start_broker()
    async with announced(broker, "main"):
        connection = await found(request_with(local=broker))
    assert connection.source is Source.LOCAL
    assert remembered(cache_file)["port"] == broker.port


async def test_a_remembered_broker_that_is_silent_is_passed_over_after_the_patience(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest, cache_file: Path
) -> None:
    broker = start_broker()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        write(
            cache_file,
            json.dumps({"host": "127.0.0.1", "port": port, "tls": False, "loop": "main", "source": "dns_sd"}),
        )
        started_s = time.monotonic()
        async with announced(broker, "main"):
            patience = Patience(answer_s=1.0, announcement_s=1.0)
            connection = await found(request_with(local=broker, patience=patience))
    assert connection.broker.port == broker.port
    assert 1.0 <= time.monotonic() - started_s < 20.0


async def test_a_damaged_memory_is_passed_over_with_a_log_line(
    start_broker: StartBroker,
    announced: Announce,
    request_with: MakeRequest,
    cache_file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(cache_file, '{"host": "127.0.0.1", "po')
    broker = start_broker()
    with caplog.at_level(logging.WARNING):
        async with announced(broker, "main"):
            connection = await found(request_with(local=broker))
    assert connection.source is Source.LOCAL
    assert sum("connection_cache_damaged" in line for line in caplog.messages) == 1
    assert remembered(cache_file)["port"] == broker.port


async def test_a_memory_of_another_loop_than_the_configured_one_needs_an_announcement(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest
) -> None:
    broker = start_broker()
    async with announced(broker, "old"):
        await found(request_with(configured=broker))
        await why_not_found(request_with(loop="new"), "no server of loop new")


async def test_a_broker_that_refuses_mqtt_5_is_spoken_to_in_3_1_1(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest, cache_file: Path
) -> None:
    broker = start_broker("embedded")
    async with announced(broker.model_copy(update={"protocol": "3.1.1"}), "main"):
        connection = await found(request_with(configured=broker))
    assert connection.broker.protocol == "3.1.1"
    assert remembered(cache_file)["protocol"] == "3.1.1"


async def test_a_broker_announced_by_dns_sd_is_found_and_gone_after_the_farewell(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest
) -> None:
    broker = start_broker()
    loop = f"dnssd-{broker.port}"  # nobody else's, who may announce a broker at the same time
    advertisement = Advertisement(broker, server="hall-a", loop=loop, interfaces=LOOPBACK)
    await advertisement.start()
    try:
        async with announced(broker, loop):
            connection = await found(request_with(dns_sd=True, interfaces=LOOPBACK, browse_s=1.0, loop=loop))
    finally:
        await advertisement.stop()
    assert connection.source is Source.DNS_SD
    assert connection.broker == broker
    assert broker.port not in {service.port for service in await dns_sd.browse(1.0, interfaces=LOOPBACK)}


async def browsed(port: int) -> tuple[dns_sd.Service, ...]:
    """Ask until a service at a port has answered; a loaded computer may be late."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            services = await dns_sd.browse(1.0, interfaces=LOOPBACK)
            if port in {service.port for service in services}:
                return services


async def test_the_announcement_says_when_a_broker_speaks_only_3_1_1(nobody: BrokerSettings) -> None:
    old = nobody.model_copy(update={"protocol": "3.1.1"})
    advertisement = Advertisement(old, server="hall-a", loop="main", interfaces=LOOPBACK)
    await advertisement.start()
    try:
        services = await browsed(old.port)
    finally:
        await advertisement.stop()
    (service,) = [service for service in services if service.port == old.port]
    assert service.protocol == "3.1.1"
    assert service.hosts == ("127.0.0.1",)
    assert not service.tls


# zeroconf forgets its first socket where the second fails; the interpreter closes it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_without_multicast_dns_sd_finds_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    unassigned = ("192.0.2.77",)
    with caplog.at_level(logging.INFO):
        assert await dns_sd.browse(0.1, interfaces=unassigned) == ()
        advertisement = Advertisement(BrokerSettings(port=1), server="hall-a", loop="main", interfaces=unassigned)
        await advertisement.start()
        await advertisement.stop()
    assert sum("dns_sd_unavailable" in line for line in caplog.messages) == 2


async def surveyed(
    request: DiscoveryRequest, nobody: BrokerSettings, first: BrokerSettings, second: BrokerSettings
) -> dict[int, Found]:
    """Look around until both brokers have answered, and DNS-SD has told of one: a loaded computer may be late.

    What is announced for other tests meanwhile is left out.
    """
    ports = {broker.port for broker in (nobody, first, second)}
    async with asyncio.timeout(PATIENCE_S):
        while True:
            listed = await survey(4.0, clock=time.monotonic, request=request)
            by_port = {one.broker.port: one for one in listed if one.broker.port in ports}
            answered = {port for port, one in by_port.items() if one.error is None}
            if {first.port, second.port} <= answered and any(one.announced for one in by_port.values()):
                return by_port


async def test_a_survey_lists_every_broker_its_loops_and_what_does_not_answer(
    start_broker: StartBroker, announced: Announce, request_with: MakeRequest, nobody: BrokerSettings
) -> None:
    first, second = start_broker(), start_broker()
    advertisement = Advertisement(second, server="hall-a", loop="main", interfaces=LOOPBACK)
    await advertisement.start()
    try:
        async with announced(first, "north"), announced(first, "south", status=Presence.OFFLINE):
            request = request_with(configured=nobody, dns_sd=True, interfaces=LOOPBACK, local=first)
            by_port = await surveyed(request, nobody, first, second)
            again = await surveyed(replace(request, configured=second), nobody, first, second)
    finally:
        await advertisement.stop()
    assert by_port[nobody.port].error is not None
    assert by_port[second.port].source is Source.DNS_SD
    assert by_port[second.port].servers == ()
    assert [port for port, one in by_port.items() if one.announced] == [second.port]
    told = again[second.port]
    assert (told.source, told.announced) == (Source.CONFIGURED, True)
    assert [(one.loop, one.online) for one in by_port[first.port].servers] == [("north", True), ("south", False)]


async def test_a_search_that_is_given_up_leaves_no_task_behind(
    start_broker: StartBroker, request_with: MakeRequest
) -> None:
    broker = start_broker()
    request = replace(request_with(configured=broker), dns_sd=True, interfaces=LOOPBACK)
    searching = asyncio.create_task(discover(request, clock=time.monotonic))
    await asyncio.sleep(1.2)
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_a_service_with_a_name_that_is_not_allowed_hides_no_other_and_breaks_nothing(
    nobody: BrokerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    odd = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
    odd.add_answer_at_time(DNSPointer(PLAIN_TYPE, _TYPE_PTR, _CLASS_IN, 4500, f"odd\x01name.{PLAIN_TYPE}"), 0)
    advertisement = Advertisement(nobody, server="hall-a", loop="main", interfaces=LOOPBACK)
    await advertisement.start()
    shouter = AsyncZeroconf(interfaces=list(LOOPBACK))

    async def shout() -> None:
        while True:
            shouter.zeroconf.async_send(odd)
            await asyncio.sleep(0.1)

    shouting = asyncio.create_task(shout(), name="a device with an odd name")
    try:
        with caplog.at_level(logging.INFO):
            services = await browsed(nobody.port)
            async with asyncio.timeout(PATIENCE_S):
                while not any("dns_sd_name_passed_over" in line for line in caplog.messages):
                    services = await browsed(nobody.port)
    finally:
        shouting.cancel()
        await asyncio.gather(shouting, return_exceptions=True)
        await shouter.async_close()
        await advertisement.stop()
    assert nobody.port in {service.port for service in services}
