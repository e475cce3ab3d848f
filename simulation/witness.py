"""What each equalization channel was told, and when it came into force: the judge of "never two within the delay"."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SAME_W = 1.0
"""A refresh may differ by rounding and by the limits' drift."""
ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A power that came into force."""

    at_s: float
    from_w: float
    to_w: float
    reason: str
    """Of the order that brought it."""


@dataclass(slots=True)
class Witness:
    """One channel's orders in force."""

    level_w: float = 0.0
    changes: list[LevelChange] = field(default_factory=list)
    taken_s: list[float] = field(default_factory=list)
    """When each order came."""
    _pending: list[tuple[float, float]] = field(default_factory=list)
    _reason: str = ""

    def take(self, steps: Sequence[tuple[float, float]], reason: str, now_s: float) -> None:
        """Powers (W), each after so many seconds, are in force from now on; what was in store before is void."""
        self.advance(now_s)
        self.taken_s.append(now_s)
        self._reason = reason
        self._pending = [(now_s + after_s, power_w) for after_s, power_w in steps]
        self.advance(now_s)

    def release(self, now_s: float) -> None:
        """Note that the channel follows no order any more: its lease is over, or it left equalization mode."""
        self.advance(now_s)
        self.level_w = 0.0
        self._pending = []

    def advance(self, now_s: float) -> None:
        """Let the powers that are due come into force."""
        while self._pending and self._pending[0][0] <= now_s:
            at_s, power_w = self._pending.pop(0)
            if abs(power_w - self.level_w) > SAME_W:
                self.changes.append(LevelChange(at_s, self.level_w, power_w, self._reason))
                self.level_w = power_w


SAFETY = frozenset({"limits", "not_delivering", "paused", "stop"})
"""Reasons of changes that safety asks for: a reduction by one of these may come at any time."""


def hasty(witnesses: Iterable[Witness], delay_s: float) -> tuple[LevelChange, ...]:
    """Return the changes that came less than the delay after the one before them on their channel."""
    found: list[LevelChange] = []
    for witness in witnesses:
        before_s = -delay_s
        for change in witness.changes:
            if change.reason in SAFETY and abs(change.to_w) < abs(change.from_w):
                continue
            if change.at_s - before_s < delay_s - ROUNDING_S:
                found.append(change)
            before_s = change.at_s
    return tuple(sorted(found, key=lambda change: change.at_s))
