"""Who comes in, as what, and who does not."""

import re
import socket
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.page.stage import Stage, Stranger, serious

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

PASSWORD = "correct horse battery"  # noqa: S105 - the test's own
ALWAYS = "[sign_in]\nalways = true"


@pytest.fixture(scope="module")
def door(bare_stage: Stage) -> Stage:
    """A page that asks who comes, with a viewer and an operator."""
    (bare_stage.folder / "pw").write_text(PASSWORD + "\n")
    (bare_stage.folder / "dashboard.toml").write_text('[state]\ndir = "state-page"\n')
    for name, role in (("eve", "viewer"), ("ann", "operator")):
        words = ("dashboard-user", "add", name, "--role", role, "--password-file", "pw", "--config", "dashboard.toml")
        assert bare_stage.run(*words).returncode == 0
    bare_stage.page(more=ALWAYS)
    return bare_stage


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_a_page_open_to_the_network_does_not_start_without_users(bare_stage: Stage) -> None:
    (bare_stage.folder / "open.toml").write_text('[page]\nhost = "0.0.0.0"\n[state]\ndir = "nobody"\n')
    refused = bare_stage.run("dashboard", "--config", "open.toml")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "page.host is 0.0.0.0" in refused.stderr
    assert "zeroloop dashboard-user add" in refused.stderr


def test_who_is_not_signed_in_gets_the_door_and_nothing_else(
    door: Stage, context: Callable[..., BrowserContext]
) -> None:
    page = context().new_page()
    page.goto(door.url + "/channels")
    assert "/sign-in?next=/channels" in page.url
    sign_in(page, "ann", "a wrong password")
    assert page.get_by_role("alert").inner_text() == "Name or password is wrong."
    sign_in(page, "ann")
    page.wait_for_url("**/channels")
    assert door.status("/history") == 401
    assert door.status("/_nicegui_ws/socket.io/?EIO=4&transport=polling") == 401


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "zh-CN")])
def test_axe_finds_nothing_serious_at_the_door(
    door: Stage, context: Callable[..., BrowserContext], scheme: str, locale: str
) -> None:
    page = context(color_scheme=scheme, locale=locale).new_page()
    page.goto(door.url)
    page.locator("form").wait_for()
    assert serious(page) == []
    page.locator("input[name=name]").fill("nobody")
    page.locator("input[name=password]").fill("a wrong password")
    page.locator("button[type=submit]").click()
    page.get_by_role("alert").filter(has_text=re.compile("[.。]$")).wait_for()
    assert serious(page) == []


def test_a_viewer_sees_and_an_operator_acts(door: Stage, context: Callable[..., BrowserContext]) -> None:
    stranger = Stranger(door.broker.port)
    try:
        stranger.say()
        for name, acts in (("eve", False), ("ann", True)):
            page = context().new_page()
            page.goto(door.url + "/channels/x1/1")
            sign_in(page, name)
            page.get_by_text("350.00 V").wait_for()
            for button in ("Set to equalize", "Pause"):
                expect(page.get_by_role("button", name=button)).to_be_visible(visible=acts)
            page.get_by_role("button", name="Language, light and account").click()
            expect(page.get_by_role("menuitem", name=f"Sign out {name}")).to_be_visible()
            assert serious(page) == [], "the menu of somebody who is signed in"
            page.get_by_role("menuitem", name=f"Sign out {name}").click()
            page.wait_for_url("**/sign-in")
            page.goto(door.url + "/channels/x1/1")
            assert "/sign-in" in page.url
    finally:
        stranger.end()


def test_who_is_removed_is_out_at_once(door: Stage, context: Callable[..., BrowserContext]) -> None:
    words = (
        "dashboard-user",
        "add",
        "tom",
        "--role",
        "operator",
        "--password-file",
        "pw",
        "--config",
        "dashboard.toml",
    )
    assert door.run(*words).returncode == 0
    page = context().new_page()
    page.goto(door.url + "/alarms")
    sign_in(page, "tom")
    page.get_by_role("heading", name="Alarms").wait_for()
    assert door.run("dashboard-user", "remove", "tom", "--config", "dashboard.toml").returncode == 0
    page.wait_for_url("**/sign-in")


def test_wrong_passwords_are_slowed_down(door: Stage) -> None:
    form = b"name=mallory&password=guess-guess"
    statuses = [door.status("/sign-in", data=form)]
    # A busy computer checks a password so slowly that the first waits are over before the next try.
    while statuses[-1] != 429 and len(statuses) < 20:
        statuses.append(door.status("/sign-in", data=form))
    assert statuses[:5] == [401] * 5
    assert statuses[-1] == 429
    door.until(lambda: door.status("/sign-in", data=b"name=nobody&password=guess-guess") == 401, 120.0)


def test_other_sites_cannot_reach_it_through_a_visitors_browser(door: Stage) -> None:
    foreign = {"Origin": "http://elsewhere.example"}
    assert door.status("/sign-in", headers=foreign, data=b"name=ann&password=x") == 403
    assert websocket_status(door.page_port, origin="http://elsewhere.example") == 403


def test_on_loopback_it_answers_to_no_foreign_name(door: Stage) -> None:
    door.stop("page")
    door.page()
    assert door.status("/") == 200
    assert door.status("/", headers={"Host": f"elsewhere.example:{door.page_port}"}) == 403
    assert websocket_status(door.page_port, origin=f"http://127.0.0.1:{door.page_port}") == 101
    assert websocket_status(door.page_port, origin="http://elsewhere.example") == 403


def websocket_status(port: int, *, origin: str) -> int:
    """Ask for a WebSocket as a browser would for a page of that origin, and return the answer's status."""
    with socket.create_connection(("127.0.0.1", port), timeout=60.0) as connection:
        connection.sendall(
            b"GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
            + f"Host: 127.0.0.1:{port}\r\nOrigin: {origin}\r\n".encode()
            + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        return int(connection.recv(64).split()[1])
