"""A real browser and the real services, shared by the tests of a module."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from broker.programs import find_mosquitto
from broker.run import start
from tests.conftest import needs
from tests.page.stage import CHROMIUM, DESKTOP, Stage, Stranger
from tests.ports import free_port

expect.set_options(timeout=90_000)

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = needs("chromium", "chromium")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def bare_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A broker, and nothing on it yet."""
    if find_mosquitto() is None:
        pytest.skip("needs mosquitto (Debian: apt install mosquitto)")
    folder = tmp_path_factory.mktemp("page")
    broker = start("mosquitto", port=free_port(), data_dir=folder / "broker")
    stage = Stage(folder, broker)
    yield stage
    stage.end()
    stage.broker.stop()


@pytest.fixture(scope="module")
def stage(bare_stage: Stage) -> Stage:
    """A hall at work, and its page."""
    bare_stage.equalizer()
    bare_stage.station()
    bare_stage.page()
    return bare_stage


@pytest.fixture
def stranger(bare_stage: Stage) -> Iterator[Stranger]:
    stranger = Stranger(bare_stage.broker.port)
    yield stranger
    stranger.end()


@pytest.fixture
def context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes visitors; what they did wrong is known at the end."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def make(**options: object) -> BrowserContext:
        context = browser.new_context(**{"viewport": DESKTOP, "locale": "en-US", **options})
        context.set_default_timeout(90_000)
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        contexts.append(context)
        return context

    yield make
    for made in contexts:
        made.close()
    assert wrong == [], "no script of the page fails"


@pytest.fixture
def open_page(stage: Stage, context: Callable[..., BrowserContext]) -> Open:
    """Open a view of the hall's page as a new visitor."""

    def visit(path: str = "/", **options: object) -> Page:
        page = context(**options).new_page()
        page.goto(stage.url + path)
        return page

    return visit


@pytest.fixture
def seen(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures go: into the documents where they are asked for."""
    return tmp_path if not request.config.getoption("--pictures") else Path(__file__).parents[2] / "docs" / "pictures"
