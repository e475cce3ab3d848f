"""Which orders go out: the changes, and what must be said again."""

from equalizer.control import delivery
from equalizer.control import holds as channel
from equalizer.control.cycle import Cycle
from equalizer.control.reasons import Reason
from equalizer.control.state import Order
from schemas.messages import Basis
from schemas.values import replace


def renew(cycle: Cycle) -> None:
    """Find the orders whose leases want renewing, that were not answered, or that the channel cannot do any more."""
    if cycle.now_s < cycle.readout.renew_s:
        return
    said_of = cycle.said
    for key in cycle.views:
        hold = cycle.holds[key]
        due = channel.is_due(hold, cycle.settings, cycle.now_s) or delivery.is_in_vain(hold, cycle.now_s)
        if key in cycle.changed or key in cycle.renewed or not due:
            continue
        present_w = hold.levels[0].power_w
        alone = len(hold.levels) == 1 and key in cycle.counted
        possible_w = channel.clipped_w(present_w, said_of[key])
        if alone and possible_w != present_w:
            level = replace(hold.levels[0], power_w=possible_w)
            # A battery that is nearly full is cut a little at every renewal; that must not bind it for good.
            binds = abs(possible_w - present_w) > cycle.settings.engage_w
            cycle.holds[key] = channel.cut(hold, possible_w, cycle.now_s) if binds else replace(hold, levels=(level,))
            cycle.changed[key] = Reason.LIMITS
        elif delivery.is_in_vain(hold, cycle.now_s):
            cycle.holds[key] = delivery.withdrawn(hold, cycle.settings, cycle.now_s)
            cycle.changed[key] = Reason.NOT_DELIVERING
        elif not channel.steps_soon(hold, cycle.now_s):
            cycle.renewed[key] = Reason.RENEW if hold.answered else Reason.RESEND


def orders(cycle: Cycle) -> tuple[Order, ...]:
    """Return what goes out, each on its channel's newest telemetry; a channel that cannot take it gets nothing."""
    if not cycle.changed and not cycle.renewed:
        return ()
    made: list[Order] = []
    said_of = cycle.said
    for key, view in cycle.views.items():
        reason = cycle.changed.get(key, cycle.renewed.get(key))
        if reason is None or not channel.is_usable(view, cycle.now_s):
            continue
        made.append(
            Order(
                station=key[0],
                channel=key[1],
                basis=Basis(boot_id=view.boot_id, seq=view.seq),
                steps=channel.steps(cycle.holds[key], said_of[key], cycle.now_s),
                kind="change" if key in cycle.changed else "refresh",
                reason=reason.value,
            )
        )
        cycle.holds[key] = channel.sent(cycle.holds[key], view, cycle.now_s)
    return tuple(made)
