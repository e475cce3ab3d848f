"""What went wrong, in virtual time."""

from dashboard.alarms import KEPT, AlarmBook
from schemas.messages import Severity

HERE = "station/s1/channel/1"


def test_what_stands_comes_first_then_what_nobody_saw_then_the_rest() -> None:
    book = AlarmBook()
    book.open(HERE, "over_voltage", "", Severity.ALARM, 1.0)
    book.note("station/s2", "state_lost", "", Severity.WARNING, 2.0)
    book.note("station/s3", "state_lost", "", Severity.WARNING, 3.0)
    book.acknowledge(book.listed()[1].id, "ann", 4.0)
    assert [trouble.source for trouble in book.listed()] == [HERE, "station/s2", "station/s3"]
    book.close(HERE, 5.0)
    assert [trouble.closed_unix_time_s for trouble in book.listed()] == [5.0, 2.0, 3.0], "an alarm before a warning"


def test_said_again_it_is_one_trouble_and_after_its_end_a_new_one() -> None:
    book = AlarmBook()
    for at_s in (1.0, 2.0):
        book.open(HERE, "over_voltage", "", Severity.ALARM, at_s)
    book.close(HERE, 3.0)
    book.open(HERE, "over_voltage", "", Severity.ALARM, 4.0)
    assert [trouble.opened_unix_time_s for trouble in book.listed()] == [4.0, 1.0]


def test_a_warning_that_comes_and_goes_is_one_until_somebody_has_seen_it() -> None:
    book = AlarmBook()
    for at_s in (1.0, 10.0, 20.0):
        book.open("loop/main", "saturated", "", Severity.WARNING, at_s)
        book.close("loop/main", at_s + 5.0)
    (trouble,) = book.listed()
    assert (trouble.opened_unix_time_s, trouble.closed_unix_time_s) == (1.0, 25.0)
    book.acknowledge(trouble.id, "ann", 30.0)
    book.open("loop/main", "saturated", "", Severity.WARNING, 40.0)
    assert [trouble.is_open for trouble in book.listed()] == [True, False]


def test_what_stands_and_was_seen_calls_still_if_it_is_an_alarm() -> None:
    book = AlarmBook()
    book.open(HERE, "over_voltage", "", Severity.ALARM, 1.0)
    book.open("station/s2", "station_offline", "", Severity.WARNING, 1.0)
    for trouble in book.listed():
        book.acknowledge(trouble.id, "ann", 2.0)
    assert [trouble.code for trouble in book.calling] == ["over_voltage"]
    book.close(HERE, 3.0)
    assert book.calling == []


def test_it_is_kept_over_a_restart_and_bounded() -> None:
    book = AlarmBook()
    book.open(HERE, "over_voltage", "", Severity.ALARM, 1.0)
    for number in range(KEPT + 50):
        book.note(f"station/s{number}", "state_lost", "", Severity.WARNING, 2.0 + number)
    changed, dropped = book.drain()
    assert len(book.listed()) == KEPT
    assert len(dropped) == 51
    again = AlarmBook(trouble for trouble in changed if trouble.id not in dropped)
    assert again.listed() == book.listed()
    assert again.is_open(HERE, "over_voltage")
    again.open("station/new", "x", "", Severity.INFO, 9e9)
    assert len({trouble.id for trouble in again.listed()}) == KEPT
