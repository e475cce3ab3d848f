"""What the page says when something is gone, and how it comes back."""

import re
import time

import pytest
from playwright.sync_api import Page

from broker.run import start
from dashboard.figures import MINUS
from tests.page.conftest import Open
from tests.page.stage import Stage, Stranger, serious

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]


def banner(page: Page, text: str) -> None:
    page.locator(".banner.shown").filter(has_text=re.compile(text)).wait_for()


def test_thousands_of_channels_are_drawn_as_few_rows_and_stay_live(stage: Stage, open_page: Open) -> None:
    names = tuple(str(number) for number in range(1, 2_001))
    many = Stranger(stage.broker.port, "many", names)
    try:
        for name in names:
            many.say(name, power_w=100.0)
        page = open_page("/channels")
        page.get_by_text("2005 channels").wait_for()
        page.get_by_label("Search").fill("many / 1999")
        page.locator('.ag-row[row-id="many/1999"]').first.wait_for()
        many.say("1999", power_w=-77_770.0, work_status="working", step_type="cp_dchg")
        page.locator('.ag-row[row-id="many/1999"] .discharge').filter(has_text=f"{MINUS}77.77").wait_for()
        page.get_by_label("Search").fill("")
        page.locator('.ag-row[row-id="many/1"]').first.wait_for()
        assert page.locator(".ag-center-cols-container .ag-row").count() < 100
        until_s = time.monotonic() + 60.0
        while page.locator(".ag-row.stale").count() == 0 and time.monotonic() < until_s:
            page.wait_for_timeout(200)
        assert page.locator(".ag-row.stale").count() > 0, "who is silent looks so"
    finally:
        many.end()


def test_a_lost_server_and_a_lost_broker_are_said_at_once_and_both_come_back(stage: Stage, open_page: Open) -> None:
    page = open_page()
    page.get_by_role("status").filter(has_text="Balancing").wait_for()
    stage.processes["equalizer"].kill()
    stage.processes.pop("equalizer").wait()
    banner(page, "The server equalizer is offline")
    page.locator(".picture.stale").wait_for()
    page.get_by_role("link", name="Alarms").click()
    page.get_by_role("region", name="Open").get_by_text("equalizer offline").wait_for()
    port = stage.broker.port
    stage.broker.stop()
    banner(page, "No connection to the broker")
    assert serious(page) == [], "what is old can be read still"
    page.get_by_role("button", name="Pause").click()
    page.get_by_text(re.compile("not sent, as there is no connection to the broker")).wait_for()
    stage.broker = start("mosquitto", port=port, data_dir=stage.folder / "broker")
    stage.equalizer()
    page.get_by_role("link", name="Now").click()
    page.get_by_role("status").filter(has_text="Balancing").wait_for(timeout=90_000)
    page.locator(".banner:not(.shown)").wait_for(state="attached")
    page.get_by_role("region", name="The loop as a picture").locator(".node.right .value").filter(
        has_text=re.compile(r"12\.\d\skW")
    ).wait_for()
