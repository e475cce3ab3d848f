"""Which measurements cannot be true: power that does not fit voltage and current, or that no channel can have.

A channel that says such a thing counts with the last power that could be true, and as unknown, until it says one that
can be true again.
"""

from dataclasses import dataclass
from enum import StrEnum

DOUBTED_AFTER = 2
"""A power averaged over a period does not fit the current of a moment where a step begins; once is no lie."""


class Doubt(StrEnum):
    """Why a measurement is not believed; a label of `zeroloop_ignored_messages_total`."""

    POWER_MISMATCH = "power_mismatch"
    BEYOND_RATING = "beyond_rating"


@dataclass(frozen=True, slots=True)
class Plausibility:
    """How far a measurement may be off. The defaults are those of equalizer.toml."""

    tolerance_ratio: float = 0.1
    tolerance_w: float = 500.0
    """What voltage times current may differ from the power: this, and the ratio of it."""
    rating_w: float = 1_000_000.0
    """More than any channel of the loop can have."""


BELIEVED = Plausibility()


def doubt(power_w: float, voltage_v: float, current_a: float, limits: Plausibility) -> Doubt | None:
    """Return why a measurement cannot be true; None where it can."""
    size_w = abs(power_w)
    if size_w > limits.rating_w:
        return Doubt.BEYOND_RATING
    # A product that overflows is no number or infinite, and so never within the tolerance.
    if abs(power_w - voltage_v * current_a) <= limits.tolerance_w + limits.tolerance_ratio * size_w:
        return None
    return Doubt.POWER_MISMATCH
