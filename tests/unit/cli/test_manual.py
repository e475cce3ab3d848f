"""Manual page, completion, exit codes: made from the commands, and known to the programs that read them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.unit.cli.test_command_line import COMMANDS
from zeroloop.commands import app
from zeroloop.manual import EXIT_CODES, FILE, render

EXITS = Path(__file__).parents[3] / "docs" / "reference" / "exit-codes.md"


def plain(text: str) -> str:
    return text.replace("\\-", "-")


def test_the_page_in_the_tree_is_that_of_the_commands() -> None:
    assert FILE.read_text(encoding="utf-8") == render(app), "run `make schema` and commit what it changes"


@pytest.mark.parametrize("command", [*COMMANDS, "credentials list", "conform station", "audit show"])
def test_every_command_stands_in_it_with_its_options(command: str) -> None:
    page = plain(FILE.read_text(encoding="utf-8"))
    section = re.search(rf"^\.SS zeroloop {command}\b.*?(?=^\.S[SH] )", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    if command == "conform":
        return
    done = subprocess.run(
        [sys.executable, "-m", "zeroloop", *command.split(), "--help"], capture_output=True, text=True, check=True
    )
    for option in re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", done.stdout, re.MULTILINE):
        assert option == "--help" or option in section[0], option


def test_groff_reads_it_without_a_warning() -> None:
    groff = needs("groff", "groff-base")
    done = subprocess.run([groff, "-man", "-ww", "-z", "-Tutf8", FILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_prints_it() -> None:
    done = subprocess.run([sys.executable, "-m", "zeroloop", "man"], capture_output=True, text=True, check=True)
    assert done.stdout == render(app)


def test_every_exit_code_is_explained() -> None:
    rows = re.findall(r"^\| (\d+) \|", EXITS.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(code) for code in rows] == list(EXIT_CODES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("zeroloop do", "doctor"), ("zeroloop conform s", "station"), ("zeroloop doctor --js", "--json")],
)
def test_the_shell_completes(words: str, expected: str) -> None:
    environment = {
        **os.environ,
        "_ZEROLOOP_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-m", "zeroloop"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_printed(shell: str) -> None:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "zeroloop", "--show-completion", shell],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_ZEROLOOP_COMPLETE" in done.stdout
