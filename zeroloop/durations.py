"""Durations of the command line."""

from math import inf

from schemas.settings import ConfigurationError


def check(option: str, seconds: float | None, *, least_s: float = 0.0) -> None:
    """Refuse a number that is no duration; an option that was not given is none to refuse.

    Raises:
        ConfigurationError: it is 0, negative, less than `least_s` or not finite; the text names the option.
    """
    if seconds is None or (0.0 < seconds < inf and seconds >= least_s):
        return
    allowed = f"of at least {least_s:g}" if least_s > 0.0 else "above 0"
    raise ConfigurationError(f"{option}: must be a number {allowed}, not {seconds:g}")
