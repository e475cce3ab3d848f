"""Durations of the command line."""

from math import inf

from schemas.settings import ConfigurationError


def check(option: str, duration: float | None, *, least: float = 0.0) -> None:
    """Refuse a number that is no duration; an option that was not given is none to refuse.

    Raises:
        ConfigurationError: it is 0, negative, less than `least` or not finite; the text names the option.
    """
    if duration is None or (0.0 < duration < inf and duration >= least):
        return
    allowed = f"of at least {least:g}" if least > 0.0 else "above 0"
    raise ConfigurationError(f"{option}: must be a number {allowed}, not {duration:g}")
