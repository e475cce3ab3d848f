"""`python -m tests.floods [STEPS]`: every kind of rogue at full speed beside a loop, as a table. Needs root."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.floods.cable import inside, refused, two_computers, why_not
from tests.floods.experiment import percentile
from tests.floods.rogue import KINDS

_STEPS = 100


def measured(kind: str, steps: int, folder: Path) -> dict[str, object]:
    """Run one experiment on two computers of its own; return what it found, and what the rules refused."""
    with two_computers() as (server, stranger):
        command = [sys.executable, "-m", "tests.floods.experiment", str(folder), kind, str(steps), stranger]
        run = subprocess.run([*inside(server), *command], capture_output=True, text=True, timeout=900, check=False)
        if run.returncode != 0:
            raise RuntimeError(f"{kind}: {run.stderr[-2000:]}")
        found: dict[str, object] = json.loads(run.stdout)
        return found | {"refused": refused(server)}


def main(steps: int) -> int:
    """Print the table; 1 where a p99 is not below a second."""
    reason = why_not()
    if reason is not None:
        sys.stderr.write(f"{reason}\n")
        return 2
    too_slow = False
    sys.stdout.write("reaction of the loop to a step of its load, seconds; a rogue client with valid credentials\n")
    sys.stdout.write(f"{'rogue':<14}{'n':>5}{'p50':>8}{'p99':>8}{'max':>8}{'broker MB':>11}{'packets refused':>17}\n")
    for kind in ("nobody", *KINDS, "connections"):
        with tempfile.TemporaryDirectory() as folder:
            found = measured(KINDS and kind if kind != "nobody" else "forbidden", steps, Path(folder))
        reactions = [float(value) for value in found["before_s" if kind == "nobody" else "during_s"]]  # type: ignore[attr-defined]  # JSON
        p99 = percentile(reactions, 0.99)
        too_slow = too_slow or p99 >= 1.0
        packets = sum(found["refused"].values()) if kind != "nobody" else 0  # type: ignore[attr-defined]  # JSON
        megabytes = float(str(found["broker_bytes"])) / 1e6
        sys.stdout.write(
            f"{kind:<14}{len(reactions):>5}{percentile(reactions, 0.5):>8.3f}{p99:>8.3f}{max(reactions):>8.3f}"
            f"{megabytes:>11.0f}{packets:>17}\n"
        )
        sys.stdout.flush()
    return 1 if too_slow else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else _STEPS))
