"""What services and operators said, in the visitor's language; what the catalogue does not know, as it was said."""

from dashboard import figures
from dashboard.history import Mark
from dashboard.pages.visit import Visit
from dashboard.words import Words
from schemas.messages import LoopAction, Values

_LONGEST = 300


def told(say: Words, code: str, text: str, values: Values | None) -> str:
    """Return what an event or an alarm says beyond its code; empty: nothing."""
    key = f"told.{code}"
    if code == "certificate_expiry" and values is not None and _is_over(values):
        key = "told.certificate_expired"
    if values is not None and say.fits(key, values):
        return say.filled(key, values, lambda name, value: _shown(say, name, value))
    return say("alarms.said", text=text) if text else ""


def act(visit: Visit, mark: Mark) -> str:
    """Return what an operator did."""
    say, values = visit.say, mark.values or {}
    place = visit.place(mark.source) if mark.source.startswith("station/") else ""
    action = values.get("action", mark.code.removeprefix("command_"))
    if mark.values is None or f"act.{action}" not in say.texts:
        return say("history.said", text=f"{place}: {mark.text}" if place else mark.text)
    what = say(f"act.{action}")
    target_power_w = values.get("target_power_w")
    if action == LoopAction.SET_TARGET and isinstance(target_power_w, int | float):
        what = f"{what} {figures.signed(target_power_w)}"
    name = str(values.get("by", say("history.somebody")))[:_LONGEST]
    return say("history.act", name=name, what=f"{place} {figures.DASH} {what}" if place else what)


def _is_over(values: Values) -> bool:
    left_s = values.get("left_s")
    return isinstance(left_s, int | float) and left_s <= 0.0


def _shown(say: Words, name: str, value: object) -> str:
    """Return a value as people read it; its name has its unit."""
    if not isinstance(value, int | float):
        return _word(say, name, str(value))[:_LONGEST]
    match name.rpartition("_")[2]:
        case "w":
            return figures.signed(value)
        case "v" | "a":
            return figures.number(value, 1, name[-1].upper())
        case "degc":
            return figures.number(value, 1, "°C")
        case "s":
            return figures.duration(abs(value))
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)


def _word(say: Words, name: str, value: str) -> str:
    if name == "which":
        return say.either(f"certificate.{value}", value)
    if name == "reason":
        return say.either(f"why.{value}", say.either(f"doubt.{value}", value))
    return value
