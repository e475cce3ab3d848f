"""Today's control, led along what a recorded one has sent: it decides, and then what was really sent is taken for sent.

So one decision that differs does not make all later ones differ, and each is judged by itself.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from equalizer.config import EqualizerSettings
from equalizer.control import holds
from equalizer.control.image import ChannelKey, EqualizationView
from equalizer.control.settings import ControlSettings
from equalizer.control.state import Decision, Hold, Level, Order
from equalizer.memory import Memory
from schemas.messages import LoopAction, LoopBalance, LoopCommand, Setpoint
from simulation.clock import Timeline
from simulation.server import LONGEST_S, Server

NEAR_S = 1.0
"""A recorder hears a setpoint a little after it was decided, and telemetry a little before or after the server."""
SAME_RATIO = 0.02
SAME_W = 100.0
CHANGED_W = 1.0
"""A refresh tells the same again, but for rounding."""
UNKNOWN_AFTER_S = 2.0
"""A server decides every second: where none is known for so long, it is not known when it did."""
_MEANT_S = 0.02
"""What is sent by so much sooner or later locks the channel at that time."""


@dataclass(slots=True, eq=False)
class Sent:
    """A setpoint that was recorded."""

    at_s: float
    """On the timeline."""
    key: ChannelKey
    setpoint: Setpoint
    is_change: bool
    """It tells the channel to come to another power than the one before it did."""
    is_past: bool = False
    """It has been taken for sent, or one after it."""
    is_met: bool = False
    """The control has sent the same."""

    @property
    def power_w(self) -> float:
        """What the channel comes to."""
        return self.setpoint.steps[-1].power_w

    def is_same(self, order: Order, now_s: float) -> bool:
        """Tell whether an order tells the same, about then."""
        apart_w = abs(order.steps[-1].power_w - self.power_w)
        return abs(now_s - self.at_s) <= NEAR_S and apart_w <= max(SAME_W, SAME_RATIO * abs(self.power_w))


class Pupil(Server):
    """An equalizer whose orders nobody obeys.

    Args:
        settings: its equalizer.toml.
        timeline: in which it lives.
        sent: what the recorded equalizer has sent, in that order.
        decides_s: when that one is known to have decided; `decide` is called then.
    """

    def __init__(
        self, settings: EqualizerSettings, *, timeline: Timeline, sent: Iterable[Sent], decides_s: Sequence[float] = ()
    ) -> None:
        self._decides_s = decides_s
        super().__init__(settings, timeline=timeline, send=lambda topic, payload, qos: None)  # noqa: ARG005 - nobody
        self._control = ControlSettings.of(settings)
        self._due: dict[ChannelKey, list[Sent]] = {}
        self._stands_w: dict[ChannelKey, float] = {}
        self._wanted: dict[ChannelKey, float] = {}
        self.others_s: list[float] = []
        """When it would have made changes that the recorded one did not make."""
        self.idle_s: list[float] = []
        """When nothing was to be balanced: what it decides later rests on no course of action from before."""
        for one in sent:
            self._due.setdefault(one.key, []).append(one)
            timeline.at(one.at_s + NEAR_S, lambda one=one: self._believe(one))  # type: ignore[misc]  # bound now

    def recall(self, memory: Memory, heard: Iterable[tuple[str, bytes, bool]]) -> None:
        """Go on from what the recorded one remembered; what had been heard by then calls for no decision."""
        self._helm.recall(memory)
        self._link.reset(self._helm.book)
        self._link.of_unknown_age = False
        self._asked = True
        for topic, payload, retained in heard:
            self._link.take(topic, payload, retained)
        self._asked = False
        self._cycle_at(min(memory.due_s, memory.decided_s + LONGEST_S))

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take a message that the recorded one heard."""
        self._link.take(topic, payload, retained)

    def follow(self, balance: LoopBalance) -> None:
        """Take over what operators had asked of the recorded one."""
        self._helm.follow(balance)

    def obey(self, command: LoopCommand) -> None:
        """Do what an operator asked of the recorded one."""
        match command.action:
            case LoopAction.PAUSE.value:
                self._helm.pause()
            case LoopAction.RESUME.value:
                self._helm.resume()
            case LoopAction.SET_TARGET.value if command.target_power_w is not None:
                self._helm.set_target(command.target_power_w)
        self.material(self._timeline.now_s)

    def decide(self) -> None:
        """Decide, as the recorded one has done now."""
        self._round += 1
        self._cycle()

    def _is_told(self, now_s: float) -> bool:
        """Tell whether the recorded one is known to have decided now."""
        following = bisect_right(self._decides_s, now_s)
        return following > 0 and self._decides_s[following - 1] == now_s

    def _cycle_at(self, at_s: float) -> None:
        """Decide later, unless it is known when the recorded one has decided next."""
        now_s = self._timeline.now_s
        following = bisect_right(self._decides_s, now_s)
        if following == len(self._decides_s) or self._decides_s[following] > now_s + UNKNOWN_AFTER_S:
            super()._cycle_at(at_s)

    def _cycle(self) -> None:
        self._before = self._helm.holds
        super()._cycle()
        if self._helm.is_idle:
            self.idle_s.append(self._timeline.now_s)

    def _send(self, decision: Decision, now_s: float) -> None:
        """Take for sent what the recorded one has sent as well, and nothing else."""
        self._note(decision, self._helm.image, now_s)
        for order in decision.orders:
            key = (order.station, order.channel)
            found = self._found(key, order, now_s)
            if found is None:
                self._missed(key, order)
                self._helm.correct(key, self._before.get(key))
                continue
            found.is_met = True
            self._pass(found)
            hold = replace(self._helm.holds[key], order=(found.setpoint.epoch, found.setpoint.seq))
            if not self._is_told(now_s):
                hold = _retimed(hold, self._before.get(key), found.at_s, now_s)
            self._helm.correct(key, hold)

    def _found(self, key: ChannelKey, order: Order, now_s: float) -> Sent | None:
        near = [one for one in self._due.get(key, ()) if not one.is_past and one.is_same(order, now_s)]
        return min(near, key=lambda one: abs(one.at_s - now_s), default=None)

    def _missed(self, key: ChannelKey, order: Order) -> None:
        """Count a change that the recorded one did not make; once, however often it is asked for."""
        before = self._before.get(key)
        stands_w = self._stands_w.get(key, 0.0 if before is None else before.levels[-1].power_w)
        power_w = order.steps[-1].power_w
        wanted_w = self._wanted.get(key, inf)
        same = abs(power_w - wanted_w) <= max(SAME_W, SAME_RATIO * abs(power_w))
        if abs(power_w - stands_w) > max(SAME_W, SAME_RATIO * abs(stands_w)) and not same:
            self.others_s.append(self._timeline.now_s)
            self._wanted[key] = power_w

    def _pass(self, one: Sent) -> None:
        """Wait for no order up to this one any more."""
        due = self._due[one.key]
        for earlier in due:
            earlier.is_past = True
            if earlier is one:
                break
        self._due[one.key] = [later for later in due if not later.is_past]
        self._stands_w[one.key] = one.power_w
        if one.is_change:
            self._wanted.pop(one.key, None)

    def _believe(self, one: Sent) -> None:
        """Take what was sent for sent, although the control did not send it."""
        if one.is_past:
            return
        self._pass(one)
        view = next((view for view in self._helm.image.equalization if view.key == one.key), None)
        hold = self._helm.holds.get(one.key)
        if view is not None and hold is not None:
            self._helm.correct(one.key, _asked(hold, view, one, self._control))
            self.material(self._timeline.now_s)


def _retimed(hold: Hold, before: Hold | None, at_s: float, now_s: float) -> Hold:
    """Return a hold that went out a little sooner or later than it was decided here."""
    by_s = at_s - now_s
    if abs(by_s) < _MEANT_S:
        return hold
    changed = before is None or hold.changed_s != before.changed_s
    shift = changed and len(hold.levels) == 1
    return replace(
        hold,
        sent_s=at_s,
        changed_s=hold.changed_s + by_s if shift else hold.changed_s,
        settled_s=hold.settled_s + by_s if shift else hold.settled_s,
    )


def _asked(hold: Hold, view: EqualizationView, one: Sent, settings: ControlSettings) -> Hold:
    """Return a hold to which a setpoint has gone out."""
    steps = one.setpoint.steps
    if one.is_change:
        arrives_s = one.at_s + hold.travel_s
        levels = [Level(one.at_s, one.at_s, steps[0].power_w)]
        for step in steps[1:]:
            ramp_s = abs(step.power_w - levels[-1].power_w) / view.ramp_w_per_s
            at_s = arrives_s + step.after_s
            levels.append(Level(at_s, at_s + 0.5 * ramp_s, step.power_w))
        ramp_s = abs(levels[-1].power_w - view.power_w) / view.ramp_w_per_s
        hold = replace(
            hold,
            levels=tuple(levels),
            changed_s=max(levels[-1].at_s, arrives_s),
            prior_changed_s=holds.last_changed_s(hold, one.at_s),
            reckoned_s=hold.travel_s,
            settled_s=levels[-1].effect_s + ramp_s + holds.SETTLE_PERIODS * settings.period_s,
            answered=True,
            abandoned=False,
            rejected=False,
            pending=True,
            tries=0,
            superseded=None,
            background=False,
        )
    number = (one.setpoint.epoch, one.setpoint.seq)
    heard = holds.echo_of(view)
    return replace(
        holds.sent(hold, view, one.at_s),
        order=number,
        basis_seq=one.setpoint.basis.seq,
        echo=hold.echo if heard is not None and heard >= number else heard,
    )
