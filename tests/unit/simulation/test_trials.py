"""The whole loop with its standby, in virtual time: single faults with their bounds, random ones by seed."""

import inspect
import logging
from collections.abc import Callable, Iterator

import pytest

from equalizer.fencing import Standing
from schemas.codec import decode, encode
from schemas.messages import Phase, Presence, ServerAnnouncement
from simulation.clock import BEGIN_S, TICK_S
from simulation.trials.faults import Fault, Kind
from simulation.trials.mqtt import Packet, matches
from simulation.trials.session import VirtualSession
from simulation.trials.trial import Trial
from simulation.trials.witness import BreachError
from transport.session import Session

SERVER_TOPIC = "zeroloop/v1/main/server"
STRIKE_S = 16.0
STEP_W = 300.0
"""What measurement, a battery's limits and a ramp make of an unchanged power."""
PLAIN: dict[str, dict[str, object]] = {
    "control": {"policy": "confirm", "delay_s": 5.0, "freeze_w": 1e6},
    "telemetry": {"period_s": 1.0},
    "setpoint": {"ttl_s": 30.0, "refresh_s": 5.0},
    "standby": {"lost_s": 5.0},
}


Maker = Callable[..., Trial]


@pytest.fixture
def make() -> Iterator[Maker]:
    made: list[Trial] = []

    def begin(*, servers: int = 2, balanced: bool = True, options: dict[str, dict[str, object]] | None = None) -> Trial:
        trial = Trial(1, faults=(), servers=servers, options={**PLAIN, **(options or {})})
        made.append(trial)
        trial.begin()
        if balanced:
            trial.advance(STRIKE_S - 1.0)
            assert trial.is_balanced(), trial.story()
        return trial

    logging.disable(logging.CRITICAL)
    yield begin
    logging.disable(logging.NOTSET)
    for trial in made:
        trial.end()


def leader(made: Trial) -> str | None:
    names = [name for name, server in made.servers.items() if server.leads]
    return names[0] if len(names) == 1 else None


def until(made: Trial, condition: Callable[[], bool], most_s: float) -> float:
    """Let time pass until a condition holds, and return how long it took."""
    from_s = made.passed_s
    while not condition():
        assert made.passed_s - from_s < most_s, made.story()
        made.advance(made.passed_s + TICK_S / 2)
        assert made.witness.breach is None, made.witness.breach
    return made.passed_s - from_s


def led_w(made: Trial) -> list[float]:
    return [power_w for name in ("eq1", "eq2") for power_w in made.stations[name].powers_w().values()]


def announced(made: Trial) -> ServerAnnouncement:
    return decode(ServerAnnouncement, made.network.retained[SERVER_TOPIC])


def takeover(made: Trial, strike: Callable[[str], None]) -> tuple[str, str, float]:
    """Strike the server in charge; return its name, its successor's, and after how long that one was obeyed."""
    before = leader(made)
    assert before is not None
    strike(before)
    obeyed = made.witness.takeovers
    took_s = until(made, lambda: made.witness.takeovers > obeyed, 15.0)
    after = leader(made)
    assert after not in {None, before}
    return before, str(after), took_s


@pytest.mark.parametrize(
    ("strike", "bound_s"),
    [
        (lambda made, name: made.servers[name].stop(), 2.0),
        (lambda made, name: made.servers[name].kill(), 2.0),
        (lambda made, name: made.servers[name].kill(silently=True), 8.0),
        (lambda made, name: made.servers[name].freeze(), 8.0),
        (lambda made, name: made.computers[name].way.block(up=True, down=False), 8.0),
        (lambda made, name: made.computers[name].way.block(up=False, down=True), 14.0),
        (lambda made, name: made.computers[name].way.block(up=True, down=True), 8.0),
    ],
    ids=["stop", "kill", "power cut", "freeze", "cannot speak", "cannot hear", "cut off"],
)
def test_a_takeover_keeps_its_bound_and_makes_no_step(
    make: Maker, strike: Callable[[Trial, str], None], bound_s: float
) -> None:
    made = make()
    powers_w = led_w(made)
    levels = {key: led.levels.level_w for key, led in made.witness._led.items()}
    _, _, took_s = takeover(made, lambda name: strike(made, name))
    assert took_s < bound_s
    first = {key: led.levels.level_w for key, led in made.witness._led.items()}
    changed = [key for key in first if abs(first[key] - levels[key]) > STEP_W]
    stepped = [change for key in changed for change in made.witness._led[key].levels.changes[-1:]]
    # The one before may have changed a channel while it could; the new one adopts what is, and waits for its delay.
    assert all(made.timeline.now_s - change.at_s > TICK_S for change in stepped)
    assert len(powers_w) == 3


def test_a_frozen_leader_that_wakes_up_sends_nothing_that_is_obeyed_and_stands_by(make: Maker) -> None:
    made = make()
    before, after, _ = takeover(made, lambda name: made.servers[name].freeze())
    made.advance(made.passed_s + 20.0)
    made.servers[before].thaw()
    until(made, lambda: made.servers[before].service.standing is Standing.STANDBY, 3.0)
    made.advance(made.passed_s + 10.0)
    assert leader(made) == after
    assert announced(made).server == after


def test_the_one_that_returns_stands_by_and_takes_over_again_with_account_and_pause(make: Maker) -> None:
    made = make()
    before, after, _ = takeover(made, lambda name: made.servers[name].kill())
    made.start_server(before)
    until(made, lambda: made.servers[before].service.standing is Standing.STANDBY, 3.0)
    made.advance(made.passed_s + 6.0)
    assert leader(made) == after
    epoch = announced(made).epoch
    made.advance(made.passed_s + 5.0)
    again = takeover(made, lambda name: made.servers[name].stop())
    assert again[:2] == (after, before)
    assert announced(made).epoch == epoch + 1
    until(made, lambda: not made.servers[after].alive, 6.0)
    assert made.servers[after].ended == "stopped"
    assert announced(made) == announced(made).model_copy(update={"server": before, "status": Presence.ONLINE})


def test_without_anybody_to_take_over_a_clean_stop_brings_every_channel_to_rest(make: Maker) -> None:
    made = make(servers=1)
    made.witness.zero_until_s = made.timeline.now_s + 20.0
    made.servers["a"].stop()
    until(made, lambda: not made.servers["a"].alive, 9.0)
    made.advance(made.passed_s + 2.0)
    assert all(abs(power_w) < 60.0 for power_w in led_w(made))
    assert announced(made).status is Presence.OFFLINE


def test_a_late_will_of_the_leader_blinds_nobody(make: Maker) -> None:
    made = make()
    before = leader(made)
    epoch = announced(made).epoch
    will = announced(made).model_copy(update={"status": Presence.OFFLINE, "phase": Phase.STANDBY, "heartbeat": 0})
    made.network.publish(Packet("publish", SERVER_TOPIC, encode(will), 1, retain=True))
    made.advance(made.passed_s + 6.0)
    assert (leader(made), announced(made).epoch, announced(made).status) == (before, epoch, Presence.ONLINE)


def test_a_dead_rival_that_the_broker_remembers_as_online_is_passed_over(make: Maker) -> None:
    made = make()
    name = leader(made)
    assert name is not None
    dead = announced(made).model_copy(update={"server": "dead", "epoch": 70, "started_unix_time_s": 1.0})
    made.network.crash()
    made.advance(made.passed_s + 1.0)
    made.network.restart({SERVER_TOPIC: encode(dead)})
    until(made, made.is_balanced, 15.0)
    assert announced(made).epoch == 71


def test_without_standby_a_dead_rival_that_the_broker_remembers_keeps_nobody_waiting_for_ever(make: Maker) -> None:
    made = make(options={"standby": {"enabled": False}, "setpoint": {"ttl_s": 12.0, "refresh_s": 3.0}})
    name = leader(made)
    assert name is not None
    other = next(server for key, server in made.servers.items() if key != name)
    assert other.service.standing is Standing.STANDBY
    retained = dict(made.network.retained)
    made.network.crash()
    made.servers[name].kill(silently=True)
    made.advance(made.passed_s + 1.0)
    made.network.restart(retained)
    until(made, lambda: other.leads and made.is_balanced(), 30.0)
    assert announced(made).status is Presence.ONLINE


def test_a_second_server_of_the_same_name_ends_and_says_why(make: Maker) -> None:
    made = make(servers=1)
    first = made.servers.pop("a")
    made.start_server("a")
    second = made.servers.pop("a")
    made.servers["a"] = first
    until(made, lambda: not second.alive, 6.0)
    assert second.ended == (
        "DuplicateServerError: loop.server: a server 'a' runs on this loop already; "
        "give every equalizer a name of its own"
    )
    assert first.leads


def test_nobody_is_in_charge_twice_when_all_begin_at_once(make: Maker) -> None:
    made = make(servers=3, balanced=False)
    until(made, made.is_balanced, 12.0)
    made.advance(made.passed_s + 10.0)
    assert made.is_balanced()
    assert made.witness.takeovers <= 2


def test_the_virtual_session_can_be_asked_what_the_real_one_can() -> None:
    def asked(kind: type) -> set[str]:
        return set(inspect.signature(kind).parameters)

    def does(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert asked(Session) <= asked(VirtualSession)
    assert does(Session) - does(VirtualSession) <= {"hold", "resume"}  # what experiments on real sockets ask
    for name in does(VirtualSession):
        there = inspect.signature(getattr(Session, name)).parameters
        assert list(there) == list(inspect.signature(getattr(VirtualSession, name)).parameters)


# ── seeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_trial_is_repeatable() -> None:
    def played() -> tuple[object, float]:
        made = Trial(7, troubled_s=3.0, options=PLAIN)
        return made.run(), made.witness.truth.unbalanced_wh

    assert played() == played()


@pytest.mark.parametrize("seed", [2008, 2009])
def test_random_faults_break_nothing(seed: int) -> None:
    verdict = Trial(seed, troubled_s=40.0).run()
    assert verdict.obeyed_setpoints > 10


def test_a_breach_says_with_which_seed_to_see_it_again() -> None:
    made = Trial(4, faults=(Fault(20.0, 1.0, Kind.KILL, "a", 0.0),), options=PLAIN)
    made.timeline.at(BEGIN_S + 30.0, lambda: made.witness._breach("made up"))
    with pytest.raises(BreachError, match=r"(?s)seed 4: at 30\.\d s: made up.*20\.0 s to   21\.0 s: kill a"):
        made.run()


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("a/b/c/d", "a/b/c", False),
        ("a/b", "a/b", True),
    ],
)
def test_the_brokers_filters_fit_as_in_mqtt(pattern: str, topic: str, fits: bool) -> None:
    assert matches(pattern, topic) is fits
