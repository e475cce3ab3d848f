"""The compiled search: the same courses as the production's own, to the bit."""

from math import pi, sin
from random import Random

import numpy as np
import pytest

from equalizer.control.allocation import Slot
from equalizer.control.lookahead import Course, Game, Unit
from equalizer.control.refine import Question, answer
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


def question(luck: Random) -> Question:
    """Any channel beside any others: barred here and there, locked at first or not."""
    stretches, rows = luck.choice([1, 2, 9, 60]), 6
    drawn = np.random.default_rng(luck.randrange(10**6))
    times_s = np.cumsum([0.0, *(luck.uniform(0.1, 3.0) for _ in range(stretches))])
    wanted_w = drawn.uniform(-2e5, 2e5, (rows, stretches)).astype(np.float32)
    levels_w = drawn.choice([0.0, -1e5, 3e4, 8e4, 1.5e5, -2e4, 5e3], (rows, 12)).astype(np.float32)
    spans_s = np.diff(times_s).astype(np.float32)
    last = np.searchsorted(times_s, times_s - luck.choice([0.3, 4.0, 15.3]), side="right") - 1
    return Question(
        wanted_w=wanted_w,
        levels_w=levels_w,
        spans_s=spans_s,
        barred=(drawn.random((rows, stretches)) < 0.1, drawn.random((rows, stretches)) < 0.1),
        binds=(levels_w > 0.0, levels_w < 0.0),
        barred_ws=np.float32(3e7) * spans_s,
        prices_ws=drawn.uniform(1e3, 3e3, levels_w.shape).astype(np.float32),
        last=np.minimum(last, np.arange(-1, stretches)),
        first=luck.choice([0, 0, 1, min(3, stretches)]),
    )


def test_compiled_code_gives_the_same_answers() -> None:
    for seed in range(200):
        asked = question(Random(seed))  # noqa: S311 - drawn again from the same seed
        assert np.array_equal(answers.answer(asked), answer(asked)), seed
