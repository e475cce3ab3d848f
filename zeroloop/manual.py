"""The manual page, made from the commands themselves."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from typer.main import get_command

FILE = Path(__file__).parents[1] / "docs" / "reference" / "zeroloop.1"
"""Where it stands in the tree; the wheel puts it among the manual pages."""

EXIT_CODES = {
    0: "done; doctor: all is well; conform: every rule was kept",
    1: "refused, unanswered or broken off by a fault; doctor: something was found; conform: a rule is broken; "
    "discover: no server; audit verify: a line is not as it was written; purge: the broker or you refused",
    2: "could not begin: the command line, a file, the configuration, or no broker or server",
    130: "ended by Ctrl-C",
}

_ABOUT = (
    "A station runs beside each cycler, one equalizer in the hall. They meet at an MQTT broker. Power is positive "
    "where a battery is charged, or the hall draws from the grid."
)

_ENVIRONMENT = {
    "ZEROLOOP_TABLE_KEY": "overrides a key of a table of the configuration file: ZEROLOOP_CONTROL_DELAY_S=12 is "
    "delay_s of [control]; ZEROLOOP_BROKER_HOST and ZEROLOOP_BROKER_PORT say where the broker is.",
    "XDG_STATE_HOME": "where the commands remember their server (zeroloop/connection.json); else ~/.local/state.",
}


def render(app: typer.Typer) -> str:
    """Return the manual page, in the man macros of groff."""
    root: Any = get_command(app)
    lines = [
        '.\\" Made by `zeroloop man`; changes by hand are lost.',
        '.TH ZEROLOOP 1 "" "zeroloop" "User Commands"',
        ".SH NAME",
        f"zeroloop \\- {_text(_sentence(root.help)).rstrip('.').lower()}",
        ".SH SYNOPSIS",
        ".B zeroloop",
        ".I COMMAND",
        "[\\fIOPTION\\fR]...",
        ".SH DESCRIPTION",
        _ABOUT,
        ".SH COMMANDS",
        *_commands(root, ()),
        ".SH EXIT STATUS",
    ]
    for code, meaning in EXIT_CODES.items():
        lines += [".TP", f".B {code}", _text(meaning)]
    lines.append(".SH ENVIRONMENT")
    for name, meaning in _ENVIRONMENT.items():
        lines += [".TP", f".B {name}", _text(meaning)]
    return "\n".join(lines) + "\n"


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401 - typer does not export its classes
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
            continue
        arguments = [_metavar(p) for p in command.params if p.param_type_name == "argument"]
        yield f".SS {_text(' '.join(('zeroloop', *path, name, *arguments)))}"
        yield _text(inspect.cleandoc(command.help or ""))
        for parameter in command.params:
            if parameter.name != "help":
                yield from _parameter(parameter)


def _parameter(parameter: Any) -> Iterator[str]:  # noqa: ANN401 - as above
    yield ".TP"
    metavar = _metavar(parameter)
    if parameter.param_type_name == "argument":
        yield f".I {_text(metavar)}"
    else:
        names = ", ".join(parameter.opts)
        yield f".B {_text(names)}" if parameter.is_flag else f"\\fB{_text(names)}\\fR \\fI{_text(metavar)}\\fR"
    shown = (
        parameter.default is not None and not getattr(parameter, "is_flag", False) and not callable(parameter.default)
    )
    said = f" (default: {parameter.default})" if shown and parameter.param_type_name == "option" else ""
    yield _text(f"{parameter.help or ''}{said}".strip()) or "\\&"


def _metavar(parameter: Any) -> str:  # noqa: ANN401 - as above
    """Return what stands for a value: what may be given, or of which kind it is."""
    kind = parameter.type_descriptor.annotation
    if parameter.metavar is not None:
        name = str(parameter.metavar)
    elif get_origin(kind) is Literal:
        name = "|".join(map(str, get_args(kind)))
    elif parameter.param_type_name == "argument":
        name = parameter.name.upper()
    else:
        name = _KINDS.get(kind, "TEXT")
    if parameter.param_type_name != "argument":
        return name
    if parameter.nargs != 1 and not name.endswith("..."):
        name += "..."
    return name if parameter.required or name.startswith("[") else f"[{name}]"


_KINDS: dict[Any, str] = {float: "NUMBER", int: "INTEGER", Path: "PATH"}


def _sentence(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _text(text: str) -> str:
    """Return a text in which groff sees nothing of its own."""
    plain = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
