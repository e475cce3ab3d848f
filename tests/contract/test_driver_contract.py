"""Every driver of ours passes the contract suite; and the suite itself catches drivers that break the contract."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from station.drivers.conformance import Bench, DriverContract
from station.drivers.protocol import ChannelHardware, Demand, DeviceFaultError, Off, Sample
from station.drivers.registry import load
from station.drivers.simulated import SimulatedDriver
from station.drivers.simulated.options import DriverOptions

DATA = Path(__file__).parent.parent / "data"
PACK = {"capacity_ah": 150.0, "series": 96, "parallel": 1, "soc_ratio": 0.5}


def simulated(**options: object) -> Bench:
    hardware = ChannelHardware("1", 60000.0, 50000.0, 40000.0, {"battery": PACK})
    return Bench(load("simulated")(options, "."), hardware)


def replayed(path: str, **options: object) -> Bench:
    hardware = ChannelHardware("1", 70000.0, 70000.0, 70000.0, {"recording": {"path": path, **options}})
    return Bench(load("replay")({}, str(DATA)), hardware)


class TestSimulated(DriverContract):
    def bench(self) -> Bench:
        return simulated()


class TestSimulatedFastAndNoisy(DriverContract):
    def bench(self) -> Bench:
        return simulated(seed=7, time_scale=3.0, noise={"voltage_v": 0.05, "current_a": 0.1})


class TestReplayOfNeware(DriverContract):
    def bench(self) -> Bench:
        return replayed("short-2A.ndax", series=100, parallel=20)


class TestReplayOfFastRecord(DriverContract):
    def bench(self) -> Bench:
        return replayed("bundled:sim-200A.nda.zip", series=100, time_scale=2.0, start_s=30.0)


class Flawed(SimulatedDriver):
    """A simulated driver with one flaw."""

    flaw = ""

    async def close(self) -> None:
        if self.flaw == "close raises":
            raise DeviceFaultError("no")
        await super().close()

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample:
        sample = super().exchange(channel_id, demand, now_s)
        match self.flaw:
            case "wrong sign":
                return replace(sample, current_a=-sample.current_a, power_w=-sample.power_w)
            case "leaks when off" if isinstance(demand, Off):
                return replace(sample, current_a=0.1, power_w=0.1 * sample.voltage_v)
            case "negative limit":
                return replace(sample, discharge_limit_w=-sample.discharge_limit_w)
            case "kilowatts":
                return replace(sample, power_w=sample.power_w / 1000.0)
            case "blocks":
                time.sleep(0.006)
        return sample

    def clear_fault(self, channel_id: str, now_s: float) -> None:
        if self.flaw != "any channel will do":
            super().clear_fault(channel_id, now_s)


@pytest.mark.parametrize(
    ("flaw", "caught_by"),
    [
        ("close raises", "test_close_never_raises_and_open_works_again"),
        ("wrong sign", "test_positive_charges"),
        ("leaks when off", "test_idle_means_no_current"),
        ("negative limit", "test_samples_make_sense_while_working"),
        ("kilowatts", "test_power_is_met"),
        ("blocks", "test_exchange_never_blocks"),
        ("any channel will do", "test_unknown_channel_is_the_callers_mistake"),
    ],
)
async def test_the_suite_catches_a_flawed_driver(flaw: str, caught_by: str) -> None:
    class Suite(DriverContract):
        def bench(self) -> Bench:
            driver = Flawed(DriverOptions())
            driver.flaw = flaw
            return Bench(driver, simulated().hardware)

    with pytest.raises((AssertionError, DeviceFaultError)):
        await getattr(Suite(), caught_by)()
