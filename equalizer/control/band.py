"""The hysteresis band that finds its width by itself (`engage_w = "auto"`).

It must lie above the noise of the load, or noise spends the change budget; and above what so few changes can follow, or
they are spent on a load that will have moved on. Both are measured on the unannounced part of the load:

- Noise: the median of the differences from one sample to the next, which single steps do not move (for normal noise,
  sigma = 1.4826 · median|Δ| / √2). With n samples in the time in which one change is at hand, the largest of them
  stays below sigma · √(2 ln(n / p)) but for a chance of about p (the tail of the normal distribution).
- Budget: if the load moves by m within the delay, K levels a delay follow it to within m / 2(K + 1) at best.
"""

from dataclasses import dataclass
from math import inf, isfinite, log, sqrt
from statistics import median

from equalizer.config import FIRST_ENGAGE_W
from equalizer.control.image import LoopImage
from equalizer.control.settings import RELEASE_RATIO, ControlSettings
from schemas.values import replace

SAMPLES = 180
LEAST = 30
"""Fewer samples leave the default in force."""
EVERY = 5
"""Samples between two reckonings."""
ALARM_RATIO = 0.05
"""p: the chance that noise alone spends a change, each time that one is at hand."""
LANDING_SIGMAS = 1.0
"""A correction under `dwell` goes to a noisy sample itself: the next ones are judged from there."""
SIGMA_BY_MEDIAN = 1.4826
FLOOR_RATIO = 0.005
"""No narrower than this part of the largest channel's limit: converters keep their power no better."""
CEILING_RATIO = 0.5
MATERIAL_RATIO = 0.2
"""The band in force moves only by more than this part of itself, so that it is no noise of its own."""


@dataclass(frozen=True, slots=True)
class Band:
    """The band in force, and the samples that it comes from."""

    engage_w: float = FIRST_ENGAGE_W
    samples_w: tuple[float, ...] = ()
    """The unannounced load, a value each `sample_s`, the newest last."""
    taken_s: float = -inf
    since: int = 0
    """Samples since the last reckoning."""

    @property
    def release_w(self) -> float:
        """It scales along."""
        return RELEASE_RATIO * self.engage_w


UNMEASURED = Band()


def advance(band: Band, image: LoopImage, settings: ControlSettings, now_s: float) -> Band:
    """Return the band at `now_s`, with at most one sample more."""
    sample_s = max(1.0, settings.period_s)
    if now_s - band.taken_s < sample_s:
        return band
    load_w = image.remainder_power_w - image.transferred_power_w
    if not isfinite(load_w):
        return band
    if now_s - band.taken_s > 2.0 * sample_s + settings.stale_s:
        return replace(band, samples_w=(load_w,), taken_s=now_s, since=0)
    samples_w = (*band.samples_w, load_w)[-SAMPLES:]
    if len(samples_w) < LEAST or band.since + 1 < EVERY or not image.equalization:
        return replace(band, samples_w=samples_w, taken_s=now_s, since=band.since + 1)
    found_w = width_w(samples_w, image, settings)
    moved = abs(found_w - band.engage_w) > MATERIAL_RATIO * band.engage_w
    return Band(found_w if moved else band.engage_w, samples_w, now_s)


def width_w(samples_w: tuple[float, ...], image: LoopImage, settings: ControlSettings) -> float:
    """Return the width that suits the load; W."""
    sample_s = max(1.0, settings.period_s)
    channels = len(image.equalization)
    lag = min(max(round(settings.delay_s / sample_s), 1), len(samples_w) // 2)
    sigma_w = SIGMA_BY_MEDIAN * _moved_w(samples_w, 1) / sqrt(2.0)
    chances = max(settings.delay_s / sample_s / channels, 1.0)
    noise_w = sigma_w * (sqrt(2.0 * log(chances / ALARM_RATIO)) + LANDING_SIGMAS)
    budget_w = _moved_w(samples_w, lag) / (2.0 * (channels + 1))
    largest_w = max(max(view.charge_limit_w, view.discharge_limit_w) for view in image.equalization)
    return min(max(noise_w, budget_w, FLOOR_RATIO * largest_w), max(CEILING_RATIO * largest_w, 1.0))


def _moved_w(samples_w: tuple[float, ...], lag: int) -> float:
    """Return by how much the load moves within so many samples, in the median."""
    return median(abs(later - earlier) for earlier, later in zip(samples_w, samples_w[lag:], strict=False))
