"""The parts of a trial that may be tried alone."""

from enum import StrEnum


class StationPart(StrEnum):
    """Of a station's."""

    SETPOINTS = "setpoints"
    RECONNECT = "reconnect"
    RESTART = "restart"
    TRIP = "trip"


class EqualizerPart(StrEnum):
    """Of an equalizer's."""

    START = "start"
    STEPS = "steps"
    PLAN = "plan"
    COMMANDS = "commands"
    LEASE = "lease"
    LOST = "lost"
    RIVAL = "rival"
