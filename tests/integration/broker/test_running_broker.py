"""A broker of our own: it answers, says what is wrong, and does not outlive its parent."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from broker import BrokerDiedError, BrokerError, PortTakenError, ProgramMissingError, RunningBroker, start
from broker.answer import answers
from tests.patience import PATIENCE_S
from tests.ports import free_port

pytestmark = pytest.mark.broker


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(("kind", "protocol"), [("mosquitto", "5"), ("embedded", "3.1.1")])
def test_it_answers_when_start_returns_and_is_gone_when_stop_does(
    kind: Literal["mosquitto", "embedded"], protocol: str, tmp_path: Path
) -> None:
    port = free_port()
    websocket_port = free_port()
    broker = start(kind, port=port, websocket_port=websocket_port, data_dir=tmp_path)
    assert answers("127.0.0.1", port)
    assert (broker.kind, broker.protocol, broker.port) == (kind, protocol, port)
    assert websocket_accepts(websocket_port)
    broker.stop()
    assert not broker.running
    assert not answers("127.0.0.1", port)
    broker.stop()


def websocket_accepts(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as link:
        link.sendall(
            b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        return link.recv(64).startswith(b"HTTP/1.1 101")


def test_auto_takes_mosquitto_where_it_is_installed(mosquitto: Path, tmp_path: Path) -> None:
    assert mosquitto
    with start(port=free_port(), data_dir=tmp_path) as broker:
        assert broker.kind == "mosquitto"


def test_the_shipped_development_file_works_as_it_stands(mosquitto: Path, tmp_path: Path) -> None:
    from broker.mosquitto import DEVELOPMENT_FILE  # noqa: PLC0415 - the fixture has this name

    assert mosquitto
    try:
        broker = start("mosquitto", config=DEVELOPMENT_FILE, data_dir=tmp_path)
    except (PortTakenError, BrokerDiedError) as error:
        if not isinstance(error, PortTakenError) and "Address already in use" not in str(error):
            raise
        pytest.skip("1883 or 9001 is taken on this computer")
    with broker:
        assert (broker.host, broker.port) == ("127.0.0.1", 1883)
        assert websocket_accepts(9001)


def test_a_configuration_may_have_comments_in_any_encoding(mosquitto: Path, tmp_path: Path) -> None:
    assert mosquitto
    config, port = tmp_path / "halle.conf", free_port()
    config.write_text(f"# Prüfhalle\nlistener {port} 127.0.0.1\nallow_anonymous true\n", encoding="latin-1")
    with start("mosquitto", config=config, data_dir=tmp_path) as broker:
        assert broker.port == port


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1 is taken"):
            start(port=port, data_dir=tmp_path)


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_another_program_that_is_quicker_to_take_the_port_is_not_taken_for_the_broker(
    kind: Literal["mosquitto", "embedded"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two demos that start at once: both found the port free, and one is answered by the other's broker."""
    port = free_port()
    with start(kind, port=port, data_dir=tmp_path / "quicker") as quicker:
        monkeypatch.setattr("broker.run.refusal", lambda *_: None)
        with pytest.raises(BrokerDiedError):
            start(kind, port=port, data_dir=tmp_path / "slower")
        monkeypatch.undo()
        assert quicker.running


def test_a_broker_that_dies_is_quoted(mosquitto: Path, tmp_path: Path) -> None:
    assert mosquitto
    config = tmp_path / "wrong.conf"
    config.write_text(f"listener {free_port()} 127.0.0.1\nno_such_option true\n")
    with pytest.raises(BrokerDiedError, match="no_such_option"):
        start("mosquitto", config=config, data_dir=tmp_path)


def test_a_configuration_without_an_mqtt_listener_or_without_a_file_is_refused(mosquitto: Path, tmp_path: Path) -> None:
    assert mosquitto
    config = tmp_path / "none.conf"
    with pytest.raises(BrokerError, match=r"none\.conf: No such file"):
        start("mosquitto", config=config, data_dir=tmp_path)
    config.write_text("listener 9001\nprotocol websockets\n")
    with pytest.raises(BrokerError, match="no `listener` that speaks MQTT"):
        start("mosquitto", config=config, data_dir=tmp_path)


def test_a_missing_program_is_named_with_its_remedy(tmp_path: Path) -> None:
    """In a process whose file system holds no broker: an empty PATH, other system directories, another Python."""
    script = (
        "import sys, pathlib, broker, broker.programs as programs\n"
        "programs._SYSTEM_DIRECTORIES = ()\n"
        "programs.sysconfig.get_path = lambda name: '/nowhere'\n"
        "sys.executable = '/nowhere/python'\n"
        "broker.start('auto', data_dir=pathlib.Path(sys.argv[1]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ProgramMissingError.__name__ in run.stderr
    assert "install mosquitto" in run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only a normal exit ends the broker")
@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_the_broker_ends_when_its_parent_is_killed(kind: str, death: signal.Signals, tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib, broker\n"
        "b = broker.start(sys.argv[1], port=int(sys.argv[3]), data_dir=pathlib.Path(sys.argv[2]))\n"
        "print(b.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script, kind, str(tmp_path), str(free_port())],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        broker_pid = int(parent.stdout.readline())
        assert alive(broker_pid)
        assert os.getsid(broker_pid) == broker_pid, "Ctrl-C at the terminal would reach the broker before its clients"
        parent.send_signal(death)
        parent.wait(PATIENCE_S)
        assert wait_until(lambda: not alive(broker_pid))


def test_what_is_retained_survives_a_stop(mosquitto_broker: RunningBroker, client: Callable[..., Any]) -> None:
    client(mosquitto_broker, "stations").connect().publish_retained(100, qos=1)
    mosquitto_broker.stop()
    with start("mosquitto", port=mosquitto_broker.port, data_dir=mosquitto_broker.log_path.parent) as again:
        newcomer = client(again, "newcomer").connect()
        newcomer.subscribe("zeroloop/v1/main/station/+/channel/+/telemetry", 1)
        assert len(newcomer.wait_for(100)) == 100
