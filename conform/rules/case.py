"""What the rules of stations share: how a station was tried, and when it was away."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from conform.record import Record
from schemas.messages import ChannelTelemetry, Setpoint, SetpointEcho

LEAST_W = 60.0
ECHO_WITHIN_S = 5.0
_AWAY = (("cut", "back"), ("killed", "restarted"))


@dataclass(frozen=True, slots=True)
class StationCase:
    """Which station was tried, and how."""

    station: str
    channel: str
    period_s: float
    power_w: float
    """What was asked for; positive charges."""
    slack_s: float = 1.0
    """What network and computers may add to a time."""

    @property
    def key(self) -> tuple[str, str]:
        """Station and channel."""
        return self.station, self.channel

    @property
    def tolerance_w(self) -> float:
        """How near a power must come to what was asked."""
        return max(0.05 * abs(self.power_w), LEAST_W)


def echo_of(record: Record, case: StationCase, label: str) -> SetpointEcho | None:
    """Return what the channel said of a setpoint that was sent under a label."""
    sent = record.mark(label)
    if sent is None or not isinstance(sent.message, Setpoint):
        return None
    until_s = sent.at_s + ECHO_WITHIN_S + case.period_s
    said = record.of(ChannelTelemetry, case.key, since_s=sent.at_s, until_s=until_s)
    return next((echo for _, t in said if (echo := answer(t, sent.message)) is not None), None)


def answer(telemetry: ChannelTelemetry, setpoint: Setpoint) -> SetpointEcho | None:
    """Return the echo of a setpoint, where telemetry has it."""
    last = telemetry.equalization.last if telemetry.equalization is not None else None
    if last is None or (last.server, last.epoch, last.seq) != (setpoint.server, setpoint.epoch, setpoint.seq):
        return None
    return last


def was_away(record: Record, since_s: float, until_s: float) -> bool:
    """Tell whether the kit itself kept the station from speaking in a span."""
    return any(begin_s < until_s and end_s > since_s for begin_s, end_s in _away(record))


def _away(record: Record) -> Iterator[tuple[float, float]]:
    for left, returned in _AWAY:
        begin, end = record.mark(left), record.mark(returned)
        if begin is not None:
            yield begin.at_s, inf if end is None else end.at_s
