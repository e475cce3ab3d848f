"""What a demo has shown, in figures."""

from collections.abc import Iterator

from zeroloop.figures import energy, plain, share
from zeroloop.hall import OPENING_S, Hall, mean_magnitude_w

_SECONDS_PER_HOUR = 3600.0
_LAST_S = 30
_LABEL_WIDTH = 27


def summarize(hall: Hall, elapsed_s: float) -> Iterator[str]:
    """Yield the lines of a summary.

    Args:
        hall: what the live view has heard.
        elapsed_s: since the equalizer first spoke.
    """
    yield f"Summary of {elapsed_s:.0f} s"
    for label, text in _figures(hall, elapsed_s):
        yield f"  {label:<{_LABEL_WIDTH}} {text}"


def _figures(hall: Hall, elapsed_s: float) -> Iterator[tuple[str, str]]:
    opening, balance = hall.opening, hall.balance
    if opening is None or balance is None:
        yield "equalizer", "never heard"
        return
    before, after = opening.energy, balance.energy
    exchanged_wh = after.import_wh + after.export_wh - before.import_wh - before.export_wh
    unbalanced_wh = after.unbalanced_wh - before.unbalanced_wh
    part = share(exchanged_wh, unbalanced_wh)
    yield "energy with the grid", f"{energy(exchanged_wh)} with balancing, {energy(unbalanced_wh)} without ({part})"
    first, last = hall.first, hall.recent(_LAST_S)
    was_w, is_w = mean_magnitude_w([item.with_w for item in first]), mean_magnitude_w([item.with_w for item in last])
    without_w = mean_magnitude_w([item.without_w for item in last])
    yield f"residual, first {OPENING_S} s", plain(was_w)
    yield (
        f"residual, last {_LAST_S} s",
        f"{plain(is_w)} ({share(is_w, was_w)} of that); {plain(without_w)} without balancing",
    )
    channels = balance.equalization_channels
    changes = balance.setpoint_changes - opening.setpoint_changes
    rate = changes / channels / elapsed_s * _SECONDS_PER_HOUR if channels and elapsed_s > 0.0 else 0.0
    yield (
        "setpoint changes",
        f"{changes} on {channels} channels: {rate:.0f} per channel and hour",
    )
    gap = hall.worst_gap
    yield "worst gap between messages", "-" if gap is None else f"{gap.seconds:.2f} s ({gap.sender})"
    yield "messages", f"{sum(hall.messages.values())}, {hall.malformed} malformed"
