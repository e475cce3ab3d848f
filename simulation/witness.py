"""What each equalization channel was told, as it obeyed it: the judge of "no two changes within the delay"."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.messages import Setpoint

SAME_W = 1.0
"""A refresh may differ by rounding and by the limits' drift."""


@dataclass(slots=True)
class Witness:
    """One channel's orders in force."""

    level_w: float = 0.0
    changes: list[tuple[float, float, float, str]] = field(default_factory=list)
    """When, from which power to which, and by which order's reason."""
    _pending: list[tuple[float, float]] = field(default_factory=list)
    _reason: str = ""

    def take(self, setpoint: Setpoint, reason: str, now_s: float) -> None:
        """A setpoint was obeyed; what the one before it held in store is void."""
        self.advance(now_s)
        self._reason = reason
        self._pending = [(now_s + step.after_s, step.power_w) for step in setpoint.steps]
        self.advance(now_s)

    def advance(self, now_s: float) -> None:
        """Let the steps that are due come into force."""
        while self._pending and self._pending[0][0] <= now_s:
            at_s, power_w = self._pending.pop(0)
            if abs(power_w - self.level_w) > SAME_W:
                self.changes.append((at_s, self.level_w, power_w, self._reason))
                self.level_w = power_w


SAFETY = frozenset({"limits", "paused", "stop"})
"""Reasons of changes that safety asks for, and that may come at any time."""


def hasty(witnesses: Iterable[Witness], delay_s: float) -> list[tuple[float, float]]:
    """Return the changes that came less than the delay after the one before, each with how long after."""
    found = []
    for witness in witnesses:
        before_s: float | None = None
        for at_s, from_w, to_w, reason in witness.changes:
            reduces = reason in SAFETY and abs(to_w) < abs(from_w)
            if not reduces:
                if before_s is not None and at_s - before_s < delay_s - 1e-6:
                    found.append((at_s, at_s - before_s))
                before_s = at_s
    return found
