"""Settings: each error is one line that names the file, the key and what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equalizer.config import EqualizerSettings
from schemas.messages import Policy
from schemas.settings import ConfigurationError, Section, parse, validate, variables
from station.config import StationSettings

STATION = """
[station]
id = "s1"
[[channel]]
id = "7"
charge_limit_w = 60000.0
discharge_limit_w = 60000.0
ramp_w_per_s = 60000.0
"""


def complaint(model: type[Section], text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(model, text, source="hall.toml", environment=environment or {})
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[control]\ndelay_s = 'abc'", "control.delay_s: must be a number of at least 0, not 'abc'"),
        ("[control]\npolicy = 'hasty'", "control.policy: must be one of confirm, dwell, not 'hasty'"),
        ("[control]\npolicy = 3", "control.policy: must be one of confirm, dwell, not 3"),
        ("[control]\ndelays = 3", "control.delays: unknown key; did you mean delay_s?"),
        ("[contrl]\ndelay_s = 3", "contrl: unknown key; did you mean control?"),
        (
            "[setpoint]\nfoo = 1",
            "setpoint.foo: unknown key; allowed are refresh_s, ttl_s",
        ),
        ("control = 3", "control: must be a table, not 3"),
        ("[[control]]", "control: must be a table, not a list"),
        ("[broker]\nport = 0", "broker.port: must be a whole number from 1 to 65535, not 0"),
        ("[broker]\nport = 1.5", "broker.port: must be a whole number from 1 to 65535, not 1.5"),
        ("[broker]\nport = true", "broker.port: must be a whole number from 1 to 65535, not true"),
        ("[broker]\nprotocol = '4'", "broker.protocol: must be one of 5, 3.1.1, not '4'"),
        ("[broker]\nhost = ''", "broker.host: must be a text that is not empty, not an empty text"),
        ("[loop]\nname = 'a b'", "loop.name: must be a name of 1 to 64 letters, digits, '_' or '-', not 'a b'"),
        ("[loop]\ntarget_power_w = nan", "loop.target_power_w: must be a number from -1e+12 to 1e+12, not nan"),
        ("[setpoint]\nttl_s = 90.0", "setpoint.ttl_s: must be a number above 0 and up to 60, not 90.0"),
        ("[telemetry]\nperiod_s = 0.0", "telemetry.period_s: must be a number from 0.1 to 60, not 0.0"),
        ("[discovery]\nadvertise = 'yes'", "discovery.advertise: must be true or false, not 'yes'"),
        (
            "[control]\nrelease_w = 2000.0",
            "control: release_w (2000) is above engage_w (1000); allowed is 0 to engage_w",
        ),
    ],
)
def test_an_equalizers_wrong_key_is_named_with_what_is_allowed(text: str, line: str) -> None:
    assert complaint(EqualizerSettings, text) == f"hall.toml: {line}"


@pytest.mark.parametrize(
    ("rest", "line"),
    [
        ("repeat = -1", 'channel "7", repeat: must be a whole number of at least 0, not -1'),
        ("program = 3", 'channel "7", program: must be a list, not 3'),
        (
            "program = [{ step = 'rest', until = { time_s = 1.0 } }, { step = 'nap' }]",
            (
                'channel "7", program entry 2, step: must be one of '
                "cc_chg, cc_dchg, cccv_chg, cp_chg, cp_dchg, cv_chg, loop, rest, sim, not 'nap'"
            ),
        ),
        (
            "program = [{ until = { time_s = 1.0 } }]",
            (
                'channel "7", program entry 1, step: is missing; it must be one of '
                "cc_chg, cc_dchg, cccv_chg, cp_chg, cp_dchg, cv_chg, loop, rest, sim"
            ),
        ),
        (
            "program = [{ step = 'rest', until = { time_s = -1.0 } }]",
            'channel "7", program entry 1, until.time_s: must be a number above 0, not -1.0',
        ),
        (
            "program = [{ step = 'rest', until = { time = 1.0 } }]",
            'channel "7", program entry 1, until.time: unknown key; did you mean time_s?',
        ),
        (
            "program = [{ step = 'rest', until = {} }]",
            (
                'channel "7", program entry 1, until: a step must end: by time_s, voltage_v, current_a, charge_ah or '
                "energy_wh"
            ),
        ),
        (
            "program = [{ step = 'rest' }]",
            'channel "7", program entry 1, until: is missing; it must be a table',
        ),
        (
            "program = [{ step = 'sim', duration_s = 1.0, profile = [{ after_s = 0.0, power_w = inf }] }]",
            'channel "7", program entry 1, profile entry 1, power_w: must be a number, not inf',
        ),
        (
            "program = [{ step = 'sim', duration_s = 1.0, profile = [{ after_s = 0.5, power_w = 1.0 }] }]",
            'channel "7", program entry 1: after_s of a profile rises from 0.0',
        ),
        (
            "[[channel]]\nid = '9'\nramp_w_per_s = 1.0",
            'channel "9", charge_limit_w: is missing; it must be a number of at least 0',
        ),
        (
            "[[channel]]\nid = '7'\ncharge_limit_w = 1.0\ndischarge_limit_w = 1.0\nramp_w_per_s = 1.0",
            "channel: two channels have the id '7'; every channel of a station needs its own",
        ),
        (
            "[[channel]]\ncharge_limit_w = 1.0",
            "channel entry 2, id: is missing; it must be a name of 1 to 64 letters, digits, '_' or '-'",
        ),
        ("[broker]\nhsot = 'a'", "broker.hsot: unknown key; did you mean host?"),
    ],
)
def test_a_stations_wrong_key_is_named_by_its_channel(rest: str, line: str) -> None:
    assert complaint(StationSettings, STATION + rest) == f"hall.toml: {line}"


def test_a_misspelt_key_is_named_rather_than_the_one_that_so_is_missing() -> None:
    assert complaint(StationSettings, STATION.replace('id = "s1"', 'idd = "s1"')) == (
        "hall.toml: station.idd: unknown key; did you mean id?"
    )


def test_what_is_no_toml_is_said_with_its_line() -> None:
    assert complaint(EqualizerSettings, "[loop]\nname = ").startswith("hall.toml: not TOML: ")


def test_a_station_without_channels_is_told_what_it_needs() -> None:
    assert complaint(StationSettings, "[station]\nid = 's1'") == (
        "hall.toml: channel: is missing; it must be a list with at least one entry"
    )


def test_the_environment_overrides_the_file() -> None:
    settings = parse(
        EqualizerSettings,
        "[control]\ndelay_s = 12.0\n[broker]\nport = 1",
        source="hall.toml",
        environment={
            "ZEROLOOP_CONTROL_DELAY_S": "18",
            "ZEROLOOP_CONTROL_POLICY": "dwell",
            "ZEROLOOP_BROKER_PORT": "1884",
            "ZEROLOOP_DISCOVERY_ADVERTISE": "false",
            "UNRELATED": "x",
        },
    )
    assert (settings.control.delay_s, settings.control.policy) == (18.0, Policy.DWELL)
    assert (settings.broker.port, settings.discovery.advertise) == (1884, False)


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    environment = {"ZEROLOOP_BROKER_PROTOCOL": "5", "ZEROLOOP_LOOP_NAME": "7", "ZEROLOOP_BROKER_USERNAME": "true"}
    settings = parse(EqualizerSettings, "", source="hall.toml", environment=environment)
    assert (settings.broker.protocol, settings.loop.name, settings.broker.username) == ("5", "7", "true")


def test_a_wrong_variable_is_named_rather_than_the_file() -> None:
    line = complaint(EqualizerSettings, "", {"ZEROLOOP_CONTROL_DELAY_S": "soon"})
    assert line == "ZEROLOOP_CONTROL_DELAY_S (control.delay_s): must be a number of at least 0, not 'soon'"


def test_the_environment_opens_a_table_that_the_file_leaves_out() -> None:
    settings = parse(StationSettings, STATION, source="s.toml", environment={"ZEROLOOP_BROKER_HOST": "10.0.0.5"})
    assert settings.broker is not None
    assert (settings.broker.host, settings.broker.port) == ("10.0.0.5", 1883)


def test_no_variable_holds_a_secret() -> None:
    for model in (EqualizerSettings, StationSettings):
        assert not [name for name in variables(model) if name.endswith(("_PASSWORD", "_SECRET", "_TOKEN"))]


def test_a_drivers_own_table_gets_the_same_texts() -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate(EqualizerSettings, {"control": {"delay_s": [1]}}, source="driver")
    assert str(caught.value) == "driver: control.delay_s: must be a number of at least 0, not a list"


keys = st.text(st.sampled_from("abcdefgh_"), min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=100),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
known = st.sampled_from(["station", "channel", "broker", "telemetry", "driver", "program", "id", "step", "until"])


@given(st.dictionaries(known | keys, values | st.lists(st.dictionaries(known | keys, values), max_size=2), max_size=5))
def test_any_table_is_taken_or_refused_on_one_line(table: dict[str, object]) -> None:
    line = ""
    try:
        validate(StationSettings, table, source="hall.toml")
    except ConfigurationError as error:
        line = str(error)
    assert "\n" not in line
