"""Drivers are found by the name that the configuration gives them."""

from importlib.metadata import EntryPoint

import pytest

from station.drivers import registry
from station.drivers.protocol import DriverConfigurationError
from station.drivers.replay import ReplayDriver
from station.drivers.simulated import SimulatedDriver


def test_our_drivers_are_installed() -> None:
    assert isinstance(registry.load("simulated")({}, "."), SimulatedDriver)
    assert isinstance(registry.load("replay")({}, "."), ReplayDriver)


def test_an_unknown_driver_lists_what_there_is() -> None:
    with pytest.raises(DriverConfigurationError, match=r"no driver 'newaer'; installed are: .*replay, simulated"):
        registry.load("newaer")


def test_a_driver_that_cannot_be_imported_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint(name="broken", value="no_such_module:create", group=registry.GROUP)
    monkeypatch.setattr(registry, "installed", lambda: {"broken": broken})
    with pytest.raises(DriverConfigurationError, match=r"'broken' \(no_such_module:create\) cannot be imported"):
        registry.load("broken")


@pytest.mark.parametrize("driver", ["simulated", "replay"])
def test_a_misspelt_driver_option_is_named(driver: str) -> None:
    with pytest.raises(DriverConfigurationError, match=r"driver: time_scal: unknown key"):
        registry.load(driver)({"time_scal": 2.0}, ".")
