"""The peers' rules, one by one, on small pools."""

from dataclasses import replace
from pathlib import Path

import pytest

from simulation.peers import AstraMeter, LiteralDelay, OpenDtu, OpenEms, PidFilter, Pool, Unit, Zendure
from simulation.peers.law import shared
from simulation.run import Result, compete
from simulation.scenario import Controller, read
from simulation.score import score
from tests.unit.simulation.test_hall import SMALL

ONE, TWO = ("eq", "1"), ("eq", "2")


def unit(key: tuple[str, str] = ONE, power_w: float = 0.0, limit_w: float = 100e3, **more: float) -> Unit:
    given = {
        "asked_w": power_w,
        "soc_ratio": 0.5,
        "obeyed_s": 0.0,
        "charge_limit_w": limit_w,
        "discharge_limit_w": limit_w,
    }
    return Unit(key=key, power_w=power_w, **(given | more))


def pool(load_w: float, *units: Unit, held: tuple[Unit, ...] = (), measured_s: float = 100.0) -> Pool:
    units = units or (unit(),)
    done_w = sum(one.power_w for one in (*units, *held))
    return Pool(load_w=load_w, equalization_w=done_w, measured_s=measured_s, units=units, held=held)


def test_a_total_is_shared_by_limits_over_what_may_be_changed() -> None:
    assert shared(-30e3, pool(30e3, unit(), unit(TWO, limit_w=50e3))) == {ONE: -20e3, TWO: -10e3}
    assert shared(-30e3, pool(30e3, unit(), held=(unit(TWO, power_w=-40e3),))) == {ONE: 10e3}
    assert shared(-300e3, pool(300e3)) == {ONE: -100e3}
    assert shared(5e3, pool(-5e3, unit(limit_w=0.0))) == {ONE: 0.0}


def test_the_literal_delay_acts_once_an_imbalance_has_stood_for_the_delay_and_then_waits_again() -> None:
    law = LiteralDelay(1000.0, 15.0)
    assert law.wanted(pool(5e3), 0.0) is None
    assert law.wanted(pool(5e3), 14.0) is None
    assert law.wanted(pool(5e3), 15.0) == {ONE: -5e3}
    assert law.wanted(pool(6e3), 16.0) is None
    assert law.wanted(pool(900.0), 20.0) is None
    assert law.wanted(pool(5e3), 31.0) is None, "within the band the count began anew"


def test_openems_asks_every_second_for_what_it_does_less_what_the_grid_shows() -> None:
    law = OpenEms()
    assert law.wanted(pool(20e3), 0.0) == {ONE: -20e3}
    assert law.wanted(pool(20e3, unit(power_w=-5e3)), 1.0) == {ONE: -20e3}


def test_the_pid_filter_has_the_three_gains_and_no_integral_beyond_ten_limits() -> None:
    pid = PidFilter()
    limits = {"lowest_w": -100.0, "highest_w": 100.0}
    assert pid.filtered_w(0.0, 50.0, **limits) == pytest.approx(0.3 * 50.0)
    assert pid.filtered_w(10.0, 50.0, **limits) == pytest.approx(0.3 * 40.0 + 0.3 * 50.0 - 0.1 * 10.0)
    for _ in range(100):
        pid.filtered_w(0.0, 500.0, **limits)
    # 10 x 100 W of error were kept: 100 steps of -100 W would not suffice without the limit's end.
    for _ in range(10):
        pid.filtered_w(0.0, -500.0, **limits)
    assert pid.filtered_w(0.0, 10.0, **limits) == pytest.approx(0.3 * 10.0)
    assert pid.filtered_w(7.0, 7.0, **limits) == 7.0


def test_the_pid_filter_gets_there_in_time() -> None:
    law, power_w = OpenEms(PidFilter()), 0.0
    steps = []
    for second in range(40):
        wanted = law.wanted(pool(50e3, unit(power_w=power_w)), float(second))
        assert wanted is not None
        power_w = wanted[ONE]
        steps.append(power_w)
    assert abs(steps[0] + 15e3) < 1.0
    assert abs(steps[-1] + 50e3) < 1500.0


def test_opendtu_waits_for_pending_commands_and_for_a_meter_two_seconds_newer_than_the_status() -> None:
    law = OpenDtu(1000.0)
    assert law.wanted(pool(20e3, replace(unit(), obeyed_s=None)), 100.0) is None
    assert law.wanted(pool(20e3, unit(obeyed_s=98.0)), 100.0) is None
    assert law.wanted(pool(20e3, unit(obeyed_s=97.9)), 100.0) == {ONE: -20e3}
    assert law.wanted(pool(999.0), 100.0) is None
    told = replace(unit(TWO), obeyed_s=None)
    assert law.wanted(pool(20e3, held=(told,)), 100.0) is None, "a command is pending, though not to one that is free"


def test_opendtu_fills_the_largest_headroom_first() -> None:
    law = OpenDtu(1000.0)
    near, far = unit(ONE, power_w=-80e3), unit(TWO, power_w=-10e3)
    assert law.wanted(pool(110e3, near, far), 100.0) == {TWO: -30e3}
    assert law.wanted(pool(200e3, near, far), 100.0) == {TWO: -100e3, ONE: -100e3}
    assert law.wanted(pool(-20e3, near, far), 100.0) == {ONE: 30e3}, "most headroom upwards has the one far below"


def test_zendure_acts_at_once_on_a_reading_off_the_scatter_and_else_every_four_seconds() -> None:
    law = Zendure()
    assert law.wanted(pool(20.0), 0.0) is not None, "the first"
    assert law.wanted(pool(21.0), 1.0) is None, "for 2.2 s it only listens"
    assert law.wanted(pool(5e3), 2.0) is None
    assert law.wanted(pool(20.0), 3.0) is None, "5 kW has widened the scatter: 20 W is no news"
    assert law.wanted(pool(20.0), 4.1) is not None, "but 4 s have passed"
    law = Zendure()
    law.wanted(pool(20.0), 0.0)
    for at_s in (2.3, 3.0, 3.5):
        assert law.wanted(pool(20.0), at_s) is None
    assert law.wanted(pool(80.0), 3.9) == {ONE: -80.0}, "60 W off is more than 3.5 x 15 W"


def test_zendure_splits_by_rating_and_charge_and_leaves_five_watts_alone() -> None:
    law = Zendure()
    full, low = unit(ONE, soc_ratio=0.9), unit(TWO, soc_ratio=0.3)
    discharging = law.wanted(pool(40e3, full, low), 0.0)
    assert discharging == {ONE: pytest.approx(-30e3), TWO: pytest.approx(-10e3)}
    charging = Zendure().wanted(pool(-40e3, full, low), 0.0)
    assert charging == {ONE: pytest.approx(5e3), TWO: pytest.approx(35e3)}
    assert Zendure().wanted(pool(20e3, unit(power_w=-20e3 + 4.0)), 0.0) == {}
    tight = Zendure().wanted(pool(190e3, full, low), 0.0)
    assert tight is not None
    assert sum(tight.values()) == pytest.approx(-190e3), "what one cannot take, the other does"


def test_astrameter_credits_what_its_pool_has_changed() -> None:
    law = AstraMeter()
    law.wanted(pool(20e3), 0.0)
    # The pool has delivered; a meter that is late shows the same as before, and is trusted in part only.
    late = Pool(load_w=30e3, equalization_w=-10e3, measured_s=1.0, units=(unit(power_w=-10e3),))
    assert law.predicted_w(late) == pytest.approx(10e3 + 0.7 * 10e3)


def test_astrameters_trust_grows_on_one_side_and_is_halved_on_a_flip() -> None:
    law = AstraMeter()
    law.predicted_w(pool(0.0))
    law.predicted_w(pool(20e3))
    assert law.trust == pytest.approx(0.7)
    law.predicted_w(pool(60e3))
    assert law.trust == pytest.approx(0.9)
    law.predicted_w(pool(200e3))
    assert law.trust == pytest.approx(0.9)
    for flips, load_w in enumerate((-300e3, 600e3, -900e3), start=1):
        law.predicted_w(pool(load_w))
        assert law.trust == pytest.approx(max(0.15, 0.9 * 0.5**flips))
    before = law.trust
    law.predicted_w(pool(law.predicted_w(pool(0.0)) + 100.0))
    assert law.trust <= before + 0.2


def test_astrameters_pace_doubles_to_its_cap_while_the_unit_follows() -> None:
    law, power_w, steps_w = AstraMeter(), 0.0, []
    for second in range(6):
        wanted = law.wanted(pool(90e3, unit(power_w=power_w)), float(second))
        assert wanted is not None
        steps_w.append(power_w - wanted[ONE])
        power_w = wanted[ONE]
    assert steps_w == pytest.approx([1200.0, 2400.0, 4000.0, 4000.0, 4000.0, 4000.0]), "30 and 100 W, x 100 kW / 2.5 kW"
    stuck = AstraMeter()
    asked = [stuck.wanted(pool(90e3), float(second)) for second in range(4)]
    assert asked == [{ONE: pytest.approx(-1200.0)}] * 4


def test_astrameters_damping_takes_the_power_from_a_share_that_swings() -> None:
    law = AstraMeter()
    swings = []
    for second in range(12):
        wanted = law.wanted(pool(800.0 if second % 2 else -800.0), float(second))
        assert wanted is not None
        swings.append(abs(wanted[ONE]))
    assert swings[-1] < 0.2 * max(swings)


LONGER = SMALL.replace("duration_s = 120.0", "duration_s = 300.0")

VARIANT = """
[[variant]]
name = "{name}"
controller = "{kind}"
gated = {gated}
one_sign = {one_sign}
plans = false
"""


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Controller, bool], Result]:
    path = tmp_path_factory.mktemp("hall") / "small.toml"
    peers = [kind for kind in Controller if kind is not Controller.ZEROLOOP]
    variants = [
        VARIANT.format(name=f"{kind.value} {gated}", kind=kind.value, gated=str(gated).lower(), one_sign="false")
        for kind in peers
        for gated in (False, True)
    ]
    path.write_text(LONGER + "\n".join(variants), encoding="utf-8")
    results = compete(read(path), path.parent)
    return {(result.variant.controller, result.variant.gated): result for result in results}


@pytest.mark.parametrize("kind", [kind for kind in Controller if kind is not Controller.ZEROLOOP])
def test_every_peer_balances_and_gated_keeps_the_delay(
    contest: dict[tuple[Controller, bool], Result], kind: Controller
) -> None:
    native, gated = score(contest[kind, False], 0.0), score(contest[kind, True], 0.0)
    assert native.changes > 0
    assert native.mean_total_w < native.mean_load_w
    assert gated.violations.hasty_applied == 0
    assert gated.violations.outside_limits == native.violations.outside_limits == 0
    assert gated.changes_per_channel_hour <= 3600.0 / 15.0 + 12.0
    assert contest[kind, False].rejected == {}


def test_a_peer_of_one_sign_has_no_channels_against_each_other(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    variants = [VARIANT.format(name=one, kind="opendtu", gated="true", one_sign=one) for one in ("false", "true")]
    path.write_text(LONGER + "\n".join(variants), encoding="utf-8")
    free, one_sign = (score(result, 0.0) for result in compete(read(path), path.parent))
    assert free.violations.opposite_signs_s > 10.0
    assert one_sign.violations.opposite_signs_s < 2.0, "what is on its ramp when another is told"
    assert one_sign.mean_total_w < one_sign.mean_load_w
