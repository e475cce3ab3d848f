"""Runs a broker in the foreground."""

import asyncio
from pathlib import Path
from typing import Literal

import typer

from broker.errors import BrokerDiedError
from broker.run import RunningBroker, start
from schemas.settings import ConfigurationError
from zeroloop.process import until_stopped

_LOOK_EVERY_S = 0.5
_HIGHEST_PORT = 65535


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
    for option, number in (("--port", port), ("--websocket-port", websocket_port)):
        if number is not None and not 1 <= number <= _HIGHEST_PORT:
            raise ConfigurationError(f"{option}: must be a whole number from 1 to {_HIGHEST_PORT}, not {number}")
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
