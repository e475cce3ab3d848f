"""The compiled search: the same courses as the production's own, to the bit."""

from math import pi, sin
from random import Random

import numpy as np
import pytest

from equalizer.control.allocation import Slot
from equalizer.control.lookahead import Course, Game, Unit
from equalizer.control.refine import Task, drawn, settle, weigh
from equalizer.control.settings import ControlSettings
from simulation import quick

compiled = pytest.importorskip("simulation.compiled", reason="needs the extra `simulation`")
answers = pytest.importorskip("simulation.answers", reason="needs the extra `simulation`")


def game(luck: Random) -> Game:
    """Any hall at any moment: channels alike or not, at rest, at work, bound, locked; edges near and far."""
    rating_w = luck.choice([2e4, 1.5e5, 5e5])
    settings = ControlSettings(
        delay_s=luck.choice([2.0, 10.0, 15.0]), engage_w=0.02 * rating_w, release_w=luck.choice([0.0, 0.006]) * rating_w
    )
    now_s = 1000.0 + luck.random()
    sign = luck.choice([-1.0, 1.0])
    alike = luck.random() < 0.5

    def unit(number: int) -> Unit:
        limit_w = rating_w if alike else rating_w * luck.uniform(0.3, 1.0)
        power_w = luck.choice([0.0, 0.0, sign * limit_w * luck.random()])
        coming = ((now_s + luck.uniform(0.1, 3.0), sign * limit_w * luck.random()),) if luck.random() < 0.15 else ()
        unlock_s = luck.choice([now_s - 5.0, now_s + luck.uniform(-1.0, settings.delay_s)])
        slot = Slot(
            ("eq", f"{number:02}"),
            power_w,
            limit_w,
            limit_w,
            locked=unlock_s > now_s,
            soc_ratio=0.5 if alike else luck.random(),
            background=luck.random() < 0.1,
        )
        return Unit(slot, unlock_s, coming)

    units = [unit(number) for number in range(luck.choice([1, 2, 4, 4, 6, 9]))]
    size = -(-len(units) // 6)
    groups = [units[n : n + size] for n in range(0, len(units), size)]
    times_s = sorted(now_s + luck.uniform(0.0, 45.0) for _ in range(luck.choice([0, 3, 30, 60])))
    asked_w = [
        rating_w * luck.uniform(0.5, 3.0) * (sin(2.0 * pi * n / 17.0) + luck.uniform(-0.7, 0.7))
        for n in range(len(times_s) + 1)
    ]
    others = [unit(99)] if luck.random() < 0.2 else []
    return Game(now_s, Course(tuple(times_s), tuple(asked_w)), groups, others, settings)


@pytest.mark.slow
def test_compiled_code_finds_the_same_courses() -> None:
    moves = 0
    for seed in range(150):
        hall = game(Random(seed))  # noqa: S311 - drawn again from the same seed
        own = hall.best()
        assert compiled.best(hall) == own, seed
        moves += len(own)
    assert moves > 500


def test_short_runs_do_not_wait_for_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []
    monkeypatch.setattr(compiled, "use", lambda: used.append(True))
    monkeypatch.setattr(answers, "use", lambda: used.append(True))
    quick.hurry(60.0)
    assert not used
    quick.hurry(3600.0)
    assert used


def task(luck: Random) -> Task:
    """Any channels at any moment: barred here and there, locked at first or not, alike or not."""
    stretches, channels = luck.choice([1, 2, 9, 60, 110]), luck.choice([1, 2, 4, 6])
    drawn = np.random.default_rng(luck.randrange(10**6))
    limits_w = luck.choice([2e4, 1.5e5]) * drawn.uniform(0.5, 1.0, channels)
    return Task(
        times_s=1000.0 + np.cumsum([0.0, *(luck.uniform(0.1, 3.0) for _ in range(stretches))]),
        asked_w=drawn.uniform(-3e5, 3e5, stretches),
        no_positive=drawn.random(stretches) < 0.1,
        no_negative=drawn.random(stretches) < 0.1,
        powers_w=luck.choice([-1.0, 1.0]) * drawn.choice([0.0, 0.5, 1.0], channels) * limits_w,
        unlock_s=1000.0 + drawn.uniform(-5.0, 15.0, channels),
        lowest_w=-limits_w,
        highest_w=0.9 * limits_w,
        sign_w=drawn.choice([1e-3, 2e3], channels),
        price_ws=luck.choice([1e3, 2e4]),
        charge=drawn.uniform(-0.3, 0.3, channels),
        curves=(luck.choice([None, None, None, ([0.0, 2e4], [0.5, 0.9])]),) * channels,
        lock_s=luck.choice([0.3, 4.0, 15.3]),
    )


def test_compiled_code_settles_plans_alike() -> None:
    changed = 0
    for seed in range(60):
        asked = task(Random(seed))  # noqa: S311 - drawn again from the same seed
        plan_w = np.repeat(asked.powers_w[:, None], len(asked.asked_w), axis=1)
        for number in range(2):
            draws = drawn(asked, np.random.default_rng(number))
            plans_w = settle(asked, plan_w, draws)
            assert np.array_equal(answers.settle(asked, plan_w, draws), plans_w), (seed, number)
            for own, compiled_too in zip(weigh(asked, plans_w), answers.weigh(asked, plans_w), strict=True):
                assert np.array_equal(own, compiled_too), (seed, number)
            changed += int((np.diff(plans_w) != 0.0).sum())
            plan_w = plans_w[-1]
    assert changed > 10_000
