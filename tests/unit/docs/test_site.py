"""The documents as a site: built without a warning, and whole without the internet."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FETCHED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//([^"'\s>]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="needs mkdocs-material (pip install '.[docs]')")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def test_every_part_has_its_page(site: Path) -> None:
    pages = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    assert {
        "index.html",
        "tutorial.html",
        "integrate.html",
        "howto/deploy.html",
        "reference/configuration.html",
    } <= pages
    assert "decisions/0006-control.html" in pages


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    found = {
        (path.name, host) for path in site.rglob("*.html") for host in FETCHED.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert "url(http" not in styles
    assert "@import" not in styles


def test_no_link_leads_out_of_the_site_into_the_tree(site: Path) -> None:
    """Those of the documents that do are shown as paths."""
    deploy = (site / "howto/deploy.html").read_text(encoding="utf-8")
    assert 'href="../security.html"' in deploy
    for page in set(site.rglob("*.html")) - {site / "404.html"}:
        for target in re.findall(r'href="([^":#?]+)[#"]', page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
