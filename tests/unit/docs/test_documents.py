"""What the documents say is so: links lead somewhere, commands and options exist, configurations are accepted."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import tomli

from dashboard.config import DashboardSettings
from equalizer.config import EqualizerSettings
from schemas.messages import AlarmCode, ChannelAction, Phase, SetpointReason
from schemas.settings import ConfigurationError, Section, parse
from simulation.scenario import Scenario
from station.config import StationSettings
from zeroloop.main import main

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "deploy/README.md"])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
GROUPS = {"audit", "conform", "credentials", "dashboard-user"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


@cache
def prose(path: Path) -> str:
    """Return a document without its code blocks."""
    return FENCE.sub("", path.read_text())


def blocks(path: Path, language: str) -> list[str]:
    return [text for _, written_in, text in FENCE.findall(path.read_text()) if written_in == language]


# ── links ────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as both the site and the usual viewers make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*)$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())
        found.add(slug)
    return found


def dead_links(path: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(path))):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield target


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    assert list(dead_links(document)) == []


def test_a_dead_link_and_a_dead_anchor_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One heading\n[a](nowhere.md) [b](#another) [c](#one-heading) `[d](code)`\n")
    assert list(dead_links(page)) == ["nowhere.md", "#another"]


def test_every_document_is_in_the_sites_navigation() -> None:
    """But for the decisions, which the site lists by itself."""
    navigation = (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]
    names = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert [name for name in sorted(names) if name not in navigation and not name.startswith("decisions/")] == []


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def said_commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `zeroloop` of every command in a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"\|\||&&|[|;]", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            at = next((i for i in range(len(words)) if not is_before(words, i)), len(words))
            if at < len(words) and (words[at] == "zeroloop" or words[at].endswith("bin/zeroloop")):
                yield words[at + 1 :]


def is_before(words: list[str], at: int) -> bool:
    """Tell whether a word may stand before a command: sudo and its user, env and its variables."""
    return words[at] in {"sudo", "-u", "env"} or "=" in words[at] or (at > 0 and words[at - 1] == "-u")


def commands(path: Path) -> Iterator[list[str]]:
    for block in blocks(path, "sh"):
        yield from said_commands(block)
    for code in re.findall(r"`([^`\n]+)`", prose(path)):
        if code.startswith("zeroloop "):
            yield from said_commands(code)


@each_document
def test_every_command_and_option_exists(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(document):
        if not words or not re.match("[a-z]", words[0]):  # COMMAND, --version, an arrow in a diagram
            continue
        path = words[: 2 if words[0] in GROUPS and len(words) > 1 and not words[1].startswith("-") else 1]
        if len(path) > 1 and not re.fullmatch(r"[a-z-]+", path[1]):
            path = path[:1]
        assert main([*path, "--help"]) == 0, f"zeroloop {' '.join(words)}: {capsys.readouterr().err}"
        said = capsys.readouterr().out
        for option in (word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)):
            assert option in said, f"zeroloop {' '.join(path)} has no {option}"


def test_a_command_or_an_option_that_is_not_there_would_be_found() -> None:
    text = "sudo -u zeroloop env A=b \\\n  /opt/zeroloop/bin/zeroloop watch --never  # zeroloop comment\nls zeroloop x"
    assert list(said_commands(text)) == [["watch", "--never"]]
    assert main(["nothing-of-that-name", "--help"]) == 2


def test_deploys_readme_starts_everything() -> None:
    used = {words[0] for words in commands(ROOT / "deploy/README.md") if words}
    assert {"broker", "equalizer", "station", "discover", "watch"} <= used


# ── configurations ───────────────────────────────────────────────────────────────────────────────────────────────

WHOLE_STATION = '[station]\nid = "s"\n'
WHOLE_CHANNEL = '[[channel]]\nid = "1"\ncharge_limit_w = 1.0\ndischarge_limit_w = 1.0\nramp_w_per_s = 1.0\n'
MODELS: tuple[type[Section], ...] = (EqualizerSettings, DashboardSettings, StationSettings, Scenario)


def is_accepted(text: str) -> str:
    """Return the empty text where a block is a configuration, or a part of one; else what is wrong with it."""
    table = tomli.loads(text)
    if "project" in table:
        return ""
    wrong = []
    for model in MODELS:
        whole = text
        if model is StationSettings:
            whole += WHOLE_STATION if "station" not in table else ""
            whole += WHOLE_CHANNEL if "channel" not in table else ""
        try:
            parse(model, whole, source=model.__name__, environment={})
        except ConfigurationError as error:
            wrong.append(str(error))
        else:
            return ""
    return " | ".join(wrong)


@each_document
def test_every_configuration_is_accepted(document: Path) -> None:
    for block in blocks(document, "toml"):
        text = re.sub(r"^ {4}", "", block, flags=re.MULTILINE) if block.startswith("    ") else block
        assert is_accepted(text) == "", text


def test_a_misspelt_key_would_be_found() -> None:
    assert "dely_s" in is_accepted("[control]\ndely_s = 15.0\n")


# ── the reference ────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "reference/make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["configuration.md", "cli.md", "metrics.md", "topics.md", "reasons.md"])
def test_the_reference_is_what_the_code_says(name: str) -> None:
    made = maker().pages()[name]
    assert (DOCS / "reference" / name).read_text() == made, "make reference writes it anew"


# ── events and alerts ────────────────────────────────────────────────────────────────────────────────────────────


def codes_in_words() -> set[str]:
    """Return the codes of what is said by `equalizer.keeping` of a disk."""
    return {
        code
        for path in (ROOT / "equalizer").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Words"
        for code in (ast.literal_eval(node.args[0]), ast.literal_eval(node.args[2]))
    }


def literal_codes() -> set[str]:
    """Return every code that is written out where an event is made."""
    found = codes_in_words()
    for path in [*(ROOT / "equalizer").rglob("*.py"), *(ROOT / "station").rglob("*.py"), ROOT / "transport/tls.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="event" | "_tell_of_connection" | "tell" | "_say") as called):
                    texts = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant)]
                    if not (isinstance(called.value, ast.Attribute) and called.value.attr == "clerk"):
                        found |= {text for text in texts if isinstance(text, str)}
                case ast.Call(args=[ast.Attribute(attr="_tell_of_connection"), ast.Constant(value=str(code)), *_]):
                    found.add(code)
                case ast.Call(func=ast.Name(id="ChannelEvent"), args=[_, ast.Constant(value=str(code)), *_]):
                    found.add(code)
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    found.add(code)
                case ast.Tuple(elts=[ast.Attribute(value=ast.Name(id="Severity")), ast.Constant(value=str(code))]):
                    found.add(code)
                case _:
                    pass
    return {code for code in found if re.fullmatch(r"[a-z]+(_[a-z]+)*", code)}


def test_every_event_is_in_the_list_and_nothing_else() -> None:
    table = (DOCS / "howto/alarms.md").read_text().partition("| code | from |")[2]
    listed = {code for line in table.splitlines()[2:] for code in re.findall(r"`([a-z_]+)`", line.split("|")[1])}
    made = {f"command_{action}" for action in ChannelAction} | {"equalize_refused", "start_refused"}
    made |= {"station_online", "station_offline", "station_removed"}
    elsewhere = {str(word) for kind in (AlarmCode, Phase) for word in kind}
    elsewhere |= {f"setpoint_{reason}" for reason in SetpointReason}
    assert literal_codes() - elsewhere - made == listed - elsewhere - made
    assert made <= listed
    assert len(literal_codes()) > 20


def test_every_alert_says_what_to_do() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text()))
    table = (DOCS / "howto/alarms.md").read_text().partition("## Alerts")[2].partition("## Events")[0]
    assert set(re.findall(r"`(Zeroloop\w+)`", table)) == alerts
