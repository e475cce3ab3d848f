"""What equalizer.toml may say."""

import pytest

from equalizer.config import EqualizerSettings, warnings
from equalizer.control.settings import ControlSettings
from schemas.settings import ConfigurationError, parse

TABLE = '[[channel]]\nstation = "s"\nchannel = "2"\n'


def read(text: str) -> EqualizerSettings:
    return parse(EqualizerSettings, text, source="equalizer.toml", environment={})


@pytest.mark.parametrize(("delay_s", "warned"), [(9.9, True), (10.0, False), (20.0, False), (20.1, True)])
def test_a_delay_outside_the_recommended_range_is_accepted_with_a_warning(delay_s: float, warned: bool) -> None:
    texts = warnings(read(f"[control]\ndelay_s = {delay_s}\n"))
    assert any("control.delay_s" in text for text in texts) is warned


def test_a_lease_that_one_lost_message_ends_is_warned_of() -> None:
    assert warnings(read("[setpoint]\nttl_s = 9.0\nrefresh_s = 5.0\n")) != ()


@pytest.mark.parametrize("target_w", ["1e300", "-1e13", "nan"])
def test_a_target_is_a_power_that_a_hall_can_have(target_w: str) -> None:
    with pytest.raises(ConfigurationError, match=r"loop\.target_power_w: must be a number from -1e\+12 to 1e\+12"):
        read(f"[loop]\ntarget_power_w = {target_w}\n")


@pytest.mark.parametrize("topic", ["", "a/+/b", "a/#"])
def test_a_meter_has_one_topic(topic: str) -> None:
    with pytest.raises(ConfigurationError, match=r"meter\.topic: a topic without wildcards"):
        read(f"[meter]\ntopic = '{topic}'\n")


def test_the_meters_key_is_a_path() -> None:
    assert read("[meter]\npower_key = 'ENERGY.Power'\n").meter.power_path == ("ENERGY", "Power")
    assert read("[meter]\npower_key = ''\n").meter.power_path == ()


def test_leases_that_telemetry_is_too_seldom_for_deserve_a_word() -> None:
    (text,) = warnings(read("[telemetry]\nperiod_s = 26.0\n"))
    assert "telemetry.period_s is 26" in text
    assert warnings(read("[telemetry]\nperiod_s = 10.0\n")) == ()


def test_the_band_may_find_its_width_by_itself() -> None:
    found = read('[control]\nengage_w = "auto"\n')
    control = ControlSettings.of(found)
    assert (control.auto_band, control.engage_w, control.release_w) == (True, 1000.0, 300.0)
    assert warnings(found) == ()
    (text,) = warnings(read('[control]\nengage_w = "auto"\nrelease_w = 5.0\n'))
    assert "release_w says nothing" in text
    variable = {"ZEROLOOP_CONTROL_ENGAGE_W": "auto"}
    assert parse(EqualizerSettings, "", source="x", environment=variable).control.engage_w == "auto"


def test_the_most_specific_table_says_how_efficient_a_channel_is() -> None:
    tables = (("*", "*", 0.95), ("s1", "*", 0.96), ("s1", "2", 0.97))
    text = "".join(f'[[channel]]\nstation="{s}"\nchannel="{c}"\ncharging_efficiency={e}\n' for s, c, e in tables)
    said = ControlSettings.of(read(text)).efficiencies
    assert [said.of(key).charging_ratio for key in (("s2", "1"), ("s1", "1"), ("s1", "2"))] == [0.95, 0.96, 0.97]
    assert said.of(("s1", "2")).discharging_ratio == 1.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[control]\nengage_w = "wide"', "control.engage_w: must be a number of at least 0 or \"auto\", not 'wide'"),
        ("[control]\nengage_w = -1", 'control.engage_w: must be a number of at least 0 or "auto", not -1'),
        ("[state]\ndecision_log_bytes = 5", "5 bytes hold no decisions; allowed is 20000 or more, or 0 for none"),
        ("[meter]\ndelay_s = 20.0", "meter.delay_s: must be a number from 0 to 10, not 20"),
        (f"{TABLE}charging_efficiency = 95", "charging_efficiency: must be a number above 0 and up to 1, not 95"),
        (f"{TABLE}efficiency = [[5e3, 0.9], [3e3, 0.9]]", "the powers in efficiency must rise"),
        (f"{TABLE}efficiency = [[5e3]]", "efficiency entry 1, entry 2: is missing"),
        (f"{TABLE}{TABLE}", "two [[channel]] tables for station 's', channel '2'; allowed is one"),
        (
            '[[channel]]\nstation = "s*"\nchannel = "2"',
            "must be a name of 1 to 64 letters, digits, '_' or '-' or \"*\"",
        ),
        ('[[channel]]\nstation="*"\nchannel="2"\nefficiency=[[5e3, 0.9]]', "name its station and channel, without *"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
