"""What can fail, what happens then, and within how many seconds: each entry is made by the test that proves it.

A test returns what it measured, in seconds, by the names of its bounds:

    @fault("The broker is killed", "…", {"0 W": 60.0, "back": 15.0})
    async def test_…(arena) -> dict[str, float]: ...

`0 W` counts from the fault to 0 W at the equalization channel; `back` from the end of the cause until it is led again.
"""

import functools
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

import pytest

P = ParamSpec("P")
Measured = Mapping[str, float]

RESULTS_VARIABLE = "ZEROLOOP_CHAOS_RESULTS"
"""Where `make chaos` collects what was measured; set: the experiments run with the defaults of the product."""
LOADED = 4.0
"""`make test` shares the computer with much else: there, the bounds are so many times as long."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of docs/faults.md."""

    what: str
    outcome: str
    bounds_s: Measured
    file: str
    test: str
    quick: bool = True
    """Whether `make test` plays it, too."""

    @property
    def key(self) -> str:
        """What pytest calls the test."""
        return f"tests/chaos/{self.file}::{self.test}"


FAULTS: dict[str, Fault] = {}
"""By key, in the order of the files."""


def fault(
    what: str, outcome: str, bounds_s: Measured, *, quick: bool = True
) -> Callable[[Callable[P, Awaitable[Measured]]], Callable[P, Awaitable[None]]]:
    """Enter a test into the table; hold what it measures against the bounds.

    Args:
        what: the fault.
        outcome: what happens.
        bounds_s: by name.
        quick: False: it takes too long for `make test`, whatever the settings.
    """

    def register(test: Callable[P, Awaitable[Measured]]) -> Callable[P, Awaitable[None]]:
        entry = Fault(what, outcome, bounds_s, Path(test.__code__.co_filename).name, test.__name__, quick)
        FAULTS[entry.key] = entry

        @functools.wraps(test)
        async def measured(*args: P.args, **kwargs: P.kwargs) -> None:
            measured_s = await test(*args, **kwargs)
            assert set(measured_s) == set(bounds_s), "every bound is measured, and nothing else"
            folder = os.environ.get(RESULTS_VARIABLE)
            patience = 1.0 if folder else LOADED
            late = {name: seconds for name, seconds in measured_s.items() if seconds > patience * bounds_s[name]}
            assert not late, f"{late}; allowed is {dict(bounds_s)}"
            if folder:
                _record(entry, measured_s, Path(folder))

        return measured if quick else pytest.mark.chaos(measured)

    return register


def _record(entry: Fault, measured_s: Measured, folder: Path) -> None:
    content = {entry.key: {name: round(seconds, 1) for name, seconds in measured_s.items()}}
    (folder / f"{entry.file}-{entry.test}.json").write_text(json.dumps(content))
