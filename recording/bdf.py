"""A channel's history as Battery Data Format: the columns of the Battery Data Alliance's ontology, by their labels.

Source of the labels: https://w3id.org/battery-data-alliance/ontology/battery-data-format. Its sign is ours: positive
charges.
"""

from pathlib import Path

import polars as pl

from recording.reader import Recording
from schemas.settings import ConfigurationError

COLUMNS = pl.Schema(
    {
        "Test Time / s": pl.Float64,
        "Voltage / V": pl.Float64,
        "Current / A": pl.Float64,
        "Unix Time / s": pl.Float64,
        "Cycle Count / 1": pl.Int64,
        "Step Count / 1": pl.Int64,
        "Step Index / 1": pl.Int64,
        "Power / W": pl.Float64,
        "Surface Temperature T1 / degC": pl.Float64,
    }
)
"""`Step Count` counts the steps that were begun, `Step Index` is the step's number in the program."""


def history(
    recording: Recording,
    station: str,
    channel: str,
    *,
    since_unix_time_s: float | None = None,
    until_unix_time_s: float | None = None,
) -> pl.DataFrame:
    """Return a channel's history in a span of time.

    Raises:
        ConfigurationError: the recording has nothing of that channel, or nothing in that span.
    """
    rows: list[tuple[object, ...]] = []
    began_s = last_s = 0.0
    steps, step = 0, (-1, "")
    for row, said in recording.telemetry(
        station, channel, since_unix_time_s=since_unix_time_s, until_unix_time_s=until_unix_time_s
    ):
        if (said.step_id, str(said.step_type)) != step:
            step, steps = (said.step_id, str(said.step_type)), steps + 1
        if not rows:
            began_s = row.at_s
        elif row.at_s <= last_s:
            continue  # two in one moment: a time belongs to one row
        last_s = row.at_s
        rows.append(
            (
                row.at_s - began_s,
                said.voltage_v,
                said.current_a,
                row.unix_time_s,
                said.cycle_count,
                steps,
                said.step_id,
                said.power_w,
                said.temperature_degc,
            )
        )
    if not rows:
        raise ConfigurationError(_nothing(recording, station, channel))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write a history; the file's suffix says how.

    Raises:
        ConfigurationError: the suffix is neither .csv nor .parquet.
        OSError: the file cannot be written.
    """
    match path.suffix:
        case ".csv":
            frame.write_csv(path)
        case ".parquet":
            frame.write_parquet(path)
        case other:
            raise ConfigurationError(f"--out: {path.name}: .csv or .parquet is known, not {other!r}")


def _nothing(recording: Recording, station: str, channel: str) -> str:
    known = recording.channels()
    if (station, channel) in known:
        return f"{recording.path}: has telemetry of {station}/{channel}, but none in that time"
    names = ", ".join("/".join(key) for key in known[:12]) + (" …" if known[12:] else "")
    return f"{recording.path}: has nothing of {station}/{channel}; it has: {names or 'no channels'}"
