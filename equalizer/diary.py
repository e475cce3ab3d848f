"""When the control has decided, and what it had heard by then: so that a recording is decided again in step with it.

Messages reach a recorder in the order in which they reach the equalizer, but some milliseconds apart: where a decision
falls between two of them, and when, only the equalizer can say.
"""

import json
from collections import deque
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

CYCLES = 4096
"""So many decisions are kept: more than a minute's."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a diary has come."""

    run: float
    """Tells this run of the server from any other: when it was started, seconds since 1970."""
    telemetry: int
    """Messages of telemetry that were heard."""
    others: int
    """Other messages that were heard: plans, statuses, the meter."""
    led: int
    """Messages of telemetry that equalization channels sent."""
    cycles: int
    """Decisions."""


class Diary:
    """Keeps the last decisions, and when the messages came whose moment counts: all but the loads' telemetry."""

    __slots__ = ("_cycles", "_led", "_others", "cycles", "led", "others", "run")

    def __init__(self) -> None:
        self.run = 0.0
        """When the server was started, seconds since 1970; set before the first message."""
        self.cycles = 0
        """Decisions so far."""
        self.others = 0
        """Messages so far, telemetry left out."""
        self.led = 0
        """Messages of telemetry from equalization channels so far."""
        self._cycles: deque[tuple[float, int, int]] = deque(maxlen=CYCLES)
        self._others: deque[float] = deque(maxlen=CYCLES)
        self._led: deque[float] = deque(maxlen=CYCLES)

    def heard(self, now_s: float) -> None:
        """Note a message that is no telemetry."""
        self.others += 1
        self._others.append(now_s)

    def answered(self, now_s: float) -> None:
        """Note telemetry of an equalization channel."""
        self.led += 1
        self._led.append(now_s)

    def decided(self, now_s: float, telemetry: int) -> None:
        """Note a decision, and how much telemetry had been heard."""
        self.cycles += 1
        self._cycles.append((now_s, telemetry, self.others))

    def page(self, server: str, epoch: int) -> bytes:
        """Return what is kept, as JSON."""
        return json.dumps(
            {
                "server": server,
                "epoch": epoch,
                "run": self.run,
                "first_cycle": self.cycles - len(self._cycles),
                "cycles": list(self._cycles),
                "first_other": self.others - len(self._others),
                "others": list(self._others),
                "first_led": self.led - len(self._led),
                "led": list(self._led),
            },
            separators=(",", ":"),
        ).encode()


class Page(BaseModel):
    """A diary that was handed out."""

    model_config = ConfigDict(frozen=True)

    server: str
    epoch: int
    run: float
    first_cycle: int
    """The number of the first of `cycles`, counted from 0 since the server was started."""
    cycles: tuple[tuple[float, int, int], ...]
    """When it decided, monotonic, and how many messages it had heard: telemetry, and others."""
    first_other: int
    others: tuple[float, ...]
    """When the other messages came."""
    first_led: int
    led: tuple[float, ...]
    """When the equalization channels' telemetry came."""


def read(payload: bytes) -> Page | None:
    """Return a diary that was handed out; None where it is none."""
    try:
        return Page.model_validate_json(payload)
    except ValidationError:
        return None
