"""The soak's quick form: few seeds, short halls; and that it would see what it looks for."""

from array import array
from dataclasses import replace
from random import Random

import pytest

from simulation.run import Result, compete
from simulation.scenario import Scenario
from simulation.witness import LevelChange, Witness
from tests.soak import halls, servers
from tests.soak.seeds import KNOWN, modules, played


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_random_hall_violates_nothing(seed: int) -> None:
    assert halls.play(seed, longest_s=150.0) == []


@pytest.mark.parametrize("seed", KNOWN["halls"])
def test_a_seed_that_once_violated_something_does_so_no_more(seed: int) -> None:
    assert halls.play(seed) == []


@pytest.mark.parametrize("seed", [3304, 1795421960, 1795430025, 1795440070])
def test_a_trial_that_once_violated_something_does_so_no_more(seed: int) -> None:
    assert servers.play(seed) == []


def test_the_soak_finds_its_modules_and_names_a_crash() -> None:
    assert modules() == ["halls", "servers"] == list(KNOWN)
    assert "AttributeError" in played("seeds", 1)[-1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Scenario]:
    scenario, _ = halls.hall(Random(2), 60.0)  # noqa: S311 - variety, no secret
    (result,) = compete(scenario, tmp_path_factory.mktemp("hall"), duration_s=60.0)
    assert len(result.orders) > 5
    assert halls.violations(result, scenario) == []
    return result, scenario


def test_an_imbalance_that_is_left_to_stand_would_be_seen(run: tuple[Result, Scenario]) -> None:
    result, scenario = run
    trace = replace(result.trace)
    rows = len(trace.reason)
    idle_s = halls.IDLE_DELAYS * scenario.control.delay_s + halls.IDLE_S
    trace.reason = ["passed_over"] * rows
    trace.seen_load_w = array("d", [80e3 if n * trace.step_s < idle_s + 1.0 else 0.0 for n in range(rows)])
    trace.equalization_w = array("d", [0.0] * rows)
    assert any("with a channel free" in line for line in halls.violations(replace(result, trace=trace), scenario))
    trace.reason[rows // 8] = "load_step"
    trace.seen_load_w = array("d", [80e3 if n * trace.step_s < idle_s - 1.0 else 0.0 for n in range(rows)])
    assert halls.violations(replace(result, trace=trace), scenario) == []


def test_what_is_looked_for_would_be_seen(run: tuple[Result, Scenario]) -> None:
    result, scenario = run
    name = next(iter(result.witnesses))
    twice = Witness(changes=[LevelChange(1010.0, 0.0, 5e3, "plan"), LevelChange(1011.0, 5e3, 9e3, "plan")])
    broken = replace(result, witnesses={**result.witnesses, name: twice})
    assert any("only 1.00 s after" in line for line in halls.violations(broken, scenario))
    order = result.orders[0]
    beyond = replace(order, steps=((0.0, 2e6),), charge_limit_w=1e6, discharge_limit_w=1e6)
    broken = replace(result, orders=(*result.orders, beyond))
    assert any("allowed is" in line for line in halls.violations(broken, scenario))
    bare_w = result.trace.power_w[name][:]
    silent = replace(result, witnesses={**result.witnesses, name: Witness()})
    for number in range(len(bare_w)):
        result.trace.power_w[name][number] = 9e3
    try:
        assert any("after an order" in line for line in halls.violations(silent, scenario))
        result.trace.power_w[name][7] = float("nan")
        assert "a power is no finite number" in halls.violations(result, scenario)
    finally:
        result.trace.power_w[name][:] = bare_w
