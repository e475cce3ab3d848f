"""The bound is below whatever any schedule of the same budget leaves, and not far below the best."""

from itertools import product
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.bound import CELLS, least_residual_w, ramp_credit_w, step_residual_ws
from simulation.clock import TICK_S

DELAY_S = 3.0
WINDOW = round(DELAY_S / TICK_S)


def test_a_load_that_stands_still_costs_but_the_first_change() -> None:
    load_w = np.full(600, 10_000.0)
    assert least_residual_w(load_w, channels=1, delay_s=DELAY_S, limit_w=50_000.0) == pytest.approx(0.0, abs=1.0)


def test_what_lies_beyond_the_limits_cannot_be_met() -> None:
    load_w = np.full(600, 10_000.0)
    bound_w = least_residual_w(load_w, channels=2, delay_s=DELAY_S, limit_w=4_000.0)
    assert bound_w == pytest.approx(6_000.0, rel=0.02)


def test_without_channels_everything_is_left() -> None:
    assert least_residual_w(np.array([-5.0, 5.0]), channels=0, delay_s=DELAY_S, limit_w=1e6) == 5.0


def test_a_square_wave_twice_as_quick_as_the_budget_costs_what_is_worked_out_by_hand() -> None:
    # Windows of 3 s with one change each; the load turns every second: two thirds of every window can be met at most.
    load_w = np.array([1_000.0 if tick // 10 % 2 else -1_000.0 for tick in range(3000)])
    bound_w = least_residual_w(load_w, channels=1, delay_s=DELAY_S, limit_w=1_000.0)
    assert 500.0 < bound_w <= 2_000.0 / 3.0 + 1e-6


def left_by_chance_w(load_w: npt.NDArray[np.float64], random: Random, channels: int, window: int) -> float:
    """Return the mean that channels leave which obey the rules, and follow the load at moments left to chance; W."""
    unlocked, powers_w, left_w = [0] * channels, [0.0] * channels, []
    for tick, power_w in enumerate(load_w):
        free = [n for n in range(channels) if unlocked[n] <= tick]
        for n in random.sample(free, len(free)):
            others_w = [power for m, power in enumerate(powers_w) if m != n]
            wish_w = -power_w - sum(others_w)
            low_w = 0.0 if max(others_w, default=0.0) > 0.0 else -80e3 / channels
            high_w = 0.0 if min(others_w, default=0.0) < 0.0 else 80e3 / channels
            new_w = min(max(wish_w, low_w), high_w)
            if abs(new_w - powers_w[n]) > 3e3 and random.random() < 0.9:
                powers_w[n], unlocked[n] = new_w, tick + window
        assert not min(powers_w) < 0.0 < max(powers_w)
        left_w.append(abs(power_w + sum(powers_w)))
    return float(np.mean(left_w))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), channels=st.integers(1, 4), swing_w=st.sampled_from([5e3, 50e3]))
def test_no_schedule_under_the_same_rules_beats_the_bound(seed: int, channels: int, swing_w: float) -> None:
    random = Random(seed)  # noqa: S311 - an experiment, no secret
    offset_w = random.uniform(-20e3, 20e3)
    load_w = np.repeat([offset_w + random.uniform(-swing_w, swing_w) for _ in range(60)], 10)
    bound_w = least_residual_w(load_w, channels=channels, delay_s=DELAY_S, limit_w=80e3)
    assert bound_w <= left_by_chance_w(load_w, random, channels, WINDOW) + 1e-6


def test_a_sign_once_taken_must_be_kept() -> None:
    """Four channels might follow these pulses, if the one that takes the pulse's sign could leave it at once."""
    load_w = np.array([10_000.0 if tick % 60 < 50 else -10_000.0 for tick in range(1800)])
    bound_w = least_residual_w(load_w, channels=4, delay_s=DELAY_S, limit_w=50_000.0)
    assert 1_000.0 < bound_w < 20_000.0 / 6.0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_the_best_of_all_schedules_of_one_channel_is_not_below_the_bound(seed: int) -> None:
    """Every way to choose among three moments and four levels, tried one by one."""
    random = Random(seed)  # noqa: S311 - an experiment, no secret
    load_w = np.repeat([random.choice([-20e3, -5e3, 8e3, 15e3]) for _ in range(9)], 10)
    bound_w = least_residual_w(load_w, channels=1, delay_s=DELAY_S, limit_w=20e3)
    best_w = np.inf
    for first, second, third in product(range(0, 30, 5), range(30, 60, 5), range(60, 90, 5)):
        if second - first < WINDOW or third - second < WINDOW:
            continue
        parts = (load_w[first:second], load_w[second:third], load_w[third:])
        left = np.abs(load_w[:first]).sum() + sum(np.abs(part - np.median(part)).sum() for part in parts)
        best_w = min(best_w, float(left) / len(load_w))
    assert bound_w <= best_w + 1e-6


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_more_channels_and_less_delay_never_leave_more(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - an experiment, no secret
    load_w = np.repeat([random.uniform(-50e3, 50e3) for _ in range(30)], 10)
    few_w = least_residual_w(load_w, channels=1, delay_s=DELAY_S, limit_w=60e3)
    assert least_residual_w(load_w, channels=2, delay_s=DELAY_S, limit_w=60e3) <= few_w + 1e-9
    assert least_residual_w(load_w, channels=1, delay_s=0.0, limit_w=60e3) <= few_w + 2 * 50e3 / CELLS


def test_a_known_step_leaves_two_triangles() -> None:
    # 10 kW at 5 kW/s: 2 s of ramp, half of it on either side; each triangle is 1 s wide and 5 kW high.
    assert step_residual_ws(10e3, 5e3) == 5e3
    assert ramp_credit_w([10e3, -10e3], 5e3, 100.0) == 100.0
