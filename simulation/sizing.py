"""How many equalization channels, how strong, with how much battery: what each size buys. Pure; powers in W."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from schemas.settings import ConfigurationError
from simulation.scenario import Controller, EventSection, Family, GroupSection, Scenario, VariantSection

KILO = 1000.0
DAY_S = 86400.0
NAME = "equalization"
"""The station of a hall that had no equalization channels."""
LITTLE_RATIO = 0.2
"""A further watt buys little where it avoids less than this part of what those of the smallest size avoid."""
CHANNELS = (1, 2, 4, 8)
RATING_RATIOS = (0.5, 1.0, 2.0)
"""Of the scenario's own rating, where no other is asked for."""
CAPACITY_RATIOS = (0.5, 1.0)
"""Of the scenario's own batteries."""
ALIKE_RATIO = 0.01
"""Of the energy that could be avoided: what differs by less is called the same."""


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """What one could buy."""

    channels: int
    rating_w: float
    """Of each channel, in both directions."""
    capacity_wh: float
    """Of each channel's battery."""

    @property
    def power_w(self) -> float:
        """Of all channels together."""
        return self.channels * self.rating_w

    def __str__(self) -> str:
        """Return it in kW and kWh."""
        return f"{self.channels} x {self.rating_w / KILO:g} kW, {self.capacity_wh / KILO:g} kWh each"


@dataclass(frozen=True, slots=True)
class Bought:
    """What a size did in its run."""

    size: Size
    length_s: float
    avoided_wh: float
    unbalanced_wh: float
    """What would have crossed the grid's connection without any."""
    residual_w: float
    """Mean |total|."""
    residual_ratio: float
    """Of the mean |load|."""
    saved: float
    """At the scenario's tariff."""
    changes: int
    changes_per_channel_hour: float
    lowest_soc_ratio: float | None
    """Of any battery at any time; null: none says it."""
    highest_soc_ratio: float | None
    hasty: int
    """Changes that came into force sooner after the one before than the delay allows."""

    @property
    def avoided_wh_per_day(self) -> float:
        """At the same pace, in 24 h."""
        return self.avoided_wh * DAY_S / self.length_s

    @property
    def saved_per_day(self) -> float:
        """At the same pace, in 24 h."""
        return self.saved * DAY_S / self.length_s


@dataclass(frozen=True, slots=True)
class Step:
    """From one size on the frontier to the next larger one."""

    before: Bought | None
    """Null: from nothing at all."""
    after: Bought

    @property
    def marginal_h_per_day(self) -> float:
        """Avoided energy by power that is bought with the step: Wh per W and day, or kWh per kW and day."""
        before_wh = 0.0 if self.before is None else self.before.avoided_wh_per_day
        before_w = 0.0 if self.before is None else self.before.size.power_w
        return (self.after.avoided_wh_per_day - before_wh) / (self.after.size.power_w - before_w)


@dataclass(frozen=True, slots=True)
class Advice:
    """What the sweep says to somebody who is about to buy."""

    frontier: tuple[Step, ...]
    worth_h_per_day: float
    """A step whose watts avoid less buys little."""
    enough: Bought
    """The largest size that is still worth its power."""
    words: tuple[str, ...]


def base(scenario: Scenario) -> GroupSection | None:
    """Return the scenario's first group of equalization channels; null: it has none."""
    return next((group for group in scenario.group if group.family is Family.EQUALIZATION), None)


def sizes(
    scenario: Scenario,
    channels: Sequence[int] = (),
    ratings_w: Sequence[float] = (),
    capacities_wh: Sequence[float] = (),
) -> tuple[Size, ...]:
    """Return every combination; what is not said (empty) is drawn around the scenario's own.

    Raises:
        ConfigurationError: the scenario has nothing to start from.
    """
    group = base(scenario)
    if not ratings_w:
        if group is None:
            raise ConfigurationError(
                'the scenario has no [[group]] with family = "equalization" to start from: give --rating-kw'
            )
        ratings_w = [ratio * sum(group.rating_w) / 2.0 for ratio in RATING_RATIOS]
    own_wh = None if group is None else group.capacity_wh
    return tuple(
        sorted(
            {
                Size(count, rating_w, capacity_wh)
                for count, rating_w in product(channels or CHANNELS, (round(one, -2) for one in ratings_w))
                for capacity_wh in capacities_wh
                or [ratio * (rating_w if own_wh is None else own_wh) for ratio in CAPACITY_RATIOS]
            }
        )
    )


def sized(scenario: Scenario, size: Size) -> Scenario:
    """Return the scenario with these equalization channels instead of those of its groups.

    They come as one station, under the name and with the ramp of the first group that there was.
    """
    group = base(scenario)
    table = {"station": NAME, "family": Family.EQUALIZATION, "count": 1} if group is None else group.model_dump()
    bought = GroupSection.model_validate(
        {
            **table,
            "count": size.channels,
            "rating_w": (size.rating_w, size.rating_w),
            "capacity_wh": size.capacity_wh,
        }
    )
    others = tuple(group for group in scenario.group if group.family is not Family.EQUALIZATION)
    return scenario.model_copy(update={"group": (*others, bought)})


def variant(scenario: Scenario, name: str | None) -> VariantSection:
    """Return the variant that the sizes are tried with; null: the first that zeroloop itself controls.

    Raises:
        ConfigurationError: there is none of that name, or none at all.
    """
    if name is not None:
        return scenario.only((name,)).variant[0]
    ours = next((one for one in scenario.variant if one.controller is Controller.ZEROLOOP), None)
    if ours is None:
        raise ConfigurationError('the scenario has no [[variant]] with controller = "zeroloop": name one by --variant')
    return ours


def events(scenario: Scenario, name: str) -> tuple[EventSection, ...]:
    """Return what happens in a variant; the others, which some of it may be for, are not run."""
    return tuple(
        event.model_copy(update={"only": ()}) for event in scenario.event if not event.only or name in event.only
    )


def frontier(bought: Iterable[Bought]) -> tuple[Step, ...]:
    """Return the steps from nothing to the largest size that is worth a look, each buying less per watt than before.

    The upper convex hull of avoided energy over installed power: what lies below it is beaten by a mix of its
    neighbours.
    """
    hull: list[Bought] = []
    best: dict[float, Bought] = {}
    for one in bought:
        known = best.get(one.size.power_w)
        # Of two that avoid the same with the same power, the one with fewer channels, then with less battery.
        if known is None or (-one.avoided_wh_per_day, one.size) < (-known.avoided_wh_per_day, known.size):
            best[one.size.power_w] = one
    for _, one in sorted(best.items()):
        while hull and _step(hull, one).marginal_h_per_day >= _step(hull[:-1], hull[-1]).marginal_h_per_day:
            hull.pop()
        if _step(hull, one).marginal_h_per_day > 0.0:
            hull.append(one)
    return tuple(_step(hull[:number], one) for number, one in enumerate(hull))


def _step(before: Sequence[Bought], after: Bought) -> Step:
    return Step(before[-1] if before else None, after)


def advise(bought: Sequence[Bought], worth_h_per_day: float | None = None) -> Advice:
    """Say where more buys little.

    Args:
        bought: all sizes' runs, at least one.
        worth_h_per_day: what a further watt must avoid to be worth it, Wh per day; null: a part of what those of the
            smallest size on the frontier avoid.
    """
    steps = frontier(bought)
    if not steps:
        most = max(bought, key=lambda one: one.avoided_wh_per_day)
        return Advice((), worth_h_per_day or 0.0, most, ("No size avoids any energy here.",))
    worth = LITTLE_RATIO * steps[0].marginal_h_per_day if worth_h_per_day is None else worth_h_per_day
    enough = max((step for step in steps if step.marginal_h_per_day >= worth), default=None, key=_power_w)
    words = [_of_power(steps, enough, worth)]
    chosen = steps[0].after if enough is None else enough.after
    words += _of_channels(bought, chosen)
    words += _of_batteries(bought, chosen)
    return Advice(steps, worth, chosen, tuple(words))


def _power_w(step: Step) -> float:
    return step.after.size.power_w


def _of_power(steps: Sequence[Step], enough: Step | None, worth: float) -> str:
    if enough is None:
        return (
            f"Even the smallest size, {steps[0].after.size}, avoids only {steps[0].marginal_h_per_day:.2f} kWh per kW "
            f"and day, less than the {worth:.2f} that are asked for."
        )
    after = enough.after
    has = (
        f"{after.size} ({after.size.power_w / KILO:g} kW) avoids {after.avoided_wh_per_day / KILO:.1f} kWh a day, "
        f"{1.0 - after.residual_ratio:.0%} of what there is to avoid"
    )
    beyond = next((step for step in steps if step.before is after), None)
    if beyond is None:
        return (
            f"{has}. That is the most that was tried to any use, and its last kW still avoids "
            f"{enough.marginal_h_per_day:.2f} kWh a day: larger sizes may be worth a look."
            if after.size.power_w >= max(_power_w(step) for step in steps)
            else f"{has}."
        )
    return (
        f"{has}. More buys little: from there to {beyond.after.size} a further kW avoids "
        f"{beyond.marginal_h_per_day:.2f} kWh a day, below {worth:.2f}; the first avoided "
        f"{steps[0].marginal_h_per_day:.2f}."
    )


def _of_channels(bought: Sequence[Bought], chosen: Bought) -> list[str]:
    """Compare what has the same power in fewer or more channels."""
    peers = sorted(
        (
            one
            for one in bought
            if one.size.power_w == chosen.size.power_w and one.size.channels != chosen.size.channels
        ),
        key=lambda one: (one.size.channels, -one.avoided_wh),
    )
    return [
        f"The same {chosen.size.power_w / KILO:g} kW as {one.size} avoid {_compared(one, chosen)}, at "
        f"{one.changes_per_channel_hour:.0f} instead of {chosen.changes_per_channel_hour:.0f} changes per channel "
        "and h."
        for number, one in enumerate(peers)
        if number == 0 or peers[number - 1].size.channels != one.size.channels
    ]


def _of_batteries(bought: Sequence[Bought], chosen: Bought) -> list[str]:
    """Compare what has the same channels on other batteries."""
    alike = sorted(
        (
            one
            for one in bought
            if (one.size.channels, one.size.rating_w) == (chosen.size.channels, chosen.size.rating_w)
        ),
        key=lambda one: one.size.capacity_wh,
    )
    said = []
    for one, other in pairwise(alike):
        said.append(
            f"Batteries of {other.size.capacity_wh / KILO:g} instead of {one.size.capacity_wh / KILO:g} kWh at "
            f"{one.size.channels} x {one.size.rating_w / KILO:g} kW avoid {_compared(other, one)}{_charge(one)}."
        )
    return said


def _charge(one: Bought) -> str:
    if one.lowest_soc_ratio is None or one.highest_soc_ratio is None:
        return ""
    return f" (the smaller ones went from {one.lowest_soc_ratio:.0%} to {one.highest_soc_ratio:.0%} of their charge)"


def _compared(one: Bought, other: Bought) -> str:
    difference_wh = one.avoided_wh_per_day - other.avoided_wh_per_day
    if abs(one.avoided_wh - other.avoided_wh) <= ALIKE_RATIO * other.unbalanced_wh:
        return "the same within 1 % of what there is to avoid"
    return f"{abs(difference_wh) / KILO:.1f} kWh a day {'more' if difference_wh > 0.0 else 'less'}"
