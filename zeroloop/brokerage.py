"""Runs a broker in the foreground."""

import asyncio
from pathlib import Path
from typing import Literal

import typer

from broker.errors import BrokerDiedError
from broker.run import RunningBroker, start
from zeroloop import ports
from zeroloop.process import until_stopped

_LOOK_EVERY_S = 0.5


def run_broker(
    kind: Literal["auto", "mosquitto", "embedded"],
    *,
    host: str,
    port: int,
    websocket_port: int | None,
    data_dir: Path,
    config: Path | None,
) -> None:
    """Run a broker until SIGINT or SIGTERM.

    Raises:
        ConfigurationError: a port is none.
        BrokerError: it did not start, or ended by itself; the text says why.
    """
    ports.check("--port", port)
    ports.check("--websocket-port", websocket_port)
    if config is not None and not config.is_file():
        raise FileNotFoundError(f"{config}: no such file")
    with start(kind, host=host, port=port, websocket_port=websocket_port, data_dir=data_dir, config=config) as running:
        typer.echo(f"{running.kind} (MQTT {running.protocol}) on {running.host}:{running.port}, log {running.log_path}")
        asyncio.run(until_stopped(lambda stop: _watch(running, stop)))


async def _watch(running: RunningBroker, stop: asyncio.Event) -> None:
    while not stop.is_set():
        if not running.running:
            raise BrokerDiedError(f"{running.kind} ended by itself:\n{running.log_tail()}")
        try:
            async with asyncio.timeout(_LOOK_EVERY_S):
                await stop.wait()
        except TimeoutError:
            continue
