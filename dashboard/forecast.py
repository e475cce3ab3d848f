"""The near future: what the channels announce, what is planned for those that balance, and what to expect. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from heapq import heapreplace
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from schemas.messages import ChannelPlan, Setpoint

_LARGER = 2.0


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


class Lead(NamedTuple):
    """What the equalizer has to meet the load with."""

    target_w: float
    band_w: float
    """Within so much of the target it lets things be."""
    charge_limit_w: float
    """Of all equalization channels together."""
    discharge_limit_w: float
    channels: int
    delay_s: float
    """So long each of them is left alone after a change."""
    planned_s: float
    """Up to here its setpoints say what it does."""


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


def thinned(edges: Sequence[Edge], apart_s: float) -> list[Edge]:
    """Return what stands at the end of each piece of time: thousands of channels have thousands of steps ahead."""
    return list({ceil(edge.after_s / apart_s): edge for edge in edges}.values())


def led(edges: Sequence[Edge], lead: Lead) -> list[Edge]:
    """Return the same future with what is to be expected of the equalizer beyond its setpoints.

    An expectation, not its plan: every announced change that leaves the band is met at its edge, as far as the limits
    let, by a channel that was not changed within the delay; where each of them was, as soon as one is free again. The
    last that is free is kept for a step that is near and more than twice as large. What stands outside the band now is
    met once it has stood for the delay.
    """
    announced_s = {edge.after_s for edge in edges}
    edges = _with(edges, lead.delay_s)
    free_s = [0.0] * lead.channels
    offset_w = 0.0
    expected: list[Edge] = []

    def is_larger_near(edge: Edge, before_w: float) -> bool:
        if sum(one_s <= edge.after_s for one_s in free_s) > 1:
            return False
        begin = bisect_right(edges, edge.after_s, key=lambda one: one.after_s)
        end = bisect_right(edges, edge.after_s + lead.delay_s, key=lambda one: one.after_s)
        bearable_w = max(_LARGER * abs(edge.load_w + before_w - lead.target_w), lead.band_w)
        return any(abs(one.load_w + before_w - lead.target_w) > bearable_w for one in edges[begin:end])

    def meet(edge: Edge) -> Edge:
        nonlocal offset_w
        if edge.after_s > lead.planned_s and free_s and free_s[0] <= edge.after_s:
            before_w = edge.equalization_w + offset_w
            if abs(edge.load_w + before_w - lead.target_w) > lead.band_w and not is_larger_near(edge, before_w):
                wanted_w = min(max(lead.target_w - edge.load_w, -lead.discharge_limit_w), lead.charge_limit_w)
                if wanted_w != before_w:
                    offset_w = wanted_w - edge.equalization_w
                    heapreplace(free_s, edge.after_s + lead.delay_s)
        return edge._replace(equalization_w=edge.equalization_w + offset_w)

    for edge, after in zip(edges, [*edges[1:], None], strict=True):
        expected.append(meet(edge))
        while after is not None and free_s and expected[-1].after_s < free_s[0] < after.after_s:
            later = meet(edge._replace(after_s=free_s[0]))
            if later.equalization_w == expected[-1].equalization_w:
                break
            expected.append(later)
    return [
        expected[0],
        *(now for before, now in pairwise(expected) if now.after_s in announced_s or before[1:] != now[1:]),
    ]


def _with(edges: Sequence[Edge], after_s: float) -> list[Edge]:
    """Return edges with one more, at which nothing changes."""
    at = bisect_left(edges, after_s, key=lambda edge: edge.after_s)
    if at in {0, len(edges)} or edges[at].after_s == after_s:
        return list(edges)
    return [*edges[:at], edges[at - 1]._replace(after_s=after_s), *edges[at:]]
