"""Two languages, the same words; none in the code."""

import ast
import re
import string
from importlib.resources import files
from pathlib import Path

import pytest

from dashboard import figures
from dashboard.words import LANGUAGES, preferred, words
from equalizer.control.plausibility import Doubt
from equalizer.control.reasons import HELD_BACK, Reason
from schemas.messages import (
    AlarmCode,
    ChannelAction,
    LoopAction,
    Phase,
    ReplyReason,
    SetpointReason,
    SetpointResult,
    StepType,
    WorkStatus,
)

PACKAGE = Path(str(files("dashboard")))
SHELL = sorted(PACKAGE.glob("pages/*.py"))
EN, ZH = words("en"), words("zh")
TOLD_BY_THE_PHASE = {
    Reason.WITHIN_BAND,
    Reason.PAUSED,
    Reason.FROZEN,
    Reason.STARTING,
    Reason.NO_EQUALIZATION_CHANNEL,
    Reason.NOT_FINITE,
}

TEXT_CALLS = {
    "Text",
    "Card",
    "label",
    "button",
    "tooltip",
    "notify",
    "input",
    "number",
    "page_title",
    "show",
    "set_text",
}


def names(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_catalogues_have_the_same_keys_and_fill_in_the_same_values() -> None:
    singular = {key for key in EN.texts if key.endswith("_one")}
    assert EN.texts.keys() - singular == ZH.texts.keys()
    for key in ZH.texts:
        assert names(EN.texts[key]) == names(ZH.texts[key]), key
        assert EN.texts[key], key
        assert ZH.texts[key], key


def test_chinese_is_chinese() -> None:
    for key, text in ZH.texts.items():
        if key not in {"language.code", "menu.other_language", "channel.alarm", "alarms.said", "history.act"}:
            assert re.search(r"[\u4e00-\u9fff]", text), f"{key}: {text}"


@pytest.mark.parametrize(
    ("prefix", "codes"),
    [
        ("decision", Reason),
        ("held", set(HELD_BACK) - TOLD_BY_THE_PHASE),
        ("phase", Phase),
        ("work", WorkStatus),
        ("step", StepType),
        ("trouble", AlarmCode),
        ("doubt", Doubt),
        ("done", [*ChannelAction, *LoopAction]),
        ("why", ReplyReason),
        ("advice", ReplyReason),
        ("setpoint", SetpointResult),
        ("setpoint_reason", SetpointReason),
        ("act", [*ChannelAction, *LoopAction]),
    ],
)
def test_every_code_has_its_words(prefix: str, codes: list[str]) -> None:
    for code in codes:
        assert f"{prefix}.{code}" in EN.texts


def test_every_key_that_the_code_names_is_there_and_every_key_is_named() -> None:
    code = "".join(path.read_text() for path in [*SHELL, PACKAGE / "door.py"])
    code += (PACKAGE / "assets" / "sign-in.html").read_text()
    said = set(re.findall(r"""(?:say|say\.count|either|visit\.say|card)\(\s*"([a-z_]+\.[a-z_]+)\"""", code))
    assert said <= EN.texts.keys()
    literal = set(re.findall(r'"([a-z_]+\.[a-z_]+)"', code))
    families = set(re.findall(r'f"([a-z_]+)\.\{', code)) | {"sign_in", "language"}
    unused = {key for key in EN.texts if key.removesuffix("_one") not in literal and key.split(".")[0] not in families}
    assert unused == set()


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.stem)
def test_no_page_has_text_of_its_own(path: Path) -> None:
    for call in ast.walk(ast.parse(path.read_text())):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "").title()
        if name not in TEXT_CALLS:
            continue
        text_at = 1 if name == "Text" else 0
        parts = call.args[text_at : text_at + 1]
        for part in parts:
            for leaf in ast.walk(part):
                if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str) and _inside_key(part, leaf):
                    words_in = re.findall(r"[A-Za-z\u4e00-\u9fff]{2,}", leaf.value)
                    assert words_in in ([], ["zeroloop"]), f"{path.name}:{leaf.lineno}: {leaf.value!r}"


def _inside_key(root: ast.expr, leaf: ast.Constant) -> bool:
    """Whether a literal is shown as it stands, rather than looked up or formatted with."""
    for call in ast.walk(root):
        if isinstance(call, ast.Call) and any(leaf is part for argument in call.args for part in ast.walk(argument)):
            return False
        if isinstance(call, ast.Call) and any(leaf is part for k in call.keywords for part in ast.walk(k.value)):
            return False
        if isinstance(call, ast.Subscript) and any(leaf is part for part in ast.walk(call.slice)):
            return False
        if isinstance(call, ast.Compare) and any(leaf is part for part in ast.walk(call)):
            return False
    return True


def test_the_browsers_first_known_language_counts() -> None:
    assert preferred("zh-TW,zh;q=0.9,en;q=0.8") == "zh"
    assert preferred("de-DE,de;q=0.9,en;q=0.8,zh;q=0.7") == "en"
    assert preferred("") == "en"
    assert set(LANGUAGES) == {"en", "zh"}


@pytest.mark.parametrize(
    ("power_w", "text"),
    [
        (0.2, "0 W"),
        (-812.0, "812 W"),
        (999.7, "1.00 kW"),
        (61_000.0, "61.0 kW"),
        (-412_300.0, "412 kW"),
        (1.23e6, "1.23 MW"),
    ],
)
def test_powers_have_three_digits_that_count(power_w: float, text: str) -> None:
    assert figures.power(power_w).replace("\N{NO-BREAK SPACE}", " ") == text
