"""The commands, each a few lines that hand over to the part that does the work."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that `zeroloop --help` is quick
# ruff: noqa: PLR0917, FBT002 - a command's parameters are its options, which typer calls by name

import asyncio
import json
import math
import os
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zeroloop import audit, conforming, credentials

if TYPE_CHECKING:
    from schemas.messages import Reply
    from station.connection import Connection
    from zeroloop.reach import Reach

app = typer.Typer(
    name="zeroloop",
    help="Keeps the total power of a battery test hall's loop at zero.",
    epilog="Exit codes: 0 done; 1 refused, unanswered or broken off by a fault; 2 could not begin; 130 Ctrl-C.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(audit.app)
app.add_typer(credentials.app)
app.add_typer(conforming.app)

Host = Annotated[str | None, typer.Option(help="The broker's host; without it the server is found as a station does.")]
Port = Annotated[int | None, typer.Option(help="The broker's port.")]
Loop = Annotated[str | None, typer.Option(help="The loop, where more than one answers.")]
Config = Annotated[
    Path | None,
    typer.Option(help="An equalizer.toml or station.toml whose broker and loop are to be used, or your credentials."),
]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.")]
users = typer.Typer(help="Who may sign in to the page: add, list, remove.")
app.add_typer(users, name="dashboard-user")

PageConfig = Annotated[
    Path | None,
    typer.Option("--config", help="The dashboard.toml whose state folder is meant; without it, the defaults."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]
Station = Annotated[str, typer.Argument(help="The station's id.")]
Channel = Annotated[str, typer.Argument(help="The channel's id.")]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"zeroloop {version('zeroloop')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def demo(
    seconds: Annotated[
        float | None, typer.Option(help="End by itself after this time; without it, Ctrl-C ends.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Keep logs and state here; without it they are removed.")
    ] = None,
    kind: Annotated[
        Literal["auto", "mosquitto", "embedded"],
        typer.Option("--broker", help="auto: Mosquitto where it is installed."),
    ] = "auto",
) -> None:
    """Run a whole hall on this computer."""
    from zeroloop.demo.run import run_demo
    from zeroloop.process import log_to_stderr

    log_to_stderr("error")
    raise typer.Exit(run_demo(seconds, state_dir, kind))


@app.command()
def broker(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port for MQTT.")] = 1883,
    websocket_port: Annotated[int | None, typer.Option(help="A port for MQTT over WebSockets.")] = None,
    kind: Annotated[Literal["auto", "mosquitto", "embedded"], typer.Option(help="Which broker.")] = "auto",
    config: Annotated[Path | None, typer.Option(help="The broker's own configuration file, used as it stands.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where it keeps its data and its log.")] = Path("state-broker"),
) -> None:
    """Run a broker, Mosquitto or the embedded one."""
    from zeroloop.brokerage import run_broker

    run_broker(kind, host=host, port=port, websocket_port=websocket_port, data_dir=data_dir, config=config)


@app.command()
def equalizer(
    config: Annotated[Path | None, typer.Option(help="equalizer.toml; without it, the defaults.")] = None,
    log_level: LogLevel = "info",
) -> None:
    """Run the server that balances a loop."""
    from equalizer.config import EqualizerSettings
    from equalizer.service import EqualizerService
    from transport.supervision import Supervisor
    from zeroloop import clocks
    from zeroloop.process import calm_collector, log_to_stderr, read_settings, until_stopped

    log_to_stderr(log_level)
    calm_collector()
    service = EqualizerService(
        read_settings(EqualizerSettings, config),
        base_dir=_folder(config),
        clock=clocks.monotonic_s,
        utc=clocks.unix_time_s,
        supervisor=Supervisor(os.environ),
    )
    asyncio.run(until_stopped(service.run))


@app.command()
def station(
    config: Annotated[Path, typer.Option(help="station.toml.")],
    log_level: LogLevel = "info",
) -> None:
    """Run a station: the channels of one cycler."""
    from station.config import StationSettings
    from station.drivers.protocol import DriverConfigurationError
    from station.drivers.registry import load
    from station.service import StationService
    from transport.supervision import Supervisor
    from zeroloop import clocks
    from zeroloop.process import log_to_stderr, read_settings, until_stopped

    log_to_stderr(log_level)
    settings = read_settings(StationSettings, config)
    options = dict(settings.driver.model_extra or {})
    try:
        service = StationService(
            settings,
            base_dir=_folder(config),
            clock=clocks.monotonic_s,
            utc=clocks.unix_time_s,
            driver=load(settings.driver.type)(options, str(_folder(config))),
            version=version("zeroloop"),
            supervisor=Supervisor(os.environ),
        )
        asyncio.run(until_stopped(service.run))
    except DriverConfigurationError as error:  # a driver does not know where its options stand
        raise DriverConfigurationError(f"{config}: {error}") from None


@app.command()
def dashboard(
    config: Annotated[Path | None, typer.Option(help="dashboard.toml; without it, the defaults.")] = None,
    host: Host = None,
    port: Port = None,
    loop: Loop = None,
    log_level: LogLevel = "info",
) -> None:
    """Serve the page: the loop live, history, channels, alarms."""
    from zeroloop.page import run_page
    from zeroloop.process import log_to_stderr

    log_to_stderr(log_level)
    run_page(config, _reach(host, port, loop, config))


@users.command(name="add")
def add_user(
    name: Annotated[str, typer.Argument(help="1 to 64 letters, digits, '_' or '-'.")],
    role: Annotated[Literal["viewer", "operator"], typer.Option(help="Who may look, or look and act.")] = "viewer",
    password_file: Annotated[
        Path | None, typer.Option(help="A file whose first line is the password; without it, you are asked.")
    ] = None,
    config: PageConfig = None,
) -> None:
    """Let somebody sign in, or change their password or role."""
    from zeroloop.page import add_user as add

    typer.echo(add(config, name, role, password_file))


@users.command(name="list")
def list_users(config: PageConfig = None, as_json: AsJson = False) -> None:
    """List who may sign in to the page."""
    from zeroloop.page import list_users as listed

    users = listed(config)
    if as_json:
        typer.echo(json.dumps([{"name": name, "role": role} for name, role in users.items()], indent=2))
        return
    if not users:
        typer.echo("nobody yet; `zeroloop dashboard-user add NAME` lets somebody in", err=True)
    for name, role in users.items():
        typer.echo(f"{name}  {role}")


@users.command(name="remove")
def remove_user(name: Annotated[str, typer.Argument(help="Who.")], config: PageConfig = None) -> None:
    """Take somebody out. Whoever is signed in under that name is out at once."""
    from zeroloop.page import remove_user as remove

    remove(config, name)
    typer.echo(f"{name} is removed")


def _folder(config: Path | None) -> Path:
    return Path.cwd() if config is None else config.resolve().parent


# ── what only listens ────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def discover(
    seconds: Annotated[float, typer.Option(help="How long to look.")] = 4.0,
    as_json: AsJson = False,
    host: Host = None,
    port: Port = None,
    loop: Loop = None,
    config: Config = None,
) -> None:
    """List the brokers and servers that can be found."""
    from rich.console import Console

    from zeroloop.finding import list_found

    _quiet()
    raise typer.Exit(asyncio.run(list_found(_reach(host, port, loop, config), seconds, Console(), as_json=as_json)))


@app.command()
def watch(
    once: Annotated[bool, typer.Option("--once", help="Print what is known now, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; without --once a line a message.")] = False,
    host: Host = None,
    port: Port = None,
    loop: Loop = None,
    config: Config = None,
) -> None:
    """Show the loop live: its power, its channels, its alarms."""
    from rich.console import Console

    from zeroloop.process import until_stopped
    from zeroloop.watch import snapshot
    from zeroloop.watch import watch as follow

    _quiet()
    reach = _reach(host, port, loop, config)

    async def listen(stop: asyncio.Event) -> None:
        connection = await reach.connection()
        if once:
            await snapshot(connection, Console(), as_json=as_json)
        else:
            await follow(connection, Console(), stop, as_json=as_json)

    asyncio.run(until_stopped(listen))


@app.command()
def doctor(
    seconds: Annotated[float, typer.Option(help="How long to listen.", min=1.0, max=600.0)] = 5.0,
    as_json: AsJson = False,
    host: Host = None,
    port: Port = None,
    loop: Loop = None,
    config: Config = None,
) -> None:
    """Say what is wrong in a hall and which command mends it."""
    from rich.console import Console

    from zeroloop.doctor.run import diagnose

    _quiet()
    reach = _reach(host, port, loop, config)
    raise typer.Exit(asyncio.run(diagnose(reach, seconds, Console(), as_json=as_json)))


@app.command()
def purge(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; without --yes it only lists.")] = False,
    host: Host = None,
    port: Port = None,
    loop: Loop = None,
    config: Config = None,
) -> None:
    """Remove what the broker keeps of stations that are gone. It is shown first."""
    from rich.console import Console

    from zeroloop.doctor.purge import purge as remove

    _quiet()
    raise typer.Exit(remove(_reach(host, port, loop, config), Console(), yes=yes, as_json=as_json))


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="The file.")] = Path("hall.parquet"),
    seconds: Annotated[
        float | None, typer.Option(help="End by itself after this time; without it, Ctrl-C ends.")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Make the file of what a killed recorder left.")] = False,
    host: Host = None,
    port: Port = None,
    loop: Loop = None,
    config: Config = None,
) -> None:
    """Record everything that a loop says. With the equalizer's --config it can be replayed."""
    from recording.writer import finish as finish_recording
    from zeroloop.process import until_stopped
    from zeroloop.recorder import record as write

    _quiet()
    if finish:
        typer.echo(f"{out}: {finish_recording(out)} messages")
        return
    reach = _reach(host, port, loop, config)

    async def listen(stop: asyncio.Event) -> None:
        count = await write(reach, out, seconds, stop, lambda text: typer.echo(text, err=True))
        typer.echo(f"{out}: {count} messages")

    asyncio.run(until_stopped(listen))


@app.command()
def export(
    station: Annotated[str, typer.Option(help="The station's id.")],
    channel: Annotated[str, typer.Option(help="The channel's id.")],
    since: Annotated[
        str | None, typer.Option("--from", help="A time: 2026-11-23T08:00, or seconds since 1970.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="A time, as --from.")] = None,
    recording: Annotated[Path, typer.Option(help="What `zeroloop record` wrote.")] = Path("hall.parquet"),
    out: Annotated[Path | None, typer.Option(help="A .csv or .parquet; without it STATION-CHANNEL.bdf.csv.")] = None,
) -> None:
    """Write a channel's history as Battery Data Format."""
    from zeroloop.recorder import export as write

    path = Path(f"{station}-{channel}.bdf.csv") if out is None else out
    typer.echo(f"{path}: {write(recording, station, channel, path, since=since, until=until)} rows")


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def equalize(
    station: Station, channel: Channel, host: Host = None, port: Port = None, loop: Loop = None, config: Config = None
) -> None:
    """Set a channel as an equalization channel."""
    _command_channel(_reach(host, port, loop, config), station, channel, "equalize")


@app.command()
def stop(
    station: Station, channel: Channel, host: Host = None, port: Port = None, loop: Loop = None, config: Config = None
) -> None:
    """Stop a channel: 0 W, and out of the equalization mode."""
    _command_channel(_reach(host, port, loop, config), station, channel, "stop")


@app.command()
def start(
    station: Station, channel: Channel, host: Host = None, port: Port = None, loop: Loop = None, config: Config = None
) -> None:
    """Start a channel's own program."""
    _command_channel(_reach(host, port, loop, config), station, channel, "start")


@app.command(name="clear-alarm")
def clear_alarm(
    station: Station, channel: Channel, host: Host = None, port: Port = None, loop: Loop = None, config: Config = None
) -> None:
    """Clear a channel's alarm."""
    _command_channel(_reach(host, port, loop, config), station, channel, "clear_alarm")


@app.command()
def pause(host: Host = None, port: Port = None, loop: Loop = None, config: Config = None) -> None:
    """Pause the balancing: all equalization channels to 0 W."""
    _command_loop(_reach(host, port, loop, config), "pause")


@app.command()
def resume(host: Host = None, port: Port = None, loop: Loop = None, config: Config = None) -> None:
    """Go on balancing."""
    _command_loop(_reach(host, port, loop, config), "resume")


# A negative number looks like an option; what is no option of ours is taken as the argument.
@app.command(context_settings={"ignore_unknown_options": True})
def target(
    power_w: Annotated[float, typer.Argument(metavar="W", help="In W; positive: drawn from the grid.")],
    host: Host = None,
    port: Port = None,
    loop: Loop = None,
    config: Config = None,
) -> None:
    """Set what the loop's total power is steered to."""
    from schemas.settings import ConfigurationError

    if not math.isfinite(power_w):
        raise ConfigurationError(f"W: must be a finite number, not {power_w}")
    _command_loop(_reach(host, port, loop, config), "set_target", power_w)


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="The folder, or the file; without it, the project's own.")] = None,
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="One AsyncAPI 3 document; a FILE.html shows it to people.")
    ] = False,
) -> None:
    """Write the contract as JSON Schemas, or as AsyncAPI."""
    from zeroloop.schema import FOLDER, write, write_asyncapi

    for path in [write_asyncapi(out)] if asyncapi else write(FOLDER if out is None else out):
        typer.echo(path)


@app.command()
def man(out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None) -> None:
    """Print the manual page; `zeroloop man | man -l -` shows it."""
    from zeroloop.manual import render

    text = render(app)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        typer.echo(out)


@app.command()
def simulate(
    scenario: Annotated[Path, typer.Argument(help="A TOML (simulation/scenarios has some), or a recording.")],
    out: Annotated[Path, typer.Option(help="The folder for the report and the data.")] = Path("simulated"),
    seconds: Annotated[float | None, typer.Option(help="Another length than the scenario's, in virtual time.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the scenario's.")] = None,
    variant: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run this variant only; may be repeated.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="For a recording: another equalizer.toml; may be repeated."),
    ] = None,
) -> None:
    """Run a hall, or a recording's loads, in virtual time. Reports how well it was balanced."""
    from rich.console import Console

    from zeroloop.simulating import run

    _quiet()
    run(
        scenario,
        out,
        seed=seed,
        seconds=seconds,
        variants=tuple(variant or ()),
        console=Console(),
        against=tuple(against or ()),
    )


@app.command()
def size(
    scenario: Annotated[Path, typer.Argument(help="The scenario's TOML; simulation/scenarios has some.")],
    out: Annotated[Path, typer.Option(help="The folder for the report and the data.")] = Path("sized"),
    channels: Annotated[str | None, typer.Option(help="Numbers of equalization channels, as 1,2,4,8.")] = None,
    rating_kw: Annotated[
        str | None, typer.Option(help="Ratings of each; without it half, once and twice the scenario's.")
    ] = None,
    capacity_kwh: Annotated[
        str | None, typer.Option(help="Battery of each; without it half and all of the scenario's.")
    ] = None,
    worth: Annotated[
        float | None,
        typer.Option(help="kWh a day that a further kW must avoid to be worth it; without it a fifth of the first's."),
    ] = None,
    variant: Annotated[str | None, typer.Option(help="The scenario's variant that they are tried with.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Another length than the scenario's, in virtual time.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the scenario's.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes at a time; without it one for each core.")] = None,
) -> None:
    """Try sizes of equalization, and say what each would buy."""
    from rich.console import Console

    from zeroloop.sizing import Wishes, run

    _quiet()
    wishes = Wishes.of(channels=channels, rating_kw=rating_kw, capacity_kwh=capacity_kwh, worth=worth, variant=variant)
    run(scenario, out, wishes, seed=seed, seconds=seconds, jobs=jobs, console=Console())


def _reach(host: str | None, port: int | None, loop: str | None, config: Path | None) -> "Reach":
    from zeroloop.reach import Reach

    return Reach(host, port, loop, config)


def _quiet() -> None:
    from zeroloop.process import log_to_stderr

    log_to_stderr("error")


def _command_channel(reach: "Reach", station: str, channel: str, action: str) -> None:
    from schemas.settings import ConfigurationError
    from schemas.topics import is_name
    from zeroloop.ask import ask_channel

    for name in (station, channel):
        if not is_name(name):
            raise ConfigurationError(f"{name!r} is no name: 1 to 64 letters, digits, '_' or '-'")
    _answer(reach, lambda connection: ask_channel(connection, station, channel, action))


def _command_loop(reach: "Reach", action: str, target_power_w: float | None = None) -> None:
    from zeroloop.ask import ask_loop

    _answer(reach, lambda connection: ask_loop(connection, action, target_power_w))


def _answer(reach: "Reach", ask: "Callable[[Connection], Coroutine[Any, Any, Reply]]") -> None:
    """Ask, print the reply, and end with 1 where it is a refusal."""
    from schemas.messages import ReplyResult

    _quiet()

    async def exchange() -> "Reply":
        return await ask(await reach.connection())

    reply = asyncio.run(exchange())
    if reply.result is ReplyResult.REJECTED:
        typer.echo(f"rejected, {reply.reason}: {reply.text}", err=True)
        raise typer.Exit(1)
    typer.echo(f"accepted: {reply.text}")
