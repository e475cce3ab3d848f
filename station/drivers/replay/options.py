"""What the configuration says of recordings."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field

from schemas.messages import Positive
from schemas.settings import ConfigurationError, Section, validate
from station.drivers.protocol import ChannelHardware, DriverConfigurationError


class RecordingOptions(Section):
    """The `recording` of a channel: a file, and how one cell's test becomes a pack's."""

    path: Annotated[str, Field(min_length=1)]
    """Relative to the configuration's folder, or `bundled:NAME` for one that comes with the station."""
    series: Annotated[int, Field(ge=1)] = 1
    """Multiplies the voltage."""
    parallel: Annotated[int, Field(ge=1)] = 1
    """Multiplies the current."""
    time_scale: Positive = 1.0
    """How many of the recording's seconds pass in one."""
    start_s: Annotated[float, Field(ge=0.0)] = 0.0
    """Where in the recording the first run begins, in its own seconds."""
    loop: bool = True
    """Begins again at its end; else the channel has then finished."""


class ChannelOptions(Section):
    """The keys of a `[[channel]]` that are this driver's."""

    recording: RecordingOptions
    """The recording that the channel plays."""


class DriverOptions(Section):
    """This driver has no keys of its own in `[driver]`."""


S = TypeVar("S", bound=Section)


def driver_options(table: Mapping[str, Any]) -> DriverOptions:
    """Read the driver's own table.

    Raises:
        DriverConfigurationError: one line that names the key and what is allowed.
    """
    return _validated(DriverOptions, table, "driver")


def recording_options(hardware: ChannelHardware) -> RecordingOptions:
    """Read a channel's own keys.

    Raises:
        DriverConfigurationError: one line that names the channel, the key and what is allowed.
    """
    return _validated(ChannelOptions, hardware.options, f"channel {hardware.id}").recording


def _validated(model: type[S], table: Mapping[str, Any], source: str) -> S:
    try:
        return validate(model, table, source=source)
    except ConfigurationError as error:
        raise DriverConfigurationError(str(error)) from None
