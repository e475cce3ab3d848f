"""One channel that plays a recording.

A sample is the mean since the last one, but never across a step's edge. The mean, because a recording of 10 ms swings
many times between two samples: single records would show a power that is not there, and energy would not add up. Not
across an edge, because a new step's power must be seen as soon as the step is, as its plan announced it.
"""

from dataclasses import dataclass

from schemas.messages import PlanSegment, StepType, WorkStatus
from station.drivers.protocol import Demand, DeviceFaultError, Off, OwnProgram, OwnStep, Preview, Sample
from station.drivers.replay.outline import Outline
from station.drivers.replay.recording import Recording

MOST_SEGMENTS = 64
SHORTEST_SEGMENT_S = 1e-3


@dataclass(frozen=True, slots=True)
class Scaling:
    """How one cell's test becomes a channel's."""

    series: int
    parallel: int
    time_scale: float
    start_s: float
    loop: bool

    @property
    def cells(self) -> int:
        """Return how many cells share the power."""
        return self.series * self.parallel


class Playback:
    """Where a channel stands in its recording. A run begins with the first `OwnProgram` after an `Off`."""

    def __init__(
        self,
        recording: Recording,
        outline: Outline,
        scaling: Scaling,
        *,
        charge_limit_w: float,
        discharge_limit_w: float,
    ) -> None:
        self._recording = recording
        self._outline = outline
        self._scaling = scaling
        self._limits_w = charge_limit_w, discharge_limit_w
        self._cycles = max(step.cycle_count for step in recording.steps)
        self._began_s: float | None = None
        self._sampled_s = 0.0
        self._rest_s = scaling.start_s

    def exchange(self, demand: Demand, now_s: float) -> Sample:
        """Play on, or stop.

        Raises:
            DeviceFaultError: the demand is one that a recording cannot follow.
        """
        match demand:
            case OwnProgram():
                if self._began_s is None:
                    self._began_s = self._sampled_s = now_s
                return self._playing(now_s)
            case Off():
                if self._began_s is not None:
                    self._rest_s = self._place(now_s)[1]
                    self._began_s = None
                return self._resting(None)
            case _:
                raise DeviceFaultError("a recording plays its own program and follows no other demand")

    def preview(self, horizon_s: float, now_s: float) -> Preview | None:
        """Return the coming power, at most 64 segments; null while nothing is played."""
        if self._began_s is None:
            return None
        run, place_s = self._place(now_s)
        outline, scaling = self._outline, self._scaling
        if self._ended(run):
            return Preview((PlanSegment(after_s=0.0, power_w=0.0),), horizon_s)
        piece = outline.piece_at(place_s)
        segments = [PlanSegment(after_s=0.0, power_w=self._piece_w(piece))]
        origin_s = -place_s
        while True:
            piece += 1
            if piece == len(outline.starts_s):
                piece, origin_s, run = 0, origin_s + self._recording.duration_s, run + 1
            after_s = (origin_s + float(outline.starts_s[piece])) / scaling.time_scale
            if after_s >= horizon_s:
                return Preview(tuple(segments), horizon_s)
            if len(segments) == MOST_SEGMENTS:
                return Preview(tuple(segments), after_s)
            power_w = 0.0 if self._ended(run) else self._piece_w(piece)
            if after_s - segments[-1].after_s < SHORTEST_SEGMENT_S:
                after_s = segments.pop().after_s
            if not segments or power_w != segments[-1].power_w:
                segments.append(PlanSegment(after_s=after_s, power_w=power_w))
            if self._ended(run):
                return Preview(tuple(segments), horizon_s)

    def _playing(self, now_s: float) -> Sample:
        run, place_s = self._place(now_s)
        if self._ended(run):
            return self._resting(OwnStep(WorkStatus.FINISHED, StepType.NONE, 0, 0))
        recording, scaling = self._recording, self._scaling
        step = recording.step_at(place_s)
        since_s = place_s - (now_s - self._sampled_s) * scaling.time_scale
        self._sampled_s = now_s
        volts, watts = recording.mean(max(since_s, step.start_s), place_s)
        voltage_v, power_w = volts * scaling.series, watts * scaling.cells
        return self._sample(
            voltage_v,
            power_w,
            place_s,
            OwnStep(WorkStatus.WORKING, step.step_type, step.step_id, step.cycle_count + run * self._cycles),
        )

    def _resting(self, own_step: OwnStep | None) -> Sample:
        place_s = self._rest_s if own_step is None else self._recording.duration_s
        volts, _ = self._recording.mean(place_s, place_s)
        return self._sample(volts * self._scaling.series, 0.0, place_s, own_step)

    def _sample(self, voltage_v: float, power_w: float, place_s: float, own_step: OwnStep | None) -> Sample:
        temperatures = self._recording.temperature_degc
        charge_limit_w, discharge_limit_w = self._limits_w
        current_a = power_w / voltage_v if voltage_v > 0.0 else 0.0
        return Sample(
            voltage_v=voltage_v,
            current_a=current_a,
            power_w=voltage_v * current_a,
            battery_connected=True,
            charge_limit_w=charge_limit_w,
            discharge_limit_w=discharge_limit_w,
            temperature_degc=None if temperatures is None else float(temperatures[self._recording.record_at(place_s)]),
            own_step=own_step,
        )

    def _place(self, now_s: float) -> tuple[int, float]:
        """Return how many runs are over, and the place in the recording."""
        began_s = now_s if self._began_s is None else self._began_s
        place_s = self._scaling.start_s + (now_s - began_s) * self._scaling.time_scale
        runs, rest_s = divmod(place_s, self._recording.duration_s)
        return int(runs), rest_s

    def _ended(self, run: int) -> bool:
        return run > 0 and not self._scaling.loop

    def _piece_w(self, piece: int) -> float:
        return float(self._outline.power_w[piece]) * self._scaling.cells
