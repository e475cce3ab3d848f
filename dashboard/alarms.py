"""What went wrong: open while it stands, kept until somebody has seen it, and after. Pure; time is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from schemas.messages import Severity, Values

KEPT = 500


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that went wrong at one place."""

    id: int
    source: str
    """`station/s1/channel/3`, `station/s1`, `loop/main` or `server/hall-a`."""
    code: str
    text: str
    """What the sender said."""
    severity: Severity
    opened_unix_time_s: float
    closed_unix_time_s: float | None = None
    """None: it stands."""
    acknowledged_unix_time_s: float | None = None
    acknowledged_by: str = ""
    values: Values | None = None
    """What the text says beyond the code; None: only the text says it."""

    @property
    def is_open(self) -> bool:
        """Whether it stands."""
        return self.closed_unix_time_s is None

    @property
    def is_new(self) -> bool:
        """Whether nobody has said that it was seen."""
        return self.acknowledged_unix_time_s is None


class AlarmBook:
    """All troubles, the open ones by place and code."""

    def __init__(self, troubles: Iterable[Trouble] = ()) -> None:
        self._troubles = {trouble.id: trouble for trouble in troubles}
        self._open = {(t.source, t.code): t.id for t in self._troubles.values() if t.is_open}
        self._next_id = max(self._troubles, default=0) + 1
        self._changed: set[int] = set()
        self._dropped: set[int] = set()
        self.revision = 0
        """Rises with every change."""

    def open(
        self, source: str, code: str, text: str, severity: Severity, unix_time_s: float, *, values: Values | None = None
    ) -> None:
        """Something is wrong; said again, it is one trouble. A warning that nobody has seen yet stands again."""
        if (source, code) in self._open:
            return
        before = None if severity is Severity.ALARM else self._unseen(source, code)
        if before is None:
            trouble = Trouble(self._next_id, source, code, text, severity, unix_time_s, values=values)
        else:
            trouble = replace(before, text=text, values=values, closed_unix_time_s=None)
        self._open[source, code] = trouble.id
        self._put(trouble)

    def close(self, source: str, unix_time_s: float, *, code: str | None = None, but: str | None = None) -> None:
        """A place is well again.

        Args:
            source: the place.
            unix_time_s: since when.
            code: this trouble alone; None: all of the place.
            but: the one that stands on.
        """
        for place, its_code in [key for key in self._open if key[0] == source]:
            if its_code != but and code in {None, its_code}:
                trouble = self._troubles[self._open.pop((place, its_code))]
                self._put(replace(trouble, closed_unix_time_s=unix_time_s))

    def note(
        self, source: str, code: str, text: str, severity: Severity, unix_time_s: float, *, values: Values | None = None
    ) -> None:
        """Something went wrong that nobody will call well again; unseen, it is noted once."""
        if (source, code) in self._open:
            return
        before = self._unseen(source, code)
        if before is not None:
            self._put(replace(before, text=text, values=values, closed_unix_time_s=unix_time_s))
            return
        self._put(Trouble(self._next_id, source, code, text, severity, unix_time_s, unix_time_s, values=values))

    def acknowledge(self, identity: int, by: str, unix_time_s: float) -> None:
        """Somebody has seen it."""
        trouble = self._troubles.get(identity)
        if trouble is not None and trouble.is_new:
            self._put(replace(trouble, acknowledged_unix_time_s=unix_time_s, acknowledged_by=by))

    def open_places(self) -> list[str]:
        """Return the places at which something stands."""
        return sorted({place for place, _ in self._open})

    def is_open(self, source: str, code: str) -> bool:
        """Whether a trouble stands."""
        return (source, code) in self._open

    def listed(self) -> list[Trouble]:
        """Return all: what stands first, then what nobody saw; alarms before warnings, the newest first."""
        return sorted(self._troubles.values(), key=_place)

    @property
    def newest(self) -> int:
        """The id of the newest one."""
        return self._next_id - 1

    @property
    def calling(self) -> list[Trouble]:
        """What nobody has seen, or what stands and is an alarm."""
        return [t for t in self._troubles.values() if t.is_new or (t.is_open and t.severity is Severity.ALARM)]

    def drain(self) -> tuple[list[Trouble], list[int]]:
        """Return what is new for the store: troubles as they are now, and the ids of those forgotten."""
        changed = [self._troubles[identity] for identity in sorted(self._changed)]
        dropped = sorted(self._dropped)
        self._changed.clear()
        self._dropped.clear()
        return changed, dropped

    def _unseen(self, source: str, code: str) -> Trouble | None:
        """Return the trouble of a place and code that is over and that nobody has seen."""
        return next(
            (t for t in self._troubles.values() if (t.source, t.code) == (source, code) and t.is_new and not t.is_open),
            None,
        )

    def _put(self, trouble: Trouble) -> None:
        self._troubles[trouble.id] = trouble
        self._next_id = max(self._next_id, trouble.id + 1)
        self._changed.add(trouble.id)
        self.revision += 1
        if len(self._troubles) > KEPT:
            oldest = min(self._troubles.values(), key=lambda t: (t.is_open, t.is_new, t.opened_unix_time_s))
            del self._troubles[oldest.id]
            self._open.pop((oldest.source, oldest.code), None) if oldest.is_open else None
            self._changed.discard(oldest.id)
            self._dropped.add(oldest.id)


_RANKS = {Severity.ALARM: 0, Severity.WARNING: 1, Severity.INFO: 2}


def _place(trouble: Trouble) -> tuple[bool, bool, int, float, int]:
    rank = _RANKS[trouble.severity]
    return not trouble.is_open, not trouble.is_new, rank, -trouble.opened_unix_time_s, -trouble.id
