"""Programs end their steps by time, voltage, current, charge and energy, and come round as often as they should."""

from typing import Any

import pytest

from schemas.messages import ChannelPlan, ChannelTelemetry, StepType, WorkStatus
from schemas.settings import ConfigurationError, parse
from station.channel.states import Life
from station.config import StationSettings
from station.drivers.protocol import ConstantCurrent, ConstantPower, Off
from tests.unit.channel.bench import Battery, build

REST: dict[str, Any] = {"step": "rest", "until": {"time_s": 1000.0}}


def rest(time_s: float) -> dict[str, Any]:
    return {"step": "rest", "until": {"time_s": time_s}}


def charge(current_a: float, **until: float) -> dict[str, Any]:
    return {"step": "cc_chg", "current_a": current_a, "until": until}


@pytest.mark.parametrize(
    ("step", "ends_after_s"),
    [
        (charge(72.0, time_s=5.0), 5.0),
        # 350 V open, 357.2 V under 72 A; 0.02 Ah (1 V/Ah) a second.
        (charge(72.0, voltage_v=357.4), 10.0),
        (charge(72.0, charge_ah=0.1), 5.0),
        (charge(72.0, energy_wh=35.75), 5.0),
        # 350 to 350.1 V open at 72 A, to be had back as energy in the other direction.
        ({"step": "cc_dchg", "current_a": 72.0, "until": {"voltage_v": 342.6}}, 10.0),
        ({"step": "cc_dchg", "current_a": 72.0, "until": {"charge_ah": 0.1}}, 5.0),
        ({"step": "cp_chg", "power_w": 36000.0, "until": {"energy_wh": 100.0}}, 10.0),
        ({"step": "cp_dchg", "power_w": 36000.0, "until": {"energy_wh": 100.0}}, 10.4),
        ({"step": "cp_dchg", "power_w": 36000.0, "until": {"time_s": 3.0, "energy_wh": 100.0}}, 3.0),
        ({"step": "sim", "profile": ({"after_s": 0.0, "power_w": 100.0},), "duration_s": 2.0, "runs": 3}, 6.0),
        (
            {
                "step": "sim",
                "profile": ({"after_s": 0.0, "current_a": 72.0},),
                "duration_s": 2.0,
                "runs": 0,
                "until": {"charge_ah": 0.1},
            },
            5.0,
        ),
    ],
)
def test_a_step_ends_when_it_should(step: dict[str, Any], ends_after_s: float) -> None:
    bench = build(step, REST)
    bench.tick()
    began_s = bench.now_s
    while bench.telemetry().step_id == 1:
        bench.tick()
        assert bench.now_s - began_s < 60.0
    assert bench.now_s - began_s == pytest.approx(ends_after_s, abs=0.35)


def test_cccv_holds_the_voltage_and_ends_when_the_current_has_fallen() -> None:
    cccv = {"step": "cccv_chg", "current_a": 72.0, "voltage_v": 357.5, "until": {"current_a": 10.0}}
    bench = build(cccv, REST, battery=Battery(volts_per_ah=10.0, charge_ah=5.0))
    bench.run(200.0)
    told = [message for message in bench.published if isinstance(message, ChannelTelemetry)]
    charging = [message for message in told if message.step_type is StepType.CCCV_CHG and message.current_a > 0.0]
    assert max(message.voltage_v for message in charging) == pytest.approx(357.5, abs=0.01)
    assert charging[-1].current_a == pytest.approx(10.0, abs=0.5)
    assert told[-1].step_id == 2


def test_a_full_battery_ends_cv_although_its_current_never_rose() -> None:
    cv = {"step": "cv_chg", "voltage_v": 350.05, "current_a": 72.0, "until": {"current_a": 1.0}}
    bench = build(cv, REST)
    bench.run(4.0)
    assert bench.telemetry().step_type is StepType.CV_CHG
    bench.run(2.0)
    assert bench.telemetry().step_id == 2


def test_a_profile_of_power_and_of_current_is_followed() -> None:
    power = {
        "step": "sim",
        "profile": ({"after_s": 0.0, "power_w": 1000.0}, {"after_s": 1.0, "power_w": -2000.0}),
        "duration_s": 2.0,
        "runs": 2,
    }
    current = {"step": "sim", "profile": ({"after_s": 0.0, "current_a": -5.0},), "duration_s": 1.0}
    bench = build(power, current)
    bench.tick()
    demands = []
    for _ in range(55):
        bench.tick()
        demands.append(bench.state.demand)
    assert demands[5] == ConstantPower(1000.0)
    assert demands[15] == ConstantPower(-2000.0)
    assert demands[25] == ConstantPower(1000.0)
    assert demands[45] == ConstantCurrent(-5.0)
    assert demands[54] == Off()
    assert bench.telemetry().work_status is WorkStatus.FINISHED


def test_time_ends_do_not_drift_with_the_ticks() -> None:
    bench = build(rest(0.25), rest(0.25), repeat=0)
    bench.run(10.05)
    assert bench.state.run.began_s - 100.1 == pytest.approx(9.75, abs=0.3)
    assert (bench.state.run.began_s - 100.1) % 0.25 == pytest.approx(0.0, abs=1e-6)


def test_loops_nest_and_count_their_cycles() -> None:
    bench = build(
        rest(1.0),
        rest(1.0),
        {"step": "loop", "first": 2, "times": 2},
        {"step": "loop", "first": 1, "times": 2},
        rest(1.0),
    )
    bench.run(12.0)
    assert bench.steps_seen() == [(1, 1), (2, 1), (2, 2), (1, 3), (2, 3), (2, 4), (5, 4), (0, 0)]
    assert bench.state.life is Life.FINISHED


def test_a_program_repeats_as_often_as_configured() -> None:
    twice = build(rest(1.0), repeat=2)
    twice.run(5.0)
    assert twice.steps_seen() == [(1, 1), (1, 2), (0, 0)]


@pytest.mark.parametrize(
    "settings",
    [{"repeat": 0, "program": (rest(1.0),)}, {"program": (rest(1.0), {"step": "loop", "first": 1, "times": 0})}],
)
def test_zero_means_for_ever(settings: dict[str, Any]) -> None:
    bench = build(**settings)
    bench.run(100.0)
    assert bench.state.life is Life.PROGRAM
    assert bench.telemetry().cycle_count == pytest.approx(100, abs=1)


def test_a_channel_asks_for_no_more_than_its_rating() -> None:
    bench = build(charge(100.0, time_s=10.0), charge_limit_w=7000.0)
    bench.run(2.0)
    assert bench.measure().power_w == pytest.approx(7000.0, rel=0.02)
    power = build({"step": "cp_dchg", "power_w": 9000.0, "until": {"time_s": 9.0}}, discharge_limit_w=7000.0)
    power.run(2.0)
    assert power.state.demand == ConstantPower(-7000.0)


@pytest.mark.parametrize("until", [{"voltage_v": 357.4}, {"charge_ah": 0.1}, {"time_s": 5.0}])
def test_the_new_plan_goes_out_before_the_telemetry_of_the_step(until: dict[str, float]) -> None:
    bench = build(charge(72.0, **until), rest(30.0))
    bench.run(15.0)
    kinds = [type(message) for message in bench.published if message.step_id == 2]  # type: ignore[union-attr]
    assert kinds[:2] == [ChannelPlan, ChannelTelemetry]


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ('{ step = "rest", until = { voltage_v = 3.0 } }', "time_s"),
        ('{ step = "rest", until = { time_s = 1.0 } }, { step = "loop", first = 2, times = 1 }', "earlier step"),
        (
            (
                '{ step = "rest", until = { time_s = 1.0 } }, { step = "loop", first = 1, times = 2 },'
                '{ step = "loop", first = 2, times = 2 }'
            ),
            "not another loop",
        ),
    ],
)
def test_a_program_that_cannot_end_is_refused(steps: str, names: str) -> None:
    text = f"""
        [station]
        id = "s1"
        [[channel]]
        id = "1"
        charge_limit_w = 1.0
        discharge_limit_w = 1.0
        ramp_w_per_s = 1.0
        program = [{steps}]
        """
    with pytest.raises(ConfigurationError, match=names):
        parse(StationSettings, text, source="station.toml", environment={})
