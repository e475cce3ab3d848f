"""Numbers and curves as text. People read kW; the wire has W."""

from collections.abc import Iterable, Sequence

_BARS = "▁▂▃▄▅▆▇█"
_KILO = 1000.0
_SHOW_SIGN_FROM_W = 0.5


def power(power_w: float) -> str:
    """Return a signed power: `+19.98 kW`."""
    if abs(power_w) < _SHOW_SIGN_FROM_W:
        return "0 W"
    return f"{power_w / _KILO:+.2f} kW" if abs(power_w) >= _KILO else f"{power_w:+.0f} W"


def plain(power_w: float) -> str:
    """Return a magnitude: `19.98 kW`."""
    return power(abs(power_w)).lstrip("+")


def energy(energy_wh: float) -> str:
    """Return an energy: `1.25 kWh`."""
    return f"{energy_wh / _KILO:.2f} kWh" if abs(energy_wh) >= _KILO else f"{energy_wh:.0f} Wh"


def sparkline(values: Sequence[float], width: int, top: float) -> str:
    """Return the newest magnitudes as bars, `top` the highest; a full bar is at or above it."""
    shown = list(values)[-width:]
    highest = len(_BARS) - 1
    ratios = (min(abs(value) / top, 1.0) if top > 0.0 else 0.0 for value in shown)
    return "".join(_BARS[round(ratio * highest)] for ratio in ratios).rjust(width)


def share(part: float, whole: float) -> str:
    """Return a part of a whole in per cent; nothing where there is no whole."""
    return f"{100.0 * part / whole:.1f} %" if whole > 0.0 else "-"


def narrowest(name: str, cells: Iterable[str]) -> int:
    """Return how wide a column must be at least: its name may be broken between words, its figures never."""
    return max(len(text) for text in (*name.split(), *cells))
