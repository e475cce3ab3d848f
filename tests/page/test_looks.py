"""How the page is for everybody: two languages, two lights, two sizes, with a screen reader, without the internet."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, Response

from tests.page.conftest import Open
from tests.page.stage import DESKTOP, PHONE, Stage

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

VIEWS = ("/", "/history", "/channels", "/channels/s1/eq", "/alarms")
ALLOWED_LATIN = re.compile(
    r"\b(?:zeroloop|main|equalizer|English|kWh?|Wh?|MW|V|A|s|min|h|d|kV|°C|s1|eq|load|spare|idle|empty|no|where|€)\b"
)


def settled(page: Page) -> Page:
    page.locator(".bar").wait_for()
    page.wait_for_timeout(1_500)
    return page


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)])
def test_axe_finds_nothing_serious_and_nothing_runs_over_the_edge(
    open_page: Open, scheme: str, size: dict[str, int]
) -> None:
    axe = Axe()
    page = open_page("/", color_scheme=scheme, viewport=size)
    for path in VIEWS:
        page.goto(page.url.split("/", 3)[0] + "//" + urlsplit(page.url).netloc + path)
        settled(page)
        found = [
            (path, item["id"], item["impact"], [node["html"][:200] for node in item["nodes"]][:3])
            for item in axe.run(page).response["violations"]
            if item["impact"] in {"serious", "critical"}
        ]
        assert found == []
        wide, seen = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= seen, f"{path} is {wide} px wide on a screen of {seen} px"


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
            if "“" in line or re.match(r"(keyboard|more_vert|bolt|timeline|view_list|notifications|pause|check)", line):
                continue  # what somebody else said, or an icon's name
            left = ALLOWED_LATIN.sub("", line)
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
