"""What every long-running command shares: its log, its configuration file, and how it is stopped."""

import asyncio
import contextlib
import difflib
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from schemas.settings import ENVIRONMENT_PREFIX, BrokerSettings, ConfigurationError, Section, parse, variables
from transport.credentials import resolved
from transport.files import read_text

S = TypeVar("S", bound=Section)

_log = logging.getLogger(__name__)

_COLLECT_AFTER = (50_000, 20, 50)
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def log_to_stderr(level: str) -> None:
    """Send the log to stderr, a line an event; journald and Docker take it from there.

    Raises:
        ConfigurationError: there is no such level.
    """
    names = ("debug", "info", "warning", "error")
    if level.lower() not in names:
        raise ConfigurationError(f"--log-level: must be one of {', '.join(names)}, not {level!r}")
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s %(message)s",
        force=True,
    )
    # Where a network is down, its warnings are tracebacks; `station.dns_sd` and `equalizer.advertise` say it on a line.
    logging.getLogger("zeroconf").setLevel(logging.NOTSET if level.lower() == "debug" else logging.ERROR)


def calm_collector() -> None:
    """Have the garbage collector look less often, as the equalizer keeps millions of objects and makes few cycles.

    With Python's thresholds a hall of 20,000 channels pauses for 150 ms at a collection of the oldest generation, which
    comes every few seconds; with these for a third of that, and rarely. What has been imported stays, and is looked at
    no more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def read_settings(model: type[S], path: Path | None) -> S:
    """Return the settings in a file, overridden by the environment; without a file, the defaults.

    Raises:
        ConfigurationError: one line that names the file, the key and what is allowed.
    """
    if path is None:
        settings = _with_credentials(parse(model, "", source="the defaults", environment=os.environ), Path.cwd())
        warn_of_unknown(model, os.environ)
        return settings
    text = read_text(path)
    settings = _with_credentials(parse(model, text, source=str(path), environment=os.environ), path.resolve().parent)
    warn_of_unknown(model, os.environ)
    return settings


def warn_of_unknown(model: type[Section], environment: Mapping[str, str]) -> None:
    """Log each variable that names a table of the configuration and no key of it: most often a misspelt one.

    It is no error: one environment may serve several programs, whose tables of one name have different keys.
    """
    known = variables(model)
    tables = tuple({f"{ENVIRONMENT_PREFIX}{table.upper()}_" for table, _ in known.values()})
    for name in sorted(environment):
        if name.startswith(tables) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            _log.warning("%s is no setting and changes nothing%s", name, hint)


def _with_credentials(settings: S, base_dir: Path) -> S:
    """Read the credentials file that `[broker]` names, if it does; relative to the configuration's folder."""
    broker = getattr(settings, "broker", None)
    if not isinstance(broker, BrokerSettings):
        return settings
    return settings.model_copy(update={"broker": resolved(broker, base_dir)})


async def until_stopped(service: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a service until it ends or SIGINT or SIGTERM asks it to; a second signal breaks it off."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    task = asyncio.ensure_future(service(stop))

    def asked() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, asked)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
