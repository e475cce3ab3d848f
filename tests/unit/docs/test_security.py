"""docs/security.md names tests that exist, one at least for each threat, and every group of the standard."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "security.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def threats() -> list[str]:
    table = TEXT.partition("## Threats")[2].partition("## Floods")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][2:]


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(TEXT)
    assert len(named) > 30
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(path)]
    assert missing == []


def test_every_threat_has_what_holds_it_and_a_test_that_shows_it() -> None:
    assert len(threats()) > 20
    for line in threats():
        threat, holds, shown = (part.strip() for part in line.strip("|").split("|"))
        assert threat
        assert holds
        assert NAMED.search(shown), threat


def test_every_foundational_requirement_is_answered() -> None:
    mapping = TEXT.partition("## IEC 62443-4-2")[2]
    for number in range(1, 8):
        assert f"| FR {number} " in mapping
        assert re.search(rf"CR {number}\.\d", mapping)
