"""`zeroloop conform`: tries somebody else's station or equalizer, and prints what it breaks."""
# ruff: noqa: PLC0415 - a command imports what it needs, so that `zeroloop --help` is quick
# ruff: noqa: PLR0917, FBT002 - a command's parameters are its options, which typer calls by name

import asyncio
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conform.parts import EqualizerPart, StationPart

if TYPE_CHECKING:
    from conform.equalizer import EqualizerTrial
    from conform.party import Party
    from conform.record import Record, Verdict
    from conform.relay import Relay
    from conform.station import StationTrial
    from schemas.settings import BrokerSettings

app = typer.Typer(
    name="conform",
    help="Hold an implementation against the contract, rule by rule.",
)

Host = Annotated[str | None, typer.Option(help="The broker's host; without it this computer.")]
Port = Annotated[int | None, typer.Option(help="The broker's port.")]
LoopName = Annotated[str, typer.Option(help="The loop.")]
Config = Annotated[Path | None, typer.Option(help="A configuration whose broker is to be used, or your credentials.")]
Quick = Annotated[bool, typer.Option("--quick", help="Leave out what takes long.")]
Traffic = Annotated[Path | None, typer.Option(help="Write what was said to this file, a line of JSON a message.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]

_MARKS = {"kept": "ok", "broken": "BROKEN", "not_tried": "-"}


@app.command()
def station(
    station: Annotated[str, typer.Option("--station", help="The station's id.")],
    channel: Annotated[str | None, typer.Option(help="Which channel; without it the first that is free.")] = None,
    power_w: Annotated[float, typer.Option(help="What to ask of it, charging and discharging.")] = 1000.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before power flows.")] = False,
    provoke: Annotated[
        bool, typer.Option("--provoke", help="Ask for twice its limit for a moment too, and play a late will.")
    ] = False,
    relay: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Pass the station's connection on from here to the broker, and break it; it must connect here.",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Start the station with this; it is killed, and started again."),
    ] = None,
    trip: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Run this, which makes the channel trip and takes the cause away; `sleep 20` for a person.",
        ),
    ] = None,
    only: Annotated[StationPart | None, typer.Option(help="Try this part alone.")] = None,
    quick: Quick = False,
    traffic: Traffic = None,
    as_json: AsJson = False,
    host: Host = None,
    port: Port = None,
    loop: LoopName = "main",
    config: Config = None,
) -> None:
    """Try a station. Power flows through one of its channels, which is stopped at 0 W in the end."""
    from conform.rules.station import RULES
    from conform.station import StationTrial
    from schemas.settings import ConfigurationError
    from schemas.topics import is_name
    from zeroloop import clocks

    for name in (station, loop, *(() if channel is None else (channel,))):
        if not is_name(name):
            raise ConfigurationError(f"{name!r} is no name: 1 to 64 letters, digits, '_' or '-'")
    _finite("--power-w", power_w)
    broker = _broker(host, port, loop, config)
    beyond = ", and asked for twice its limit" if provoke else ""
    typer.echo(
        f"{station}/{channel or 'its first free channel'} at {broker.host}:{broker.port}, loop {loop}, will be charged "
        f"and discharged with {power_w:g} W for about half a minute{beyond}.",
        err=True,
    )
    if not yes and not typer.confirm("May power flow?", err=True):
        raise typer.Exit(2)
    trial = StationTrial(
        broker,
        loop,
        station,
        clocks.monotonic_s,
        clocks.unix_time_s,
        channel=channel,
        power_w=power_w,
        quick=quick,
        provoke=provoke,
        relay=None if relay is None else _relay(relay, broker),
        party=_party(run),
        trip=_party(trip),
        only=only,
        progress=_progress,
    )
    _tried(trial, RULES, traffic, as_json=as_json)


@app.command()
def equalizer(
    power_w: Annotated[float, typer.Option(help="Of the kit's own load; nothing of it is real.")] = 20_000.0,
    freeze_w: Annotated[float, typer.Option(help="The equalizer's control.freeze_w.")] = 50_000.0,
    run: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Start the equalizer with this, beside channels at work.")
    ] = None,
    only: Annotated[EqualizerPart | None, typer.Option(help="Try this part alone.")] = None,
    quick: Quick = False,
    traffic: Traffic = None,
    as_json: AsJson = False,
    host: Host = None,
    port: Port = None,
    loop: LoopName = "main",
    config: Config = None,
) -> None:
    """Try an equalizer. The kit makes stations for it, in a loop that is otherwise empty."""
    from conform.equalizer import EqualizerTrial
    from conform.rules.equalizer import RULES
    from zeroloop import clocks

    _finite("--power-w", power_w)
    _finite("--freeze-w", freeze_w)
    trial = EqualizerTrial(
        _broker(host, port, loop, config),
        loop,
        clocks.monotonic_s,
        clocks.unix_time_s,
        power_w=power_w,
        freeze_w=freeze_w,
        quick=quick,
        party=_party(run),
        only=only,
        progress=_progress,
    )
    _tried(trial, RULES, traffic, as_json=as_json)


def _broker(host: str | None, port: int | None, loop: str, config: Path | None) -> "BrokerSettings":
    from schemas.settings import BrokerSettings
    from zeroloop.process import log_to_stderr
    from zeroloop.reach import Reach

    log_to_stderr("error")
    configured = Reach(host, port, loop, config).request().configured
    return BrokerSettings() if configured is None else configured


def _party(command: str | None) -> "Party | None":
    from conform.party import Party

    return None if command is None else Party(command)


def _relay(place: str, broker: "BrokerSettings") -> "Relay":
    from conform.relay import Relay
    from schemas.settings import ConfigurationError
    from zeroloop import ports

    host, _, port = place.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) <= ports.HIGHEST:
        raise ConfigurationError(f"--relay: must be [HOST:]PORT, not {place!r}")
    return Relay(host.strip("[]") or "127.0.0.1", int(port), (broker.host, broker.port))


def _finite(option: str, power_w: float) -> None:
    from schemas.settings import ConfigurationError

    if not (math.isfinite(power_w) and power_w > 0.0):
        raise ConfigurationError(f"{option}: must be a finite number above 0, not {power_w}")


def _tried(
    trial: "StationTrial | EqualizerTrial", rules: Mapping[str, str], traffic: Path | None, *, as_json: bool
) -> None:
    """Run a trial, keep what was said where that is asked for, and print what came of it."""
    verdicts = asyncio.run(trial.run())
    if traffic is not None:
        _write(trial.record, traffic)
    _print(verdicts, rules, as_json=as_json)


def _write(record: "Record", file: Path) -> None:
    from conform.record import lines

    file.write_text("".join(f"{line}\n" for line in lines(record)), encoding="utf-8")


def _progress(text: str) -> None:
    typer.echo(f"… {text}", err=True)


def _print(verdicts: "list[Verdict]", rules: Mapping[str, str], *, as_json: bool) -> None:
    """Print what became of every rule, and end with 1 where one is broken."""
    broken = [verdict for verdict in verdicts if verdict.state == "broken"]
    if as_json:
        typer.echo(
            json.dumps([verdict._asdict() | {"contract": rules[verdict.rule]} for verdict in verdicts], indent=2)
        )
    else:
        for verdict in verdicts:
            typer.echo(f"{_MARKS[verdict.state]:<7} {verdict.rule:<24} {verdict.seen}")
            if verdict.state == "broken":
                typer.echo(f"{'':<7} the contract: {rules[verdict.rule]}")
        kept = sum(verdict.state == "kept" for verdict in verdicts)
        typer.echo(f"{kept} kept, {len(broken)} broken, {len(verdicts) - kept - len(broken)} not tried")
    raise typer.Exit(1 if broken else 0)
