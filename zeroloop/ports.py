"""Ports of the command line."""

from schemas.settings import ConfigurationError

HIGHEST = 65535


def check(option: str, port: int | None) -> None:
    """Refuse a number that is no port; an option that was not given is none to refuse.

    Raises:
        ConfigurationError: it is none; the text names the option.
    """
    if port is not None and not 1 <= port <= HIGHEST:
        raise ConfigurationError(f"{option}: must be a whole number from 1 to {HIGHEST}, not {port}")
