"""The control at work: keeps its state and its book, decides, and has the orders sent."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from math import isfinite
from types import MappingProxyType

from equalizer.account import Account
from equalizer.config import EqualizerSettings
from equalizer.control.book import LoopBook
from equalizer.control.holds import is_usable
from equalizer.control.image import ChannelKey, LoopImage
from equalizer.control.overheard import Overheard, hold, overhear
from equalizer.control.reasons import Reason
from equalizer.control.settings import ControlSettings
from equalizer.control.state import NOTHING_READ, ControlState, Decision, Hold, Order
from equalizer.control.step import in_force, initial, pause, resume, set_target, step, stop
from equalizer.control.travel import least_s
from equalizer.diary import Mark
from equalizer.ledger import SavedAccount, StandingOrders
from equalizer.memory import Memory, bare
from equalizer.metrics import Counters
from equalizer.voice import Standpoint, Voice
from schemas.messages import Basis, LastDecision, LoopBalance, Phase, Setpoint, SetpointStep
from schemas.values import replace

_LOG = logging.getLogger(__name__)


class Helm:
    """Decides over the image of the loop.

    Args:
        settings: of the equalizer.
        saved: the energy account of earlier runs.
        orders: what operators had ordered in earlier runs.
        voice: sends the orders.
        counters: of setpoints, reactions, energy.
        clock: monotonic seconds.
        utc: seconds, for labels.
        note: told of each change and each one held back, for the decision log.
    """

    def __init__(
        self,
        settings: EqualizerSettings,
        *,
        saved: SavedAccount,
        orders: StandingOrders = StandingOrders(),  # noqa: B008 - frozen
        voice: Voice,
        counters: Counters,
        clock: Callable[[], float],
        utc: Callable[[], float],
        note: Callable[[Mapping[str, object]], None] = lambda entry: None,  # noqa: ARG005 - nobody keeps a log
    ) -> None:
        self._control = ControlSettings.of(settings)
        self._voice = voice
        self._counters = counters
        self._clock = clock
        self._utc = utc
        self._note = note
        self._changes_before = saved.setpoint_changes
        self._changes = 0
        self.account = Account(self._control, saved=saved, counters=counters)
        self._ignored: Counter[str] = Counter()
        self._state: ControlState = _as_ordered(initial(self._control), orders)
        self._last_decision: LastDecision | None = None
        self._overheard: dict[ChannelKey, Overheard] = {}
        self.book = LoopBook(self._control)
        self.image: LoopImage = self.book.image(clock())
        self.decision: Decision | None = None
        self._decided_s = clock()

    @property
    def phase(self) -> Phase:
        """The control's phase at its last decision."""
        return self._state.phase

    @property
    def saved(self) -> SavedAccount:
        """What a next run shall go on from."""
        return SavedAccount(
            import_wh=self.account.energy.import_wh,
            export_wh=self.account.energy.export_wh,
            unbalanced_wh=self.account.energy.unbalanced_wh,
            setpoint_changes=self._changes_before + self._changes,
        )

    @property
    def orders(self) -> StandingOrders:
        """What operators have ordered, for a next run to obey."""
        configured_w = self._control.target_power_w
        target_w = self._state.target_power_w
        if target_w == configured_w:
            return StandingOrders(paused=self._state.paused)
        return StandingOrders(paused=self._state.paused, target_power_w=target_w, instead_of_w=configured_w)

    def suspend(self) -> None:
        """Decide nothing before a fresh round of telemetry. What was asked of the channels is remembered."""
        self._state = replace(self._state, phase=Phase.STARTING)
        self.decision = None
        self.account.interrupt()

    def restart(self) -> None:
        """Forget the measurements: all of them are stale."""
        self.suspend()
        self._ignored.update(self.book.ignored)
        self._overheard.clear()  # what was sent meanwhile is not known
        self.book = LoopBook(self._control)
        self.look()

    def look(self) -> LoopImage:
        """Draw the image of now, without deciding anything."""
        self.image = self.book.image(self._clock())
        return self.image

    def decide(self, now_s: float) -> Decision:
        """Decide on the image of `now_s`; nothing is sent yet."""
        self.image = self.book.image(now_s)
        self._decided_s = now_s
        self._state, self.decision = step(self._state, self.image, self._control, now_s)
        self.book.travel_s = least_s(self._state.holds.values())
        for reason, count in self.decision.suppressed:
            self._counters.suppressed[reason] += count
            self._note(self._entry("held_back", reason))
        self.account.advance(self._state, self.image, now_s)
        return self.decision

    def remembered(self, server: str, epoch: int, mark: Mark) -> Memory | None:
        """Return what it remembers; None before the first decision."""
        if self.decision is None:
            return None
        return Memory(
            server=server,
            epoch=epoch,
            now_s=self._clock(),
            decided_s=self._decided_s,
            due_s=self.decision.next_due_s,
            mark=mark,
            state=bare(self._state),
            holds=tuple(self._state.holds.items()),
            book=self.book.memory,
        )

    def recall(self, memory: Memory) -> None:
        """Go on from what another one has remembered, on the same clock."""
        holds = MappingProxyType(dict(memory.holds))
        self._state = replace(memory.state, holds=holds, readout=NOTHING_READ)
        self.book = LoopBook(self._control)
        self.book.recall(memory.book)
        self.look()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be balanced, now or ahead: then no course of action is remembered."""
        return self._state.look is None

    @property
    def holds(self) -> Mapping[ChannelKey, Hold]:
        """What each equalization channel has been asked."""
        return self._state.holds

    def correct(self, key: ChannelKey, hold: Hold | None) -> None:
        """Believe otherwise than the control what a channel has been asked; None: nothing yet."""
        holds = {**self._state.holds}
        if hold is None:
            holds.pop(key, None)
        else:
            holds[key] = hold
        self._state = replace(self._state, holds=MappingProxyType(holds), readout=NOTHING_READ)

    def watch(self, now_s: float) -> None:
        """See and account for what happens under another server, without deciding anything."""
        self.image = self.book.image(now_s)
        if self.image.round_complete:
            self.account.watch(self.image, now_s)

    def overhear(self, station: str, channel: str, setpoint: Setpoint) -> None:
        """Take note of what another server asks of a channel."""
        key = (station, channel)
        self._overheard[key] = overhear(self._overheard.get(key), setpoint, self._clock())

    def inherit(self, balance: LoopBalance) -> None:
        """Take over another server's account alone: whoever counted it, nothing that was said ever falls."""
        self.account.follow(balance.energy)
        self._changes = max(self._changes, balance.setpoint_changes - self._changes_before)

    def follow(self, balance: LoopBalance) -> None:
        """Take over another server's account, and what operators have asked of it."""
        self.inherit(balance)
        if balance.last_decision is not None:
            self._last_decision = balance.last_decision
        if balance.target_power_w != self._state.target_power_w:
            with contextlib.suppress(ValueError):  # nobody's order
                self._state = set_target(self._state, balance.target_power_w)
        if balance.phase is not Phase.STARTING:
            self._state = pause(self._state) if balance.phase is Phase.PAUSED else resume(self._state)

    def succeed(self, *, in_doubt: bool) -> None:
        """Be about to decide where another server has decided so far; its last orders may be on their way still."""
        overheard = {key: hold(one, in_doubt=in_doubt) for key, one in self._overheard.items()}
        self._state = replace(self._state, holds=MappingProxyType({**self._state.holds, **overheard}))
        self._overheard.clear()

    def mark(self, orders: tuple[Order, ...], now_s: float) -> tuple[Order, ...]:
        """Return 0 W for the channels that nobody has led yet: so that their stations know the new epoch."""
        ordered = {(order.station, order.channel) for order in orders}
        return tuple(
            Order(
                station=view.key[0],
                channel=view.key[1],
                basis=Basis(boot_id=view.boot_id, seq=view.seq),
                steps=(SetpointStep(after_s=0.0, power_w=0.0),),
                kind="refresh",
                reason=Reason.RENEW.value,
            )
            for view in self.image.equalization
            if view.last is None and view.key not in ordered and is_usable(view, now_s)
        )

    def send(self, orders: tuple[Order, ...], epoch: int) -> dict[ChannelKey, int]:
        """Send orders and return the seq of each."""
        seqs = {}
        for order in orders:
            seqs[order.station, order.channel] = self._voice.setpoint(order, epoch)
            self._counters.sent[order.kind] += 1
            self._counters.decisions[order.reason] += 1
            if order.kind == "change":
                self._changes += 1
                self._last_decision = LastDecision(unix_time_s=self._utc(), reason=order.reason)
                _LOG.info(
                    "setpoint station=%s channel=%s reason=%s steps=%s",
                    order.station,
                    order.channel,
                    order.reason,
                    ",".join(f"{at.after_s:g}s:{at.power_w:.0f}W" for at in order.steps),
                )
                steps = [[round(at.after_s, 2), round(at.power_w, 1)] for at in order.steps]
                where = {"station": order.station, "channel": order.channel, "steps": steps}
                self._note(self._entry("change", order.reason) | where)
        numbered = {
            key: replace(self._state.holds[key], order=(epoch, seq))
            for key, seq in seqs.items()
            if key in self._state.holds
        }
        self._state = replace(self._state, holds=MappingProxyType({**self._state.holds, **numbered}))
        return seqs

    def halt(self, now_s: float) -> tuple[Order, ...]:
        """Return the orders that bring every equalization channel to 0 W."""
        self.image = self.book.image(now_s)
        return stop(self._state, self.image)

    def pause(self) -> str:
        """Have all equalization channels brought to 0 W, then send nothing more."""
        already = self._state.paused
        self._state = pause(self._state)
        return "was paused already" if already else "paused: all equalization channels go to 0 W"

    def resume(self) -> str:
        """Balance again."""
        paused = self._state.paused
        self._state = resume(self._state)
        return "balancing again" if paused else "was not paused"

    def set_target(self, target_power_w: float) -> str:
        """Steer the total power elsewhere, until another target is ordered or configured."""
        self._state = set_target(self._state, target_power_w)
        return f"target is {target_power_w:g} W"

    def standpoint(self, phase: Phase) -> Standpoint:
        """Return what is to be said of the loop, under a phase that may be the server's rather than the control's."""
        return Standpoint(
            image=self.image,
            phase=phase,
            target_power_w=self._state.target_power_w,
            shortfall_w=0.0 if self.decision is None else self.decision.shortfall_w,
            setpoint_changes=self._changes_before + self._changes,
            energy=self.account.energy,
            last_decision=self._last_decision,
            held_back=None if self._state.held_back is None else self._state.held_back.value,
            engage_w=self.band.engage_w,
            release_w=self.band.release_w,
            regret_ratio=None if self.account.regret is None else self.account.regret.ratio,
            residual_j=self._counters.residual_j,
        )

    @property
    def band(self) -> ControlSettings:
        """The settings with the hysteresis band that is in force."""
        return in_force(self._state, self._control)

    @property
    def ignored(self) -> Counter[str]:
        """Messages that changed nothing, and plans that were dropped, since the process began."""
        return self._ignored + self.book.ignored

    def headroom_w(self) -> dict[str, float]:
        """Return how much further all equalization channels could go, by direction."""
        views = self.image.equalization
        return {
            "charge": sum(max(view.charge_limit_w - view.power_w, 0.0) for view in views),
            "discharge": sum(max(view.discharge_limit_w + view.power_w, 0.0) for view in views),
        }

    def _entry(self, kind: str, reason: str) -> dict[str, object]:
        """Return a line of the decision log: what, why, and what was known."""
        image, state = self.image, self._state
        return {
            "unix_time_s": round(self._utc(), 3),
            "kind": kind,
            "reason": reason,
            "phase": state.phase.value,
            "total_power_w": _rounded(image.total_power_w),
            "load_power_w": _rounded(image.load_power_w),
            "announced_power_w": _rounded(image.announced_power_w),
            "equalization_power_w": _rounded(image.equalization_power_w),
            "target_power_w": state.target_power_w,
            "shortfall_w": 0.0 if self.decision is None else round(self.decision.shortfall_w, 1),
            "unknown_power_w": _rounded(image.unknown_power_w),
            "engage_w": round(self.band.engage_w, 1),
        }


def _rounded(power_w: float) -> float | None:
    """JSON knows no number that is none."""
    return round(power_w, 1) if isfinite(power_w) else None


def _as_ordered(state: ControlState, orders: StandingOrders) -> ControlState:
    """Return a new run's state as operators had ordered it, unless the configuration has been edited since."""
    if orders.target_power_w is not None and orders.instead_of_w == state.target_power_w:
        state = set_target(state, orders.target_power_w)
    return pause(state) if orders.paused else state
