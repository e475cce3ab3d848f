"""Fuzzes one parser until the runs or the time are up: `python -m tests.fuzz.one NAME [options of libFuzzer, folders]`.

Guided by coverage (atheris, on libFuzzer). Says on stderr how long the slowest input took, in processor time.
"""

import random
import sys
import time

import atheris

with atheris.instrument_imports(include=["schemas.codec", "schemas.topics", "equalizer.meter", "transport.tap"]):
    from tests.fuzz.checks import CHECKS

from tests.fuzz.mutate import mutated

HANG_S = 0.05
AGAIN = 5


def main() -> None:
    """Fuzz the parser that the first argument names."""
    name = sys.argv.pop(1)
    check = CHECKS[name]
    slowest_s = 0.0

    def one(payload: bytes) -> None:
        nonlocal slowest_s
        begun_s = time.process_time()
        check(payload)
        took_s = time.process_time() - begun_s
        if took_s > slowest_s:
            # Once more, and the best counts: the first may have paid for the collector or a cold cache.
            for _ in range(AGAIN):
                begun_s = time.process_time()
                check(payload)
                took_s = min(took_s, time.process_time() - begun_s)
            if took_s > slowest_s:
                slowest_s = took_s
                sys.stderr.write(f"slowest_s={slowest_s:.6f}\n")
            assert took_s <= HANG_S, f"{took_s:.3f} s of processor time for {len(payload)} bytes"

    def mutate(payload: bytes, longest: int, seed: int) -> bytes:
        choice = random.Random(seed)  # noqa: S311 - a fuzzer's dice
        if choice.random() < 0.5:
            hostile = mutated(payload, longest, choice)
            if hostile is not None:
                return hostile
        return bytes(atheris.Mutate(payload, longest))

    atheris.Setup(sys.argv, one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
