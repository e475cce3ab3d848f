"""The judge of the change budget."""

from simulation.witness import Witness, hasty


def told(*orders: tuple[float, list[tuple[float, float]], str]) -> Witness:
    witness = Witness()
    for at_s, steps, reason in orders:
        witness.take(steps, reason, at_s)
    witness.advance(1000.0)
    return witness


def test_a_refresh_is_no_change() -> None:
    witness = told((0.0, [(0.0, 500.0)], "announced"), (5.0, [(0.0, 500.4)], "renew"))
    assert [change.to_w for change in witness.changes] == [500.0]


def test_what_was_sent_ahead_counts_from_when_it_comes_into_force() -> None:
    witness = told((0.0, [(0.0, 500.0), (4.0, 900.0)], "announced"), (14.0, [(0.0, 100.0)], "load_step"))
    assert [(change.at_s, change.to_w) for change in witness.changes] == [(0.0, 500.0), (4.0, 900.0), (14.0, 100.0)]
    assert [change.at_s for change in hasty([witness], 10.0)] == [4.0]
    assert [change.at_s for change in hasty([witness], 10.5)] == [4.0, 14.0]


def test_a_later_setpoint_voids_what_was_in_store() -> None:
    witness = told((0.0, [(0.0, 500.0), (4.0, 900.0)], "announced"), (3.0, [(0.0, 500.0)], "plan_changed"))
    assert [change.to_w for change in witness.changes] == [500.0]


def test_a_reduction_for_safety_may_come_at_any_time_and_a_rise_may_not() -> None:
    reduced = told((0.0, [(0.0, 500.0)], "announced"), (1.0, [(0.0, 100.0)], "limits"))
    raised = told((0.0, [(0.0, 500.0)], "announced"), (1.0, [(0.0, 700.0)], "limits"))
    assert hasty([reduced], 10.0) == ()
    assert len(hasty([raised], 10.0)) == 1


def test_a_channel_whose_lease_is_over_has_no_level_and_that_was_nobodys_change() -> None:
    witness = Witness()
    witness.take([(0.0, 5e3), (20.0, 9e3)], "plan", 100.0)
    witness.release(110.0)
    assert witness.level_w == 0.0
    witness.advance(130.0)
    assert [change.to_w for change in witness.changes] == [5e3]
    witness.take([(0.0, 0.0)], "renew", 131.0)
    assert len(witness.changes) == 1
    assert witness.taken_s == [100.0, 131.0]


def test_a_channel_that_does_nothing_may_be_told_to_rest_at_any_time() -> None:
    withdrawn = told((0.0, [(0.0, 500.0)], "announced"), (1.0, [(0.0, 0.0)], "not_delivering"))
    assert hasty([withdrawn], 10.0) == ()
