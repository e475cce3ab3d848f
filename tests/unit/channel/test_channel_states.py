"""The table of the channel's life is complete and says what the contract says."""

from dataclasses import replace

import pytest

from schemas.messages import StepType, WorkStatus
from station.channel.states import ACTIVE, TRANSITIONS, WORK_STATUS, Life, TransitionError, Trigger, follow
from station.drivers.protocol import OwnStep
from tests.unit.channel.bench import build


@pytest.mark.parametrize("life", Life)
@pytest.mark.parametrize("trigger", Trigger)
def test_every_pair_is_either_listed_or_an_error(life: Life, trigger: Trigger) -> None:
    if (life, trigger) in TRANSITIONS:
        assert follow(life, trigger) is TRANSITIONS[life, trigger]
    else:
        with pytest.raises(TransitionError, match=life.value):
            follow(life, trigger)


def test_every_state_is_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(Life)
    assert {before for before, _ in TRANSITIONS} == set(Life)


def test_every_trigger_has_its_use() -> None:
    assert {trigger for _, trigger in TRANSITIONS} == set(Trigger)


def test_a_trip_is_possible_in_every_state_but_protection_itself() -> None:
    assert {life for life, trigger in TRANSITIONS if trigger is Trigger.TRIP} == set(Life) - {Life.PROTECT}
    assert all(after is Life.PROTECT for (_, trigger), after in TRANSITIONS.items() if trigger is Trigger.TRIP)


def test_protection_is_left_by_clearing_the_alarm_alone() -> None:
    assert [trigger for life, trigger in TRANSITIONS if life is Life.PROTECT] == [Trigger.CLEAR_ALARM]


def test_what_carries_current_says_working() -> None:
    assert {life for life in Life if WORK_STATUS[life] is WorkStatus.WORKING} == ACTIVE


def test_equipment_whose_program_somebody_holds_is_paused_and_goes_on() -> None:
    bench = build(own_program=True)
    step = OwnStep(WorkStatus.WORKING, StepType.CC_CHG, 2, 1)
    seen = []
    for status in (WorkStatus.WORKING, WorkStatus.PAUSED, WorkStatus.WORKING):
        bench.own_step = replace(step, work_status=status)
        bench.run(0.5)
        seen.append(bench.telemetry().work_status)
    assert seen == [WorkStatus.WORKING, WorkStatus.PAUSED, WorkStatus.WORKING]
