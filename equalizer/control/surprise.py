"""What a free channel is worth under `dwell`: whoever spends it on a small imbalance lacks it for the next large one.

Every change takes a channel away for the delay. Spent as imbalances come, all are gone after a moment, and what comes
then stands for most of the delay. So a change must cover more than its channel is worth when it is kept:

    1.5 · S · √(R) / K

S is by how much the load moves within the delay without saying so (mean of the magnitudes, learnt here), K the number
of channels, and R how many of them are away: a locked one counts by the part of the delay that it still has to go.
While nobody is away, a free channel is worth nothing, and every imbalance is answered at once; and as locks run out,
it comes to that again within the delay. The form was found by trial on recorded loads, on which each of 1 to 8
channels kept delays of 10 to 20 s: there, any factor between 1 and 2.5 does.
"""

from dataclasses import dataclass
from math import inf, isfinite, sqrt

from equalizer.control.image import LoopImage
from equalizer.control.settings import ControlSettings
from schemas.values import replace

WORTH_RATIO = 1.5
MEMORY_S = 300.0
"""What the load did longer ago counts little."""
SAMPLES = 15
"""In a delay, at the most."""


@dataclass(frozen=True, slots=True)
class Surprise:
    """By how much the unannounced load moves within the delay."""

    moved_w: float = 0.0
    """Mean of the magnitudes; it begins at 0 W, so that one step alone says little."""
    samples_w: tuple[float, ...] = ()
    """The unannounced load since a delay ago, the newest last."""
    taken_s: float = -inf


UNSURPRISED = Surprise()


def advance(surprise: Surprise, image: LoopImage, settings: ControlSettings, now_s: float) -> Surprise:
    """Return what is known of the load's movements at `now_s`, with at most one sample more."""
    sample_s = max(settings.period_s, settings.delay_s / SAMPLES)
    load_w = image.remainder_power_w - image.transferred_power_w
    if now_s - surprise.taken_s < sample_s or not isfinite(load_w):
        return surprise
    if now_s - surprise.taken_s > 2.0 * sample_s + settings.stale_s:
        return replace(surprise, samples_w=(load_w,), taken_s=now_s)
    lag = max(round(settings.delay_s / sample_s), 1)
    if len(surprise.samples_w) < lag:
        return replace(surprise, samples_w=(*surprise.samples_w, load_w), taken_s=now_s)
    moved_w = surprise.moved_w + min(sample_s / MEMORY_S, 1.0) * (
        abs(load_w - surprise.samples_w[0]) - surprise.moved_w
    )
    return Surprise(moved_w, (*surprise.samples_w, load_w)[-lag:], now_s)


def worth_w(surprise: Surprise, away: float, channels: int) -> float:
    """Return how much a change must cover at the least; W, never negative.

    Args:
        surprise: what is known of the load.
        away: how many channels are locked, each by the part of the delay that it still has to go.
        channels: how many there are.
    """
    return WORTH_RATIO * surprise.moved_w * sqrt(away) / channels
