"""Every parser against the corpus, and against what chance makes of it; `make fuzz` looks further."""

import random
from pathlib import Path

import pytest

from tests.fuzz.checks import CHECKS
from tests.fuzz.mutate import mutated

CORPUS = Path(__file__).parents[2] / "fuzz/corpus"
INPUTS = [(folder.name, file) for folder in sorted(CORPUS.iterdir()) for file in sorted(folder.iterdir())]


def test_every_parser_has_a_corpus() -> None:
    assert {name for name, _ in INPUTS} == set(CHECKS)


@pytest.mark.parametrize(("name", "file"), INPUTS, ids=lambda part: part.name if isinstance(part, Path) else part)
def test_what_was_found_once_is_found_no_more(name: str, file: Path) -> None:
    CHECKS[name](file.read_bytes())


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_hostile_forms_of_good_messages_are_refused_or_rightly_read(name: str) -> None:
    """Each example of the corpus, made hostile in many ways; whoever runs it, the same ones."""
    choice = random.Random(name)  # noqa: S311 - an experiment that can be repeated
    accepted = refused = 0
    for file in sorted((CORPUS / name).iterdir()):
        for _ in range(200 if file.name.startswith("contract") else 10):
            payload = mutated(file.read_bytes(), 8_000, choice)
            if payload is None:
                break
            if CHECKS[name](payload):
                accepted += 1
            else:
                refused += 1
    if name in {"topic", "stream-5", "stream-3.1.1"}:
        return
    assert refused > 0
    assert accepted > 0, "nothing hostile came near to a message: the test shows nothing"


def test_a_payload_of_brackets_is_refused_before_it_costs_time() -> None:
    """62 KiB of lists in an unknown key took 0.1 s to read and were then ignored."""
    check = CHECKS["Event"]
    assert not check(b'{"x":[' + b"[]," * 20_000 + b"[]]}")


def test_after_what_is_no_mqtt_nothing_more_is_dispatched() -> None:
    """Where the stream was cut decided whether a packet behind the broken one was still believed."""
    (broken,) = (file for name, file in INPUTS if name == "stream-5" and file.name == "no-mqtt")
    assert not CHECKS["stream-5"](broken.read_bytes())
