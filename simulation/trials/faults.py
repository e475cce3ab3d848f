"""What can go wrong in a trial, drawn by a seed."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """Kinds of faults."""

    KILL = "kill"
    """A process ends at once, and begins again when the fault is over."""
    POWER_CUT = "power_cut"
    """As kill, but no network tells of it."""
    LOSE_DISK = "lose_disk"
    """As kill, and a server has forgotten its epoch and its account."""
    STOP = "stop"
    """A server is asked to end, and begins again when the fault is over."""
    FREEZE = "freeze"
    CUT_UP = "cut_up"
    """Nothing goes from a computer to the broker; what comes from there does."""
    CUT_DOWN = "cut_down"
    CUT = "cut"
    CLOCK = "clock"
    """A wall clock jumps, and stays so."""
    BROKER_CRASH = "broker_crash"
    """It comes back with what it had retained."""
    BROKER_OLD = "broker_old"
    """It comes back with what it had retained up to ten seconds before."""
    BROKER_EMPTY = "broker_empty"
    BROKER_FREEZE = "broker_freeze"
    STORM = "storm"
    """Delay, loss of QoS 0, QoS 1 twice, and topics that overtake each other."""
    PAUSE = "pause"
    """An operator pauses the loop, and resumes it when the fault is over."""


SERVER_FAULTS = (
    Kind.KILL,
    Kind.POWER_CUT,
    Kind.LOSE_DISK,
    Kind.STOP,
    Kind.STOP,
    Kind.FREEZE,
    Kind.FREEZE,
    Kind.CUT_UP,
    Kind.CUT_DOWN,
    Kind.CUT,
    Kind.CLOCK,
)
STATION_FAULTS = (Kind.KILL, Kind.POWER_CUT, Kind.FREEZE, Kind.CUT_UP, Kind.CUT_DOWN, Kind.CUT, Kind.CLOCK)
BROKER_FAULTS = (Kind.BROKER_CRASH, Kind.BROKER_OLD, Kind.BROKER_EMPTY, Kind.BROKER_FREEZE, Kind.STORM, Kind.PAUSE)
BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong for a while."""

    at_s: float
    """After the beginning."""
    for_s: float
    kind: Kind
    target: str
    """A server, a station, or the broker."""
    size: float
    """Between 0 and 1: how bad."""

    @property
    def until_s(self) -> float:
        """When it is over."""
        return self.at_s + self.for_s

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.at_s:6.1f} s to {self.until_s:6.1f} s: {self.kind} {self.target}"


def draw(random: Random, servers: list[str], stations: list[str], *, from_s: float, until_s: float) -> list[Fault]:
    """Return faults between two times, most of them to servers; several may hold at once."""
    faults: list[Fault] = []
    at_s = from_s
    while True:
        at_s += random.expovariate(1.0 / random.choice((2.0, 6.0, 15.0)))
        for_s = random.choice((0.3, 2.0, 6.0, 20.0)) * random.uniform(0.5, 2.0)
        if at_s + for_s > until_s:
            return faults
        place = random.random()
        if place < 0.55:  # noqa: PLR2004 - a share
            kind, target = random.choice(SERVER_FAULTS), random.choice(servers)
        elif place < 0.75:  # noqa: PLR2004 - a share
            kind, target = random.choice(STATION_FAULTS), random.choice(stations)
        else:
            kind, target = random.choice(BROKER_FAULTS), BROKER
        faults.append(Fault(at_s, for_s, kind, target, random.random()))
