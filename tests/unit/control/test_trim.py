"""The trim's pairing of readings with what the channels said at their time."""

from dataclasses import replace

import pytest

from equalizer.control.book import LoopBook
from equalizer.control.image import LoopImage
from equalizer.control.settings import ControlSettings
from equalizer.control.trim import READINGS, Trim, advance

EMPTY = LoopBook(ControlSettings()).image(0.0)
SETTINGS = ControlSettings(meter_gain=0.1)


def image(total_w: float, meter_w: float | None = None, heard_s: float | None = None) -> LoopImage:
    return replace(EMPTY, total_power_w=total_w, meter_power_w=meter_w, meter_heard_s=heard_s)


def played(totals_w: list[float], *, meter_late_s: int, every_s: int, settings: ControlSettings = SETTINGS) -> Trim:
    """A total each second; the meter shows that of some seconds before, now and then."""
    trim, newest = Trim(), (totals_w[0], 0.0)
    for second, total_w in enumerate(totals_w):
        if second % every_s == 0:
            newest = (totals_w[max(second - meter_late_s, 0)], float(second))
        trim = advance(trim, image(total_w, *newest), settings, second + 0.01, held=False)
    return trim


def test_an_old_reading_is_not_held_against_the_present() -> None:
    totals_w = [0.0 if second % 8 < 2 else 20e3 for second in range(400)]
    assert played(totals_w, meter_late_s=0, every_s=8).power_w == pytest.approx(0.0, abs=1.0)


def test_a_known_delay_is_taken_into_account() -> None:
    totals_w = [500.0 * (second % 40) for second in range(400)]
    unknown = played(totals_w, meter_late_s=3, every_s=1)
    known = played(totals_w, meter_late_s=3, every_s=1, settings=replace(SETTINGS, meter_delay_s=3.0))
    assert abs(known.power_w) < 1.0
    assert abs(unknown.power_w) > 1000.0


def test_what_came_while_the_loop_was_frozen_is_not_held_against_what_was_before() -> None:
    trim = Trim()
    for second in range(2 * READINGS):
        trim = advance(trim, image(0.0, 0.0, float(second)), SETTINGS, second + 0.01, held=False)
    for second in range(100, 100 + 2 * READINGS):  # the control comes back to a loop that draws 20 kW more
        trim = advance(trim, image(20e3, 20e3, second - 0.5), SETTINGS, second + 0.01, held=False)
    assert trim.power_w == pytest.approx(0.0, abs=1.0)


def test_no_single_step_goes_beyond_the_gain() -> None:
    trim = Trim()
    for second in range(200):
        before_w = trim.power_w
        trim = advance(trim, image(0.0, 1000.0, float(second)), SETTINGS, second + 0.01, held=False)
        assert 0.0 <= trim.power_w - before_w <= 0.1 * (1000.0 - before_w) + 1e-9
    assert trim.power_w == pytest.approx(1000.0, abs=1.0)
