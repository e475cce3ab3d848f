"""Loads as arrays: the same decisions as message by message, and the power that the production's stations show."""

from math import inf
from pathlib import Path

import numpy as np
import pytest

import simulation.plant.run
from equalizer.config import EqualizerSettings
from equalizer.control.book import LoopBook
from equalizer.control.settings import ControlSettings
from schemas import topics
from schemas.codec import encode
from schemas.messages import ChannelTelemetry, StepType, WorkStatus
from schemas.settings import ConfigurationError, validate
from simulation.clock import Timeline
from simulation.plant.course import Course, course
from simulation.plant.run import BulkServer, compete
from simulation.plant.wire import BOOT_ID, Batch
from simulation.run import Result
from simulation.run import compete as compete_by_stations
from simulation.scenario import Scenario, read
from simulation.score import score
from simulation.station import LOOP, Sender
from station.config import ChannelSection
from station.drivers.simulated.options import channel_options
from station.rack import hardware

SMALL = """
title = "A small plant"
duration_s = 300.0
plant = "traces"

[control]
engage_w = 2000.0
release_w = 600.0

[network]
jitter_s = 0.3
loss_ratio = 0.05

[[group]]
station = "packs"
family = "drive"
count = 6
rating_w = [20000.0, 60000.0]

[[group]]
station = "modules"
family = "hppc"
count = 4
rating_w = [20000.0, 40000.0]

[[group]]
station = "grading"
family = "grading"
count = 6
rating_w = [10000.0, 30000.0]
on_lost = "zero"

[[group]]
station = "recordings"
family = "recording"
count = 2
rating_w = [20000.0, 40000.0]

[[group]]
station = "equalization"
family = "equalization"
count = 3
rating_w = [150000.0, 150000.0]
"""

NO_PLANS = '[[variant]]\nname = "no plans"\nplans = false\n'
CHEAP = '[[variant]]\nname = "literal"\ncontroller = "literal_delay"\nplans = false\n'
EVENTS = """
[[event]]
at_s = 100.0
action = "cut"
station = "grading"
[[event]]
at_s = 140.0
action = "heal"
station = "grading"
[[event]]
at_s = 200.0
action = "stop"
station = "packs"
share_ratio = 0.5
within_s = 10.0
"""


class OneByOne(BulkServer):
    """Hears the same batches as the production does: every message by itself, into the production's own book."""

    def __init__(
        self, settings: EqualizerSettings, *, timeline: Timeline, send: Sender, loads: list[tuple[str, str]]
    ) -> None:
        super().__init__(settings, timeline=timeline, send=send, loads=loads)
        self._keys = loads
        self._seqs = [0] * len(loads)
        self._plain = LoopBook(ControlSettings.of(settings))
        self._helm.book = self._plain
        self._link.reset(self._plain)
        self._link.of_unknown_age = False

    def hear(self, batch: Batch) -> None:
        for name, status in batch.statuses:
            self.take(topics.status_topic(LOOP, name), encode(status))
        for at_s, station, channel, plan in batch.plans:
            self._plain.plan(station, channel, plan, at_s)
        for number, power_w in zip(batch.numbers.tolist(), batch.power_w.tolist(), strict=True):
            self._seqs[number] += 1
            station, channel = self._keys[number]
            message = telemetry(self._seqs[number], power_w)
            self.take(topics.channel_topic(LOOP, station, channel, topics.ChannelTopic.TELEMETRY), encode(message))
        self._cycle()


def telemetry(seq: int, power_w: float) -> ChannelTelemetry:
    return ChannelTelemetry(
        boot_id=BOOT_ID,
        seq=seq,
        unix_time_s=0.0,
        work_status=WorkStatus.WORKING,
        step_type=StepType.SIM,
        step_id=1,
        cycle_count=1,
        voltage_v=400.0,
        current_a=power_w / 400.0,
        power_w=power_w,
        battery_connected=True,
    )


def small(tmp_path: Path, more: str = "") -> Scenario:
    path = tmp_path / "plant.toml"
    path.write_text(SMALL + more, encoding="utf-8")
    return read(path)


def same(one: Result, other: Result) -> None:
    for column in ("load_w", "equalization_w", "seen_load_w", "announced_w", "reason", "phase"):
        assert getattr(one.trace, column) == getattr(other.trace, column), column
    assert one.orders == other.orders
    assert one.counts == other.counts


def test_arrays_and_single_messages_lead_to_the_same_decisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = small(tmp_path, EVENTS + '[[variant]]\nname = "off"\nshift_s = 2.0\nshare_ratio = 0.8\n')
    (bulk,) = compete(scenario, tmp_path, duration_s=240.0)
    monkeypatch.setattr(simulation.plant.run, "BulkServer", OneByOne)
    (single,) = compete(scenario, tmp_path, duration_s=240.0)
    same(bulk, single)
    assert sum(order.kind == "change" for order in bulk.orders) > 20
    assert bulk.counts["ignored"]["plan_contradicted"] > 0, "plans that are off were among them"
    assert bulk.messages_lost > 100
    assert "announced" in {order.reason for order in bulk.orders}


def test_the_same_seed_gives_the_same_plant_bit_for_bit(tmp_path: Path) -> None:
    scenario = small(tmp_path)
    (first,), (again,), (other,) = (compete(scenario, tmp_path, duration_s=40.0, seed=seed) for seed in (1, 1, 2))
    same(first, again)
    assert first.trace.load_w != other.trace.load_w


def test_a_course_is_what_the_productions_stations_draw(tmp_path: Path) -> None:
    scenario = small(tmp_path, CHEAP)
    (fast,) = compete(scenario, tmp_path)
    (slow,) = compete_by_stations(scenario, tmp_path)
    fast_w, slow_w = np.asarray(fast.trace.load_w), np.asarray(slow.trace.load_w).reshape(-1, 10).mean(1)
    # Within a second of an edge they may differ: seldom by much, and not in the mean.
    off_w = np.abs(fast_w - slow_w)
    assert np.median(off_w) < 0.02 * np.abs(slow_w).mean()
    assert off_w.mean() < 0.12 * np.abs(slow_w).mean()
    assert abs(fast_w.mean() - slow_w.mean()) < 0.05 * np.abs(slow_w).mean()


def test_a_held_voltage_is_the_drivers_second_by_second() -> None:
    section = validate(
        ChannelSection,
        {
            "id": "1",
            "charge_limit_w": 30000.0,
            "discharge_limit_w": 30000.0,
            "ramp_w_per_s": 30000.0,
            "battery": {"capacity_ah": 60.0, "series": 96, "soc_ratio": 0.6},
            "program": [{"step": "cccv_chg", "current_a": 70.0, "voltage_v": 398.4, "until": {"current_a": 14.0}}],
        },
        source="here",
    )
    made = course(section, Path(), start_s=0.5, stop_s=inf, length_s=4000)
    # The constant current, and then what its driver's battery does when it is asked once a second.
    battery = channel_options(hardware(section)).battery.build()
    held = int(np.argmax(np.diff(made.power_w[1:]) < 0.0)) + 2
    battery.advance(held - 1, 70.0)
    current_a, powers_w = 70.0, []
    while current_a > 14.0 or not powers_w:
        response = battery.response(1.0, current_a, 1.0, current_a)
        current_a = max(0.0, min(current_a, response.current_for_voltage(398.4)))
        battery.advance(1.0, current_a)
        powers_w.append(398.4 * current_a)
    assert len(powers_w) > 300
    assert made.power_w[held : held + len(powers_w)].tolist() == np.array(powers_w, np.float32).tolist()
    assert made.edge_s[2] == held - 0.5 + len(powers_w), "then the program begins again"


@pytest.mark.parametrize("lasts_s", [2.0, 3.0, 4.0, 5.0])
def test_a_step_may_begin_at_half_a_second(lasts_s: float) -> None:
    made = Course(12, np.zeros(12, np.float32))
    made.fill(2.5, np.arange(1.0, lasts_s + 1.0), 2.5 + lasts_s)
    assert made.power_w[3 : 3 + round(lasts_s)].tolist() == list(range(1, round(lasts_s) + 1))
    assert np.count_nonzero(made.power_w) == lasts_s


def test_plans_help_a_plant_and_the_contract_holds(tmp_path: Path) -> None:
    scenario = small(tmp_path, '[[variant]]\nname = "plans"\n[[variant]]\nname = "none"\nplans = false\n')
    plans, none = (score(result, 0.0) for result in compete(scenario, tmp_path, duration_s=240.0))
    assert plans.mean_total_w < none.mean_total_w < none.mean_load_w
    for one in (plans, none):
        assert one.violations.outside_limits == 0
        assert one.violations.hasty_ordered == 0
        assert 0.0 < one.bound_w < one.mean_total_w


def test_peers_meet_the_same_plant(tmp_path: Path) -> None:
    more = '[[variant]]\nname = "ems"\ncontroller = "openems"\nplans = false\n[[variant]]\nname = "ours"\n'
    ems, ours = compete(small(tmp_path, more), tmp_path, duration_s=120.0)
    assert ems.trace.load_w == ours.trace.load_w
    figures = score(ems, 0.0)
    assert figures.mean_total_w < 0.5 * figures.mean_load_w


def test_a_stopped_and_a_cut_off_station_show(tmp_path: Path) -> None:
    stop = '[[event]]\nat_s = 200.0\naction = "stop"\nstation = "*s"\n'
    (result,) = compete(small(tmp_path, EVENTS + stop + NO_PLANS), tmp_path, duration_s=300.0)
    seen_w, load_w = np.asarray(result.trace.seen_load_w), np.asarray(result.trace.load_w)
    assert np.abs(seen_w - load_w)[122:138].mean() > 3.0 * np.abs(seen_w - load_w)[60:98].mean(), "taken for 0 W"
    (undisturbed,) = compete(small(tmp_path, NO_PLANS), tmp_path, duration_s=300.0)
    assert np.abs(load_w[220:]).mean() < np.abs(np.asarray(undisturbed.trace.load_w)[220:]).mean()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('[[event]]\nat_s = 9.0\naction = "unplug"\nstation = "packs"\n', "leave `plant` out"),
        ("[telemetry]\nperiod_s = 0.5\n", "whole seconds"),
    ],
)
def test_what_arrays_cannot_show_is_said(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        compete(small(tmp_path, wrong), tmp_path, duration_s=5.0)
