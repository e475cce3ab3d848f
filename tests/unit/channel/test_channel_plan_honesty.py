"""Plans against what then happened, on simulated batteries that are measured with noise."""

from dataclasses import dataclass
from typing import Any

import pytest

from schemas.messages import ChannelPlan
from station.channel import machine
from station.config import ChannelSection
from station.drivers.protocol import ChannelHardware
from station.drivers.simulated import create

NOISE = {"voltage_v": 0.05, "current_a": 0.02}


@dataclass(frozen=True)
class Record:
    """The plans of one step, and when it ended."""

    plans: list[tuple[float, ChannelPlan]]
    ended_s: float


def observe(step: dict[str, Any], soc_ratio: float) -> Record:
    """Run one step on a 50 Ah pack of 96 cells until it ends, and keep every plan that was due."""
    battery = {"capacity_ah": 50.0, "series": 96, "soc_ratio": soc_ratio}
    limits = {"charge_limit_w": 150000.0, "discharge_limit_w": 150000.0, "ramp_w_per_s": 60000.0}
    program = (step, {"step": "rest", "until": {"time_s": 500.0}})
    driver = create({"noise": NOISE}, ".")
    opening = driver.open([ChannelHardware(id="1", **limits, options={"battery": battery})])
    with pytest.raises(StopIteration):  # it waits for nothing, so virtual time needs no event loop
        opening.send(None)
    state = machine.initial(ChannelSection.model_validate({"id": "1", **limits, "program": program}), None, "boot", 0.0)
    now_s, plans = 0.0, []
    while state.run is None or state.run.place.index == 0:
        now_s = round(now_s + 0.1, 3)
        state, outputs = machine.tick(state, driver.exchange("1", state.demand, now_s), now_s)
        if outputs.plan_due:
            state, plan = machine.plan(state, None, now_s, 0.0)
            assert plan is not None
            plans.append((now_s, plan))
        assert now_s < 3000.0
    return Record([(sent_s, plan) for sent_s, plan in plans if plan.step_id == 1], now_s)


@pytest.mark.parametrize(
    ("step", "soc_ratio"),
    [
        ({"step": "cc_chg", "current_a": 50.0, "until": {"voltage_v": 400.0}}, 0.5),
        ({"step": "cc_chg", "current_a": 100.0, "until": {"voltage_v": 400.0}}, 0.5),
        ({"step": "cc_dchg", "current_a": 100.0, "until": {"voltage_v": 290.0}}, 0.5),
        ({"step": "cc_dchg", "current_a": 50.0, "until": {"voltage_v": 300.0}}, 0.15),
        ({"step": "cccv_chg", "current_a": 50.0, "voltage_v": 400.0, "until": {"current_a": 2.5}}, 0.9),
        ({"step": "cc_chg", "current_a": 50.0, "until": {"charge_ah": 3.0}}, 0.5),
        ({"step": "cp_dchg", "power_w": 18000.0, "until": {"energy_wh": 1000.0}}, 0.5),
    ],
)
def test_what_a_plan_says_of_a_steps_end_comes_true(step: dict[str, Any], soc_ratio: float) -> None:
    record = observe(step, soc_ratio)
    foretold = 0
    for sent_s, plan in record.plans:
        uncertain = [segment for segment in plan.segments if segment.sigma_s is not None]
        if uncertain and uncertain[0].sigma_s is not None:
            foretold += 1
            assert abs(sent_s + uncertain[0].after_s - record.ended_s) <= 3.5 * uncertain[0].sigma_s
        else:
            assert sent_s + plan.until_s <= record.ended_s + 1.0
    assert foretold >= 3
