"""`make soak MINUTES=10`: seed after seed until the time is up, looking for what may never happen.

Usage: python -m tests.soak [--minutes N] [--seed S] [MODULE ...]

Every module in this folder that has `play(seed) -> list[str]` takes part; the list is what the seed's run violated. A
violation, or a crash, prints the seed, and how to see it again; the exit code is then 1.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tests.soak.seeds import KNOWN, modules, played


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(modules())}; all of them where none is named")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="play this one only")
    arguments = parser.parse_args()
    names = arguments.modules or modules()
    unknown = [name for name in names if name not in modules()]
    if unknown:
        parser.error(f"{', '.join(unknown)}: there are {', '.join(modules())}")
    if arguments.seed is not None:
        return _tell([(name, arguments.seed, played(name, arguments.seed)) for name in names])
    return _tell(soak(names, arguments.minutes))


def soak(names: list[str], minutes: float) -> list[tuple[str, int, list[str]]]:
    """Play seeds on all cores until the time is up, those that found something once before all others.

    Return those that violated something.
    """
    known = [(name, seed) for name in names for seed in KNOWN.get(name, ())]
    first = int(time.time())
    end_s = time.monotonic() + 60.0 * minutes
    cores = os.cpu_count() or 1
    counts: Counter[str] = Counter()
    bad: list[tuple[str, int, list[str]]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[seeds]}"))
    with (
        ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool,
        Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True) as bar,
    ):
        task = bar.add_task("soak", total=60.0 * minutes, seeds="")
        running: dict[Future[list[str]], tuple[str, int]] = {}
        number = 0
        while running or time.monotonic() < end_s:
            while len(running) < cores and time.monotonic() < end_s:
                job = known.pop(0) if known else (names[number % len(names)], first + number)
                running[pool.submit(played, *job)] = job
                number += 1
            done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                name, seed = running.pop(future)
                counts[name] += 1
                found = future.result()
                if found:
                    bad.append((name, seed, found))
                    _tell(bad[-1:])
            left_s = max(0.0, end_s - time.monotonic())
            said = f"{sum(counts.values())} seeds, {len(bad)} violated something"
            bar.update(task, completed=60.0 * minutes - left_s, seeds=said)
    sys.stdout.write("".join(f"{name}: {count} seeds\n" for name, count in sorted(counts.items())))
    sys.stdout.write(f"{len(bad)} of them violated something\n")
    return bad


def _tell(results: list[tuple[str, int, list[str]]]) -> int:
    bad = [result for result in results if result[2]]
    for name, seed, found in bad:
        lines = "".join(f"  {line}\n" for line in found)
        sys.stdout.write(f"{name}, seed {seed}: python -m tests.soak {name} --seed {seed}\n{lines}")
    sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
