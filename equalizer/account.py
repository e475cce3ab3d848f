"""What balancing has cost and saved so far, and why: energy, the split of what was left over, and the regret."""

from types import MappingProxyType

from equalizer.control import energy, residual
from equalizer.control.image import LoopImage
from equalizer.control.regret import Regret, RegretMeter
from equalizer.control.settings import ControlSettings
from equalizer.control.state import ControlState
from equalizer.control.step import in_force
from equalizer.ledger import SavedAccount
from equalizer.metrics import Counters
from schemas.messages import EnergyAccount, Phase
from schemas.values import replace


class Account:
    """Kept up to date with every decision; what is dear is done once a second.

    Args:
        settings: of the control.
        saved: the energy account of earlier runs.
        counters: of energy, for Prometheus.
    """

    def __init__(self, settings: ControlSettings, *, saved: SavedAccount, counters: Counters) -> None:
        self.energy = energy.EnergyBook(
            import_wh=saved.import_wh, export_wh=saved.export_wh, unbalanced_wh=saved.unbalanced_wh
        )
        self.residual = residual.ResidualBook()
        self._settings = settings
        self._counters = counters
        self._regret = RegretMeter(settings.delay_s)

    @property
    def regret(self) -> Regret | None:
        """How far the last quarter of an hour was from the best possible; None: not known yet."""
        return self._regret.last

    def interrupt(self) -> None:
        """Note that what follows is not known: a part of the loop is not the loop."""
        self.energy = replace(self.energy, at_s=None)
        self.residual = replace(self.residual, at_s=None)
        self._regret.forget()

    def watch(self, image: LoopImage, now_s: float) -> None:
        """Go on under another server, whose decisions are not judged here."""
        self.energy = energy.advance(self.energy, image, now_s)
        self.residual = replace(self.residual, at_s=None)
        self._regret.forget()

    def follow(self, theirs: EnergyAccount) -> None:
        """Take over what another server has counted more of: it was there longer. Nothing that was said ever falls."""
        self.energy = replace(
            self.energy,
            import_wh=max(theirs.import_wh, self.energy.import_wh),
            export_wh=max(theirs.export_wh, self.energy.export_wh),
            unbalanced_wh=max(theirs.unbalanced_wh, self.energy.unbalanced_wh),
        )

    def advance(self, state: ControlState, image: LoopImage, now_s: float) -> None:
        """Go on to a decision's state and image."""
        if state.phase is Phase.STARTING:
            self.interrupt()
            return
        before = self.energy
        self.energy = after = energy.advance(before, image, now_s)
        self._counters.energy.add_wh(
            import_wh=after.import_wh - before.import_wh,
            export_wh=after.export_wh - before.export_wh,
            avoided_wh=after.avoided_wh - before.avoided_wh,
        )
        if self.residual.is_due(now_s):
            self._split(state, image, now_s)

    def _split(self, state: ControlState, image: LoopImage, now_s: float) -> None:
        settings = in_force(state, self._settings)
        whole_uw, parts_uw = residual.split_uw(state, image, settings, now_s)
        self.residual = residual.advance(self.residual, whole_uw, parts_uw, now_s)
        self._counters.residual_j = MappingProxyType(self.residual.joules())
        if state.phase not in (Phase.BALANCING, Phase.SATURATED):
            self._regret.forget()
            return
        self._regret.sample(
            state.target_power_w - image.load_power_w - state.offset_w,
            residual.left_over_w(state, image),
            channels=len(image.equalization),
            charge_w=sum(view.charge_limit_w for view in image.equalization),
            discharge_w=sum(view.discharge_limit_w for view in image.equalization),
        )
