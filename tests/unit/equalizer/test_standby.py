"""Whether the server in charge lives, told from what comes; and what it has asked of the channels."""

from dataclasses import replace
from math import inf

import pytest

from equalizer import standby
from equalizer.control.adoption import adopt
from equalizer.control.holds import due_s, sent, unlock_s
from equalizer.control.image import EqualizationView
from equalizer.control.overheard import Overheard, hold, overhear
from equalizer.control.settings import LOCK_MARGIN_S, ControlSettings
from equalizer.control.state import Hold, Level
from equalizer.fencing import Identity
from equalizer.standby import LEFT_GRACE_S, Timing, Watch, is_alive, vacant_s
from schemas.messages import (
    Basis,
    EnergyAccount,
    LoopBalance,
    Phase,
    Presence,
    ServerAnnouncement,
    Setpoint,
    SetpointEcho,
    SetpointResult,
    SetpointStep,
)
from tests.announcements import ANNOUNCED

TIMING = Timing(enabled=True, lost_s=5.0, settle_s=0.5)
LEADER = Identity("a", 500.0)


def announcement(
    heartbeat: int | None = 1,
    *,
    server: str = "a",
    started: float = 500.0,
    epoch: int = 7,
    online: bool = True,
    phase: Phase = Phase.BALANCING,
) -> ServerAnnouncement:
    return ANNOUNCED.model_copy(
        update={
            "server": server,
            "status": Presence.ONLINE if online else Presence.OFFLINE,
            "epoch": epoch,
            "phase": phase,
            "started_unix_time_s": started,
            "heartbeat": heartbeat,
        }
    )


def balance(seq: int, *, server: str = "a", epoch: int = 7) -> LoopBalance:
    return LoopBalance(
        server=server,
        epoch=epoch,
        seq=seq,
        unix_time_s=0.0,
        phase=Phase.BALANCING,
        total_power_w=0.0,
        load_power_w=0.0,
        equalization_power_w=0.0,
        target_power_w=0.0,
        charging_power_w=0.0,
        discharging_power_w=0.0,
        unknown_power_w=0.0,
        shortfall_w=0.0,
        stations_online=0,
        channels=0,
        channels_stale=0,
        equalization_channels=0,
        setpoint_changes=0,
        energy=EnergyAccount(import_wh=0.0, export_wh=0.0, unbalanced_wh=0.0, avoided_wh=0.0),
    )


def watching(now_s: float = 100.0) -> Watch:
    return standby.begun(Watch(), now_s)


def followed() -> Watch:
    return standby.announced(watching(), announcement(), retained=False, now_s=100.0)


def test_an_empty_place_is_taken_once_it_has_settled() -> None:
    assert vacant_s(watching(), TIMING) == 100.5


def test_a_retained_announcement_proves_no_life_and_is_waited_for() -> None:
    watch = standby.announced(watching(), announcement(), retained=True, now_s=100.1)
    assert watch.leader == LEADER
    assert not is_alive(watch, TIMING, 100.2)
    assert vacant_s(watch, TIMING) == 105.1


def test_every_heartbeat_puts_off_the_takeover() -> None:
    watch = followed()
    for heartbeat in range(2, 20):
        watch = standby.announced(watch, announcement(heartbeat), retained=False, now_s=99.0 + heartbeat)
        assert is_alive(watch, TIMING, 99.5 + heartbeat)
    assert vacant_s(watch, TIMING) == 118.0 + 5.0


@pytest.mark.parametrize("heartbeat", [0, 1])
def test_an_old_heartbeat_proves_nothing(heartbeat: int) -> None:
    watch = standby.announced(followed(), announcement(heartbeat), retained=False, now_s=104.0)
    assert vacant_s(watch, TIMING) == 105.0


def test_a_server_without_heartbeats_lives_by_its_balance() -> None:
    watch = standby.announced(watching(), announcement(None), retained=True, now_s=100.0)
    watch = standby.balanced(watch, balance(10), retained=False, now_s=101.0)
    assert vacant_s(watch, TIMING) == 106.0
    again = standby.balanced(watch, balance(10), retained=False, now_s=103.0)
    retained = standby.balanced(watch, balance(11), retained=True, now_s=103.0)
    foreign = standby.balanced(watch, balance(11, server="b"), retained=False, now_s=103.0)
    overtaken = standby.balanced(watch, balance(11, epoch=6), retained=False, now_s=103.0)
    assert again == retained == foreign == overtaken == watch


def test_a_balance_alone_tells_that_somebody_is_in_charge() -> None:
    watch = standby.balanced(watching(), balance(3), retained=False, now_s=101.0)
    assert is_alive(watch, TIMING, 102.0)


def test_one_that_says_goodbye_is_followed_at_once() -> None:
    watch = standby.announced(followed(), announcement(9, online=False), retained=False, now_s=101.0)
    assert vacant_s(watch, TIMING) == 101.0
    assert not is_alive(watch, TIMING, 101.0)


@pytest.mark.parametrize("heartbeat", [None, 0, 1])
def test_one_whose_will_says_that_it_is_gone_may_contradict(heartbeat: int | None) -> None:
    watch = standby.announced(followed(), announcement(heartbeat, online=False), retained=False, now_s=101.0)
    assert vacant_s(watch, TIMING) == 101.0 + LEFT_GRACE_S
    assert not is_alive(watch, TIMING, 101.0)


def test_a_goodbye_that_the_broker_has_kept_may_be_old() -> None:
    watch = standby.announced(followed(), announcement(9, online=False), retained=True, now_s=101.0)
    assert vacant_s(watch, TIMING) == 101.0 + LEFT_GRACE_S


def test_one_that_contradicts_its_late_will_stays_in_charge() -> None:
    watch = standby.announced(followed(), announcement(None, online=False), retained=False, now_s=101.0)
    watch = standby.announced(watch, announcement(2), retained=False, now_s=101.1)
    assert vacant_s(watch, TIMING) == 106.1


def test_the_late_will_of_another_means_nothing() -> None:
    will = announcement(None, server="b", online=False)
    assert standby.announced(followed(), will, retained=False, now_s=101.0) == followed()


@pytest.mark.parametrize("message", [announcement(9, server="b", epoch=6), announcement(9, phase=Phase.STANDBY)])
def test_one_that_was_overtaken_or_stands_by_is_not_in_charge(message: ServerAnnouncement) -> None:
    assert standby.announced(followed(), message, retained=False, now_s=104.0) == followed()


def test_listening_anew_waits_anew() -> None:
    watch = standby.begun(followed(), 200.0)
    assert vacant_s(watch, TIMING) == 205.0
    assert not is_alive(watch, TIMING, 200.0)


# ── what the server in charge has asked of the channels ──────────────────────────────────────────────────────────────


def setpoint(seq: int, *powers: tuple[float, float], epoch: int = 7) -> Setpoint:
    steps = tuple(SetpointStep(after_s=after_s, power_w=power_w) for after_s, power_w in powers)
    basis = Basis(boot_id="b", seq=seq)
    return Setpoint(server="a", epoch=epoch, seq=seq, basis=basis, ttl_s=30.0, steps=steps, unix_time_s=0.0)


def view(power_w: float, *, seq: int, applied_w: float | None = None) -> EqualizationView:
    return EqualizationView(
        key=("s", "1"),
        boot_id="b",
        seq=50,
        heard_s=130.0,
        fresh=True,
        station_online=True,
        power_w=power_w,
        charge_limit_w=60_000.0,
        discharge_limit_w=60_000.0,
        ramp_w_per_s=1_000.0,
        applied_w=power_w if applied_w is None else applied_w,
        last=SetpointEcho(server="a", epoch=7, seq=seq, result=SetpointResult.APPLIED),
        soc_ratio=0.5,
        alarm=False,
    )


SETTINGS = ControlSettings()


def heard(*setpoints: tuple[float, Setpoint]) -> Overheard:
    known: Overheard | None = None
    for now_s, message in setpoints:
        known = overhear(known, message, now_s)
    assert known is not None
    return known


def test_a_channel_whose_last_change_was_heard_is_free_when_its_own_delay_is_over() -> None:
    known = heard(
        (100.0, setpoint(1, (0.0, 5_000.0))),
        (110.0, setpoint(2, (0.0, -9_000.0))),
        (115.0, setpoint(3, (0.0, -9_000.2))),
    )
    held = adopt(view(-9_000.2, seq=3), SETTINGS, 130.0, hold(known))
    assert unlock_s(held, SETTINGS) == 110.0 + SETTINGS.delay_s + LOCK_MARGIN_S
    assert due_s(held, SETTINGS) == -inf


def test_a_setpoint_that_was_missed_may_have_been_a_change() -> None:
    known = heard((100.0, setpoint(1, (0.0, 5_000.0))), (120.0, setpoint(3, (0.0, 5_000.0))))
    assert known.changed_s == 120.0


def test_a_channel_that_obeys_something_unheard_was_perhaps_changed_just_now() -> None:
    known = heard((100.0, setpoint(1, (0.0, 5_000.0))), (105.0, setpoint(2, (0.0, 5_000.0))))
    held = adopt(view(7_000.0, seq=3), SETTINGS, 130.0, hold(known))
    assert (held.changed_s, held.levels[0].power_w) == (130.0, 7_000.0)


def test_a_ramp_on_its_way_goes_on_to_its_end() -> None:
    known = heard((100.0, setpoint(1, (0.0, 0.0))), (128.0, setpoint(2, (0.0, 30_000.0))))
    held = adopt(view(2_000.0, seq=2), SETTINGS, 130.0, hold(known))
    assert [level.power_w for level in held.levels] == [30_000.0]
    assert held.settled_s > 158.0


def test_an_order_that_was_answered_while_nobody_listened_goes_on_to_its_end() -> None:
    sent = Hold(
        levels=(Level(103.0, 103.0, -23_000.0), Level(105.5, 105.5, -3_500.0)),
        boot_id="b",
        changed_s=105.5,
        prior_changed_s=90.0,
        sent_s=103.0,
        basis_seq=40,
        echo=(7, 2),
        answered=False,
    )
    held = adopt(view(-11_000.0, seq=3), SETTINGS, 106.0, sent)  # the telemetry is of the middle of the ramp
    assert ([level.power_w for level in held.levels], held.changed_s) == ([-3_500.0], 105.5)
    assert (held.answered, held.echo) == (True, (7, 3))
    elsewhere = adopt(view(-11_000.0, seq=3), SETTINGS, 106.0, replace(sent, echo=(6, 2)))
    assert (elsewhere.levels[0].power_w, elsewhere.changed_s) == (-11_000.0, 106.0)


def test_a_channel_on_its_way_to_rest_after_its_lease_is_told_to_go_there() -> None:
    last = SetpointEcho(server="a", epoch=7, seq=3, result=SetpointResult.EXPIRED)
    held = adopt(replace(view(-8_000.0, seq=3), last=last), SETTINGS, 130.0)
    assert (held.levels[0].power_w, due_s(held, SETTINGS)) == (0.0, -inf)


def test_what_was_sent_ahead_still_comes() -> None:
    known = heard((100.0, setpoint(1, (0.0, 4_000.0))), (129.0, setpoint(2, (0.0, 4_000.0), (3.0, -6_000.0))))
    held = adopt(view(4_000.0, seq=2), SETTINGS, 130.0, hold(known))
    assert [(level.at_s, level.power_w) for level in held.levels] == [(129.0, 4_000.0), (132.0, -6_000.0)]
    assert held.changed_s == 132.0
    again = overhear(known, setpoint(3, (0.0, 4_000.0), (1.1, -6_000.0)), 131.0)
    assert again.changed_s == pytest.approx(132.1)
    called_off = overhear(known, setpoint(3, (0.0, 4_000.0)), 131.0)
    assert called_off.changed_s == 100.0


def test_what_was_sent_ahead_and_overheard_late_has_come_where_the_channel_says_so() -> None:
    # Trial 1795440070: a standby heard nothing for seconds, and then all at once.
    known = heard((129.0, setpoint(1, (0.0, 4_000.0))), (129.0, setpoint(2, (0.0, 4_000.0), (3.0, -6_000.0))))
    held = adopt(view(-6_000.0, seq=2), SETTINGS, 130.0, hold(known))
    assert ([level.power_w for level in held.levels], held.changed_s) == ([-6_000.0], 132.0)


def test_a_setpoint_sent_ahead_to_rest_is_renewed_until_it_comes() -> None:
    known = heard((100.0, setpoint(1, (0.0, 4_000.0))), (129.0, setpoint(2, (0.0, 4_000.0), (9.0, 0.0))))
    assert due_s(adopt(view(4_000.0, seq=2), SETTINGS, 130.0, hold(known)), SETTINGS) == -inf


def test_the_first_order_after_a_server_that_fell_silent_is_a_change_and_nothing_sent_ahead_is_kept() -> None:
    # Trial 1795421960: its last orders had waited in a network that was stuck, and came just before those of the next.
    steady = (100.0, setpoint(1, (0.0, 4_000.0)))
    ahead = (129.0, setpoint(2, (0.0, 4_000.0), (9.0, -6_000.0)))
    soon = (129.0, setpoint(2, (0.0, 4_000.0), (1.5, -6_000.0)))
    for known, powers_w, changed_s in (
        (heard(steady), [4_000.0], 130.0),
        (heard(steady, ahead), [4_000.0], 130.0),
        (heard(steady, soon), [4_000.0, -6_000.0], 130.5),
    ):
        held = adopt(view(4_000.0, seq=known.seq), SETTINGS, 130.0, hold(known, in_doubt=True))
        assert ([level.power_w for level in held.levels], held.changed_s) == (powers_w, changed_s)
        assert sent(held, view(4_000.0, seq=known.seq), 131.0).changed_s == 131.0, "from when it goes out"
    taken_leave = adopt(view(4_000.0, seq=1), SETTINGS, 130.0, hold(heard(steady)))
    assert sent(taken_leave, view(4_000.0, seq=1), 130.0).changed_s == 100.0
