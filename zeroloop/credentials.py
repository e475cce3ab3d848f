"""`zeroloop credentials`: who is let in."""
# ruff: noqa: PLC0415 - a command imports what it needs, so that `zeroloop --help` is quick
# ruff: noqa: PLR0917 - a command's parameters are its options, which typer calls by name

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from broker.authority import Entry
    from transport.credentials import Role

app = typer.Typer(
    name="credentials",
    help="Make, renew, revoke what broker and clients are known by.",
)

Folder = Annotated[Path, typer.Option(help="The authority's folder; it belongs on no computer of the hall.")]
Days = Annotated[float, typer.Option(help="How long the certificate holds.")]
Who = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, '_' and '-'.")]

_FOLDER = Path("credentials")
_DAYS = 825.0
LEAST_DAYS = 1.0
_DAY_S = 86400.0


@app.command()
def init(
    places: Annotated[
        list[str],
        typer.Argument(metavar="HOST...", help="The broker's host names and addresses; clients use the first."),
    ],
    folder: Folder = _FOLDER,
    port: Annotated[int, typer.Option(help="For MQTT over TLS.", min=1, max=65535)] = 8883,
    loop: Annotated[str | None, typer.Option(help="The only loop of this hall; without it, any.")] = None,
    broker_folder: Annotated[
        str | None, typer.Option(help="Where the broker's computer will keep its part; without it, where it is made.")
    ] = None,
    data_folder: Annotated[
        str | None, typer.Option(help="Where Mosquitto will keep retained messages; without it, in that folder.")
    ] = None,
) -> None:
    """Make a hall's own authority, and what its broker needs."""
    from broker.authority import found
    from zeroloop import clocks

    authority = found(
        folder,
        places,
        clocks.unix_time_s(),
        port=port,
        loop=loop,
        broker_folder=broker_folder,
        data_folder=data_folder,
    )
    typer.echo(f"{authority.folder / 'broker'}: for the broker's computer; `mosquitto -c mosquitto.conf` takes it")
    typer.echo(f"{authority.folder / 'authority.key'}: decides who is let in; keep it off the hall's computers")


@app.command()
def station(name: Who, folder: Folder = _FOLDER, days: Days = _DAYS) -> None:
    """Let a station in: it speaks for itself alone. NAME is its `id`."""
    _issue(folder, name, "station", days)


@app.command()
def equalizer(name: Who, folder: Folder = _FOLDER, days: Days = _DAYS) -> None:
    """Let an equalizer in: it reads everything and sends setpoints."""
    _issue(folder, name, "equalizer", days)


@app.command()
def operator(name: Who, folder: Folder = _FOLDER, days: Days = _DAYS) -> None:
    """Let a person in who commands channels and loops."""
    _issue(folder, name, "operator", days)


@app.command()
def dashboard(name: Who, folder: Folder = _FOLDER, days: Days = _DAYS) -> None:
    """Let somebody in who reads everything and writes nothing."""
    _issue(folder, name, "dashboard", days)


@app.command()
def meter(name: Who, folder: Folder = _FOLDER, days: Days = _DAYS) -> None:
    """Let the meter at the grid's connection in."""
    _issue(folder, name, "meter", days)


@app.command()
def renew(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Without it: all that expire within 60 days. `broker`: the broker's."),
    ] = None,
    folder: Folder = _FOLDER,
    days: Days = _DAYS,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="For `broker`: where it is from now on; may be repeated."),
    ] = None,
) -> None:
    """Give a name a new key and certificate. The old one stays good until it expires."""
    from broker.authority import BROKER, opened
    from zeroloop import clocks, durations

    durations.check("--days", days, least=LEAST_DAYS)
    with opened(folder, clocks.unix_time_s()) as authority:
        names = authority.due() if name is None else [name]
        for one in names:
            typer.echo(authority.renew(one, days, host or ()))
    if BROKER in names:
        _remind(folder)
    if not names:
        typer.echo("nothing expires within 60 days")


@app.command()
def revoke(name: Who, folder: Folder = _FOLDER) -> None:
    """Let a name in no more. The broker has to read its folder again."""
    from broker.authority import opened
    from zeroloop import clocks

    with opened(folder, clocks.unix_time_s()) as authority:
        authority.revoke(name)
    typer.echo(f"{name} is revoked")
    _remind(folder)


@app.command(name="list")
def list_names(
    folder: Folder = _FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")] = False,  # noqa: FBT002 - an option
) -> None:
    """Show who is let in, and until when."""
    from broker.authority import opened
    from zeroloop import clocks

    now_s = clocks.unix_time_s()
    with opened(folder, now_s) as authority:
        entries = sorted(authority.register.names.items())
    if as_json:
        listed = [
            {
                "name": name,
                "role": entry.role or "broker",
                "revoked": bool(entry.revoked),
                "expires_unix_time_s": entry.newest.expires_unix_time_s,
            }
            for name, entry in entries
        ]
        typer.echo(json.dumps(listed, indent=2))
    else:
        for name, entry in entries:
            typer.echo(f"{name:<24} {entry.role or 'broker':<10} {_state(entry, now_s)}")


def _issue(folder: Path, name: str, role: "Role", days: float) -> None:
    from broker.authority import opened
    from zeroloop import clocks, durations

    durations.check("--days", days, least=LEAST_DAYS)
    with opened(folder, clocks.unix_time_s()) as authority:
        typer.echo(authority.issue(name, role, days))
    _remind(folder)


def _remind(folder: Path) -> None:
    typer.echo(f"now copy {folder / 'broker'} to the broker's computer, and have it read anew (SIGHUP)", err=True)


def _state(entry: "Entry", now_s: float) -> str:
    if entry.revoked:
        return "revoked"
    days = (entry.newest.expires_unix_time_s - now_s) / _DAY_S
    return f"{days:.0f} days left" if days > 0.0 else "expired"
