"""Home Assistant has just the devices that there are: whoever comes is announced, whoever is retired is removed."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from equalizer.homeassistant import Site, config_filter, due, forgotten, heard_config, heard_status, published
from schemas.messages import OnLost, Presence, StationStatus

SITE = Site("main", "homeassistant", commands=False, version="1.0")
names = st.text("ab_-", min_size=1, max_size=6)


def status(*channels: str) -> StationStatus:
    return StationStatus(
        status=Presence.ONLINE,
        boot_id="b",
        version="1",
        driver="simulated",
        channels=channels,
        on_lost=OnLost.ZERO,
        unix_time_s=0.0,
    )


def devices(site: Site) -> dict[str, Any]:
    return {topic.split("/")[-2]: json.loads(payload) for topic, payload in due(site) if payload}


def test_the_loop_is_a_device_with_its_powers_energies_and_phase() -> None:
    (device,) = devices(SITE).values()
    assert device["device"]["name"] == "Loop main"
    parts = device["components"]
    assert parts["total_power_w"]["state_topic"] == "zeroloop/v1/main/balance"
    assert parts["total_power_w"]["value_template"] == "{{ value_json.total_power_w }}"
    assert parts["avoided_wh"]["state_class"] == "total", "it may fall"
    assert set(parts["phase"]["options"]) == {"starting", "balancing", "saturated", "frozen", "paused", "standby"}
    assert "pause" not in parts


def test_only_where_it_is_asked_for_are_there_buttons_that_command() -> None:
    site = Site("main", "homeassistant", commands=True, version="1.0")
    (device,) = devices(site).values()
    assert device["components"]["pause"]["command_topic"] == "zeroloop/v1/main/command"
    # What Home Assistant makes of the template is the contract's command, with an id of its own each time.
    made = device["components"]["pause"]["command_template"].replace("{{ now().timestamp() }}", "1.5")
    assert json.loads(made) == {"id": "ha-pause-1.5", "action": "pause"}


def test_a_station_is_a_device_below_the_loop_with_parts_for_each_channel() -> None:
    made = devices(heard_status(SITE, "s1", status("1", "2")))
    device = made["zeroloop__main__s1"]
    assert device["device"]["via_device"] == "zeroloop__main"
    assert device["availability"][0]["topic"] == "zeroloop/v1/main/station/s1/status"
    assert len(device["components"]) == 16
    assert device["components"]["2-power_w"]["state_topic"] == "zeroloop/v1/main/station/s1/channel/2/telemetry"
    ids = [part["unique_id"] for one in made.values() for part in one["components"].values()]
    assert len(ids) == len(set(ids))


def test_what_is_announced_already_is_not_said_again() -> None:
    site = published(heard_status(SITE, "s1", status("1")))
    assert due(site) == []


def test_a_retired_station_is_removed_and_so_is_one_that_was_retired_while_nobody_listened() -> None:
    site = published(heard_status(SITE, "s1", status("1")))
    gone = heard_status(site, "s1", None)
    assert due(gone) == [("homeassistant/device/zeroloop__main__s1/config", b"")]
    restarted = forgotten(site)
    for device, payload in site.announced.items():
        restarted = heard_config(restarted, f"homeassistant/device/{device}/config", payload)
    assert due(restarted) == [("homeassistant/device/zeroloop__main__s1/config", b"")]


def test_a_station_with_fewer_channels_is_removed_before_it_is_announced_anew() -> None:
    site = heard_status(published(heard_status(SITE, "s1", status("1", "2"))), "s1", status("1"))
    (first, second) = due(site)
    assert first == ("homeassistant/device/zeroloop__main__s1/config", b"")
    assert len(json.loads(second[1])["components"]) == 8


def test_the_devices_of_others_are_left_alone() -> None:
    site = heard_config(SITE, "homeassistant/device/zeroloop__main2/config", b"{}")
    site = heard_config(site, "homeassistant/device/lamp/config", b"{}")
    assert site == SITE
    assert config_filter("homeassistant") == "homeassistant/device/+/config"


@given(st.lists(st.tuples(names, names), min_size=2, max_size=2, unique=True))
def test_no_two_stations_of_any_loops_share_a_device(pairs: list[tuple[str, str]]) -> None:
    made = []
    for loop, station in pairs:
        site = heard_status(Site(loop, "homeassistant", commands=False, version="1"), station, status("1"))
        made += [name for name in devices(site) if "via_device" in devices(site)[name]["device"]]
        assert len(devices(site)) == 2
    assert len(set(made)) == 2
