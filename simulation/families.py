"""Kinds of tests, drawn at random: what a channel of a group is told, in the words of station.toml.

Numbers are whole packs of 96 NMC cells in series (2.7 to 4.2 V each), so that a rating fixes the current. Programs
begin anywhere: a hall is never at the start of all its tests.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from schemas.settings import validate
from simulation.scenario import Family, GroupSection
from station.config import ChannelSection

SERIES = 96
FULL_V = 4.15 * SERIES
EMPTY_V = 3.0 * SERIES
HIGHEST_V = 4.2 * SERIES
MARGIN_RATIO = 0.92
"""Of the rating: no step asks for more, so that limits do not write the test."""
DRIVE_S = 1200.0
DRIVING_RATIO = 0.75
"""Of a drive's stretches; in the others it brakes."""

Table = dict[str, Any]


def channels(group: GroupSection, seed: str) -> tuple[tuple[ChannelSection, float], ...]:
    """Return a group's channels, each with the time at which it starts by itself."""
    made = []
    for number in range(1, group.count + 1):
        name = f"{number:0{len(str(group.count))}d}"
        random = Random(f"{seed}/{group.station}/{name}")  # noqa: S311 - a hall's variety, no secret
        rating_w = round(random.uniform(*group.rating_w), -2)
        start_s = random.uniform(*group.start_s)
        table: Table = {
            "id": name,
            "charge_limit_w": rating_w,
            "discharge_limit_w": rating_w,
            "ramp_w_per_s": rating_w / group.ramp_s,
            "autostart": False,
            **_FAMILIES[group.family](random, rating_w, group),
        }
        section = validate(ChannelSection, table, source=f"group {group.station}, channel {name}")
        made.append((section, start_s))
    return tuple(made)


def is_replayed(family: Family) -> bool:
    """Tell whether a family plays recordings."""
    return family is Family.RECORDING


def _current_a(rating_w: float) -> float:
    return MARGIN_RATIO * rating_w / HIGHEST_V


def _battery(current_a: float, c_rate: float, soc_ratio: float) -> Table:
    return {"capacity_ah": current_a / c_rate, "series": SERIES, "soc_ratio": soc_ratio}


def _turned(random: Random, steps: list[Table]) -> list[Table]:
    """Begin anywhere in a round of steps."""
    first = random.randrange(len(steps))
    return steps[first:] + steps[:first]


def _minutes(random: Random, low: float, high: float) -> Table:
    return {"time_s": round(60.0 * random.uniform(low, high), 1)}


def _grading(random: Random, rating_w: float, group: GroupSection) -> Table:
    """Capacity: constant current up and down between two voltages, with rests."""
    del group
    current_a = _current_a(rating_w)
    steps: list[Table] = [
        {"step": "cccv_chg", "current_a": current_a, "voltage_v": FULL_V, "until": {"current_a": 0.2 * current_a}},
        {"step": "rest", "until": _minutes(random, 5.0, 15.0)},
        {"step": "cc_dchg", "current_a": current_a, "until": {"voltage_v": EMPTY_V}},
        {"step": "rest", "until": _minutes(random, 5.0, 15.0)},
    ]
    battery = _battery(current_a, random.uniform(0.5, 1.2), random.uniform(0.15, 0.85))
    return {"battery": battery, "program": _turned(random, steps)}


def _formation(random: Random, rating_w: float, group: GroupSection) -> Table:
    """First charges: steps of rising current that end by time, long rests, a slow discharge."""
    del group
    current_a = _current_a(rating_w)
    battery = _battery(current_a, 0.5, random.uniform(0.1, 0.3))
    steps: list[Table] = [
        {"step": "cc_chg", "current_a": 0.1 * current_a, "until": _minutes(random, 8.0, 12.0)},
        {"step": "rest", "until": _minutes(random, 1.0, 3.0)},
        {"step": "cc_chg", "current_a": 0.4 * current_a, "until": _minutes(random, 15.0, 20.0)},
        {"step": "rest", "until": _minutes(random, 1.0, 3.0)},
        {"step": "cccv_chg", "current_a": current_a, "voltage_v": FULL_V, "until": {"current_a": 0.1 * current_a}},
        {"step": "rest", "until": _minutes(random, 10.0, 20.0)},
        {"step": "cc_dchg", "current_a": 0.8 * current_a, "until": {"voltage_v": EMPTY_V}},
        {"step": "rest", "until": _minutes(random, 5.0, 10.0)},
    ]
    return {"battery": battery, "program": _turned(random, steps)}


def _hppc(random: Random, rating_w: float, group: GroupSection) -> Table:
    """Pulses of 10 s down and up at ten charges, a tenth of the charge between them."""
    del group
    current_a = _current_a(rating_w)
    battery = _battery(current_a, random.uniform(1.0, 2.0), random.uniform(0.75, 0.9))
    capacity_ah = battery["capacity_ah"]
    pulse: list[Table] = [
        {"step": "cc_dchg", "current_a": current_a, "until": {"time_s": 10.0, "voltage_v": EMPTY_V}},
        {"step": "rest", "until": {"time_s": 40.0}},
        {"step": "cc_chg", "current_a": 0.75 * current_a, "until": {"time_s": 10.0, "voltage_v": FULL_V}},
        {"step": "rest", "until": {"time_s": 40.0}},
        {
            "step": "cc_dchg",
            "current_a": 0.5 * current_a,
            "until": {"charge_ah": 0.1 * capacity_ah, "voltage_v": EMPTY_V},
        },
        {"step": "rest", "until": _minutes(random, 3.0, 10.0)},
        {"step": "loop", "first": 1, "times": random.randint(5, 7)},
        {"step": "cc_chg", "current_a": 0.8 * current_a, "until": {"voltage_v": 4.1 * SERIES}},
        {"step": "rest", "until": _minutes(random, 5.0, 10.0)},
    ]
    return {"battery": battery, "program": pulse}


def _drive(random: Random, rating_w: float, group: GroupSection) -> Table:
    """A drive's power, as a profile; then a charge that makes it good."""
    del group
    points: list[Table] = []
    after_s, flowed_ws, most_w = 0.0, 0.0, MARGIN_RATIO * rating_w
    while after_s < DRIVE_S:
        drives = random.random() < DRIVING_RATIO
        power_w = round(-most_w * random.betavariate(1.5, 3.0) if drives else 0.5 * most_w * random.random())
        hold_s = round(random.uniform(4.0, 40.0), 1)
        points.append({"after_s": round(after_s, 1), "power_w": float(power_w)})
        after_s += hold_s
        flowed_ws += power_w * hold_s
    charge_w = 0.7 * most_w
    steps: list[Table] = [
        {"step": "sim", "duration_s": round(after_s, 1), "profile": points},
        {"step": "rest", "until": _minutes(random, 1.0, 4.0)},
        {"step": "cp_chg", "power_w": charge_w, "until": {"time_s": max(60.0, -flowed_ws / charge_w)}},
        {"step": "rest", "until": _minutes(random, 1.0, 4.0)},
    ]
    battery = _battery(_current_a(rating_w), 1.0, random.uniform(0.5, 0.65))
    return {"battery": battery, "program": _turned(random, steps)}


def _storage(random: Random, rating_w: float, group: GroupSection) -> Table:
    """A grid storage's day, an hour long: charging, peaks, and frequency service in between."""
    del group
    most_w = MARGIN_RATIO * rating_w
    service = [{"after_s": 20.0 * n, "power_w": round(most_w * random.uniform(-0.3, 0.3), 1)} for n in range(30)]
    steps: list[Table] = [
        {"step": "cp_chg", "power_w": 0.6 * most_w, "until": _minutes(random, 15.0, 25.0)},
        {"step": "sim", "duration_s": 600.0, "profile": service},
        {"step": "cp_dchg", "power_w": 0.9 * most_w, "until": _minutes(random, 10.0, 16.0)},
        {"step": "rest", "until": _minutes(random, 2.0, 5.0)},
    ]
    return {
        "battery": _battery(_current_a(rating_w), 0.5, random.uniform(0.4, 0.6)),
        "program": _turned(random, steps),
    }


def _recording(random: Random, rating_w: float, group: GroupSection) -> Table:
    """A recorded test, one cell's scaled to the rating, slower or faster than it was."""
    del group
    name, peak_w, series, (slowest, fastest), duration_s = random.choice(_RECORDINGS)
    return {
        "recording": {
            "path": f"bundled:{name}",
            "series": series,
            "parallel": max(1, int(MARGIN_RATIO * rating_w / (peak_w * series))),
            "time_scale": round(random.uniform(slowest, fastest), 3),
            "start_s": round(random.uniform(0.0, 0.9 * duration_s), 1),
        }
    }


_RECORDINGS: tuple[tuple[str, float, int, tuple[float, float], float], ...] = (
    ("sim-200A.nda.zip", 683.0, 4, (0.02, 0.05), 1085.0),
    # Pulses of half a second as recorded: slowed down to the 10 to 25 s of a drive.
    ("cell-cycling.ndax", 21.1, 96, (4.0, 12.0), 77704.0),
    ("pulse.nda.zip", 6.8, 96, (1.0, 1.0), 3601.0),
)
"""File, one cell's highest power, cells in series, how fast it is played, and its length."""


def _equalization(random: Random, rating_w: float, group: GroupSection) -> Table:
    """A battery that the equalizer leads."""
    capacity_wh = group.capacity_wh if group.capacity_wh is not None else rating_w
    battery = {
        "capacity_ah": capacity_wh / (3.7 * SERIES),
        "series": SERIES,
        "soc_ratio": random.uniform(0.45, 0.55),
    }
    return {"battery": battery, "equalize": True}


_FAMILIES: dict[Family, Callable[[Random, float, GroupSection], Table]] = {
    Family.GRADING: _grading,
    Family.FORMATION: _formation,
    Family.HPPC: _hppc,
    Family.DRIVE: _drive,
    Family.RECORDING: _recording,
    Family.STORAGE: _storage,
    Family.EQUALIZATION: _equalization,
}
