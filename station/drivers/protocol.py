"""What the channel's core asks of the equipment: six methods that never block.

Slow I/O belongs in tasks of the driver's own, started by `open`; `exchange` hands over the newest demand and takes the
newest sample. The same drivers so run under a virtual clock.

Sign: seen from the battery; positive current and power charge it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.messages import Alarm, PlanSegment, StepType, WorkStatus


@dataclass(frozen=True, slots=True)
class Off:
    """No current; the converter is disconnected."""


@dataclass(frozen=True, slots=True)
class ConstantCurrent:
    """A current, reduced so that the voltage stays within `voltage_limit_v` (CCCV), where one is given."""

    current_a: float
    voltage_limit_v: float | None = None


@dataclass(frozen=True, slots=True)
class ConstantPower:
    """A power at the battery's terminals."""

    power_w: float


@dataclass(frozen=True, slots=True)
class OwnProgram:
    """What the equipment plays by itself (a recording)."""


Demand = Off | ConstantCurrent | ConstantPower | OwnProgram


@dataclass(frozen=True, slots=True)
class OwnStep:
    """Where the equipment's own program stands."""

    work_status: WorkStatus
    """`working`, `paused` while somebody holds it at the equipment, or `finished` once it has ended."""
    step_type: StepType
    step_id: int
    cycle_count: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one channel."""

    voltage_v: float
    current_a: float
    power_w: float
    battery_connected: bool
    charge_limit_w: float
    """What the channel can take now (≥ 0): its rating, derated near the battery's voltage and charge limits."""
    discharge_limit_w: float
    """What the channel can give now (≥ 0)."""
    temperature_degc: float | None = None
    soc_ratio: float | None = None
    fault: Alarm | None = None
    """A condition that must trip the channel's protection; null: none."""
    own_step: OwnStep | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What the equipment's own program will do next, counted from now."""

    segments: tuple[PlanSegment, ...]
    until_s: float


@dataclass(frozen=True, slots=True)
class ChannelHardware:
    """What a driver is told of one channel."""

    id: str
    charge_limit_w: float
    discharge_limit_w: float
    ramp_w_per_s: float
    options: Mapping[str, Any]
    """The channel's table of the configuration that belongs to the driver (`battery`, `recording`, …)."""


class DriverError(Exception):
    """The root of what a driver may raise."""


class TransientDriverError(DriverError):
    """This exchange failed; the next may succeed. The caller retries, and takes it as lost after a while."""


class DeviceFaultError(DriverError):
    """The equipment is at fault: the channel latches safe until its alarm is cleared."""


class DriverConfigurationError(DriverError):
    """The configuration cannot work: say so on one line and exit with 2."""


class UnknownChannelError(DriverError, KeyError):
    """A channel that was not opened: a mistake of the caller."""

    __str__ = Exception.__str__  # KeyError's own would quote the sentence


class Driver(Protocol):
    """One kind of equipment."""

    async def open(self, channels: Sequence[ChannelHardware]) -> None:
        """Connect to the equipment and take up its channels.

        Raises:
            DriverConfigurationError: a channel's options are wrong; the text names the key and what is allowed.
        """

    async def close(self) -> None:
        """Switch every channel off and let the equipment go. Never raises."""

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample:
        """Hand over what the channel is to do from now on and take its newest sample. Never blocks.

        Args:
            channel_id: one of the channels that were opened.
            demand: what is to be done from now on.
            now_s: monotonic seconds; never falls.

        Raises:
            TransientDriverError: no sample this time.
            DeviceFaultError: the equipment is at fault.
            UnknownChannelError: the channel was not opened; so do the methods below.
        """

    def has_own_program(self, channel_id: str) -> bool:
        """Tell whether the equipment plays a program of its own; such a channel takes no other demand but `Off`."""

    def preview(self, channel_id: str, horizon_s: float, now_s: float) -> Preview | None:
        """Return what the equipment's own program will do within the horizon; null where that is not known."""

    def clear_fault(self, channel_id: str, now_s: float) -> None:
        """Forget a latched fault of the equipment; it comes back at once where its cause is still there."""


DriverFactory = Callable[[Mapping[str, Any], str], Driver]
"""What an entry point of the group `zeroloop.drivers` names: `create(options, base_dir)`, with the keys of `[driver]`
other than `type`, and the folder that relative paths start from. Raises DriverConfigurationError."""
