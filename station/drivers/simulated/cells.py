"""Open-circuit voltage curves and usual limits of two kinds of lithium-ion cell.

Each curve is the positive electrode's potential less the graphite's, both fits from open literature, tabulated over the
charge:

- graphite and NMC 811 (LG M50): C.-H. Chen et al., J. Electrochem. Soc. 167 (2020) 080534; lithiation of the graphite
  from 0.0279 to 0.9014, of the NMC from 0.9084 to 0.2661.
- LFP: S. Afshar et al., arXiv:1709.03970 (2017), against the same graphite; lithiation of the graphite from 0.07 to
  0.85, of the LFP from 0.97 to 0.005, chosen so that the empty cell rests at 2.5 V.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

GRID = 200
"""Intervals of the even grid that curves are looked up on; every tabulated charge lies on it."""


class Chemistry(StrEnum):
    """The kind of cell."""

    NMC = "nmc"
    LFP = "lfp"


@dataclass(frozen=True, slots=True)
class Cell:
    """What is typical of a kind of cell."""

    ocv: tuple[tuple[float, float], ...]
    """(charge ratio, volts), rising."""
    voltage_max_v: float
    voltage_min_v: float
    over_voltage_v: float
    """Where protection trips."""
    under_voltage_v: float


NMC_OCV = (
    (0.0, 2.498), (0.01, 2.695), (0.02, 2.837), (0.03, 2.940), (0.05, 3.073), (0.075, 3.172), (0.1, 3.258),
    (0.15, 3.396), (0.2, 3.449), (0.25, 3.494), (0.3, 3.548), (0.35, 3.597), (0.4, 3.634), (0.45, 3.668),
    (0.5, 3.708), (0.55, 3.757), (0.6, 3.809), (0.65, 3.862), (0.7, 3.924), (0.75, 3.971), (0.8, 4.022),
    (0.85, 4.070), (0.9, 4.094), (0.95, 4.116), (0.98, 4.156), (1.0, 4.193),
)  # fmt: skip
LFP_OCV = (
    (0.0, 2.499), (0.01, 2.629), (0.02, 2.728), (0.03, 2.807), (0.05, 2.926), (0.075, 3.037), (0.1, 3.109),
    (0.15, 3.164), (0.2, 3.184), (0.25, 3.207), (0.3, 3.233), (0.35, 3.251), (0.4, 3.259), (0.45, 3.263),
    (0.5, 3.264), (0.55, 3.266), (0.6, 3.267), (0.65, 3.272), (0.7, 3.293), (0.75, 3.308), (0.8, 3.311),
    (0.85, 3.313), (0.9, 3.314), (0.95, 3.315), (0.98, 3.328), (1.0, 3.552),
)  # fmt: skip

CELLS = {
    Chemistry.NMC: Cell(NMC_OCV, voltage_max_v=4.2, voltage_min_v=2.7, over_voltage_v=4.25, under_voltage_v=2.45),
    Chemistry.LFP: Cell(LFP_OCV, voltage_max_v=3.65, voltage_min_v=2.6, over_voltage_v=3.75, under_voltage_v=2.2),
}


class OcvCurve:
    """Open-circuit voltage over charge of a string of cells; straight between and beyond the table's points."""

    __slots__ = ("_rise_v", "_volts")

    def __init__(self, points: tuple[tuple[float, float], ...], series: int) -> None:
        volts: list[float] = []
        for (low, low_v), (high, high_v) in pairwise(points):
            first, last = round(low * GRID), round(high * GRID)
            volts += [series * (low_v + (high_v - low_v) * (k - first) / (last - first)) for k in range(first, last)]
        volts.append(series * points[-1][1])
        self._volts = volts
        self._rise_v = [after - before for before, after in pairwise(volts)]

    def at(self, soc_ratio: float) -> float:
        """Return the voltage at a charge."""
        place = soc_ratio * GRID
        k = 0 if place < 0.0 else GRID - 1 if place >= GRID else int(place)
        return self._volts[k] + (place - k) * self._rise_v[k]

    def slope(self, soc_ratio: float) -> float:
        """Return the voltage's rise per unit of charge ratio."""
        place = soc_ratio * GRID
        return GRID * self._rise_v[0 if place < 0.0 else GRID - 1 if place >= GRID else int(place)]
