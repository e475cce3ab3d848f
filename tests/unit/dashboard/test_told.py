"""What services say, in the visitor's language."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from dashboard.pages.told import told
from dashboard.words import words
from schemas.messages import AlarmCode, Values
from tests.unit.docs.test_documents import codes_in_words, literal_codes

ROOT = Path(__file__).parents[3]
EN, ZH = words("en"), words("zh")
SAID_BY_THE_EQUIPMENT = {AlarmCode.DRIVER_LOST}
"""There is no more to say of it than what the driver said."""


@pytest.mark.parametrize(
    ("code", "values", "english", "chinese"),
    [
        ("over_voltage", {"value_v": 436.1, "limit_v": 430.0}, "436.1 V; up to 430.0 V are allowed.", "上限为 430.0 V"),
        ("lease_expired", {"server": "hall-a"}, "No setpoint of hall-a came in time", "hall-a 的设定值没有按时到达"),
        ("equalize_refused", {"reason": "busy"}, "the channel runs another program", "通道正在运行其他工步"),
        ("telemetry_implausible", {"reason": "beyond_rating"}, "beyond every rating", "超出一切额定值"),
        ("stalled", {"gap_s": 7.4}, "stood still for 7 s", "停顿了 7 s"),
        ("takeover", {"server": "hall-b", "epoch": 1_234_567}, "epoch 1234567; before it, hall-b", "届次 1234567"),
        (
            "certificate_expiry",
            {"which": "own", "left_s": 864_000},
            "The service's own certificate ends in 10 d",
            "10 d",
        ),
        ("certificate_expiry", {"which": "broker", "left_s": -90}, "The broker's certificate ended 2 min ago", "已于"),
    ],
)
def test_a_code_and_its_values_are_told_in_both_languages(
    code: str, values: Values, english: str, chinese: str
) -> None:
    assert english in told(EN, code, "as sent", values).replace("\N{NO-BREAK SPACE}", " ")
    assert chinese in told(ZH, code, "as sent", values).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("code", "values"),
    [
        ("over_voltage", None),
        ("over_voltage", {}),
        ("over_voltage", {"value_v": 436.1}),
        ("contactor_stuck", {"value_v": 436.1, "key": "x", "self": "y"}),
        ("device_fault", None),
    ],
)
def test_what_the_catalogue_does_not_know_is_shown_as_it_was_sent(code: str, values: Values | None) -> None:
    assert told(ZH, code, "436.1 V is too much", values) == "“436.1 V is too much”"
    assert told(ZH, code, "", values) == ""


def test_a_value_is_text_and_nothing_is_looked_up_in_it() -> None:
    assert "{cause.__class__}" in told(EN, "audit_failed", "", {"cause": "{cause.__class__}", "key": "audit"})
    assert len(told(EN, "audit_failed", "", {"cause": "x" * 10_000})) < 500


def test_every_event_that_asks_for_attention_has_its_words() -> None:
    calm = {
        "connection_back",
        "epoch_stored_again",
        "orders_stored_again",
        "energy_saved_again",
        "state_stored_again",
        "audit_resumed",
    }
    calm |= {"telemetry_fresh", "telemetry_plausible", "standby", "led_again", "program_finished", "operator"}
    told_by_state = {"telemetry_stale"}
    for code in (literal_codes() - calm - told_by_state) | set(AlarmCode) - SAID_BY_THE_EQUIPMENT:
        assert f"trouble.{code}" in EN.texts, code
        assert f"told.{code}" in EN.texts, code


@cache
def functions() -> list[tuple[set[str], set[str]]]:
    """Return the texts that each function names, and the keys of the values that it gives."""
    found = []
    paths = [path for package in ("station", "equalizer") for path in (ROOT / package).rglob("*.py")]
    for path in [*paths, ROOT / "transport/tls.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                texts = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                texts |= {part.attr.lower() for part in ast.walk(node) if isinstance(part, ast.Attribute)}
                texts |= codes_in_words() if {"fails", "works"} <= texts else set()
                dicts = [part for part in ast.walk(node) if isinstance(part, ast.Dict)]
                keys = {key.value for one in dicts for key in one.keys if isinstance(key, ast.Constant)}
                found.append(({text for text in texts if isinstance(text, str)}, {str(key) for key in keys}))
    return found


TOLD = [key.removeprefix("told.") for key in EN.texts if key.startswith("told.")]
OF_A_LIMIT = {code for code in TOLD if code.startswith(("over_", "under_"))}
"""Their values are tried where the limits are."""


@pytest.mark.parametrize("name", sorted(set(TOLD) - OF_A_LIMIT))
def test_the_services_send_the_values_that_the_words_name(name: str) -> None:
    code = "certificate_expiry" if name == "certificate_expired" else name
    wanted = set(re.findall(r"{(\w+)}", EN.texts[f"told.{name}"]))
    parts = {"setpoint_"} if code.startswith("setpoint_") else {"_refused"} if code.endswith("_refused") else {code}
    parts = {"station_"} if code == "station_removed" else parts
    assert any(parts <= texts and wanted <= keys for texts, keys in functions()), f"{code}: {wanted}"
