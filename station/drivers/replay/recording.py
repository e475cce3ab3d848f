"""A recording of one cell's test as arrays: what flows at any time, in which step.

A record's values hold until the next one. Where the cycler has counted much more or less energy in a step than the
records would have it (pulses between two records), its counter is believed.

Sign: positive current and power charge.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.messages import StepType
from station.drivers.replay.reading import UnreadableRecordingError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_BACKWARDS_RATIO = 0.05
"""More records than this out of order are no disorder but a second clock."""
COUNTER_DISAGREES_RATIO = 0.1

STEP_TYPES: Final = {
    "cc_chg": StepType.CC_CHG,
    "cc_dchg": StepType.CC_DCHG,
    "cv_chg": StepType.CV_CHG,
    "cccv_chg": StepType.CCCV_CHG,
    "cp_chg": StepType.CP_CHG,
    "cp_dchg": StepType.CP_DCHG,
    "rest": StepType.REST,
    "pause": StepType.REST,
    "ocv": StepType.REST,
}
"""A recording's names, in lower case; every other kind of step is played as what it then is: a profile (`sim`)."""


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One step of the test."""

    start_s: float
    step_type: StepType
    step_id: int
    cycle_count: int


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Values per record; those of record k hold from `time_s[k]` to `time_s[k + 1]`."""

    time_s: Floats
    """Strictly rising from 0."""
    voltage_v: Floats
    power_w: Floats
    temperature_degc: Floats | None
    energy_j: Floats
    """What has flowed until each record."""
    volt_seconds: Floats
    steps: tuple[RecordedStep, ...]
    step_starts_s: Floats

    @property
    def duration_s(self) -> float:
        """Return the time of the last record."""
        return float(self.time_s[-1])

    def record_at(self, time_s: float) -> int:
        """Return the record that holds at a time."""
        return max(0, int(self.time_s.searchsorted(time_s, "right")) - 1)

    def step_at(self, time_s: float) -> RecordedStep:
        """Return the step at a time."""
        return self.steps[max(0, int(self.step_starts_s.searchsorted(time_s, "right")) - 1)]

    def mean(self, from_s: float, to_s: float) -> tuple[float, float]:
        """Return mean voltage and mean power over a span; what holds at its end where it is empty."""
        last = self.record_at(to_s)
        if to_s - from_s < 1e-6:  # noqa: PLR2004 - a recording's own resolution
            return float(self.voltage_v[last]), float(self.power_w[last])
        first = self.record_at(from_s)
        ends = []
        for integral, rate in ((self.volt_seconds, self.voltage_v), (self.energy_j, self.power_w)):
            upto = integral[last] + rate[last] * (to_s - self.time_s[last])
            before = integral[first] + rate[first] * (from_s - self.time_s[first])
            ends.append(float(upto - before) / (to_s - from_s))
        return ends[0], ends[1]


def from_table(table: pl.DataFrame, source: str) -> Recording:
    """Return a recording from the columns that `reading.read` gives.

    Records are ordered by time. Of several with one time the last in the file holds: it is the first of the next step.

    Raises:
        UnreadableRecordingError: the time runs backwards for long, or there are no two records at different times.
    """
    table = _ordered(table, source)
    time_s = table["time_s"].to_numpy() - table["time_s"][0]
    voltage_v = table["voltage_v"].to_numpy()
    starts = _step_starts(table)
    power_w = voltage_v * table["current_a"].to_numpy()
    if "energy_wh" in table.columns:
        power_w = _as_counted(power_w, time_s, 3600.0 * table["energy_wh"].to_numpy(), starts)
    temperature = None
    if "temperature_degc" in table.columns and table["temperature_degc"].is_finite().all():
        temperature = table["temperature_degc"].to_numpy()
    steps = tuple(_steps(table, time_s, starts))
    return Recording(
        time_s=time_s,
        voltage_v=voltage_v,
        power_w=power_w,
        temperature_degc=temperature,
        energy_j=_integral(power_w, time_s),
        volt_seconds=_integral(voltage_v, time_s),
        steps=steps,
        step_starts_s=np.array([step.start_s for step in steps]),
    )


def _ordered(table: pl.DataFrame, source: str) -> pl.DataFrame:
    time_s = table["time_s"].to_numpy()
    late = time_s < np.maximum.accumulate(time_s)
    if late.mean() > MOST_BACKWARDS_RATIO:
        raise UnreadableRecordingError(
            f"{source}: its time runs backwards at record {int(late.argmax()) + 1} and stays behind; "
            "split it where its clock starts again"
        )
    if late.any():
        table = table.sort("time_s", maintain_order=True)
    table = table.unique("time_s", keep="last", maintain_order=True)
    if len(table) < 2:  # noqa: PLR2004 - the least that has a duration
        raise UnreadableRecordingError(f"{source}: all its records are of one time; there is nothing to play")
    return table


def _step_starts(table: pl.DataFrame) -> Ints:
    """Return the records that begin a step; a recording without steps is one."""
    column = next((name for name in ("step_count", "step_id", "step_type") if name in table.columns), None)
    if column is None:
        return np.zeros(1, dtype=np.int64)
    changes = table[column].rle_id().diff().fill_null(1)
    return np.flatnonzero(changes.to_numpy())


def _steps(table: pl.DataFrame, time_s: Floats, starts: Ints) -> list[RecordedStep]:
    """Return the steps; runs of one step one after the other (a profile that is repeated) are one."""
    steps: list[RecordedStep] = []
    for number, (start, row) in enumerate(zip(starts, table[starts.tolist()].to_dicts(), strict=True), start=1):
        step = RecordedStep(
            start_s=float(time_s[start]),
            step_type=STEP_TYPES.get(str(row.get("step_type")).lower(), StepType.SIM),
            step_id=_count(row.get("step_id"), number),
            cycle_count=_count(row.get("cycle_count"), 1),
        )
        if not steps or replace(step, start_s=steps[-1].start_s) != steps[-1]:
            steps.append(step)
    return steps


def _count(value: float | None, otherwise: int) -> int:
    return otherwise if value is None or not value >= 1.0 else int(value)


def _integral(rate: Floats, time_s: Floats) -> Floats:
    integral = np.zeros(len(rate))
    np.cumsum(rate[:-1] * np.diff(time_s), out=integral[1:])
    return integral


def _as_counted(power_w: Floats, time_s: Floats, counted_j: Floats, starts: Ints) -> Floats:
    """Return the power with the counter's mean between records, in steps where it disagrees and is plausible."""
    result = power_w.copy()
    for first, end in zip(starts, [*starts[1:], len(power_w)], strict=True):
        if end - first < 3:  # noqa: PLR2004 - too short to tell
            continue
        spans_s = np.diff(time_s[first:end])
        held_w = power_w[first : end - 1]
        counted_w = np.diff(counted_j[first:end]) / spans_s
        flowed_j = float(np.abs(held_w) @ spans_s)
        disagreement_j = abs(float((counted_w - held_w) @ spans_s))
        slack_w = 0.05 * float(np.ptp(power_w[first:end]))
        low_w, high_w = power_w[first:end].min() - slack_w, power_w[first:end].max() + slack_w
        plausible = bool(np.all((counted_w >= low_w) & (counted_w <= high_w)))
        if disagreement_j > COUNTER_DISAGREES_RATIO * flowed_j and plausible:
            result[first : end - 1] = counted_w
    return result
