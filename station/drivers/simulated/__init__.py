"""A battery behind a bidirectional channel, for demonstrations, tests and whole halls without equipment."""

import random
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from station.drivers.protocol import ChannelHardware, Demand, Preview, Sample, UnknownChannelError
from station.drivers.simulated.channel import Ratings, SimulatedChannel
from station.drivers.simulated.options import DriverOptions, NoiseOptions, channel_options, driver_options


def create(options: Mapping[str, Any], base_dir: str) -> "SimulatedDriver":  # noqa: ARG001 - it reads no files
    """Make a driver of simulated batteries.

    Raises:
        DriverConfigurationError: an option is wrong.
    """
    return SimulatedDriver(driver_options(options))


class SimulatedDriver:
    """Simulated batteries, each behind its own channel."""

    def __init__(self, options: DriverOptions) -> None:
        self._options = options
        self._channels: dict[str, _Place] = {}

    async def open(self, channels: Sequence[ChannelHardware]) -> None:
        """Build the batteries.

        Raises:
            DriverConfigurationError: a channel's options are wrong.
        """
        self._channels = {
            hardware.id: _Place(
                _build(hardware, self._options.time_scale),
                random.Random(f"{self._options.seed}/{hardware.id}"),  # noqa: S311 - measurement noise, not a secret
            )
            for hardware in channels
        }

    async def close(self) -> None:
        """Let the batteries go."""
        self._channels = {}

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample:
        """Let time pass under the last demand, take the new one, and measure.

        Raises:
            UnknownChannelError: the channel was not opened.
            DeviceFaultError: the demand is one that a battery cannot follow.
        """
        place = self._place(channel_id)
        place.advance_to(now_s)
        place.channel.follow(demand)
        sample = place.channel.sample()
        return _measured(sample, self._options.noise, place.noise) if self._options.noise.any() else sample

    def has_own_program(self, channel_id: str) -> bool:
        """A battery has none."""
        self._place(channel_id)
        return False

    def preview(self, channel_id: str, horizon_s: float, now_s: float) -> Preview | None:  # noqa: ARG002 - nothing to see
        """Nothing is known of a battery's future."""
        self._place(channel_id)
        return None

    def clear_fault(self, channel_id: str, now_s: float) -> None:
        """Forget a trip; it comes back with the next exchange where its cause is still there."""
        place = self._place(channel_id)
        place.advance_to(now_s)
        place.channel.clear_fault()

    def rewire(self, channel_id: str, *, connected: bool = True, reverse: bool = False) -> None:
        """Plug, unplug or swap the poles of a battery while it is in use: for experiments."""
        channel = self._place(channel_id).channel
        channel.connected, channel.reverse = connected, reverse

    def _place(self, channel_id: str) -> "_Place":
        try:
            return self._channels[channel_id]
        except KeyError:
            raise UnknownChannelError(f"there is no channel {channel_id!r}") from None


class _Place:
    """A channel and the time that it has reached."""

    __slots__ = ("channel", "noise", "reached_s")

    def __init__(self, channel: SimulatedChannel, noise: random.Random) -> None:
        self.channel = channel
        self.noise = noise
        self.reached_s: float | None = None

    def advance_to(self, now_s: float) -> None:
        if self.reached_s is not None and now_s > self.reached_s:
            self.channel.advance(now_s - self.reached_s)
        self.reached_s = now_s if self.reached_s is None else max(now_s, self.reached_s)


def _build(hardware: ChannelHardware, time_scale: float) -> SimulatedChannel:
    options = channel_options(hardware)
    battery, window = options.battery, options.battery.window()
    ratings = Ratings(
        charge_limit_w=hardware.charge_limit_w,
        discharge_limit_w=hardware.discharge_limit_w,
        ramp_w_per_s=hardware.ramp_w_per_s,
        max_current_a=inf if options.max_current_a is None else options.max_current_a,
        over_current_a=inf if options.over_current_a is None else options.over_current_a,
        voltage_max_v=battery.series * window.voltage_max_v,
        voltage_min_v=battery.series * window.voltage_min_v,
        over_voltage_v=battery.series * window.over_voltage_v,
        under_voltage_v=battery.series * window.under_voltage_v,
        over_temperature_degc=battery.over_temperature_degc,
    )
    return SimulatedChannel(
        ratings, battery.build(), connected=battery.connected, reverse=battery.reversed, time_scale=time_scale
    )


def _measured(sample: Sample, noise: NoiseOptions, source: random.Random) -> Sample:
    """Return a sample with noise; an open contactor's 0 A is exact."""
    if not sample.battery_connected or sample.temperature_degc is None:
        return sample
    voltage_v = sample.voltage_v + source.gauss(0.0, noise.voltage_v)
    current_a = sample.current_a if sample.current_a == 0.0 else sample.current_a + source.gauss(0.0, noise.current_a)
    return Sample(
        voltage_v=voltage_v,
        current_a=current_a,
        power_w=voltage_v * current_a,
        battery_connected=True,
        charge_limit_w=sample.charge_limit_w,
        discharge_limit_w=sample.discharge_limit_w,
        temperature_degc=sample.temperature_degc + source.gauss(0.0, noise.temperature_degc),
        soc_ratio=sample.soc_ratio,
        fault=sample.fault,
    )
