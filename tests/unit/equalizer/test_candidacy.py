"""Whether a server should be in charge: its claim, its doubts, its namesakes."""

from dataclasses import replace

import pytest

from equalizer.candidacy import Candidacy
from equalizer.control.book import LoopBook
from equalizer.control.image import LoopImage
from equalizer.control.settings import ControlSettings
from equalizer.standby import Timing
from tests.unit.equalizer.test_standby import announcement, view

TIMING = Timing(enabled=True, lost_s=5.0, settle_s=0.5)


def candidacy(*, stored: bool = False) -> Candidacy:
    return Candidacy(TIMING, stored=stored, now_s=100.0)


def image(heard_s: float, *, fresh: bool = True) -> LoopImage:
    led = replace(view(0.0, seq=1), heard_s=heard_s, fresh=fresh)
    return replace(LoopBook(ControlSettings()).image(100.0), equalization=(led,))


def test_a_claim_settles_once_it_came_back_stood_and_all_have_spoken() -> None:
    one = candidacy()
    one.claims(8, 200.0)
    assert not one.is_settled(200.4, image(200.3), came_back=True)
    assert not one.is_settled(200.6, image(200.3), came_back=False)
    assert not one.is_settled(200.6, image(199.9), came_back=True)
    assert one.is_settled(200.6, image(200.3), came_back=True)
    assert one.is_settled(200.6, image(199.9, fresh=False), came_back=True)


def test_a_claim_that_never_comes_back_is_given_up() -> None:
    one = candidacy()
    one.claims(8, 200.0)
    assert one.doubt(204.9, came_back=False, hears=True) is None
    assert one.doubt(205.1, came_back=False, hears=True) == "its claim has not come back"


def test_a_store_makes_a_claim_good_that_the_cluster_holds_up() -> None:
    one = candidacy(stored=True)
    one.claims(8, 200.0)
    assert one.doubt(205.1, came_back=False, hears=True) is None
    assert one.is_settled(200.6, image(200.3), came_back=False)


def test_whose_own_word_does_not_come_back_cannot_lead() -> None:
    one = candidacy()
    one.returned(110.0)
    assert one.doubt(115.0, came_back=True, hears=True) is None
    assert one.doubt(116.0, came_back=True, hears=True) == "its own announcements have not come back for 6 s"


@pytest.mark.parametrize(("hears", "doubts"), [(True, False), (False, True)])
def test_on_a_cluster_any_telemetry_proves_that_it_hears(hears: bool, doubts: bool) -> None:
    one = candidacy(stored=True)
    one.returned(110.0)
    assert (one.doubt(116.0, came_back=True, hears=hears) is not None) is doubts


def test_one_that_stepped_down_lets_others_come_first() -> None:
    one = candidacy()
    one.steps_down(120.0)
    assert one.vacant_s() == 125.0
    assert one.is_late(124.0)
    assert not one.is_late(125.0)
    one.claims(9, 126.0)
    assert not one.is_late(126.0)


def test_a_place_is_looked_at_again_in_time_and_never_at_once() -> None:
    one = candidacy()
    one.announced(announcement(), retained=False, now_s=100.0)
    assert one.look_again_s(101.0) == 102.0
    assert one.look_again_s(104.4) == 105.0
    assert one.look_again_s(108.0) == 108.1


def test_a_namesake_lives_that_is_heard_twice_and_apart() -> None:
    one = candidacy()
    assert [one.has_living_namesake(at_s) for at_s in (100.0, 100.2, 101.0)] == [False, False, True]
    # Two remains, days apart, are no life.
    assert not one.has_living_namesake(200_000.0)


@pytest.mark.parametrize(("says_goodbye", "fell_silent"), [(True, False), (False, True)])
def test_a_claim_remembers_whether_the_one_before_fell_silent(says_goodbye: bool, fell_silent: bool) -> None:
    one = candidacy()
    one.announced(announcement(1), retained=False, now_s=110.0)
    if says_goodbye:
        one.announced(announcement(2, online=False), retained=False, now_s=111.0)
    one.claims(8, 120.0)
    assert one.fell_silent is fell_silent
