"""Every reason and every cause is told to operators."""

from pathlib import Path

import pytest

from equalizer.control.reasons import HELD_BACK, SENT, Reason
from equalizer.control.residual import Cause

PAGE = (Path(__file__).parents[3] / "docs" / "why.md").read_text(encoding="utf-8")


def test_every_reason_is_one_to_send_or_one_to_hold_back() -> None:
    assert {*SENT, *HELD_BACK} == set(Reason)


@pytest.mark.parametrize("code", [*Reason, *Cause])
def test_every_code_stands_in_the_operators_page(code: Reason | Cause) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert any(f"`{code.value}`" in row.split("|")[1] for row in rows)
