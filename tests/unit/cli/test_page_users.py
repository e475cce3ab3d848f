"""`zeroloop dashboard-user`: who may sign in to the page."""

import json
from pathlib import Path

import pytest

from zeroloop.main import main

Said = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    pytest.importorskip("argon2", reason="needs the page (pip install '.[dashboard]')")
    (tmp_path / "password").write_text("correct horse battery\nand a second line that counts for nothing\n")
    (tmp_path / "dashboard.toml").write_text('[state]\ndir = "its-state"\n')
    return tmp_path / "dashboard.toml"


def run(config: Path, *words: str) -> int:
    return main(["dashboard-user", *words, "--config", str(config)])


def add(config: Path, name: str, *more: str) -> int:
    return run(config, "add", name, "--password-file", str(config.parent / "password"), *more)


def test_who_was_added_is_listed_for_people_and_for_programs_until_removed(config: Path, capsys: Said) -> None:
    assert add(config, "wall") == 0
    assert add(config, "anna") == 0
    assert add(config, "anna", "--role", "operator") == 0
    assert capsys.readouterr().out.splitlines() == [
        "wall is added as viewer",
        "anna is added as viewer",
        "anna is changed as operator",
    ]
    assert run(config, "list") == 0
    assert capsys.readouterr().out.splitlines() == ["anna  operator", "wall  viewer"]
    assert run(config, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": "anna", "role": "operator"},
        {"name": "wall", "role": "viewer"},
    ]
    assert run(config, "remove", "anna") == 0
    capsys.readouterr()
    assert run(config, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "wall", "role": "viewer"}]
    assert "correct horse" not in (config.parent / "its-state" / "users.json").read_text()


def test_an_empty_list_says_how_to_fill_it_and_is_empty_for_a_program(config: Path, capsys: Said) -> None:
    assert run(config, "list") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "zeroloop dashboard-user add NAME" in said.err
    assert run(config, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "x"), "there is no terminal to ask for the password at; give it with --password-file FILE"),
        (("add", "a b", "--password-file", "password"), "'a b' is no name"),
        (("add", "x", "--password-file", "short"), "a password has 10 to 256 letters"),
        (("add", "x", "--password-file", "nowhere"), "nowhere: no such file or directory"),
        (("add", "x", "--role", "king"), "Invalid value for '--role'"),
        (("remove", "x"), "there is no user 'x'; known are: none"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    config: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    (config.parent / "short").write_text("short\n")
    monkeypatch.chdir(config.parent)
    assert run(config, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
