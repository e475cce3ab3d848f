"""The delay taken by the letter: what a reader of "a delay of 10 to 20 s" may build."""

from simulation.peers.law import Pool, Wanted, shared


class LiteralDelay:
    """One correction of everything at once, after an imbalance has stood outside the band for the delay.

    Args:
        engage_w: the band.
        delay_s: the delay.
    """

    def __init__(self, engage_w: float, delay_s: float) -> None:
        self._engage_w = engage_w
        self._delay_s = delay_s
        self._since_s: float | None = None

    def wanted(self, pool: Pool, now_s: float) -> Wanted | None:
        """Return the load's opposite once the time is over."""
        if abs(pool.total_w) <= self._engage_w:
            self._since_s = None
            return None
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < self._delay_s:
            return None
        self._since_s = None
        return shared(-pool.load_w, pool)
