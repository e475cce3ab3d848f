"""What every driver must do, as asynchronous tests: pytest-asyncio in its `auto` mode runs them as they stand.

The author of a driver writes, in a test file of their own:

    class TestMyDriver(DriverContract):
        def bench(self) -> Bench:
            return Bench(MyDriver(...), ChannelHardware("1", 5000.0, 5000.0, 5000.0, {...}))

Every test takes a new bench. Its equipment is idle, healthy, and has a battery connected that can be charged and
discharged for a minute. Time is virtual: the tests pass `now_s` and wait for nothing.
"""

import resource
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite

from schemas.messages import WorkStatus
from station.drivers.protocol import (
    ChannelHardware,
    ConstantCurrent,
    ConstantPower,
    Demand,
    Driver,
    DriverConfigurationError,
    DriverError,
    Off,
    OwnProgram,
    Sample,
    UnknownChannelError,
)

MOST_SEGMENTS = 64
ACCURACY_RATIO = 0.01


@dataclass(frozen=True, slots=True)
class Bench:
    """A driver that is not open yet, and the one channel that it is to open."""

    driver: Driver
    hardware: ChannelHardware

    @property
    def accuracy_w(self) -> float:
        """How well a power is measured and met."""
        return ACCURACY_RATIO * max(self.hardware.charge_limit_w, self.hardware.discharge_limit_w)

    @property
    def plays(self) -> bool:
        """Whether the channel has a program of its own, and so follows no other demand."""
        return self.driver.has_own_program(self.hardware.id)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Bench"]:
        """Open the driver, and close it at the end."""
        await self.driver.open([self.hardware])
        try:
            yield self
        finally:
            await self.driver.close()

    def run(self, demand: Demand, times_s: Sequence[float]) -> list[Sample]:
        """Hold a demand and sample at these times."""
        return [self.driver.exchange(self.hardware.id, demand, now_s) for now_s in times_s]

    def works_on(self) -> Demand:
        """Return a demand under which power flows."""
        if self.plays:
            return OwnProgram()
        return ConstantPower(0.2 * self.hardware.charge_limit_w)


class DriverContract:
    """The contract suite; a subclass gives the bench. Tests of demands pass over a channel that plays its program."""

    def bench(self) -> Bench:
        """Return a new driver and its channel."""
        raise NotImplementedError

    async def _new_run(self, demand: Demand, seconds: int) -> list[Sample]:
        """Hold a demand on a new bench, once a second; nothing where the channel follows none."""
        async with self.bench().opened() as bench:
            return [] if bench.plays else bench.run(demand, [float(second) for second in range(seconds)])

    async def test_idle_means_no_current(self) -> None:
        """`Off` from the start: no current, and a sample that makes sense."""
        async with self.bench().opened() as bench:
            for sample in bench.run(Off(), [100.0, 101.0, 102.0]):
                _require(sample.current_a == 0.0 and sample.power_w == 0.0, f"off, and yet {sample.current_a} A flow")
                _check_sample(sample, bench)
                _require(sample.battery_connected and sample.fault is None, "the bench's battery must be usable")

    async def test_off_ends_the_current_within_one_exchange(self) -> None:
        """`Off` while power flows: the next sample shows none."""
        async with self.bench().opened() as bench:
            bench.run(bench.works_on(), [0.0, 1.0, 2.0])
            bench.run(Off(), [3.0])
            _require(bench.run(Off(), [4.0])[0].current_a == 0.0, "current flows after Off")

    async def test_samples_make_sense_while_working(self) -> None:
        """Finite, limits not negative and within the ratings, power is voltage times current."""
        async with self.bench().opened() as bench:
            for sample in bench.run(bench.works_on(), [float(second) for second in range(60)]):
                _check_sample(sample, bench)

    async def test_positive_charges(self) -> None:
        """Both demands, both directions: current and power have the demand's sign."""
        async with self.bench().opened() as probe:
            volts = probe.run(Off(), [0.0])[0].voltage_v
            demands = [] if probe.plays else [_mild_demands(sign, probe.hardware, volts) for sign in (1.0, -1.0)]
        for sign, pair in zip((1.0, -1.0), demands, strict=False):
            for demand in pair:
                sample = (await self._new_run(demand, 20))[-1]
                _require(sample.current_a * sign > 0.0 and sample.power_w * sign > 0.0, f"{demand} gave {sample}")

    async def test_power_is_met(self) -> None:
        """A power well within the limits is reached."""
        bench = self.bench()
        for asked_w in (0.2 * bench.hardware.charge_limit_w, -0.2 * bench.hardware.discharge_limit_w):
            for sample in (await self._new_run(ConstantPower(asked_w), 20))[-1:]:
                _require(abs(sample.power_w - asked_w) <= bench.accuracy_w, f"asked {asked_w} W, got {sample}")

    async def test_limits_hold(self) -> None:
        """Ten times the rating asked: no more than the sample's own limit is given."""
        bench = self.bench()
        most_w = 10.0 * max(bench.hardware.charge_limit_w, bench.hardware.discharge_limit_w)
        for asked_w in (most_w, -most_w):
            for sample in await self._new_run(ConstantPower(asked_w), 30):
                _require(sample.power_w <= sample.charge_limit_w + bench.accuracy_w, f"charges too much: {sample}")
                _require(sample.power_w >= -sample.discharge_limit_w - bench.accuracy_w, f"gives too much: {sample}")

    async def test_ramp_holds(self) -> None:
        """A change of direction at full ask: power moves no faster than the ramp."""
        async with self.bench().opened() as bench:
            if bench.plays:
                return
            tick_s = 0.1
            there = bench.run(ConstantPower(bench.hardware.charge_limit_w), [tick_s * tick for tick in range(40)])
            back = bench.run(
                ConstantPower(-bench.hardware.discharge_limit_w), [tick_s * tick for tick in range(40, 80)]
            )
            powers_w = [sample.power_w for sample in (*there, *back)]
            allowed_w = bench.hardware.ramp_w_per_s * tick_s + bench.accuracy_w
            for before_w, after_w in pairwise(powers_w):
                _require(abs(after_w - before_w) <= allowed_w, f"from {before_w} W to {after_w} W in {tick_s} s")

    async def test_time_may_stand_still_or_leap(self) -> None:
        """Two exchanges at one instant, and one after an hour."""
        async with self.bench().opened() as bench:
            for sample in bench.run(bench.works_on(), [5.0, 5.0, 5.0, 3605.0, 3605.0]):
                _check_sample(sample, bench)

    async def test_exchange_never_blocks(self) -> None:
        """Most exchanges return without ever having waited: for a device, a lock or a clock."""
        async with self.bench().opened() as bench:
            demand, waits = bench.works_on(), []
            for tick in range(101):
                before = _waits()
                bench.run(demand, [float(tick)])
                waits.append(_waits() - before)
            _require(sorted(waits)[50] == 0, "an exchange waits for something")

    async def test_unknown_channel_is_the_callers_mistake(self) -> None:
        """Every method that names a channel says so."""
        nobody = "no-such-channel"
        async with self.bench().opened() as bench:
            driver = bench.driver
            _require_raises(UnknownChannelError, lambda: driver.exchange(nobody, Off(), 0.0))
            _require_raises(UnknownChannelError, lambda: driver.has_own_program(nobody))
            _require_raises(UnknownChannelError, lambda: driver.preview(nobody, 60.0, 0.0))
            _require_raises(UnknownChannelError, lambda: driver.clear_fault(nobody, 0.0))

    async def test_close_never_raises_and_open_works_again(self) -> None:
        """Before `open`, twice, and then anew."""
        bench = self.bench()
        await bench.driver.close()
        async with bench.opened():
            await bench.driver.close()
        async with bench.opened():
            _check_sample(bench.run(Off(), [0.0])[0], bench)

    async def test_clearing_no_fault_changes_nothing(self) -> None:
        """`clear_fault` without a fault, then work as before."""
        async with self.bench().opened() as bench:
            bench.run(Off(), [0.0])
            bench.driver.clear_fault(bench.hardware.id, 0.5)
            for sample in bench.run(bench.works_on(), [1.0, 2.0, 3.0]):
                _require(sample.fault is None, f"a fault out of nothing: {sample.fault}")

    async def test_unknown_option_is_named(self) -> None:
        """A misspelt key stops the start, and the text names it on one line."""
        bench = self.bench()
        hardware = replace(bench.hardware, options={**bench.hardware.options, "no_such_option": 1})
        try:
            await bench.driver.open([hardware])
        except DriverConfigurationError as error:
            _require("no_such_option" in str(error) and "\n" not in str(error), f"does not name the key: {error}")
            return
        raise AssertionError("an unknown key was taken")

    async def test_own_program_is_played_and_previewed(self) -> None:
        """Where the equipment has a program: it reports its step, foretells its power, and follows nothing else."""
        async with self.bench().opened() as bench:
            driver, channel = bench.driver, bench.hardware.id
            if not driver.has_own_program(channel):
                _require(driver.preview(channel, 60.0, 0.0) is None, "a preview without a program")
                return
            step = bench.run(OwnProgram(), [0.0, 1.0])[-1].own_step
            _require(step is not None and step.work_status is WorkStatus.WORKING, f"started, but reports {step}")
            preview = driver.preview(channel, 60.0, 1.0)
            if preview is not None:
                times_s = [segment.after_s for segment in preview.segments]
                _require(
                    times_s[0] == 0.0 and times_s == sorted(set(times_s)), f"after_s must rise from 0.0: {times_s}"
                )
                _require(len(times_s) <= MOST_SEGMENTS and times_s[-1] < preview.until_s <= 60.0, f"horizon: {preview}")  # noqa: PLR2004 - as asked
            _require_raises(DriverError, lambda: bench.run(ConstantPower(1.0), [2.0]))


def _mild_demands(sign: float, hardware: ChannelHardware, volts: float) -> tuple[Demand, Demand]:
    power_w = 0.2 * min(hardware.charge_limit_w, hardware.discharge_limit_w)
    return ConstantPower(sign * power_w), ConstantCurrent(sign * power_w / volts)


def _check_sample(sample: Sample, bench: Bench) -> None:
    numbers = (sample.voltage_v, sample.current_a, sample.power_w, sample.charge_limit_w, sample.discharge_limit_w)
    _require(all(isfinite(number) for number in numbers), f"not finite: {sample}")
    _require(0.0 <= sample.charge_limit_w <= bench.hardware.charge_limit_w, f"charge limit: {sample}")
    _require(0.0 <= sample.discharge_limit_w <= bench.hardware.discharge_limit_w, f"discharge limit: {sample}")
    product_w = sample.voltage_v * sample.current_a
    _require(abs(sample.power_w - product_w) <= bench.accuracy_w, f"power is not voltage times current: {sample}")
    _require(sample.soc_ratio is None or 0.0 <= sample.soc_ratio <= 1.0, f"charge ratio: {sample}")


def _waits() -> int:
    """Return how often this thread has given the processor away to wait; how busy the machine is changes nothing."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nvcsw


def _require(holds: bool, text: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise AssertionError(text)


def _require_raises(kind: type[DriverError], call: Callable[[], object]) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"{kind.__name__} was not raised")
