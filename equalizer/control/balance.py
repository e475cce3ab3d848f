"""One balancing cycle: what the load asks, which changes to make of it, and which orders to renew."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from types import MappingProxyType

from equalizer.control import holds as channel
from equalizer.control.allocation import allocate
from equalizer.control.image import ChannelKey, EqualizationView, LoopImage
from equalizer.control.lookahead import CLUSTER_S, Course, Unit, choose, course
from equalizer.control.regulator import STILL, confirm, is_engaged
from equalizer.control.settings import ControlSettings
from equalizer.control.state import NEVER_S, ControlState, Hold, Look, Order, Readout, Reason
from schemas.messages import Basis, Policy

LEAD_S = 3.0
"""A change for an announced edge goes out this long before it (and half the ramp)."""
PERSIST_S = 1.0
"""A mismatch that what is announced and sent ahead ends by itself within this time is none."""
LOOK_S = 0.25
AHEAD_S = 0.2
READOUT_S = 0.1
CALL_OFF_S = 0.3
"""A change sent ahead can be called off until so long before it."""


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
        """The equalization channels."""
        return self.readout.views

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

    def is_any_free(self, at_s: float) -> bool:
        """Tell whether a channel that is counted upon may be changed at a time."""
        return any(channel.unlock_s(self.holds[key], self.settings) <= at_s for key in self.counted)


def begin(state: ControlState, image: LoopImage, settings: ControlSettings, now_s: float) -> Cycle:
    """Bring what was asked of the channels up to date with what they show."""
    if state.readout.equalization is image.equalization and now_s < state.readout.until_s:
        return Cycle(image, settings, now_s, state.readout, dict(state.holds), is_read=False)
    views = {view.key: view for view in image.equalization}
    held: dict[ChannelKey, Hold] = {}
    for key, view in views.items():
        before = state.holds.get(key)
        held[key] = (
            channel.adopt(view, settings, now_s) if before is None else channel.reconcile(before, view, settings, now_s)
        )
    usable = [key for key, view in views.items() if channel.is_usable(view, now_s)]
    counted = frozenset(key for key in usable if held[key].is_counted(now_s))
    readout = Readout(
        equalization=image.equalization,
        views=MappingProxyType(views),
        counted=counted,
        error_w=sum(channel.delivery_error_w(held[key], views[key]) for key in sorted(counted)),
        renew_s=min((channel.due_s(held[key], settings) for key in usable), default=inf),
        until_s=now_s + READOUT_S,
    )
    return Cycle(image, settings, now_s, readout, held, is_read=True)


def balance(state: ControlState, cycle: Cycle) -> tuple[ControlState, float, float]:
    """Make the changes that are due.

    Returns:
        The state (its holds are still the cycle's), what was asked now, and when to look again.
    """
    image, settings, now_s = cycle.image, cycle.settings, cycle.now_s
    _call_off(cycle)
    state, asked_w = _ask(state, cycle)
    ahead = course(asked_w, image.edges)
    mismatch_w = asked_w - cycle.total_w(now_s)
    engaged = is_engaged(state.engaged, mismatch_w, settings)
    state = replace(state, engaged=engaged, cause=state.cause if engaged else Reason.PLAN)
    state, due_s = _act_now(state, cycle, ahead, mismatch_w)
    if now_s >= state.ahead_s:
        _act_ahead(cycle, ahead)
        state = replace(state, ahead_s=now_s + AHEAD_S if ahead.times_s else NEVER_S)
    return state, asked_w, min(due_s, state.ahead_s if ahead.times_s else inf)


def _ask(state: ControlState, cycle: Cycle) -> tuple[ControlState, float]:
    """Return what the equalization channels are asked for now.

    The announced part of the load counts at once; the remainder (with what the channels are off their orders) counts
    as measured under `dwell`, and under `confirm` as it was last confirmed.
    """
    image, settings = cycle.image, cycle.settings
    remainder_w = image.remainder_power_w + cycle.readout.error_w
    baseline_w = state.baseline_w + (image.transferred_power_w - state.transferred_w)
    announced_w = state.target_power_w - image.announced_power_w - state.trim.power_w
    confirmation, cause = STILL, state.cause
    if settings.policy is Policy.DWELL:
        if abs(remainder_w - baseline_w) > settings.release_w:
            cause = Reason.LOAD_STEP
        baseline_w = remainder_w
    else:
        mismatch_w = announced_w - baseline_w - cycle.total_w(cycle.now_s)
        if abs(mismatch_w) > settings.engage_w:
            mismatch_w = 0.0  # it is announced, and worked on already; only the rest waits
        imbalance_w = remainder_w - baseline_w - mismatch_w
        confirmation, stood_w = confirm(state.confirmation, imbalance_w, settings, cycle.now_s)
        if stood_w is not None:
            baseline_w += stood_w + mismatch_w
            cause = Reason.LOAD_STEP
    state = replace(
        state,
        baseline_w=baseline_w,
        transferred_w=image.transferred_power_w,
        confirmation=confirmation,
        cause=cause,
    )
    return state, announced_w - baseline_w


def _act_now(state: ControlState, cycle: Cycle, ahead: Course, mismatch_w: float) -> tuple[ControlState, float]:
    """Correct what is out of the band now, as far as a channel is free and nothing announced speaks against it."""
    settings, now_s = cycle.settings, cycle.now_s
    if not state.engaged or _ends_by_itself(cycle, ahead, mismatch_w):
        return replace(state, look=None), inf
    if not cycle.is_any_free(now_s):
        unlocks_s = [channel.unlock_s(cycle.holds[key], settings) for key in cycle.views if key in cycle.counted]
        return replace(state, look=None), min((at_s for at_s in unlocks_s if at_s > now_s), default=inf)
    look = state.look
    if look is not None and now_s < look.until_s and abs(mismatch_w - look.mismatch_w) <= settings.release_w:
        return state, look.until_s
    power_w = choose(now_s, ahead, cycle.units(now_s), settings)
    if power_w is None:
        until_s = now_s + LOOK_S
        return replace(state, look=Look(mismatch_w, until_s)), until_s
    cycle.go_to(power_w, now_s, state.cause)
    return replace(state, look=None), inf


def _ends_by_itself(cycle: Cycle, ahead: Course, mismatch_w: float) -> bool:
    """Tell whether an edge that is due, or a change that is on its way, ends the mismatch in a moment."""
    now_s = cycle.now_s
    moments_s = [at_s for at_s in ahead.times_s if at_s <= now_s + PERSIST_S]
    moments_s += [
        level.effect_s
        for hold in cycle.holds.values()
        for level in hold.levels[1:]
        if level.effect_s <= now_s + PERSIST_S
    ]
    for at_s in moments_s:
        later_w = ahead.at(at_s) - cycle.total_w(at_s)
        if abs(later_w) <= cycle.settings.engage_w or later_w * mismatch_w < 0.0:
            return True
    return False


def _act_ahead(cycle: Cycle, ahead: Course) -> None:
    """Send changes for the edges that are near."""
    settings, now_s = cycle.settings, cycle.now_s
    slowest_s = max(
        (
            (view.charge_limit_w + view.discharge_limit_w) / view.ramp_w_per_s
            for key, view in cycle.views.items()
            if key in cycle.counted
        ),
        default=0.0,
    )
    lead_s = LEAD_S + 0.5 * slowest_s
    for at_s in ahead.times_s:
        if at_s > now_s + lead_s:
            break
        gap_w = ahead.at(at_s) - cycle.total_w(at_s)
        if abs(gap_w) <= settings.engage_w or not cycle.is_any_free(at_s):
            continue
        power_w = choose(at_s, ahead, cycle.units(at_s), settings)
        if power_w is not None:
            cycle.go_to(power_w, at_s, Reason.PLAN)


def _call_off(cycle: Cycle) -> None:
    """Call off what was sent ahead for an edge that is announced no more."""
    for key, hold in cycle.holds.items():
        if len(hold.levels) == 1 or hold.levels[-1].at_s < cycle.now_s + CALL_OFF_S:
            continue
        effect_s = hold.levels[-1].effect_s
        if not any(abs(edge.at_s - effect_s) <= 2.0 * CLUSTER_S for edge in cycle.image.edges):
            cycle.holds[key] = channel.call_off(hold)
            cycle.renewed[key] = Reason.PLAN_CHANGED


def renew(cycle: Cycle) -> None:
    """Find the orders whose leases want renewing, that were not answered, or that the channel cannot do any more."""
    if cycle.now_s < cycle.readout.renew_s:
        return
    for key, view in cycle.views.items():
        hold = cycle.holds[key]
        if key in cycle.changed or key in cycle.renewed or not channel.is_due(hold, cycle.settings, cycle.now_s):
            continue
        present_w = hold.levels[0].power_w
        possible_w = channel.clipped_w(present_w, view)
        if len(hold.levels) == 1 and possible_w != present_w and key in cycle.counted:
            level = replace(hold.levels[0], power_w=possible_w)
            cycle.holds[key] = replace(hold, levels=(level,))
            cycle.changed[key] = Reason.LIMITS
        else:
            cycle.renewed[key] = Reason.RENEW if hold.answered else Reason.RESEND


def orders(cycle: Cycle) -> tuple[Order, ...]:
    """Return what goes out, each on its channel's newest telemetry; a channel that cannot take it gets nothing."""
    if not cycle.changed and not cycle.renewed:
        return ()
    made: list[Order] = []
    for key, view in cycle.views.items():
        reason = cycle.changed.get(key, cycle.renewed.get(key))
        if reason is None or not channel.is_usable(view, cycle.now_s):
            continue
        made.append(
            Order(
                station=key[0],
                channel=key[1],
                basis=Basis(boot_id=view.boot_id, seq=view.seq),
                steps=channel.steps(cycle.holds[key], view, cycle.now_s),
                kind="change" if key in cycle.changed else "refresh",
                reason=reason.value,
            )
        )
        cycle.holds[key] = channel.sent(cycle.holds[key], view, cycle.now_s)
    return tuple(made)


def kept(state: ControlState, cycle: Cycle) -> ControlState:
    """Return the state with what became of the channels."""
    sent = bool(cycle.changed or cycle.renewed)
    if not sent and not cycle.is_read:
        return state
    readout = replace(cycle.readout, until_s=NEVER_S) if sent else cycle.readout
    return replace(state, holds=MappingProxyType(cycle.holds), readout=readout)
