"""Who may lead, at the very edges of the rules: one epoch higher or lower is one server too many or none."""

from dataclasses import replace

import pytest

from equalizer.fencing import (
    LARGEST_STEP,
    Fence,
    Identity,
    Standing,
    announced,
    echoed,
    opened,
    overwritten,
    raised,
    rejoined,
    standing_by,
    stood_down,
    taken_charge,
)
from schemas.messages import MAX_COUNT, SetpointEcho, SetpointReason, SetpointResult
from tests.unit.equalizer.test_fencing import announcement

OURS = Identity("ours", 1000.0)
OTHER = Identity("other", 500.0)
LEADING = taken_charge(opened(OURS, 6))
R = SetpointResult


def echo(
    epoch: int, server: str = "other", result: SetpointResult = R.APPLIED, reason: SetpointReason | None = None
) -> SetpointEcho:
    return SetpointEcho(server=server, epoch=epoch, seq=1, result=result, reason=reason, expires_in_s=None)


def test_a_server_that_listens_first_holds_the_stored_epoch_and_says_why_it_waits() -> None:
    fence = standing_by(OURS, 6)
    assert fence == Fence(OURS, 6, 6, standing=Standing.STANDBY, conflict=fence.conflict)
    assert fence.conflict == "listens whether another server is in charge"


def test_a_server_that_leaves_its_place_says_why() -> None:
    assert stood_down(LEADING, "no store") == replace(LEADING, standing=Standing.STANDBY, conflict="no store")


# ── what others announce ─────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_rival_that_is_known_can_leave() -> None:
    standby = announced(standing_by(OURS, 6), announcement(epoch=9), retained=False)
    assert standby.rival == OTHER
    assert announced(standby, announcement("third", 3, online=False), retained=False).rival == OTHER
    assert announced(standby, announcement(epoch=9, online=False), retained=False).rival is None


@pytest.mark.parametrize(
    ("rival", "highest_seen", "epoch", "followed"),
    [
        (None, 9, 8, True),  # whoever is there is better than nobody
        (Identity("third", 1.0), 9, 8, False),  # it was overtaken
        (Identity("third", 1.0), 9, 9, True),
        (Identity("third", 1.0), 9, 10, True),
    ],
)
def test_a_standby_follows_the_highest_epoch(
    rival: Identity | None, highest_seen: int, epoch: int, *, followed: bool
) -> None:
    standby = replace(standing_by(OURS, 6), rival=rival, highest_seen=highest_seen)
    after = announced(standby, announcement(epoch=epoch), retained=False)
    assert after.rival == (OTHER if followed else rival)
    assert after.highest_seen == max(highest_seen, epoch)


def test_of_two_with_one_epoch_exactly_one_yields() -> None:
    theirs = taken_charge(opened(OTHER, 6))
    ours = announced(LEADING, announcement("other", 7, started=500.0), retained=False)
    other = announced(theirs, announcement("ours", 7, started=1000.0), retained=False)
    assert sorted([ours.standing, other.standing]) == [Standing.IN_CHARGE, Standing.STANDBY]


# ── what channels echo ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "heard",
    [
        echo(7, "ours"),
        echo(7, "ours", R.CLAMPED),
        echo(7, "ours", R.EXPIRED),
        echo(7, "ours", R.REJECTED, SetpointReason.STALE_BASIS),
        echo(7, "ours", R.REJECTED, SetpointReason.ALARM),
        echo(9, "ours", R.REJECTED, SetpointReason.STALE_EPOCH),
        echo(7, "other", R.REJECTED, SetpointReason.EPOCH_CONFLICT),
        echo(7, "other"),
        echo(6, "other"),
    ],
    ids=lambda heard: f"{heard.server}-{heard.epoch}-{heard.result}-{heard.reason}",
)
def test_what_does_not_challenge_the_server_in_charge(heard: SetpointEcho) -> None:
    after = echoed(LEADING, heard, fresh=True)
    assert (after.standing, after.epoch, after.conflict, after.step) == (Standing.IN_CHARGE, 7, None, 1)


@pytest.mark.parametrize("reason", [SetpointReason.STALE_EPOCH, SetpointReason.EPOCH_CONFLICT])
def test_a_station_that_refuses_our_epoch_ends_our_charge(reason: SetpointReason) -> None:
    after = echoed(LEADING, echo(7, "ours", R.REJECTED, reason), fresh=True)
    assert after.standing is Standing.STANDBY
    assert after.conflict == f"a station refuses epoch 7: {reason}"
    assert after.step == 2
    joining = replace(LEADING, standing=Standing.JOINING)
    assert echoed(joining, echo(7, "ours", R.REJECTED, reason), fresh=True) == joining


def test_the_steps_upwards_double_and_stay_below_what_a_station_takes_for_a_jump() -> None:
    fence, steps = LEADING, []
    for _ in range(12):
        refused = echo(fence.epoch, "ours", R.REJECTED, SetpointReason.STALE_EPOCH)
        fence = taken_charge(rejoined(echoed(fence, refused, fresh=True)))
        steps.append(fence.step)
    assert steps == [2, 4, 8, 16, 32, 64, 128, 256, 512, LARGEST_STEP, LARGEST_STEP, LARGEST_STEP]


def test_a_higher_epoch_that_a_channel_has_just_obeyed_ends_our_charge_and_an_old_one_is_overtaken() -> None:
    obeyed = echoed(LEADING, echo(8), fresh=True)
    assert (obeyed.standing, obeyed.highest_seen) == (Standing.STANDBY, 8)
    found = echoed(LEADING, echo(8), fresh=False)
    assert (found.standing, found.epoch) == (Standing.IN_CHARGE, 9)
    joining = echoed(replace(LEADING, standing=Standing.JOINING), echo(8), fresh=True)
    assert (joining.standing, joining.epoch, joining.highest_seen) == (Standing.JOINING, 7, 8)


# ── the next epoch ───────────────────────────────────────────────────────────────────────────────────────────────


def test_an_epoch_is_raised_only_where_it_must_and_never_while_standing_by() -> None:
    assert raised(LEADING) == LEADING
    assert raised(replace(LEADING, highest_seen=7)).epoch == 8
    standby = replace(LEADING, standing=Standing.STANDBY, highest_seen=7)
    assert raised(standby) == standby


def test_whoever_comes_back_forgets_its_rival_and_is_above_all_that_it_has_seen() -> None:
    standby = replace(standing_by(OURS, 6), rival=OTHER, highest_seen=9)
    assert rejoined(standby) == Fence(OURS, epoch=10, highest_seen=9)
    assert rejoined(standby, 40).epoch == 40
    assert rejoined(replace(standby, epoch=0, highest_seen=0, step=0)).epoch == 0


@pytest.mark.parametrize(("epoch", "ours_again"), [(6, True), (7, True), (8, False)])
def test_a_late_announcement_of_another_is_put_right_up_to_our_own_epoch(epoch: int, *, ours_again: bool) -> None:
    assert overwritten(LEADING, announcement(epoch=epoch, online=False)) is ours_again


def test_an_epoch_that_leaves_no_number_above_it_is_nobodys_to_follow() -> None:
    fence = opened(OURS, 7)
    for message in (announcement("x", MAX_COUNT, online=False), announcement("x", 2**62 + 1)):
        fence = raised(announced(fence, message, retained=True))
    fence = raised(echoed(fence, echo(epoch=MAX_COUNT), fresh=False))
    assert fence.epoch == 8
    assert rejoined(announced(taken_charge(fence), announcement("x", MAX_COUNT), retained=False)).epoch == 9
    assert raised(announced(fence, announcement("x", 2**62), retained=True)).epoch == 2**62 + 1
