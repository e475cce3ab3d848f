"""When an imbalance counts."""

import pytest

from equalizer.control.regulator import STILL, Confirmation, confirm, is_engaged
from equalizer.control.settings import ControlSettings

SETTINGS = ControlSettings(delay_s=10.0, engage_w=1000.0, release_w=300.0)


def confirmed(*history: tuple[float, float]) -> float | None:
    """Return what is confirmed after a history of time and imbalance."""
    confirmation: Confirmation = STILL
    stood_w = None
    for now_s, imbalance_w in history:
        confirmation, stood_w = confirm(confirmation, imbalance_w, SETTINGS, now_s)
    return stood_w


@pytest.mark.parametrize(
    ("history", "stood_w"),
    [
        ([(0.0, 2000.0), (9.9, 2000.0)], None),
        ([(0.0, 2000.0), (10.0, 2000.0)], 2000.0),
        ([(0.0, 900.0), (10.0, 900.0), (20.0, 900.0)], None),
        ([(0.0, 2000.0), (5.0, 200.0), (6.0, 2000.0), (12.0, 2000.0)], None),
        ([(0.0, 2000.0), (6.0, 2000.0), (8.0, -2000.0), (10.0, -2000.0)], None),  # it is on the other side of late
        ([(0.0, 2000.0), (2.0, -4000.0), (5.0, -4000.0), (10.0, -4000.0)], -4000.0),  # it did not rest between
        ([(0.0, 2000.0), (3.0, 2000.0), (5.0, 2000.0), (8.0, 6000.0), (9.0, 6000.0), (10.0, 6000.0)], 5000.0),
        ([(0.0, 2000.0), (5.0, -2000.0), (15.0, -2000.0)], -2000.0),
        ([(0.0, 2000.0), (4.0, 700.0), (10.0, 2000.0)], 2000.0),  # between the two thresholds: it still stands
        ([(0.0, 2000.0), (7.0, 3000.0), (8.0, 3000.0), (9.0, 3000.0), (10.0, 90_000.0)], 3000.0),
    ],
)
def test_what_is_confirmed(history: list[tuple[float, float]], stood_w: float | None) -> None:
    assert confirmed(*history) == stood_w


@pytest.mark.parametrize(
    ("was", "mismatch_w", "engaged"),
    [(False, 900.0, False), (False, -1100.0, True), (True, 400.0, True), (True, -200.0, False)],
)
def test_the_hysteresis(was: bool, mismatch_w: float, engaged: bool) -> None:
    assert is_engaged(was, mismatch_w, SETTINGS) is engaged
