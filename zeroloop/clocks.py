"""The only place where clocks are read; everything else gets them handed in."""

import time

unix_time_s = time.time  # noqa: TID251 - the composition root reads the clocks; a label, never subtracted

# A lease must not outlive the night for which its computer was put to sleep: Linux's monotonic clock stands still then.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic_s() -> float:
    """Return seconds that never go back, and in which a suspended computer's sleep counts."""
    return time.clock_gettime(_CLOCK)
