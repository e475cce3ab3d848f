"""The documents' pictures, taken of the demo as a newcomer sees it: `make screenshots`."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.page.stage import DESKTOP, PHONE

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(2_400)]

PLAYS_S = float(os.environ.get("ZEROLOOP_PICTURES_AFTER_S", "780"))
"""The demo plays so long before it is looked at: the charts show a quarter of an hour."""
LARGEST_BYTES = 200_000


@pytest.fixture(scope="module")
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Play the demo and yield its page's address."""
    if not request.config.getoption("--pictures"):
        pytest.skip("takes the documents' pictures; asked for by --pictures (make screenshots)")
    folder = tmp_path_factory.mktemp("demo")
    with (folder / "demo.log").open("wb") as log:
        command = [sys.executable, "-m", "zeroloop", "demo", "--state-dir", str(folder / "state")]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + 120.0
        while (said := re.search(r"^page +(http\S+)", (folder / "demo.log").read_text(), re.MULTILINE)) is None:
            assert time.monotonic() < until_s, "the demo did not start"
            time.sleep(0.5)
        time.sleep(PLAYS_S)
        yield said[1].rstrip("/")
    finally:
        process.terminate()
        process.wait(60.0)


SHOTS = {
    "page-now": ("/", DESKTOP, "light", "en-US"),
    "page-now-dark": ("/", DESKTOP, "dark", "en-US"),
    "page-phone": ("/", PHONE, "light", "en-US"),
    "page-phone-zh": ("/", PHONE, "dark", "zh-CN"),
    "page-history": ("/history", DESKTOP, "light", "en-US"),
    "page-channels": ("/channels", DESKTOP, "light", "en-US"),
    "page-channels-zh": ("/channels", DESKTOP, "dark", "zh-CN"),
    "page-channel": ("/channels/equalization/1", DESKTOP, "light", "en-US"),
}


@pytest.mark.parametrize("name", SHOTS)
def test_the_page_as_the_documents_show_it(
    demo: str, context: Callable[..., BrowserContext], seen: Path, name: str
) -> None:
    path, size, scheme, locale = SHOTS[name]
    page = context(viewport=size, color_scheme=scheme, locale=locale).new_page()
    page.goto(demo + path)
    page.locator(".bar").wait_for()
    page.wait_for_timeout(5_000)
    if path == "/":
        page.locator(".hub.inside").wait_for()
    picture = seen / f"{name}.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size < LARGEST_BYTES
