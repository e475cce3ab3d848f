"""The production configuration on a real Mosquitto, tried from outside with mosquitto_pub and mosquitto_sub."""

import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from broker import RunningBroker, find_mosquitto, free_port, start
from broker.mosquitto import MACHINES_ACCESS_FILE, PEOPLE_ACCESS_FILE, PRODUCTION_FILE

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(
        find_mosquitto() is None or shutil.which("mosquitto_sub") is None or shutil.which("openssl") is None,
        reason="needs mosquitto, mosquitto_pub, mosquitto_sub, mosquitto_passwd and openssl",
    ),
]

LOOP = "zeroloop/v1/main"
S1 = f"{LOOP}/station/s1"
S2 = f"{LOOP}/station/s2"
VIEWER_AS_STATION = f"{LOOP}/station/viewer"
TOPICS = (
    *(f"{LOOP}/{leaf}" for leaf in ("server", "balance", "event", "command", "reply", "meter")),
    *(f"{station}/status" for station in (S1, S2, VIEWER_AS_STATION)),
    *(
        f"{station}/channel/1/{leaf}"
        for station in (S1, S2, VIEWER_AS_STATION)
        for leaf in ("telemetry", "plan", "setpoint", "command", "reply")
    ),
    "elsewhere",
)
CERTIFIED = ("equalizer", "s2", "meter")
PEOPLE = ("operator", "viewer")
EVERYBODY = (*CERTIFIED, "s1", *PEOPLE)


def own_topics(station: str) -> set[str]:
    return {f"{station}/status", *(f"{station}/channel/1/{leaf}" for leaf in ("telemetry", "plan", "reply"))}


def stations_inbox(station: str) -> set[str]:
    own = {f"{station}/channel/1/{leaf}" for leaf in ("telemetry", "setpoint", "command")}
    return {f"{LOOP}/server", f"{station}/status"} | own


ALL_OF_THE_LOOP = {topic for topic in TOPICS if topic.startswith(LOOP)}
EVERY_CHANNEL = tuple(f"{station}/channel/1" for station in (S1, S2, VIEWER_AS_STATION))
EVENT = {f"{LOOP}/event"}
MAY_WRITE = {
    "s1": own_topics(S1) | EVENT,
    "s2": own_topics(S2) | EVENT,
    "equalizer": {f"{LOOP}/{leaf}" for leaf in ("server", "balance", "reply")}
    | {f"{channel}/setpoint" for channel in EVERY_CHANNEL}
    | EVENT,
    "operator": {f"{LOOP}/command"} | {f"{channel}/command" for channel in EVERY_CHANNEL} | EVENT,
    "viewer": set(),
    "meter": {f"{LOOP}/meter"} | EVENT,
}
MAY_READ = {
    "s1": stations_inbox(S1),
    "s2": stations_inbox(S2),
    "equalizer": ALL_OF_THE_LOOP,
    "operator": ALL_OF_THE_LOOP,
    "viewer": ALL_OF_THE_LOOP,
    "meter": {f"{LOOP}/server"},
}


@dataclass(frozen=True)
class Hall:
    """A broker with TLS, and what its clients need."""

    folder: Path
    certificate_port: int
    machine_password_port: int
    people_port: int

    def options(self, who: str) -> list[str]:
        """The options of mosquitto_pub and mosquitto_sub."""
        common = ["-V", "5", "-h", "127.0.0.1", "--cafile", str(self.folder / "ca.crt")]
        if who in CERTIFIED:
            pair = ["--cert", str(self.folder / f"{who}.crt"), "--key", str(self.folder / f"{who}.key")]
            return [*common, "-p", str(self.certificate_port), *pair]
        port = self.people_port if who in PEOPLE else self.machine_password_port
        return [*common, "-p", str(port), "-u", who, "-P", f"secret of {who}"]

    def publish(self, who: str, topic: str, *, retain: bool = False) -> None:
        more = ["-r"] if retain else []
        subprocess.run(
            ["mosquitto_pub", *self.options(who), "-q", "1", "-t", topic, "-m", f"by-{who}", *more],
            check=True,
            capture_output=True,
            timeout=10,
        )

    def listen(self, who: str, heard: Path) -> "subprocess.Popen[bytes]":
        """Subscribe to everything; returns once the broker has taken the subscription."""
        with heard.open("wb") as out:
            process = subprocess.Popen(
                ["stdbuf", "-oL", "mosquitto_sub", *self.options(who), "-q", "1", "-t", "#", "-F", "%t %p", "-d"],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        for _ in range(100):
            if "Subscribed (mid" in heard.read_text(errors="replace"):
                return process
            time.sleep(0.05)
        process.kill()
        process.wait()
        raise AssertionError(heard.read_text(errors="replace"))


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)


def make_authority(folder: Path, name: str) -> None:
    subject = ("-subj", f"/CN=zeroloop test {name}")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", f"{name}.key")
    openssl(folder, "req", "-x509", *key, "-out", f"{name}.crt", "-days", "2", *subject)


def make_certificate(folder: Path, name: str, authority: str = "ca", *, server: bool = False) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", f"{name}.key")
    openssl(folder, "req", "-new", *key, "-out", f"{name}.csr", "-subj", f"/CN={name}")
    (folder / f"{name}.ext").write_text(
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n" if server else "extendedKeyUsage=clientAuth\n"
    )
    issuer = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial")
    openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", *issuer, "-days", "2", "-extfile", f"{name}.ext",
        "-out", f"{name}.crt",
    )  # fmt: skip


def production_text(folder: Path, kept: Path, ports: tuple[int, int, int]) -> str:
    """The shipped file with other paths, ports and, so that the test need not wait, a shorter autosave."""
    text = PRODUCTION_FILE.read_text()
    for shipped, here in (
        ("/etc/zeroloop/broker/", f"{folder}/"),
        ("/var/lib/zeroloop-broker/", f"{kept}/"),
        ("listener 8883", f"listener {ports[0]} 127.0.0.1"),
        ("listener 8884", f"listener {ports[1]} 127.0.0.1"),
        ("listener 8885", f"listener {ports[2]} 127.0.0.1"),
        ("autosave_interval 30", "autosave_interval 1"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    return text + ("user root\n" if os.geteuid() == 0 else "")


def three_ports() -> tuple[int, int, int]:
    first = free_port(preferred=28883)
    second = free_port(preferred=first + 1)
    return first, second, free_port(preferred=second + 1)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Hall:
    folder = tmp_path_factory.mktemp("hall")
    make_authority(folder, "ca")
    make_certificate(folder, "server", server=True)
    for machine in CERTIFIED:
        make_certificate(folder, machine)
    for file, users in (("machines.passwords", ("s1",)), ("people.passwords", PEOPLE)):
        (folder / file).touch(mode=0o600)
        for user in users:
            command = ["mosquitto_passwd", "-b", str(folder / file), user, f"secret of {user}"]
            subprocess.run(command, check=True, capture_output=True, timeout=10)
    shutil.copy(MACHINES_ACCESS_FILE, folder)
    shutil.copy(PEOPLE_ACCESS_FILE, folder)
    ports = three_ports()
    (folder / "production.conf").write_text(production_text(folder, folder, ports))
    return Hall(folder, *ports)


@pytest.fixture(scope="module")
def production_broker(hall: Hall) -> Iterator[RunningBroker]:
    with start("mosquitto", config=hall.folder / "production.conf", data_dir=hall.folder) as broker:
        yield broker


@pytest.fixture(scope="module")
def heard(hall: Hall, production_broker: RunningBroker) -> dict[str, set[tuple[str, str]]]:
    """Everybody listens to everything while everybody says something on every topic: who heard whom on what."""
    assert production_broker.port == hall.certificate_port
    files = {who: hall.folder / f"{who}.heard" for who in EVERYBODY}
    listeners = [hall.listen(who, files[who]) for who in EVERYBODY]
    for who, topic in product(EVERYBODY, TOPICS):
        hall.publish(who, topic)
    time.sleep(0.5)
    for listener in listeners:
        listener.terminate()
        listener.wait(5)
    return {who: set(said(file.read_text())) for who, file in files.items()}


def said(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        topic, _, author = line.partition(" by-")
        if topic in TOPICS:
            yield topic, author


@pytest.mark.parametrize("who", EVERYBODY)
def test_everybody_writes_their_own_topics_and_no_others(heard: dict[str, set[tuple[str, str]]], who: str) -> None:
    assert {topic for topic, author in set().union(*heard.values()) if author == who} == MAY_WRITE[who]


@pytest.mark.parametrize("who", EVERYBODY)
def test_everybody_reads_what_is_theirs_and_nothing_else(heard: dict[str, set[tuple[str, str]]], who: str) -> None:
    written = set().union(*MAY_WRITE.values())
    assert {topic for topic, _ in heard[who]} == MAY_READ[who] & written


def refused(hall: Hall, *options: str) -> str:
    command = ["mosquitto_pub", "-V", "5", "-h", "127.0.0.1", *options, "-t", f"{S1}/status", "-m", "x"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, cwd=hall.folder)
    assert run.returncode != 0
    return run.stderr


@pytest.mark.usefixtures("production_broker")
def test_nobody_gets_in_without_a_name_and_its_proof(hall: Hall) -> None:
    certificate = ("-p", str(hall.certificate_port), "--cafile", "ca.crt")
    make_authority(hall.folder, "stranger")
    make_certificate(hall.folder, "impostor", authority="stranger")
    assert refused(hall, *certificate)
    assert refused(hall, *certificate, "-u", "s1", "-P", "secret of s1")
    assert refused(hall, *certificate, "--cert", "impostor.crt", "--key", "impostor.key")
    for port in (hall.machine_password_port, hall.people_port):
        password = ("-p", str(port), "--cafile", "ca.crt")
        assert "not authori" in refused(hall, *password).lower()
        assert "not authori" in refused(hall, *password, "-u", "s1", "-P", "wrong").lower()
        assert refused(hall, "-p", str(port), "-u", "s1", "-P", "secret of s1"), "without TLS"


@pytest.mark.usefixtures("production_broker")
def test_a_person_does_not_pass_as_a_machine_nor_a_machine_as_a_person(hall: Hall) -> None:
    machines = ("-p", str(hall.machine_password_port), "--cafile", "ca.crt")
    people = ("-p", str(hall.people_port), "--cafile", "ca.crt")
    assert "not authori" in refused(hall, *machines, "-u", "viewer", "-P", "secret of viewer").lower()
    assert "not authori" in refused(hall, *people, "-u", "s1", "-P", "secret of s1").lower()


Connect = Callable[[RunningBroker, Hall, str], Any]


@pytest.fixture
def connect(client: Callable[..., Any]) -> Connect:
    def connected(broker: RunningBroker, hall: Hall, who: str) -> Any:  # noqa: ANN401 - conftest's Client has no import path
        tls = ssl.create_default_context(cafile=str(hall.folder / "ca.crt"))
        port = hall.people_port if who in PEOPLE else hall.machine_password_port
        return client(broker, who, tls=tls, user=(who, f"secret of {who}"), port=port).connect()

    return connected


def test_the_longest_message_arrives_and_a_longer_one_does_not(
    hall: Hall, production_broker: RunningBroker, connect: Connect
) -> None:
    viewer = connect(production_broker, hall, "viewer")
    viewer.subscribe(f"{S1}/status", 1)
    viewer.messages.clear()
    for size in (65_537, 65_536):
        payload = hall.folder / "payload"
        payload.write_bytes(b"x" * size)
        command = ["mosquitto_pub", *hall.options("s1"), "-t", f"{S1}/status", "-f", str(payload), "-q", "0"]
        subprocess.run(command, capture_output=True, timeout=10, check=False)
    viewer.wait_for(1)
    assert [len(payload) for _, payload, _ in viewer.messages] == [65_536]


def test_every_retained_message_arrives_through_tls_and_access_control(
    hall: Hall, production_broker: RunningBroker, connect: Connect
) -> None:
    connect(production_broker, hall, "s1").publish_retained(10_000, qos=1)
    viewer = connect(production_broker, hall, "viewer")
    viewer.subscribe(f"{LOOP}/station/+/channel/+/telemetry", 1)
    assert viewer.quiet() == 10_000


def test_what_was_saved_survives_a_kill(hall: Hall, tmp_path: Path, connect: Connect) -> None:
    """A station that never comes back is still known, and no half-written file keeps the broker from starting."""
    ports = three_ports()
    there = Hall(hall.folder, *ports)
    config = tmp_path / "production.conf"
    config.write_text(production_text(hall.folder, tmp_path, ports))
    with start("mosquitto", config=config, data_dir=tmp_path) as first:
        connect(first, there, "s1").publish(f"{S1}/status", b"offline", retain=True)
        time.sleep(2.5)
        first.kill()
    with start("mosquitto", config=config, data_dir=tmp_path) as second:
        viewer = connect(second, there, "viewer")
        viewer.subscribe(f"{LOOP}/station/+/status", 1)
        assert viewer.wait_for(1) == [(f"{S1}/status", b"offline", True)]
