"""One channel as one frozen value."""

from dataclasses import dataclass
from enum import Enum

from schemas.messages import Alarm, Reply, SetpointReason
from station.channel.lease import UNLED, Echo, Fence, Lease
from station.channel.outcome import Remembered
from station.channel.program import Run
from station.channel.states import Life
from station.channel.steps import Program, compile_program
from station.config import ChannelSection
from station.drivers.protocol import Demand, Off, Sample

OFF = Off()


class Pending(Enum):
    """What a channel does by itself once it has its first sample."""

    NOTHING = "nothing"
    START = "start"
    EQUALIZE = "equalize"


@dataclass(frozen=True, slots=True)
class Setup:
    """What never changes while the process runs."""

    channel_id: str
    boot_id: str
    charge_limit_w: float
    discharge_limit_w: float
    ramp_w_per_s: float
    program: Program
    own_program: bool
    """The equipment plays a program of its own, and takes no demand but `OwnProgram` and `Off`."""


@dataclass(frozen=True, slots=True)
class ChannelState:
    """All that a channel knows. The shell reads `demand` and hands the rest back."""

    setup: Setup
    life: Life
    demand: Demand
    """For the driver's next `exchange`."""
    remembered: Remembered
    """What was last handed out to be stored."""
    pending: Pending
    ticked_s: float
    sampled_s: float
    """When the newest good sample came; before the first, the time of `initial`."""
    sample: Sample | None = None
    """The newest good one."""
    alarm: Alarm | None = None
    trouble_since_s: float | None = None
    """Since when the driver has given no sample."""
    stuck_since_s: float | None = None
    """Since when the readings stand still although other power is asked for."""
    run: Run | None = None
    """Where the program stands."""
    applied_w: float = 0.0
    """The power on the ramp, of equalization or of a stop."""
    fence: Fence = UNLED
    lease: Lease | None = None
    echo: Echo | None = None
    sent: tuple[tuple[int, float], ...] = ()
    """Recent telemetry: seq and when it was sent, oldest first."""
    telemetry_seq: int = 0
    plan_seq: int = 0
    plan_at_s: float = 0.0
    """When the next plan is due."""
    announce: bool = False
    """A change of work status, step or alarm waits for its telemetry."""
    replies: tuple[Reply, ...] = ()
    """To recent commands, oldest first: the same id gets the same reply."""
    lapsed: bool = False
    """A lease has run out, and no setpoint was obeyed since."""
    complained: tuple[SetpointReason, float] | None = None
    """What the last Event about a refused setpoint said, and when."""

    @property
    def equalizing(self) -> bool:
        """The channel is in equalization mode."""
        return self.life is Life.EQUALIZING


def initial(
    settings: ChannelSection, memory: Remembered | None, boot_id: str, now_s: float, *, own_program: bool = False
) -> ChannelState:
    """Return a channel at the start of its process: off, until its first sample says that a battery is there.

    What was in protection still is: starting the station again is no way to clear an alarm.

    Args:
        settings: the channel's table of the configuration.
        memory: what was stored last; null: nothing.
        boot_id: new at every start.
        now_s: monotonic seconds.
        own_program: what the driver's `has_own_program` says.
    """
    remembered = memory if memory is not None else Remembered()
    program = compile_program(settings)
    if remembered.alarm is not None:
        pending = Pending.NOTHING
    elif remembered.equalizing or settings.equalize:
        pending = Pending.EQUALIZE
    elif settings.autostart and (own_program or program.instructions):
        pending = Pending.START
    else:
        pending = Pending.NOTHING
    return ChannelState(
        setup=Setup(
            channel_id=settings.id,
            boot_id=boot_id,
            charge_limit_w=settings.charge_limit_w,
            discharge_limit_w=settings.discharge_limit_w,
            ramp_w_per_s=settings.ramp_w_per_s,
            program=program,
            own_program=own_program,
        ),
        life=Life.IDLE if remembered.alarm is None else Life.PROTECT,
        alarm=remembered.alarm,
        demand=OFF,
        remembered=remembered,
        pending=pending,
        ticked_s=now_s,
        sampled_s=now_s,
        plan_at_s=now_s,
        fence=Fence(epoch=remembered.epoch, server=remembered.server),
    )
