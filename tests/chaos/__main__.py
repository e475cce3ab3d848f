"""`make chaos`: every fault with the product's defaults, every wrong party, and docs/faults.md written anew.

Arguments go to pytest. What did not run keeps its last measured value.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos import table
from tests.chaos.registry import RESULTS_VARIABLE

FOLDERS = ("tests/chaos", "tests/integration/conform")
WORKERS = 6
"""They wait more than they work."""


def main() -> int:
    """Return pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pytest", *FOLDERS, "-n", str(WORKERS), "--dist", "worksteal"]
        environment = {**os.environ, RESULTS_VARIABLE: folder}
        done = subprocess.run([*words, *sys.argv[1:]], cwd=table.ROOT, env=environment, check=False)
        measured = table.read_measured()
        for path in sorted(Path(folder).glob("*.json")):
            measured |= json.loads(path.read_text())
        table.write(measured)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
