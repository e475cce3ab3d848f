"""The configuration that `zeroloop credentials` makes, on a real Mosquitto, tried from outside with its own clients."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from broker import RunningBroker, find_mosquitto
from schemas.settings import BrokerSettings
from tests.authorities import Hall, make_hall
from tests.patience import PATIENCE_S
from tests.ports import free_port
from transport.credentials import read, with_credentials
from transport.session import Session, unguessable
from transport.tls import client_context

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(
        find_mosquitto() is None or shutil.which("mosquitto_sub") is None,
        reason="needs mosquitto, mosquitto_pub and mosquitto_sub",
    ),
]

LOOP = "zeroloop/v1/main"
S1 = f"{LOOP}/station/s1"
S2 = f"{LOOP}/station/s2"
SPEAKS_LIKE_A_STATION = f"{LOOP}/station/page"
"""There is a dashboard of that name: it must not be the station that it is called like."""
STATIONS = (S1, S2, SPEAKS_LIKE_A_STATION)
TOPICS = (
    *(f"{LOOP}/{leaf}" for leaf in ("server", "balance", "event", "command", "reply", "meter")),
    *(f"{station}/status" for station in STATIONS),
    *(
        f"{station}/channel/1/{leaf}"
        for station in STATIONS
        for leaf in ("telemetry", "plan", "setpoint", "command", "reply")
    ),
    "elsewhere",
    "zeroloop/v2/main/server",
)


def own_topics(station: str) -> set[str]:
    return {f"{station}/status", *(f"{station}/channel/1/{leaf}" for leaf in ("telemetry", "plan", "reply"))}


def stations_inbox(station: str) -> set[str]:
    own = {f"{station}/channel/1/{leaf}" for leaf in ("telemetry", "setpoint", "command")}
    return {f"{LOOP}/server", f"{station}/status"} | own


ALL_OF_THE_LOOP = {topic for topic in TOPICS if topic.startswith(LOOP)}
EVERY_CHANNEL = tuple(f"{station}/channel/1" for station in STATIONS)
EVENT = {f"{LOOP}/event"}
MAY_WRITE = {
    "s1": own_topics(S1) | EVENT,
    "s2": own_topics(S2) | EVENT,
    "hall-a": {f"{LOOP}/{leaf}" for leaf in ("server", "balance", "reply")}
    | {f"{channel}/setpoint" for channel in EVERY_CHANNEL}
    | EVENT,
    "anna": {f"{LOOP}/command"} | {f"{channel}/command" for channel in EVERY_CHANNEL} | EVENT,
    "page": set(),
    "grid": {f"{LOOP}/meter"} | EVENT,
}
MAY_READ = {
    "s1": stations_inbox(S1),
    "s2": stations_inbox(S2),
    "hall-a": ALL_OF_THE_LOOP,
    "anna": ALL_OF_THE_LOOP,
    "page": ALL_OF_THE_LOOP,
    "grid": {f"{LOOP}/server"},
}
EVERYBODY = tuple(MAY_WRITE)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Hall:
    hall = make_hall(tmp_path_factory.mktemp("hall") / "credentials", free_port())
    hall.let_in("station", "s1", "s2")
    hall.let_in("equalizer", "hall-a")
    hall.let_in("operator", "anna")
    hall.let_in("dashboard", "page")
    hall.let_in("meter", "grid")
    return hall


@pytest.fixture(scope="module")
def production_broker(hall: Hall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with hall.start(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def heard(hall: Hall, production_broker: RunningBroker) -> dict[str, set[tuple[str, str]]]:
    """Who hears which topic from whom, when everybody publishes on everything and subscribes to everything."""
    assert production_broker.port == hall.port
    files = {who: hall.folder / f"{who}.heard" for who in EVERYBODY}
    listeners = [hall.listen(who, files[who]) for who in EVERYBODY]
    for who in EVERYBODY:
        # All at once: one program and one handshake a topic would take a minute.
        publishers = [
            subprocess.Popen(
                ["mosquitto_pub", *hall.options(who), "-q", "1", "-t", topic, "-m", f"by-{who}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for topic in TOPICS
        ]
        assert [publisher.wait(PATIENCE_S) for publisher in publishers] == [0] * len(TOPICS)
    # What everybody may read, behind all else.
    hall.publish("hall-a", f"{LOOP}/server", "the-end")
    for file in files.values():
        until(lambda file=file: "the-end" in file.read_text())
    for listener in listeners:
        listener.kill()
        listener.wait(PATIENCE_S)
    return {who: set(said(file.read_text())) for who, file in files.items()}


def said(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        topic, _, author = line.partition(" by-")
        if topic in TOPICS:
            yield topic, author


def test_every_role_writes_its_own_topics_and_no_others(heard: dict[str, set[tuple[str, str]]]) -> None:
    for who in EVERYBODY:
        assert {topic for topic, author in set().union(*heard.values()) if author == who} == MAY_WRITE[who], who


def test_every_role_reads_what_is_its_own_and_a_spy_on_everything_no_more(
    heard: dict[str, set[tuple[str, str]]],
) -> None:
    written = set().union(*MAY_WRITE.values())
    for who in EVERYBODY:
        assert {topic for topic, _ in heard[who]} == MAY_READ[who] & written, who


def test_the_spy_hears_nothing_that_was_retained_either(
    hall: Hall, production_broker: RunningBroker, tmp_path: Path
) -> None:
    assert production_broker.running
    hall.publish("s1", f"{S1}/channel/1/telemetry", "secret", "-r")
    spy = hall.listen("s2", tmp_path / "spy")
    listener = hall.listen("page", tmp_path / "page")
    until(lambda: "secret" in (tmp_path / "page").read_text())
    for process in (spy, listener):
        process.kill()
        process.wait(PATIENCE_S)
    assert "secret" not in (tmp_path / "spy").read_text()
    hall.publish("s1", f"{S1}/channel/1/telemetry", "", "-r")


def test_a_will_in_anothers_name_is_never_published(
    hall: Hall, production_broker: RunningBroker, tmp_path: Path
) -> None:
    """The same client's own will is: otherwise nothing would have been shown."""
    assert production_broker.running
    listener = hall.listen("anna", tmp_path / "heard")
    for topic in (f"{S1}/status", f"{LOOP}/server", f"{S2}/status"):
        will = ("--will-topic", topic, "--will-payload", f"gone-{topic}", "--will-qos", "1", "--will-retain")
        try:
            dying = hall.listen("s2", tmp_path / "dying", *will)
        except AssertionError:
            continue  # refused at once is as good
        dying.kill()
        dying.wait()
    until(lambda: f"gone-{S2}/status" in (tmp_path / "heard").read_text())
    listener.kill()
    listener.wait(PATIENCE_S)
    text = (tmp_path / "heard").read_text()
    assert f"gone-{S1}" not in text
    assert f"gone-{LOOP}/server" not in text
    hall.publish("s2", f"{S2}/status", "", "-r")


async def test_nobody_guesses_the_client_id_that_would_throw_another_out(
    hall: Hall, production_broker: RunningBroker
) -> None:
    """With the true id it works: the broker does not bind ids to names, so ours are not to be guessed."""
    assert production_broker.running
    lost: list[str] = []
    own = unguessable("s1")
    session = Session(
        with_credentials(BrokerSettings(host="127.0.0.1"), read(hall.file("s1"))),
        client_id=own,
        on_message=lambda *_: None,
        on_disconnected=lost.append,
        clock=time.monotonic,
    )
    await session.connect_once(PATIENCE_S)

    async def attack(client_id: str) -> None:
        words = ("-i", client_id, "-q", "1", "-t", f"{S2}/status", "-m", "x")
        await asyncio.to_thread(hall.mosquitto_pub, "s2", *words)
        await asyncio.sleep(0.2)

    for guess in ("s1", "zeroloop-s1", f"zeroloop-s1-{'0' * 32}", own[:-1], unguessable("s1")):
        await attack(guess)
    assert session.connected
    assert lost == []
    assert len(own.rpartition("-")[2]) * 4 == 128
    await attack(own)
    await asyncio.to_thread(until, lambda: not session.connected)
    await session.close()


def test_who_takes_over_anothers_client_id_gets_nothing_that_was_its_and_cannot_speak_for_it(
    hall: Hall, production_broker: RunningBroker, tmp_path: Path
) -> None:
    """A foreign station with a fixed id and a session that lasts, and a member that knows the id."""
    assert production_broker.running
    command, status = f"{S1}/channel/1/command", f"{S1}/status"
    session = ("-i", "fixed", "-c", "-x", "3600", "-q", "1")

    def heard_by(who: str, *more: str) -> str:
        """Go on with the session, as who has its id, for two seconds or as long as is said."""
        words = ["mosquitto_sub", *hall.options(who), *session, "-F", "%t %p", *more]
        words += [] if "-E" in more else ["-W", "2"]
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False).stdout

    def until_station_hears(text: str) -> None:
        """Go on with the session as the station, until it has heard something."""
        said = tmp_path / "station"
        with said.open("wb") as out:
            ear = subprocess.Popen(["mosquitto_sub", *hall.options("s1"), *session, "-t", command], stdout=out)
        try:
            until(lambda: text in said.read_text())
        finally:
            ear.terminate()
            ear.wait(PATIENCE_S)

    def commanded(text: str) -> None:
        """Have an operator command the station while it is away."""
        assert hall.mosquitto_pub("anna", "-q", "1", "-t", command, "-m", text).returncode == 0

    heard_by("s1", "-t", command, "-E")
    commanded("kept-for-s1")
    until_station_hears("kept-for-s1")  # a session lasts: otherwise nothing would be shown
    commanded("not-for-s2")
    taken = heard_by("s2", "-t", "#")
    assert "not-for-s2" not in taken
    witness = hall.listen("anna", tmp_path / "heard")
    ear = subprocess.Popen(
        ["mosquitto_sub", *hall.options("s2"), *session, "-F", "%t %p", "-t", "#"], stdout=subprocess.PIPE, text=True
    )
    time.sleep(1.0)
    commanded("live-not-for-s2")
    hall.mosquitto_pub("s2", "-i", "fixed", "-q", "1", "-t", status, "-m", "forged-by-s2")
    hall.mosquitto_pub("s2", "-i", "fixed", "-q", "0", "-t", f"{S1}/channel/1/telemetry", "-m", "forged-by-s2")
    hall.publish("s1", status, "true")
    until(lambda: f"{status} true" in (tmp_path / "heard").read_text())
    for process in (ear, witness):
        process.kill()
        process.wait(PATIENCE_S)
    assert ear.stdout is not None
    assert "live-not-for-s2" not in ear.stdout.read()
    ear.stdout.close()
    assert "forged-by-s2" not in (tmp_path / "heard").read_text()
    # The station comes back and is served as ever; what was said meanwhile is lost to it, and never another's.
    heard_by("s1", "-t", command, "-E")
    commanded("again-for-s1")
    until_station_hears("again-for-s1")


def test_nobody_gets_in_without_a_certificate_of_this_authority_and_for_clients(
    hall: Hall, production_broker: RunningBroker, tmp_path: Path
) -> None:
    assert production_broker.running
    stranger = make_hall(tmp_path / "stranger", hall.port)
    stranger.let_in("station", "s1")
    authority = str(hall.folder / "authority.crt")
    message = ("-t", f"{S1}/status", "-m", "x", "-q", "1")
    common = ["mosquitto_pub", "-V", "5", "-h", "127.0.0.1", "-p", str(hall.port)]
    server = hall.folder / "broker"
    attempts = {
        "none": [*common, "--cafile", authority],
        "a password": [*common, "--cafile", authority, "-u", "s1", "-P", "secret"],
        "no TLS": [*common, "-u", "s1", "-P", "secret"],
        "of another authority": [
            *common, "--cafile", authority, "--cert", str(stranger.file("s1")), "--key", str(stranger.file("s1")),
        ],
        "the broker's": [
            *common, "--cafile", authority, "--cert", str(server / "server.crt"), "--key", str(server / "server.key"),
        ],
    }  # fmt: skip
    for what, command in attempts.items():
        run = subprocess.run([*command, *message], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert run.returncode != 0, what
    assert hall.mosquitto_pub("s1", *message).returncode == 0


def test_a_client_does_not_speak_to_a_broker_that_another_authority_vouches_for(
    hall: Hall, production_broker: RunningBroker, tmp_path: Path
) -> None:
    assert production_broker.running
    stranger = make_hall(tmp_path / "stranger", hall.port)
    stranger.let_in("station", "s1")
    run = stranger.mosquitto_pub("s1", "-t", f"{S1}/status", "-m", "x")
    assert run.returncode != 0


def test_a_revoked_name_is_refused_after_a_reload_and_its_open_connection_has_no_rights(
    hall: Hall, production_broker: RunningBroker, tmp_path: Path
) -> None:
    hall.let_in("station", "s8", "s9")
    reload(hall, production_broker)
    kept, other = hall.kept("s8"), hall.kept("s9")
    station = f"{LOOP}/station/s8"
    message = ("-q", "1", "-t", f"{station}/status", "-m")
    assert hall.mosquitto_pub("s8", *message, "before", file=kept).returncode == 0
    open_connection = subprocess.Popen(
        ["mosquitto_pub", *hall.options("s8", kept), "-q", "1", "-t", f"{station}/status", "-l"],
        stdin=subprocess.PIPE,
        text=True,
    )
    ear = hall.listen("s8", tmp_path / "ear", file=kept)
    listener = hall.listen("anna", tmp_path / "heard")
    assert open_connection.stdin is not None
    print("open", file=open_connection.stdin, flush=True)
    until(lambda: "open" in (tmp_path / "heard").read_text())

    hall.revoke("s8")
    hall.revoke("s9")  # two lists within a second: the later one counts
    reload(hall, production_broker)
    for name, file in (("s8", kept), ("s9", other)):
        assert hall.mosquitto_pub(name, *message, "after", file=file).returncode != 0, name
    print("still-there", file=open_connection.stdin, flush=True)
    hall.publish("hall-a", f"{station}/channel/1/setpoint", "for-s8")
    until(lambda: "for-s8" in (tmp_path / "heard").read_text())
    time.sleep(0.5)
    for process in (listener, ear, open_connection):
        process.kill()
        process.wait(PATIENCE_S)
    open_connection.stdin.close()
    text = (tmp_path / "heard").read_text()
    assert "after" not in text
    assert "still-there" not in text
    assert "for-s8" not in (tmp_path / "ear").read_text()
    assert hall.mosquitto_pub("s1", "-t", f"{S1}/status", "-m", "others go on").returncode == 0


def test_a_renewed_name_and_its_former_certificate_are_both_let_in(
    hall: Hall, production_broker: RunningBroker
) -> None:
    assert production_broker.running
    former = hall.kept("s2")
    hall.renew("s2")
    assert former.read_bytes() != hall.file("s2").read_bytes()
    for file in (former, hall.file("s2")):
        assert hall.mosquitto_pub("s2", "-t", f"{S2}/status", "-m", "x", "-q", "1", file=file).returncode == 0


def test_the_longest_message_arrives_and_a_longer_one_does_not(
    hall: Hall, production_broker: RunningBroker, tmp_path: Path
) -> None:
    assert production_broker.running
    listener = hall.listen("page", tmp_path / "heard", "-F", "length %l")
    for size in (65_537, 65_536):
        payload = tmp_path / "payload"
        payload.write_bytes(b"x" * size)
        hall.mosquitto_pub("s1", "-t", f"{S1}/status", "-f", str(payload), "-q", "0")
    until(lambda: "length 65536" in (tmp_path / "heard").read_text())
    listener.kill()
    listener.wait(PATIENCE_S)
    assert "length 65537" not in (tmp_path / "heard").read_text()


def test_every_retained_message_arrives_through_tls_and_access_control(
    hall: Hall, production_broker: RunningBroker, client: Callable[..., Any]
) -> None:
    def connected(who: str) -> Any:  # noqa: ANN401 - conftest's Client has no import path
        own = hall.file(who)
        tls = client_context(with_credentials(BrokerSettings(), read(own)))
        return client(production_broker, who, tls=tls).connect()

    connected("s1").publish_retained(10_000, qos=1)
    page = connected("page")
    page.subscribe(f"{LOOP}/station/+/channel/+/telemetry", 1)
    assert page.heard(10_000) == 10_000


def test_what_was_saved_survives_a_kill(tmp_path: Path) -> None:
    """A station that never comes back is still known, and no half-written file keeps the broker from starting."""
    hall = make_hall(tmp_path / "credentials", free_port())
    hall.let_in("station", "s1")
    hall.let_in("dashboard", "page")
    config = hall.folder / "broker" / "mosquitto.conf"
    shipped = config.read_text()
    assert "autosave_interval 30" in shipped
    config.write_text(shipped.replace("autosave_interval 30", "autosave_interval 1"))
    with hall.start(tmp_path / "broker") as first:
        hall.publish("s1", f"{S1}/status", "offline", "-r")
        until(lambda: b"/s1/status" in b"".join(file.read_bytes() for file in tmp_path.rglob("*.db")))
        first.kill()
    with hall.start(tmp_path / "broker"):
        listener = hall.listen("page", tmp_path / "heard")
        until(lambda: f"{S1}/status offline" in (tmp_path / "heard").read_text())
        listener.kill()
        listener.wait(PATIENCE_S)


def test_no_secret_is_in_the_brokers_log_nor_on_any_command_line(
    hall: Hall, production_broker: RunningBroker, tmp_path: Path
) -> None:
    listener = hall.listen("s1", tmp_path / "heard")
    listener.kill()
    listener.wait(PATIENCE_S)
    keys = [
        line
        for file in (*hall.folder.glob("clients/*"), hall.folder / "authority.key", hall.folder / "broker/server.key")
        for line in file.read_text().partition("-----END PRIVATE KEY")[0].splitlines()[-3:]
        if len(line) > 30 and "-----" not in line
    ]
    assert len(keys) > 10
    log = production_broker.log_path.read_text()
    lines = Path(f"/proc/{production_broker.pid}/cmdline").read_text()
    assert not [key for key, text in product(keys, (log, lines)) if key in text]


def reload(hall: Hall, broker: RunningBroker) -> None:
    """Have it read its configuration again; it does between two turns of its loop, of which a client needs several."""
    os.kill(broker.pid, signal.SIGHUP)
    for _ in range(2):
        hall.publish("s1", f"{S1}/status", "reloaded")


def until(condition: object, timeout_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + timeout_s
    assert callable(condition)
    while not condition():
        assert time.monotonic() < end_s, json.dumps(str(condition))
        time.sleep(0.05)
