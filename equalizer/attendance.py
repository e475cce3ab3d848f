"""Who is there: stations that come and go, and channels that fall silent; each is told once when it begins and ends."""

import logging

from equalizer.voice import Voice
from schemas.messages import Presence, Severity, Values

_LOG = logging.getLogger(__name__)


class Attendance:
    """Tells of stations and of silence.

    Args:
        voice: speaks.
    """

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._stations: dict[str, Presence] = {}
        self._silent = False

    def listen_anew(self) -> None:
        """Begin anew: all channels are heard again, or missed again."""
        self._silent = False

    def station(self, name: str, presence: Presence | None, *, retained: bool) -> None:
        """Say that a station is lost or back; what the broker had retained of one is no news."""
        before = self._stations.pop(name, None)
        if presence is not None:
            self._stations[name] = presence
        if before is presence or (retained and before is None):
            return
        text = "removed" if presence is None else presence.value
        severity = Severity.INFO if presence is Presence.ONLINE else Severity.WARNING
        self._voice.event(f"station_{text}", f"station {name} is {text}", severity, {}, about=f"station/{name}")
        _LOG.log(logging.INFO if presence is Presence.ONLINE else logging.WARNING, "station_%s station=%s", text, name)

    def channels(self, stale: int, channels: int) -> None:
        """Say that channels are silent, or that all are heard again."""
        silent = stale > 0
        if silent is self._silent:
            return
        self._silent = silent
        severity, code = (Severity.WARNING, "telemetry_stale") if silent else (Severity.INFO, "telemetry_fresh")
        values: Values = {"stale": stale, "channels": channels}
        self._voice.event(code, f"{stale} of {channels} channels are silent", severity, values)
        _LOG.warning("%s channels_stale=%d channels=%d", code, stale, channels)
