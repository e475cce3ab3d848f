"""A log that was tampered with is found out, whatever was done to it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equalizer.audit.chain import Claim, Head, append, read, verify


def log(count: int) -> tuple[list[bytes], Head]:
    lines, head = [], Head()
    for number in range(count):
        line, head = append(head, {"kind": "setpoint", "power_w": 100.0 * number})
        lines.append(line)
    return lines, head


def test_a_log_that_nobody_touched_is_as_it_was_written() -> None:
    lines, head = log(5)
    verdict = verify(lines, [Claim(1, head)])
    assert verdict.faults == ()
    assert (verdict.entries, verdict.head) == (5, head)
    entry = json.loads(lines[2])
    assert (entry["seq"], entry["power_w"]) == (3, 200.0)
    assert entry["previous"] == json.loads(lines[1])["hash"]


def test_an_entry_cannot_pass_for_another_place_in_the_chain() -> None:
    line, head = append(Head(), {"seq": 99, "previous": "elsewhere"})
    assert head.seq == 1
    assert verify([line], [Claim(1, head)]).faults == ()


@given(st.integers(0, 4), st.data())
def test_no_byte_of_any_line_can_be_changed(number: int, data: st.DataObject) -> None:
    lines, head = log(5)
    line = bytearray(lines[number])
    place = data.draw(st.integers(0, len(line) - 2))
    line[place] ^= data.draw(st.integers(1, 255))
    lines[number] = bytes(line)
    assert verify(lines, [Claim(1, head)]).faults


@given(st.sets(st.integers(0, 9), min_size=1))
def test_no_line_can_be_taken_out(gone: set[int]) -> None:
    lines, head = log(10)
    left = [line for number, line in enumerate(lines) if number not in gone]
    assert verify(left, [Claim(1, head)]).faults


@given(st.permutations(range(6)))
def test_no_lines_can_be_exchanged(order: list[int]) -> None:
    lines, head = log(6)
    faults = verify([lines[number] for number in order], [Claim(1, head)]).faults
    assert bool(faults) == (order != sorted(order))


@given(st.integers(1, 400))
def test_an_end_that_was_cut_off_is_missed(cut_bytes: int) -> None:
    lines, head = log(4)
    whole = b"".join(lines)[:-cut_bytes]
    left = whole.splitlines(keepends=True)
    only_the_newline = cut_bytes == 1  # nothing that was said is missing
    assert bool(verify(left, [Claim(1, head)]).faults) != only_the_newline


def test_the_faults_say_which_entries_are_concerned() -> None:
    lines, head = log(9)
    claims = [Claim(1, head)]
    assert verify(lines[2:], claims).faults == ("entries 1 to 2 are missing at the beginning",)
    assert verify(lines[:-2], claims).faults == ("entries 8 to 9 are missing at the end",)
    assert verify(lines[:3] + lines[5:], claims).faults == ("entries 4 to 5 are missing",)
    changed = lines[3].replace(b"300.0", b"999.0")
    assert verify([*lines[:3], changed, *lines[4:]], claims).faults[0] == "line 4 was changed or is cut off"


def test_a_log_that_was_written_anew_is_shown_up_by_a_head_that_was_noted_elsewhere() -> None:
    _, noted = log(5)
    forged, head = [], Head()
    for _ in range(9):
        line, head = append(head, {"kind": "harmless"})
        forged.append(line)
    assert verify(forged, [Claim(1, head)]).faults == ()
    (fault,) = verify(forged, [Claim(1, head), Claim(5, noted)]).faults
    assert "entry 5 is not the one that was noted" in fault


def test_what_was_dropped_for_want_of_space_is_not_missed() -> None:
    lines, head = log(9)
    assert verify(lines[4:], [Claim(5, head)]).faults == ()
    assert verify(lines[5:], [Claim(5, head)]).faults


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"x" * 200, b'{"seq":1,"hash":"' + b"0" * 64 + b'"}\n'])
def test_what_is_no_line_of_a_log_is_none(line: bytes) -> None:
    assert read(line) is None
