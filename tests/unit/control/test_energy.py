"""The energy account."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equalizer.control.book import LoopBook
from equalizer.control.energy import MAX_GAP_S, EnergyBook, advance
from equalizer.control.image import LoopImage
from equalizer.control.settings import ControlSettings

EMPTY = LoopBook(ControlSettings()).image(0.0)


def image(load_w: float, equalization_w: float) -> LoopImage:
    return replace(
        EMPTY, load_power_w=load_w, equalization_power_w=equalization_w, total_power_w=load_w + equalization_w
    )


def test_what_balancing_keeps_from_the_grid_is_avoided() -> None:
    account = advance(EnergyBook(), image(36_000.0, -30_000.0), 0.0)
    for second in range(1, 11):
        account = advance(account, image(36_000.0, -30_000.0), float(second))
    assert account.import_wh == pytest.approx(16.6667, abs=1e-3)
    assert account.export_wh == 0.0
    assert account.unbalanced_wh == pytest.approx(100.0)
    assert account.avoided_wh == pytest.approx(83.3333, abs=1e-3)


def test_feeding_back_is_export() -> None:
    account = advance(advance(EnergyBook(), image(-7200.0, 0.0), 0.0), image(0.0, 0.0), 5.0)
    assert (account.import_wh, account.export_wh, account.avoided_wh) == (0.0, 10.0, 0.0)


def test_a_long_gap_is_not_taken_for_known() -> None:
    account = advance(advance(EnergyBook(), image(3600.0, 0.0), 0.0), image(3600.0, 0.0), 1e6)
    assert account.import_wh == pytest.approx(MAX_GAP_S)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), max_size=30))
def test_what_was_exchanged_and_avoided_is_what_would_have_been(history: list[tuple[float, float, float]]) -> None:
    account, now_s = EnergyBook(), 0.0
    for seconds, load_w, equalization_w in history:
        now_s += seconds
        following = advance(account, image(load_w, equalization_w), now_s)
        assert following.import_wh >= account.import_wh
        assert following.export_wh >= account.export_wh
        account = following
    exchanged_wh = account.import_wh + account.export_wh
    assert exchanged_wh + account.avoided_wh == pytest.approx(account.unbalanced_wh, abs=1e-6)
