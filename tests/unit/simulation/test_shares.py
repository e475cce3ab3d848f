"""The bound by shares: no schedule beats it, and for one channel the best of all schedules meets it."""

import sys
from collections.abc import Iterator
from itertools import combinations_with_replacement, pairwise, product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simulation
from simulation import bound
from simulation.bound import least_by_windows_w, least_residual_w
from simulation.clock import TICK_S
from tests.unit.simulation.test_bound import left_by_chance_w

shares = pytest.importorskip("simulation.shares", reason="needs the extra `simulation`")

HALF = 2
HALVES = 4
LEVELS = (-2, -1, 0, 1, 2)
DELAY_S = 3.0
WINDOW = round(DELAY_S / TICK_S)


def schedules() -> Iterator[tuple[int, ...]]:
    """Yield all that one channel can do, from 0 W on: its level before, in and after each tick of each half.

    It changes at most once in any two neighbouring halves, at the begin of one of their ticks or at their end.
    """
    moments = HALF + 1
    for chosen in product(*([None, *product(range(moments), LEVELS)] for _ in range(HALVES))):
        if any(one is not None and next_one is not None for one, next_one in pairwise(chosen)):
            continue
        level, done = 0, []
        for one in chosen:
            for moment in range(moments):
                if one is not None and one[0] == moment:
                    level = one[1]
                done.append(level)
        yield tuple(done)


def best_of_all(asked: list[int], channels: int) -> float:
    """Return the least that is left by any schedules together that never have opposite signs."""
    ticks = [moment for moment in range(HALVES * (HALF + 1)) if moment % (HALF + 1) < HALF]
    powers = np.array(sorted(set(schedules())))
    best = np.inf
    for mix in combinations_with_replacement(range(len(powers)), channels - 1):
        others = powers[list(mix)].sum(axis=0) if mix else np.zeros(powers.shape[1], int)
        signs = np.stack([powers[list(mix)].min(axis=0), powers[list(mix)].max(axis=0)]) if mix else np.zeros((2, 1))
        opposed = (np.minimum(powers, signs[0]) < 0) & (np.maximum(powers, signs[1]) > 0)
        left = np.abs((powers + others)[:, ticks] - np.array(asked)).sum(axis=1)
        best = min(best, *left[~opposed.any(axis=1)].tolist(), np.inf)
    return best / len(asked)


@pytest.fixture
def whole_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers are whole numbers, and so are the cells: nothing is rounded."""
    monkeypatch.setattr(shares, "CELLS", max(LEVELS) - min(LEVELS))
    monkeypatch.setattr(shares, "RUN_CELLS", 0.0)
    monkeypatch.setattr(shares, "SINGLE_RATIO", 0.0)


@pytest.mark.usefixtures("whole_cells")
@pytest.mark.parametrize(("channels", "seed"), [*product([1], range(10)), *product([2], range(10, 16))])
def test_it_is_the_best_of_all_schedules_in_halves(channels: int, seed: int) -> None:
    """Every way to choose halves, moments and levels, for every channel, tried one by one."""
    random = Random(seed)  # noqa: S311 - an experiment, no secret
    asked = [max(LEVELS), *(random.choice(LEVELS) for _ in range(HALF * HALVES - 2)), min(LEVELS)]
    least = shares.least_w(np.array(asked, float), channels=channels, half=HALF)
    assert least == pytest.approx(best_of_all(asked, channels), abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), channels=st.integers(1, 4), swing_w=st.sampled_from([5e3, 50e3]))
def test_no_schedule_under_the_same_rules_beats_it(seed: int, channels: int, swing_w: float) -> None:
    random = Random(seed)  # noqa: S311 - an experiment, no secret
    offset_w = random.uniform(-20e3, 20e3)
    steps_w = np.repeat([offset_w + random.uniform(-swing_w, swing_w) for _ in range(60)], 10)
    load_w = np.convolve(steps_w, np.full(5, 0.2), mode="same")  # steps are ramps of half a second
    least_w = shares.least_w(-load_w, channels=channels, half=WINDOW // 2)
    for _ in range(5):
        assert least_w <= left_by_chance_w(load_w, random, channels, WINDOW) + 1e-6


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), channels=st.integers(1, 4))
def test_coarser_cells_never_tell_more(seed: int, channels: int) -> None:
    """What is asked lies between the coarse cells, and on the fine ones: there it is exact, but for the last digits."""
    random = Random(seed)  # noqa: S311 - an experiment, no secret
    asked_w = np.repeat([float(random.randint(-48, 48)) for _ in range(20)], 4)
    asked_w[0], asked_w[-1] = 48.0, -48.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "RUN_CELLS", 0.0)
        told_w = []
        for cells in (12, 24, 48, 96):
            patch.setattr(shares, "CELLS", cells)
            told_w.append(shares.least_w(asked_w, channels=channels, half=6))
    assert max(told_w[:-1]) <= told_w[-1] * (1.0 + 1e-4) + 1e-9
    assert told_w[-1] > 0.0


def test_what_one_channel_took_no_other_can_give_back() -> None:
    """A step that is over after 2 s: of several channels one took it, and nobody may take it back, nor oppose it.

    The sum of four channels may change four times in 15 s; so the budget alone finds nothing in the way.
    """
    delay_s, period, pulse = 15.0, 150, 20
    asked_w = np.array([10e3 if tick % period < pulse else 2e3 for tick in range(3000)])
    rules = {"channels": 4, "delay_s": delay_s, "limit_w": 50e3}
    by_budget_w = least_residual_w(-asked_w, **rules)
    closely_w = least_residual_w(-asked_w, **rules, closely=True)
    assert by_budget_w < 100.0
    assert closely_w > 5.0 * by_budget_w + 300.0


def test_where_no_compiler_is_there_the_budget_and_the_signs_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(1)  # noqa: S311 - an experiment, no secret
    load_w = np.repeat([random.uniform(-50e3, 50e3) for _ in range(100)], 30)
    rules = {"channels": 4, "delay_s": 15.0, "limit_w": 60e3}
    closely_w = least_residual_w(load_w, **rules, closely=True)
    monkeypatch.setitem(sys.modules, "simulation.shares", None)
    monkeypatch.delattr(simulation, "shares", raising=False)
    plain_w = least_residual_w(load_w, **rules, closely=True)
    assert plain_w == least_residual_w(load_w, **rules)
    assert least_by_windows_w(load_w, **rules) <= plain_w < closely_w


def test_a_short_run_is_not_worth_the_time() -> None:
    load_w = np.tile([10e3, -10e3], bound.CLOSE_TICKS // 2 - 1)
    rules = {"channels": 4, "delay_s": 15.0, "limit_w": 60e3}
    assert least_residual_w(load_w, **rules, closely=True) == least_residual_w(load_w, **rules)
