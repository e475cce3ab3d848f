"""What an operator does with the page, in a real browser, on a real station."""

import re
from threading import Event

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import Open
from tests.page.stage import PHONE, Stage, Stranger

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]


def act(page: Page, name: str) -> None:
    page.get_by_role("main").get_by_role("button", name=name, exact=True).click()


def test_a_visitor_sees_in_one_picture_what_the_loop_does(open_page: Open) -> None:
    page = open_page()
    picture = page.get_by_role("region", name="The loop as a picture")
    expect(picture.locator(".node.right .value")).to_have_text(re.compile(r"^12\.\d\skW$"))
    expect(picture.locator(".node.bottom .value")).to_have_text(re.compile(r"^1[12]\.\d\skW$"))
    expect(picture.locator(".node.bottom .note")).to_have_text("discharging · 1 channel")
    expect(picture.locator(".flow.d")).to_have_class(re.compile("back"))
    expect(page.get_by_role("status")).to_have_text("Balancing")
    expect(page.get_by_text("The total is within its band.")).to_be_visible()
    expect(page.get_by_text("within ±500 W")).to_be_visible()
    expect(page.get_by_role("region", name="Today")).to_contain_text("less with the grid")


def test_equalizing_asks_first_stopping_does_not_and_both_show_the_reply(open_page: Open) -> None:
    page = open_page("/channels/s1/spare")
    act(page, "Set to equalize")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Power will flow")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("Not an equalization channel.")).to_be_visible()
    act(page, "Set to equalize")
    page.get_by_role("dialog").get_by_role("button", name="Set to equalize").click()
    expect(page.get_by_text(re.compile("Set to equalize: accepted"))).to_be_visible()
    expect(page.get_by_text("Can discharge")).to_be_visible()
    page.get_by_role("link", name="Now").click()
    page.get_by_role("button", name="Stop s1 / spare").click()
    expect(page.get_by_text(re.compile("Stop: accepted"))).to_be_visible()
    expect(page.get_by_role("button", name="Stop s1 / spare")).to_be_hidden()


def test_a_reply_is_shown_even_where_the_button_is_gone_before_it_comes(stranger: Stranger, open_page: Open) -> None:
    limits = {"charge_limit_w": 9e3, "discharge_limit_w": 9e3, "ramp_w_per_s": 9e3, "applied_w": 0.0}
    stranger.say(work_status="working", step_type="sim", equalization=limits)
    page = open_page()
    stop = page.get_by_role("button", name="Stop x1 / 1")

    gone = Event()

    def leave_first() -> None:
        stranger.say(work_status="stopped")
        gone.wait(3.0)  # the page waits for four

    stranger.before_reply = leave_first
    stop.click()
    expect(stop).to_be_hidden()
    gone.set()
    expect(page.get_by_text(re.compile("Stop: accepted"))).to_be_visible()


def test_a_refusal_says_why_and_what_to_do(open_page: Open) -> None:
    page = open_page("/channels/s1/empty")
    act(page, "Set to equalize")
    page.get_by_role("dialog").get_by_role("button", name="Set to equalize").click()
    alert = page.get_by_role("alert").filter(has_text="refused")
    expect(alert).to_contain_text("no battery is connected. Connect the battery, then try again.")
    alert.get_by_role("button", name="Close").click()
    expect(alert).to_be_hidden()


def test_a_refusal_lies_neither_on_pause_and_stop_nor_on_the_way_about_on_a_phone(open_page: Open) -> None:
    page = open_page("/channels/s1/empty", viewport=PHONE)
    act(page, "Set to equalize")
    page.get_by_role("dialog").get_by_role("button", name="Set to equalize").click()
    expect(page.get_by_role("alert").filter(has_text="refused")).to_be_visible()
    for _ in range(2):
        act(page, "Stop")
    expect(page.get_by_role("alert").filter(has_text="There is nothing to stop")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("link", name="Now").click()
    expect(page.get_by_role("status")).to_have_text("Paused")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_a_program_is_started_and_stopped(open_page: Open) -> None:
    page = open_page("/channels/s1/idle")
    act(page, "Start program")
    page.get_by_role("dialog").get_by_role("button", name="Start program").click()
    expect(page.locator(".measures").first).to_contain_text(re.compile(r"\+3\.0\d\skW"))
    expect(page.get_by_text("CP charge")).to_be_visible()
    expect(page.get_by_text("the plan's knowledge ends")).to_be_visible()
    act(page, "Stop")
    expect(page.locator(".chip")).to_have_text("stopped")


def test_the_loop_is_paused_resumed_and_given_a_target(open_page: Open) -> None:
    page = open_page("/alarms")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    page.get_by_role("link", name="Now").click()
    expect(page.get_by_role("status")).to_have_text("Paused")
    expect(page.get_by_text("Stopped by an operator: every equalization channel is at 0 W.")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Target")).click()
    page.get_by_role("dialog").get_by_label("Target in kW").fill("4")
    page.get_by_role("dialog").get_by_role("button", name="Set target").click()
    expect(page.get_by_role("button", name="Target +4.00 kW")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Target")).click()
    page.get_by_role("dialog").get_by_label("Target in kW").fill("0")
    page.get_by_role("dialog").get_by_role("button", name="Set target").click()
    expect(page.get_by_role("button", name="Target 0 W")).to_be_visible()


def test_everything_can_be_done_by_keyboard(open_page: Open) -> None:
    page = open_page()
    expect(page.get_by_role("status")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to content")
    page.get_by_role("link", name="Channels").focus()
    page.keyboard.press("Enter")
    row = page.locator(".ag-row").filter(has_text="s1 / idle").first
    row.locator(".ag-cell").first.click()
    page.wait_for_url("**/channels/s1/idle")
    page.go_back()
    page.wait_for_url("**/channels")
    cell = page.locator('.ag-row[row-id="s1/idle"] .ag-cell[col-id="name"]')
    expect(cell.get_by_role("link")).to_be_visible()
    cell.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/channels/s1/idle")
    page.get_by_role("button", name="Set to equalize").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_channels_are_found_by_word_and_by_kind_and_lead_to_their_detail(open_page: Open) -> None:
    page = open_page("/channels")
    rows = page.locator(".ag-pinned-left-cols-container .ag-row")
    expect(rows).to_have_count(5)
    page.get_by_label("Search").fill("load")
    expect(rows).to_have_count(1)
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="Equalization", exact=True).click()
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("s1 / eq")
    page.get_by_role("button", name="All", exact=True).click()
    page.locator('.ag-header-cell[col-id="p"]').click()
    page.locator('.ag-header-cell[col-id="p"]').click()
    expect(rows.first).to_contain_text("s1 / load")
    rows.first.get_by_role("link").click()
    page.wait_for_url("**/channels/s1/load")
    expect(page.get_by_text("CP charge")).to_be_visible()


def test_an_alarm_comes_first_is_seen_kept_and_notified(stranger: Stranger, open_page: Open) -> None:
    page = open_page("/alarms", permissions=["notifications"])
    page.evaluate(
        "() => { window.told = []; window.Notification = class { static permission = 'granted';"
        " constructor(title, options) { window.told.push(options.body); } }; }"
    )
    page.get_by_text("Alarms", exact=True).first.wait_for()
    stranger.say(work_status="protect", alarm={"code": "over_voltage", "text": "436.1 V, allowed are 430.0 V"})
    row = page.locator(".trouble-row").filter(has_text="x1 / 1")
    expect(row).to_contain_text("over-voltage")
    expect(row).to_contain_text("436.1 V, allowed are 430.0 V")
    expect(page.locator(".badge")).to_have_text(re.compile(r"^\d+$"))
    page.wait_for_function("window.told.includes('x1 / 1: over-voltage')")
    # Whatever comes meanwhile, what somebody is about to press stays what it is.
    clear = row.get_by_role("button", name="Clear alarm")
    clear.evaluate("button => { button.dataset.about = 'to be pressed'; }")
    stranger.say_status("offline")
    expect(page.locator(".trouble-row").filter(has_text="x1: station")).to_be_visible()
    stranger.say_status("online")
    expect(clear).to_have_attribute("data-about", "to be pressed")
    stranger.refusal = ("alarm", "the voltage is high still")
    clear.click()
    expect(page.get_by_role("alert").filter(has_text="refused")).to_contain_text("See to the cause")
    assert stranger.asked == ["clear_alarm"]
    row.get_by_role("button", name="Seen", exact=True).click()
    stranger.say()
    seen = page.get_by_role("region", name="Seen", exact=True)
    expect(seen).to_contain_text("x1 / 1: over-voltage")
    expect(seen).to_contain_text("over after")
    expect(page.get_by_role("region", name="Open")).not_to_contain_text("x1 / 1")


def test_history_survives_a_reload_and_a_restart_of_the_page(stage: Stage, open_page: Open) -> None:
    page = open_page("/history")
    done = page.locator("ol.done")
    expect(done).to_contain_text("Equalization changed:")
    expect(page.locator(".plot svg").first).to_be_visible()
    page.wait_for_timeout(10_000)  # where this is the first experiment, the change is just now, under the line of now
    page.reload()
    expect(page.locator(".plot svg").first).to_be_visible()
    told = "|".join({re.escape(text) for text in done.locator("li > :last-child").all_inner_texts()})
    page.locator('.plot svg path[fill="var(--helper)"]').last.hover(force=True)
    expect(page.locator(".plot").get_by_text(re.compile(told))).to_be_visible()  # the last may be an operator's act
    first = done.locator("li").last.inner_text()
    page.reload()
    expect(done.locator("li").last).to_have_text(re.compile(re.escape(first.split("\n")[0])))
    stage.until((stage.folder / "state-page" / "dashboard.sqlite").exists)
    page.goto("about:blank")  # left open, it would load itself anew when it is served again, amid the next visit
    assert stage.stop("page") == 0
    stage.page()
    page.goto(stage.url + "/history")
    expect(done).to_contain_text(first.split("\n")[0])
    for name in ("8 h", "24 h", "15 min"):
        page.get_by_role("button", name=name).click()
        expect(page.locator(".plot svg").first).to_be_visible()
