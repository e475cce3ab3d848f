"""Equipment that fails when the experiment says so, and that writes down what it truly does.

A driver in a station's own process: simulated batteries, a file per channel with every power and demand, and a file
per channel that names the present fault.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from station.drivers.protocol import (
    ChannelHardware,
    ConstantPower,
    Demand,
    DeviceFaultError,
    Off,
    Preview,
    Sample,
    TransientDriverError,
)
from station.drivers.simulated import SimulatedDriver
from station.drivers.simulated.channel import Ratings
from station.drivers.simulated.options import driver_options


def record_path(folder: Path, station: str, channel: str) -> Path:
    """Where the equipment writes: its time, true power, demanded power (`-`: none) in W.

    Its time is the monotonic one that it has been brought to. When this process gets to write that down is another
    matter: a loaded computer may hold it up just before.
    """
    return folder / f"equipment-{station}-{channel}.txt"


def fault_path(folder: Path, station: str, channel: str) -> Path:
    """Where the experiment writes the present fault; no file: none."""
    return folder / f"equipment-{station}-{channel}.fault"


def create(options: Mapping[str, Any], base_dir: str) -> "FailingDriver":
    """Make the driver; the key `station` names its files."""
    others = {key: value for key, value in options.items() if key != "station"}
    return FailingDriver(SimulatedDriver(driver_options(others)), Path(base_dir), options["station"])


class FailingDriver:
    """Simulated batteries behind equipment that can fail."""

    def __init__(self, inner: SimulatedDriver, folder: Path, station: str) -> None:
        self._inner = inner
        self._folder = folder
        self._station = station
        self._records: dict[str, TextIOWrapper] = {}
        self._stuck: dict[str, Sample] = {}
        self._rated: dict[str, Ratings] = {}

    async def open(self, channels: Sequence[ChannelHardware]) -> None:
        await self._inner.open(channels)
        for channel in channels:
            self._records[channel.id] = record_path(self._folder, self._station, channel.id).open("a", buffering=1)

    async def close(self) -> None:
        await self._inner.close()
        for record in self._records.values():
            record.close()

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample:
        fault = self._fault(channel_id)
        if fault == "lost":
            raise TransientDriverError("the cycler does not answer")
        self._inner.rewire(channel_id, connected=fault != "missing", reverse=fault == "reversed")
        channel = self._inner._place(channel_id).channel
        rated = self._rated.setdefault(channel_id, channel.ratings)
        channel.ratings = replace(rated, over_voltage_v=1.0) if fault == "over_voltage" else rated
        sample = self._inner.exchange(channel_id, demand, now_s)
        if now_s > time.monotonic():
            raise DeviceFaultError(f"{now_s} s is yet to come")
        asked = f"{demand.power_w:.1f}" if isinstance(demand, ConstantPower) else "0.0" if demand == Off() else "-"
        self._records[channel_id].write(f"{now_s:.6f} {sample.power_w:.1f} {asked}\n")
        if fault != "stuck":
            self._stuck[channel_id] = sample
        return self._told(channel_id, sample, fault)

    def _told(self, channel_id: str, sample: Sample, fault: str) -> Sample:
        match fault:
            case "nan":
                return replace(sample, voltage_v=math.nan)
            case "stuck":
                return self._stuck.get(channel_id, sample)
            case "liar":
                return replace(sample, power_w=0.5 * sample.power_w)
            case "giant":
                return replace(sample, power_w=5e6, current_a=5e6 / sample.voltage_v)
            case _:
                return sample

    def _fault(self, channel_id: str) -> str:
        try:
            return fault_path(self._folder, self._station, channel_id).read_text()
        except FileNotFoundError:
            return ""

    def has_own_program(self, channel_id: str) -> bool:
        return self._inner.has_own_program(channel_id)

    def preview(self, channel_id: str, horizon_s: float, now_s: float) -> Preview | None:
        return self._inner.preview(channel_id, horizon_s, now_s)

    def clear_fault(self, channel_id: str, now_s: float) -> None:
        self._inner.clear_fault(channel_id, now_s)
