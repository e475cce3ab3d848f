"""What this server says of itself at the well-known topic, and how much of it has come back from the broker."""

import logging

from equalizer.fencing import Fence
from equalizer.voice import Voice
from schemas.messages import Phase, Presence, Severity

_LOG = logging.getLogger(__name__)

_SEVERITIES = {Phase.SATURATED: Severity.WARNING, Phase.FROZEN: Severity.WARNING}


class Herald:
    """Announces the server; its announcement comes back behind all that the broker was sent before it.

    Args:
        voice: speaks.
    """

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self.begun = False
        """Whether it has looked around since the connection, and speaks for itself."""
        self.heard = False
        """Whether this run of the server has ever been announced."""
        self._awaited = 0
        self._said: Phase | None = None

    def begin(self) -> None:
        """Look around first: nothing has been said on this connection."""
        self.begun = False
        self._said = None

    def await_anew(self) -> None:
        """Wait for nothing that was said so far: it went with a connection, or proves nothing of a claim."""
        self._awaited = 0

    def announce(self, fence: Fence, phase: Phase) -> None:
        """Announce the server."""
        self._awaited += 1
        self.heard = True
        self._voice.announce(Presence.ONLINE, fence.epoch, phase)

    def returned(self) -> None:
        """Note that an announcement has come back."""
        self._awaited -= 1

    @property
    def came_back(self) -> bool:
        """Whether all that was announced has come back."""
        return self._awaited <= 0

    def say(self, phase: Phase, fence: Fence, *, aloud: bool) -> None:
        """Say once that the phase is another one.

        Args:
            phase: the server's.
            fence: under whose epoch; its conflict is the reason for a standby.
            aloud: announce it, too.
        """
        if phase is self._said:
            return
        before, self._said = self._said, phase
        if aloud:
            self.announce(fence, phase)
        if before is not None:
            _LOG.info("phase from=%s to=%s", before, phase)
            why = fence.conflict if fence.conflict is not None else f"from {before} to {phase}"
            self._voice.event(phase, why, _SEVERITIES.get(phase, Severity.INFO), {"before": before.value})
