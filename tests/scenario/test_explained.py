"""Every decision explains itself: the reason for what is held back, and what each cause leaves."""

from itertools import pairwise

import pytest

from equalizer.control.residual import NANOJOULES_PER_J, Cause, ResidualBook, advance, split_uw
from equalizer.control.step import in_force
from schemas.messages import Policy, SetpointReason
from tests.scenario.hall import Plant


def split_j(plant: Plant, seconds: float) -> dict[Cause, float]:
    """Run, and return what each cause has left over meanwhile; J."""
    book = ResidualBook()
    for _ in range(round(seconds / 0.2)):
        plant.run(0.2)
        whole_uw, parts_uw = split_uw(plant.state, plant.image, in_force(plant.state, plant.settings), plant.now_s)
        book = advance(book, whole_uw, parts_uw, plant.now_s)
    assert sum(book.parts_nj.values()) == book.whole_nj
    return {cause: part_nj / NANOJOULES_PER_J for cause, part_nj in book.parts_nj.items()}


def main_cause(split: dict[Cause, float], *, share: float = 0.8) -> Cause:
    """The cause that left most of it."""
    cause = max(split, key=lambda item: split[item])
    assert split[cause] >= share * sum(split.values()), split
    return cause


def suppressed(plant: Plant) -> set[str]:
    return {reason for _, decision in plant.decisions for reason, _ in decision.suppressed}


def test_what_nobody_announced_waits_to_be_confirmed() -> None:
    plant = Plant().settled()
    plant.load(ch=1, power_w=20_000.0)
    assert main_cause(split_j(plant, 20)) is Cause.UNANNOUNCED
    assert "confirming" in suppressed(plant)


def test_a_slow_channel_leaves_its_ramp() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.eq().ramp_w_per_s = 2000.0
    plant.run(2)
    plant.load(ch=1, power_w=20_000.0)
    assert main_cause(split_j(plant, 14)) is Cause.RAMP


def test_the_ramp_of_an_announced_edge_lies_on_both_sides_of_it() -> None:
    plant = Plant().settled()
    plant.eq().ramp_w_per_s = 10_000.0
    plant.announce(1, (0.0, 0.0), (10.0, 30_000.0))
    assert main_cause(split_j(plant, 18)) is Cause.RAMP
    assert plant.reason == "within_band"


def test_a_load_beyond_all_limits_is_a_want_of_capacity() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.load(ch=1, power_w=90_000.0)
    plant.run(5)
    assert main_cause(split_j(plant, 20)) is Cause.NO_CAPACITY
    assert (plant.phase, plant.reason) == ("saturated", "no_headroom")


def test_a_second_step_within_the_delay_is_left_to_the_dwell() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.load(ch=1, power_w=20_000.0)
    plant.run(4)
    plant.load(ch=1, power_w=-10_000.0)
    assert main_cause(split_j(plant, 10)) is Cause.DWELL
    assert plant.reason == "dwell"


def test_what_lies_within_the_band_is_the_controllers_own() -> None:
    plant = Plant(engage_w=1000.0, release_w=300.0).settled()
    plant.load(ch=1, power_w=900.0)
    assert main_cause(split_j(plant, 20)) is Cause.CONTROLLER
    assert suppressed(plant) >= {"within_band"}


def test_a_loop_at_rest_holds_nothing_back() -> None:
    plant = Plant().settled()
    plant.run(20)
    assert suppressed(plant) == {"starting"}
    assert plant.state.held_back is None


def test_too_much_unknown_power_is_the_cause_while_it_freezes() -> None:
    plant = Plant(freeze_w=10_000.0).settled()
    plant.load(ch=1, power_w=20_000.0)
    plant.run(2)
    plant.channels["1"].silent = True
    plant.run(4)
    assert main_cause(split_j(plant, 10)) is Cause.UNKNOWN_POWER
    assert plant.reason == "frozen"


def test_a_silent_equalization_channel_could_have_helped() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.eq().silent = True
    plant.run(12)
    plant.load(ch=1, power_w=20_000.0)
    plant.run(2)
    assert main_cause(split_j(plant, 10)) is Cause.UNKNOWN_POWER
    assert plant.reason == "stale"


def test_a_paused_control_has_no_capacity() -> None:
    plant = Plant().settled()
    plant.pause()
    plant.load(ch=1, power_w=20_000.0)
    plant.run(2)
    assert main_cause(split_j(plant, 10)) is Cause.NO_CAPACITY
    assert plant.reason == "paused"


def test_a_channel_that_refuses_leaves_nobody() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.eq().rejects = SetpointReason.ALARM
    plant.load(ch=1, power_w=20_000.0)
    plant.run(10)
    assert plant.reason == "not_delivering"


def test_a_free_channel_does_not_work_against_one_that_is_bound() -> None:
    plant = Plant(policy=Policy.DWELL, equalizers=2).settled()
    plant.eq(2).limit_w = 0.0
    plant.load(ch=1, power_w=20_000.0)
    plant.run(4)
    plant.eq(2).limit_w = 60_000.0
    plant.load(ch=1, power_w=-20_000.0)
    plant.run(4)
    assert plant.reason == "sign"
    assert min(plant.eq(1).power_w, plant.eq(2).power_w) * max(plant.eq(1).power_w, plant.eq(2).power_w) >= 0.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_at_the_limits_does_not_make_the_phase_flap(seed: int) -> None:
    plant = Plant(policy=Policy.DWELL, engage_w=1000.0, release_w=300.0, seed=seed).settled()
    plant.load(ch=1, power_w=60_000.0)
    plant.channels["1"].noise_w = 400.0
    plant.run(10)
    begun = len(plant.decisions)
    plant.run(120)
    phases = [decision.phase for _, decision in plant.decisions[begun:]]
    turns = sum(later is not earlier for earlier, later in pairwise(phases))
    assert turns <= 4


def test_saturation_ends_when_there_is_room_again() -> None:
    plant = Plant(policy=Policy.DWELL).settled()
    plant.load(ch=1, power_w=90_000.0)
    plant.run(5)
    assert plant.phase == "saturated"
    plant.load(ch=1, power_w=20_000.0)
    plant.run(5)
    assert plant.phase == "balancing"
