"""The command line itself: what it takes, and what it says of what it does not take."""

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from equalizer.config import EqualizerSettings
from schemas.messages import PAYLOADS
from zeroloop.main import main
from zeroloop.process import log_to_stderr, warn_of_unknown

COMMANDS = (
    "demo",
    "broker",
    "equalizer",
    "station",
    "discover",
    "watch",
    "conform",
    "doctor",
    "export",
    "purge",
    "record",
    "equalize",
    "stop",
    "start",
    "clear-alarm",
    "man",
    "pause",
    "resume",
    "target",
    "schema",
    "simulate",
    "size",
)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    assert main(list(arguments)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.strip()


@pytest.mark.parametrize("group", ["", "audit", "conform", "credentials", "dashboard-user"])
def test_no_line_of_the_list_of_commands_is_cut_off(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*group.split(), "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert listed.count("\n") > 2
    assert "..." not in listed


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in listed] == []
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == listed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Usage: zeroloop {command}" in capsys.readouterr().out


def test_a_question_that_nobody_answers_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["conform", "station", "--station", "s1"]) == 1
    assert (
        capsys.readouterr().err.splitlines()[-1].endswith("zeroloop: nothing was done: the question was not answered")
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("zeroloop ")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom zeroloop.main import main\nmain(['--help'])\n"
        "heavy = {'numpy', 'polars', 'paho', 'zeroconf', 'fastnda', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["targt"], "No such command 'targt'"),
        (["pause", "--hots", "a"], "--hots"),
        (["equalize", "s1"], "channel"),
        (["target", "much"], "'W'"),
        (["target", "nan"], "W: must be a finite number, not nan"),
        (["target", "-inf"], "W: must be a finite number, not -inf"),
        (["stop", "s1", "a/b"], "'a/b' is no name"),
        (["pause", "--loop", "a b"], "--loop: 'a b' is no name"),
        (["pause", "--port", "70000"], "--port: must be a whole number from 1 to 65535, not 70000"),
        (["pause", "--host", ""], "--host"),
        (["pause", "--config", "missing.toml"], "missing.toml: no such file or directory"),
        (["station"], "--config"),
        (["station", "--config", "missing.toml"], "missing.toml: no such file or directory"),
        (["equalizer", "--config", "missing.toml"], "missing.toml: no such file or directory"),
        (["equalizer", "--log-level", "loud"], "--log-level: must be one of debug, info, warning, error, not 'loud'"),
        (["broker", "--config", "missing.conf"], "missing.conf: no such file"),
        (["broker", "--port", "99999"], "--port: must be a whole number from 1 to 65535, not 99999"),
        (["broker", "--websocket-port", "0"], "--websocket-port: must be a whole number from 1 to 65535, not 0"),
        (["broker", "--kind", "rabbit"], "'rabbit' is not one of 'auto', 'mosquitto', 'embedded'; `zeroloop broker"),
        (["simulate", "missing.toml"], "missing.toml: no such file or directory"),
        (["simulate", "."], ".: is a directory"),
        (["simulate", "missing.toml", "--seconds", "0"], "--seconds: must be a number of at least 1, not 0"),
        (["simulate", "missing.toml", "--seconds", "nan"], "--seconds: must be a number of at least 1, not nan"),
        (["size", "missing.toml", "--seconds", "-5"], "--seconds: must be a number of at least 1, not -5"),
        (["record", "--seconds", "-1"], "--seconds: must be a number above 0, not -1"),
        (["record", "--seconds", "nan"], "--seconds: must be a number above 0, not nan"),
        (["record", "--out", "hall.txt"], "--out: hall.txt: a recording's name ends with .parquet"),
        (["export", "--station", "s1", "--channel", "1", "--out", "nowhere/a.csv"], "--out: nowhere: no such folder"),
        (["discover", "--seconds", "-1"], "--seconds: must be a number above 0, not -1"),
        (["discover", "--seconds", "inf"], "--seconds: must be a number above 0, not inf"),
        (["target", "much"], "input should be a valid number, not 'much'"),
        (["broker", "--port", "many"], "'--port': input should be a valid integer, not 'many'"),
        (["credentials"], "Missing command; `zeroloop credentials --help` says how it is used"),
        (["audit"], "Missing command; `zeroloop audit --help` says how it is used"),
        (["conform"], "Missing command; `zeroloop conform --help` says how it is used"),
        (["dashboard-user"], "Missing command; `zeroloop dashboard-user --help` says how it is used"),
        (["broker", "--host", "192.0.2.1"], "192.0.2.1 is no address of this computer"),
        (["man", "--out", "missing/page.1"], "missing/page.1: no such file or directory"),
        (["demo", "--seconds", "0"], "--seconds: must be a number above 0, not 0"),
        (["demo", "--seconds", "nan"], "--seconds: must be a number above 0, not nan"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert part in complaint(capsys, *arguments)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[station]\nid = 's 1'", "station.id: must be a name"),
        ("[station]\nid = 's1'", "channel: is missing"),
        ("[statoin]", "statoin: unknown key; did you mean station?"),
        ("[station", "not TOML"),
        ("\xff", "is not UTF-8 text"),
    ],
)
def test_a_configuration_that_cannot_work_is_one_line(
    text: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "station.toml"
    file.write_text(text, encoding="latin-1")
    assert complaint(capsys, "station", "--config", str(file)).startswith(f"zeroloop: {file}: {line}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "odd.toml"),
        ("size", "odd.toml"),
        ("simulate", "hall.toml"),
        ("record", "--config", "odd.toml"),
        ("watch", "--config", "odd.toml"),
        ("dashboard-user", "add", "anna", "--password-file", "odd.toml"),
    ],
)
def test_a_file_that_is_no_text_is_named_on_one_line(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "hall.toml").write_text("title = 'a'\nduration_s = 60.0\n[[station]]\nconfig = 'odd.toml'\n")
    assert complaint(capsys, *arguments).endswith("odd.toml: is not UTF-8 text")


CHANNEL = "[[channel]]\nid = '1'\ncharge_limit_w = 1.0\ndischarge_limit_w = 1.0\nramp_w_per_s = 1.0\n"


@pytest.mark.parametrize("key", ["ca_file", "password_file"])
def test_a_file_that_the_broker_is_reached_with_and_that_is_missing_is_named(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "station.toml"
    file.write_text(f"[station]\nid = 's1'\n[broker]\n{key} = 'nowhere'\n[driver]\ntype = 'simulated'\n{CHANNEL}")
    line = complaint(capsys, "station", "--config", str(file))
    assert line == f"zeroloop: broker.{key}: {tmp_path / 'nowhere'}: no such file or directory"


def test_what_a_driver_does_not_take_is_named_with_the_file_it_stands_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "station.toml"
    file.write_text(f"[station]\nid = 's1'\n[driver]\ntype = 'simulated'\n{CHANNEL}batery = 5\n")
    line = complaint(capsys, "station", "--config", str(file))
    assert line == f"zeroloop: {file}: channel 1: batery: unknown key; did you mean battery?"


def test_a_driver_that_is_not_installed_is_named_with_those_that_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "station.toml"
    file.write_text(
        "[station]\nid = 's1'\n[driver]\ntype = 'steam'\n"
        "[[channel]]\nid = '1'\ncharge_limit_w = 1.0\ndischarge_limit_w = 1.0\nramp_w_per_s = 1.0\n"
    )
    line = complaint(capsys, "station", "--config", str(file))
    assert "'steam'" in line
    assert "replay, simulated" in line


def test_what_a_recording_is_to_be_written_to_is_looked_at_before_a_server_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hall.parquet").touch()
    line = complaint(capsys, "record", "--out", str(tmp_path / "hall.parquet"), "--port", "1")
    assert line.endswith("hall.parquet: is there already; give another --out")


def test_a_purge_that_finds_no_broker_says_where_it_looked(capsys: pytest.CaptureFixture[str]) -> None:
    line = complaint(capsys, "purge", "--port", "1")
    assert line.endswith("no broker answers: 127.0.0.1:1 (configured): connection refused")


@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_what_mdns_cannot_send_is_told_by_us_and_not_as_a_traceback(
    level: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr(level)
    unreachable = OSError(101, "Network is unreachable")
    logging.getLogger("zeroconf").warning("Error with socket 9", exc_info=unreachable)
    assert ("OSError" in capsys.readouterr().err) is told


def test_a_variable_of_a_table_that_names_no_key_of_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    told = {"ZEROLOOP_CONTROL_DELAY": "12", "ZEROLOOP_CONTROL_DELAY_S": "12", "ZEROLOOP_STATION_ID": "s1"}
    warn_of_unknown(EqualizerSettings, told)
    assert caplog.messages == [
        "ZEROLOOP_CONTROL_DELAY is no setting and changes nothing; did you mean ZEROLOOP_CONTROL_DELAY_S?"
    ]


def test_a_broker_that_does_not_answer_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "127.0.0.1:1: connection refused" in complaint(capsys, "target", "-500", "--port", "1")


def test_schema_writes_one_file_a_payload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--out", str(tmp_path / "out")]) == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"{name}.schema.json" for name in PAYLOADS}
    assert len(capsys.readouterr().out.splitlines()) == len(PAYLOADS)
