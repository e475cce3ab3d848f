"""A server's place among others."""

from pathlib import Path
from typing import cast

import pytest

from equalizer import fencing
from equalizer.fencing import Identity
from equalizer.helm import Helm
from equalizer.herald import Herald
from equalizer.keeping import Kept, Trouble, Words
from equalizer.ledger import Ledger
from equalizer.place import Place
from equalizer.standby import Timing
from equalizer.voice import Voice
from tests.announcements import ANNOUNCED


class Mouth:
    def event(self, *_said: object, **_values: object) -> None:
        pass


def standing_by(ledger: Ledger) -> Place:
    voice, clock = cast("Voice", Mouth()), lambda: 10.0
    fence = fencing.standing_by(Identity("follower", 2.0), ledger.epoch())
    return Place(
        fence,
        helm=cast("Helm", None),
        voice=voice,
        herald=Herald(voice),
        epochs=Kept(fence.epoch, ledger.store_epoch, Trouble(voice, Words("lost", "", "found", "")), clock),
        timing=Timing(enabled=True),
        stored=False,
        lease_s=30.0,
        hears=lambda: True,
        fail=pytest.fail,
        clock=clock,
    )


@pytest.mark.parametrize(("stored", "followed", "kept"), [(0, 2, 2), (5, 7, 7), (7, 7, 7)])
def test_the_epoch_that_a_standby_follows_outlives_it(tmp_path: Path, stored: int, followed: int, kept: int) -> None:
    # Trial 1795430014: disk lost, broker emptied, the leader gone: nobody but this one knew of the leader's epoch.
    ledger = Ledger(tmp_path, "main")
    ledger.store_epoch(stored)
    place = standing_by(ledger)
    place.announced(ANNOUNCED.model_copy(update={"epoch": followed}), retained=False)
    place.stand_by(10.0)
    assert ledger.epoch() == kept


def test_an_epoch_that_is_below_the_stored_one_is_not_stored(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "main")
    ledger.store_epoch(9)
    place = standing_by(ledger)
    place.announced(ANNOUNCED.model_copy(update={"epoch": 3}), retained=False)
    place.stand_by(10.0)
    assert ledger.epoch() == 9
