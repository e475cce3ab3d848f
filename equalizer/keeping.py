"""What must outlive this process, on a disk that may take nothing: said once, tried again, and said once more."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from equalizer.voice import Voice
from schemas.messages import Severity, Values

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

AGAIN_S = 5.0
"""So long after the disk took nothing, the same is tried again."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of something that fails, and works again."""

    fails: str
    """The event's code."""
    meanwhile: str
    """What that means until it works again; follows the cause. Empty: the cause says it all."""
    works: str
    """The event's code."""
    again: str
    """For people; values stand in braces."""
    severity: Severity = Severity.WARNING


class Trouble:
    """Says once that something fails, and once that it works again.

    Args:
        voice: says it.
        words: what.
    """

    def __init__(self, voice: Voice, words: Words) -> None:
        self.stands = False
        self._voice = voice
        self._words = words

    def tell(self, cause: str | None, values: Values | None = None) -> None:
        """Take note of an attempt.

        Args:
            cause: why it failed; None: it did not.
            values: what is to be said once it works again, by name.
        """
        if (cause is not None) is self.stands:
            return
        self.stands = cause is not None
        words = self._words
        if cause is not None:
            _LOG.error("%s error=%r", words.fails, cause)
            text = f"{cause}; {words.meanwhile}" if words.meanwhile else cause
            self._voice.event(words.fails, text, words.severity, {"cause": cause})
        else:
            known = {} if values is None else values
            text = words.again.format_map(known)
            _LOG.info("%s text=%r", words.works, text)
            self._voice.event(words.works, text, values=known)


@dataclass
class Kept(Generic[T]):
    """A value of which the newest is kept on the disk."""

    value: T
    """What the disk holds."""
    store: Callable[[T], None]
    """Raises OSError where the disk takes nothing."""
    trouble: Trouble
    clock: Callable[[], float]
    """Monotonic seconds."""
    values: Callable[[T], Values] = field(default=lambda _: {})
    """What is to be said of a value that is stored at last."""
    _tried: tuple[T, float] | None = None

    @property
    def wanted(self) -> T:
        """What is to be kept: the disk holds it, or did not take it yet."""
        return self.value if self._tried is None else self._tried[0]

    def again(self) -> None:
        """Store what the disk did not take, from time to time."""
        self.keep(self.wanted)

    def keep(self, value: T) -> None:
        """Store a value unless the disk holds it; the same one that the disk did not take, again from time to time."""
        if value != self.value:
            now_s = self.clock()
            if self._tried is not None and self._tried[0] == value and now_s - self._tried[1] < AGAIN_S:
                return
            self._tried = value, now_s
            try:
                self.store(value)
            except OSError as error:
                self.trouble.tell(str(error))
                return
        self.value, self._tried = value, None
        self.trouble.tell(None, self.values(value))
