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
from schemas.examples import EXAMPLES
from schemas.messages import LoopBalance
from tests.announcements import ANNOUNCED


class Mouth:
    def event(self, *_said: object, **_values: object) -> None:
        pass


def standing_by(ledger: Ledger, helm: Helm | None = None) -> Place:
    voice, clock = cast("Voice", Mouth()), lambda: 10.0
    fence = fencing.standing_by(Identity("follower", 2.0), ledger.epoch())
    return Place(
        fence,
        helm=cast("Helm", helm),
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


class Heir:
    """Takes note of whose account, and whose orders, it goes on with."""

    def __init__(self) -> None:
        self.accounts: list[int] = []
        self.orders: list[int] = []

    def inherit(self, balance: LoopBalance) -> None:
        self.accounts.append(balance.epoch)

    def follow(self, balance: LoopBalance) -> None:
        self.orders.append(balance.epoch)


def test_the_account_that_the_broker_keeps_outlives_a_successor_that_ended_before_it_said_anything(
    tmp_path: Path,
) -> None:
    # Trial 1795700053: killed between its claim and its first balance; its own disk had been lost before.
    heir = Heir()
    place = standing_by(Ledger(tmp_path, "main"), cast("Helm", heir))
    place.announced(ANNOUNCED.model_copy(update={"epoch": 5}), retained=True)
    said = LoopBalance.model_validate_json(EXAMPLES["LoopBalance"][0]).model_copy(
        update={"server": "another", "epoch": 4}
    )
    place.balance(said, retained=True)
    assert (heir.accounts, heir.orders) == ([4], []), "what operators had asked of it may be outdated"
    place.balance(said, retained=False)
    assert (heir.accounts, heir.orders) == ([4], []), "a server that was deposed goes on counting"
    place.balance(said.model_copy(update={"epoch": 5}), retained=False)
    assert (heir.accounts, heir.orders) == ([4], [5])
