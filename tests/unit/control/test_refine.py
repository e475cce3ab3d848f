"""A course of action that is made better, one channel after another."""

from dataclasses import replace
from itertools import combinations, pairwise
from random import Random

import numpy as np
import pytest

from equalizer.control.allocation import Slot
from equalizer.control.image import LoadEdge
from equalizer.control.lookahead import Course, Move, Unit, course, foresee
from equalizer.control.plan import planned
from equalizer.control.refine import Floats, Task, refined
from equalizer.control.settings import LOCK_MARGIN_S, ControlSettings

LIMIT_W = 40_000.0
LOCK_S = 4.0
NOW_S = 1000.0
SETTINGS = ControlSettings(delay_s=15.0, engage_w=600.0, release_w=500.0)
DELAY_S = SETTINGS.delay_s + LOCK_MARGIN_S


def one_channel(luck: Random) -> Task:
    """Any nine stretches and one channel, which may be locked at first, and may be barred from either sign."""
    times_s = np.cumsum([0.0, *(luck.uniform(0.5, 3.0) for _ in range(9))])
    return Task(
        times_s=times_s,
        asked_w=np.array([luck.uniform(-50e3, 50e3) for _ in range(9)]),
        no_positive=np.array([luck.random() < 0.1 for _ in range(9)]),
        no_negative=np.array([luck.random() < 0.1 for _ in range(9)]),
        powers_w=np.array([luck.choice([0.0, 10e3, -5e3])]),
        unlock_s=np.array([luck.choice([0.0, float(times_s[2])])]),
        lowest_w=np.array([-LIMIT_W]),
        highest_w=np.array([LIMIT_W]),
        sign_w=np.array([1e-3]),
        price_ws=3000.0,
        charge=np.array([0.1]),
        curves=(None,),
        lock_s=LOCK_S,
    )


def begins(task: Task, plan_w: Floats) -> list[float]:
    """Return when a plan of one channel changes."""
    changed = np.diff(plan_w[0], prepend=task.powers_w[0]) != 0.0
    return [float(time_s) for time_s in task.times_s[:-1][changed]]


def least_ws(task: Task) -> float:
    """Try every choice of moments, each stretch between them at the best of all powers asked."""
    levels_w = np.unique([*np.clip(task.asked_w, -LIMIT_W, LIMIT_W), 0.0, task.powers_w[0]])
    moments = [n for n in range(9) if task.times_s[n] >= task.unlock_s[0]]
    best_ws = float("inf")
    for count in range(4):
        for chosen in combinations(moments, count):
            if any(task.times_s[later] - task.times_s[sooner] < LOCK_S for sooner, later in pairwise(chosen)):
                continue
            plans_w = np.full((1, 1, 9), task.powers_w[0])
            for begin, end in pairwise([*chosen, 9]):
                tried_w = np.repeat(plans_w, len(levels_w), axis=0)
                tried_w[:, 0, begin:] = plans_w[0, 0, begin:]
                tried_w[:, 0, begin:end] = levels_w[:, None]
                tried_w[:, 0, end:] = levels_w[:, None]  # nothing but this stretch tells them apart
                costs_ws = _up_to(task, tried_w, end)
                plans_w[0, 0, begin:] = levels_w[int(np.argmin(costs_ws))]
            best_ws = min(best_ws, float(task.costs_ws(plans_w)[0]))
    return best_ws


def _up_to(task: Task, plans_w: Floats, end: int) -> Floats:
    """Return the costs of the first stretches alone."""
    first = {name: getattr(task, name)[:end] for name in ("asked_w", "no_positive", "no_negative")}
    return replace(task, times_s=task.times_s[: end + 1], **first).costs_ws(plans_w[:, :, :end])


@pytest.mark.parametrize("seed", range(25))
def test_one_channel_gets_the_best_there_is(seed: int) -> None:
    task = one_channel(Random(seed))  # noqa: S311 - drawn again from the same seed
    plan_w = refined(task, np.full((1, 9), task.powers_w[0]), seed)
    at_s = begins(task, plan_w)
    assert all(later_s - sooner_s >= LOCK_S - 1e-9 for sooner_s, later_s in pairwise(at_s))
    assert all(time_s >= task.unlock_s[0] for time_s in at_s)
    assert task.costs_ws(plan_w[None])[0] <= least_ws(task) + 3.0


def units(*powers_w: float, unlock_s: float = NOW_S) -> list[Unit]:
    """Return channels of 150 kW."""
    return [
        Unit(
            Slot(("eq", str(number)), power_w, 150e3, 150e3, locked=unlock_s > NOW_S, soc_ratio=0.5),
            unlock_s,
        )
        for number, power_w in enumerate(powers_w)
    ]


def swinging(luck: Random) -> Course:
    """A load that goes through zero again and again."""
    times_s = sorted(NOW_S + luck.uniform(0.5, 44.0) for _ in range(30))
    return course(luck.uniform(-60e3, 60e3), [LoadEdge(time_s, luck.uniform(-60e3, 60e3)) for time_s in times_s])


def left_ws(ahead: Course, channels: list[Unit], moves: list[Move]) -> float:
    """Return what a course of action leaves over in 45 s, and see that it keeps the rules."""
    by_key = {unit.slot.key: [(NOW_S, unit.slot.power_w)] for unit in channels}
    for move in moves:
        by_key[move.key].append((move.at_s, move.power_w))
    for unit in channels:
        done = by_key[unit.slot.key]
        assert all(at_s >= unit.unlock_s - 1e-9 for at_s, _ in done[1:])
        assert all(later[0] - sooner[0] >= DELAY_S - 1e-6 for sooner, later in pairwise(done[1:]))
        assert all(-150e3 <= power_w <= 150e3 for _, power_w in done)
    times_s = sorted({*ahead.times_s, NOW_S, NOW_S + 45.0, *(move.at_s for move in moves)})
    total_ws = 0.0
    for begin_s, end_s in pairwise(times_s):
        powers_w = [[power_w for at_s, power_w in done if at_s <= begin_s][-1] for done in by_key.values()]
        assert min(powers_w) > -1e-3 or max(powers_w) < 1e-3
        total_ws += abs(ahead.at(begin_s) - sum(powers_w)) * (end_s - begin_s)
    return total_ws


def looked_again(seed: int) -> list[float]:
    """Return what a swinging load leaves over, with the price of the changes: by the search alone, and by six looks."""
    ahead = swinging(Random(seed))  # noqa: S311 - drawn again from the same seed
    channels = units(0.0, 20e3, 0.0, 45e3)
    moves = foresee(NOW_S, ahead, channels, SETTINGS)
    costs_ws = [left_ws(ahead, channels, moves) + SETTINGS.change_price_ws * len(moves)]
    for number in range(6):
        moves = planned(NOW_S, ahead, channels, SETTINGS, before=moves if number > 0 else (), number=number)
        costs_ws.append(left_ws(ahead, channels, moves) + SETTINGS.change_price_ws * len(moves))
    return costs_ws


def test_every_look_makes_the_course_of_the_one_before_no_worse_and_most_make_it_better() -> None:
    halls = [looked_again(seed) for seed in range(12)]
    for costs_ws in halls:
        for before_ws, after_ws in pairwise(costs_ws):
            assert after_ws <= before_ws + SETTINGS.release_w * 45.0, "edges within the band are not looked at"
    assert all(costs_ws[-1] < costs_ws[0] for costs_ws in halls), "looks make better what the search has found"
    assert sum(costs_ws[-1] < costs_ws[1] for costs_ws in halls) >= 10, "now and then the first look finds the best"
    assert sum(costs_ws[-1] for costs_ws in halls) < 0.98 * sum(costs_ws[1] for costs_ws in halls)


def test_what_does_not_fit_any_more_is_put_off() -> None:
    ahead = Course((NOW_S + 5.0,), (0.0, 80e3))
    channels = units(0.0, unlock_s=NOW_S + 8.0)
    before = [Move(NOW_S + 5.0, ("eq", "0"), 80e3)]
    (move,) = planned(NOW_S, ahead, channels, SETTINGS, before=before, number=1)
    assert move.at_s == pytest.approx(NOW_S + 8.0)
    assert move.power_w == pytest.approx(80e3)


def test_what_has_been_done_is_not_done_again() -> None:
    ahead = Course((), (80e3,))
    before = [Move(NOW_S - 1.0, ("eq", "0"), 80e3)]
    assert planned(NOW_S, ahead, units(80e3, unlock_s=NOW_S + 14.0), SETTINGS, before=before, number=1) == []
