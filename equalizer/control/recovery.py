"""Charge recovery in the background: what is left over within the band anyway brings a battery back to the middle.

It runs only while it costs nothing: what it takes is left over already, so the total comes nearer to the target; the
loop is in band, nothing is announced within the delay, and another channel stays free with headroom both ways. So small
a power may have the sign opposite to the other channels'.
"""

from equalizer.control import holds as channel
from equalizer.control.allocation import MIDDLE_SOC_RATIO
from equalizer.control.cycle import Cycle
from equalizer.control.explain import unexplained_w
from equalizer.control.lookahead import Unit
from equalizer.control.reasons import Reason
from equalizer.control.state import NEVER_S, ControlState
from schemas.messages import Phase
from schemas.values import replace

WORTH_RATIO = 0.02
"""A battery that is no further off the middle is left alone."""


def recover(state: ControlState, cycle: Cycle, asked_w: float) -> ControlState:
    """Let a battery have what has been left over for the delay, if one needs it."""
    settings, now_s = cycle.settings, cycle.now_s
    if not settings.charge_recovery:
        return state
    spare_w = unexplained_w(state, cycle, asked_w)
    if abs(spare_w) <= settings.release_w or spare_w * state.spare_w < 0.0 or not _is_calm(state, cycle):
        return replace(state, spare_w=0.0, spare_since_s=NEVER_S)
    since_s = now_s if state.spare_w == 0.0 else state.spare_since_s
    if now_s - since_s >= settings.delay_s and (unit := _needy(cycle, spare_w)) is not None:
        key, power_w = unit.slot.key, unit.slot.power_w + spare_w
        hold = channel.change(cycle.holds[key], cycle.views[key], power_w, now_s, settings=settings, now_s=now_s)
        cycle.holds[key] = replace(hold, background=abs(power_w) <= settings.engage_w)
        cycle.changed[key] = Reason.CHARGE
        return replace(state, spare_w=0.0, spare_since_s=NEVER_S)
    return replace(state, spare_w=spare_w, spare_since_s=since_s)


def _is_calm(state: ControlState, cycle: Cycle) -> bool:
    """Tell whether nothing else is being done, waited for or near."""
    if state.engaged or state.phase is not Phase.BALANCING or state.confirmation.since_s is not None or cycle.changed:
        return False
    near_s = cycle.now_s + cycle.settings.delay_s
    return not any(edge.at_s < near_s and abs(edge.delta_w) > cycle.settings.engage_w for edge in cycle.image.edges)


def _needy(cycle: Cycle, spare_w: float) -> Unit | None:
    """Return the free channel whose battery is furthest off the middle on the side that the spare power mends."""
    engage_w = cycle.settings.engage_w
    free = [unit for unit in cycle.units(cycle.now_s) if not unit.slot.locked and not unit.coming]
    helpers = [unit for unit in free if min(unit.slot.charge_limit_w, unit.slot.discharge_limit_w) > engage_w]

    def lacks(unit: Unit) -> float:
        soc_ratio = unit.slot.soc_ratio
        off = 0.0 if soc_ratio is None else MIDDLE_SOC_RATIO - soc_ratio
        return off if spare_w > 0.0 else -off

    def fits(unit: Unit) -> bool:
        to_w = unit.slot.power_w + spare_w
        opposed = any(other.slot.power_w * to_w < 0.0 for other in cycle.units(cycle.now_s) if other is not unit)
        within = -unit.slot.discharge_limit_w <= to_w <= unit.slot.charge_limit_w
        return within and (not opposed or abs(to_w) <= engage_w) and any(other is not unit for other in helpers)

    able = [unit for unit in free if lacks(unit) > WORTH_RATIO and fits(unit)]
    return max(able, key=lambda unit: (lacks(unit), unit.slot.key), default=None)
