"""When to correct: what must stand before it counts (confirm), and the hysteresis. All powers signed, in W."""

from dataclasses import dataclass
from statistics import median

from equalizer.control.settings import ControlSettings

ROBUST_PERIODS = 5.0
"""A confirmed imbalance is the median over its last this many telemetry periods, not its last noisy sample."""


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


def confirm(
    confirmation: Confirmation, imbalance_w: float, settings: ControlSettings, now_s: float
) -> tuple[Confirmation, float | None]:
    """Return what is known of the imbalance now, and its robust value once it has stood for the delay.

    It begins outside `engage_w`, and begins anew when it falls below `release_w` or changes its sign.
    """
    since_s = confirmation.since_s
    samples = confirmation.samples
    if since_s is not None and (abs(imbalance_w) < settings.release_w or imbalance_w * samples[-1][1] < 0.0):
        since_s, samples = None, ()
    if since_s is None:
        if abs(imbalance_w) <= settings.engage_w:
            return STILL, None
        since_s = now_s
    if not samples or now_s - samples[-1][0] >= 0.5 * settings.period_s or now_s - since_s >= settings.delay_s:
        oldest_s = now_s - min(ROBUST_PERIODS * settings.period_s, settings.delay_s)
        samples = (*(sample for sample in samples if sample[0] >= oldest_s), (now_s, imbalance_w))
    if now_s - since_s >= settings.delay_s:
        robust_w = median(sample_w for _, sample_w in samples)
        if abs(robust_w) > settings.engage_w:
            return STILL, robust_w
    return Confirmation(since_s, samples), None


def is_engaged(was_engaged: bool, mismatch_w: float, settings: ControlSettings) -> bool:  # noqa: FBT001 - a latch's state
    """Tell whether a mismatch is worked on: from outside `engage_w` until it is below `release_w`."""
    return abs(mismatch_w) > settings.engage_w or (was_engaged and abs(mismatch_w) > settings.release_w)
