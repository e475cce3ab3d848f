"""How long a decision takes: 10,000 channels with plans, 50 equalization channels, and one numpy pass beside it.

The production's book and step, with a plant that obeys at once. What is timed is what the server does between the
messages of a moment and the orders that follow: drawing the image, and the step. Reading the messages is not in it.
"""

import gc
import time
from dataclasses import dataclass, field
from random import Random

import numpy as np

from equalizer.control.book import LoopBook
from equalizer.control.settings import ControlSettings
from equalizer.control.state import ControlState, Order
from equalizer.control.step import initial, step
from schemas.messages import (
    ChannelPlan,
    ChannelTelemetry,
    Equalization,
    OnLost,
    PlanSegment,
    Presence,
    SetpointEcho,
    SetpointResult,
    StationStatus,
    StepType,
    WorkStatus,
)
from tests.benchmarks.asked import Asked

LOADS, LED = 10_000, 50
RATING_W = 60e3
LED_W = 2e6
STEP_S = (60.0, 900.0)
"""How long a load's step lasts."""
SLICES = 10
"""Decisions a second."""
SECONDS = 60.0
WARM_S = 5.0
MILLI = 1e3


@dataclass
class Load:
    """A test channel: steps that end by time."""

    name: str
    powers_w: list[float]
    until_s: list[float]
    seq: int = 0


@dataclass
class Led:
    """An equalization channel that obeys at once."""

    name: str
    power_w: float = 0.0
    steps: list[tuple[float, float]] = field(default_factory=list)
    seq: int = 0
    orders: int = 0


class Hall:
    """All channels, and the book that hears them."""

    def __init__(self, settings: ControlSettings) -> None:
        random = Random(1)  # noqa: S311 - a hall's variety, no secret
        self.book = LoopBook(settings)
        self.loads = [self._load(number, random) for number in range(LOADS)]
        self.led = [Led(f"e{number}") for number in range(LED)]
        names = tuple(load.name for load in self.loads)
        for station, channels in (("loads", names), ("led", tuple(led.name for led in self.led))):
            said = StationStatus(
                status=Presence.ONLINE,
                boot_id="b",
                version="benchmark",
                driver="none",
                channels=channels,
                on_lost=OnLost.ZERO,
                unix_time_s=0.0,
            )
            self.book.status(station, said, 0.0)

    def speak(self, part: int, now_s: float) -> None:
        """Let a slice's channels say what they do, and what they will do when a step of theirs begins."""
        for load in self.loads[part::SLICES]:
            begun = load.until_s[0] <= now_s
            while load.until_s[0] <= now_s:
                del load.until_s[0], load.powers_w[0]
            if begun or load.seq == 0:
                self.book.plan("loads", load.name, _plan(load, now_s), now_s)
            load.seq += 1
            self.book.telemetry("loads", load.name, _telemetry(load.powers_w[0], load.seq), retained=False, now_s=now_s)
        for led in self.led[part::SLICES]:
            while led.steps and led.steps[0][0] <= now_s:
                led.power_w = led.steps.pop(0)[1]
            led.seq += 1
            last = SetpointEcho(
                server="x", epoch=1, seq=led.orders, result=SetpointResult.APPLIED, reason=None, expires_in_s=20.0
            )
            mode = Equalization(
                charge_limit_w=LED_W,
                discharge_limit_w=LED_W,
                ramp_w_per_s=LED_W / 2.0,
                applied_w=led.power_w,
                last=last if led.orders else None,
            )
            message = _telemetry(led.power_w, led.seq, equalization=mode)
            self.book.telemetry("led", led.name, message, retained=False, now_s=now_s)

    def obey(self, orders: tuple[Order, ...], now_s: float) -> None:
        """Do what is asked."""
        for order in orders:
            led = self.led[int(order.channel[1:])]
            led.orders += 1
            led.power_w = order.steps[0].power_w
            led.steps = [(now_s + later.after_s, later.power_w) for later in order.steps[1:]]

    def _load(self, number: int, random: Random) -> Load:
        ends_s = [random.uniform(0.0, STEP_S[1])]
        while ends_s[-1] < SECONDS + STEP_S[1]:
            ends_s.append(ends_s[-1] + random.uniform(*STEP_S))
        powers_w = [random.choice((0.0, random.uniform(-RATING_W, RATING_W))) for _ in ends_s]
        return Load(f"c{number}", powers_w, ends_s)


def _plan(load: Load, now_s: float) -> ChannelPlan:
    segments = [PlanSegment(after_s=0.0, power_w=load.powers_w[0])]
    for power_w, begins_s in zip(load.powers_w[1:], load.until_s, strict=False):
        segments.append(PlanSegment(after_s=begins_s - now_s, power_w=power_w))
    return ChannelPlan(
        boot_id="b", seq=load.seq + 1, unix_time_s=0.0, step_id=1, until_s=STEP_S[1], segments=tuple(segments)
    )


def _telemetry(power_w: float, seq: int, *, equalization: Equalization | None = None) -> ChannelTelemetry:
    return ChannelTelemetry(
        boot_id="b",
        seq=seq,
        unix_time_s=0.0,
        work_status=WorkStatus.WORKING,
        step_type=StepType.SIM if equalization is not None else StepType.CP_CHG,
        step_id=1,
        cycle_count=1,
        voltage_v=360.0,
        current_a=power_w / 360.0,
        power_w=power_w,
        soc_ratio=0.5,
        battery_connected=True,
        equalization=equalization,
    )


def _pass_ms() -> float:
    """Return the time of one numpy pass over what the decision stands on: power, plan and limits of all channels."""
    random = np.random.default_rng(1)
    power_w, planned_w = random.uniform(-RATING_W, RATING_W, (2, LOADS + LED))
    limits_w = np.full(LOADS + LED, LED_W)
    taken_s = []
    for _ in range(200):
        begun_s = time.perf_counter()
        remainder_w = np.where(np.abs(power_w - planned_w) > 0.05 * RATING_W, power_w, planned_w)
        float(np.clip(remainder_w, -limits_w, limits_w).sum())
        taken_s.append(time.perf_counter() - begun_s)
    return float(np.median(taken_s)) * MILLI


def measure(asked: Asked) -> list[str]:
    """Return a table's rows."""
    settings = ControlSettings(engage_w=50e3, release_w=15e3, freeze_w=1e9)
    hall, state = Hall(settings), initial(settings)
    wall_ms: list[float] = []
    own_ms: list[float] = []
    changes = 0
    gc.disable()
    for number in range(round((SECONDS if asked.seconds is None else asked.seconds) * SLICES)):
        now_s = 1.0 + number / SLICES
        hall.speak(number % SLICES, now_s)
        begun_s, own_s = time.perf_counter(), time.process_time()
        state, orders = _decided(hall, state, settings, now_s)
        own_s, begun_s = time.process_time() - own_s, time.perf_counter() - begun_s
        changes += sum(order.kind == "change" for order in orders)
        hall.obey(orders, now_s)
        if now_s >= WARM_S:
            wall_ms.append(begun_s * MILLI)
            own_ms.append(own_s * MILLI)
        if number % SLICES == 0:
            gc.collect()
    gc.enable()
    pass_ms = _pass_ms()
    rows = [
        f"{LOADS:,} channels with plans, {LED} equalization channels; {len(wall_ms)} decisions, {changes} changes.",
        "",
        "| | median | 99 % | worst | median, in numpy passes |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, values in (
        ("decision, as the clock has it (ms)", wall_ms),
        ("decision, the core's own time (ms)", own_ms),
    ):
        median, high, worst = np.percentile(values, (50, 99, 100))
        rows.append(f"| {name} | {median:.2f} | {high:.2f} | {worst:.2f} | {median / pass_ms:.0f} |")
    rows.append(f"| one numpy pass (ms) | {pass_ms:.3f} | | | 1 |")
    return rows


def _decided(
    hall: Hall, state: ControlState, settings: ControlSettings, now_s: float
) -> tuple[ControlState, tuple[Order, ...]]:
    state, decision = step(state, hall.book.image(now_s), settings, now_s)
    return state, decision.orders
