"""A simulated channel as an operator sees it: demands, ramp, limits, trips, and how little the tick matters."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.words import words
from schemas.messages import AlarmCode
from station.drivers.protocol import (
    ChannelHardware,
    ConstantCurrent,
    ConstantPower,
    Demand,
    DeviceFaultError,
    DriverConfigurationError,
    Off,
    OwnProgram,
    Sample,
)
from station.drivers.simulated import SimulatedDriver, create

RAMP_W_PER_S = 60000.0
PACK = {"capacity_ah": 150.0, "series": 96, "parallel": 1, "soc_ratio": 0.5}


def opened(driver: SimulatedDriver, hardware: ChannelHardware) -> None:
    """Open a driver that awaits nothing; so it needs no event loop, which hypothesis could not give it."""
    with pytest.raises(StopIteration):
        driver.open([hardware]).send(None)


class Rig:
    """One pack on one channel, and a clock."""

    def __init__(
        self, *, battery: dict[str, object] | None = None, driver: dict[str, object] | None = None, **options: object
    ) -> None:
        self.driver: SimulatedDriver = create(driver or {}, ".")
        table = {"battery": {**PACK, **(battery or {})}, **options}
        opened(self.driver, ChannelHardware("1", 60000.0, 50000.0, RAMP_W_PER_S, table))
        self.now_s = 0.0
        self.driver.exchange("1", Off(), 0.0)

    def demand(self, demand: Demand) -> Sample:
        return self.driver.exchange("1", demand, self.now_s)

    def run(self, demand: Demand, seconds: float, tick_s: float = 1.0) -> list[Sample]:
        """Hold a demand; the samples after each tick."""
        self.demand(demand)
        samples = []
        for _ in range(round(seconds / tick_s)):
            self.now_s += tick_s
            samples.append(self.demand(demand))
        return samples


def test_constant_current_is_the_current_asked() -> None:
    samples = Rig().run(ConstantCurrent(75.0), 10.0)
    assert samples[-1].current_a == pytest.approx(75.0)
    assert samples[-1].voltage_v > samples[0].voltage_v > Rig().demand(Off()).voltage_v


def test_constant_power_is_the_power_asked_in_both_directions() -> None:
    rig = Rig()
    assert rig.run(ConstantPower(20000.0), 5.0)[-1].power_w == pytest.approx(20000.0, rel=1e-5)
    assert rig.run(ConstantPower(-20000.0), 5.0)[-1].power_w == pytest.approx(-20000.0, rel=1e-5)


def test_power_climbs_along_the_ramp() -> None:
    powers_w = [sample.power_w for sample in Rig().run(ConstantPower(30000.0), 1.0, tick_s=0.1)]
    assert powers_w[:5] == pytest.approx([6000.0, 12000.0, 18000.0, 24000.0, 30000.0], rel=1e-6)
    assert powers_w[5:] == pytest.approx([30000.0] * 5, rel=1e-5)


def test_an_hour_at_half_an_ampere_hour_per_hour_and_cell_is_half_the_charge() -> None:
    rig = Rig(battery={"soc_ratio": 0.2})
    assert rig.run(ConstantCurrent(75.0), 3600.0)[-1].soc_ratio == pytest.approx(0.7, abs=1e-4)


def test_cccv_holds_the_voltage_while_the_current_falls() -> None:
    rig = Rig(battery={"soc_ratio": 0.85})
    samples = rig.run(ConstantCurrent(75.0, voltage_limit_v=400.0), 3600.0)
    assert max(sample.voltage_v for sample in samples) <= 400.0 + 1e-6
    held = [sample for sample in samples if sample.voltage_v > 399.99]
    assert len(held) > 600
    assert held[0].current_a > 60.0
    assert held[-1].current_a < 20.0
    assert all(after.current_a <= before.current_a + 1e-6 for before, after in pairwise(held))


def test_discharge_holds_its_voltage_limit_from_above() -> None:
    samples = Rig(battery={"soc_ratio": 0.12}).run(ConstantCurrent(-75.0, voltage_limit_v=300.0), 1200.0)
    assert min(sample.voltage_v for sample in samples) >= 300.0 - 1e-6
    assert -40.0 < samples[-1].current_a < 0.0


def test_a_battery_above_its_voltage_limit_is_not_charged() -> None:
    sample = Rig(battery={"soc_ratio": 0.95}).run(ConstantCurrent(75.0, voltage_limit_v=380.0), 5.0)[-1]
    assert sample.current_a == 0.0


def test_more_power_than_the_battery_can_give_is_all_it_can_give() -> None:
    rig = Rig(battery={"r0_ohm": 0.02, "under_voltage_v": 0.1, "voltage_min_v": 0.2})
    sample = rig.run(ConstantPower(-50000.0), 10.0)[-1]
    relaxed_v = rig.demand(Off()).voltage_v
    sustained_ohm = 96 * (0.02 + 0.06 / 150.0)
    assert sample.power_w == pytest.approx(-(relaxed_v**2) / (4.0 * sustained_ohm), rel=0.02)
    assert sample.fault is None


def test_limits_fall_towards_both_ends_of_the_charge() -> None:
    def limits(soc_ratio: float) -> tuple[float, float]:
        sample = Rig(battery={"soc_ratio": soc_ratio}).demand(Off())
        return sample.charge_limit_w, sample.discharge_limit_w

    assert limits(0.5) == (60000.0, 50000.0)
    full, nearly_full, nearly_empty, empty = limits(1.0), limits(0.975), limits(0.03), limits(0.0)
    assert full[0] == 0.0
    assert 0.0 < nearly_full[0] < 40000.0
    assert nearly_full[1] == 50000.0
    assert empty[1] == 0.0
    assert 0.0 < nearly_empty[1] < 50000.0
    assert nearly_empty[0] == 60000.0


@pytest.mark.parametrize("chemistry", ["nmc", "lfp"])
def test_charging_with_power_ends_full_and_without_a_trip(chemistry: str) -> None:
    samples = Rig(battery={"soc_ratio": 0.9, "chemistry": chemistry}).run(ConstantPower(60000.0), 3000.0)
    assert all(sample.fault is None for sample in samples)
    assert samples[-1].soc_ratio > 0.99
    assert samples[-1].power_w < 2000.0


@pytest.mark.parametrize("chemistry", ["nmc", "lfp"])
def test_discharging_with_power_ends_empty_and_without_a_trip(chemistry: str) -> None:
    samples = Rig(battery={"soc_ratio": 0.2, "chemistry": chemistry}).run(ConstantPower(-50000.0), 3000.0)
    assert all(sample.fault is None for sample in samples)
    assert samples[-1].soc_ratio < 0.06
    assert samples[-1].power_w > -5000.0


@pytest.mark.parametrize(
    ("battery", "options", "demand", "code"),
    [
        ({"soc_ratio": 0.97}, {}, ConstantCurrent(140.0), AlarmCode.OVER_VOLTAGE),
        ({"soc_ratio": 0.03}, {}, ConstantCurrent(-140.0), AlarmCode.UNDER_VOLTAGE),
        ({}, {"over_current_a": 50.0}, ConstantCurrent(60.0), AlarmCode.OVER_CURRENT),
        (
            {"heat_loss_w_per_k": 0.0, "over_temperature_degc": 25.2},
            {},
            ConstantCurrent(140.0),
            AlarmCode.OVER_TEMPERATURE,
        ),
        ({"reversed": True}, {}, Off(), AlarmCode.REVERSE_POLARITY),
        ({"connected": False}, {}, ConstantPower(1000.0), AlarmCode.BATTERY_DISCONNECTED),
    ],
)
def test_protection_trips_opens_and_stays_open(
    battery: dict[str, object], options: dict[str, object], demand: Demand, code: AlarmCode
) -> None:
    rig = Rig(battery=battery, **options)
    tripped = next(sample for sample in rig.run(demand, 600.0) if sample.fault is not None)
    assert tripped.fault is not None
    assert tripped.fault.code is code

    assert words("en").fits(f"told.{code}", tripped.fault.values), "the page can say it in words of its own"
    assert (tripped.current_a, tripped.charge_limit_w, tripped.discharge_limit_w) == (0.0, 0.0, 0.0)
    later = rig.run(demand, 60.0)[-1]
    assert later.fault == tripped.fault
    assert later.current_a == 0.0


def test_a_cleared_fault_stays_away_once_its_cause_has_gone() -> None:
    rig = Rig(over_current_a=50.0)
    assert rig.run(ConstantCurrent(60.0), 5.0)[-1].fault is not None
    rig.driver.clear_fault("1", rig.now_s)
    assert rig.run(ConstantCurrent(40.0), 5.0)[-1].fault is None


def test_a_cleared_fault_is_back_at_once_while_its_cause_is_there() -> None:
    rig = Rig(battery={"reversed": True})
    rig.driver.clear_fault("1", rig.now_s)
    fault = rig.demand(Off()).fault
    assert fault is not None
    assert fault.code is AlarmCode.REVERSE_POLARITY


def test_a_battery_may_be_missing_while_nobody_asks_for_power() -> None:
    sample = Rig(battery={"connected": False}).run(Off(), 10.0)[-1]
    assert not sample.battery_connected
    assert sample.fault is None
    assert sample.voltage_v == 0.0


def test_unplugging_at_work_trips() -> None:
    rig = Rig()
    rig.run(ConstantPower(10000.0), 5.0)
    rig.driver.rewire("1", connected=False)
    sample = rig.run(ConstantPower(10000.0), 1.0)[-1]
    assert sample.fault is not None
    assert sample.fault.code is AlarmCode.BATTERY_DISCONNECTED
    assert sample.current_a == 0.0


def test_converter_carries_no_more_than_its_current() -> None:
    assert Rig(max_current_a=40.0).run(ConstantCurrent(75.0), 5.0)[-1].current_a == pytest.approx(40.0)
    assert Rig(max_current_a=40.0).run(ConstantPower(-50000.0), 5.0)[-1].current_a >= -40.0 - 1e-9


def test_time_scale_lets_the_battery_live_faster_and_the_ramp_as_it_is() -> None:
    fast = Rig(driver={"time_scale": 60.0})
    ramping = fast.run(ConstantCurrent(75.0), 0.2, tick_s=0.1)
    assert ramping[0].power_w == pytest.approx(RAMP_W_PER_S * 0.1, rel=1e-3)
    charged = fast.run(ConstantCurrent(75.0), 12.0)[-1].soc_ratio
    assert charged == pytest.approx(0.5 + 0.5 * 12.0 * 60.0 / 3600.0, abs=0.005)


def test_noise_is_reproducible_and_spares_an_open_contactor() -> None:
    noisy = {"seed": 3, "noise": {"voltage_v": 0.1, "current_a": 0.2}}
    first, second = Rig(driver=noisy).run(ConstantPower(1e4), 50.0), Rig(driver=noisy).run(ConstantPower(1e4), 50.0)
    assert first == second
    assert first != Rig(driver={**noisy, "seed": 4}).run(ConstantPower(1e4), 50.0)
    assert len({sample.current_a for sample in first}) > 40
    assert {sample.current_a for sample in Rig(driver=noisy).run(Off(), 20.0)} == {0.0}


def test_a_program_of_its_own_is_refused() -> None:
    with pytest.raises(DeviceFaultError, match="no program"):
        Rig().demand(OwnProgram())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"battery": {"capacity": 5.0}}, "battery.capacity: unknown key; did you mean capacity_ah?"),
        ({"battery": {"capacity_ah": -1.0}}, "battery.capacity_ah: must be a number above 0"),
        ({"battery": {"capacity_ah": 5.0, "chemistry": "lead"}}, "battery.chemistry: must be one of nmc, lfp"),
        ({"battery": {"capacity_ah": 5.0, "voltage_max_v": 4.5}}, "voltages must rise"),
        ({}, "battery: is missing"),
    ],
)
def test_wrong_options_are_named_on_one_line(options: dict[str, object], text: str) -> None:
    with pytest.raises(DriverConfigurationError) as error:
        opened(create({}, "."), ChannelHardware("7", 1.0, 1.0, 1.0, options))
    assert text in str(error.value)
    assert "channel 7" in str(error.value)
    assert "\n" not in str(error.value)


DEMANDS = st.one_of(
    st.just(Off()),
    st.floats(-90000.0, 90000.0).map(ConstantPower),
    st.floats(-200.0, 200.0).map(ConstantCurrent),
    st.builds(ConstantCurrent, st.floats(1.0, 200.0), st.floats(350.0, 403.0)),
)
SEQUENCES = st.lists(st.tuples(DEMANDS, st.sampled_from([0.1, 0.7, 1.0, 3.0, 20.0])), min_size=1, max_size=15)
SOCS = st.floats(0.02, 0.98)


@settings(max_examples=60, deadline=None)
@given(SEQUENCES, SOCS)
def test_power_is_voltage_times_current_and_stays_within_the_ratings(
    sequence: list[tuple[Demand, float]], soc_ratio: float
) -> None:
    rig = Rig(battery={"soc_ratio": soc_ratio})
    for demand, tick_s in sequence:
        limits = rig.demand(demand)
        sample = rig.run(demand, tick_s, tick_s)[-1]
        assert sample.power_w == pytest.approx(sample.voltage_v * sample.current_a)
        assert -50000.0 * 1.001 <= sample.power_w <= 60000.0 * 1.001
        if isinstance(demand, ConstantPower) and abs(limits.power_w) < 1.0:
            assert sample.power_w <= limits.charge_limit_w + 60.0
            assert sample.power_w >= -limits.discharge_limit_w - 60.0


def test_a_voltage_limit_is_no_way_around_the_ramp() -> None:
    """Near its limit from the first step on, the current still climbs along the ramp."""
    sample = Rig(battery={"soc_ratio": 0.664}).run(ConstantCurrent(96.0, 374.0), 0.1, 0.1)[-1]
    assert sample.power_w == pytest.approx(6000.0, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-60000.0, 60000.0), st.sampled_from([0.05, 0.3, 1.0])), min_size=1, max_size=20))
def test_power_never_moves_faster_than_the_ramp(sequence: list[tuple[float, float]]) -> None:
    rig = Rig()
    before_w = 0.0
    for power_w, tick_s in sequence:
        after_w = rig.run(ConstantPower(power_w), tick_s, tick_s)[-1].power_w
        assert abs(after_w - before_w) <= RAMP_W_PER_S * tick_s * 1.001 + 1.0
        before_w = after_w


@settings(max_examples=40, deadline=None)
@given(SOCS, st.floats(340.0, 403.0), st.floats(1.0, 160.0), st.sampled_from([0.2, 1.0, 5.0, 30.0]))
def test_constant_voltage_never_exceeds_its_limit(soc_ratio: float, limit_v: float, amps: float, tick_s: float) -> None:
    rig = Rig(battery={"soc_ratio": soc_ratio})
    resting_v = rig.demand(Off()).voltage_v
    for sample in rig.run(ConstantCurrent(amps, limit_v), 20.0 * tick_s, tick_s):
        assert sample.voltage_v <= max(limit_v, resting_v) + 1e-3
        assert sample.current_a >= 0.0


@settings(max_examples=30, deadline=None)
@given(SEQUENCES, st.floats(0.3, 0.7))
def test_the_tick_does_not_matter(sequence: list[tuple[Demand, float]], soc_ratio: float) -> None:
    coarse, fine = Rig(battery={"soc_ratio": soc_ratio}), Rig(battery={"soc_ratio": soc_ratio})
    for demand, tick_s in sequence:
        once = coarse.run(demand, tick_s, tick_s)[-1]
        often = fine.run(demand, tick_s, tick_s / 7.0)[-1]
        assert often.power_w == pytest.approx(once.power_w, abs=200.0)
        assert often.voltage_v == pytest.approx(once.voltage_v, abs=0.5)
        assert often.soc_ratio == pytest.approx(once.soc_ratio, abs=2e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50000.0, 50000.0), min_size=1, max_size=8))
def test_charge_counted_is_what_the_samples_add_up_to(powers_w: list[float]) -> None:
    rig = Rig()
    flowed_as, before_a = 0.0, 0.0
    for power_w in powers_w:
        for sample in rig.run(ConstantPower(power_w), 3.0, tick_s=0.02):
            flowed_as += 0.01 * (before_a + sample.current_a)
            before_a = sample.current_a
    assert rig.demand(Off()).soc_ratio == pytest.approx(0.5 + flowed_as / 3600.0 / 150.0, abs=2e-5)
