"""The battery's model against an independent solver, against its sources, and against what must always hold."""

from itertools import pairwise

import numpy as np
import pytest
import thevenin
from hypothesis import given
from hypothesis import strategies as st

from station.drivers.protocol import ChannelHardware
from station.drivers.simulated.battery import Battery, Response
from station.drivers.simulated.cells import CELLS, LFP_OCV, NMC_OCV, Chemistry, OcvCurve
from station.drivers.simulated.options import channel_options

CELL = {
    "capacity_ah": 5.0, "soc_ratio": 0.5, "r0_ohm": 0.020, "r1_ohm": 0.010, "c1_farad": 2000.0,
    "r2_ohm": 0.008, "c2_farad": 40000.0, "heat_capacity_j_per_k": 70.0, "heat_loss_w_per_k": 0.05,
}  # fmt: skip

# (duration in s, current in A): a test day in small, up to 2 C in both directions.
PROFILE = [
    (60.0, 0.0),
    (300.0, 5.0),
    (120.0, 0.0),
    (20.0, -10.0),
    (10.0, 10.0),
    (600.0, -2.5),
    (300.0, 0.0),
    (45.0, 7.5),
]


def cell(**changes: object) -> Battery:
    return channel_options(ChannelHardware("1", 1.0, 1.0, 1.0, {"battery": {**CELL, **changes}})).battery.build()


def oracle(battery: Battery) -> thevenin.Prediction:
    """An independent solver of the same circuit; its current is positive when discharging."""
    own = battery.parameters
    model = thevenin.Prediction(
        {
            "num_RC_pairs": 2,
            "soc0": battery.soc_ratio,
            "capacity": own.capacity_ah,
            "ce": own.charge_efficiency_ratio,
            "gamma": 0.0,
            "mass": 0.07,
            "isothermal": False,
            "Cp": own.heat_capacity_j_per_k / 0.07,
            "T_inf": own.ambient_degc + 273.15,
            "h_therm": own.heat_loss_w_per_k,
            "A_therm": 1.0,
            "ocv": lambda soc: own.ocv.at(float(soc)),
            "M_hyst": lambda _soc: 0.0,
            "R0": lambda _soc, _kelvin: own.r0_ohm,
            "R1": lambda _soc, _kelvin: own.r1_ohm,
            "C1": lambda _soc, _kelvin: own.tau1_s / own.r1_ohm,
            "R2": lambda _soc, _kelvin: own.r2_ohm,
            "C2": lambda _soc, _kelvin: own.tau2_s / own.r2_ohm,
        }
    )
    model.set_options(rtol=1e-8, atol=1e-10)
    return model


@pytest.mark.parametrize("chemistry", ["nmc", "lfp"])
def test_voltage_follows_the_oracle_within_one_percent(chemistry: str) -> None:
    battery = cell(chemistry=chemistry)
    model = oracle(battery)
    state = thevenin.TransientState(soc=battery.soc_ratio, T_cell=298.15, hyst=0.0, eta_j=np.zeros(2))
    worst = 0.0
    for duration_s, current_a in PROFILE:
        for step_s in [duration_s / 10.0] * 10:
            state = model.take_step(state, -current_a, step_s)
            battery.advance(step_s, current_a)
            voltage_v = battery.relaxed_v() + battery.parameters.r0_ohm * current_a
            worst = max(worst, abs(voltage_v - state.voltage) / state.voltage)
            assert battery.soc_ratio == pytest.approx(state.soc, abs=1e-6)
            # The oracle counts what charges the RC pairs as heat at once, not when it is dissipated.
            assert battery.temperature_degc == pytest.approx(state.T_cell - 273.15, abs=0.25)
    assert worst < 0.001  # ten times better than asked


def graphite(x: np.ndarray) -> np.ndarray:
    return (
        1.9793 * np.exp(-39.3631 * x)
        + 0.2482
        - 0.0909 * np.tanh(29.8538 * (x - 0.1234))
        - 0.04478 * np.tanh(14.9159 * (x - 0.2769))
        - 0.0205 * np.tanh(30.4444 * (x - 0.6103))
    )


def nmc(y: np.ndarray) -> np.ndarray:
    return (
        -0.8090 * y
        + 4.4875
        - 0.0428 * np.tanh(18.5138 * (y - 0.5542))
        - 17.7326 * np.tanh(15.7890 * (y - 0.3117))
        + 17.5842 * np.tanh(15.9308 * (y - 0.3120))
    )


def lfp(y: np.ndarray) -> np.ndarray:
    return 3.4077 - 0.020269 * y + 0.5 * np.exp(-150.0 * y) - 0.9 * np.exp(-30.0 * (1.0 - y))


def test_curves_are_those_of_their_sources() -> None:
    soc = np.array([soc_ratio for soc_ratio, _ in NMC_OCV])
    chen = nmc(0.9084 + (0.2661 - 0.9084) * soc) - graphite(0.0279 + (0.9014 - 0.0279) * soc)
    assert np.array([volts for _, volts in NMC_OCV]) == pytest.approx(chen, abs=6e-4)
    soc = np.array([soc_ratio for soc_ratio, _ in LFP_OCV])
    afshar = lfp(0.97 + (0.005 - 0.97) * soc) - graphite(0.07 + (0.85 - 0.07) * soc)
    assert np.array([volts for _, volts in LFP_OCV]) == pytest.approx(afshar, abs=6e-4)


@pytest.mark.parametrize("chemistry", list(Chemistry))
def test_curve_rises_and_passes_through_its_points_for_the_whole_string(chemistry: Chemistry) -> None:
    points = CELLS[chemistry].ocv
    curve = OcvCurve(points, series=96)
    for soc_ratio, volts in points:
        assert curve.at(soc_ratio) == pytest.approx(96 * volts)
    along = [curve.at(soc_ratio) for soc_ratio in np.linspace(-0.05, 1.05, 1101)]
    assert all(after > before for before, after in pairwise(along))


def test_pack_is_its_cells_in_series_and_parallel() -> None:
    single, pack = cell(), cell(series=96, parallel=30)
    for battery, current_a in ((single, 5.0), (pack, 150.0)):
        battery.advance(600.0, current_a)
    assert pack.soc_ratio == pytest.approx(single.soc_ratio)
    assert pack.relaxed_v() == pytest.approx(96 * single.relaxed_v())
    assert pack.parameters.r0_ohm * 150.0 == pytest.approx(96 * single.parameters.r0_ohm * 5.0)
    assert pack.temperature_degc == pytest.approx(single.temperature_degc)


def test_charging_loses_what_the_efficiency_says() -> None:
    battery = cell(charge_efficiency_ratio=0.98)
    battery.advance(720.0, 5.0)
    assert battery.soc_ratio == pytest.approx(0.5 + 0.98 * 0.2)
    battery.advance(720.0, -5.0)
    assert battery.soc_ratio == pytest.approx(0.5 + 0.98 * 0.2 - 0.2)


def test_a_warm_battery_cools_to_the_room() -> None:
    battery = cell(temperature_degc=45.0, ambient_degc=20.0)
    battery.advance(1400.0, 0.0)  # one time constant: 70 J/K over 0.05 W/K
    assert battery.temperature_degc == pytest.approx(20.0 + 25.0 * np.exp(-1.0), abs=0.01)
    battery.advance(100000.0, 0.0)
    assert battery.temperature_degc == pytest.approx(20.0)


def test_an_insulated_battery_keeps_every_joule() -> None:
    battery = cell(heat_loss_w_per_k=0.0, r1_ohm=0.0, r2_ohm=0.0)
    battery.advance(100.0, 10.0)
    assert battery.temperature_degc == pytest.approx(25.0 + 100.0 * 0.020 * 100.0 / 70.0)


CURRENTS = st.floats(-10.0, 10.0)
DURATIONS = st.floats(0.01, 60.0)


@given(st.lists(st.tuples(DURATIONS, CURRENTS), max_size=20))
def test_charge_counted_is_the_integral_of_the_current(steps: list[tuple[float, float]]) -> None:
    battery = cell(capacity_ah=100.0)
    for duration_s, current_a in steps:
        battery.advance(duration_s, current_a)
    flowed_ah = sum(duration_s * current_a for duration_s, current_a in steps) / 3600.0
    assert battery.soc_ratio == pytest.approx(0.5 + flowed_ah / 100.0, abs=1e-12)


@given(DURATIONS, CURRENTS, st.integers(2, 50))
def test_the_tick_changes_nothing_at_constant_current(duration_s: float, current_a: float, parts: int) -> None:
    whole, divided = cell(), cell()
    whole.advance(duration_s, current_a)
    for _ in range(parts):
        divided.advance(duration_s / parts, current_a)
    assert divided.relaxed_v() == pytest.approx(whole.relaxed_v(), rel=1e-9)
    assert divided.soc_ratio == pytest.approx(whole.soc_ratio, rel=1e-9)


@given(DURATIONS, CURRENTS, CURRENTS, st.sampled_from([0.5, 1.0]))
def test_the_response_foretells_the_voltage(duration_s: float, before_a: float, after_a: float, share: float) -> None:
    battery = cell()
    response = battery.response(duration_s, before_a, share, after_a)
    battery.advance(duration_s, (1.0 - share) * before_a + share * after_a)
    reached_v = battery.relaxed_v() + battery.parameters.r0_ohm * after_a
    assert response.voltage(after_a) == pytest.approx(reached_v, rel=1e-9)


@given(st.floats(1.0, 1000.0), st.floats(1e-4, 1.0), st.floats(-1e6, 1e6))
def test_the_current_for_a_power_gives_it_or_all_there_is(
    source_v: float, resistance_ohm: float, power_w: float
) -> None:
    response = Response(source_v, resistance_ohm)
    current_a = response.current_for_power(power_w)
    most_given_w = source_v * source_v / (4.0 * resistance_ohm)
    expected_w = max(power_w, -most_given_w)
    assert current_a * response.voltage(current_a) == pytest.approx(expected_w, rel=1e-6, abs=1e-6 * most_given_w)
    assert response.voltage(current_a) >= source_v / 2.0 - 1e-9
