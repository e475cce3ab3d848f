"""What a server takes over of another's account."""

from equalizer.account import Account
from equalizer.control.settings import ControlSettings
from equalizer.ledger import SavedAccount
from equalizer.metrics import Counters
from schemas.messages import EnergyAccount


def test_nothing_that_was_counted_falls_when_another_has_counted_more_of_something_else() -> None:
    # Trial 1795430029: the other had counted while this server stood still, and less of what went out before.
    account = Account(ControlSettings(), saved=SavedAccount(67.0, 50.0, 340.0), counters=Counters())
    account.follow(EnergyAccount(import_wh=99.0, export_wh=37.0, unbalanced_wh=356.0, avoided_wh=220.0))
    energy = account.energy
    assert (energy.import_wh, energy.export_wh, energy.unbalanced_wh) == (99.0, 50.0, 356.0)
