"""Recorded messages brought into step with the decisions, as the equalizer tells of them."""

from collections.abc import Sequence
from dataclasses import replace

from equalizer.control.book import LoopBook
from equalizer.control.settings import ControlSettings
from equalizer.diary import Mark
from equalizer.memory import Memory
from recording.reader import Row
from schemas.codec import encode
from schemas.topics import ChannelTopic, channel_topic
from simulation.testimony import Diary, Remembered, scripted
from tests.unit.control.test_book import telemetry
from tests.unit.equalizer.test_memory import remembered

CLOCKS_APART_S = 500.0
"""The equalizer's clock shows so much more than the recorder's."""


def row(at_s: float, seq: int, *, equalizing: bool = False) -> Row:
    said = telemetry(100.0, seq, equalizing=equalizing)
    topic = channel_topic("main", "s", "eq" if equalizing else "1", ChannelTopic.TELEMETRY)
    return Row(at_s, 0.0, topic, False, encode(said))


def knowing(seq: int, telemetry_heard: int) -> Memory:
    """What is remembered once so many messages were heard, the last of the load with a seq."""
    book = LoopBook(ControlSettings())
    book.telemetry("s", "1", telemetry(100.0, seq), retained=False, now_s=499.0)
    mark = Mark(run=0.0, telemetry=telemetry_heard, others=0, led=0, cycles=10)
    return replace(remembered(), now_s=CLOCKS_APART_S + 1.0, mark=mark, book=book.memory)


def script(rows: Sequence[Row], cycles: dict[int, tuple[float, int, int]], led: dict[int, float]) -> list[object]:
    memory = knowing(seq=1, telemetry_heard=40)
    made = scripted(rows, CLOCKS_APART_S, 1.0, [Remembered(1.0, memory)], Diary(cycles, {}, led))
    return [
        (round(at_s - CLOCKS_APART_S, 3), "decision" if said is None else rows.index(said))
        for at_s, said in made.happenings
    ]


def test_a_decision_comes_after_what_it_had_heard_however_late_the_recorder_heard_it() -> None:
    rows = [row(0.9, 1), row(1.2, 2), row(1.25, 3), row(1.3, 4)]
    cycles = {9: (500.5, 39, 0), 10: (501.21, 42, 0), 11: (501.4, 43, 0)}
    assert script(rows, cycles, {}) == [(1.2, 1), (1.21, 2), (1.21, "decision"), (1.3, 3), (1.4, "decision")]


def test_an_equalization_channels_telemetry_comes_when_the_equalizer_heard_it() -> None:
    rows = [row(0.9, 1), row(1.29, 2), row(1.28, 3, equalizing=True), row(1.31, 3)]
    assert script(rows, {10: (501.5, 43, 0)}, {0: 501.25}) == [(1.25, 1), (1.25, 2), (1.31, 3), (1.5, "decision")]


def test_where_messages_were_lost_the_time_says_what_a_decision_had_heard() -> None:
    rows = [row(0.9, 1), row(1.2, 2), row(5.0, 3), row(9.0, 4)]
    cycles = {10: (501.3, 42, 0), 11: (505.1, 43, 0)}
    assert script(rows, cycles, {}) == [(1.2, 1), (1.3, "decision"), (5.0, 2), (5.1, "decision"), (9.0, 3)]
