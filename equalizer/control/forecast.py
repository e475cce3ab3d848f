"""What the plans of all channels announce together: the power now, and its changes ahead.

Edges fall on a grid of 0.1 s, so that the whole hall's forecast is one short list, however many channels plan. Powers
are integers of microwatts: sums of them never drift.
"""

from bisect import bisect_right, insort
from dataclasses import dataclass
from heapq import heappop, heappush
from math import floor, isfinite
from typing import Self

from equalizer.config import LARGEST_W
from equalizer.control.image import LoadEdge
from schemas.messages import ChannelPlan

GRID_S = 0.1
MICRO = 1e6
SIGMA_LIMIT_S = 1.5
"""A change whose time is less certain than this is not met ahead; the plan counts up to it."""
EXPECTED_SIGMA_S = 10.0
"""A change that is less certain than even this is not expected either."""
_LARGEST_S = 1e12
LAG_S = 2.5
"""Telemetry and the channel's ramp may be behind its plan by this much."""
LEAD_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMemory:
    """A plan as a value; what the fields mean, `Plan` says."""

    edges: tuple[int, ...]
    powers_uw: tuple[int, ...]
    expected: tuple[tuple[int, int], ...]
    highest_uw: int
    start_s: float
    end: int


class Plan:
    """One channel's plan, its edges on the grid."""

    __slots__ = ("alive", "edges", "end", "expected", "highest_uw", "powers_uw", "start_s")

    def __init__(self, plan: ChannelPlan, now_s: float) -> None:
        """Take a plan that was sent at `now_s`: what is certain counts, and what follows is expected at most."""
        until_s = min(plan.until_s, _LARGEST_S)
        edges: list[int] = []
        powers_uw: list[int] = []
        expected: list[tuple[int, int]] = []
        for segment in plan.segments:
            if edges and segment.sigma_s is not None and segment.sigma_s > SIGMA_LIMIT_S:
                until_s = min(until_s, segment.after_s)
            if segment.after_s >= until_s and edges:
                if segment.sigma_s is None or segment.sigma_s > EXPECTED_SIGMA_S:
                    break
                power_uw = round(segment.power_w * MICRO)
                before_uw = powers_uw[-1] + sum(delta_uw for _, delta_uw in expected)
                expected.append((round((now_s + segment.after_s) / GRID_S), power_uw - before_uw))
                continue
            edge = round((now_s + segment.after_s) / GRID_S)
            power_uw = round(segment.power_w * MICRO)
            if edges and edges[-1] == edge:
                powers_uw[-1] = power_uw
            elif not powers_uw or powers_uw[-1] != power_uw:
                edges.append(edge)
                powers_uw.append(power_uw)
        self.edges = edges
        self.expected = expected
        """Changes (grid, difference) that come about then."""
        self.powers_uw = powers_uw
        self.highest_uw = max(abs(power_uw) for power_uw in powers_uw)
        self.start_s = now_s
        self.end = round((now_s + until_s) / GRID_S)
        self.alive = False

    @classmethod
    def recalled(cls, memory: PlanMemory) -> Self:
        """Return a plan as it was remembered."""
        plan = cls.__new__(cls)
        plan.edges = list(memory.edges)
        plan.expected = list(memory.expected)
        plan.powers_uw = list(memory.powers_uw)
        plan.highest_uw = memory.highest_uw
        plan.start_s = memory.start_s
        plan.end = memory.end
        plan.alive = False
        return plan

    @property
    def memory(self) -> PlanMemory:
        """What is to be remembered of it."""
        return PlanMemory(
            edges=tuple(self.edges),
            powers_uw=tuple(self.powers_uw),
            expected=tuple(self.expected),
            highest_uw=self.highest_uw,
            start_s=self.start_s,
            end=self.end,
        )

    def range_uw(self, now_s: float) -> tuple[int, int] | None:
        """Return the lowest and highest power that telemetry may now show; null while the plan is too young."""
        if now_s - self.start_s < LAG_S:
            return None
        first = bisect_right(self.edges, floor((now_s - LAG_S) / GRID_S)) - 1
        last = bisect_right(self.edges, floor((now_s + LEAD_S) / GRID_S))
        powers_uw = self.powers_uw[max(first, 0) : last]
        return min(powers_uw), max(powers_uw)


def is_usable(plan: ChannelPlan) -> bool:
    """Tell whether all numbers of a plan can be reckoned with."""
    for segment in plan.segments:
        if not (segment.after_s <= _LARGEST_S and -LARGEST_W <= segment.power_w <= LARGEST_W):
            return False
    return isfinite(plan.until_s)


class Forecast:
    """The sum of all plans that count."""

    __slots__ = (
        "_added",
        "_certain",
        "_deltas_uw",
        "_drawn",
        "_edges",
        "_ends",
        "_expected",
        "_grid",
        "_passed",
        "announced_uw",
    )

    def __init__(self) -> None:
        self.announced_uw = 0
        """The sum of all plans' powers at the last `advance`."""
        self._passed = 0
        self._grid: list[int] = []
        self._deltas_uw: dict[int, int] = {}
        self._certain: dict[int, LoadEdge] = {}
        """What was drawn of them; most stay the same from one drawing to the next."""
        self._ends: list[tuple[int, int, Plan]] = []
        self._expected: dict[Plan, None] = {}
        """The plans that expect something, in the order in which they came."""
        self._added = 0
        self._edges: tuple[LoadEdge, ...] = ()
        self._drawn = -1

    @property
    def passed(self) -> int:
        """How far time has passed; on the grid."""
        return self._passed

    def recall(self, passed: int) -> None:
        """Go on from a time that was remembered, before any plan counts."""
        self._passed = passed

    def add(self, plan: Plan) -> None:
        """Count a plan from now on."""
        plan.alive = True
        self._added += 1
        heappush(self._ends, (plan.end, self._added, plan))
        if plan.expected:
            self._expected[plan] = None
        self._shift(plan, 1)

    def remove(self, plan: Plan) -> None:
        """Count a plan no more."""
        plan.alive = False
        self._expected.pop(plan, None)
        self._shift(plan, -1)

    def power_uw(self, plan: Plan) -> int:
        """Return what a plan contributes to `announced_uw`."""
        return plan.powers_uw[max(bisect_right(plan.edges, self._passed) - 1, 0)]

    def advance(self, now_s: float) -> list[Plan]:
        """Let time pass; return the plans whose knowledge has ended, for the caller to remove."""
        passed = floor(now_s / GRID_S + 1e-6)
        if passed <= self._passed:
            return []
        self._passed = passed
        due = bisect_right(self._grid, passed)
        if due > 0:
            for edge in self._grid[:due]:
                self.announced_uw += self._deltas_uw.pop(edge)
                self._certain.pop(edge, None)
            del self._grid[:due]
        self._drawn = -1
        ended: list[Plan] = []
        while self._ends and self._ends[0][0] <= passed:
            plan = heappop(self._ends)[2]
            if plan.alive:
                ended.append(plan)
        return ended

    def edges(self, horizon_s: float) -> tuple[LoadEdge, ...]:
        """Return the announced changes from now to the horizon, rising in time."""
        last = self._passed + round(horizon_s / GRID_S)
        if self._drawn != last:
            self._drawn = last
            known, ahead = self._certain, self._grid[: bisect_right(self._grid, last)]
            certain = [drawn for edge in ahead if (drawn := known.get(edge) or self._draw(edge)).delta_w != 0.0]
            expected = [
                LoadEdge(edge * GRID_S, delta_uw / MICRO, certain=False)
                for plan in self._expected
                for edge, delta_uw in plan.expected
                if self._passed < edge <= last and delta_uw != 0
            ]
            self._edges = tuple(sorted(certain + expected, key=lambda edge: edge.at_s)) if expected else tuple(certain)
        return self._edges

    def _draw(self, edge: int) -> LoadEdge:
        drawn = self._certain[edge] = LoadEdge(edge * GRID_S, self._deltas_uw[edge] / MICRO)
        return drawn

    def _shift(self, plan: Plan, sign: int) -> None:
        """Add or take away a plan: its power now, and each of its edges ahead."""
        before_uw = self.power_uw(plan)
        self.announced_uw += sign * before_uw
        for edge, power_uw in zip(plan.edges[1:], plan.powers_uw[1:], strict=True):
            if edge <= self._passed:
                continue
            if edge not in self._deltas_uw:
                insort(self._grid, edge)
                self._deltas_uw[edge] = 0
            self._deltas_uw[edge] += sign * (power_uw - before_uw)
            self._certain.pop(edge, None)
            before_uw = power_uw
        self._drawn = -1
