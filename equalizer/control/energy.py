"""The energy exchanged with the grid, and what it would have been without balancing. A pure value."""

from dataclasses import dataclass

from equalizer.control.image import LoopImage

MAX_GAP_S = 10.0
"""A power is not held for longer than this: what happened in a longer gap is not known."""
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyBook:
    """Energy in Wh since the account was opened, and the powers that hold since `at_s`."""

    import_wh: float = 0.0
    export_wh: float = 0.0
    unbalanced_wh: float = 0.0
    """What would have been exchanged with the equalization channels at 0 W."""
    at_s: float | None = None
    total_power_w: float = 0.0
    load_power_w: float = 0.0

    @property
    def avoided_wh(self) -> float:
        """What balancing kept from crossing the grid's connection; negative where it did harm."""
        return self.unbalanced_wh - self.import_wh - self.export_wh


def advance(account: EnergyBook, image: LoopImage, now_s: float) -> EnergyBook:
    """Return the account at `now_s`: every power held since the last call, at most for `MAX_GAP_S`."""
    held_s = 0.0 if account.at_s is None else min(max(now_s - account.at_s, 0.0), MAX_GAP_S)
    hours = held_s / SECONDS_PER_HOUR
    total_wh = account.total_power_w * hours
    return EnergyBook(
        import_wh=account.import_wh + max(total_wh, 0.0),
        export_wh=account.export_wh + max(-total_wh, 0.0),
        unbalanced_wh=account.unbalanced_wh + abs(account.load_power_w) * hours,
        at_s=now_s,
        total_power_w=image.total_power_w,
        load_power_w=image.load_power_w,
    )
