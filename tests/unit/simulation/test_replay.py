"""A recording replayed: the controller decides as it was recorded, and otherwise under other settings."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import polars as pl
import pytest

from equalizer import memory
from recording.reader import Recording, Row
from recording.writer import DIARY_TOPIC, MEMORY_TOPIC, SETTINGS_TOPIC, Writer
from schemas.codec import decode, encode
from schemas.messages import (
    Basis,
    ControlSummary,
    Phase,
    Policy,
    Presence,
    ServerAnnouncement,
    Setpoint,
    SetpointStep,
    SetpointSummary,
)
from schemas.settings import ConfigurationError
from schemas.topics import ChannelTopic, LoopTopic, channel_topic, loop_topic
from simulation.clock import BEGIN_S
from simulation.redecide import Lesson, agreement, lesson
from simulation.replay import AS_RECORDED, replay
from simulation.run import Result, Tamper, compete
from simulation.scenario import Scenario, VariantSection, read
from simulation.server import Change, Server
from simulation.station import LOOP

SCENARIO = """\
title = "a hall to be recorded"
duration_s = 600.0
[control]
delay_s = 5.0
[network]
delay_s = 0.0
jitter_s = 0.0
[[group]]
station = "loads"
family = "grading"
count = 8
rating_w = [20000.0, 40000.0]
start_s = [0.0, 60.0]
[[group]]
station = "pool"
family = "equalization"
count = 2
rating_w = [60000.0, 60000.0]
"""


def recorded(folder: Path) -> tuple[Path, Result]:
    """Return a recording of a virtual hall, and how the hall went."""
    heard: list[tuple[float, str, bytes]] = []

    def tape(topic: str, payload: bytes, sent_s: float) -> bytes:
        heard.append((sent_s, topic, payload))
        return payload

    return written(folder, SCENARIO, heard, tamper=lambda: tape)


def recorded_by_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = SCENARIO, asked_s: float | None = None
) -> tuple[Path, Result]:
    """Return a recording of what the server of a hall heard, when it heard it, over a network that takes its time.

    Asked at a time what it remembers, and then when it decided, the server says both.
    """
    heard: list[tuple[float, str, bytes]] = []
    servers: list[Server] = []
    take, begin = Server.take, Server.begin

    def tape(server: Server, topic: str, payload: bytes) -> None:
        heard.append((server._timeline.now_s, topic, payload))
        take(server, topic, payload)

    def remember(server: Server) -> None:
        remembered = server.remembered()
        assert remembered is not None
        heard.append((remembered.now_s, MEMORY_TOPIC, memory.encode(remembered)))

    def asked(server: Server) -> None:
        servers.append(server)
        if asked_s is not None:
            server._timeline.at(BEGIN_S + asked_s, lambda: remember(server))
        begin(server)

    def diary() -> list[tuple[float, str, bytes]]:
        return [(server._timeline.now_s, DIARY_TOPIC, server.diary) for server in servers if asked_s is not None]

    monkeypatch.setattr(Server, "take", tape)
    monkeypatch.setattr(Server, "begin", asked)
    text = text.replace("delay_s = 0.0\njitter_s = 0.0", "delay_s = 0.1\njitter_s = 0.05")
    made = written(folder, text, heard, late=diary)
    monkeypatch.undo()
    return made


def written(
    folder: Path,
    text: str,
    heard: list[tuple[float, str, bytes]],
    tamper: Callable[[], Tamper] | None = None,
    late: Callable[[], list[tuple[float, str, bytes]]] = list,
) -> tuple[Path, Result]:
    """Run a hall, and write down what was heard, and the orders."""
    (folder / "hall.toml").write_text(text)
    scenario: Scenario = read(folder / "hall.toml")
    scenario = scenario.model_copy(update={"variant": (VariantSection(name="live"),)})
    (result,) = compete(scenario, folder, tamper=tamper)
    writer = Writer(folder / "hall.parquet")
    settings = result.settings.model_dump_json(include={"control"}).encode()
    writer.add(0.0, 0.0, SETTINGS_TOPIC, settings, retained=False)
    numbers: dict[tuple[str, str], count[int]] = defaultdict(lambda: count(1))
    heard += late()
    heard += [_setpoint(next(numbers[order.station, order.channel]), order) for order in result.orders]
    for at_s, topic, payload in sorted(heard, key=lambda message: message[0]):
        writer.add(at_s - BEGIN_S, at_s, topic, payload, retained=False)
    writer.finish()
    return folder / "hall.parquet", result


def _setpoint(number: int, order: Change) -> tuple[float, str, bytes]:
    """What a recorder hears of an order."""
    setpoint = Setpoint(
        server="virtual",
        epoch=1,
        seq=number,
        basis=Basis(boot_id="b", seq=1),
        ttl_s=30.0,
        steps=tuple(SetpointStep(after_s=after_s, power_w=power_w) for after_s, power_w in order.steps),
        unix_time_s=0.0,
    )
    return order.at_s, channel_topic(LOOP, order.station, order.channel, ChannelTopic.SETPOINT), encode(setpoint)


def begun_at(recording: Path, begin_s: float) -> Path:
    """Return what a recorder would have that had been started later."""
    frame = pl.read_parquet(recording)
    later = frame.filter((pl.col("topic") == SETTINGS_TOPIC) | (pl.col("at_s") >= begin_s))
    moved = pl.when(pl.col("topic") == SETTINGS_TOPIC).then(0.0).otherwise(pl.col("at_s") - begin_s)
    later = later.with_columns(moved.alias("at_s"))
    later.write_parquet(recording.with_name("later.parquet"))
    return recording.with_name("later.parquet")


def test_on_the_messages_that_it_heard_the_control_decides_every_single_thing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, live = recorded_by_the_server(tmp_path, monkeypatch)
    told = [one for one in live.orders if one.kind == "change"]
    recording = Recording(path)
    rows = list(recording.rows())
    again = lesson(rows, live.settings, 600.0)
    assert [(one.channel, one.steps[-1][1]) for one in again.made] == [(one.channel, one.steps[-1][1]) for one in told]
    assert [one.at_s - again.begin_s for one in again.made] == pytest.approx(
        [one.at_s - BEGIN_S for one in told], abs=1e-6
    )
    same = agreement(recording, rows, live.settings.control, 600.0)
    assert same.met == same.recorded > 10
    assert (same.others, same.unjudged, same.why) == (0, 0, None)
    slow = live.settings.control.model_copy(update={"delay_s": 20.0})
    assert agreement(recording, rows, slow, 600.0).met < same.recorded, "other settings decide otherwise"


@pytest.mark.parametrize(("policy", "asked_s"), [("confirm", 97.3), ("dwell", 251.9)])
def test_a_recording_begun_amid_the_work_is_decided_again_by_what_the_server_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, asked_s: float
) -> None:
    text = SCENARIO.replace("delay_s = 5.0", f'delay_s = 5.0\npolicy = "{policy}"')
    path, live = recorded_by_the_server(tmp_path, monkeypatch, text, asked_s)
    recording = Recording(begun_at(path, asked_s - 1.0))
    rows = list(recording.rows())
    same = agreement(recording, rows, live.settings.control, rows[-1].at_s)
    assert same.recorded >= 3
    assert (same.met, same.others) == (same.recorded, 0)


def test_a_server_that_was_started_anew_has_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, live = recorded_by_the_server(tmp_path, monkeypatch)
    rows = list(Recording(path).rows())
    again_s = 250.0
    known = lesson(rows, live.settings, 400.0)
    topic = loop_topic(LOOP, LoopTopic.SERVER)
    started = [Row(at_s, 0.0, topic, False, encode(_announced(at_s))) for at_s in (0.0, again_s)]
    anew = lesson(sorted([*rows, *started], key=lambda row: row.at_s), live.settings, 400.0)

    def made(one: Lesson, *, later: bool) -> list[float]:
        return [change.at_s for change in one.made if (change.at_s - one.begin_s >= again_s) is later]

    assert made(anew, later=False) == made(known, later=False)
    assert made(anew, later=True) != made(known, later=True)


def _announced(started_s: float) -> ServerAnnouncement:
    return ServerAnnouncement(
        server="virtual",
        status=Presence.ONLINE,
        epoch=1,
        phase=Phase.STARTING,
        version="0",
        started_unix_time_s=1e9 + started_s,
        telemetry_period_s=1.0,
        control=ControlSummary(policy=Policy.CONFIRM, delay_s=5.0),
        setpoint=SetpointSummary(ttl_s=30.0, refresh_s=5.0),
        metrics_url=None,
        dashboard_url=None,
    )


def test_what_rests_on_an_unknown_memory_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, live = recorded_by_the_server(tmp_path, monkeypatch)
    recording = Recording(begun_at(path, 100.0))
    rows = list(recording.rows())
    same = agreement(recording, rows, live.settings.control, rows[-1].at_s)
    later = [one for one in live.orders if one.kind == "change" and one.at_s - BEGIN_S >= 100.0]
    early = [one for one in later if one.at_s - BEGIN_S < 145.0]
    # Of a channel's first order nobody can say whether it changes anything: there are two channels.
    assert len(later) - 2 <= same.unjudged + same.recorded <= len(later)
    assert same.unjudged >= len(early) - 2
    assert same.why is not None
    assert "remembered" in same.why


def test_one_order_that_differs_does_not_make_the_later_ones_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, live = recorded_by_the_server(tmp_path, monkeypatch)
    recording = Recording(path)
    rows = list(recording.rows())
    orders = [number for number, row in enumerate(rows) if row.topic.endswith("/setpoint")]
    changed = next(number for number in orders if abs(_power_w(rows[number])) > 5000.0 and rows[number].at_s > 100.0)
    rows[changed] = replace(rows[changed], payload=_doubled(rows[changed]))
    same = agreement(recording, rows, live.settings.control, 600.0)
    assert 1 <= same.recorded - same.met <= 4


def _power_w(row: Row) -> float:
    return decode(Setpoint, row.payload).steps[-1].power_w


def _doubled(row: Row) -> bytes:
    setpoint = decode(Setpoint, row.payload)
    steps = tuple(step.model_copy(update={"power_w": 2.0 * step.power_w}) for step in setpoint.steps)
    return encode(setpoint.model_copy(update={"steps": steps}))


def test_replayed_the_controller_decides_as_it_was_recorded(tmp_path: Path) -> None:
    recording, live = recorded(tmp_path)
    _, (again,), _ = replay(recording, only=(AS_RECORDED,))
    told, retold = ([one for one in result.orders if one.kind != "refresh"] for result in (live, again))
    assert len(told) > 10
    # The same channels get the same powers in the same order. The led batteries are simulated anew with another noise:
    # an imbalance at the edge of the band may be confirmed a little later, never by more than a delay.
    assert [one.channel for one in retold] == [one.channel for one in told]
    late_s = [abs(one.at_s - other.at_s) for one, other in zip(told, retold, strict=True)]
    for one, other in zip(told, retold, strict=True):
        power_w = one.steps[0][1]
        assert abs(power_w - other.steps[0][1]) <= max(100.0, 0.02 * abs(power_w))
    assert max(late_s) <= live.settings.control.delay_s
    assert sum(seconds <= 1.0 for seconds in late_s) >= 0.75 * len(late_s)


def test_other_settings_decide_otherwise_on_the_same_loads(tmp_path: Path) -> None:
    recording, _ = recorded(tmp_path)
    (tmp_path / "slow.toml").write_text("[control]\ndelay_s = 20.0\n")
    scenario, results, _ = replay(recording, against=(tmp_path / "slow.toml",), only=(AS_RECORDED, "slow"))
    assert [variant.delay_s for variant in scenario.variant] == [None, 20.0]
    first, slow = results
    assert list(first.trace.load_w) == list(slow.trace.load_w)
    assert [order.at_s for order in first.orders] != [order.at_s for order in slow.orders]


def test_a_recording_without_equalization_has_nothing_to_replay(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "empty.parquet")
    writer.finish()
    with pytest.raises(ConfigurationError, match="nothing to steer"):
        replay(tmp_path / "empty.parquet")
