"""Which changes the change budget should be spent on, given what is announced.

Every change of a channel locks it for the delay. So before one is made, the loop is played forward over that time
with each of the choices (follow what is asked then, wait, or go at once to a level that is asked a little later), and
the one that leaves the least energy unbalanced is taken. Later changes are played as: whoever is free follows.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from equalizer.control.allocation import Slot, allocate
from equalizer.control.image import LoadEdge
from equalizer.control.settings import ControlSettings

CLUSTER_S = 0.5
"""Edges this close together are met as one."""
CHOICES = 4
CHANGE_PRICE_S = 1.0
"""A change must save at least the band held for this long."""


@dataclass(frozen=True, slots=True)
class Course:
    """The power that is asked of the equalization channels together, from now on: steps at `times_s`."""

    times_s: tuple[float, ...]
    asked_w: tuple[float, ...]
    """One more than times: the first holds now."""

    def at(self, at_s: float) -> float:
        """Return what is asked at a time."""
        return self.asked_w[bisect_right(self.times_s, at_s)]


@dataclass(frozen=True, slots=True)
class Unit:
    """A channel in the game ahead."""

    slot: Slot
    """As it is at the first moment."""
    unlock_s: float
    coming: tuple[tuple[float, float], ...] = ()
    """Changes that it is bound to make: time and power."""


def course(asked_w: float, edges: Sequence[LoadEdge]) -> Course:
    """Return what will be asked, given what is asked now and the announced changes of the load."""
    times_s: list[float] = []
    levels_w = [asked_w]
    weight_w = 0.0
    for edge in edges:
        level_w = levels_w[-1] - edge.delta_w
        if times_s and edge.at_s - times_s[-1] <= CLUSTER_S:
            weight_w += abs(edge.delta_w)
            times_s[-1] += (edge.at_s - times_s[-1]) * abs(edge.delta_w) / weight_w
            levels_w[-1] = level_w
        else:
            times_s.append(edge.at_s)
            levels_w.append(level_w)
            weight_w = abs(edge.delta_w)
    return Course(tuple(times_s), tuple(levels_w))


def choose(at_s: float, ahead: Course, units: Sequence[Unit], settings: ControlSettings) -> float | None:
    """Return the power to go to at `at_s`, or null to wait."""
    end_s = at_s + settings.delay_s
    first = bisect_right(ahead.times_s, at_s)
    last = bisect_right(ahead.times_s, end_s)
    asked_w = ahead.asked_w[first]
    if first == last:
        return asked_w
    choices = [asked_w]
    for level_w in ahead.asked_w[first + 1 : last + 1]:
        if len(choices) < CHOICES and all(abs(level_w - other_w) > settings.release_w for other_w in choices):
            choices.append(level_w)
    moments = {*ahead.times_s[first:last], *(unit.unlock_s for unit in units)}
    moments.update(time_s for unit in units for time_s, _ in unit.coming)
    times_s = (at_s, *sorted(time_s for time_s in moments if at_s < time_s < end_s), end_s)
    best_w: float | None = None
    least_ws = _played(None, ahead, units, times_s, settings)
    for choice_w in choices:
        spent_ws = _played(choice_w, ahead, units, times_s, settings)
        if spent_ws < least_ws:
            best_w, least_ws = choice_w, spent_ws
    return best_w


def _played(
    choice_w: float | None, ahead: Course, units: Sequence[Unit], times_s: Sequence[float], settings: ControlSettings
) -> float:
    """Return what stays unbalanced (in W·s) if the first moment takes the choice, plus the price of the changes."""
    slots = [unit.slot for unit in units]
    unlock_s = [unit.unlock_s for unit in units]
    spent_ws = 0.0
    for moment, (at_s, until_s) in enumerate(pairwise(times_s)):
        if moment > 0:
            slots = [_at(unit, slots[n], unlock_s[n], at_s) for n, unit in enumerate(units)]
        asked_w = ahead.at(at_s)
        goal_w = choice_w if moment == 0 else asked_w
        now_w = sum(slot.power_w for slot in slots)
        if goal_w is not None and abs(goal_w - now_w) > settings.engage_w and not all(slot.locked for slot in slots):
            allocation = allocate(goal_w, slots, least_w=settings.release_w)
            changed = frozenset(allocation.changed)
            for n, slot in enumerate(slots):
                if slot.key in changed:
                    power_w = allocation.powers_w[slot.key]
                    slots[n] = replace(slot, power_w=power_w, locked=True, lowest_w=power_w, highest_w=power_w)
                    unlock_s[n] = at_s + settings.delay_s
            spent_ws += CHANGE_PRICE_S * settings.engage_w * len(changed)
            now_w = sum(slot.power_w for slot in slots)
        spent_ws += abs(asked_w - now_w) * (until_s - at_s)
    return spent_ws


def _at(unit: Unit, slot: Slot, unlock_s: float, at_s: float) -> Slot:
    power_w = slot.power_w
    coming_w = [power_w]
    for time_s, level_w in unit.coming:
        if time_s <= at_s:
            power_w = level_w
            coming_w = [power_w]
        else:
            coming_w.append(level_w)
    locked = unlock_s > at_s
    if power_w == slot.power_w and locked == slot.locked and not unit.coming:
        return slot
    return replace(slot, power_w=power_w, locked=locked, lowest_w=min(coming_w), highest_w=max(coming_w))
