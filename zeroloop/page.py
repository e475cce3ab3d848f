"""Starts the page, and keeps the list of who may sign in."""

import asyncio
import datetime as dt
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from schemas.settings import ConfigurationError
from transport.credentials import own_header
from transport.files import first_line
from transport.supervision import Supervisor
from zeroloop import clocks, extras
from zeroloop.ask import author
from zeroloop.process import read_settings, until_stopped
from zeroloop.reach import Reach

if TYPE_CHECKING:
    from dashboard.accounts import Accounts


def run_page(config: Path | None, reach: Reach) -> None:
    """Serve the page until stopped.

    Raises:
        ConfigurationError: the configuration, an option or the installation does not allow it.
        DiscoveryError: no server was found, or too many.
    """
    extras.require("dashboard", "the page")
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
        header = own_header(broker)
        service = DashboardService(
            settings,
            broker=broker,
            loop=loop,
            base_dir=folder,
            clock=clocks.monotonic_s,
            utc=clocks.unix_time_s,
            local=lambda unix_time_s: dt.datetime.fromtimestamp(unix_time_s, dt.UTC).astimezone(),
            somebody=author(broker),
            version=version("zeroloop"),
            may_act=header is None or header.role != "dashboard",
            supervisor=Supervisor(os.environ),
        )
        await service.run(stop)

    asyncio.run(until_stopped(serve))


def add_user(config: Path | None, name: str, role: Literal["viewer", "operator"], password_file: Path | None) -> str:
    """Add a user or change one, and return what was done.

    Raises:
        ConfigurationError: the name, the password or a file cannot be used.
    """
    accounts = _accounts(config)
    from dashboard.accounts import Role  # noqa: PLC0415 - an extra that may be missing

    if password_file is None and not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask for the password at; give it with --password-file FILE")
    if password_file is None:
        password = typer.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True)
    else:
        password = first_line(password_file)
    known = accounts.put(name, Role(role), password)
    return f"{name} is {'changed' if known else 'added'} as {role}"


def list_users(config: Path | None) -> dict[str, str]:
    """Return the role of each user.

    Raises:
        ConfigurationError: the file of users cannot be read.
    """
    return {name: str(user.role) for name, user in sorted(_accounts(config).users().items())}


def remove_user(config: Path | None, name: str) -> None:
    """Take a user out.

    Raises:
        ConfigurationError: there is no such user.
    """
    _accounts(config).remove(name)


def _accounts(config: Path | None) -> "Accounts":
    extras.require("dashboard", "the page")
    from dashboard.accounts import Accounts  # noqa: PLC0415 - an extra that may be missing
    from dashboard.config import DashboardSettings  # noqa: PLC0415 - as above

    settings = read_settings(DashboardSettings, config)
    folder = Path.cwd() if config is None else config.resolve().parent
    return Accounts(folder / settings.state.dir)
