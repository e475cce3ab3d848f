"""When to correct: what must stand before it counts (confirm), and the hysteresis. All powers signed, in W."""

from dataclasses import dataclass
from statistics import median

from equalizer.control.settings import ControlSettings
from schemas.values import replace

NEWEST_SAMPLES = 3
"""What an imbalance is now is the median of so many samples, not the last noisy one."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An unannounced imbalance that stands, or does not (yet)."""

    since_s: float | None = None
    samples: tuple[tuple[float, float], ...] = ()
    """Time and imbalance, the newest last, two a period at most."""

    def due_s(self, settings: ControlSettings) -> float | None:
        """Return when it will have stood long enough."""
        return None if self.since_s is None else self.since_s + settings.delay_s


STILL = Confirmation()


def relieved(confirmation: Confirmation, power_w: float) -> Confirmation:
    """Return what is known of an imbalance of which a part is none any more: it never was more than the rest."""
    samples = tuple((at_s, sample_w - power_w) for at_s, sample_w in confirmation.samples)
    return replace(confirmation, samples=samples)


def confirm(
    confirmation: Confirmation, imbalance_w: float, settings: ControlSettings, now_s: float
) -> tuple[Confirmation, float | None]:
    """Return what is known of the imbalance now, and its robust value once it has stood for the delay.

    It begins outside `engage_w`, and begins anew when it falls below `release_w`. One that swings from one side of the
    band to the other does not rest between: the wait goes on, until it is on one side now and was for most of the wait.
    """
    since_s = confirmation.since_s
    samples = confirmation.samples
    if since_s is not None and abs(imbalance_w) < settings.release_w:
        since_s, samples = None, ()
    if since_s is None:
        if abs(imbalance_w) <= settings.engage_w:
            return STILL, None
        since_s = now_s
    if not samples or now_s - samples[-1][0] >= 0.5 * settings.period_s or now_s - since_s >= settings.delay_s:
        oldest_s = now_s - settings.delay_s
        samples = (*(sample for sample in samples if sample[0] >= oldest_s), (now_s, imbalance_w))
    if now_s - since_s >= settings.delay_s:
        robust_w = _robust_w(samples, settings)
        if abs(robust_w) > settings.engage_w:
            return STILL, robust_w
    return Confirmation(since_s, samples), None


def _robust_w(samples: tuple[tuple[float, float], ...], settings: ControlSettings) -> float:
    """Return what to correct of an imbalance that has stood; 0 W while it is on the other side than before.

    One that stands still is its median over the wait. One that has moved is met half way: what it is now tells most of
    what comes next, but one that swings is back where it was before the next change may be made.
    """
    stood_w = median(sample_w for _, sample_w in samples)
    newest_w = median(sample_w for _, sample_w in samples[-NEWEST_SAMPLES:])
    if newest_w * stood_w <= 0.0:
        return 0.0
    return stood_w if abs(newest_w - stood_w) <= settings.engage_w else 0.5 * (newest_w + stood_w)


def is_engaged(was_engaged: bool, mismatch_w: float, settings: ControlSettings) -> bool:  # noqa: FBT001 - a latch's state
    """Tell whether a mismatch is worked on: from outside `engage_w` until it is below `release_w`."""
    return abs(mismatch_w) > settings.engage_w or (was_engaged and abs(mismatch_w) > settings.release_w)
