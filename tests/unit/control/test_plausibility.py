"""What cannot be true is not counted, and told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equalizer.control.book import LoopBook
from equalizer.control.plausibility import Doubt, Plausibility, doubt
from equalizer.control.settings import ControlSettings
from schemas.messages import ChannelTelemetry, Presence, StationStatus, StepType, WorkStatus

LIMITS = Plausibility(tolerance_ratio=0.1, tolerance_w=100.0, rating_w=50_000.0)


@pytest.mark.parametrize(
    ("power_w", "voltage_v", "current_a", "expected"),
    [
        (20_000.0, 400.0, 50.0, None),
        (-20_000.0, 400.0, -50.0, None),
        (20_000.0, 400.0, 46.0, None),
        (0.0, 400.0, 0.2, None),
        (10_000.0, 400.0, 50.0, Doubt.POWER_MISMATCH),
        (20_000.0, 400.0, -50.0, Doubt.POWER_MISMATCH),
        (0.0, 400.0, 50.0, Doubt.POWER_MISMATCH),
        (51_000.0, 400.0, 127.5, Doubt.BEYOND_RATING),
        (20_000.0, 1e200, 1e200, Doubt.POWER_MISMATCH),
        (0.0, 1e308, 1e308, Doubt.POWER_MISMATCH),
    ],
)
def test_power_is_held_against_voltage_current_and_rating(
    power_w: float, voltage_v: float, current_a: float, expected: Doubt | None
) -> None:
    assert doubt(power_w, voltage_v, current_a, LIMITS) is expected


@given(st.floats(-1e4, 1e4), st.floats(1.0, 1000.0))
def test_a_true_measurement_is_never_doubted(power_w: float, voltage_v: float) -> None:
    assert doubt(power_w, voltage_v, power_w / voltage_v, LIMITS) is None


class Hall:
    """A book with one station of one channel."""

    def __init__(self) -> None:
        self.book = LoopBook(ControlSettings())
        self.now_s = 0.0
        self.seq = 0
        status = StationStatus(
            status=Presence.ONLINE, boot_id="a", version="0", driver="test", channels=("1",), unix_time_s=0.0
        )
        self.book.status("s", status, 0.0)

    def say(self, power_w: float, current_a: float, *, retained: bool = False) -> None:
        """Let a second pass and have the channel speak, at 400 V."""
        self.now_s += 1.0
        self.seq += 1
        telemetry = ChannelTelemetry(
            boot_id="a",
            seq=self.seq,
            unix_time_s=0.0,
            work_status=WorkStatus.WORKING,
            step_type=StepType.CP_CHG,
            step_id=1,
            cycle_count=1,
            voltage_v=400.0,
            current_a=current_a,
            power_w=power_w,
            battery_connected=True,
        )
        self.book.telemetry("s", "1", telemetry, retained=retained, now_s=self.now_s)

    @property
    def seen(self) -> tuple[float, float, int]:
        """Total, unknown power, and how many are doubted."""
        image = self.book.image(self.now_s)
        return image.total_power_w, image.unknown_power_w, len(self.book.doubts)


def test_once_is_no_lie_twice_is_unknown_and_the_truth_is_believed_again() -> None:
    hall = Hall()
    hall.say(20_000.0, 50.0)
    hall.say(10_000.0, 50.0)
    assert hall.seen == (20_000.0, 0.0, 0)
    hall.say(10_000.0, 50.0)
    assert hall.seen == (20_000.0, 20_000.0, 1)
    assert hall.book.doubts == {("s", "1"): Doubt.POWER_MISMATCH}
    hall.say(10_000.0, 25.0)
    assert hall.seen == (10_000.0, 0.0, 0)
    assert hall.book.ignored == {"power_mismatch": 2}


def test_a_jump_beyond_the_rating_is_not_believed_for_a_moment() -> None:
    hall = Hall()
    hall.say(20_000.0, 50.0)
    hall.say(4e6, 1e4)
    assert hall.seen == (20_000.0, 20_000.0, 1)


@pytest.mark.parametrize("retained", [False, True])
def test_of_a_channel_that_never_said_anything_true_what_it_says_counts_as_unknown(retained: bool) -> None:
    hall = Hall()
    hall.say(10_000.0, 50.0, retained=retained)
    assert hall.seen == (10_000.0, 10_000.0, 1)
    hall.say(9e8, 50.0)
    assert hall.seen == (10_000.0, 10_000.0, 1)
    other = Hall()
    other.say(9e8, 50.0, retained=retained)
    assert other.seen == (1e6, 1e6, 1)


def test_a_station_that_is_removed_is_doubted_no_more() -> None:
    hall = Hall()
    hall.say(20_000.0, 50.0)
    hall.say(4e6, 1e4)
    hall.book.forget("s")
    assert hall.seen == (0.0, 0.0, 0)
    assert math.isfinite(hall.book.image(hall.now_s).load_power_w)
