"""A recording replayed: the controller decides as it was recorded, and otherwise under other settings."""

from pathlib import Path

import pytest

from recording.writer import SETTINGS_TOPIC, Writer
from schemas.settings import ConfigurationError
from simulation.clock import BEGIN_S
from simulation.replay import AS_RECORDED, replay
from simulation.run import Result, compete
from simulation.scenario import Scenario, VariantSection, read

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
    (folder / "hall.toml").write_text(SCENARIO)
    scenario: Scenario = read(folder / "hall.toml")
    scenario = scenario.model_copy(update={"variant": (VariantSection(name="live"),)})
    heard: list[tuple[float, str, bytes]] = []

    def tape(topic: str, payload: bytes, sent_s: float) -> bytes:
        heard.append((sent_s, topic, payload))
        return payload

    (result,) = compete(scenario, folder, tamper=lambda: tape)
    writer = Writer(folder / "hall.parquet")
    settings = result.settings.model_dump_json(include={"control"}).encode()
    writer.add(0.0, 0.0, SETTINGS_TOPIC, settings, retained=False)
    for at_s, topic, payload in sorted(heard, key=lambda message: message[0]):
        writer.add(at_s - BEGIN_S, at_s, topic, payload, retained=False)
    writer.finish()
    return folder / "hall.parquet", result


def test_replayed_the_controller_decides_as_it_was_recorded(tmp_path: Path) -> None:
    recording, live = recorded(tmp_path)
    _, (again,) = replay(recording, only=(AS_RECORDED,))
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
    scenario, results = replay(recording, against=(tmp_path / "slow.toml",), only=(AS_RECORDED, "slow"))
    assert [variant.delay_s for variant in scenario.variant] == [None, 20.0]
    first, slow = results
    assert list(first.trace.load_w) == list(slow.trace.load_w)
    assert [order.at_s for order in first.orders] != [order.at_s for order in slow.orders]


def test_a_recording_without_equalization_has_nothing_to_replay(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "empty.parquet")
    writer.finish()
    with pytest.raises(ConfigurationError, match="nothing to steer"):
        replay(tmp_path / "empty.parquet")
