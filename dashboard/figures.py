"""Numbers as people read them: the same in every language. The wire has W; people read kW."""

import datetime as dt

_KILO = 1_000.0
_MEGA = 1_000_000.0
_MINUTE_S = 60.0
_HOUR_S = 3_600.0
_DAY_S = 86_400.0
_ROUND_BELOW = (10.0, 100.0)

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
_SPACE = "\N{NO-BREAK SPACE}"


def power(power_w: float) -> str:
    """Return a magnitude: `812 W`, `19.98 kW`, `61.0 kW`, `1.23 MW`."""
    magnitude_w = abs(power_w)
    if magnitude_w < _KILO - 0.5:
        return f"{magnitude_w:.0f}{_SPACE}W"
    if magnitude_w < _MEGA - 500.0:
        return f"{_three(magnitude_w / _KILO)}{_SPACE}kW"
    return f"{_three(magnitude_w / _MEGA)}{_SPACE}MW"


def signed(power_w: float) -> str:
    """Return a power with its sign: `+19.98 kW`."""
    text = power(power_w)
    if text.startswith("0" + _SPACE):
        return text
    return f"{MINUS if power_w < 0.0 else '+'}{text}"


def energy(energy_wh: float) -> str:
    """Return an energy with its sign where it is negative: `412 kWh`."""
    magnitude_wh, sign = abs(energy_wh), MINUS if round(energy_wh) < 0 else ""
    if magnitude_wh < _KILO - 0.5:
        return f"{sign}{magnitude_wh:.0f}{_SPACE}Wh"
    if magnitude_wh < _MEGA - 500.0:
        return f"{sign}{_three(magnitude_wh / _KILO)}{_SPACE}kWh"
    return f"{sign}{_three(magnitude_wh / _MEGA)}{_SPACE}MWh"


def money(amount: float, currency: str) -> str:
    """Return an amount: `€ 3.20`."""
    sign = MINUS if round(amount, 2) < 0.0 else ""
    return f"{sign}{currency}{_SPACE}{abs(amount):,.2f}"


def share(part: float, whole: float) -> str:
    """Return a part of a whole in per cent; a dash where there is no whole."""
    return f"{100.0 * part / whole:.0f}{_SPACE}%".replace("-", MINUS) if whole > 0.0 else DASH


def number(value: float | None, decimals: int, unit: str) -> str:
    """Return a value with its unit; a dash where there is none."""
    return DASH if value is None else f"{value:.{decimals}f}{_SPACE}{unit}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Return a length of time, the coarser the longer: `12 s`, `3 min`, `2 h`, `4 d`."""
    if seconds < _MINUTE_S:
        return f"{max(seconds, 0.0):.0f}{_SPACE}s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f}{_SPACE}min"
    if seconds < _DAY_S:
        return f"{seconds / _HOUR_S:.0f}{_SPACE}h"
    return f"{seconds / _DAY_S:.0f}{_SPACE}d"


def moment(at: dt.datetime, today: dt.datetime) -> str:
    """Return a time of the day, with the date where it is another day's."""
    return f"{at:%H:%M:%S}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def _three(value: float) -> str:
    """Return a number with about three digits that count."""
    low, high = _ROUND_BELOW
    return f"{value:.2f}" if value < low else f"{value:.1f}" if value < high else f"{value:,.0f}"
