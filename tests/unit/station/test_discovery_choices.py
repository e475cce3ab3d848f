"""Which broker is used, and what is told to whom: decided without a network."""

import logging
import ssl
from pathlib import Path

import pytest
from zeroconf.asyncio import AsyncServiceInfo

from schemas.messages import Presence
from schemas.settings import BrokerSettings
from schemas.topics import PLAIN_TYPE, SECURE_TYPE
from station.connection import CachedConnection, Connection, Source, load, reach, remember
from station.discovery import DiscoveryRequest, choose, loop_known, stays, unled
from station.dns_sd import read
from station.errors import SeveralLoopsError
from station.probe import Answer, Server
from tests.announcements import ANNOUNCED

BROKER = BrokerSettings(host="10.0.0.5")
CACHED = CachedConnection(host="10.0.0.5", port=1883, tls=False, loop="main", source=Source.DNS_SD)


def server(loop: str, status: Presence = Presence.ONLINE) -> Server:
    return Server(loop, ANNOUNCED.model_copy(update={"status": status}))


@pytest.mark.parametrize(
    ("source", "host", "configured_loop", "cached", "known"),
    [
        (Source.CONFIGURED, "10.0.0.5", "main", None, "main"),
        (Source.CONFIGURED, "10.0.0.5", None, CACHED, "main"),
        (Source.CONFIGURED, "10.0.0.6", None, CACHED, None),
        (Source.CONFIGURED, "10.0.0.5", None, None, None),
        (Source.CACHED, "10.0.0.5", None, CACHED, "main"),
        (Source.CACHED, "10.0.0.5", "main", CACHED, "main"),
        (Source.CACHED, "10.0.0.5", "other", CACHED, None),
        (Source.DNS_SD, "10.0.0.5", "main", CACHED, None),
        (Source.LOCAL, "10.0.0.5", "main", CACHED, None),
    ],
)
def test_for_which_brokers_a_loop_is_known_beforehand(
    source: Source, host: str, configured_loop: str | None, cached: CachedConnection | None, known: str | None
) -> None:
    assert loop_known(source, BrokerSettings(host=host), configured_loop, cached) == known


VOUCHED = BrokerSettings(host="10.0.0.5", ca_file="authority.crt")


@pytest.mark.parametrize(
    ("configured", "loop", "answered", "waited_for"),
    [
        (BROKER, None, True, True),
        (BROKER, None, False, True),
        (VOUCHED, None, True, True),
        (VOUCHED, None, False, False),
        (BROKER, "main", True, False),
        (BROKER, "main", False, False),
        (None, None, False, False),
    ],
)
def test_which_configured_broker_is_waited_for(
    configured: BrokerSettings | None, loop: str | None, answered: bool, waited_for: bool
) -> None:
    assert stays(DiscoveryRequest(configured=configured, loop=loop), answered=answered) is waited_for


def test_an_offline_announcement_is_no_server() -> None:
    assert choose([(Source.LOCAL, Answer(BROKER, (server("main", Presence.OFFLINE),)))], None) is None


def test_one_loop_on_two_brokers_is_one_loop() -> None:
    other = BrokerSettings(host="10.0.0.6")
    answers = [(Source.DNS_SD, Answer(one, (server("main"),))) for one in (BROKER, other)]
    connection = choose(answers, None)
    assert connection is not None
    assert connection.broker == BROKER


def test_two_loops_on_two_brokers_need_a_name() -> None:
    other = BrokerSettings(host="10.0.0.6")
    answers = [(Source.DNS_SD, Answer(BROKER, (server("a"),))), (Source.DNS_SD, Answer(other, (server("b"),)))]
    with pytest.raises(SeveralLoopsError, match=r"2 loops answer \(a, b\)"):
        choose(answers, None)
    connection = choose(answers, "b")
    assert connection is not None
    assert connection.broker == other


SECRET = BrokerSettings(host="hall.lan", port=8883, username="s1", password_file="p", ca_file="ca.pem")  # noqa: S106 - a file's name


def test_secrets_go_to_the_configured_broker_and_to_those_that_the_configured_authority_vouches_for() -> None:
    same = reach("hall.lan", 8883, tls=True, protocol="3.1.1", configured=SECRET)
    vouched = reach("10.0.0.9", 8883, tls=True, protocol="5", configured=SECRET)
    assert same is not None
    assert vouched is not None
    assert (same.username, same.protocol) == ("s1", "3.1.1")
    assert (vouched.host, vouched.username, vouched.ca_file) == ("10.0.0.9", "s1", "ca.pem")


@pytest.mark.parametrize("port", [1883, 8883])
@pytest.mark.parametrize("host", ["10.0.0.9", "hall.lan"])
def test_whoever_trusts_an_authority_is_not_talked_into_a_broker_in_the_clear(host: str, port: int) -> None:
    """It would get no secret; but its setpoints would be obeyed."""
    assert reach(host, port, tls=False, protocol="5", configured=SECRET) is None


def test_a_password_never_goes_to_whoever_announces_a_broker() -> None:
    told = BrokerSettings(host="hall.lan", username="s1", password_file="p")  # noqa: S106 - a file's name
    for tls in (False, True):
        broker = reach("10.0.0.9", 1883, tls=tls, protocol="5", configured=told)
        assert broker is not None
        assert (broker.username, broker.password_file, broker.cert_file) == (None, None, None)


def test_a_secure_broker_without_a_configured_authority_must_satisfy_the_systems() -> None:
    paths = ssl.get_default_verify_paths()
    broker = reach("10.0.0.9", 8883, tls=True, protocol="5", configured=None)
    assert broker is not None
    assert broker.ca_file in (paths.cafile, paths.openssl_cafile)


def info(service_type: str = PLAIN_TYPE, port: int = 1883, **text: str) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        service_type,
        f"x.{service_type}",
        port=port,
        properties=text,
        server="hall-a.local.",
        parsed_addresses=["fe80::1", "10.0.0.5"],
    )


def test_only_services_with_the_well_known_topic_are_brokers_of_zeroloop() -> None:
    assert read(info()) is None
    assert read(info(topic="homeassistant/#")) is None
    assert read(info(topic="zeroloop/v1/+/server", port=0)) is None
    service = read(info(topic="zeroloop/v1/+/server", protocol="3.1.1"))
    assert service is not None
    assert (service.hosts, service.protocol, service.tls) == (("10.0.0.5", "fe80::1"), "3.1.1", False)


def test_a_secure_service_is_tried_by_the_name_in_its_certificate_first() -> None:
    service = read(info(SECURE_TYPE, 8883, topic="zeroloop/v1/+/server"))
    assert service is not None
    assert service.tls
    assert service.hosts[0] == "hall-a.local"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b'{"host": "", "port": 1883, "tls": false, "loop": "main", "source": "cached"}',
        b'{"host": "h", "port": 0, "tls": false, "loop": "main", "source": "cached"}',
        b'{"host": "h", "port": 1883, "tls": false, "loop": "a/b", "source": "cached"}',
    ],
)
def test_a_memory_that_makes_no_sense_is_none(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "connection.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert load(path) is None
    assert "connection_cache_damaged" in caplog.text


def test_a_memory_that_cannot_be_written_costs_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        remember(tmp_path / "file" / "connection.json", Connection(BROKER, "main", Source.LOCAL, None), None)
    assert "connection_cache_unwritable" in caplog.text


@pytest.mark.parametrize(
    ("servers", "loop", "why"),
    [
        ((), None, "but no server has announced itself there"),
        ((server("main", Presence.OFFLINE),), None, "but the server of loop main is offline"),
        ((server("main", Presence.OFFLINE),), "main", "but the server of loop main is offline"),
        ((server("other", Presence.OFFLINE),), "main", "but no server of loop main has announced itself there"),
        ((server("other"),), "main", "but has no server of loop main (it has other)"),
        ((server("other"), server("main", Presence.OFFLINE)), "main", "but the server of loop main is offline"),
    ],
)
def test_why_a_broker_that_answers_is_no_way_to_a_server(
    servers: tuple[Server, ...], loop: str | None, why: str
) -> None:
    said = unled(Source.LOCAL, Answer(BROKER, servers), loop)
    assert said == f"local: 10.0.0.5:1883 answers, {why}"
