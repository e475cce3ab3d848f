"""docs/faults.md is what the registry and the last measurements make of it."""

from tests.chaos import table
from tests.chaos.registry import FAULTS


def test_the_page_matches_the_registry() -> None:
    page = table.render(table.read_registry(), table.read_measured())
    assert table.TABLE.read_text() == page, "make chaos writes it anew; python -m tests.chaos.table without measuring"


def test_every_fault_names_a_test_and_what_was_measured_stayed_within_its_bounds() -> None:
    table.read_registry()
    measured = table.read_measured()
    assert set(measured) <= set(FAULTS)
    for key, fault in FAULTS.items():
        assert fault.bounds_s, key
        for name, seconds in measured.get(key, {}).items():
            assert seconds <= fault.bounds_s[name], f"{key}: {name}"
