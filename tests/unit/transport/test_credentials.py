"""The one file of a client: read, refused, put in the place of settings; and how long it holds."""

import logging
import os
from pathlib import Path

import pytest

from broker.authority import Authority, found
from schemas.messages import Severity
from schemas.settings import BrokerSettings, ConfigurationError, parse
from station.config import StationSettings
from transport.credentials import demand, dropped, read, resolved
from transport.tls import ExpiryWatch, client_context

NOW_S = 1_795_400_000.0
DAY_S = 86400.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return found(tmp_path / "hall", ["hall.lan", "10.0.0.5"], NOW_S)


@pytest.fixture
def s1(authority: Authority) -> Path:
    return authority.issue("s1", "station")


def test_the_file_says_where_the_broker_is_and_the_configuration_may_say_otherwise(s1: Path) -> None:
    here = resolved(BrokerSettings(credentials_file=s1.name), s1.parent)
    assert (here.host, here.port) == ("hall.lan", 8883)
    assert {here.ca_file, here.cert_file, here.key_file} == {str(s1)}
    there = resolved(BrokerSettings(host="10.0.0.5", port=1, credentials_file=str(s1)), Path("elsewhere"))
    assert (there.host, there.port) == ("10.0.0.5", 1)


def test_only_the_files_authority_is_believed_and_both_tls_versions_are_new(s1: Path) -> None:
    context = client_context(resolved(BrokerSettings(credentials_file=str(s1)), s1.parent))
    assert context is not None
    subjects = [one["subject"] for one in context.get_ca_certs()]
    assert subjects == [((("commonName", "zeroloop hall authority"),),)]
    assert context.minimum_version.name == "TLSv1_2"
    assert context.check_hostname


def test_a_dropped_file_is_found_and_the_configurations_own_word_stands(s1: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert dropped(state, None) is None
    state.mkdir()
    assert dropped(state, BrokerSettings(host="h")) == BrokerSettings(host="h")
    (state / "s1.zeroloop").write_bytes(s1.read_bytes())
    found_there = dropped(state, None)
    assert found_there is not None
    assert (found_there.host, found_there.credentials_file) == ("hall.lan", str(state / "s1.zeroloop"))
    own = BrokerSettings(host="h", ca_file="ca.pem")
    assert dropped(state, own) is own
    (state / "s2.zeroloop").write_bytes(s1.read_bytes())
    with pytest.raises(ConfigurationError, match="several credentials"):
        dropped(state, None)


def test_another_ones_file_is_refused_before_anything_is_tried(s1: Path) -> None:
    own = resolved(BrokerSettings(credentials_file=str(s1)), s1.parent)
    demand(own, "station", "s1")
    with pytest.raises(ConfigurationError, match="is for station 's1', not for 's2'"):
        demand(own, "station", "s2")
    with pytest.raises(ConfigurationError, match="is for a station, not for an equalizer"):
        demand(own, "equalizer")


def test_what_is_no_such_file_says_so_in_one_line(s1: Path, tmp_path: Path) -> None:
    wrong = {
        "absent": (None, "no such file"),
        "a configuration": ('[station]\nid = "s1"\n', "is no credentials file"),
        "half": (s1.read_text()[: len(s1.read_text()) // 2], "is damaged"),
        "no name": (s1.read_text().replace('name = "s1"\n', ""), "name"),
        "a later version": (s1.read_text().replace("credentials = 1", "credentials = 2"), "credentials"),
        "endless": (s1.read_text() + "x" * 70_000, "longer"),
    }
    for what, (text, said) in wrong.items():
        path = tmp_path / "file.zeroloop"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigurationError, match=said) as caught:
            read(path)
        assert "\n" not in str(caught.value), what
        assert "PRIVATE" not in str(caught.value), what


def test_a_file_that_others_can_read_is_used_and_told_of(s1: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.chmod(s1, 0o644)  # noqa: PTH101 - as a careless person would
    with caplog.at_level(logging.WARNING):
        broker = resolved(BrokerSettings(credentials_file=str(s1)), s1.parent)
        assert client_context(broker) is not None
    assert caplog.text.count("credentials_open_to_others") == 1


def test_nothing_that_is_shown_of_credentials_holds_the_key(s1: Path) -> None:
    key = s1.read_text().partition("BEGIN PRIVATE KEY-----\n")[2].partition("\n")[0]
    assert len(key) > 30
    own = resolved(BrokerSettings(credentials_file=str(s1)), s1.parent)
    for shown in (repr(read(s1)), repr(own), own.model_dump_json()):
        assert key not in shown


def test_credentials_stand_alone_in_a_configuration() -> None:
    text = '[station]\nid="s1"\n[broker]\ncredentials_file="s1.zeroloop"\nca_file="x"\n[[channel]]\nid="1"\n'
    limits = "charge_limit_w=1.0\ndischarge_limit_w=1.0\nramp_w_per_s=1.0\n"
    with pytest.raises(ConfigurationError, match="credentials_file stands alone"):
        parse(StationSettings, text + limits, source="station.toml", environment={})


class Calendar:
    """A day that can be turned."""

    def __init__(self) -> None:
        self.now_s = NOW_S
        self.told: list[tuple[Severity, str]] = []

    def watch(self) -> ExpiryWatch:
        return ExpiryWatch(
            lambda: self.now_s, lambda severity, _code, text, _values: self.told.append((severity, text))
        )


def test_an_expiry_is_told_once_a_day_in_the_last_30_days_and_loudly_in_the_last_three(s1: Path) -> None:
    own = resolved(BrokerSettings(credentials_file=str(s1)), s1.parent)
    calendar = Calendar()
    watch = calendar.watch()
    for hour in range(825 * 24 + 48):
        calendar.now_s = NOW_S + hour * 3600.0 + 1.0
        watch.look(own, NOW_S + 3000 * DAY_S)
    texts = [text for _, text in calendar.told]
    assert len(texts) == 32
    assert texts[0].startswith("our certificate expires in 30.0 days")
    assert [severity for severity, _ in calendar.told].count(Severity.ALARM) == 5
    assert "expired" in texts[-1]
    assert watch.left_s["own"] < 0.0
    assert watch.left_s["broker"] > 0.0


def test_a_renewed_file_ends_the_warnings_without_a_restart(authority: Authority, s1: Path) -> None:
    own = resolved(BrokerSettings(credentials_file=str(s1)), s1.parent)
    calendar = Calendar()
    calendar.now_s = NOW_S + 800 * DAY_S
    watch = calendar.watch()
    watch.look(own, NOW_S + 3000 * DAY_S)
    assert len(calendar.told) == 1
    Authority(authority.folder, calendar.now_s).renew("s1")
    calendar.now_s += 2 * DAY_S
    watch.look(own, NOW_S + 3000 * DAY_S)
    assert len(calendar.told) == 1
    assert watch.left_s["own"] > 800 * DAY_S


def test_without_tls_nothing_expires() -> None:
    watch = Calendar().watch()
    watch.look(BrokerSettings(), None)
    watch.look(None, None)
    assert watch.left_s == {}
