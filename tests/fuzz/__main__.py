"""`make fuzz MINUTES=…`: every parser in turn, fed with hostile bytes, on all cores; a table at the end.

Usage: python -m tests.fuzz [--minutes M | --inputs N] [--only NAME ...]

What it finds stays beside the corpus, as `corpus/NAME/found-…`: from then on the unit tests try it too. Exit code 1
says that something was found.
"""

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.fuzz.checks import CHECKS

CORPUS = Path(__file__).parent / "corpus"
STAGES = ((1024, 0.97), (66_000, 0.03))
"""Longest input, bytes, and the part of the inputs: most bugs are in short ones, which are quick to try."""
ROUND = 200_000
"""Inputs that one process tries: the fuzzer's own memory grows by about a kilobyte with each."""

TELLING = ("Error", "ERROR", "Test unit")
"""Words of the lines that say what was found, and in which file the input is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What fuzzing one parser showed."""

    name: str
    inputs: int
    inputs_per_s: float
    slowest_ms: float
    found: str


def fuzzed(name: str, *, inputs: int | None, seconds: float) -> Outcome:
    """Fuzz one parser in processes of its own, one after the other, each with what those before it have learnt."""
    runs = 0
    took_s = slowest_s = 0.0
    found: list[str] = []
    with tempfile.TemporaryDirectory() as grown:
        for longest, part in STAGES:
            left = None if inputs is None else round(inputs * part)
            left_s = max(1.0, seconds * part)
            while not found and (left_s > 0.0 if left is None else left > 0):
                limit = ROUND if left is None else min(left, ROUND)
                begun_s = time.monotonic()
                text, failed = _run(name, limit, None if inputs else left_s, longest, grown)
                last_s = time.monotonic() - begun_s
                done = max((int(count) for count in re.findall(r"^#(\d+)\s", text, re.MULTILINE)), default=0)
                runs, took_s, left_s = runs + done, took_s + last_s, left_s - last_s
                left = None if left is None else left - done
                slowest_s = max([slowest_s, *map(float, re.findall(r"slowest_s=([0-9.]+)", text))])
                if failed or not done:
                    told = [line for line in text.splitlines() if any(word in line for word in TELLING)]
                    found.append(" | ".join(told) or text.strip()[-300:])
    return Outcome(name, runs, runs / took_s, 1000.0 * slowest_s, "\n".join(found))


def _run(name: str, runs: int, seconds: float | None, longest: int, grown: str) -> tuple[str, bool]:
    kept = CORPUS / name
    command = [sys.executable, "-m", "tests.fuzz.one", name, f"-runs={runs}", f"-max_len={longest}", "-timeout=10"]
    command += [] if seconds is None else [f"-max_total_time={math.ceil(seconds)}"]
    command += ["-rss_limit_mb=1024", f"-artifact_prefix={kept}/found-", grown, str(kept)]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return run.stderr, run.returncode != 0


def all_fuzzed(names: list[str], *, inputs: int | None, minutes: float) -> Iterator[Outcome]:
    """Fuzz the parsers, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        each = None if inputs is None else -(-inputs // len(names))
        seconds = 60.0 * minutes * (os.cpu_count() or 1) / len(names)
        yield from pool.map(lambda name: fuzzed(name, inputs=each, seconds=seconds), names)


def main() -> int:
    """Fuzz, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1.0, help="for all parsers together")
    parser.add_argument("--inputs", type=int, help="for all parsers together, instead of minutes")
    parser.add_argument("--only", nargs="*", choices=sorted(CHECKS), default=sorted(CHECKS))
    options = parser.parse_args()
    names: list[str] = options.only
    outcomes = []
    with Progress(transient=True) as progress:
        task = progress.add_task("fuzzing", total=len(names))
        for outcome in all_fuzzed(names, inputs=options.inputs, minutes=options.minutes):
            outcomes.append(outcome)
            progress.advance(task)
    table = Table("parser", "inputs", "a second", "slowest, ms", "found", title="Hostile bytes")
    for outcome in outcomes:
        table.add_row(
            outcome.name,
            f"{outcome.inputs:,}",
            f"{outcome.inputs_per_s:,.0f}",
            f"{outcome.slowest_ms:.2f}",
            outcome.found,
        )
    table.add_row("all", f"{sum(outcome.inputs for outcome in outcomes):,}")
    Console().print(table)
    return 1 if any(outcome.found for outcome in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
