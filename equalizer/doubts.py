"""Tells, once each, that a channel is not believed and that it is again."""

import logging
from collections.abc import Mapping

from equalizer.control.image import ChannelKey
from equalizer.control.plausibility import Doubt
from equalizer.voice import Voice
from schemas.messages import Severity, Values

_LOG = logging.getLogger(__name__)


class DoubtReporter:
    """Compares what is doubted with what it has said.

    Args:
        voice: says it.
    """

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._said: dict[ChannelKey, Doubt] = {}

    def forget(self) -> None:
        """Begin anew, together with the book."""
        self._said.clear()

    def tell(self, doubts: Mapping[ChannelKey, Doubt]) -> None:
        """Say what has changed since the last call."""
        if not doubts and not self._said:
            return
        for key in [key for key in self._said if key not in doubts]:
            del self._said[key]
            self._say(key, "telemetry_plausible", "what it says can be true again", Severity.INFO, {})
        for key, reason in doubts.items():
            if key not in self._said:
                self._said[key] = reason
                text = f"what it says cannot be true ({reason}): it counts as unknown power"
                self._say(key, "telemetry_implausible", text, Severity.ALARM, {"reason": reason.value})

    def _say(self, key: ChannelKey, code: str, text: str, severity: Severity, values: Values) -> None:
        station, channel = key
        self._voice.event(code, text, severity, values, about=f"station/{station}/channel/{channel}")
        level = logging.INFO if severity is Severity.INFO else logging.WARNING
        _LOG.log(level, "%s station=%s channel=%s text=%r", code, station, channel, text)
