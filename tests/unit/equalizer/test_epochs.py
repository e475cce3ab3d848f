"""The epoch on the disk."""

from pathlib import Path
from typing import cast

from equalizer.epochs import EpochStore
from equalizer.ledger import Ledger
from equalizer.voice import Voice


class SickDisk(Ledger):
    well = True

    def store_epoch(self, epoch: int) -> None:
        if not self.well:
            raise OSError(28, "No space left on device", str(epoch))
        super().store_epoch(epoch)


class Ears:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def event(self, code: str, *_said: object, **_values: object) -> None:
        self.heard.append(code)


def test_the_epoch_that_a_standby_follows_outlives_it(tmp_path: Path) -> None:
    # Trial 1795430014: disk lost, broker emptied, the leader gone: nobody but this one knew of the leader's epoch.
    ledger = Ledger(tmp_path, "main")
    store = EpochStore(ledger, cast("Voice", Ears()), clock=lambda: 0.0)
    store.remember(2)
    store.remember(1)
    assert ledger.epoch() == 2


def test_what_the_disk_did_not_take_is_stored_later(tmp_path: Path) -> None:
    now_s, ledger, ears = [0.0], SickDisk(tmp_path, "main"), Ears()
    store = EpochStore(ledger, cast("Voice", ears), clock=lambda: now_s[0])
    ledger.well = False
    store.store(7)
    ledger.well = True
    store.try_again()
    assert ledger.epoch() == 0, "from time to time only"
    now_s[0] = 6.0
    store.try_again()
    assert ledger.epoch() == 7
    assert ears.heard == ["epoch_not_stored", "epoch_stored_again"]
