"""What holds whatever happens, in any order."""

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.messages import Alarm, AlarmCode
from station.channel.lease import LONGEST_LEASE_S, note_sent
from station.channel.limits import Limits, approach
from station.channel.outcome import Accepted, DeviceTrouble, DriverTrouble, TransientTrouble
from station.channel.states import Life
from station.drivers.protocol import ConstantPower, Off, Sample
from tests.unit.channel.bench import Bench, build

RAMP_W_PER_S = 5000.0
HOUR = {"step": "cp_chg", "power_w": 9000.0, "until": {"time_s": 3600.0}}

watts = st.floats(-80000.0, 80000.0)
bad = st.sampled_from([nan, inf, -inf])
happenings = st.one_of(
    st.tuples(st.just("run"), st.sampled_from([0.1, 0.5, 2.0, 20.0])),
    st.tuples(st.just("setpoint"), watts, st.integers(5, 9), st.sampled_from([0.5, 5.0, 30.0, 500.0])),
    st.tuples(st.just("later"), watts, st.floats(0.1, 20.0)),
    st.tuples(st.just("command"), st.sampled_from(["equalize", "equalize", "stop", "start", "clear_alarm"])),
    st.tuples(st.just("again"), st.integers(0, 3)),
    st.tuples(st.just("limits"), st.floats(0.0, 60000.0), st.floats(0.0, 60000.0)),
    st.tuples(st.just("battery"), st.booleans()),
    st.tuples(st.just("fault")),
    st.tuples(st.just("nonsense"), st.sampled_from(["voltage_v", "current_a", "power_w", "charge_limit_w"]), bad),
    st.tuples(st.just("trouble"), st.integers(1, 40)),
    st.tuples(st.just("device")),
)


class Watcher:
    """Lets things happen to a channel and looks at every tick."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.obeyed = -1
        self.lease_ends_s = 0.0
        self.sent_s: dict[int, float] = {}
        self.power_w = 0.0

    def tick(self, measured: Sample | DriverTrouble | None = None) -> None:
        """Let one tick pass, and check what must hold after it."""
        bench, before = self.bench, self.bench.state
        bench.tick(measured)
        state = bench.state
        power_w = state.demand.power_w if isinstance(state.demand, ConstantPower) else 0.0
        for seq, sent_s in state.sent:
            self.sent_s.setdefault(seq, sent_s)
        if state.life in (Life.EQUALIZING, Life.STOPPING):
            assert power_w == state.applied_w
            self._check_limits(power_w)
            if before.life is state.life:
                self._check_ramp(before.applied_w, power_w)
        if state.equalizing and bench.now_s >= self.lease_ends_s:
            # Expired: from now on only towards 0 W, and there in time.
            assert abs(power_w) <= abs(before.applied_w)
            assert abs(power_w) <= max(0.0, 60000.0 - RAMP_W_PER_S * (bench.now_s - self.lease_ends_s - 0.1)) + 1e-6
        if state.life in (Life.IDLE, Life.FINISHED, Life.STOPPED, Life.PROTECT):
            assert state.demand == Off()

    def _check_limits(self, power_w: float) -> None:
        sample = self.bench.state.sample
        assert -min(60000.0, sample.discharge_limit_w) <= power_w <= min(60000.0, sample.charge_limit_w)

    def _check_ramp(self, before_w: float, after_w: float) -> None:
        sample = self.bench.state.sample
        cut_w = min(max(before_w, -sample.discharge_limit_w), sample.charge_limit_w)
        assert abs(after_w - cut_w) <= RAMP_W_PER_S * 0.1 + 1e-5

    def happen(self, what: str, *data: Any) -> None:  # noqa: ANN401, C901, PLR0912 - one arm for each of the kinds
        """Let one thing happen."""
        bench = self.bench
        match what, data:
            case "run", (seconds,):
                for _ in range(round(seconds / 0.1)):
                    self.tick()
            case "setpoint", (power_w, epoch, ttl_s):
                self._setpoint(power_w, epoch=epoch, ttl_s=ttl_s)
            case "later", (power_w, after_s):
                self._setpoint((0.0, 0.0), (after_s, power_w), ttl_s=30.0, epoch=9)
            case "command", (action,):
                bench.command(action)
            case "again", (back,):
                self._again(back)
            case "limits", (charge_limit_w, discharge_limit_w):
                bench.charge_limit_w, bench.discharge_limit_w = charge_limit_w, discharge_limit_w
            case "battery", (connected,):
                bench.battery.connected = connected
            case "fault", ():
                self.tick(bench.measure(fault=Alarm(code=AlarmCode.OVER_TEMPERATURE, text="hot")))
            case "nonsense", (key, value):
                self.tick(bench.measure(**{key: value}))
                assert bench.state.demand == Off()
            case "trouble", (ticks,):
                for _ in range(ticks):
                    self.tick(TransientTrouble("timeout"))
            case "device", ():
                self.tick(DeviceTrouble("broken"))
                assert bench.state.demand == Off()

    def _setpoint(self, *steps: float | tuple[float, float], epoch: int, ttl_s: float) -> None:
        bench = self.bench
        decision = bench.setpoint(*steps, epoch=epoch, ttl_s=ttl_s)
        if isinstance(decision, Accepted):
            assert epoch >= self.obeyed
            assert bench.state.equalizing
            self.obeyed = epoch
            seq = bench.state.telemetry_seq
            sent_s = dict(bench.state.sent)[seq]
            self.lease_ends_s = sent_s + min(ttl_s, LONGEST_LEASE_S)

    def _again(self, back: int) -> None:
        bench = self.bench
        if len(bench.state.replies) > back:
            reply, before = bench.state.replies[-1 - back], bench.state
            assert bench.command(reply.action, reply.id) == reply
            assert (bench.state.life, bench.state.demand) == (before.life, before.demand)


@settings(max_examples=150, deadline=None)
@given(story=st.lists(happenings, max_size=25), equalize=st.booleans())
def test_no_story_breaks_the_channel(story: list[tuple[Any, ...]], equalize: bool) -> None:
    watcher = Watcher(build(HOUR, equalize=equalize, ramp_w_per_s=RAMP_W_PER_S))
    watcher.tick()
    for what, *data in story:
        watcher.happen(what, *data)
    watcher.happen("run", 0.5)


@settings(max_examples=60, deadline=None)
@given(story=st.lists(happenings, max_size=12))
def test_left_alone_every_equalization_channel_comes_to_zero(story: list[tuple[Any, ...]]) -> None:
    watcher = Watcher(build(equalize=True, ramp_w_per_s=RAMP_W_PER_S))
    watcher.tick()
    for what, *data in story:
        watcher.happen(what, *data)
    watcher.happen("run", LONGEST_LEASE_S + 60000.0 / RAMP_W_PER_S + 1.0)
    assert watcher.bench.state.applied_w == 0.0
    assert watcher.bench.state.demand in (Off(), ConstantPower(0.0))


@given(
    power_w=watts,
    target_w=watts,
    charge_limit_w=st.floats(0.0, 60000.0),
    discharge_limit_w=st.floats(0.0, 60000.0),
    elapsed_s=st.floats(-1.0, 100.0),
)
def test_approach_stays_within_limits_and_never_overshoots(
    power_w: float, target_w: float, charge_limit_w: float, discharge_limit_w: float, elapsed_s: float
) -> None:
    limits = Limits(charge_limit_w, discharge_limit_w)
    after_w = approach(power_w, target_w, limits, 1000.0, elapsed_s)
    assert -discharge_limit_w <= after_w <= charge_limit_w
    goal_w = min(max(target_w, -discharge_limit_w), charge_limit_w)
    assert min(power_w, goal_w) <= after_w <= max(power_w, goal_w) or abs(after_w) < abs(power_w)


@given(gaps_s=st.lists(st.floats(0.01, 4.0), min_size=1, max_size=300))
def test_every_message_of_the_last_fifteen_seconds_may_be_a_basis(gaps_s: list[float]) -> None:
    sent: tuple[tuple[int, float], ...] = ()
    now_s, all_sent = 0.0, []
    for seq, gap_s in enumerate(gaps_s, start=1):
        now_s += gap_s
        sent = note_sent(sent, seq, now_s)
        all_sent.append((seq, now_s))
    assert sent == tuple(item for item in all_sent if item[1] >= now_s - 15.0)[-256:]


@pytest.mark.parametrize("key", ["voltage_v", "current_a", "power_w", "soc_ratio", "temperature_degc"])
@given(value=bad)
def test_a_sample_that_is_no_number_never_yields_a_demand(key: str, value: float) -> None:
    for program in ((HOUR,), ()):
        bench = build(*program, equalize=not program)
        bench.run(0.5)
        assert bench.state.demand != Off()
        bench.tick(bench.measure(**{key: value}))
        assert bench.state.demand == Off()
