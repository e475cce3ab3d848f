"""What a load says of its future, from its course."""

from bisect import bisect_right

from schemas.messages import ChannelPlan, PlanSegment
from simulation.plant.course import Course

HORIZON_S = 600.0
"""Nothing further ahead is said."""
MOST_SEGMENTS = 64
CERTAIN_RATIO = 0.5
"""Of the time that is left to an end which nobody can know."""
BRIEF_S = 10.0
"""What is certain for less is not worth another plan before the step."""


def plan(course: Course, at_s: float, *, boot_id: str, seq: int, unix_time_s: float) -> tuple[ChannelPlan, float]:
    """Return the plan of a moment, and when the next is due.

    Args:
        course: the channel's.
        at_s: the moment, in the course's time.
        boot_id: of the station.
        seq: of the plan.
        unix_time_s: its label.
    """
    here = bisect_right(course.edge_s, at_s) - 1
    second = min(int(at_s), course.length_s - 1)
    fresh = at_s - course.edge_s[here] < 1.0
    told = [(0.0, course.edge_w[here] if fresh else float(course.power_w[second]))]
    until_s, next_s = HORIZON_S, float("inf")
    for n in range(here + 1, len(course.edge_s)):
        after_s = course.edge_s[n] - at_s
        if course.step[n] and after_s < next_s:
            next_s = after_s
        if after_s >= until_s:
            break
        if not course.ahead[n]:
            until_s = CERTAIN_RATIO * after_s
            break
        if len(told) == MOST_SEGMENTS:
            until_s = after_s
            break
        told.append((round(after_s, 3), course.edge_w[n]))
    while len(told) > 1 and told[-1][0] >= until_s:
        told.pop()
    until_s = max(until_s, told[-1][0], 0.001)
    said = ChannelPlan.model_construct(
        boot_id=boot_id,
        seq=seq,
        unix_time_s=unix_time_s,
        step_id=here + 1,
        until_s=round(until_s, 3),
        segments=tuple([PlanSegment(after_s=after_s, power_w=round(power_w, 3)) for after_s, power_w in told]),
    )
    return said, at_s + (next_s if until_s < BRIEF_S else min(next_s, 0.5 * until_s))
