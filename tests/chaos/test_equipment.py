"""The equipment."""

import asyncio
import time

import pytest

from schemas.messages import AlarmCode, WorkStatus
from tests.acceptance.hall import power
from tests.chaos.arena import LOAD_W, NEAR_W, Arena
from tests.chaos.registry import Measured, fault

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]

TRIPPED = (
    "Protection trips: off at once, an alarm, out of its mode and deaf to setpoints, over a restart too. A person "
    "clears the alarm and has it equalize again."
)


async def tripped(arena: Arena, what: str, code: AlarmCode) -> Measured:
    """Let the equipment fail, and bring the channel back when the cause is gone."""
    await arena.balanced()
    equipment = arena.equipment()
    failed_s = equipment.fail(what)
    zero_s = await arena.until_zero(failed_s)
    await arena.until(lambda: arena.telemetry("eq", "1").alarm is not None)
    alarmed = arena.telemetry("eq", "1")
    assert alarmed.alarm.code is code
    assert alarmed.work_status is WorkStatus.PROTECT
    assert alarmed.equalization is None
    await arena.until_told(code.value, "eq", "station/eq/channel/1")
    back_s = await brought_back(arena, equipment.mend())
    return {"0 W": zero_s, "back": back_s}


async def brought_back(arena: Arena, mended_s: float) -> float:
    """Clear the alarm, equalize, and return when everything is back."""
    # The equipment shows that the cause is gone.
    await arena.until(lambda: arena.equipment().asked_s > mended_s + 0.3, what="it is asked again")
    await arena.ask("clear_alarm")
    await arena.until(lambda: arena.telemetry("eq", "1").alarm is None, what="the alarm is cleared")
    await arena.ask("equalize")
    await arena.until_told("command_clear_alarm", "eq", "station/eq/channel/1")
    back_s = await arena.until_back(mended_s)
    await arena.until_balanced()
    return back_s


@fault("The battery's voltage is beyond its limit", TRIPPED, {"0 W": 3.0, "back": 15.0})
async def test_over_voltage(arena: Arena) -> Measured:
    return await tripped(arena, "over_voltage", AlarmCode.OVER_VOLTAGE)


@fault("The battery is connected with its poles swapped", TRIPPED, {"0 W": 3.0, "back": 15.0}, quick=False)
async def test_reverse_polarity(arena: Arena) -> Measured:
    return await tripped(arena, "reversed", AlarmCode.REVERSE_POLARITY)


@fault("The battery goes missing at work", TRIPPED, {"0 W": 3.0, "back": 15.0}, quick=False)
async def test_a_missing_battery(arena: Arena) -> Measured:
    return await tripped(arena, "missing", AlarmCode.BATTERY_DISCONNECTED)


@fault("A sensor reads NaN", TRIPPED, {"0 W": 3.0, "back": 15.0})
async def test_a_reading_that_is_not_a_number(arena: Arena) -> Measured:
    return await tripped(arena, "nan", AlarmCode.DEVICE_FAULT)


@fault(
    "A sensor is stuck: its readings stay the same to the last digit while other power is asked for",
    f"{TRIPPED} Looked for at equalization channels, which follow power within the limits that the equipment names. A "
    "load's readings may stand still at a limit that nobody names, and a test that is cut on a suspicion is lost; what "
    "its stuck sensor hides from the total, a grid meter shows.",
    {"0 W": 20.0, "back": 15.0},
    quick=False,
)
async def test_a_stuck_sensor(arena: Arena) -> Measured:
    await arena.balanced()
    equipment = arena.equipment()
    equipment.fail("stuck")
    await asyncio.sleep(1.0)
    moved_s = arena.load.set_power(0.5 * LOAD_W)
    await arena.until(
        lambda: arena.telemetry("eq", "1").alarm is not None, arena.pace.settle_s + 15.0, what="it is noticed"
    )
    zero_s = await arena.until_zero(time.monotonic())
    asked_s = next(at_s for at_s, _, asked in equipment.history() if at_s > moved_s and asked != -LOAD_W)
    zero_s = time.monotonic() - asked_s
    assert arena.telemetry("eq", "1").alarm.code is AlarmCode.DEVICE_FAULT
    await arena.until_told("device_fault", "eq", "station/eq/channel/1")
    back_s = await brought_back(arena, equipment.mend())
    return {"0 W": zero_s, "back": back_s}


@fault(
    "The equipment does not answer its station any more",
    "After 3 s an alarm (`driver_lost`); the channel's telemetry ends, and its last power counts as unknown: what the "
    "equipment does alone is up to its own watchdog. When it answers again it is off, until a person clears the alarm.",
    {"alarm": 6.0, "unknown": 12.0, "back": 15.0},
)
async def test_a_lost_driver(arena: Arena) -> Measured:
    await arena.balanced()
    equipment = arena.equipment()
    failed_s = equipment.fail("lost")
    await arena.until(lambda: arena.telemetry("eq", "1").alarm is not None)
    alarm_s = time.monotonic() - failed_s
    assert arena.telemetry("eq", "1").alarm.code is AlarmCode.DRIVER_LOST
    await arena.until_told("driver_lost", "eq", "station/eq/channel/1")
    await arena.until(lambda: arena.balance.unknown_power_w > LOAD_W - NEAR_W, what="its power is unknown")
    unknown_s = time.monotonic() - failed_s
    mended_s = equipment.mend()
    await arena.until_zero(mended_s)
    back_s = await brought_back(arena, mended_s)
    return {"alarm": alarm_s, "unknown": unknown_s, "back": back_s}


async def doubted(arena: Arena, lie: str) -> Measured:
    """Let a load lie, and then say the truth again."""
    await arena.balanced()
    arena.equalize("load", equalize=False, program=power(12000.0, 900.0))
    truth = arena.equipment("load")
    total_w = LOAD_W + 12000.0
    await arena.until(lambda: abs(arena.equipment().power_w + total_w) < NEAR_W, arena.pace.settle_s)
    lied_s = truth.fail(lie)
    await arena.until(lambda: arena.balance.unknown_power_w > 11000.0, what="its power is unknown")
    unknown_s = time.monotonic() - lied_s
    await arena.until_told("telemetry_implausible", "equalizer", "station/load/channel/1")
    # What it said last that could be true still counts: nothing is changed for a lie.
    await arena.always(lambda: abs(arena.equipment().power_w + total_w) < NEAR_W, 2.0 * arena.pace.delay_s)
    mended_s = truth.mend()
    await arena.until(lambda: arena.balance.unknown_power_w < 100.0, what="it is believed again")
    back_s = await arena.until_back(mended_s)
    await arena.until_told("telemetry_plausible", "equalizer", "station/load/channel/1")
    return {"unknown": unknown_s, "back": back_s}


LIE = "It counts with the last power that could be true, as unknown power; an event names the channel and the numbers."


@fault("A channel's power does not fit its voltage and current", LIE, {"unknown": 6.0, "back": 15.0})
async def test_a_power_that_does_not_fit(arena: Arena) -> Measured:
    return await doubted(arena, "liar")


@fault("A channel's power jumps beyond any rating", LIE, {"unknown": 6.0, "back": 15.0}, quick=False)
async def test_a_power_beyond_the_rating(arena: Arena) -> Measured:
    return await doubted(arena, "giant")
