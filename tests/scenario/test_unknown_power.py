"""Freshness: what is stale counts by its last value, and as unknown; too much of it freezes the loop."""

import pytest

from schemas.messages import OnLost, Policy
from tests.scenario.hall import LEASE_S, Plant


def loaded(**settings: object) -> Plant:
    """A hall with 20 kW of load."""
    plant = Plant(policy=Policy.DWELL, **settings).settled()  # type: ignore[arg-type]  # test keywords
    plant.load(ch=1, power_w=20_000.0)
    plant.run(20)
    return plant


def test_a_silent_channel_counts_by_its_last_value_and_as_unknown() -> None:
    plant = loaded()
    plant.channels["1"].silent = True
    plant.run(2)
    assert plant.image.unknown_power_w == 0.0
    plant.run(2)
    assert plant.image.load_power_w == 20_000.0
    assert plant.image.unknown_power_w == 20_000.0
    assert plant.image.channels_stale == 1
    assert abs(plant.total_w) < 50
    plant.channels["1"].silent = False
    plant.run(2)
    assert plant.image.unknown_power_w == 0.0
    assert plant.image.channels_stale == 0


def test_above_the_limit_the_loop_freezes_and_leases_run_out() -> None:
    plant = loaded(freeze_w=10_000.0)
    plant.channels["1"].silent = True
    plant.run(6)
    assert plant.phase == "frozen"
    before = len(plant.orders)
    plant.run(LEASE_S + 5)
    assert len(plant.orders) == before
    assert plant.eq().power_w == 0.0
    plant.channels["1"].silent = False
    plant.run(20)
    assert plant.phase == "balancing"
    assert abs(plant.total_w) < 50


@pytest.mark.parametrize(("on_lost", "load_w", "unknown_w"), [(OnLost.ZERO, 0.0, 0.0), (OnLost.CONTINUE, 20e3, 40e3)])
def test_a_station_that_is_gone(on_lost: OnLost, load_w: float, unknown_w: float) -> None:
    plant = loaded()
    plant.online = False
    plant.say_status(on_lost=on_lost)
    plant.run(1)
    assert plant.image.load_power_w == load_w
    assert plant.image.unknown_power_w == unknown_w  # the load's 20 kW, and the equalization channel's
    assert plant.image.stations_online == 0


def test_a_late_will_of_an_earlier_boot_is_no_loss() -> None:
    plant = loaded()
    current, plant.boot_id, plant.online = plant.boot_id, "boot-before", False
    plant.say_status(on_lost=OnLost.ZERO)
    plant.boot_id, plant.online = current, True
    plant.run(1)
    assert plant.image.stations_online == 1
    assert plant.image.load_power_w == 20_000.0
    assert plant.book.ignored["late_will"] == 1


def test_a_stale_equalization_channel_gets_no_setpoint_and_counts_as_unknown() -> None:
    plant = loaded(equalizers=2)
    assert plant.eq(1).power_w == -20_000.0
    plant.eq(1).silent = True
    plant.run(4.5)
    before = len(plant.orders)
    plant.load(ch=1, power_w=30_000.0)
    plant.run(5)
    assert plant.image.unknown_power_w == 20_000.0
    assert {order.channel for _, order in plant.orders[before:]} == {"e2"}
    assert plant.eq(2).power_w == pytest.approx(-10_000.0)


def test_it_is_passive_until_every_channel_was_heard() -> None:
    plant = Plant(policy=Policy.DWELL)
    plant.load(ch=1, power_w=20_000.0)
    plant.channels["4"].next_s = plant.now_s + 2.0
    plant.run(1.8)
    assert plant.phase == "starting"
    assert plant.orders == []
    plant.run(1)
    assert plant.phase == "balancing"


def test_a_channel_that_never_speaks_does_not_keep_the_loop_from_starting() -> None:
    plant = Plant()
    plant.channels["4"].silent = True
    plant.run(2.9)
    assert plant.phase == "starting"
    plant.run(0.4)
    assert plant.phase == "balancing"


def test_retained_telemetry_is_of_unknown_age() -> None:
    plant = Plant()
    plant.channels["1"].power_w = 20_000.0
    plant.say(plant.channels["1"], retained=True)
    image = plant.image
    assert image.load_power_w == image.unknown_power_w == 20_000.0
    plant.run(1.5)
    assert plant.image.unknown_power_w == 0.0
    assert plant.image.load_power_w == 20_000.0


def test_a_restarted_station_begins_again() -> None:
    plant = loaded()
    plant.boot_id = "boot-b"
    for channel in plant.channels.values():
        channel.seq, channel.last, channel.applied_w = 0, None, 0.0
        channel.schedule = []
    plant.eq().power_w = 0.0
    plant.say_status()
    plant.run(20)
    assert plant.book.ignored["other_boot"] == 0
    assert abs(plant.total_w) < 50
