"""Reads a recording's file into a table of the columns that are played.

Neware's `.nda` and `.ndax`, the Battery Data Format and plain tables as `.csv` or `.parquet`, and a `.zip` that holds
one of these. Any of the names below may head a column:

| column | names |
| --- | --- |
| time | `Test Time / s`, `test_time_second`, `total_time_s`, `time_s` |
| voltage | `Voltage / V`, `voltage_volt`, `voltage_V`, `voltage_v` |
| current, positive charging | `Current / A`, `current_ampere`, `current_a`, `current_A`, `current_mA` |
| optional | step number, step type, cycle, temperature: see `OPTIONAL` |
"""

import logging
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import fastnda
import fastnda.ndax
import polars as pl

logger = logging.getLogger(__name__)


class _OneAtATime(ThreadPoolExecutor):
    def __init__(self) -> None:
        super().__init__(max_workers=1)


# The decoder reads the members of an archive in several threads. The zipfile of Python 3.12 and 3.13 mixes them up: one
# read in twenty ends with a false checksum. One member after the other costs milliseconds.
fastnda.ndax.ThreadPoolExecutor = _OneAtATime

REQUIRED = {
    "time_s": ("Test Time / s", "test_time_second", "total_time_s", "time_s"),
    "voltage_v": ("Voltage / V", "voltage_volt", "voltage_V", "voltage_v"),
    "current_a": ("Current / A", "current_ampere", "current_a", "current_A", "current_mA"),
}
OPTIONAL = {
    "step_count": ("Step Count / 1", "step_count"),
    "step_id": ("Step ID", "Step Index / 1", "step_id", "step_index"),
    "step_type": ("Step Type", "step_type"),
    "cycle_count": ("Cycle Count / 1", "cycle_count"),
    "temperature_degc": (
        "Surface Temperature T1 / degC", "Temperature T1 / degC", "surface_temperature_celsius",
        "temperature_t1_celsius", "aux1_temperature_celsius", "aux1_temperature_degC", "temperature_degc",
    ),
    "energy_wh": ("Step Net Energy / Wh", "step_net_energy_wh", "energy_mWh"),
}  # fmt: skip
MILLI = ("current_mA", "energy_mWh")
SUFFIXES = (".nda", ".ndax", ".csv", ".parquet")


class UnreadableRecordingError(ValueError):
    """A file that cannot be played; the text says why and what to do."""


def read(path: Path) -> pl.DataFrame:
    """Return a recording's columns, named as in `REQUIRED` and `OPTIONAL`, in the units of their names.

    Raises:
        UnreadableRecordingError: the file is missing, damaged, empty or of another kind.
    """
    if not path.is_file():
        raise UnreadableRecordingError(f"{path}: there is no such file")
    try:
        table = _named(_read_zip(path) if path.suffix.lower() == ".zip" else _read_plain(path), path)
    except UnreadableRecordingError:
        raise
    except Exception as error:  # a damaged file makes its decoder fail in any way
        reason = " ".join(str(error).split())[:200]
        raise UnreadableRecordingError(
            f"{path}: is damaged or not of the kind that its name says ({type(error).__name__}: {reason}); "
            "copy or export it again"
        ) from error
    if table.is_empty():
        raise UnreadableRecordingError(f"{path}: holds no records; choose a recording of a test that has run")
    return table


def _read_zip(path: Path) -> pl.DataFrame:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if Path(name).suffix.lower() in SUFFIXES]
        if len(names) != 1:
            raise UnreadableRecordingError(
                f"{path}: must hold one file of {', '.join(SUFFIXES)}, not {len(names)}; unpack it and name the file"
            )
        with tempfile.TemporaryDirectory() as folder:
            unpacked = Path(folder, Path(names[0]).name)
            unpacked.write_bytes(archive.read(names[0]))
            return _read_plain(unpacked)


def _read_plain(path: Path) -> pl.DataFrame:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UnreadableRecordingError(f"{path}: must end in {', '.join((*SUFFIXES, '.zip'))}")
    return reader(path)


def _read_neware(path: Path) -> pl.DataFrame:
    with _console_kept_clean(path):
        table: pl.DataFrame = fastnda.read(path)
    return table.with_columns(pl.col("step_type").cast(pl.String))


def _read_csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".nda": _read_neware,
    ".ndax": _read_neware,
    ".csv": _read_csv,
    ".parquet": pl.read_parquet,
}


def _named(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    columns = []
    for column, names in (REQUIRED | OPTIONAL).items():
        found = next((name for name in names if name in table.columns), None)
        if found is None:
            if column in REQUIRED:
                raise UnreadableRecordingError(
                    f"{path}: has no column for {column}; one of these must head it: {', '.join(names)}"
                )
            continue
        values = pl.col(found)
        if column != "step_type":
            values = values.cast(pl.Float64, strict=False)
        columns.append((values / 1000.0 if found in MILLI else values).alias(column))
    named = table.select(columns)
    _check_numbers(named, path)
    return named


def _check_numbers(table: pl.DataFrame, path: Path) -> None:
    for column in REQUIRED:
        wrong = table.select((pl.col(column).is_null() | ~pl.col(column).is_finite()).arg_true()).to_series()
        if len(wrong) > 0:
            raise UnreadableRecordingError(
                f"{path}: {column} of record {wrong[0] + 1} is not a number ({len(wrong)} such records); "
                "repair or remove them"
            )


@contextmanager
def _console_kept_clean(path: Path) -> Iterator[None]:
    """Turn what the decoder logs and warns into single lines of our own: errors as warnings, the rest for debugging."""
    source = logging.getLogger("fastnda")
    collector = _Collector()
    propagated, source.propagate = source.propagate, False
    source.addHandler(collector)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        source.removeHandler(collector)
        source.propagate = propagated
    texts = [record.getMessage() for record in collector.records if record.levelno >= logging.ERROR]
    if texts:
        logger.warning("%s: records are complete, but: %s", path.name, " ".join(texts))
    for record in collector.records:
        if record.levelno < logging.ERROR:
            logger.debug("%s: %s", path.name, record.getMessage())
    for warning in caught:
        logger.info("%s: %s", path.name, " ".join(str(warning.message).split()))


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
