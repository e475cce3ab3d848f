"""The clock that leases run on."""

import time

import pytest

from zeroloop import clocks


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts a suspension")
def test_the_time_that_a_computer_sleeps_counts_as_time_that_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s = 3600.0
    kernel = {time.CLOCK_MONOTONIC: 100.0, time.CLOCK_BOOTTIME: 100.0 + slept_s}
    monkeypatch.setattr(time, "clock_gettime", kernel.__getitem__)
    monkeypatch.setattr(time, "monotonic", lambda: kernel[time.CLOCK_MONOTONIC])
    assert clocks.monotonic_s() == 100.0 + slept_s
