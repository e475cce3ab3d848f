"""What an operator does: asked back where power will flow, and answered in words."""

import math

from nicegui import ui

from dashboard import figures
from dashboard.desk import NoReply
from dashboard.hall import Key
from dashboard.pages.parts import Text, box, put
from dashboard.pages.visit import Visit
from schemas.messages import ChannelAction, LoopAction, Reply, ReplyResult

_POWER_FLOWS = {ChannelAction.EQUALIZE, ChannelAction.START, LoopAction.RESUME, LoopAction.SET_TARGET}
_ACCEPTED_FOR_MS = 4_000
_KILO = 1_000.0


async def ask_channel(visit: Visit, key: Key, action: ChannelAction) -> None:
    """Have a channel do something, once the operator has confirmed what needs it."""
    with ui.context.client:  # the button may be gone before the reply comes
        where = visit.say("act.channel", station=key.station, channel=key.channel)
        if await _agreed(visit, action, where):
            reply = await visit.hub.desk.channel(key.station, key.channel, action, visit.identity.name)
            _show(visit, f"{where} {figures.DASH} {visit.say(f'act.{action}')}", action, reply)


async def ask_loop(visit: Visit, action: LoopAction) -> None:
    """Have the equalizer do something, once the operator has confirmed what needs it."""
    with ui.context.client:
        where = visit.say("act.loop", loop=visit.hall.loop)
        if await _agreed(visit, action, where):
            reply = await visit.hub.desk.loop(action, visit.identity.name)
            _show(visit, f"{where} {figures.DASH} {visit.say(f'act.{action}')}", action, reply)


async def ask_target(visit: Visit) -> None:
    """Ask for a target and have the equalizer steer to it."""
    with ui.context.client:
        if not _may(visit):
            return
        target_w = await _target_w(visit)
        if target_w is not None and _may(visit):
            reply = await visit.hub.desk.loop(LoopAction.SET_TARGET, visit.identity.name, target_w)
            what = f"{visit.say('act.set_target')} {figures.signed(target_w)}"
            _show(visit, what, LoopAction.SET_TARGET, reply)


async def _target_w(visit: Visit) -> float | None:
    """Return the target that the operator enters; None: none."""
    say, balance = visit.say, visit.hall.balance
    now_kw = 0.0 if balance is None else balance.target_power_w / _KILO
    with ui.dialog() as dialog, ui.card().classes("ask"):
        _title(dialog, say("act.set_target"))
        Text("p", say("confirm.set_target_what"))
        entry = ui.number(say("confirm.target_kw"), value=now_kw, format="%.3f", step=1)
        entry.props("outlined autofocus").classes("full-width")
        Text("p", say("confirm.set_target"), "warning")
        _buttons(visit, dialog, say("act.set_target"))
    agreed = await dialog
    dialog.delete()
    if not agreed or entry.value is None or not math.isfinite(entry.value):
        return None
    return float(entry.value) * _KILO


def _may(visit: Visit) -> bool:
    """Whether the visitor may act now: a session may have ended, a role may have changed."""
    if not visit.still_here():
        return False
    if not visit.identity.may_act:
        ui.notify(visit.say("reply.viewer"), type="negative")
        return False
    return True


async def _agreed(visit: Visit, action: ChannelAction | LoopAction, where: str) -> bool:
    if not _may(visit):
        return False
    if action not in _POWER_FLOWS:
        return True
    say = visit.say
    with ui.dialog() as dialog, ui.card().classes("ask"):
        _title(dialog, say(f"act.{action}"))
        Text("p", where)
        Text("p", say(f"confirm.{action}"), "warning")
        _buttons(visit, dialog, say(f"act.{action}"))
    agreed = bool(await dialog)
    dialog.delete()
    return agreed and _may(visit)


def _title(dialog: ui.dialog, title: str) -> None:
    Text("h2", title)
    put(dialog, "aria-label", title)


def _buttons(visit: Visit, dialog: ui.dialog, yes: str) -> None:
    with box("div", "buttons"):
        ui.button(visit.say("confirm.no"), on_click=lambda: dialog.submit(None), color=None).classes("act plain").props(
            "flat"
        )
        ui.button(yes, on_click=lambda: dialog.submit("yes"), color=None).classes("act main").props("flat")


def _show(visit: Visit, what: str, action: ChannelAction | LoopAction, reply: Reply | NoReply) -> None:
    """Say what became of it; a refusal stays until it is put away, and says what to do."""
    say = visit.say
    if isinstance(reply, Reply) and reply.result is ReplyResult.ACCEPTED:
        text = say("reply.accepted", what=what, done=say(f"done.{action}"))
        ui.notify(text, type="positive", timeout=_ACCEPTED_FOR_MS, position="bottom")
        return
    if isinstance(reply, NoReply):
        text = say(f"reply.{reply.reason}", what=what)
    else:
        code = "not_active" if reply.reason is None else reply.reason.value
        text = say("reply.rejected", what=what, why=say(f"why.{code}"), advice=say(f"advice.{code}"), text=reply.text)
    close = [{"label": say("reply.close"), "color": "white", "noCaps": True}]
    ui.notify(text, type="negative", timeout=0, actions=close, position="bottom", multi_line=True)
