"""A frozen value with a change is what the standard library makes of it."""

import dataclasses
from dataclasses import dataclass, field

import pytest

from equalizer.control.state import ControlState, Hold, Level
from schemas.values import replace


@dataclass(frozen=True, slots=True)
class Checked:
    """Looks at what it is given."""

    power_w: float
    limit_w: float

    def __post_init__(self) -> None:
        if self.power_w > self.limit_w:
            raise ValueError("above the limit")


@dataclass(frozen=True)
class Slotless:
    """Keeps its fields in a dictionary."""

    power_w: float
    limit_w: float


@dataclass(frozen=True, slots=True)
class Counted:
    """Has a field that nobody gives it."""

    power_w: float
    count: int = field(default=7, init=False)


HOLD = Hold(levels=(Level(0.0, 0.0, 5e3),), boot_id="one", echo=(1, 2))


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (HOLD, {}),
        (HOLD, {"tries": 3, "levels": ()}),
        (HOLD.levels[0], {"power_w": -1.0}),
        (ControlState(target_power_w=1.0), {"paused": True, "changes": 4}),
        (Checked(1.0, 2.0), {"power_w": 2.0}),
        (Slotless(1.0, 2.0), {"power_w": 2.0}),
        (Counted(1.0), {"power_w": 2.0}),
    ],
)
def test_a_change_is_made_as_the_standard_library_makes_it(value: Hold, changes: dict[str, object]) -> None:
    before = dataclasses.replace(value)
    assert replace(value, **changes) == dataclasses.replace(value, **changes)  # type: ignore[arg-type]  # of many kinds
    assert value == before


def test_what_a_value_checks_it_checks_again() -> None:
    with pytest.raises(ValueError, match="above the limit"):
        replace(Checked(1.0, 2.0), power_w=3.0)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="powre_w"):
        replace(HOLD, powre_w=1.0)  # type: ignore[call-arg]  # that is the point
