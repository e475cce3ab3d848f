"""A disk that takes nothing is told of once, asked again from time to time, and told of once when it works again."""

import logging
from typing import cast

import pytest

from equalizer.keeping import AGAIN_S, Kept, Trouble, Words
from equalizer.voice import Voice
from schemas.messages import Severity, Values

WORDS = Words("not_kept", "a restart would forget it", "kept_again", "{number} is kept", Severity.ALARM)


class Ear:
    def __init__(self) -> None:
        self.said: list[tuple[str, str, Severity, Values | None]] = []

    def event(
        self, code: str, text: str, severity: Severity = Severity.INFO, values: Values | None = None, *, about: str = ""
    ) -> None:
        assert about == ""
        self.said.append((code, text, severity, values))


class Bench:
    """A number on a disk that may be full."""

    def __init__(self) -> None:
        self.now_s, self.full, self.ear = 100.0, False, Ear()
        self.tried: list[int] = []
        trouble = Trouble(cast("Voice", self.ear), WORDS)
        self.kept = Kept(7, self.store, trouble, lambda: self.now_s, values=lambda number: {"number": number})

    def store(self, number: int) -> None:
        self.tried.append(number)
        if self.full:
            raise OSError(28, "No space left on device")

    def keep_for(self, seconds: int, number: int) -> None:
        for _ in range(seconds):
            self.kept.keep(number)
            self.now_s += 1.0

    @property
    def codes(self) -> list[str]:
        return [code for code, *_ in self.ear.said]


FAILED = ("not_kept", "[Errno 28] No space left on device; a restart would forget it", Severity.ALARM)
AGAIN = ("kept_again", "9 is kept", Severity.INFO, {"number": 9})


def test_what_the_disk_holds_is_written_no_more_and_nothing_is_said() -> None:
    bench = Bench()
    bench.keep_for(20, 7)
    bench.keep_for(20, 8)
    assert bench.tried == [8]
    assert bench.ear.said == []


def test_a_full_disk_is_told_once_and_asked_again_from_time_to_time() -> None:
    bench = Bench()
    bench.full = True
    bench.keep_for(int(2 * AGAIN_S) + 1, 9)
    assert bench.tried == [9, 9, 9]
    assert bench.ear.said == [(*FAILED, {"cause": "[Errno 28] No space left on device"})]
    bench.full = False
    bench.keep_for(int(AGAIN_S), 9)
    assert bench.tried == [9, 9, 9, 9]
    assert bench.ear.said[1:] == [AGAIN]


def test_what_the_disk_did_not_take_is_wanted_until_it_does() -> None:
    bench = Bench()
    bench.full = True
    bench.kept.keep(9)
    assert (bench.kept.value, bench.kept.wanted) == (7, 9)
    bench.full = False
    bench.kept.again()
    assert bench.tried == [9], "from time to time only"
    bench.now_s += AGAIN_S
    bench.kept.again()
    bench.kept.again()
    assert bench.tried == [9, 9]
    assert bench.kept.value == bench.kept.wanted == 9
    assert bench.codes == ["not_kept", "kept_again"]


def test_another_value_does_not_wait() -> None:
    bench = Bench()
    bench.full = True
    bench.kept.keep(8)
    bench.full = False
    bench.kept.keep(9)
    assert bench.tried == [8, 9]
    assert bench.ear.said[1:] == [AGAIN]


def test_one_that_is_again_what_the_disk_holds_ends_the_trouble() -> None:
    bench = Bench()
    bench.full = True
    bench.kept.keep(8)
    bench.kept.keep(7)
    assert bench.tried == [8]
    assert bench.codes == ["not_kept", "kept_again"]
    bench.kept.keep(8)
    assert bench.tried == [8, 8]


def test_a_second_failure_is_told_again() -> None:
    bench = Bench()
    for number in (8, 9):
        bench.full = True
        bench.kept.keep(number)
        bench.full = False
        bench.keep_for(int(AGAIN_S) + 1, number)
    assert bench.codes == ["not_kept", "kept_again"] * 2


def test_the_log_has_both_and_a_cause_forges_no_line(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(cast("Voice", Ear()), WORDS)
    with caplog.at_level(logging.INFO):
        trouble.tell("full\nERROR all is lost")
        trouble.tell("still full")
        trouble.tell(None, {"number": 3})
    assert caplog.messages == ["not_kept error='full\\nERROR all is lost'", "kept_again text='3 is kept'"]
