"""What the page makes of messages, in virtual time."""

import datetime as dt
import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dashboard.alarms import AlarmBook
from dashboard.energy import DayBook
from dashboard.forecast import Course, Edge, Lead, ahead, led, thinned
from dashboard.hall import Hall, Key, lease_left_s, natural
from dashboard.history import History
from schemas.messages import Severity

LOOP = "zeroloop/v1/main"


class Scene:
    """A hall, and a clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.seq = 0
        self.hall = Hall(
            "main",
            history=History(),
            alarms=AlarmBook(),
            days=DayBook(lambda _: 0.0, lambda at_s: dt.datetime.fromtimestamp(at_s, dt.UTC)),
            band_w=1_000.0,
        )

    @property
    def unix_time_s(self) -> float:
        return 1_795_000_000.0 + self.now_s

    def say(self, topic: str, payload: dict[str, object] | bytes, *, retained: bool = False) -> None:
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.hall.take(f"{LOOP}/{topic}", content, self.now_s, self.unix_time_s, retained=retained)

    def telemetry(self, place: str = "s1/1", *, retained: bool = False, **values: object) -> None:
        self.seq += 1
        station, channel = place.split("/")
        self.say(
            f"station/{station}/channel/{channel}/telemetry",
            {
                "boot_id": "b",
                "seq": self.seq,
                "unix_time_s": 0.0,
                "work_status": "working",
                "step_type": "cp_chg",
                "step_id": 1,
                "cycle_count": 1,
                "voltage_v": 400.0,
                "current_a": 1.0,
                "power_w": 400.0,
                "battery_connected": True,
            }
            | values,
            retained=retained,
        )

    def status(self, status: str, channels: tuple[str, ...] = ("1",), on_lost: str = "zero") -> None:
        payload = {"status": status, "boot_id": "b", "version": "1", "driver": "d", "channels": channels}
        self.say("station/s1/status", payload | {"on_lost": on_lost, "unix_time_s": 0.0}, retained=True)

    def balance(self, *, retained: bool = False, **values: object) -> None:
        self.seq += 1
        energy = {"import_wh": 0.0, "export_wh": 0.0, "unbalanced_wh": 0.0, "avoided_wh": 0.0}
        payload = {
            "server": "hall-a",
            "epoch": 1,
            "seq": self.seq,
            "unix_time_s": 0.0,
            "phase": "balancing",
            "total_power_w": 0.0,
            "load_power_w": 0.0,
            "equalization_power_w": 0.0,
            "target_power_w": 0.0,
            "charging_power_w": 0.0,
            "discharging_power_w": 0.0,
            "unknown_power_w": 0.0,
            "shortfall_w": 0.0,
            "stations_online": 1,
            "channels": 1,
            "channels_stale": 0,
            "equalization_channels": 1,
            "setpoint_changes": 0,
            "energy": energy,
        }
        self.say("balance", payload | values, retained=retained)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def equalization(**last: object) -> dict[str, object]:
    echo = {"server": "hall-a", "epoch": 1, "seq": 1, "result": "applied", "expires_in_s": 20.0} | last
    limits = {"charge_limit_w": 1.0, "discharge_limit_w": 1.0, "ramp_w_per_s": 1.0, "applied_w": -1.0}
    return {**limits, "last": echo}


def test_the_picture_parts_test_channels_from_those_that_balance(scene: Scene) -> None:
    scene.balance(
        charging_power_w=61_000.0, discharging_power_w=-60_188.0, equalization_power_w=-19_977.0, total_power_w=812.0
    )
    flows = scene.hall.flows()
    assert flows == (61_000.0, 60_188.0 - 19_977.0, -19_977.0, 812.0)
    assert flows.charging_w - flows.discharging_w + flows.equalization_w == pytest.approx(flows.grid_w)


def test_what_the_broker_remembers_is_stale_until_it_comes_live(scene: Scene) -> None:
    scene.telemetry(retained=True)
    view = scene.hall.channels[Key("s1", "1")]
    assert scene.hall.is_stale(view, scene.now_s)
    scene.telemetry()
    assert not scene.hall.is_stale(view, scene.now_s + 3.0)
    assert scene.hall.is_stale(view, scene.now_s + 3.1)


def test_an_alarm_stands_as_long_as_the_telemetry_says_so_and_its_event_is_no_second_one(scene: Scene) -> None:
    alarm = {"code": "over_voltage", "text": "436 V"}
    scene.telemetry(alarm=alarm)
    scene.telemetry(alarm=alarm)
    event = {"unix_time_s": 0.0, "source": "station/s1/channel/1", "severity": "alarm", "code": "over_voltage"}
    scene.say("event", event | {"text": "436 V"})
    (trouble,) = scene.hall.alarms.listed()
    assert trouble.is_open
    scene.telemetry()
    (trouble,) = scene.hall.alarms.listed()
    assert not trouble.is_open


def test_a_station_that_is_gone_is_an_alarm_until_it_is_back(scene: Scene) -> None:
    scene.status("offline")
    assert [trouble.code for trouble in scene.hall.alarms.listed() if trouble.is_open] == ["station_offline"]
    scene.status("online")
    assert [trouble.code for trouble in scene.hall.alarms.listed() if trouble.is_open] == []


def test_what_was_over_while_the_page_was_down_is_over(scene: Scene) -> None:
    alarms = scene.hall.alarms
    for place in ("station/s1/channel/1", "station/s1/channel/2", "station/s1/channel/9"):
        alarms.open(place, "over_voltage", "", Severity.ALARM, 1.0)
    scene.telemetry("s1/7")
    scene.telemetry("s1/1")
    scene.telemetry("s1/2", alarm={"code": "over_voltage", "text": "436 V"})
    scene.status("online", ("1", "2", "7"))
    assert [trouble.source for trouble in alarms.listed() if trouble.is_open] == ["station/s1/channel/2"]


def test_a_loop_without_a_server_is_an_alarm_until_any_server_leads_it(scene: Scene) -> None:
    said = {"epoch": 1, "phase": "balancing", "version": "1", "started_unix_time_s": 0.0, "telemetry_period_s": 1.0}
    said |= {"control": {"policy": "confirm", "delay_s": 15.0}, "setpoint": {"ttl_s": 30.0, "refresh_s": 5.0}}
    scene.say("server", said | {"server": "hall-a", "status": "offline"}, retained=True)
    assert [trouble.code for trouble in scene.hall.alarms.calling] == ["server_offline"]
    scene.say("server", said | {"server": "hall-b", "status": "online"}, retained=True)
    assert not any(trouble.is_open for trouble in scene.hall.alarms.listed())


def test_channels_that_their_station_has_no_more_or_that_were_cleared_are_forgotten(scene: Scene) -> None:
    for place in ("s1/1", "s1/2", "s1/3"):
        scene.telemetry(place)
    scene.status("online", ("1", "3"))
    scene.say("station/s1/channel/3/telemetry", b"", retained=True)
    assert list(scene.hall.channels) == [Key("s1", "1")]


def test_each_new_decision_is_a_mark_and_the_first_one_heard_is_old(scene: Scene) -> None:
    scene.balance(last_decision={"unix_time_s": 1.0, "reason": "load_step"})
    scene.balance(last_decision={"unix_time_s": 1.0, "reason": "load_step"})
    scene.balance(last_decision={"unix_time_s": 2.0, "reason": "announced"})
    scene.balance(last_decision={"unix_time_s": 2.0, "reason": "announced"}, phase="saturated")
    assert [(mark.kind, mark.code) for mark in scene.hall.history.marks] == [
        ("decision", "announced"),
        ("phase", "saturated"),
    ]


def test_the_band_is_what_the_equalizer_says_and_time_outside_it_is_measured(scene: Scene) -> None:
    scene.balance(total_power_w=1_500.0)
    assert scene.hall.outside_since_s == scene.now_s
    scene.balance(total_power_w=1_500.0, engage_w=2_000.0)
    assert scene.hall.outside_since_s is None


def test_malformed_messages_are_counted_and_change_nothing(scene: Scene) -> None:
    scene.telemetry()
    before = scene.hall.channels[Key("s1", "1")].telemetry
    scene.telemetry(power_w="much")
    scene.say("balance", b"{")
    assert scene.hall.malformed == 2
    assert scene.hall.channels[Key("s1", "1")].telemetry is before
    assert scene.hall.balance is None


def test_what_operators_did_is_marked_with_where(scene: Scene) -> None:
    event = {"unix_time_s": 0.0, "severity": "info"}
    scene.say("event", event | {"source": "server/hall-a", "code": "operator", "text": "paused by ann"})
    told = {"source": "station/s1/channel/3", "code": "command_stop", "text": "ramps to 0 W (by ann)"}
    scene.say("event", event | told | {"values": {"by": "ann"}})
    assert [(mark.source, mark.code, mark.text, mark.values) for mark in scene.hall.history.marks] == [
        ("server/hall-a", "operator", "paused by ann", None),
        ("station/s1/channel/3", "command_stop", "ramps to 0 W (by ann)", {"by": "ann"}),
    ]
    assert scene.hall.alarms.listed() == []


def test_a_trace_is_ten_minutes_by_the_second_and_bounded(scene: Scene) -> None:
    for _ in range(2_000):
        scene.telemetry()
        scene.now_s += 0.5
    samples = list(scene.hall.channels[Key("s1", "1")].trace.samples())
    assert 600 <= len(samples) <= 750
    assert {round(later[0] - sooner[0], 3) for sooner, later in pairwise(samples)} == {1.0}
    assert samples[-1][1:] == (400.0, 1.0, 400.0)


def test_a_lease_runs_down_between_two_messages(scene: Scene) -> None:
    scene.telemetry(equalization=equalization())
    view = scene.hall.channels[Key("s1", "1")]
    assert lease_left_s(view, scene.now_s + 5.0) == pytest.approx(15.0)
    scene.telemetry(equalization=equalization(result="expired", expires_in_s=None))
    assert lease_left_s(view, scene.now_s) is None


def test_the_forecast_adds_plans_and_planned_setpoints(scene: Scene) -> None:
    scene.telemetry("s1/load", power_w=1_000.0)
    scene.telemetry("s1/silent", power_w=300.0)
    scene.telemetry("s1/eq", power_w=-1_300.0, equalization=equalization())
    segments = [{"after_s": 0.0, "power_w": 1_000.0}, {"after_s": 10.0, "power_w": 4_000.0}]
    plan = {"boot_id": "b", "seq": 1, "unix_time_s": 0.0, "step_id": 1, "until_s": 60.0, "segments": segments}
    scene.say("station/s1/channel/load/plan", plan)
    steps = [{"after_s": 0.0, "power_w": -1_300.0}, {"after_s": 10.0, "power_w": -4_300.0}]
    setpoint = {"server": "hall-a", "epoch": 1, "seq": 1, "basis": {"boot_id": "b", "seq": 1}, "ttl_s": 30.0}
    scene.say("station/s1/channel/eq/setpoint", setpoint | {"steps": steps, "unix_time_s": 0.0})
    edges = scene.hall.forecast(scene.now_s + 4.0, 20.0)
    assert [(edge.after_s, edge.load_w, edge.equalization_w) for edge in edges] == [
        (0.0, 1_300.0, -1_300.0),
        (6.0, 4_300.0, -4_300.0),
        (20.0, 4_300.0, -4_300.0),
    ]


def test_a_channel_on_its_way_to_its_setpoint_is_expected_there(scene: Scene) -> None:
    setpoint = {"server": "hall-a", "epoch": 1, "seq": 2, "basis": {"boot_id": "b", "seq": 1}, "ttl_s": 30.0}
    steps = {"steps": [{"after_s": 0.0, "power_w": -8_000.0}], "unix_time_s": 0.0}
    for result, expected_w in (("applied", -8_000.0), ("clamped", -3_000.0), ("rejected", -3_000.0)):
        scene.telemetry("s1/eq", power_w=-3_000.0, equalization=equalization(seq=2, result=result))
        scene.say("station/s1/channel/eq/setpoint", setpoint | steps)
        assert scene.hall.forecast(scene.now_s + 1.0, 20.0)[0].equalization_w == expected_w
    assert scene.hall.forecast(scene.now_s + 31.0, 20.0)[0].equalization_w == -3_000.0, "it has run out"


def test_beyond_the_setpoints_the_equalizer_is_expected_to_meet_what_is_announced(scene: Scene) -> None:
    control = {"policy": "confirm", "delay_s": 15.0}
    server = {"server": "hall-a", "status": "online", "epoch": 1, "phase": "balancing", "version": "1"}
    more = {"started_unix_time_s": 0.0, "telemetry_period_s": 1.0, "setpoint": {"ttl_s": 30.0, "refresh_s": 5.0}}
    scene.say("server", server | more | {"control": control}, retained=True)
    limits = {"charge_limit_w": 2_500.0, "discharge_limit_w": 2_500.0}
    scene.telemetry("s1/load", power_w=1_000.0)
    scene.telemetry("s1/eq", power_w=-1_000.0, equalization=equalization() | limits)
    segments = [
        {"after_s": after_s, "power_w": power_w}
        for after_s, power_w in ((0.0, 1_000.0), (20.0, 4_000.0), (25.0, -2_000.0))
    ]
    plan = {"boot_id": "b", "seq": 1, "unix_time_s": 0.0, "step_id": 1, "until_s": 60.0, "segments": segments}
    scene.say("station/s1/channel/load/plan", plan)
    scene.balance(engage_w=500.0)
    told = [(edge.after_s, edge.equalization_w, edge.total_w) for edge in scene.hall.forecast(scene.now_s, 60.0)]
    assert told == [
        (0.0, -1_000.0, 0.0),
        (20.0, -2_500.0, 1_500.0),  # as far as the limit lets
        (25.0, -2_500.0, -4_500.0),  # changed just now
        (35.0, 2_000.0, 0.0),
        (60.0, 2_000.0, 0.0),
    ]
    scene.telemetry("s1/load", power_w=2_900.0)
    standing = [(edge.after_s, edge.equalization_w) for edge in scene.hall.forecast(scene.now_s, 20.0)]
    assert standing == [(0.0, -1_000.0), (15.0, -2_500.0), (20.0, -2_500.0)], "what stands is met after the delay"
    scene.balance(engage_w=500.0, phase="paused")
    assert {edge.equalization_w for edge in scene.hall.forecast(scene.now_s, 60.0)} == {-1_000.0}


def test_the_last_free_channel_is_kept_for_a_step_that_is_near_and_larger() -> None:
    lead = Lead(0.0, 500.0, 9e4, 9e4, channels=1, delay_s=15.0, planned_s=0.0)
    edges = [
        Edge(at_s, load_w, 0.0) for at_s, load_w in ((0.0, 0.0), (20.0, 1_000.0), (25.0, 9_000.0), (60.0, 9_000.0))
    ]
    assert [edge.total_w for edge in led(edges, lead)] == [0.0, 1_000.0, 0.0, 0.0]
    two = lead._replace(channels=2)
    assert [edge.total_w for edge in led(edges, two)] == [0.0, 0.0, 0.0, 0.0]


@given(st.lists(st.floats(0.001, 900.0), min_size=1, max_size=50).map(sorted))
def test_thinned_edges_begin_now_end_where_they_ended_and_are_few(times_s: list[float]) -> None:
    edges = [Edge(0.0, 0.0, 0.0), *(Edge(at_s, at_s, 0.0) for at_s in times_s)]
    few = thinned(edges, 3.0)
    assert few[0].after_s == 0.0
    assert few[-1] == edges[-1]
    assert len(few) <= 301
    assert [edge.after_s for edge in few] == sorted(edge.after_s for edge in few)


edges_ahead = st.lists(st.tuples(st.floats(0.01, 200.0), st.floats(-1e5, 1e5)), max_size=8).map(
    lambda points: [Edge(0.0, 0.0, 0.0), *(Edge(at_s, load_w, 0.0) for at_s, load_w in sorted(dict(points).items()))]
)


@given(edges_ahead, st.integers(0, 3), st.floats(0.0, 1e5), st.floats(0.0, 30.0))
@example([Edge(0.0, 0.0, 0.0), Edge(15.0, 0.0, 0.0)], 1, 1e5, 15.0)
def test_what_is_expected_keeps_to_limits_and_delay_and_leaves_the_load_as_it_is(
    edges: list[Edge], channels: int, limit_w: float, delay_s: float
) -> None:
    lead = Lead(0.0, 500.0, limit_w, limit_w, channels, delay_s, planned_s=0.0)
    expected = led(edges, lead)
    announced_s = {edge.after_s for edge in edges}
    kept = [(edge.after_s, edge.load_w) for edge in expected if edge.after_s in announced_s]
    assert kept == [(edge.after_s, edge.load_w) for edge in edges]
    assert all(abs(edge.equalization_w) <= limit_w + 1e-6 for edge in expected)
    changes_s = [b.after_s for a, b in pairwise(expected) if b.equalization_w != a.equalization_w]
    for early_s, late_s in zip(changes_s, changes_s[channels:], strict=False):
        assert late_s - early_s >= delay_s - 1e-6
    assert channels or not changes_s


steps_ahead = st.lists(st.tuples(st.floats(0.01, 100.0), st.floats(-1e5, 1e5)), max_size=5).map(sorted)
courses = st.lists(st.builds(Course, st.booleans(), st.floats(-1e5, 1e5), steps_ahead), max_size=6)


@given(courses)
def test_a_forecast_ends_where_the_last_steps_leave_it(given_courses: list[Course]) -> None:
    edges = ahead(given_courses, 200.0)
    last_w = sum(course.steps[-1][1] if course.steps else course.power_w for course in given_courses)
    assert edges[-1].total_w == pytest.approx(last_w, abs=1e-3)
    assert [edge.after_s for edge in edges] == sorted({edge.after_s for edge in edges})


def test_ten_comes_after_two() -> None:
    names = ["10", "2", "a10", "a2", "1b"]
    assert sorted(names, key=lambda name: natural(Key("s", name))) == ["1b", "2", "10", "a2", "a10"]
