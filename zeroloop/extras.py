"""What is installed only where it is asked for."""

import sys
from importlib.util import find_spec

from schemas.settings import ConfigurationError

_NEEDS = {"dashboard": ("nicegui", "argon2"), "simulation": ("matplotlib",)}


def has(extra: str) -> bool:
    """Tell whether an extra is installed."""
    return all(find_spec(name) is not None for name in _NEEDS[extra])


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra beside this very program."""
    return f"{sys.executable} -m pip install 'zeroloop[{extra}]'"


def require(extra: str, what: str) -> None:
    """See to it that an extra is installed.

    Raises:
        ConfigurationError: it is not; the text says what is missing, and how to get it.
    """
    if not has(extra):
        raise ConfigurationError(f"{what} is not installed; install it with: {how_to_install(extra)}")
