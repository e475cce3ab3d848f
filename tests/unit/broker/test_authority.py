"""The hall's authority: what it makes, and what it refuses."""

import datetime as dt
import json
import stat
from pathlib import Path
from typing import get_args

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.access import rights
from broker.authority import Authority, checked_places, found, opened
from broker.errors import AuthorityError
from schemas.topics import ChannelTopic, LoopTopic, channel_topic, loop_topic, status_topic
from transport.credentials import Role, read

NOW_S = 1_795_400_000.0
DAY_S = 86400.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return found(tmp_path / "hall", ["hall.lan", "10.0.0.5", "fd00::5"], NOW_S)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


def revoked(folder: Path) -> set[int]:
    listed = x509.load_pem_x509_crl((folder / "broker" / "revoked.pem").read_bytes())
    return {one.serial_number for one in listed}


def later(authority: Authority, seconds: float) -> Authority:
    return Authority(authority.folder, NOW_S + seconds)


def test_nobody_else_can_read_what_is_made(authority: Authority) -> None:
    authority.issue("s1", "station")
    for path in (authority.folder, *authority.folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_the_brokers_certificate_bears_its_names_and_addresses_and_serves_no_client(authority: Authority) -> None:
    made = certificate(authority.folder / "broker" / "server.crt")
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hall.lan", "broker.zeroloop.internal"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5", "fd00::5"]
    purpose = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purpose) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_client_gets_one_file_with_its_name_its_purpose_and_the_way_to_the_broker(authority: Authority) -> None:
    own = read(authority.issue("s1", "station"))
    assert (own.header.role, own.header.name, own.header.host, own.header.port) == ("station", "s1", "hall.lan", 8883)
    made = certificate(own.path)
    assert made.subject.rfc4514_string() == "CN=s1"
    purpose = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purpose) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(own.authority_pem.encode()))


def test_certificates_hold_for_two_years_and_never_longer_than_their_authority(authority: Authority) -> None:
    made = certificate(authority.issue("s1", "station"))
    assert made.not_valid_after_utc - dt.datetime.fromtimestamp(NOW_S, dt.UTC) == dt.timedelta(days=825)
    assert made.not_valid_before_utc <= dt.datetime.fromtimestamp(NOW_S - 3600, dt.UTC)
    last = later(authority, 3600 * DAY_S)
    made = certificate(last.issue("s2", "station"))
    assert made.not_valid_after_utc == certificate(authority.folder / "authority.crt").not_valid_after_utc


def test_the_authority_signs_names_and_no_further_authorities(authority: Authority) -> None:
    own = certificate(authority.folder / "authority.crt").extensions.get_extension_for_class(x509.BasicConstraints)
    assert own.critical
    assert (own.value.ca, own.value.path_length) == (True, 0)


def test_what_expires_within_60_days_is_due_and_a_renewed_one_is_not(authority: Authority) -> None:
    authority.issue("s1", "station", days=100)
    assert authority.due() == []
    soon = later(authority, 41 * DAY_S)
    assert soon.due() == ["s1"]
    before = soon.folder / "clients" / "s1.zeroloop"
    former = before.read_bytes()
    soon.renew("s1")
    assert before.read_bytes() != former
    assert soon.due() == []
    assert len(soon.register.names["s1"].certificates) == 2
    assert later(soon, 101 * DAY_S).renew("s1").exists()
    assert len(later(soon, 101 * DAY_S).register.names["s1"].certificates) == 2, "what has expired is forgotten"


def test_the_broker_may_move(authority: Authority) -> None:
    authority.renew("broker", places=["new.lan"])
    names = certificate(authority.folder / "broker" / "server.crt").extensions
    held = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert held.get_values_for_type(x509.DNSName) == ["new.lan", "broker.zeroloop.internal"]
    assert read(authority.issue("s1", "station")).header.host == "new.lan"


def test_revoking_ends_every_certificate_of_a_name_takes_its_rights_and_removes_its_file(authority: Authority) -> None:
    path = authority.issue("s1", "station")
    first = certificate(path).serial_number
    authority.renew("s1")
    second = certificate(path).serial_number
    authority.issue("s2", "station")
    access = authority.folder / "broker" / "access.acl"
    assert "user s1\n" in access.read_text()
    authority.revoke("s1")
    assert revoked(authority.folder) == {first, second}
    assert "s1" not in access.read_text()
    assert "user s2\n" in access.read_text()
    assert not path.exists()
    authority.issue("s1", "operator")
    assert revoked(authority.folder) == {first, second}, "a name that comes back does not bring its old keys"


def test_every_list_of_revocations_is_newer_than_the_last_and_none_is_of_the_future(authority: Authority) -> None:
    dates = []
    for name in ("s1", "s2", "s3"):
        authority.issue(name, "station")
        authority.revoke(name)
        listed = x509.load_pem_x509_crl((authority.folder / "broker" / "revoked.pem").read_bytes())
        dates.append(listed.last_update_utc)
        assert listed.next_update_utc == certificate(authority.folder / "authority.crt").not_valid_after_utc
    assert dates == sorted(set(dates))
    assert dates[-1] < dt.datetime.fromtimestamp(NOW_S, dt.UTC)


@pytest.mark.parametrize("name", ["", "a/b", "s 1", "s+", "#", "x" * 65, "broker", "s1\nuser evil", "ümlaut"])
def test_a_name_that_could_mean_something_else_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(AuthorityError):
        authority.issue(name, "station")


def test_a_name_has_one_role_and_what_is_unknown_or_revoked_is_said_so(authority: Authority) -> None:
    authority.issue("s1", "station")
    with pytest.raises(AuthorityError, match="is let in as station already"):
        authority.issue("s1", "operator")
    with pytest.raises(AuthorityError, match="there is no 's9' here; known are: broker, s1"):
        authority.revoke("s9")
    with pytest.raises(AuthorityError, match="replaced by `renew broker`"):
        authority.revoke("broker")
    authority.revoke("s1")
    for attempt in (authority.revoke, authority.renew):
        with pytest.raises(AuthorityError, match="is revoked"):
            attempt("s1")


def test_an_authority_is_not_overwritten_and_a_damaged_or_missing_one_says_so(
    authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(AuthorityError, match="has an authority already"):
        found(authority.folder, ["hall.lan"], NOW_S)
    with pytest.raises(AuthorityError, match="`zeroloop credentials init`"), opened(tmp_path / "none", NOW_S):
        pass
    register = authority.folder / "register.json"
    register.write_text(json.dumps({"version": 1}))
    with pytest.raises(AuthorityError, match="is damaged"):
        Authority(authority.folder, NOW_S)


@pytest.mark.parametrize("place", ["", "a b", "-x", "https://hall", "hall.lan:8883", "*.lan"])
def test_a_place_is_a_host_name_or_an_address(place: str) -> None:
    with pytest.raises(AuthorityError):
        checked_places([place])


def test_every_topic_of_the_contract_has_a_role_that_writes_it_and_no_dashboard_writes_any() -> None:
    written = {right.topic for role in get_args(Role) for right in rights(role, "s1", "main") if right.way == "write"}
    topics = {
        *(loop_topic("main", leaf) for leaf in LoopTopic),
        status_topic("main", "s1"),
        *(channel_topic("main", "s1", "c", leaf) for leaf in ChannelTopic),
    }
    assert {topic for topic in topics if not any(matches(one, topic) for one in written)} == set()
    assert not [right for right in rights("dashboard", "page", None) if right.way == "write"]


def test_a_hall_of_one_loop_has_no_rights_in_another() -> None:
    for role in get_args(Role):
        for right in rights(role, "n", "main"):
            assert right.topic.startswith(("zeroloop/v1/main/", "$SYS/", "zeroloop/doctor/")), (role, right)


def matches(topic_filter: str, topic: str) -> bool:
    asked, levels = topic_filter.split("/"), topic.split("/")
    return len(asked) == len(levels) and all(one in ("+", other) for one, other in zip(asked, levels, strict=True))
