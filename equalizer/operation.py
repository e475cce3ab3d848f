"""What operators order of the loop: done at once, and remembered for the next run."""

import logging

from equalizer.helm import Helm
from equalizer.ledger import Ledger
from equalizer.voice import Voice
from schemas.messages import LoopAction, Severity, Values

_LOG = logging.getLogger(__name__)

_LONGEST_SIGNATURE = 64


class Operation:
    """Obeys operators.

    Args:
        helm: does it.
        ledger: remembers it.
        voice: tells of it.
    """

    def __init__(self, helm: Helm, ledger: Ledger, voice: Voice) -> None:
        self._helm = helm
        self._ledger = ledger
        self._voice = voice
        self._kept = helm.orders
        self._keeps = True

    def pause(self, by: str | None = None) -> str:
        """Have the control paused."""
        return self._done(self._helm.pause(), by, {"action": LoopAction.PAUSE.value})

    def resume(self, by: str | None = None) -> str:
        """Have the control go on."""
        return self._done(self._helm.resume(), by, {"action": LoopAction.RESUME.value})

    def set_target(self, target_power_w: float, by: str | None = None) -> str:
        """Steer the total power elsewhere."""
        values: Values = {"action": LoopAction.SET_TARGET.value, "target_power_w": target_power_w}
        return self._done(self._helm.set_target(target_power_w), by, values)

    def keep(self) -> None:
        """Store what operators have ordered, of this server or of the one that it follows, for the next run."""
        orders = self._helm.orders
        if orders == self._kept:
            return
        try:
            self._ledger.store_orders(orders)
        except OSError as error:
            if self._keeps:
                self._keeps = False
                _LOG.error("orders_not_stored error=%r", str(error))
                text = f"a restart would not remember the pause or the target: {error.strerror}"
                self._voice.event("orders_not_stored", text, Severity.WARNING, {"cause": error.strerror or str(error)})
        else:
            if not self._keeps:
                _LOG.info("orders_stored_again")
                self._voice.event("orders_stored_again", "the pause and the target are stored", values={})
            self._kept = orders
            self._keeps = True

    def _done(self, text: str, by: str | None, values: Values) -> str:
        self.keep()
        self._voice.event("operator", text, values=values if by is None else {**values, "by": by[:_LONGEST_SIGNATURE]})
        return text
