"""Whether today's control decides again what was decided, on the very messages that the recorded one heard.

The equalization channels are not simulated anew: their telemetry, with the answers in it, is the recorded one. So the
control sees what the recorded one saw, and where it is the same control, it asks the same of the same channels.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from equalizer.config import ControlSection, EqualizerSettings
from recording.reader import Recording, Row
from schemas import topics
from schemas.codec import MalformedError, decode
from schemas.messages import Setpoint
from schemas.topics import ChannelAddress, ChannelTopic, LoopAddress, LoopTopic, StatusAddress
from simulation.clock import BEGIN_S, Timeline
from simulation.server import Change, Server
from simulation.station import LOOP

NEAR_S = 1.0
"""A recorder hears a setpoint a little after it was decided, and telemetry a little before or after the server."""
SAME_RATIO = 0.02
SAME_W = 100.0


@dataclass(frozen=True, slots=True)
class Told:
    """A channel was told to do something else."""

    at_s: float
    """After the beginning of the recording."""
    station: str
    channel: str
    steps: tuple[tuple[float, float], ...]

    def is_met_by(self, other: "Told") -> bool:
        """Tell whether another one tells the same channel the same, at the same time."""
        return (
            (self.station, self.channel) == (other.station, other.channel)
            and abs(self.at_s - other.at_s) <= NEAR_S
            and abs(self.steps[-1][1] - other.steps[-1][1]) <= max(SAME_W, SAME_RATIO * abs(self.steps[-1][1]))
        )


def recorded(rows: Iterable[Row]) -> list[Told]:
    """Return the changes among the recorded setpoints: refreshes tell nothing new."""
    found: list[Told] = []
    stands_w: dict[tuple[str, str], float] = {}
    for row in rows:
        address = topics.parse(row.topic)
        if not isinstance(address, ChannelAddress) or address.leaf is not ChannelTopic.SETPOINT or row.retained:
            continue
        try:
            setpoint = decode(Setpoint, row.payload)
        except MalformedError:
            continue
        key = (address.station, address.channel)
        steps = tuple((step.after_s, step.power_w) for step in setpoint.steps)
        if abs(steps[-1][1] - stands_w.get(key, 0.0)) > 1.0:
            found.append(Told(row.at_s, *key, steps))
        stands_w[key] = steps[-1][1]
    return found


def decided(rows: Iterable[Row], settings: EqualizerSettings, length_s: float) -> list[Told]:
    """Return the changes that today's control asks for when it hears a recording's stations and meter."""
    timeline = Timeline()
    server = Server(settings, timeline=timeline, send=lambda topic, payload, qos: None)  # noqa: ARG005 - nobody obeys
    timeline.at(BEGIN_S, server.begin)
    for row in rows:
        topic = _heard(row.topic)
        if topic is not None and row.at_s <= length_s:
            payload = row.payload
            timeline.at(BEGIN_S + row.at_s, lambda topic=topic, payload=payload: server.take(topic, payload))  # type: ignore[misc]  # bound now
    timeline.run(BEGIN_S + length_s)
    return [_told(change) for change in server.changes if change.kind == "change"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far today's control decides what was decided."""

    met: int
    """Of the recorded changes, those that are decided again."""
    recorded: int
    is_amid: bool
    """The recording begins amid the server's work: what the control remembered then is not known, and what it decides
    later rests on that."""


def agreement(recording: Recording, rows: list[Row], control: ControlSection, length_s: float) -> Agreement:
    """Hold what today's control decides against the recorded changes."""
    was = [one for one in recorded(rows) if one.at_s <= length_s]
    if not was:
        return Agreement(0, 0, is_amid=False)
    now: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for one in decided(rows, _settings(recording, control), length_s + NEAR_S):
        now[one.station, one.channel].append(one)
    met = 0
    for one in was:
        others = now[one.station, one.channel]
        found = next((other for other in others if one.is_met_by(other)), None)
        if found is not None:
            others.remove(found)
            met += 1
    return Agreement(met, len(was), _is_amid(rows))


def _is_amid(rows: Iterable[Row]) -> bool:
    """Tell whether setpoints had been sent before the recording began: a server counts them from 1, by channel."""
    firsts: dict[str, int] = {}
    for row in rows:
        address = topics.parse(row.topic)
        if isinstance(address, ChannelAddress) and address.leaf is ChannelTopic.SETPOINT and not row.retained:
            try:
                firsts.setdefault(row.topic, decode(Setpoint, row.payload).seq)
            except MalformedError:
                continue
    return any(seq > 1 for seq in firsts.values())


def _settings(recording: Recording, control: ControlSection) -> EqualizerSettings:
    kept = recording.settings()
    table = {} if kept is None else EqualizerSettings.model_validate_json(kept).model_dump()
    return EqualizerSettings.model_validate(
        {**table, "control": control.model_dump(), "loop": {**table.get("loop", {}), "name": LOOP, "server": "virtual"}}
    )


def _heard(topic: str) -> str | None:
    """Return a topic in the virtual loop, if the control listens to it; null for what it says itself."""
    match topics.parse(topic):
        case ChannelAddress(_, station, channel, ChannelTopic.TELEMETRY | ChannelTopic.PLAN as leaf):
            return topics.channel_topic(LOOP, station, channel, leaf)
        case StatusAddress(_, station):
            return topics.status_topic(LOOP, station)
        case LoopAddress(leaf=LoopTopic.METER):
            return topics.loop_topic(LOOP, LoopTopic.METER)
        case _:
            return None


def _told(change: Change) -> Told:
    return Told(change.at_s - BEGIN_S, change.station, change.channel, change.steps)
