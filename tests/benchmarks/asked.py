"""What was asked of a benchmark in virtual time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """How long it runs, and how much of it."""

    seconds: float | None = None
    """In virtual time; null: as long as the scenario."""
    seeds: tuple[int, ...] = (1, 2, 3)
    delays_s: tuple[float, ...] = (10.0, 15.0)
    only: tuple[str, ...] = ()
    """The controllers that take part, by name; none named: all."""
    processes: int | None = None
    """Null: one a core."""
