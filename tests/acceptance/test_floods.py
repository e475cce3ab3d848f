"""What a client with bad manners, or a stranger with many sockets, can do to a loop. The long form: `make floods`."""

import resource
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from broker import RunningBroker, find_mosquitto
from tests.authorities import Hall, make_hall
from tests.floods.__main__ import measured
from tests.floods.cable import SERVER, inside, refused, two_computers, why_not
from tests.floods.experiment import percentile
from tests.floods.rogue import in_session, packet, secured
from tests.ports import free_port

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(
        find_mosquitto() is None or shutil.which("mosquitto_pub") is None, reason="needs mosquitto and its clients"
    ),
]

IDLE_SOCKETS = 2000
STATUS = "zeroloop/v1/main/station/s1/status"


@pytest.fixture
def in_namespaces() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.root
@pytest.mark.usefixtures("in_namespaces")
def test_a_rogue_at_full_speed_slows_the_loop_by_less_than_a_second(
    tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    """A station of the hall sends the shortest messages that it may, as fast as TLS goes, from another computer."""
    found = measured("garbage", 12, tmp_path)
    before, reactions = ([float(value) for value in found[when]] for when in ("before_s", "during_s"))  # type: ignore[attr-defined]  # JSON
    assert callable(record_property)
    record_property("reaction_p99_s", percentile(reactions, 0.99))
    sys.stdout.write(f"p50 {percentile(reactions, 0.5):.3f} s, p99 {percentile(reactions, 0.99):.3f} s\n")
    assert found["rogue_alive"]
    assert found["refused"]["talkers"] > 0, "it was faster than the rules allow"  # type: ignore[index]  # JSON
    # The computer may be slow by itself: the rogue is answerable for the difference.
    assert percentile(reactions, 0.9) - percentile(before, 0.5) < 1.0


@pytest.mark.root
@pytest.mark.usefixtures("in_namespaces")
def test_a_stranger_holds_so_many_sockets_and_no_more() -> None:
    """The rules alone: any listener stands for the broker."""
    with two_computers() as (server, stranger):
        listening = (
            "import socket,time; s=socket.create_server(('0.0.0.0',8883),backlog=4096); print('ready',flush=True); "
            "time.sleep(60)"
        )
        knocking = (
            "import socket\nheld=[]\n"
            "for _ in range(200):\n"
            "    s=socket.socket(); s.settimeout(0.05)\n"
            "    try:\n"
            f"        s.connect(('{SERVER}',8883)); held.append(s)\n"
            "    except OSError: s.close()\n"
            "print(len(held))\n"
        )
        with subprocess.Popen(
            [*inside(server), sys.executable, "-c", listening], stdout=subprocess.PIPE, text=True
        ) as listener:
            assert listener.stdout is not None
            assert listener.stdout.readline().strip() == "ready"
            run = subprocess.run(
                [*inside(stranger), sys.executable, "-c", knocking],
                capture_output=True, text=True, timeout=100, check=True,
            )  # fmt: skip
            counts = refused(server)
            listener.kill()
        assert 0 < int(run.stdout) <= 64
        assert counts["crowd"] + counts["newcomers"] > 0


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    hall = make_hall(tmp_path / "credentials", free_port())
    hall.let_in("station", "s1", "s2")
    return hall


@pytest.fixture
def broker(hall: Hall, tmp_path: Path) -> Iterator[RunningBroker]:
    with hall.start(tmp_path / "broker") as running:
        yield running


def resident_bytes(broker: RunningBroker) -> int:
    return int(Path(f"/proc/{broker.pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_thousands_of_idle_sockets_keep_nobody_out(hall: Hall, broker: RunningBroker) -> None:
    """Strangers that connect and say nothing: even where no firewall counts them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < IDLE_SOCKETS + 200:
        if hard < IDLE_SOCKETS + 200:
            pytest.skip(f"needs {IDLE_SOCKETS + 200} open files, this user may have {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as held:
        for _ in range(IDLE_SOCKETS):
            held.enter_context(socket.create_connection(("127.0.0.1", hall.port), timeout=60.0))
        time.sleep(0.5)
        began_s = time.monotonic()
        assert hall.mosquitto_pub("s1", "-q", "1", "-t", STATUS, "-m", "x").returncode == 0
        took_s = time.monotonic() - began_s
        used_bytes = resident_bytes(broker)
    sys.stdout.write(f"let in after {took_s:.2f} s; the broker holds {used_bytes / 1e6:.0f} MB\n")
    assert used_bytes < 500e6
    assert hall.mosquitto_pub("s1", "-q", "1", "-t", STATUS, "-m", "x").returncode == 0


@pytest.mark.parametrize("said_first", [True, False], ids=["publish", "connect"])
def test_a_length_of_256_mb_is_not_believed(hall: Hall, broker: RunningBroker, said_first: bool) -> None:
    """Twenty clients announce the longest packet of MQTT and begin to send it."""
    before_bytes = resident_bytes(broker)
    kind = 0x30 if said_first else 0x10
    longest = packet(kind, b"\x00\x04MQTT\x04\x02\x00\x00" + b"x" * 1000, announced=268_435_455)
    with ExitStack() as held:
        links: list[ssl.SSLSocket] = []
        for number in range(20):
            if said_first:
                link = in_session("127.0.0.1", hall.port, hall.file("s2"), f"long-{number}")
            else:
                link = secured("127.0.0.1", hall.port, hall.file("s2"))
            links.append(held.enter_context(link))
            link.sendall(longest)
        for link in links:
            link.settimeout(60.0)
            with suppress(ConnectionError, ssl.SSLError):
                assert link.recv(100) == b"", "thrown out"
        assert resident_bytes(broker) - before_bytes < 50e6
        assert hall.mosquitto_pub("s1", "-q", "1", "-t", STATUS, "-m", "x").returncode == 0
