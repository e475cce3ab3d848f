"""The near future: what the channels announce, and what is planned for the equalization channels. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from schemas.messages import ChannelPlan, Setpoint


class Edge(NamedTuple):
    """Powers from a moment on, until the next."""

    after_s: float
    load_w: float
    equalization_w: float

    @property
    def total_w(self) -> float:
        """What the grid will see."""
        return self.load_w + self.equalization_w


class Course(NamedTuple):
    """What one channel will do: power now, and power from each moment on."""

    is_equalization: bool
    power_w: float
    steps: Sequence[tuple[float, float]]
    """`(after_s, power_w)` from now, rising."""


def of_plan(plan: ChannelPlan, age_s: float) -> list[tuple[float, float]]:
    """Return what a plan still has ahead, `age_s` after it came; nothing where its knowledge has ended."""
    if age_s > plan.until_s:
        return []
    return [(s.after_s - age_s, s.power_w) for s in plan.segments if age_s < s.after_s <= plan.until_s]


def of_setpoint(setpoint: Setpoint, age_s: float) -> list[tuple[float, float]]:
    """Return what a setpoint still has ahead; with its lease the power ends."""
    if age_s > setpoint.ttl_s:
        return []
    return [(s.after_s - age_s, s.power_w) for s in setpoint.steps if age_s < s.after_s <= setpoint.ttl_s]


def ahead(courses: Iterable[Course], horizon_s: float) -> list[Edge]:
    """Return the loop's power from now (`after_s` 0) to the horizon, edge by edge.

    Beyond what is announced a channel is taken to go on as it is: no more is known of it.
    """
    load_w = equalization_w = 0.0
    changes: list[tuple[float, float, bool]] = []
    for course in courses:
        if course.is_equalization:
            equalization_w += course.power_w
        else:
            load_w += course.power_w
        before_w = course.power_w
        for after_s, power_w in course.steps:
            if after_s > horizon_s:
                break
            changes.append((after_s, power_w - before_w, course.is_equalization))
            before_w = power_w
    edges = [Edge(0.0, load_w, equalization_w)]
    for after_s, change_w, is_equalization in sorted(changes):
        if is_equalization:
            equalization_w += change_w
        else:
            load_w += change_w
        if after_s == edges[-1].after_s:
            edges.pop()
        edges.append(Edge(after_s, load_w, equalization_w))
    if edges[-1].after_s < horizon_s:
        edges.append(Edge(horizon_s, load_w, equalization_w))
    return edges
