"""The plain form of a load's telemetry: what nearly every message of a hall is.

`schemas.messages.ChannelTelemetry` defines the payload. A load without an alarm that names every key says the same in
this struct, which is read in a quarter of the time. `schemas.codec.decode_telemetry` alone decides which of the two a
payload becomes, and a test holds that both read the same and refuse the same.
"""

from typing import Annotated, TypeAlias

import msgspec

from schemas.messages import MAX_COUNT, ChannelTelemetry, StepType, WorkStatus

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class LoadTelemetry(msgspec.Struct, frozen=True, gc=False):
    """What a load measures and does. The fields, their units and signs are those of `ChannelTelemetry`."""

    boot_id: str
    seq: Count
    unix_time_s: float
    work_status: WorkStatus
    step_type: StepType
    step_id: Count
    cycle_count: Count
    voltage_v: float
    current_a: float
    power_w: float
    temperature_degc: float | None
    soc_ratio: float | None
    battery_connected: bool
    equalization: None
    alarm: None


KEYS = len(LoadTelemetry.__struct_fields__)

Telemetry: TypeAlias = ChannelTelemetry | LoadTelemetry
"""What a channel said, in either form."""
