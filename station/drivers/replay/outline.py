"""The power of a recording as few pieces of constant power: what is announced of it.

Pieces meet at exact times: a step's edge, or a record. Where records come faster than once in `RESOLUTION_S`, the
pieces are means over that time from the step's edge on, as telemetry's values are means too.
"""

from dataclasses import dataclass

import numpy as np

from station.drivers.replay.recording import Floats, Recording

RESOLUTION_S = 1.0
"""Of the wall clock."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """Piece k has `power_w[k]` from `starts_s[k]` to the next, the last to the recording's end."""

    starts_s: Floats
    power_w: Floats

    def piece_at(self, time_s: float) -> int:
        """Return the piece at a time."""
        return max(0, int(self.starts_s.searchsorted(time_s, "right")) - 1)


def outline(recording: Recording, *, resolution_s: float, tolerance_w: float) -> Outline:
    """Return the fewest pieces, taken from the front, of which none strays further than the tolerance from its mean.

    Args:
        recording: one cell's test.
        resolution_s: the shortest mean, in the recording's own time.
        tolerance_w: one cell's.
    """
    edges_s = _edges(recording, resolution_s)
    energy_j = np.interp(edges_s, recording.time_s, recording.energy_j)
    spans_s = np.diff(edges_s)
    starts_s: list[float] = []
    powers_w: list[float] = []
    low_w = high_w = flowed_j = lasted_s = 0.0
    for start_s, span_s, joule in zip(edges_s.tolist(), spans_s.tolist(), np.diff(energy_j).tolist(), strict=False):
        power_w = joule / span_s
        if starts_s and max(high_w, power_w) - min(low_w, power_w) <= tolerance_w:
            low_w, high_w = min(low_w, power_w), max(high_w, power_w)
            flowed_j, lasted_s = flowed_j + joule, lasted_s + span_s
            powers_w[-1] = flowed_j / lasted_s
        else:
            low_w = high_w = power_w
            flowed_j, lasted_s = joule, span_s
            starts_s.append(start_s)
            powers_w.append(power_w)
    return Outline(np.array(starts_s), np.array(powers_w))


def _edges(recording: Recording, resolution_s: float) -> Floats:
    ends_s = [*recording.step_starts_s[1:], recording.duration_s]
    parts = []
    for start_s, end_s in zip(recording.step_starts_s, ends_s, strict=True):
        first, last = recording.time_s.searchsorted([start_s, end_s])
        slow = last - first <= (end_s - start_s) / resolution_s + 1.0
        grid_s = recording.time_s[first:last] if slow else np.arange(start_s, end_s - 1e-6, resolution_s)
        parts.append(grid_s)
    return np.append(np.concatenate(parts), recording.duration_s)
