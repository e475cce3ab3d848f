"""What another server asks of the channels: a server that stands by goes on from there. Pure; powers in W, signed.

Who takes over from telemetry alone knows neither when a channel was last changed nor what was sent ahead. Who has heard
the setpoints knows both.
"""

from dataclasses import dataclass

from equalizer.control.state import NEVER_S, Hold, Level
from schemas.messages import Setpoint

SAME_W = 1.0
"""A refresh may differ by rounding, and by the limits' drift."""
SAME_S = 0.5
"""A change sent ahead is the same although its setpoint travelled differently long."""


@dataclass(frozen=True, slots=True)
class Overheard:
    """The last setpoint that another server sent to a channel."""

    epoch: int
    seq: int
    boot_id: str
    levels: tuple[Level, ...]
    """The present one, and what was sent ahead; on this server's clock."""
    changed_s: float
    prior_changed_s: float


def overhear(before: Overheard | None, setpoint: Setpoint, now_s: float) -> Overheard:
    """Take note of a setpoint; where one may have been missed, the channel may have been changed just now."""
    levels = tuple(Level(now_s + step.after_s, now_s + step.after_s, step.power_w) for step in setpoint.steps)
    if before is None or (setpoint.epoch, setpoint.seq) <= (before.epoch, before.seq):
        changed_s = prior_s = now_s
    else:
        missed = setpoint.epoch != before.epoch or setpoint.seq != before.seq + 1
        left = _left(before.levels, now_s)
        prior_s = before.changed_s if before.changed_s <= now_s else before.prior_changed_s
        if missed or abs(left[0].power_w - levels[0].power_w) > SAME_W:
            prior_s = now_s
        changed_s = before.changed_s if len(left) > 1 and _same(left[1:], levels[1:]) else prior_s
    if len(levels) > 1:
        changed_s = levels[-1].at_s
    return Overheard(setpoint.epoch, setpoint.seq, setpoint.basis.boot_id, levels, changed_s, prior_s)


def hold(overheard: Overheard, *, in_doubt: bool = False) -> Hold:
    """Return what is known of a channel by what it was asked; `adopt` compares it with what the channel says.

    In doubt, more was asked that nobody has heard: to say it again changes the channel back.
    """
    return Hold(
        levels=overheard.levels,
        boot_id=overheard.boot_id,
        changed_s=overheard.changed_s,
        prior_changed_s=overheard.prior_changed_s,
        echo=(overheard.epoch, overheard.seq),
        sent_s=NEVER_S,
        pending=in_doubt,
    )


def _left(levels: tuple[Level, ...], now_s: float) -> tuple[Level, ...]:
    while len(levels) > 1 and levels[1].at_s <= now_s:
        levels = levels[1:]
    return levels


def _same(before: tuple[Level, ...], after: tuple[Level, ...]) -> bool:
    return len(before) == len(after) and all(
        abs(one.at_s - other.at_s) <= SAME_S and abs(one.power_w - other.power_w) <= SAME_W
        for one, other in zip(before, after, strict=True)
    )
