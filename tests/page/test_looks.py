"""How the page is for everybody: two languages, two lights, two sizes, with a screen reader, without the internet."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, Response, expect

from dashboard.words import words
from tests.page.conftest import Open
from tests.page.stage import DESKTOP, PHONE, Stage, Stranger, serious

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

VIEWS = ("/", "/history", "/channels", "/channels/s1/eq", "/alarms")
ALLOWED_LATIN = re.compile(
    r"\b(?:zeroloop|main|equalizer|English|kWh?|Wh?|MW|V|A|s|min|h|d|kV|°C|s1|eq|load|spare|idle|empty|no|where|€)\b"
)
ICONS = r"(keyboard|more_vert|bolt|timeline|view_list|notifications|pause|check|error|warning)"


def settled(page: Page) -> Page:
    page.locator(".bar").wait_for()
    page.wait_for_timeout(1_500)
    return page


SCREENS = [
    ("light", DESKTOP, "en-US"),
    ("dark", PHONE, "en-US"),
    ("dark", DESKTOP, "zh-CN"),
    ("light", PHONE, "zh-CN"),
]


@pytest.mark.parametrize(("scheme", "size", "locale"), SCREENS)
def test_axe_finds_nothing_serious_and_nothing_runs_over_the_edge(
    stage: Stage, open_page: Open, scheme: str, size: dict[str, int], locale: str
) -> None:
    page = open_page("/", color_scheme=scheme, viewport=size, locale=locale)
    for path in (*VIEWS, "/nowhere", "/channels/no/where"):
        page.goto(stage.url + path)
        settled(page)
        assert serious(page) == [], path
        wide, seen = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= seen, f"{path} is {wide} px wide on a screen of {seen} px"


COVERED = """() => [...document.querySelectorAll('.chart svg')].flatMap(chart => {
    const words = [...chart.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
    return words.flatMap(([one, a], at) =>
        words.slice(at + 1).filter(([, b]) => !apart(a, b)).map(([other]) => `${one} / ${other}`));
})"""


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_on_320_pixels_nothing_runs_over_the_edge(stage: Stage, open_page: Open, locale: str) -> None:
    """As narrow as WCAG 2.2 asks for (1.4.10, reflow): a small phone, or a page at four times its size."""
    page = open_page("/", viewport={"width": 320, "height": 640}, locale=locale)
    for path in VIEWS:
        page.goto(stage.url + path)
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_word_of_a_chart_covers_another(stage: Stage, open_page: Open, size: dict[str, int], locale: str) -> None:
    page = open_page("/", viewport=size, locale=locale)
    for path in ("/", "/history", "/channels/s1/eq"):
        page.goto(stage.url + path)
        settled(page)
        page.locator(".chart svg text").first.wait_for()
        assert page.evaluate(COVERED) == [], path


@pytest.mark.parametrize(("scheme", "size", "locale"), SCREENS)
def test_axe_finds_nothing_serious_in_questions_answers_menus_and_alarms(  # noqa: PLR0917 - pytest's fixtures
    stage: Stage, stranger: Stranger, open_page: Open, scheme: str, size: dict[str, int], locale: str
) -> None:
    say = words("zh" if locale == "zh-CN" else "en")
    stranger.say_status("online")
    stranger.say(work_status="protect", alarm={"code": "over_voltage", "text": "436.1 V, allowed are 430.0 V"})
    page = open_page("/channels/s1/empty", color_scheme=scheme, viewport=size, locale=locale)
    settled(page)
    act = page.get_by_role("main").get_by_role("button", name=say("act.equalize"), exact=True)
    act.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(say("confirm.equalize"))
    assert serious(page) == [], "a question"
    dialog.get_by_role("button", name=say("act.equalize")).click()
    expect(page.get_by_role("alert").filter(has_text=say("why.battery_not_connected"))).to_be_visible()
    assert serious(page) == [], "a refusal"
    page.get_by_role("alert").get_by_role("button", name=say("reply.close")).click()
    page.goto(stage.url)
    settled(page)
    page.locator(".card .act.plain").first.click()
    expect(dialog).to_contain_text(say("confirm.set_target_what"))
    assert serious(page) == [], "the target"
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name=say("act.pause")).click()
    expect(page.get_by_role("alert").filter(has_text=say("done.pause"))).to_be_visible()
    assert serious(page) == [], "an answer"
    page.get_by_role("button", name=say("act.resume")).click()
    dialog.get_by_role("button", name=say("act.resume")).click()
    expect(page.get_by_role("button", name=say("act.pause"))).to_be_visible()
    page.get_by_role("button", name=say("frame.menu")).click()
    expect(page.get_by_text(say("menu.other_language"))).to_be_visible()
    assert serious(page) == [], "the menu"
    page.goto(stage.url + "/alarms")
    expect(page.locator(".trouble-row").filter(has_text="x1 / 1").first).to_be_visible()
    settled(page)
    assert serious(page) == [], "alarms"
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= seen
    stranger.say()


def test_what_services_say_is_told_in_the_visitors_language(stranger: Stranger, open_page: Open) -> None:
    page = open_page("/alarms", locale="zh-CN")
    values = {"value_v": 436.1, "limit_v": 430.0}
    alarm = {"code": "over_voltage", "text": "436.1 V is above 430.0 V", "values": values}
    stranger.say(work_status="protect", alarm=alarm)
    stranger.tell("stalled", "this process stood still for 7.4 s", {"gap_s": 7.4})
    stranger.tell("k3", "contactor K3 has 90,000 cycles", {"cycles": 90_000})
    rows = page.locator(".trouble-row")
    expect(page.locator(".trouble-row:not(.over)").filter(has_text="过压")).to_contain_text("上限为 430.0\u00a0V")
    expect(rows.filter(has_text="停顿")).to_contain_text("进程停顿了 7\u00a0s")
    expect(rows.filter(has_text="x1: k3")).to_contain_text("“contactor K3 has 90,000 cycles”")
    stranger.say()


def test_in_chinese_nothing_is_left_in_english(stage: Stage, open_page: Open) -> None:
    page = open_page("/", locale="zh-CN")
    for path in (*VIEWS, "/nowhere", "/channels/no/where"):
        page.goto(stage.url + path)
        settled(page)
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        seen = page.evaluate("document.body.innerText")
        labels = page.evaluate(
            "[...document.querySelectorAll('#app [aria-label], #app [title], #app [placeholder]')]"
            ".filter(e => !e.closest('.ag-root-wrapper'))"
            ".map(e => e.getAttribute('aria-label') || e.title || e.placeholder)"
        )
        for line in [*seen.splitlines(), *labels]:
            if "“" in line or re.match(ICONS, line):
                continue  # what somebody else said, or an icon's name
            left = ALLOWED_LATIN.sub("", re.sub(r"\S+@\w+", "", line))  # without who it was
            assert not re.search(r"[A-Za-z]{2,}", left), f"{path}: {line!r}"


def test_language_and_light_are_chosen_once_and_kept(stage: Stage, open_page: Open) -> None:
    page = settled(open_page("/alarms"))
    page.get_by_role("button", name="Language, light and account").click()
    page.get_by_text("中文").click()
    page.get_by_role("heading", name="报警").wait_for()
    page.get_by_role("button", name="语言、明暗与账户").click()
    page.get_by_text("深色").click()
    page.locator("body.body--dark").wait_for()
    page.goto(stage.url + "/history")
    page.locator("body.body--dark").wait_for()
    page.get_by_role("heading", name="历史", exact=True).wait_for()


def test_nothing_is_fetched_from_elsewhere(stage: Stage, context: Callable[..., BrowserContext]) -> None:
    asked: set[str] = set()
    policies: list[str] = []
    page = context().new_page()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc or urlsplit(request.url).scheme))

    def note(response: Response) -> None:
        if response.request.resource_type == "document":
            policies.append(response.headers.get("content-security-policy", ""))

    page.on("response", note)
    for path in VIEWS:
        page.goto(stage.url + path)
        settled(page)
    assert asked <= {urlsplit(stage.url).netloc, "data", "blob"}
    assert policies
    for policy in policies:
        assert "default-src 'self'" in policy
        assert "http" not in policy
