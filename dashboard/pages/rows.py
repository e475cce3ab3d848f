"""Channels as rows of the grid, each made once for all visitors of a language."""

from typing import Any

from dashboard.hall import ChannelView, Hall, Key
from dashboard.words import Words
from schemas.messages import WorkStatus

Row = dict[str, Any]


class Rows:
    """The rows of one language, made anew where their channel has changed."""

    def __init__(self, hall: Hall, say: Words) -> None:
        self._hall = hall
        self._say = say
        self._made: dict[Key, tuple[int, bool, Row]] = {}

    def row(self, view: ChannelView, *, is_stale: bool) -> Row:
        """Return a channel's row."""
        made = self._made.get(view.key)
        if made is not None and made[0] == view.revision and made[1] is is_stale:
            return made[2]
        row = self._row(view, is_stale=is_stale)
        self._made[view.key] = (view.revision, is_stale, row)
        return row

    def _row(self, view: ChannelView, *, is_stale: bool) -> Row:
        telemetry, say = view.telemetry, self._say
        work = say(f"work.{telemetry.work_status}")
        if telemetry.alarm is not None:
            work = say.either(f"trouble.{telemetry.alarm.code}", telemetry.alarm.code)
        elif self._hall.is_offline(view.key.station):
            work = say("work.offline")
        elif is_stale:
            work = say("work.stale")
        step = say("step.equalization") if view.is_equalization else say(f"step.{telemetry.step_type}")
        soc_ratio, temperature_degc = telemetry.soc_ratio, telemetry.temperature_degc
        return {
            "id": f"{view.key.station}/{view.key.channel}",
            "name": f"{view.key.station} / {view.key.channel}",
            "work": work,
            "step": step,
            "p": round(telemetry.power_w / 1_000.0, 2) + 0.0,
            "u": round(telemetry.voltage_v, 1),
            "i": round(telemetry.current_a, 1) + 0.0,
            "t": None if temperature_degc is None else round(temperature_degc, 1),
            "soc": None if soc_ratio is None else round(100.0 * soc_ratio, 1),
            "kind": kind(view, is_stale=is_stale),
            "stale": is_stale,
            "alarm": telemetry.alarm is not None,
            "stop": say("act.stop") if telemetry.work_status in _STOPPABLE else "",
        }


_STOPPABLE = {WorkStatus.WORKING, WorkStatus.PAUSED}


def kind(view: ChannelView, *, is_stale: bool) -> str:
    """Return what a row may be picked by."""
    kinds = [view.telemetry.work_status.value]
    if view.is_equalization:
        kinds.append("equalization")
    if view.telemetry.alarm is not None:
        kinds.append("alarm")
    if is_stale:
        kinds.append("stale")
    return " ".join(kinds)
