"""What operators order of the loop: done at once, and remembered for the next run."""

from collections.abc import Callable

from equalizer.helm import Helm
from equalizer.keeping import Kept, Trouble, Words
from equalizer.ledger import Ledger
from equalizer.voice import Voice
from schemas.messages import LoopAction, Values

_UNSTORED = Words(
    "orders_not_stored",
    "a restart would not remember the pause or the target",
    "orders_stored_again",
    "the pause and the target are stored",
)


class Operation:
    """Obeys operators.

    Args:
        helm: does it.
        ledger: remembers it.
        voice: tells of it.
        clock: monotonic seconds.
    """

    def __init__(self, helm: Helm, ledger: Ledger, voice: Voice, *, clock: Callable[[], float]) -> None:
        self._helm = helm
        self._voice = voice
        self._orders = Kept(helm.orders, ledger.store_orders, Trouble(voice, _UNSTORED), clock)

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
        self._orders.keep(self._helm.orders)

    def _done(self, text: str, by: str | None, values: Values) -> str:
        self.keep()
        self._voice.event("operator", text, values=values if by is None else {**values, "by": by})
        return text
