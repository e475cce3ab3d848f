"""The station's edge to its driver: whatever that does, a channel gets a sample or a trouble, no other one notices."""

import logging
import traceback
from dataclasses import replace
from itertools import pairwise
from math import isfinite

from schemas.messages import Alarm, PlanSegment, StepType, WorkStatus
from station.channel.outcome import DeviceTrouble, DriverTrouble, TransientTrouble
from station.drivers.protocol import (
    Demand,
    DeviceFaultError,
    Driver,
    OwnStep,
    Preview,
    Sample,
    TransientDriverError,
)
from station.metrics import Tally

LONGEST_TEXT = 500
"""Of what a driver says is told on: a message has room for it, and a person for reading it."""
_NUMBERS = ("voltage_v", "current_a", "power_w", "charge_limit_w", "discharge_limit_w")
_OPTIONAL_NUMBERS = ("temperature_degc", "soc_ratio")

_log = logging.getLogger(__name__)


class Equipment:
    """An opened driver whose failures are values.

    Args:
        driver: opened.
        tally: where errors are counted.
    """

    def __init__(self, driver: Driver, tally: Tally) -> None:
        self._driver = driver
        self._tally = tally
        self._silent: set[str] = set()
        """Channels whose equipment does not answer; so that this is logged once."""
        self._blind: set[str] = set()
        """Channels whose preview failed; logged once."""

    def has_own_program(self, channel_id: str) -> bool:
        """Tell whether the equipment plays a program of its own."""
        return self._driver.has_own_program(channel_id)

    def exchange(self, channel_id: str, demand: Demand, now_s: float) -> Sample | DriverTrouble:
        """Hand over a demand and return what was measured, or why nothing was."""
        try:
            sample = self._driver.exchange(channel_id, demand, now_s)
            flaw = _flaw(sample)
        except TransientDriverError as error:
            return TransientTrouble(self._silence(channel_id, "transient", str(error)))
        except DeviceFaultError as error:
            return DeviceTrouble(self._silence(channel_id, "device_fault", str(error)))
        except Exception as error:  # noqa: BLE001 - a driver's defect must latch its channel safe, not stop the others
            if channel_id not in self._silent:
                _log.error("driver_defect channel=%s\n%s", channel_id, _unbroken(traceback.format_exc()))
            return DeviceTrouble(self._silence(channel_id, "defect", f"the driver failed: {error!r}"))
        if flaw is not None:
            return DeviceTrouble(self._silence(channel_id, "defect", f"the driver failed: {flaw}"))
        if channel_id in self._silent:
            self._silent.discard(channel_id)
            _log.info("driver_back channel=%s", channel_id)
        fault = sample.fault
        if fault is not None and len(fault.text) > LONGEST_TEXT:
            return replace(sample, fault=Alarm(code=fault.code, text=speakable(fault.text)))
        return sample

    def preview(self, channel_id: str, horizon_s: float, now_s: float) -> Preview | None:
        """Return what the equipment's own program will do; null where it does not know, or says nonsense."""
        try:
            preview = self._driver.preview(channel_id, horizon_s, now_s)
            if preview is None or _plannable(preview):
                return preview
            text = f"{preview!r} is no preview whose times rise from 0.0"
        except Exception as error:  # noqa: BLE001 - a plan less is no reason to stop a channel
            text = repr(error)
        self._tally.driver_errors["defect"] += 1
        if channel_id not in self._blind:
            self._blind.add(channel_id)
            _log.error("preview_failed channel=%s error=%r; further ones are counted", channel_id, speakable(text))
        return None

    def clear_fault(self, channel_id: str, now_s: float) -> None:
        """Have the equipment forget a fault; where it cannot, the next exchange shows it."""
        try:
            self._driver.clear_fault(channel_id, now_s)
        except Exception as error:  # noqa: BLE001 - the operator's command is done and wants its reply
            self._tally.driver_errors["defect"] += 1
            _log.error("clear_fault_failed channel=%s error=%r", channel_id, speakable(repr(error)))

    def _silence(self, channel_id: str, kind: str, text: str) -> str:
        text = speakable(text)
        self._tally.driver_errors[kind] += 1
        if channel_id not in self._silent:
            self._silent.add(channel_id)
            _log.warning("driver_trouble channel=%s error=%r", channel_id, text)
        return text


def speakable(text: str) -> str:
    """Return a text that a message can carry: an error may quote bytes that are no characters, and be of any length."""
    return _unbroken(text[:LONGEST_TEXT])


def _unbroken(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _flaw(sample: object) -> str | None:
    """Return what makes an answer no sample; null: it is one. Whether its numbers make sense, the channel judges."""
    if not isinstance(sample, Sample):
        return f"{type(sample).__name__} is no sample"
    for name in _NUMBERS:
        if not _is_number(getattr(sample, name)):
            return f"{name} is {getattr(sample, name)!r}"
    for name in _OPTIONAL_NUMBERS:
        value = getattr(sample, name)
        if value is not None and not _is_number(value):
            return f"{name} is {value!r}"
    if not isinstance(sample.battery_connected, bool):
        return f"battery_connected is {sample.battery_connected!r}"
    if not isinstance(sample.fault, Alarm | None):
        return f"fault is {sample.fault!r}"
    return None if sample.own_step is None or _is_step(sample.own_step) else f"own_step is {sample.own_step!r}"


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def _is_step(step: object) -> bool:
    if not isinstance(step, OwnStep):
        return False
    words = {type(step.work_status), type(step.step_type)} == {WorkStatus, StepType}
    return words and all(type(count) is int and 0 <= count < 2**63 for count in (step.step_id, step.cycle_count))


def _plannable(preview: object) -> bool:
    if not isinstance(preview, Preview) or not _is_number(preview.until_s):
        return False
    if not (isfinite(preview.until_s) and preview.until_s >= 0.0):
        return False
    if not all(isinstance(segment, PlanSegment) for segment in preview.segments):
        return False
    times_s = [segment.after_s for segment in preview.segments]
    return not times_s or (times_s[0] == 0.0 and all(later > earlier for earlier, later in pairwise(times_s)))
