"""The loop's past, finer the nearer it is. Pure; time is an argument.

Three tiers hold means over one second, ten seconds and a minute; each is bounded. A peak is not averaged away: every
bucket keeps the lowest and the highest total too.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from schemas.messages import Values


class Tier(NamedTuple):
    """How wide the buckets are, and how long they are kept."""

    width_s: int
    keep_s: int


TIERS = (Tier(1, 3_600), Tier(10, 12 * 3_600), Tier(60, 8 * 86_400))

_BACKWARDS_S = 60.0


class Bucket(NamedTuple):
    """Means over a piece of time."""

    unix_time_s: int
    """Where it begins."""
    load_w: float
    equalization_w: float
    total_w: float
    lowest_w: float
    """The lowest total in it."""
    highest_w: float
    """The highest total in it."""


class Mark(NamedTuple):
    """Something that happened at one moment."""

    unix_time_s: float
    kind: str
    """`decision`, `phase` or `act`."""
    code: str
    text: str = ""
    """What was said of it."""
    source: str = ""
    """Who said it."""
    values: Values | None = None
    """What the text says beyond the code; None: only the text says it."""


class Kept(NamedTuple):
    """A bucket that is complete, for the store."""

    width_s: int
    bucket: Bucket


@dataclass(slots=True)
class _Open:
    """The bucket that is being filled."""

    start_s: int
    count: int = 0
    load_w: float = 0.0
    equalization_w: float = 0.0
    total_w: float = 0.0
    lowest_w: float = float("inf")
    highest_w: float = float("-inf")

    def add(self, load_w: float, equalization_w: float, total_w: float) -> None:
        self.count += 1
        self.load_w += load_w
        self.equalization_w += equalization_w
        self.total_w += total_w
        self.lowest_w = min(self.lowest_w, total_w)
        self.highest_w = max(self.highest_w, total_w)

    def closed(self) -> Bucket:
        n = self.count
        means = self.load_w / n, self.equalization_w / n, self.total_w / n
        return Bucket(self.start_s, *means, self.lowest_w, self.highest_w)


class History:
    """What was, in all tiers, and what was done."""

    MARKS = 5_000

    def __init__(self) -> None:
        self.marks: deque[Mark] = deque(maxlen=self.MARKS)
        self._buckets = {tier: deque[Bucket](maxlen=tier.keep_s // tier.width_s) for tier in TIERS}
        self._open: dict[Tier, _Open] = {}
        self._kept: list[Kept] = []
        self._new_marks: list[Mark] = []

    def add(self, unix_time_s: float, load_w: float, equalization_w: float, total_w: float) -> None:
        """Take the loop's power at one moment."""
        for tier in TIERS:
            start_s = int(unix_time_s) // tier.width_s * tier.width_s
            filling = self._open.get(tier)
            if filling is None or start_s > filling.start_s or filling.start_s - unix_time_s > _BACKWARDS_S:
                self._close(tier)
                self._forget_future(tier, start_s)
                filling = self._open[tier] = _Open(start_s)
            filling.add(load_w, equalization_w, total_w)

    def mark(self, mark: Mark) -> None:
        """Take note of something that happened."""
        self.marks.append(mark)
        self._new_marks.append(mark)

    def window(self, since_s: float, width_s: int) -> list[Bucket]:
        """Return the buckets of a tier from a moment on, the one that is being filled included."""
        tier = _tier(width_s)
        found = [bucket for bucket in self._buckets[tier] if bucket.unix_time_s >= since_s]
        filling = self._open.get(tier)
        return [*found, filling.closed()] if filling is not None and filling.start_s >= since_s else found

    def marks_since(self, since_s: float) -> list[Mark]:
        """Return what happened from a moment on."""
        return [mark for mark in self.marks if mark.unix_time_s >= since_s]

    def restore(self, buckets: Iterable[Kept], marks: Iterable[Mark]) -> None:
        """Take back what the store has, the oldest first."""
        for width_s, bucket in buckets:
            self._buckets[_tier(width_s)].append(bucket)
        self.marks.extend(marks)

    def drain(self, *, everything: bool = False) -> tuple[list[Kept], list[Mark]]:
        """Return what is new for the store.

        Args:
            everything: at the end; the buckets that are being filled too.
        """
        if everything:
            for tier in TIERS:
                self._close(tier)
        kept, self._kept = self._kept, []
        marks, self._new_marks = self._new_marks, []
        return kept, marks

    def _close(self, tier: Tier) -> None:
        filling = self._open.pop(tier, None)
        if filling is not None:
            bucket = filling.closed()
            self._buckets[tier].append(bucket)
            self._kept.append(Kept(tier.width_s, bucket))

    def _forget_future(self, tier: Tier, start_s: int) -> None:
        """A clock that was set back: what it had named later than now is not known to be."""
        buckets = self._buckets[tier]
        while buckets and buckets[-1].unix_time_s >= start_s:
            buckets.pop()


def with_gaps(buckets: Iterable[Bucket], width_s: int) -> Iterator[Bucket | int]:
    """Yield buckets, and where some are missing, the moment at which the knowledge ends."""
    last_s: int | None = None
    for bucket in buckets:
        if last_s is not None and bucket.unix_time_s - last_s > max(3 * width_s, 5):
            yield last_s + width_s
        last_s = bucket.unix_time_s
        yield bucket


def _tier(width_s: int) -> Tier:
    return next(tier for tier in TIERS if tier.width_s == width_s)
