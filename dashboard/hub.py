"""What all visitors of the page share."""

from collections.abc import Callable
from dataclasses import dataclass

from dashboard.accounts import Accounts
from dashboard.config import DashboardSettings
from dashboard.desk import Desk
from dashboard.energy import Local
from dashboard.hall import Hall
from dashboard.sessions import Sessions


@dataclass(slots=True)
class Hub:
    """One loop, its page, and who may see it."""

    settings: DashboardSettings
    hall: Hall
    desk: Desk
    accounts: Accounts
    sessions: Sessions
    clock: Callable[[], float]
    """Monotonic seconds."""
    utc: Callable[[], float]
    """Unix seconds, for labels."""
    local: Local
    somebody: str
    """Who acts where nobody signs in: the user of this computer."""
    version: str
    may_act: bool
    """Whether the broker lets this page send commands: its credentials may be for watching only."""
    broker_lost_s: float | None = None
    """Since when there is no connection to the broker (monotonic); None: there is one."""

    @property
    def wants_sign_in(self) -> bool:
        """Whether visitors have to say who they are."""
        return self.settings.sign_in.always or not self.settings.page.is_loopback
