# ruff: noqa: INP001 - a script, no package
"""Prints the releases that are installed of everything that zeroloop needs, what others bring along included."""

import importlib.metadata
import re

from packaging.requirements import Requirement

HEAD = """\
# The releases that zeroloop is built and tested with, those that others bring along included.
# Made by `make constraints`: no addresses of indexes, so that any mirror serves."""


def closure(name: str, extras: tuple[str, ...], found: dict[str, str]) -> None:
    """Add a distribution and all that it requires here to `found`: name → version."""
    distribution = importlib.metadata.distribution(name)
    key = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
    if key in found and not extras:
        return
    found[key] = distribution.version
    for line in distribution.requires or []:
        requirement = Requirement(line)
        applies = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if applies:
            closure(requirement.name, tuple(requirement.extras), found)


if __name__ == "__main__":
    found: dict[str, str] = {}
    closure("zeroloop", ("dev", "fuzz", "mutation", "nats", "dashboard", "simulation", "docs"), found)
    closure("hatchling", (), found)
    del found["zeroloop"]
    print(HEAD)  # noqa: T201 - its output is the file
    print("\n".join(f"{name}=={version}" for name, version in sorted(found.items())))  # noqa: T201 - as above
