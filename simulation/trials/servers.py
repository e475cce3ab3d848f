"""An equalizer of the trial: the production's service, with a ledger that needs no disk and a virtual session."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from equalizer.config import EqualizerSettings
from equalizer.fencing import Standing
from equalizer.ledger import Ledger, SavedAccount, StandingOrders
from equalizer.service import EqualizerService
from simulation.trials.process import Computer, Process
from simulation.trials.session import VirtualSession
from transport.session import Session


class VirtualLedger(Ledger):
    """A disk: it outlives the process, unless it is lost with the computer."""

    def __init__(self) -> None:
        super().__init__(Path(), "trial")
        self._epoch = 0
        self._account = SavedAccount()
        self._orders = StandingOrders()

    def epoch(self) -> int:
        """Return the highest epoch that was stored."""
        return self._epoch

    def store_epoch(self, epoch: int) -> None:
        """Store an epoch."""
        self._epoch = epoch

    def account(self) -> SavedAccount:
        """Return the energy account."""
        return self._account

    def store_account(self, account: SavedAccount) -> None:
        """Store the energy account."""
        self._account = account

    def orders(self) -> StandingOrders:
        """Return what operators had ordered."""
        return self._orders

    def store_orders(self, orders: StandingOrders) -> None:
        """Store what operators have ordered."""
        self._orders = orders


class ServerProcess(Process):
    """One run of an equalizer.

    Args:
        computer: on which it runs.
        settings: its equalizer.toml.
        ledger: its disk.
        note: told all that it publishes.
    """

    def __init__(
        self,
        computer: Computer,
        settings: EqualizerSettings,
        ledger: VirtualLedger,
        note: Callable[["ServerProcess", str, bytes], None],
    ) -> None:
        super().__init__(computer, partial(note, self))
        self.ended: str | None = None
        """Why it has ended by itself; None: it runs, or was killed."""
        self.stopping = False
        self._stop = asyncio.Event()
        self.service = EqualizerService(
            settings,
            base_dir=Path(),
            clock=self.clock,
            utc=self.utc,
            ledger=ledger,
            open_session=cast("Callable[..., Session]", partial(VirtualSession, self)),
        )
        self.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self.service.run(self._stop)
            self.ended = "stopped"
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - the trial judges whether it should have ended
            self.ended = f"{type(error).__name__}: {error}"
        self.alive = False

    def stop(self) -> None:
        """Ask it to end cleanly (SIGTERM)."""
        self.stopping = True
        self.loop.call_soon(self._stop.set)

    @property
    def runs(self) -> bool:
        """Whether it has neither ended nor been killed, and is not about to."""
        return self.alive and not self.stopping and not self.loop.frozen

    @property
    def leads(self) -> bool:
        """Whether it believes to be in charge."""
        return self.runs and self.service.standing is Standing.IN_CHARGE
