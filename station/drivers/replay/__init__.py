"""Plays recorded battery tests as loads with a program of their own."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from station.drivers.protocol import (
    ChannelHardware,
    Demand,
    DriverConfigurationError,
    Preview,
    Sample,
    UnknownChannelError,
)
from station.drivers.replay.options import RecordingOptions, driver_options, recording_options
from station.drivers.replay.outline import RESOLUTION_S, outline
from station.drivers.replay.playback import Playback, Scaling
from station.drivers.replay.reading import UnreadableRecordingError, read
from station.drivers.replay.recording import Recording, from_table

BUNDLED = "bundled:"
TOLERANCE_RATIO = 0.01
"""Of a channel's rating: how far its announced power may be off."""


def create(options: Mapping[str, Any], base_dir: str) -> "ReplayDriver":
    """Make a driver that plays recordings; relative paths start from `base_dir`.

    Raises:
        DriverConfigurationError: an option is wrong.
    """
    driver_options(options)
    return ReplayDriver(Path(base_dir))


class ReplayDriver:
    """Recordings, each played on its own channel."""

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self._channels: dict[str, Playback] = {}

    async def open(self, channels: Sequence[ChannelHardware]) -> None:
        """Read the recordings; one that several channels play is read once.

        Raises:
            DriverConfigurationError: a channel's options are wrong, or its recording cannot be played.
        """
        shelf: dict[Path, Recording] = {}
        self._channels = {hardware.id: self._playback(hardware, shelf) for hardware in channels}

    async def close(self) -> None:
        """Stop playing."""
        self._channels = {}

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample:
        """Play on with `OwnProgram`, stop with `Off`.

        Raises:
            UnknownChannelError: the channel was not opened.
            DeviceFaultError: another demand, which a recording cannot follow.
        """
        return self._channel(channel_id).exchange(demand, now_s)

    def has_own_program(self, channel_id: str) -> bool:
        """Every channel of this driver has."""
        self._channel(channel_id)
        return True

    def preview(self, channel_id: str, horizon_s: float, now_s: float) -> Preview | None:
        """Return the power that the recording brings; null while it is not played."""
        return self._channel(channel_id).preview(horizon_s, now_s)

    def clear_fault(self, channel_id: str, now_s: float) -> None:  # noqa: ARG002 - there is none to clear
        """A recording has no faults."""
        self._channel(channel_id)

    def _channel(self, channel_id: str) -> Playback:
        try:
            return self._channels[channel_id]
        except KeyError:
            raise UnknownChannelError(f"there is no channel {channel_id!r}") from None

    def _playback(self, hardware: ChannelHardware, shelf: dict[Path, Recording]) -> Playback:
        options = recording_options(hardware)
        try:
            path = _path(options.path, self._base_dir)
            if path not in shelf:
                shelf[path] = from_table(read(path), str(path))
        except UnreadableRecordingError as error:
            raise DriverConfigurationError(f"channel {hardware.id}: recording.path: {error}") from error
        recording = shelf[path]
        _check(hardware, options, recording)
        scaling = Scaling(options.series, options.parallel, options.time_scale, options.start_s, options.loop)
        rating_w = max(hardware.charge_limit_w, hardware.discharge_limit_w)
        pieces = outline(
            recording,
            resolution_s=RESOLUTION_S * options.time_scale,
            tolerance_w=TOLERANCE_RATIO * rating_w / scaling.cells,
        )
        return Playback(
            recording,
            pieces,
            scaling,
            charge_limit_w=hardware.charge_limit_w,
            discharge_limit_w=hardware.discharge_limit_w,
        )


def _path(text: str, base_dir: Path) -> Path:
    if not text.startswith(BUNDLED):
        return base_dir / text
    folder = Path(str(files("station"))) / "recordings"
    path = folder / text.removeprefix(BUNDLED)
    if not path.is_file():
        bundled = ", ".join(sorted(item.name for item in folder.iterdir() if item.suffix in (".ndax", ".zip")))
        raise UnreadableRecordingError(f"{text!r}: bundled are: {bundled}")
    return path


def _check(hardware: ChannelHardware, options: RecordingOptions, recording: Recording) -> None:
    if options.start_s >= recording.duration_s:
        raise DriverConfigurationError(
            f"channel {hardware.id}: recording.start_s: must be below the recording's {recording.duration_s:g} s, "
            f"not {options.start_s:g}"
        )
    cells = options.series * options.parallel
    peaks = (
        ("charge_limit_w", hardware.charge_limit_w, float(recording.power_w.max()) * cells),
        ("discharge_limit_w", hardware.discharge_limit_w, -float(recording.power_w.min()) * cells),
    )
    for key, limit_w, peak_w in peaks:
        if peak_w > limit_w:
            raise DriverConfigurationError(
                f"channel {hardware.id}: {key}: the recording reaches {peak_w:.0f} W with series {options.series} and "
                f"parallel {options.parallel}, above {limit_w:g} W; lower these or raise the limit"
            )
