"""docs/faults.md: made from the registry and from what `make chaos` measured last (docs/faults.json)."""

import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.chaos.registry import FAULTS, Fault, Measured

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "faults.md"
MEASURED = ROOT / "docs" / "faults.json"

FILES = (
    "test_broker.py",
    "test_network.py",
    "test_packets.py",
    "test_messages.py",
    "test_station.py",
    "test_equalizer.py",
    "test_standby.py",
    "test_clocks.py",
    "test_equipment.py",
)
"""The order of the sections; each is named by the first line of its file."""

HEAD = """\
# Faults

What can fail, what happens then, and within how many seconds. Every row is a test on a real broker and real
processes; `make chaos` runs all {rows} with the product's defaults (a period of 1 s, a lease of 30 s, a delay of 15 s)
and writes this page. `make test` runs {quick} of them, with shorter times. What needs root (network namespaces, a full
disk) is skipped without it.

What holds everywhere:

- An equalization channel is at 0 W at most 60 s after the telemetry that the last obeyed setpoint rested on, whatever
  fails; it gets there on its ramp. Local limits and protection are stronger than any setpoint. Only where the station's
  process stands still, or its equipment does not answer, the equipment is on its own: its watchdog has to see to it.
- Nothing that was acknowledged is lost: mode, alarm and epoch are stored before they are confirmed. A disk that takes
  nothing stops nobody; it is told by an alarm, and what waits is stored once there is room.
- Once the cause is gone, everything is back within 15 s, without a person, unless a row says otherwise; an alarm of a
  channel waits for a person.
- A fault is told by one log line and one event when it begins, and by one of each when it ends. What happens without a
  connection is told when there is one again, with the time at which it happened.

`0 W` counts from the fault until the equipment of the equalization channel is at 0 W; `back` from the end of the cause
until everybody is heard again: fresh telemetry of every channel, and an equalizer that balances. What it then finds
unbalanced waits for `control.delay_s` as always. The other names say what they count. All in seconds.
"""


def read_registry() -> Iterable[Fault]:
    """Import what registers faults, and return all of them."""
    for file in FILES:
        importlib.import_module(f"tests.chaos.{file.removesuffix('.py')}")
    return FAULTS.values()


def read_measured() -> dict[str, Measured]:
    """Return what was measured last."""
    return dict(json.loads(MEASURED.read_text())) if MEASURED.exists() else {}


def render(faults: Iterable[Fault], measured: Mapping[str, Measured]) -> str:
    """Return the page."""
    faults = list(faults)
    sections = [_section(file, [one for one in faults if one.file == file], measured) for file in FILES]
    head = HEAD.format(rows=len(faults), quick=sum(one.quick for one in faults))
    return "\n".join([head, *sections])


def _section(file: str, faults: Iterable[Fault], measured: Mapping[str, Measured]) -> str:
    module = importlib.import_module(f"tests.chaos.{file.removesuffix('.py')}")
    title = (module.__doc__ or file).partition(".")[0]
    head = [
        f"## {title}\n",
        f"In `tests/chaos/{file}`.\n",
        "| fault | what happens | bound | last measured | test |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = [
        f"| {one.what} | {one.outcome} | {_seconds(one.bounds_s)} | {_seconds(measured.get(one.key, {}))} "
        f"| `{one.test.removeprefix('test_')}` |"
        for one in faults
    ]
    return "\n".join([*head, *rows, ""])


def _seconds(values: Measured) -> str:
    return ", ".join(f"{name} {seconds:g}" for name, seconds in values.items()) if values else "not yet"


def write(measured: Mapping[str, Measured]) -> None:
    """Keep what was measured of the faults that there are, and write the page."""
    faults = list(read_registry())
    known = {one.key: measured[one.key] for one in faults if one.key in measured}
    MEASURED.write_text(json.dumps(known, indent=2) + "\n")
    TABLE.write_text(render(faults, known))


if __name__ == "__main__":
    write(read_measured())
