"""The command line's entry point, and what becomes of errors.

Exit codes: 0 done; 1 refused, unanswered or broken off by a fault; 2 could not begin; 130 Ctrl-C.
"""
# ruff: noqa: PLC0415 - a command that works pays nothing for the errors of others

import sys
from typing import Any

import typer

from zeroloop.commands import app

DONE = 0
REFUSED = 1
COULD_NOT_BEGIN = 2

_USAGE_ERROR: Any = typer.BadParameter.__base__
"""Its public children say that a command line is wrong; typer does not export the class itself."""


def run() -> None:
    """Run the command line; the entry point of `zeroloop`."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run a command line and return its exit code; what keeps it from working is one line on stderr."""
    try:
        result = app(arguments, prog_name="zeroloop", standalone_mode=False)
    except _USAGE_ERROR as error:
        return _complain(_usage(error))
    except KeyboardInterrupt:
        return 130
    except typer.Abort:  # asked, and nobody was there to answer; a Ctrl-C there ends so, too
        return _complain("nothing was done: the question was not answered", REFUSED)
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        sys.stdout = None  # nothing is left to flush to
        return DONE
    except Exception as error:
        code = _exit_code(_first(error))
        if code is None:
            raise
        return _complain(_line(_first(error)), code)
    return result if isinstance(result, int) else DONE


def _first(error: BaseException) -> BaseException:
    """Return what started it all, where several tasks failed together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _exit_code(error: BaseException) -> int | None:
    """Return the code for an error that is the user's business; None for one that is ours."""
    from broker.errors import BrokerError
    from conform.wire import ConformError
    from schemas.settings import ConfigurationError
    from station.drivers.protocol import DriverConfigurationError
    from station.errors import StationError
    from transport.session import TransportError
    from zeroloop.ask import NoReplyError
    from zeroloop.watch import NothingHeardError

    match error:
        case NoReplyError() | NothingHeardError():
            return REFUSED
        case ConfigurationError() | DriverConfigurationError() | BrokerError() | StationError() | TransportError():
            return COULD_NOT_BEGIN
        case ConformError() | OSError():
            return COULD_NOT_BEGIN
        case _:
            return None


def _usage(error: Any) -> str:  # noqa: ANN401 - typer does not export the class
    """Return what is wrong with a command line, and where to read how it should be."""
    said = error.format_message().replace("Value error, ", "").rstrip(".")
    cause = error.__cause__
    if "Input should" in said and hasattr(cause, "errors"):  # pydantic's, which does not show the value
        said = f"{said.partition(', unable')[0].replace('Input', 'input')}, not {cause.errors()[0]['input']!r}"
    command = "zeroloop" if error.ctx is None else error.ctx.command_path
    return f"{said}; `{command} --help` says how it is used"


def _line(error: BaseException) -> str:
    """Return what an error says; one of the system with its file first, as all others have it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error)


def _complain(text: str, code: int = COULD_NOT_BEGIN) -> int:
    line = " | ".join(part for part in text.splitlines() if part.strip())
    print(f"zeroloop: {line}", file=sys.stderr)  # noqa: T201 - the one line
    return code
