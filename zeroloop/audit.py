"""`zeroloop audit`: is the log as it was written, and what does it say?"""
# ruff: noqa: PLC0415 - a command imports what it needs, so that `zeroloop --help` is quick

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from equalizer.audit.chain import Claim, Verdict
    from equalizer.audit.log import Paths

app = typer.Typer(name="audit", help="Check and read the equalizer's audit log.")

Folder = Annotated[Path, typer.Argument(help="The equalizer's state folder.")]
Loop = Annotated[str, typer.Option(help="Which loop's log.")]

_FOLDER = Path("state")
_LOOP = "main"


@app.command()
def verify(
    folder: Folder = _FOLDER,
    loop: Loop = _LOOP,
    known: Annotated[
        str | None, typer.Option(metavar="SEQ:HASH", help="A head that was noted elsewhere; this log must have it.")
    ] = None,
) -> None:
    """Tell whether every line is as it was written. 0: it is; 1: what is not is on stderr."""
    paths = _paths(folder, loop)
    noted = () if known is None else (_known(known),)
    verdict = _judge(paths, noted)
    for fault in verdict.faults:
        typer.echo(fault, err=True)
    typer.echo(f"{verdict.entries} entries, head {verdict.head.seq}:{verdict.head.hash}")
    raise typer.Exit(1 if verdict.faults else 0)


@app.command()
def show(
    folder: Folder = _FOLDER,
    loop: Loop = _LOOP,
    as_json: Annotated[bool, typer.Option("--json", help="The lines as they stand.")] = False,  # noqa: FBT002 - an option
    last: Annotated[int, typer.Option(help="Only so many, the newest; 0: all.", min=0)] = 0,
    kind: Annotated[str | None, typer.Option(help="Only entries of this kind.")] = None,
) -> None:
    """Print the log, the oldest entry first."""
    from equalizer.audit import chain

    wanted = []
    for raw in _paths(folder, loop).lines():
        line = chain.read(raw)
        if line is None:
            wanted.append("(a line that was changed or is cut off)")
        elif kind in (None, line.entry.get("kind")):
            wanted.append(raw.decode().rstrip("\n") if as_json else _plain(line.entry))
    for text in wanted[-last:]:
        typer.echo(text)


def _paths(folder: Path, loop: str) -> "Paths":
    from equalizer.audit.log import Paths
    from schemas.settings import ConfigurationError
    from schemas.topics import is_name

    if not is_name(loop):
        raise ConfigurationError(f"--loop: {loop!r} is no name: 1 to 64 letters, digits, '_' or '-'")
    paths = Paths(folder, loop)
    if not paths.current.exists() and not paths.older():
        raise ConfigurationError(f"{folder}: has no audit log of loop {loop!r}")
    return paths


def _judge(paths: "Paths", noted: "tuple[Claim, ...]") -> "Verdict":
    """Look through the log; once more where something is amiss, as it may be written to meanwhile."""
    from equalizer.audit import chain

    verdict = chain.verify(paths.lines(), (paths.claim(), *noted))
    return verdict if not verdict.faults else chain.verify(paths.lines(), (paths.claim(), *noted))


def _known(text: str) -> "Claim":
    from equalizer.audit.chain import Claim, Head
    from schemas.settings import ConfigurationError

    seq, _, digest = text.partition(":")
    if not seq.isdecimal() or len(digest) != 64:  # noqa: PLR2004 - SHA-256 in hexadecimal
        raise ConfigurationError(f"--known: must be SEQ:HASH as `verify` prints it, not {text!r}")
    return Claim(first_seq=int(seq), head=Head(int(seq), digest))


def _plain(entry: "object") -> str:
    from datetime import UTC, datetime

    facts = dict(entry)  # type: ignore[call-overload]  # a mapping
    when = datetime.fromtimestamp(float(facts.pop("unix_time_s")), UTC).isoformat(timespec="milliseconds")
    head = f"{facts.pop('seq'):>6} {when} {facts.pop('kind'):<16}"
    facts.pop("previous")
    return " ".join([head, *(f"{key}={_value(value)}" for key, value in facts.items() if value is not None)])


def _value(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() and " " not in value else json.dumps(value)
