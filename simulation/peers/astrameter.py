"""AstraMeter (github.com/tomquist/AstraMeter): steering of a pool of plug-in batteries.

Taken from `src/astrameter/ct002/balancer.py`, with the constants of its defaults:

- Prediction: it acts on a predicted grid, not on the meter. What its own pool has changed is credited at once; towards
  each new reading the prediction moves by a trust, which grows by 0.2 (to 0.9) where a reading is off to the same side
  as before, and is halved (to 0.15) where the side flips. Readings off by less than 40 W do not change the trust.
- Damping: a unit's share of what is predicted is scaled by 1 less 0.95 of a score. The score rises by 0.3 whenever the
  share changes its sign, and else fades by 0.95. Shares above 300 W pass undamped.
- Pace: a unit is asked for at most its pace more than it does, 30 W at first. The pace doubles, to 100 W, while the
  unit moves by 5 W and more towards what it is asked; it follows a smaller share down, and begins anew when the sign
  turns.

Left out: efficiency windows, equal shares between units of unequal output, phases, the trim of small imports.

**Scale.** These watts are for units of 2.5 kW (the Marstek Venus that they were tuned with). A unit's watts here are
those times its rating ÷ 2,500 W; the gate of the trust, which looks at the whole grid, is scaled by the mean rating.
"""

from dataclasses import dataclass

from simulation.peers.law import Key, Pool, Unit, Wanted

UNIT_RATING_W = 2500.0
"""Of the units that the constants are for."""
TRUST_BEGIN, TRUST_LEAST, TRUST_MOST = 0.5, 0.15, 0.9
TRUST_RAISE, TRUST_SHRINK = 0.2, 0.5
GATE_W = 40.0
DAMPING_MOST, SCORE_RAISE, SCORE_KEPT = 0.95, 0.3, 0.95
DAMPED_BELOW_W = 300.0
PACE_BASE_W, PACE_MOST_W, PACE_GROWTH = 30.0, 100.0, 2.0
TRACKING_W = 5.0


@dataclass(slots=True)
class _Memory:
    """What is remembered of a unit."""

    score: float = 0.0
    score_sign: float = 0.0
    pace_w: float = 0.0
    pace_sign: float = 0.0
    power_w: float | None = None


class AstraMeter:
    """Prediction, damping and pace."""

    def __init__(self) -> None:
        self.trust = TRUST_BEGIN
        self._grid_w: float | None = None
        self._pool_w = 0.0
        self._side = 0.0
        self._memories: dict[Key, _Memory] = {}

    def wanted(self, pool: Pool, now_s: float) -> Wanted | None:
        """Return for each unit what it does, corrected by its damped and paced share."""
        del now_s
        if not pool.units:
            return None
        grid_w = self.predicted_w(pool)
        share_w = -grid_w / len(pool.units)
        wanted: dict[Key, float] = {}
        for unit in pool.units:
            memory = self._memories.setdefault(unit.key, _Memory())
            scale = unit.rating_w / UNIT_RATING_W
            correction_w = _paced_w(memory, _damped_w(memory, share_w, scale), unit, scale)
            wanted[unit.key] = unit.clipped_w(unit.power_w + correction_w)
        return wanted

    def predicted_w(self, pool: Pool) -> float:
        """Return what the grid shows, as it is predicted; W."""
        if self._grid_w is None:
            self._grid_w, self._pool_w = pool.total_w, pool.equalization_w
            return self._grid_w
        self._grid_w += pool.equalization_w - self._pool_w
        self._pool_w = pool.equalization_w
        off_w = pool.total_w - self._grid_w
        side = _sign(off_w)
        gate_w = GATE_W * sum(unit.rating_w for unit in pool.units) / max(1, len(pool.units)) / UNIT_RATING_W
        if side != 0.0 and abs(off_w) >= gate_w:
            if self._side in (0.0, side):
                self.trust = min(TRUST_MOST, self.trust + TRUST_RAISE)
            else:
                self.trust = max(TRUST_LEAST, self.trust * TRUST_SHRINK)
            self._side = side
        self._grid_w += self.trust * off_w
        return self._grid_w


def _damped_w(memory: _Memory, share_w: float, scale: float) -> float:
    """Return a share, smaller the more often it has turned its sign."""
    sign = _sign(share_w)
    above = abs(share_w) > DAMPED_BELOW_W * scale
    turned = sign * memory.score_sign < 0.0
    if turned and not above:
        memory.score = min(1.0, memory.score + SCORE_RAISE)
    else:
        memory.score *= SCORE_KEPT
    if sign != 0.0:
        memory.score_sign = sign
    return share_w if above else share_w * (1.0 - DAMPING_MOST * memory.score)


def _paced_w(memory: _Memory, share_w: float, unit: Unit, scale: float) -> float:
    """Return a share within the unit's pace."""
    base_w, sign = PACE_BASE_W * scale, _sign(share_w)
    pace_w = memory.pace_w if memory.pace_w > 0.0 else base_w
    if sign == 0.0 or sign != memory.pace_sign:
        pace_w = base_w
    elif abs(share_w) > pace_w:
        moved_w = 0.0 if memory.power_w is None else (unit.power_w - memory.power_w) * sign
        if moved_w >= TRACKING_W * scale:
            pace_w *= PACE_GROWTH
    else:
        pace_w = max(base_w, abs(share_w))
    memory.pace_w = min(pace_w, PACE_MOST_W * scale)
    memory.pace_sign, memory.power_w = sign, unit.power_w
    return sign * min(abs(share_w), memory.pace_w)


def _sign(value: float) -> float:
    return 1.0 if value > 0.0 else -1.0 if value < 0.0 else 0.0
