"""How far the control is from the best possible, while it runs: the last quarter of an hour against its bound.

The bound is worked out over a snapshot of the window, a few ticks every second, so that no cycle takes long for it; and
only where somebody wants to know it.
"""

from collections import deque
from dataclasses import dataclass
from itertools import islice

import numpy as np

from equalizer.control.bound import LeastResidual, levels_of

SAMPLE_S = 1.0
WINDOW = 900
"""Seconds that are looked back on."""
LEAST = 120
"""Fewer samples say nothing."""
PASS = 60
"""Samples' time that one pass over the window takes."""
LEVELS = 320
MOST_CHANNELS = 24
"""More channels have more changes than a load can ask for in one delay; their bound is taken as that of so many."""
NOTHING_W = 1.0
"""Below this a bound is nothing to divide by."""


@dataclass(frozen=True, slots=True)
class Regret:
    """What a pass found; mean powers over its window, W."""

    residual_w: float
    bound_w: float

    @property
    def ratio(self) -> float | None:
        """Residual by bound; None where the bound is next to nothing."""
        return self.residual_w / self.bound_w if self.bound_w >= NOTHING_W else None


@dataclass(slots=True)
class _Pass:
    """One pass at work."""

    asked_w: list[float]
    residual_w: float
    beyond_w: float
    """What is beyond the limits whatever is done, in the mean."""
    game: LeastResidual | None
    """None: no budget binds, or there is nothing to choose."""
    due: int = 0
    """Samples that it may have gone through by now."""
    done: int = 0

    def found(self) -> Regret:
        """Go through what is due, and return what that shows."""
        found_w = self.beyond_w
        if self.game is not None:
            self.game.advance(islice(self.asked_w, self.done, self.due))
            self.done = max(self.done, min(self.due, len(self.asked_w)))
            found_w += self.game.mean_w()
        return Regret(self.residual_w, found_w)


class RegretMeter:
    """Takes a sample a second, and knows the regret of the last pass.

    Args:
        delay_s: the time in which each channel changes at most once.
    """

    def __init__(self, delay_s: float) -> None:
        self._window = round(delay_s / SAMPLE_S)
        self._samples: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._pass: _Pass | None = None
        self._over: _Pass | None = None
        """The last that has had its time."""

    @property
    def last(self) -> Regret | None:
        """What the last pass has found; None: not known yet. To ask goes on with the pass at work."""
        if self._pass is not None:
            self._pass.found()
        return None if self._over is None else self._over.found()

    def forget(self) -> None:
        """Begin anew: what was between is not known."""
        self._over = None
        self._samples.clear()
        self._pass = None

    def sample(self, asked_w: float, residual_w: float, *, channels: int, charge_w: float, discharge_w: float) -> None:
        """Take one sample, and go on with the pass.

        Args:
            asked_w: what all equalization channels together would have had to do.
            residual_w: what was left.
            channels: how many equalization channels there are.
            charge_w: what all of them can take together.
            discharge_w: what all of them can give together.
        """
        self._samples.append((asked_w, abs(residual_w)))
        if self._pass is None:
            if len(self._samples) < LEAST:
                return
            self._pass = self._begun(channels, charge_w, discharge_w)
        at = self._pass
        at.due += -(-len(at.asked_w) // PASS)
        if at.due >= len(at.asked_w):
            self._over, self._pass = at, None

    def _begun(self, channels: int, charge_w: float, discharge_w: float) -> _Pass:
        samples = np.array(self._samples)
        asked_w, residual_w = samples[:, 0], float(samples[:, 1].mean())
        possible_w = np.clip(asked_w, -discharge_w, charge_w)
        beyond_w = float(np.abs(asked_w - possible_w).mean())
        game = None
        if channels > 0 and self._window > 0:
            # More channels, fewer levels: a second's share of the pass takes as long.
            rows = min(channels, MOST_CHANNELS)
            levels_w, halves_w = levels_of(possible_w.tolist(), max(LEVELS // (1 + rows // 6), LEVELS // 4))
            game = LeastResidual(levels_w, halves_w, channels=rows, window=self._window)
        return _Pass(possible_w.tolist(), residual_w, beyond_w, game)
