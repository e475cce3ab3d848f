"""Finds drivers by name through the entry-point group `zeroloop.drivers`."""

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from station.drivers.protocol import DriverConfigurationError, DriverFactory

GROUP = "zeroloop.drivers"


def installed() -> dict[str, EntryPoint]:
    """Return the drivers that are installed, by the name that `[driver] type` gives them."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load(driver_type: str) -> DriverFactory:
    """Return what makes drivers of a type.

    Raises:
        DriverConfigurationError: there is no such driver, or it cannot be imported; the text lists what there is.
    """
    drivers = installed()
    if driver_type not in drivers:
        listed = ", ".join(sorted(drivers)) if drivers else f"none (the entry-point group {GROUP} is empty)"
        raise DriverConfigurationError(f"driver.type: there is no driver {driver_type!r}; installed are: {listed}")
    entry = drivers[driver_type]
    try:
        return cast("DriverFactory", entry.load())
    except (ImportError, AttributeError) as error:
        raise DriverConfigurationError(
            f"driver.type: the driver {driver_type!r} ({entry.value}) cannot be imported: {error}"
        ) from error
