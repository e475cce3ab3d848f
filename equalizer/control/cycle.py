"""A balancing cycle's workplace: the image, what is made of it, and what becomes of the channels' holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isfinite
from types import MappingProxyType

from equalizer.control import adoption, answers, delivery
from equalizer.control import holds as channel
from equalizer.control.allocation import allocate
from equalizer.control.image import ChannelKey, EqualizationView, LoopImage
from equalizer.control.lookahead import Move, Unit
from equalizer.control.reasons import Reason
from equalizer.control.settings import ControlSettings
from equalizer.control.state import NEVER_S, ControlState, Hold, Readout
from schemas.values import replace

CLEAR_S = 0.25
"""A channel takes a sign so long after another has left the opposite one: messages travel differently long."""
READOUT_S = 0.1
"""The channels are read again this soon, even if none of them spoke: time passes for their answers and leases."""


@dataclass(slots=True)
class Cycle:
    """A balancing cycle at work: the frozen inputs, and what becomes of the channels' holds."""

    image: LoopImage
    settings: ControlSettings
    now_s: float
    readout: Readout
    holds: dict[ChannelKey, Hold]
    is_read: bool
    """Whether the readout was made in this cycle."""
    changed: dict[ChannelKey, Reason] = field(default_factory=dict)
    renewed: dict[ChannelKey, Reason] = field(default_factory=dict)

    @property
    def views(self) -> Mapping[ChannelKey, EqualizationView]:
        """The equalization channels; the limits of those that do not deliver are what they deliver."""
        return self.readout.views

    @property
    def said(self) -> Mapping[ChannelKey, EqualizationView]:
        """The equalization channels as they tell it themselves, delivered or not."""
        return {view.key: view for view in self.image.equalization}

    @property
    def counted(self) -> frozenset[ChannelKey]:
        """The channels that are counted upon."""
        return self.readout.counted

    def total_w(self, at_s: float) -> float:
        """Return what all equalization channels do at a time, by what they were asked and can do."""
        total_w = 0.0
        counted = self.counted
        for key, view in self.views.items():
            if key not in counted:
                total_w += view.power_w
                continue
            hold = self.holds[key]
            power_w = hold.levels[0].power_w if len(hold.levels) == 1 else hold.power_w(at_s)
            if power_w > view.charge_limit_w:
                power_w = view.charge_limit_w
            elif power_w < -view.discharge_limit_w:
                power_w = -view.discharge_limit_w
            total_w += power_w
        return total_w

    def remainder_w(self, losses_w: float) -> float:
        """Return the load that no plan says, with what is lost and what the channels do beyond their orders."""
        return self.image.remainder_power_w + losses_w + self.readout.error_w

    def units(self, at_s: float) -> list[Unit]:
        """Return the channels as they enter a look ahead."""
        return [self._unit(key, view, at_s) for key, view in self.views.items()]

    def _unit(self, key: ChannelKey, view: EqualizationView, at_s: float) -> Unit:
        hold = self.holds[key]
        counted = key in self.counted
        slot = channel.slot(view, hold, self.settings, at_s, counted=counted)
        if not counted:
            return Unit(slot, inf)
        coming = tuple(
            (level.effect_s, channel.clipped_w(level.power_w, view)) for level in hold.levels if level.effect_s > at_s
        )
        return Unit(slot, channel.unlock_s(hold, self.settings), coming)

    def shortfall_w(self, asked_w: float) -> float:
        """Return what is asked beyond the limits of all channels that are counted upon."""
        fixed_w = highest_w = lowest_w = 0.0
        for key, view in self.views.items():
            if key in self.counted:
                highest_w += view.charge_limit_w
                lowest_w -= view.discharge_limit_w
            else:
                fixed_w += view.power_w
        return asked_w - min(max(asked_w, lowest_w + fixed_w), highest_w + fixed_w)

    def go_to(self, power_w: float, at_s: float, reason: Reason) -> bool:
        """Share a power out for a time from now on; tell whether any channel changes."""
        if not isfinite(power_w):
            return False
        slots = [unit.slot for unit in self.units(at_s)]
        allocation = allocate(power_w, slots, least_w=self.settings.release_w)
        for key in allocation.changed:
            self.holds[key] = channel.change(
                self.holds[key],
                self.views[key],
                allocation.powers_w[key],
                at_s,
                settings=self.settings,
                now_s=self.now_s,
            )
            self.changed[key] = reason
        return bool(allocation.changed)

    def make(self, moves: Sequence[Move], at_s: float, reason: Reason) -> None:
        """Make changes that belong together, for a time from now on.

        Who leaves a sign goes first; who takes the opposite one follows when that has been answered. Of several that
        are to go from one sign to the other, all but the last therefore leave theirs, and stay at 0 W for now: each
        would wait for the others for good.
        """

        def crosses(move: Move) -> bool:
            """Tell whether a channel goes from one sign to the other."""
            return self.power_w(move.key, at_s) * move.power_w < 0.0

        def stays(move: Move) -> bool:
            """Tell whether a channel does not leave the sign that it has."""
            return not crosses(move) and move.power_w != 0.0

        crossing = {move.key for move in moves if crosses(move)}
        left: set[ChannelKey] = set()
        for move in sorted(moves, key=lambda move: (stays(move), abs(move.power_w), move.key)):
            crossing.discard(move.key)
            power_w = move.power_w
            opposed = self._opposed(move)
            if opposed & crossing and opposed <= crossing | left:
                power_w = 0.0
            elif opposed:
                continue
            if power_w == 0.0:
                left.add(move.key)
            soonest_s = self._clear_s(move) if power_w != 0.0 else NEVER_S
            self.holds[move.key] = channel.change(
                self.holds[move.key],
                self.views[move.key],
                power_w,
                max(at_s, soonest_s),
                settings=self.settings,
                now_s=self.now_s,
                soonest_s=soonest_s,
            )
            self.changed[move.key] = reason

    def power_w(self, key: ChannelKey, at_s: float) -> float:
        """Return what a channel does at a time, by what it was asked and can do."""
        return channel.clipped_w(self.holds[key].power_w(at_s), self.views[key])

    def _opposed(self, move: Move) -> set[ChannelKey]:
        """Return who keeps a channel from taking a sign.

        That is each that has not been asked to leave the opposite one (a course may have it leave sooner, at no edge),
        or has not answered: its order may be lost.
        """
        opposed: set[ChannelKey] = set()
        for key in self.counted - {move.key}:
            hold = self.holds[key]
            stays_w = 0.0 if hold.background else hold.levels[-1].power_w
            if stays_w * move.power_w < 0.0 or (hold.pending and self.views[key].applied_w * move.power_w < 0.0):
                opposed.add(key)
        return opposed

    def _clear_s(self, move: Move) -> float:
        """Return from when on no other channel has the opposite sign; all have been asked to leave it."""
        clear_s = NEVER_S
        for key in self.counted - {move.key}:
            for earlier, later in pairwise(self.holds[key].levels):
                if earlier.power_w * move.power_w < 0.0:
                    # Its order may be on its way for longer than was reckoned with: as long as others' are.
                    late_s = max(self.holds[move.key].travel_s - self.holds[key].reckoned_s, 0.0)
                    clear_s = max(clear_s, later.at_s + late_s + CLEAR_S)
        return clear_s

    def is_any_free(self, at_s: float) -> bool:
        """Tell whether a channel that is counted upon may be changed at a time."""
        return any(channel.unlock_s(self.holds[key], self.settings) <= at_s for key in self.counted)

    def is_opposed(self, at_s: float) -> bool:
        """Tell whether channels that are counted upon work against each other, as taken over from somebody else."""
        if len(self.counted) < 2:  # noqa: PLR2004 - it takes two
            return False
        powers_w = [0.0 if self.holds[key].background else self.power_w(key, at_s) for key in self.counted]
        return min(powers_w) < -self.settings.release_w and max(powers_w) > self.settings.release_w


def begin(state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float) -> Cycle:
    """Bring what was asked of the channels up to date with what they show."""
    if state.readout.equalization is image.equalization and now_s < state.readout.until_s:
        return Cycle(image, settings, now_s, state.readout, dict(state.holds), is_read=False)
    views = {view.key: view for view in image.equalization}
    held = left(state, views, settings, now_s)
    for key, view in views.items():
        before = state.holds.get(key)
        held[key] = (
            adoption.adopt(view, settings, now_s)
            if before is None
            else answers.reconcile(before, view, settings, now_s)
        )
    views = {key: delivery.delivered(view, held[key], now_s) for key, view in views.items()}
    usable = [key for key, view in views.items() if channel.is_usable(view, now_s)]
    counted = frozenset(key for key in usable if held[key].is_counted(now_s))
    readout = Readout(
        equalization=image.equalization,
        views=MappingProxyType(views),
        counted=counted,
        error_w=sum(delivery.delivery_error_w(held[key], views[key]) for key in sorted(counted)),
        efficiency=settings.efficiencies.of_all(views[key] for key in sorted(counted)),
        renew_s=min(
            (now_s if delivery.is_in_vain(held[key], now_s) else channel.due_s(held[key], settings) for key in usable),
            default=inf,
        ),
        until_s=now_s + READOUT_S,
    )
    return Cycle(image, settings, now_s, readout, held, is_read=True)


def left(
    state: ControlState, views: Mapping[ChannelKey, EqualizationView], settings: ControlSettings, now_s: float
) -> dict[ChannelKey, Hold]:
    """Return what is remembered of the channels that are no equalization channels now; they may come back soon."""
    gone = ((key, adoption.left(hold, settings, now_s)) for key, hold in state.holds.items() if key not in views)
    return {key: hold for key, hold in gone if hold is not None}


def kept(cycle: Cycle, state: ControlState) -> tuple[Mapping[ChannelKey, Hold], Readout]:
    """Return what became of the channels, for the state: their holds and the readout."""
    sent = bool(cycle.changed or cycle.renewed)
    if not sent and not cycle.is_read:
        return state.holds, state.readout
    return MappingProxyType(cycle.holds), replace(cycle.readout, until_s=NEVER_S) if sent else cycle.readout
