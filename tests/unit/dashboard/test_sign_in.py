"""Who may sign in, how often one may try, and where one may be sent, in virtual time."""

from pathlib import Path

import pytest

from dashboard.accounts import Accounts, Role, User
from dashboard.config import PageSection
from dashboard.gate import cookie, local_path
from dashboard.sessions import Sessions, Throttle
from schemas.settings import ConfigurationError

PASSWORD = "correct horse battery"  # noqa: S105 - the test's own


def user(role: Role, password_hash: str) -> User:
    return User(role=role, password_hash=password_hash)


def test_a_password_is_kept_as_a_hash_that_only_its_user_can_read(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "state")
    accounts.put("ann", Role.OPERATOR, PASSWORD)
    path = tmp_path / "state" / "users.json"
    assert PASSWORD not in path.read_text()
    assert "$argon2id$" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert accounts.check("ann", PASSWORD) == accounts.users()["ann"]
    assert accounts.check("ann", PASSWORD + "!") is None
    assert accounts.check("nobody", PASSWORD) is None


def test_another_process_s_change_counts_at_once(tmp_path: Path) -> None:
    page, command = Accounts(tmp_path), Accounts(tmp_path)
    assert page.users() == {}
    command.put("ann", Role.VIEWER, PASSWORD)
    assert list(page.users()) == ["ann"]
    command.remove("ann")
    assert page.users() == {}


@pytest.mark.parametrize(("name", "password"), [("a b", PASSWORD), ("ann", "short"), ("ann", "x" * 300)])
def test_a_name_or_a_password_that_will_not_do_is_refused(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(ConfigurationError):
        Accounts(tmp_path).put(name, Role.VIEWER, password)
    assert not (tmp_path / "users.json").exists()


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "users.json").write_text('{"ann": 1}')
    with pytest.raises(ConfigurationError, match="is no file of users") as caught:
        Accounts(tmp_path).users()
    assert "\n" not in str(caught.value)


def test_a_session_ends_by_time_by_leaving_by_removal_and_by_another_password() -> None:
    users = {"ann": user(Role.OPERATOR, "h1")}
    sessions = Sessions(100.0)
    tokens = [sessions.begin("ann", users["ann"], 0.0) for _ in range(4)]
    assert sessions.identity(tokens[0], users, 99.0) is not None
    assert sessions.identity(tokens[0], users, 190.0) is not None, "use keeps it alive"
    assert sessions.identity(tokens[1], users, 101.0) is None
    sessions.end(tokens[2])
    assert sessions.identity(tokens[2], users, 1.0) is None
    assert sessions.identity(tokens[3], {}, 1.0) is None
    assert sessions.identity(tokens[0], {"ann": user(Role.OPERATOR, "h2")}, 195.0) is None


def test_sessions_are_stored_without_what_would_open_them() -> None:
    users = {"ann": user(Role.VIEWER, "h1")}
    sessions = Sessions(100.0)
    token = sessions.begin("ann", users["ann"], 0.0)
    stored = sessions.stored(1.0)
    assert token not in str(stored)
    again = Sessions(100.0, stored).identity(token, users, 2.0)
    assert again is not None
    assert not again.may_act
    assert sessions.stored(500.0) == {}


def test_after_five_wrong_passwords_the_wait_doubles_and_is_forgiven() -> None:
    throttle, keys = Throttle(), ("address 10.0.0.9", "name ann")
    waits = []
    for _ in range(9):
        waits.append(throttle.wait_s(keys, 0.0))
        throttle.failed(keys, 0.0)
    assert waits == [0.0] * 5 + [2.0, 4.0, 8.0, 16.0]
    assert throttle.wait_s(("address 10.0.0.10", "name ann"), 0.0) == 32.0
    assert throttle.wait_s(("address 10.0.0.10", "name bob"), 0.0) == 0.0
    throttle.failed(keys, 2_000.0)
    assert throttle.wait_s(keys, 2_000.0) == 0.0
    throttle.succeeded(keys)
    assert throttle.wait_s(keys, 2_000.0) == 0.0


@pytest.mark.parametrize(
    ("path", "goes_to"),
    [
        ("/channels", "/channels"),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example", "/"),
        ("/\\elsewhere.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(path: str, goes_to: str) -> None:
    assert local_path(path) == goes_to


def test_cookies_are_read_by_their_whole_name() -> None:
    assert cookie("a=1; zeroloop_session=xyz; b=2", "zeroloop_session") == "xyz"
    assert cookie("not_zeroloop_session=1", "zeroloop_session") is None


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("10.1.2.3", False), ("hall", False)],  # noqa: S104 - what is tested
)
def test_only_loopback_is_loopback(host: str, is_loopback: bool) -> None:
    assert PageSection(host=host).is_loopback is is_loopback
