"""`zeroloop credentials`, and what becomes of a file that is somebody else's."""

import json
from pathlib import Path

import pytest

from tests.acceptance.hall import STATION, channel
from zeroloop.clocks import unix_time_s
from zeroloop.main import main

Said = pytest.CaptureFixture[str]


def run(folder: Path, *words: str) -> int:
    return main(["credentials", *words, "--folder", str(folder)])


@pytest.fixture
def hall(tmp_path: Path, capsys: Said) -> Path:
    folder = tmp_path / "hall"
    assert run(folder, "init", "hall.lan", "10.0.0.5") == 0
    for role, name in (("station", "s1"), ("operator", "anna"), ("dashboard", "page"), ("equalizer", "hall-a")):
        assert run(folder, role, name) == 0
        assert f"{name}.zeroloop" in capsys.readouterr().out
    return folder


def test_the_list_shows_who_is_let_in_and_until_when(hall: Path, capsys: Said) -> None:
    assert run(hall, "revoke", "anna") == 0
    assert "SIGHUP" in capsys.readouterr().err
    assert run(hall, "list") == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()] == [
        ["anna", "operator", "revoked"],
        ["broker", "broker", "825"],
        ["hall-a", "equalizer", "825"],
        ["page", "dashboard", "825"],
        ["s1", "station", "825"],
    ]


def test_the_list_for_a_program_says_the_same(hall: Path, capsys: Said) -> None:
    assert run(hall, "revoke", "anna") == 0
    capsys.readouterr()
    assert run(hall, "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["role"], entry["revoked"]) for entry in listed] == [
        ("anna", "operator", True),
        ("broker", "broker", False),
        ("hall-a", "equalizer", False),
        ("page", "dashboard", False),
        ("s1", "station", False),
    ]
    lasts_s = [entry["expires_unix_time_s"] - unix_time_s() for entry in listed]
    assert all(824.0 * 86_400.0 < left_s <= 825.0 * 86_400.0 for left_s in lasts_s)


def test_renewing_makes_a_new_file_for_one_name_or_for_all_that_are_due(hall: Path, capsys: Said) -> None:
    path = hall / "clients" / "s1.zeroloop"
    before = path.read_bytes()
    assert run(hall, "renew", "s1", "--days", "10") == 0
    soon = path.read_bytes()
    assert soon != before
    capsys.readouterr()
    assert run(hall, "renew") == 0
    assert capsys.readouterr().out.splitlines() == [str(path)]
    assert path.read_bytes() != soon
    assert run(hall, "renew") == 0
    assert "nothing expires" in capsys.readouterr().out


def test_what_cannot_be_done_is_one_line_and_exit_code_2(hall: Path, tmp_path: Path, capsys: Said) -> None:
    for words, said in (
        (("station", "s1"), "'s1' is let in as station already"),
        (("station", "a/b"), "is no name"),
        (("renew", "nobody"), "there is no 'nobody' here"),
        (("renew", "s1", "--days", "-5"), "--days: must be a number of at least 1, not -5"),
        (("station", "s9", "--days", "nan"), "--days: must be a number of at least 1, not nan"),
        (("station", "s9", "--days", "0"), "--days: must be a number of at least 1, not 0"),
        (("init", "hall.lan"), "has an authority already"),
    ):
        assert run(hall, *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert run(tmp_path / "nowhere", "list") == 2
    assert "`zeroloop credentials init`" in capsys.readouterr().err


def test_a_station_with_anothers_file_or_a_damaged_one_does_not_start(hall: Path, tmp_path: Path, capsys: Said) -> None:
    state = tmp_path / "state-load"
    state.mkdir()
    station = STATION.format(id="load", loop="", broker="", period_s=0.2, on_lost="zero") + channel("1")
    (tmp_path / "load.toml").write_text(station)
    own = (hall / "clients" / "s1.zeroloop").read_text()
    for text, said in (
        (own, "is for station 's1', not for 'load'"),
        ((hall / "clients" / "anna.zeroloop").read_text(), "is for an operator, not for a station"),
        (own[:700], "is damaged"),
    ):
        (state / "its.zeroloop").write_text(text)
        (state / "its.zeroloop").chmod(0o600)
        assert main(["station", "--config", str(tmp_path / "load.toml"), "--log-level", "error"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert "PRIVATE" not in line
