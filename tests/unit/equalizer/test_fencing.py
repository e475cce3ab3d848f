"""One server is in charge, whoever starts, returns or shows up."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    taken_charge,
)
from schemas.messages import (
    Presence,
    ServerAnnouncement,
    SetpointEcho,
    SetpointReason,
    SetpointResult,
)
from tests.announcements import ANNOUNCED

OURS = Identity("ours", 1000.0)


def announcement(
    server: str = "other", epoch: int = 7, *, started: float = 500.0, online: bool = True
) -> ServerAnnouncement:
    status = Presence.ONLINE if online else Presence.OFFLINE
    return ANNOUNCED.model_copy(
        update={"server": server, "epoch": epoch, "started_unix_time_s": started, "status": status}
    )


def echo(server: str, epoch: int, reason: SetpointReason | None = None) -> SetpointEcho:
    result = SetpointResult.APPLIED if reason is None else SetpointResult.REJECTED
    return SetpointEcho(server=server, epoch=epoch, seq=1, result=result, reason=reason)


def in_charge(epoch: int) -> Fence:
    return taken_charge(opened(OURS, epoch - 1))


def test_a_new_server_takes_one_more_than_it_has_stored() -> None:
    assert opened(OURS, 41).epoch == 42


def test_a_starting_server_takes_one_more_than_the_retained_announcement() -> None:
    fence = raised(announced(opened(OURS, 0), announcement(epoch=7), retained=True))
    assert (fence.epoch, fence.standing) == (8, Standing.JOINING)


def test_a_starting_server_takes_one_more_than_the_stations_echo() -> None:
    fence = raised(echoed(opened(OURS, 3), echo("gone", 11), fresh=False))
    assert (fence.epoch, fence.standing) == (12, Standing.JOINING)


def test_a_refused_setpoint_of_another_is_no_epoch_that_anybody_took() -> None:
    jump = echo("mad", 900_000, SetpointReason.EPOCH_JUMP)
    assert raised(echoed(opened(OURS, 3), jump, fresh=False)).epoch == 4


def test_a_newer_server_sends_the_older_into_standby() -> None:
    fence = announced(in_charge(7), announcement(epoch=8), retained=False)
    assert fence.standing is Standing.STANDBY
    assert fence.conflict == "server other announces epoch 8, ours is 7"
    assert fence.rival == Identity("other", 500.0)


def test_a_second_process_of_the_same_name_is_another_server() -> None:
    fence = announced(in_charge(7), announcement("ours", 8, started=2000.0), retained=False)
    assert fence.standing is Standing.STANDBY


def test_its_own_announcement_is_none_of_anothers() -> None:
    fence = in_charge(7)
    assert announced(fence, announcement("ours", 7, started=1000.0), retained=False) == fence


def test_after_a_lost_connection_the_server_that_took_over_stays_in_charge() -> None:
    assert announced(in_charge(7), announcement(epoch=8), retained=True).standing is Standing.STANDBY


def test_a_station_that_obeys_a_higher_epoch_sends_the_server_into_standby() -> None:
    fence = echoed(in_charge(7), echo("other", 9), fresh=True)
    assert fence.standing is Standing.STANDBY
    assert fence.conflict is not None


def test_a_late_station_with_an_old_higher_epoch_only_raises_it() -> None:
    fence = echoed(in_charge(7), echo("long-gone", 9), fresh=False)
    assert (fence.standing, fence.epoch) == (Standing.IN_CHARGE, 10)


def test_it_returns_when_the_other_has_gone_with_a_higher_epoch() -> None:
    fence = announced(in_charge(7), announcement(epoch=8), retained=False)
    fence = announced(fence, announcement(epoch=8, online=False), retained=False)
    assert fence.rival is None
    back = rejoined(fence)
    assert (back.standing, back.epoch, back.conflict) == (Standing.JOINING, 9, None)


def test_an_epoch_refused_as_stale_is_climbed_over_in_growing_steps() -> None:
    fence, epochs = in_charge(1), [1]
    for _ in range(14):
        refused = echoed(fence, echo("ours", fence.epoch, SetpointReason.STALE_EPOCH), fresh=True)
        assert refused.standing is Standing.STANDBY
        fence = taken_charge(rejoined(refused))
        epochs.append(fence.epoch)
    steps = [after - before for before, after in pairwise(epochs)]
    assert steps == sorted(steps)
    assert max(steps) == LARGEST_STEP
    assert epochs[-1] > 4000


@pytest.mark.parametrize(
    ("message", "again"),
    [
        (announcement("ours", 7, started=1000.0, online=False), True),
        (announcement("ours", 7, started=1000.0), False),
        (announcement(epoch=6, online=False), True),
        (announcement(epoch=6), True),
        (announcement(epoch=9), False),
    ],
)
def test_a_late_will_or_an_older_server_is_overruled(message: ServerAnnouncement, again: bool) -> None:
    assert overwritten(in_charge(7), message) is again


def test_a_server_in_standby_leaves_the_topic_to_the_other() -> None:
    fence = announced(in_charge(7), announcement(epoch=8), retained=False)
    assert not overwritten(fence, announcement("ours", 7, started=1000.0, online=False))


@given(st.integers(1, 5), st.integers(1, 5), st.floats(0.0, 10.0), st.floats(0.0, 10.0))
def test_of_two_that_see_each_other_exactly_one_stays(a_epoch: int, b_epoch: int, a_s: float, b_s: float) -> None:
    a, b = Identity("a", a_s), Identity("b", b_s)
    fences = [taken_charge(opened(a, a_epoch - 1)), taken_charge(opened(b, b_epoch - 1))]
    said = [announcement(f.own.server, f.epoch, started=f.own.started_unix_time_s) for f in fences]
    after = [announced(fences[0], said[1], retained=False), announced(fences[1], said[0], retained=False)]
    assert sorted(f.standing for f in after) == [Standing.IN_CHARGE, Standing.STANDBY]
    winner, loser = sorted(after, key=lambda f: f.standing)
    assert winner.epoch > loser.epoch


@given(
    st.lists(
        st.one_of(
            st.builds(announcement, st.sampled_from(["a", "b"]), st.integers(0, 9), online=st.booleans()),
            st.builds(
                echo, st.sampled_from(["a", "ours"]), st.integers(0, 9), st.sampled_from([None, *SetpointReason])
            ),
        )
    ),
    st.booleans(),
)
def test_the_own_epoch_never_falls(messages: list[ServerAnnouncement | SetpointEcho], flag: bool) -> None:
    fence = opened(OURS, 2)
    for message in messages:
        before = fence
        if isinstance(message, ServerAnnouncement):
            fence = raised(announced(fence, message, retained=flag))
        else:
            fence = raised(echoed(fence, message, fresh=flag))
        assert fence.epoch >= before.epoch
        assert (fence.standing is Standing.STANDBY) == (fence.conflict is not None)
        fence = taken_charge(fence) if fence.standing is Standing.JOINING else replace(fence)
