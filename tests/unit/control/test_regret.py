"""The online regret: the same bound as the simulation's, worked out in slices."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equalizer.control.bound import LeastResidual, levels_of
from equalizer.control.regret import LEAST, PASS, WINDOW, RegretMeter


def steps_w(seed: int, *, every: int = 7, count: int = WINDOW, size_w: float = 50e3) -> list[float]:
    source = random.Random(seed)  # noqa: S311 - an experiment, no secret
    levels = [source.uniform(-size_w, size_w) for _ in range(count // every + 1)]
    return [levels[n // every] for n in range(count)]


def fed(asked_w: list[float], residual_w: list[float], *, channels: int = 2, delay_s: float = 15.0) -> RegretMeter:
    meter = RegretMeter(delay_s)
    for asked, residual in zip(asked_w, residual_w, strict=True):
        meter.sample(asked, residual, channels=channels, charge_w=60e3, discharge_w=60e3)
    return meter


def replaced_w(asked_w: list[float], channels: int, delay: int) -> list[float]:
    """What is left by a controller that gives the next free channel's share to the newest load."""
    free, total_w, left_w = [0] * channels, 0.0, []
    for tick, asked in enumerate(asked_w):
        n = min(range(channels), key=lambda index: free[index])
        if free[n] <= tick and abs(asked - total_w) > 1000.0:
            total_w, free[n] = asked, tick + delay
        left_w.append(asked - total_w)
    return left_w


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_no_controller_of_the_same_budget_has_a_regret_below_one(seed: int, channels: int) -> None:
    asked_w = steps_w(seed, every=3)
    meter = fed(asked_w, replaced_w(asked_w, channels, 15), channels=channels)
    assert meter.last is not None
    assert meter.last.ratio is None or meter.last.ratio >= 1.0


def test_who_does_nothing_regrets_more_than_who_follows() -> None:
    asked_w = steps_w(3, every=3)
    idle, keen = fed(asked_w, asked_w).last, fed(asked_w, replaced_w(asked_w, 2, 15)).last
    assert idle is not None
    assert keen is not None
    assert idle.ratio is not None
    assert keen.ratio is not None
    assert idle.ratio > 1.2 * keen.ratio


def test_what_lies_beyond_the_limits_is_nobodys_fault() -> None:
    asked_w = [power_w + 200e3 for power_w in steps_w(5)]
    meter = fed(asked_w, [power_w - 60e3 for power_w in asked_w])
    assert meter.last is not None
    assert meter.last.ratio == pytest.approx(1.0, rel=0.01)


def test_without_channels_or_without_a_delay_the_bound_is_what_the_limits_leave() -> None:
    asked_w = steps_w(7)
    none = fed(asked_w, asked_w, channels=0).last
    assert none is not None
    free = fed(asked_w, [0.0] * len(asked_w), delay_s=0.0).last
    assert free is not None
    assert (free.bound_w, free.ratio) == (0.0, None)


def test_a_short_while_says_nothing_and_an_interruption_begins_anew() -> None:
    asked_w = steps_w(9, count=LEAST - 1)
    meter = fed(asked_w, asked_w)
    assert meter.last is None
    for asked in steps_w(9):
        meter.sample(asked, asked, channels=2, charge_w=60e3, discharge_w=60e3)
    assert meter.last is not None
    meter.forget()
    assert meter.last is None
    for asked in asked_w:
        meter.sample(asked, asked, channels=2, charge_w=60e3, discharge_w=60e3)
    assert meter.last is None


@pytest.mark.parametrize("most", [40, 2000])
def test_slices_or_all_at_once_the_bound_is_the_same(most: int) -> None:
    asked_w = steps_w(11, every=2)
    levels_w, halves_w = levels_of(asked_w, most)
    whole = LeastResidual(levels_w, halves_w, channels=3, window=15)
    whole.advance(asked_w)
    parts = LeastResidual(levels_w, halves_w, channels=3, window=15)
    for first in range(0, len(asked_w), WINDOW // PASS):
        parts.advance(asked_w[first : first + WINDOW // PASS])
    assert parts.mean_w() == whole.mean_w()
    assert 0.0 < whole.mean_w() < float(np.mean(np.abs(asked_w)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_levels_that_share_never_make_the_bound_higher(seed: int) -> None:
    asked_w = steps_w(seed, every=2, count=120)
    found_w = []
    for most in (5, 20, 200):
        game = LeastResidual(*levels_of(asked_w, most), channels=2, window=15)
        game.advance(asked_w)
        found_w.append(game.mean_w())
    assert found_w[0] <= found_w[2] + 1e-6
    assert found_w[1] <= found_w[2] + 1e-6


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_no_level_between_those_asked_does_better(seed: int) -> None:
    asked_w = steps_w(seed, every=3, count=45)
    asked = LeastResidual(*levels_of(asked_w, 1000), channels=1, window=15)
    fine_w = np.linspace(min(asked_w), max(asked_w), 2001)
    fine = LeastResidual(fine_w, np.zeros(len(fine_w)), channels=1, window=15)
    asked.advance(asked_w)
    fine.advance(asked_w)
    assert asked.mean_w() <= fine.mean_w() + 1e-6


def test_it_finds_the_same_however_often_it_is_asked() -> None:
    asked_w = steps_w(11, every=3)
    often, once = RegretMeter(15.0), RegretMeter(15.0)
    told = []
    for asked in asked_w:
        for meter in (often, once):
            meter.sample(asked, asked, channels=2, charge_w=60e3, discharge_w=60e3)
        told.append(often.last)
    assert once.last == often.last
    assert len({None if one is None else one.bound_w for one in told}) > 5, "pass after pass"
