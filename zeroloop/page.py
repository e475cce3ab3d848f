"""Starts the page, and keeps the list of who may sign in."""

import asyncio
import datetime as dt
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from schemas.settings import ConfigurationError
from zeroloop import clocks
from zeroloop.ask import author
from zeroloop.process import read_settings, until_stopped
from zeroloop.reach import Reach


def run_page(config: Path | None, reach: Reach) -> None:
    """Serve the page until stopped.

    Raises:
        ConfigurationError: the configuration, an option or the installation does not allow it.
        DiscoveryError: no server was found, or too many.
    """
    require_page()
    from dashboard.accounts import Accounts  # noqa: PLC0415 - an extra that may be missing
    from dashboard.config import DashboardSettings  # noqa: PLC0415 - as above
    from dashboard.service import DashboardService, refuse_to_be_open  # noqa: PLC0415 - as above

    settings = read_settings(DashboardSettings, config)
    folder = Path.cwd() if config is None else config.resolve().parent
    # Before a server is looked for: who has forgotten a user should not have to wait for it.
    refuse_to_be_open(settings, Accounts(folder / settings.state.dir))

    async def serve(stop: asyncio.Event) -> None:
        if settings.broker is not None and settings.loop.name is not None and not reach.told and reach.loop is None:
            broker, loop = settings.broker, settings.loop.name
        else:
            connection = await reach.connection()
            broker, loop = connection.broker, connection.loop
        service = DashboardService(
            settings,
            broker=broker,
            loop=loop,
            base_dir=folder,
            clock=clocks.monotonic_s,
            utc=clocks.unix_time_s,
            local=lambda unix_time_s: dt.datetime.fromtimestamp(unix_time_s, dt.UTC).astimezone(),
            somebody=author(),
            version=version("zeroloop"),
        )
        await service.run(stop)

    asyncio.run(until_stopped(serve))


def require_page() -> None:
    """See to it that the page is installed.

    Raises:
        ConfigurationError: it is not.
    """
    if not has_page():
        raise ConfigurationError("the page is not installed; install it with: pip install 'zeroloop[dashboard]'")


def has_page() -> bool:
    """Tell whether the page is installed: it is an extra."""
    return all(find_spec(name) is not None for name in ("nicegui", "argon2"))
