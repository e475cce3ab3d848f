"""Whether today's control decides again what was decided, on the very messages that the recorded one heard.

The equalization channels are not simulated anew: their telemetry, with the answers in it, is the recorded one. So the
control sees what the recorded one saw, and where it is the same control, it asks the same of the same channels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from equalizer.config import ControlSection, EqualizerSettings
from equalizer.control.image import ChannelKey
from equalizer.control.settings import ControlSettings
from equalizer.control.state import Hold
from recording.reader import Recording, Row
from schemas import topics
from schemas.codec import M, MalformedError, decode
from schemas.messages import (
    LoopBalance,
    LoopCommand,
    Presence,
    Reply,
    ReplyResult,
    ServerAnnouncement,
    Setpoint,
)
from schemas.topics import ChannelAddress, ChannelTopic, LoopAddress, LoopTopic, StatusAddress
from simulation.clock import BEGIN_S, Timeline
from simulation.pupil import CHANGED_W, NEAR_S, Pupil, Sent
from simulation.server import Change
from simulation.station import LOOP
from simulation.testimony import NOTHING_SAID, Remembered, Script, Testimony, scripted, testimony


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far today's control decides what was decided."""

    met: int
    """Of the recorded changes that are judged, those that are decided again."""
    recorded: int
    """The recorded changes that are judged."""
    others: int
    """Changes that today's control would have made, and the recorded one did not."""
    unjudged: int
    """Recorded changes that rest on what the control remembered when the recording began."""
    why: str | None
    """Why these are not judged; None: there are none."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What came of leading today's control along a recording."""

    agreement: Agreement
    made: tuple[Change, ...]
    """The changes that it decided, in the timeline's time, which begins at `begin_s`."""
    begin_s: float


def agreement(recording: Recording, rows: Sequence[Row], control: ControlSection, length_s: float) -> Agreement:
    """Hold what today's control decides against the recorded changes."""
    return lesson(rows, _settings(recording, control), length_s, testimony(recording)).agreement


def lesson(
    rows: Sequence[Row],
    settings: EqualizerSettings,
    length_s: float,
    said: Testimony = NOTHING_SAID,
) -> Lesson:
    """Lead today's control along a recording.

    Args:
        rows: the recording's messages, in their order.
        settings: of the control.
        length_s: so much of it.
        said: what the recorded equalizer told the recorder beside these.
    """
    remembered, why = said.remembered, said.why
    sent = list(_sent(rows, dict(remembered[0].memory.holds) if remembered else {}))
    if remembered:
        first = remembered[0]
        offset_s, begin_s, judged_s = first.memory.now_s - first.at_s, first.at_s, first.at_s
        why = "made before it said what it remembers"
    else:
        offset_s, begin_s = BEGIN_S, 0.0
        judged_s = 0.0
    for one in sent:
        one.at_s += offset_s
    script = scripted(rows, offset_s, begin_s, remembered, said.diary)
    classroom = _Classroom(settings, sent, remembered, script)
    classroom.run(offset_s + begin_s, offset_s + length_s)
    if not remembered and _is_amid(sent):
        judged_s = _forgotten_s(classroom, offset_s + ControlSettings.of(settings).horizon_s) - offset_s
    changes = [one for one in sent if one.is_change and one.at_s <= offset_s + length_s]
    judged = [one for one in changes if one.at_s >= offset_s + judged_s]
    unjudged = len(changes) - len(judged)
    found = Agreement(
        met=sum(one.is_met for one in judged),
        recorded=len(judged),
        others=sum(
            judged_s <= at_s - offset_s <= length_s - NEAR_S for pupil in classroom.pupils for at_s in pupil.others_s
        ),
        unjudged=unjudged,
        why=why if unjudged else None,
    )
    made = tuple(change for pupil in classroom.pupils for change in pupil.changes if change.kind == "change")
    return Lesson(found, made, offset_s)


class _Classroom:
    """Where the recorded messages come again: to today's control, and to a new one where the server was begun anew."""

    def __init__(
        self, settings: EqualizerSettings, sent: list[Sent], remembered: Sequence[Remembered], script: Script
    ) -> None:
        self._settings = settings
        self._sent = sent
        self._remembered = remembered
        self._script = script
        self._commands: dict[str, LoopCommand] = {}
        self._run: float | None = None
        """When the server was started that is replayed; None: not known yet."""
        self._followed = False
        self.pupils: list[Pupil] = []

    def run(self, begin_s: float, end_s: float) -> None:
        """Let all of it happen; times are the timeline's."""
        timeline = Timeline(begin_s)
        pupil = self._enter(timeline)
        if self._remembered:
            memory = self._remembered[0].memory
            pupil.recall(
                memory,
                [(topic, row.payload, row.retained) for row in self._script.before if (topic := _heard(row.topic))],
            )
            self._run, self._followed = memory.mark.run, True
        else:
            timeline.at(begin_s, pupil.begin)
        for at_s, happening in self._script.happenings:
            if at_s <= end_s + NEAR_S:
                call = self._decide if happening is None else self._call(happening, timeline)
                if call is not None:
                    timeline.at(at_s, call)
        timeline.run(end_s + 2.0 * NEAR_S)

    def _decide(self) -> None:
        self.pupils[-1].decide()

    def _enter(self, timeline: Timeline) -> Pupil:
        later = [one for one in self._sent if not one.is_past and one.at_s >= timeline.now_s]
        self.pupils.append(Pupil(self._settings, timeline=timeline, sent=later, decides_s=self._script.decides_s))
        return self.pupils[-1]

    def _call(self, row: Row, timeline: Timeline) -> Callable[[], None] | None:
        """Return what a message does; None where the control does not hear it."""
        topic = _heard(row.topic)
        if topic is not None:
            return lambda: self.pupils[-1].hear(topic, row.payload, retained=row.retained)
        address = topics.parse(row.topic)
        if not isinstance(address, LoopAddress):
            return None
        takers: dict[LoopTopic, Callable[[], None]] = {
            LoopTopic.SERVER: lambda: self._announced(row, timeline),
            LoopTopic.BALANCE: lambda: self._told(row),
            LoopTopic.COMMAND: lambda: self._asked(row),
            LoopTopic.REPLY: lambda: self._answered(row),
        }
        return takers.get(address.leaf)

    def _announced(self, row: Row, timeline: Timeline) -> None:
        """Begin anew with a server that was started anew."""
        said = _decoded(ServerAnnouncement, row)
        if said is None or said.status is not Presence.ONLINE:
            return
        known, self._run = self._run, said.started_unix_time_s
        if known in (None, self._run) or row.retained:
            return
        self.pupils[-1].end()
        self._enter(timeline).begin()

    def _told(self, row: Row) -> None:
        """Take over, once, what operators had asked before the recording began."""
        said = None if self._followed else _decoded(LoopBalance, row)
        if said is not None:
            self._followed = True
            self.pupils[-1].follow(said)

    def _asked(self, row: Row) -> None:
        command = None if row.retained else _decoded(LoopCommand, row)
        if command is not None:
            self._commands[command.id] = command

    def _answered(self, row: Row) -> None:
        reply = _decoded(Reply, row)
        command = None if reply is None else self._commands.pop(reply.id, None)
        if reply is not None and command is not None and reply.result is ReplyResult.ACCEPTED:
            self.pupils[-1].obey(command)


def _sent(rows: Iterable[Row], before: Mapping[ChannelKey, Hold]) -> Iterable[Sent]:
    """Yield the recorded setpoints, each with its time after the beginning.

    Args:
        rows: the recording's messages.
        before: what the channels had been asked before, as far as it is known.
    """
    stands_w = {key: hold.levels[-1].power_w for key, hold in before.items()}
    for row in rows:
        address = topics.parse(row.topic)
        if not isinstance(address, ChannelAddress) or address.leaf is not ChannelTopic.SETPOINT or row.retained:
            continue
        setpoint = _decoded(Setpoint, row)
        if setpoint is None:
            continue
        key = (address.station, address.channel)
        power_w = setpoint.steps[-1].power_w
        # Where nothing is known of what was in force when a recording begins, the first order may tell the same again.
        before_w = stands_w.get(key, 0.0 if setpoint.seq == 1 else power_w)
        yield Sent(row.at_s, key, setpoint, is_change=abs(power_w - before_w) > CHANGED_W)
        stands_w[key] = power_w


def _forgotten_s(classroom: _Classroom, since_s: float) -> float:
    """Return from when on no decision rests on what was remembered when a recording began; infinite: never.

    What waited to be confirmed, was locked, planned or sent ahead is past after the horizon. The course of action is
    made better from look to look, and forgotten only when nothing is to be balanced, then or ahead.
    """
    return min((at_s for pupil in classroom.pupils for at_s in pupil.idle_s if at_s >= since_s), default=inf)


def _is_amid(sent: Iterable[Sent]) -> bool:
    """Tell whether setpoints had been sent before the recording began: a server counts them from 1, by channel."""
    firsts: dict[tuple[str, str], int] = {}
    for one in sent:
        firsts.setdefault(one.key, one.setpoint.seq)
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


def _decoded(kind: type[M], row: Row) -> M | None:
    try:
        return decode(kind, row.payload)
    except MalformedError:
        return None
