"""The door as an ASGI application, without a server."""

import asyncio
import datetime as dt
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from dashboard.accounts import Accounts, Role
from dashboard.alarms import AlarmBook
from dashboard.config import DashboardSettings, PageSection
from dashboard.desk import Desk, NoReply
from dashboard.energy import DayBook
from dashboard.gate import COOKIE, IDENTITY, Gate, Receive, Scope, Send
from dashboard.hall import Hall
from dashboard.history import History
from dashboard.hub import Hub
from dashboard.sessions import Sessions
from schemas.codec import encode
from schemas.messages import ChannelAction, Reply, ReplyResult

PASSWORD = "correct horse battery"  # noqa: S105 - the test's own


def hub(folder: Path, *, host: str = "127.0.0.1", may_act: bool = True) -> Hub:
    days = DayBook(lambda _: 0.0, lambda at_s: dt.datetime.fromtimestamp(at_s, dt.UTC))
    return Hub(
        settings=DashboardSettings(page=PageSection(host=host)),
        hall=Hall("main", history=History(), alarms=AlarmBook(), days=days, band_w=1.0),
        desk=Desk("main", lambda _topic, _payload: False),
        accounts=Accounts(folder),
        sessions=Sessions(3_600.0),
        clock=lambda: 0.0,
        utc=lambda: 0.0,
        local=lambda at_s: dt.datetime.fromtimestamp(at_s, dt.UTC),
        somebody="ann@desk",
        version="1",
        may_act=may_act,
    )


async def ask(hub: Hub, *, kind: str = "http", path: str = "/", method: str = "GET", **headers: str) -> dict[str, Any]:
    """Knock, and return what came of it: the status, the place one is sent to, and who the page takes one for."""
    told: dict[str, Any] = {}

    async def inside(scope: Scope, _receive: Receive, send: Send) -> None:
        told["identity"] = scope[IDENTITY]
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: MutableMapping[str, Any]) -> None:
        told.setdefault("status", message.get("status", message.get("code")))
        told.update({name.decode(): value.decode() for name, value in message.get("headers", ())})

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": path, "headers": pairs}
    await Gate(inside, hub)(scope, None, send)  # type: ignore[arg-type]  # nobody receives
    return told


async def test_on_loopback_whoever_sits_there_may_act(tmp_path: Path) -> None:
    told = await ask(hub(tmp_path), host="127.0.0.1:8465")
    assert (told["status"], told["identity"].name, told["identity"].may_act) == (200, "ann@desk", True)
    assert "default-src 'self'" in told["content-security-policy"]


async def test_a_page_that_the_broker_lets_watch_only_has_viewers_only(tmp_path: Path) -> None:
    told = await ask(hub(tmp_path, may_act=False), host="localhost:8465")
    assert not told["identity"].may_act


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.5:8465"])
async def test_on_loopback_foreign_names_are_turned_away(tmp_path: Path, host: str) -> None:
    assert (await ask(hub(tmp_path), host=host))["status"] == 403


@pytest.mark.parametrize(("kind", "status"), [("http", 403), ("websocket", 1008)])
async def test_other_origins_are_turned_away(tmp_path: Path, kind: str, status: int) -> None:
    told = await ask(hub(tmp_path), kind=kind, method="POST", host="localhost:1", origin="http://evil.example")
    assert told["status"] == status
    assert "identity" not in told


async def test_elsewhere_one_signs_in_first(tmp_path: Path) -> None:
    open_hub = hub(tmp_path, host="0.0.0.0")  # noqa: S104 - what is tested
    sent = await ask(open_hub, host="hall:8465", path="/alarms", accept="text/html")
    assert (sent["status"], sent["location"]) == (303, "/sign-in?next=/alarms")
    assert (await ask(open_hub, host="hall:8465", path="/_nicegui_ws/socket.io/"))["status"] == 401
    assert (await ask(open_hub, kind="websocket", host="hall:8465"))["status"] == 1008
    assert (await ask(open_hub, host="hall:8465", path="/sign-in"))["status"] == 200
    open_hub.accounts.put("eve", Role.VIEWER, PASSWORD)
    token = open_hub.sessions.begin("eve", open_hub.accounts.users()["eve"], 0.0)
    told = await ask(open_hub, host="hall:8465", path="/alarms", cookie=f"{COOKIE}={token}")
    assert (told["status"], told["identity"].name, told["identity"].may_act) == (200, "eve", False)


async def test_a_command_without_a_broker_is_not_kept_for_later(tmp_path: Path) -> None:
    assert await hub(tmp_path).desk.channel("s1", "1", ChannelAction.START, "ann") == NoReply("no_broker")


async def test_the_one_reply_reaches_who_asked() -> None:
    sent: list[tuple[str, bytes]] = []
    desk = Desk("main", lambda topic, payload: sent.append((topic, payload)) is None)
    asking = asyncio.create_task(desk.channel("s1", "1", ChannelAction.STOP, "ann"))
    await asyncio.sleep(0)
    topic, payload = sent[0]
    identity = payload.decode().split('"id":"')[1].split('"')[0]
    reply = Reply(id=identity, action="stop", result=ReplyResult.ACCEPTED, text="ramps to 0 W", unix_time_s=0.0)
    assert desk.take(topic.replace("/command", "/reply"), b"{") is True
    assert desk.take(topic, payload) is False
    assert desk.take(topic.replace("/command", "/reply"), encode(reply)) is True
    assert await asking == reply
