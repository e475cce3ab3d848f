"""Random halls under random faults, in virtual time: what no run may ever show.

A seed makes the hall (loads, equalization channels, policy, delay, network, plans that are missing or wrong) and what
goes wrong in it: messages lost and late, stations cut off, batteries unplugged, tests stopped, telemetry that stands
still, comes twice, or is no telemetry at all.
"""

import json
from itertools import pairwise
from math import isfinite
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from equalizer.control.reasons import Reason
from schemas.settings import validate
from simulation.clock import BEGIN_S, TICK_S
from simulation.run import Result, compete
from simulation.scenario import Scenario
from simulation.witness import SAFETY, SAME_W, LevelChange

LOADS = ("grading", "formation", "hppc", "drive", "storage")
NEVER_S = -1e9
MARGIN_S = 0.3
"""Changes are sent so much further apart than the delay, as messages travel differently long."""


def play(seed: int, *, longest_s: float = 400.0) -> list[str]:
    """Play the seed's hall; return what it violated, one line each."""
    random = Random(f"soak/{seed}")  # noqa: S311 - variety, no secret
    scenario, length_s = hall(random, longest_s)
    found: list[str] = []
    for result in compete(scenario, Path(), seed=seed, duration_s=length_s, tamper=lambda: Faults(seed, length_s)):
        found += [f"{result.variant.name}: {line}" for line in violations(result, scenario)]
    return found


def hall(random: Random, longest_s: float) -> tuple[Scenario, float]:
    """Return a hall, and for how long it is played."""
    length_s = round(random.uniform(0.4, 1.0) * longest_s)
    delay_s = random.choice((2.0, 5.0, 10.0, 15.0, 20.0))
    engage_w = random.choice((200.0, 1000.0, 5000.0))
    groups = [
        {
            "station": f"{family}-{number}",
            "family": family,
            "count": random.randint(1, 3),
            "rating_w": [5000.0, random.choice((10e3, 40e3, 80e3))],
            "start_s": [0.0, random.choice((5.0, 60.0))],
            "on_lost": random.choice(("zero", "continue")),
        }
        for number, family in enumerate(random.sample(LOADS, random.randint(1, 4)))
    ]
    led = [
        {
            "station": f"equalization-{number}",
            "family": "equalization",
            "count": random.randint(1, 3),
            "rating_w": [20e3, random.choice((30e3, 100e3))],
            "capacity_wh": random.choice((500.0, 5e3, 100e3)),
            "ramp_s": random.choice((0.5, 2.0, 5.0)),
            "on_lost": "zero",
        }
        for number in range(random.randint(1, 2))
    ]
    table: dict[str, Any] = {
        "title": "A random hall",
        "duration_s": length_s,
        "control": {
            "policy": random.choice(("confirm", "dwell")),
            "delay_s": delay_s,
            "engage_w": engage_w,
            "release_w": 0.3 * engage_w,
            "freeze_w": random.choice((20e3, 1e6)),
        },
        "network": {
            "delay_s": random.choice((0.02, 0.3, 1.0)),
            "jitter_s": random.choice((0.0, 0.1, 0.15)),
            "loss_ratio": random.choice((0.0, 0.0, 0.01, 0.05, 0.2)),
        },
        "plans": {"share_ratio": random.choice((0.0, 0.5, 1.0)), "shift_s": random.choice((0.0, 0.0, 2.0))},
        "group": groups + led,
        "event": [event(random, length_s) for _ in range(random.randint(0, 6))],
        "variant": [{"name": "plans"}],
    }
    return validate(Scenario, table, source="a random hall"), length_s


def event(random: Random, length_s: float) -> dict[str, Any]:
    """Return something that happens."""
    action = random.choice(("stop", "start", "cut", "heal", "unplug", "plug", "clear_alarm", "equalize"))
    mends = action in ("equalize", "clear_alarm", "plug")
    station = "equalization*" if mends else random.choice(("*", "equalization*", "*-0"))
    return {
        "at_s": round(random.uniform(10.0, length_s), 1),
        "action": action,
        "station": station,
        "share_ratio": random.choice((0.3, 1.0)),
        "within_s": random.choice((0.0, 5.0)),
    }


class Faults:
    """What is wrong with the stations' messages; a `Tamper`."""

    def __init__(self, seed: int, length_s: float) -> None:
        self._random = Random(f"soak/{seed}/faults")  # noqa: S311 - variety, no secret
        self._length_s = length_s
        self._held: dict[str, tuple[float, float, str]] = {}
        self._last: dict[str, bytes] = {}

    def __call__(self, topic: str, payload: bytes, at_s: float) -> bytes | None:
        """Return the message as it is sent."""
        if not topic.endswith(("/telemetry", "/plan")):
            return payload
        if topic not in self._held:
            begin_s = BEGIN_S + self._random.uniform(20.0, self._length_s)
            kind = self._random.choice(("none",) * 6 + ("frozen", "silent", "twice", "nonsense", "clock"))
            self._held[topic] = (begin_s, begin_s + self._random.uniform(2.0, 90.0), kind)
        begin_s, end_s, kind = self._held[topic]
        if not begin_s <= at_s < end_s:
            self._last[topic] = payload
            return payload
        return self._spoilt(kind, topic, payload)

    def _spoilt(self, kind: str, topic: str, payload: bytes) -> bytes | None:
        match kind:
            case "silent":
                return None
            case "frozen":
                return self._last.get(topic, payload)
            case "twice":
                return self._last.get(topic, payload) if self._random.random() < 0.5 else payload
            case "nonsense":
                return self._random.choice((b"", b"{", payload[:-2], payload.replace(b'":', b'":NaN,"x":', 1), b"[1]"))
            case "clock":
                table = json.loads(payload)
                table["unix_time_s"] = 0.0 if self._random.random() < 0.5 else 4e9
                return json.dumps(table).encode()
            case _:
                return payload


def violations(result: Result, scenario: Scenario) -> list[str]:
    """Return what a run violated."""
    found = [*_hasty(result, scenario), *_outside(result), *_opposite(result), *_leaseless(result), *_wild(result)]
    return [*found, *_stalled(result)]


def _hasty(result: Result, scenario: Scenario) -> list[str]:
    """Two changes that came into force less than the delay apart, less what the network's jitter takes.

    A reduction to what the channel can do now, or by one of the reasons of safety, may come at any time.
    """
    least_s = scenario.control.delay_s - max(0.0, 2.0 * scenario.network.jitter_s - MARGIN_S)
    limits_w: dict[str, list[float]] = {}
    for order in result.orders:
        name = f"{order.station}/{order.channel}"
        limits_w.setdefault(name, []).extend((order.charge_limit_w, -order.discharge_limit_w))
    found = []
    for name, witness in result.witnesses.items():
        limits = np.array(limits_w.get(name, []))
        bound = [change for change in witness.changes if not _is_for_safety(change, limits)]
        found += [
            f"{name} changed at {later.at_s - BEGIN_S:.2f} s ({later.from_w:.0f} to {later.to_w:.0f} W, "
            f"{later.reason}) only {later.at_s - earlier.at_s:.2f} s after a change ({earlier.from_w:.0f} to "
            f"{earlier.to_w:.0f} W, {earlier.reason}); the delay is {scenario.control.delay_s:g} s"
            for earlier, later in pairwise(bound)
            if later.at_s - earlier.at_s < least_s - 1e-6
        ]
    return found


def _is_for_safety(change: LevelChange, limits_w: npt.NDArray[np.float64]) -> bool:
    """Tell whether a change goes down to a limit that the channel had said, or for safety's sake."""
    if abs(change.to_w) >= abs(change.from_w) or change.from_w * change.to_w < 0.0:
        return False
    return change.reason in SAFETY or bool((np.abs(limits_w - change.to_w) <= SAME_W).any())


def _outside(result: Result) -> list[str]:
    """An order beyond what the channel had said, or power beyond its rating."""
    return [
        f"{order.station}/{order.channel} was told {power_w:.0f} W at {order.at_s - BEGIN_S:.2f} s, allowed is "
        f"{-order.discharge_limit_w:.0f} to {order.charge_limit_w:.0f} W"
        for order in result.orders
        for _, power_w in order.steps
        if not -order.discharge_limit_w - SAME_W <= power_w <= order.charge_limit_w + SAME_W
    ]


def _opposite(result: Result) -> list[str]:
    """Two channels that do as told and are told opposite signs, for longer than messages travel."""
    told_w = np.array([np.asarray(column) for column in result.trace.setpoint_w.values()])
    does_w = np.array([np.asarray(column) for column in result.trace.power_w.values()])
    both_w = np.minimum(np.abs(told_w), np.abs(does_w)) * np.where(told_w * does_w > 0.0, np.sign(told_w), 0.0)
    least_w = max(SAME_W, 2.0 * result.settings.control.release_w)
    opposite = (both_w.max(0) > least_w) & (both_w.min(0) < -least_w)
    longest, run, at = 0, 0, 0
    for number, is_opposite in enumerate(opposite):
        run = run + 1 if is_opposite else 0
        if run > longest:
            longest, at = run, number
    if longest * TICK_S <= LONGEST_OPPOSITE_S:
        return []
    return [f"opposite signs for {longest * TICK_S:.1f} s up to {at * TICK_S:.1f} s"]


LONGEST_OPPOSITE_S = 5.0
"""An order that got lost is sent again after two and a half periods, and messages travel for up to 1.2 s."""


def _stalled(result: Result) -> list[str]:
    """Much is left over, a channel is free for it, and for long nothing is done.

    The best course may pass over what stands for a while, because an announced edge comes; not for delay after delay.
    """
    control, trace = result.settings.control, result.trace
    total_w = np.asarray(trace.seen_load_w) + np.asarray(trace.equalization_w)
    stands = (np.abs(total_w) > MUCH_RATIO * control.engage_w) & (np.array(trace.reason) == Reason.PASSED_OVER.value)
    longest_s, run = IDLE_DELAYS * control.delay_s + IDLE_S, 0
    for number, is_idle in enumerate(stands):
        run = run + 1 if is_idle else 0
        if run * trace.step_s > longest_s:
            left_w, at_s = total_w[number], trace.time_s[number]
            return [f"{left_w:.0f} W stand at {at_s:.1f} s since {longest_s:.0f} s, with a channel free for them"]
    return []


MUCH_RATIO = 3.0
IDLE_DELAYS = 2.0
IDLE_S = 10.0


def _leaseless(result: Result) -> list[str]:
    """Power for longer than a lease and a ramp after the last order."""
    found = []
    ttl_s = result.settings.setpoint.ttl_s
    for name, witness in result.witnesses.items():
        power_w = np.asarray(result.trace.power_w[name])
        time_s = np.asarray(result.trace.time_s)
        taken_s = np.array([NEVER_S, *witness.taken_s]) - BEGIN_S
        age_s = time_s - taken_s[np.searchsorted(taken_s, time_s, "right") - 1]
        bare = (age_s > ttl_s + RAMP_DOWN_S) & (np.abs(power_w) > LEFT_W)
        if bare.any():
            first = int(bare.argmax())
            found.append(
                f"{name} does {power_w[first]:.0f} W at {time_s[first]:.1f} s, {age_s[first]:.1f} s after an order"
            )
    return found


RAMP_DOWN_S = 6.0
LEFT_W = 500.0
"""Noise of measurement at 0 W stays well below."""


def _wild(result: Result) -> list[str]:
    """Numbers that are none."""
    trace = result.trace
    columns = [trace.load_w, trace.equalization_w, trace.seen_load_w, trace.announced_w, *trace.power_w.values()]
    found = [] if all(np.isfinite(np.asarray(column)).all() for column in columns) else ["a power is no finite number"]
    told = [number for order in result.orders for step in order.steps for number in step]
    return found if all(isfinite(number) for number in told) else [*found, "an order is no finite number"]
