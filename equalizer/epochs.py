"""The epoch on the disk: stored before it is used, and again and again where the disk takes nothing."""

import logging
from collections.abc import Callable

from equalizer.ledger import Ledger
from equalizer.voice import Voice
from schemas.messages import Severity

_LOG = logging.getLogger(__name__)

_AGAIN_S = 5.0


class EpochStore:
    """Stores epochs. Where the disk fails, the retained announcement and the stations have to remember.

    Args:
        ledger: the disk.
        voice: told of trouble.
        clock: monotonic seconds.
    """

    def __init__(self, ledger: Ledger, voice: Voice, *, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._voice = voice
        self._clock = clock
        self._failing = False
        self._epoch = 0
        self._tried_s = clock()

    def remember(self, epoch: int) -> None:
        """Store another server's epoch, if this run has stored none that is as high: the next run goes on from it."""
        if epoch > self._epoch:
            self.store(epoch)

    def store(self, epoch: int) -> None:
        """Store an epoch; say once that it fails, and once that it is done."""
        self._epoch = epoch
        self._tried_s = self._clock()
        try:
            self._ledger.store_epoch(epoch)
        except OSError as error:
            if not self._failing:
                self._failing = True
                _LOG.error("epoch_not_stored epoch=%d error=%r", epoch, str(error))
                self._voice.event("epoch_not_stored", str(error), Severity.WARNING, {"cause": str(error)})
            return
        if self._failing:
            self._failing = False
            _LOG.info("epoch_stored_again epoch=%d", epoch)
            self._voice.event("epoch_stored_again", f"epoch {epoch} is stored", values={"epoch": epoch})

    def try_again(self) -> None:
        """Store the epoch that the disk did not take, from time to time."""
        if self._failing and self._clock() - self._tried_s >= _AGAIN_S:
            self.store(self._epoch)
