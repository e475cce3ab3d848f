"""What must survive the equalizer's process: the highest epoch, the energy account, and what operators have ordered.

Each is a small JSON file, written whole or not at all. A damaged file is kept aside under another name, for whoever
wants to look, and taken for an absent one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from equalizer.config import LARGEST_W
from transport.files import write_atomically

_MAX_EPOCH = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SavedAccount:
    """The energy account as it is kept.

    Energy in Wh since the account was opened: drawn from the grid, fed back, and what |total| would have been with the
    equalization channels at 0 W.
    """

    import_wh: float = 0.0
    export_wh: float = 0.0
    unbalanced_wh: float = 0.0
    setpoint_changes: int = 0


@dataclass(frozen=True, slots=True)
class StandingOrders:
    """What operators have ordered, which stands until they order something else."""

    paused: bool = False
    target_power_w: float | None = None
    """What the total power is steered to; None: what the configuration says."""
    instead_of_w: float | None = None
    """The configuration's target when it was replaced; an edited configuration is newer than the order."""


class Ledger:
    """The state files of one loop.

    Args:
        folder: made when it is first written to.
        loop: part of the files' names, so that the equalizers of several loops may share a folder.
    """

    def __init__(self, folder: Path, loop: str) -> None:
        self.damaged: list[str] = []
        """Files that could not be read, each with where it is kept now; one line each, for the log."""
        self._epoch_path = folder / f"epoch-{loop}.json"
        self._energy_path = folder / f"energy-{loop}.json"
        self._orders_path = folder / f"operator-{loop}.json"

    def epoch(self) -> int:
        """Return the highest epoch that was stored; 0 where there is none."""
        value = self._read(self._epoch_path).get("epoch", 0)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_EPOCH:
            return value
        self._set_aside(self._epoch_path, "no epoch in it")
        return 0

    def store_epoch(self, epoch: int) -> None:
        """Store an epoch; when this returns, a power cut will not lose it.

        Raises:
            OSError: the folder cannot be written to.
        """
        write_atomically(self._epoch_path, _json({"epoch": epoch}))

    def account(self) -> SavedAccount:
        """Return the energy account that was stored; a new one where there is none."""
        values = self._read(self._energy_path)
        try:
            return SavedAccount(
                import_wh=_energy(values, "import_wh"),
                export_wh=_energy(values, "export_wh"),
                unbalanced_wh=_energy(values, "unbalanced_wh"),
                setpoint_changes=int(_energy(values, "setpoint_changes")),
            )
        except ValueError as error:
            self._set_aside(self._energy_path, str(error))
            return SavedAccount()

    def store_account(self, account: SavedAccount) -> None:
        """Store the energy account.

        Raises:
            OSError: the folder cannot be written to.
        """
        values = {
            "import_wh": account.import_wh,
            "export_wh": account.export_wh,
            "unbalanced_wh": account.unbalanced_wh,
            "setpoint_changes": account.setpoint_changes,
        }
        write_atomically(self._energy_path, _json(values))

    def orders(self) -> StandingOrders:
        """Return what operators had ordered. Where that is damaged the loop is paused: it may have been, for safety."""
        damaged = len(self.damaged)
        values = self._read(self._orders_path)
        if len(self.damaged) > damaged:
            return StandingOrders(paused=True)
        try:
            return StandingOrders(
                paused=_flag(values, "paused"),
                target_power_w=_power(values, "target_power_w"),
                instead_of_w=_power(values, "instead_of_w"),
            )
        except ValueError as error:
            self._set_aside(self._orders_path, str(error))
            return StandingOrders(paused=True)

    def store_orders(self, orders: StandingOrders) -> None:
        """Store what operators have ordered; when this returns, a power cut will not lose it.

        Raises:
            OSError: the folder cannot be written to.
        """
        values = {
            "paused": orders.paused,
            "target_power_w": orders.target_power_w,
            "instead_of_w": orders.instead_of_w,
        }
        write_atomically(self._orders_path, _json(values))

    def _read(self, path: Path) -> Mapping[str, object]:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            self._set_aside(path, "not JSON")
            return {}
        if isinstance(values, dict):
            return values
        self._set_aside(path, "no JSON object")
        return {}

    def _set_aside(self, path: Path, why: str) -> None:
        number = 1
        while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        path.rename(aside)
        self.damaged.append(f"{path.name} is damaged ({why}) and kept as {aside.name}")


def _energy(values: Mapping[str, object], key: str) -> float:
    value = values.get(key, 0.0)
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value >= 0.0:
        return value
    raise ValueError(f"{key} is no energy")


def _flag(values: Mapping[str, object], key: str) -> bool:
    value = values.get(key, False)
    if isinstance(value, bool):
        return value
    raise ValueError(f"{key} is neither true nor false")


def _power(values: Mapping[str, object], key: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST_W <= value <= LARGEST_W:
        return value
    raise ValueError(f"{key} is no power")


def _json(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, indent=2).encode() + b"\n"
