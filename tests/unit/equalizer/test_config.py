"""What equalizer.toml may say."""

import pytest

from equalizer.config import EqualizerSettings, warnings
from schemas.settings import ConfigurationError, parse


def read(text: str) -> EqualizerSettings:
    return parse(EqualizerSettings, text, source="equalizer.toml", environment={})


@pytest.mark.parametrize(("delay_s", "warned"), [(9.9, True), (10.0, False), (20.0, False), (20.1, True)])
def test_a_delay_outside_the_recommended_range_is_accepted_with_a_warning(delay_s: float, warned: bool) -> None:
    texts = warnings(read(f"[control]\ndelay_s = {delay_s}\n"))
    assert any("control.delay_s" in text for text in texts) is warned


def test_a_lease_that_one_lost_message_ends_is_warned_of() -> None:
    assert warnings(read("[setpoint]\nttl_s = 9.0\nrefresh_s = 5.0\n")) != ()


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
