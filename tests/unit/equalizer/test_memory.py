"""What the control remembers, handed out and read back."""

import json
import math

import pytest

from equalizer import diary
from equalizer.control.book import LoopBook
from equalizer.control.image import LoadEdge
from equalizer.control.lookahead import Move
from equalizer.control.settings import ControlSettings
from equalizer.control.state import ControlState, Hold, Level, Look
from equalizer.diary import CYCLES, Diary, Mark
from equalizer.exposition import MEMORY_EVERY_S, memory_page
from equalizer.memory import Memory, UnreadableError, bare, decode, encode
from schemas.messages import Phase
from tests.unit.control.test_book import plan, status, telemetry


def remembered() -> Memory:
    book = LoopBook(ControlSettings())
    book.status("s", status("1", "eq"), 10.0)
    book.telemetry("s", "eq", telemetry(-1.1, 3, equalizing=True), retained=False, now_s=10.1)
    book.telemetry("s", "1", telemetry(0.1 + 0.2, 4), retained=False, now_s=10.2)
    book.plan("s", "1", plan(1, (0.0, 5.0), (20.0, 7.0)), 10.3)
    look = Look(1.0, 2.0, passed_over=True, edges=(LoadEdge(3.0, 4.0),), moves=(Move(5.0, ("s", "eq"), 6.0),), number=7)
    hold = Hold(levels=(Level(1.0, 2.0, 1.0 / 3.0),), boot_id="a", echo=(7, 8), missed_s=(0.1, 0.2))
    return Memory(
        server="hall-a",
        epoch=7,
        now_s=11.000000000000002,
        decided_s=10.9,
        due_s=math.inf,
        mark=Mark(1795412000.25, 4, 3, 2, 1),
        state=bare(ControlState(target_power_w=-5.0, phase=Phase.SATURATED, look=look)),
        holds=((("s", "eq"), hold),),
        book=book.memory,
    )


def test_a_memory_is_read_back_as_it_was_to_the_last_bit() -> None:
    memory = remembered()
    assert decode(encode(memory)) == memory


def test_what_is_no_memory_of_this_version_is_refused_with_the_reason() -> None:
    table = json.loads(encode(remembered()))
    with pytest.raises(UnreadableError, match="no JSON"):
        decode(b"{")
    with pytest.raises(UnreadableError, match="form 99, this version reads 1"):
        decode(json.dumps({**table, "form": 99}).encode())
    with pytest.raises(UnreadableError, match="form None"):
        decode(b"[]")
    del table["book"]["passed"]
    with pytest.raises(UnreadableError, match=r"book\.passed"):
        decode(json.dumps(table).encode())


def test_a_memory_is_handed_out_no_more_often_than_every_few_seconds() -> None:
    now_s = 100.0
    known: list[bytes | None] = [None, b"{}", b"{}"]
    page = memory_page(lambda: known.pop(0), lambda: now_s)
    assert page().status == 409
    assert page().body == b"{}"
    assert page().status == 429
    now_s += MEMORY_EVERY_S
    assert page().body == b"{}"


def test_a_diary_says_when_was_decided_on_how_much_and_forgets_what_is_long_ago() -> None:
    kept = Diary()
    kept.run = 12.5
    kept.heard(1.0)
    kept.answered(1.5)
    kept.decided(2.0, 5)
    page = diary.read(kept.page("hall-a", 7))
    assert page is not None
    assert (page.server, page.epoch, page.run) == ("hall-a", 7, 12.5)
    assert (page.first_cycle, page.cycles) == (0, ((2.0, 5, 1),))
    assert (page.first_other, page.others, page.first_led, page.led) == (0, (1.0,), 0, (1.5,))
    for number in range(CYCLES):
        kept.decided(3.0 + number, 6)
    page = diary.read(kept.page("hall-a", 7))
    assert page is not None
    assert (page.first_cycle, len(page.cycles), page.cycles[0]) == (1, CYCLES, (3.0, 6, 1))
    assert diary.read(b"{}") is None
