"""`make mutants`: changes the code that power depends on in small ways, and sees whether a test notices.

Every mutant that lives has to be explained in `explained.toml`; the report goes to docs/mutation.md. Exit code 1: one
lives that nobody has explained.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tomli

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REPORT = ROOT / "docs/mutation.md"
WORK = ROOT / "mutants"
HEAD = """\
# Mutation testing

Made by `make mutants`. The parts on which the safety of power hangs (lease, limits, fencing, codec) are changed in
small ways, one at a time (mutmut), and the tests must notice. What they cannot notice is listed with the reason.

"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change that no test noticed."""

    function: str
    before: str
    after: str


def survivors() -> tuple[list[Mutant], int]:
    """Run mutmut anew; return the mutants that live, and how many there were."""
    shutil.rmtree(WORK, ignore_errors=True)
    mutmut = str(Path(sys.executable).with_name("mutmut"))
    if subprocess.run([mutmut, "run", "--max-children", "2"], cwd=ROOT, check=False).returncode != 0:
        raise SystemExit("mutmut did not come to an end")
    listing = _output(mutmut, "results", "--all", "true")
    states = re.findall(r"^\s*(\S+): (.+)$", listing, re.MULTILINE)
    alive = [name for name, state in states if state not in {"killed", "timeout"}]
    return [_mutant(name, _output(mutmut, "show", name)) for name in alive], len(states)


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _mutant(name: str, difference: str) -> Mutant:
    lines = [line for line in difference.splitlines() if re.match(r"[-+](?![-+])", line)]
    function = re.sub(r"__mutmut_\d+$", "", name).replace(".x_", ".")
    before = "\n".join(line[1:].strip() for line in lines if line.startswith("-"))
    return Mutant(function, before, "\n".join(line[1:].strip() for line in lines if line.startswith("+")))


def reason(mutant: Mutant, explained: list[dict[str, str]]) -> str | None:
    """Return why a mutant lives; None where nobody has said."""
    for row in explained:
        if mutant.function.endswith(row["function"]) and row.get("after", mutant.after) == mutant.after:
            return row["why"]
    return None


def main() -> int:
    """Run, write the report, and return the exit code."""
    explained = tomli.loads((HERE / "explained.toml").read_text(encoding="utf-8"))["mutant"]
    alive, total = survivors()
    lines = [HEAD, f"{total} mutants, {total - len(alive)} noticed, {len(alive)} explained below.\n"]
    unexplained = 0
    for mutant in alive:
        why = reason(mutant, explained)
        unexplained += why is None
        lines.append(f"\n## `{mutant.function}`\n\n```diff")
        lines += [f"- {line}" for line in mutant.before.splitlines()]
        lines += [f"+ {line}" for line in mutant.after.splitlines()]
        lines.append(f"```\n\n{why or '**Not explained: a test is missing.**'}")
        if why is None:
            sys.stderr.write(f"lives: {mutant.function}: {mutant.before} -> {mutant.after}\n")
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"\n{total} mutants, {len(alive)} alive, {unexplained} not explained; see {REPORT.relative_to(ROOT)}\n"
    )
    return 1 if unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
