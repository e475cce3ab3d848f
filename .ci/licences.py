# ruff: noqa: INP001 - a script, no package
"""Ends with exit code 1 where something shipped has a licence that the product may not have at run time, or none.

Usage: licences.py SBOM.cdx.json
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

STRONG = re.compile(r"(?<!L)(?<!Lesser )A?GPL|GNU (Affero )?General Public", re.IGNORECASE)


def licences(component: dict[str, Any]) -> list[str]:
    """Return the names of a component's licences."""
    found = []
    for entry in component.get("licenses", []):
        licence = entry.get("license", {})
        found.append(entry.get("expression") or licence.get("id") or licence.get("name") or "")
    return [name for name in found if name]


def main() -> int:
    """Check every component and print the table of licences."""
    components = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["components"]
    refused = 0
    for component in sorted(components, key=lambda one: one["name"].lower()):
        names = licences(component)
        # Where one may choose, one choice that fits is enough.
        bad = not names or any(all(STRONG.search(choice) for choice in re.split(r"\s+OR\s+", name)) for name in names)
        refused += bad
        mark = "  <- not at run time" if bad else ""
        sys.stdout.write(f"{component['name']:28} {component['version']:12} {' | '.join(names)[:70]}{mark}\n")
    return 1 if refused else 0


if __name__ == "__main__":
    raise SystemExit(main())
