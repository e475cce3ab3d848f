"""A recording replayed: the controller decides as it was recorded, and otherwise under other settings."""

from collections import defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from recording.reader import Recording
from recording.writer import SETTINGS_TOPIC, Writer
from schemas.codec import encode
from schemas.messages import Basis, Setpoint, SetpointStep
from schemas.settings import ConfigurationError
from schemas.topics import ChannelTopic, channel_topic
from simulation.clock import BEGIN_S
from simulation.redecide import agreement, decided
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


def recorded_by_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Result]:
    """Return a recording of what the server of a hall heard, when it heard it, over a network that takes its time."""
    heard: list[tuple[float, str, bytes]] = []
    take = Server.take

    def tape(server: Server, topic: str, payload: bytes) -> None:
        heard.append((server._timeline.now_s, topic, payload))
        take(server, topic, payload)

    monkeypatch.setattr(Server, "take", tape)
    made = written(folder, SCENARIO.replace("delay_s = 0.0\njitter_s = 0.0", "delay_s = 0.1\njitter_s = 0.05"), heard)
    monkeypatch.undo()
    return made


def written(
    folder: Path, text: str, heard: list[tuple[float, str, bytes]], tamper: Callable[[], Tamper] | None = None
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


def test_on_the_messages_that_it_heard_the_control_decides_every_single_thing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, live = recorded_by_the_server(tmp_path, monkeypatch)
    told = [one for one in live.orders if one.kind == "change"]
    recording = Recording(path)
    rows = list(recording.rows())
    again = decided(rows, live.settings, 600.0)
    assert [(one.channel, one.steps[-1][1]) for one in again] == [(one.channel, one.steps[-1][1]) for one in told]
    assert [one.at_s for one in again] == pytest.approx([one.at_s - BEGIN_S for one in told], abs=1e-6)
    same = agreement(recording, rows, live.settings.control, 600.0)
    assert same.met == same.recorded > 10
    slow = live.settings.control.model_copy(update={"delay_s": 20.0})
    assert agreement(recording, rows, slow, 600.0).met < same.recorded, "other settings decide otherwise"
    later = [row for row in rows if row.at_s > 300.0]
    assert (same.is_amid, agreement(recording, later, live.settings.control, 600.0).is_amid) == (False, True)


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
