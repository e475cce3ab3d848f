"""One browser's view of the page."""

import datetime as dt
from dataclasses import dataclass

from nicegui import ui

from dashboard import figures
from dashboard.door import Theme
from dashboard.gate import whose
from dashboard.hall import Hall
from dashboard.hub import Hub
from dashboard.sessions import Identity
from dashboard.words import Words


@dataclass(slots=True)
class Visit:
    """Who looks, in which language."""

    hub: Hub
    say: Words
    theme: Theme
    identity: Identity
    token: str | None

    @property
    def hall(self) -> Hall:
        """The loop that is looked at."""
        return self.hub.hall

    @property
    def now_s(self) -> float:
        """Monotonic seconds."""
        return self.hub.clock()

    def still_here(self) -> bool:
        """Whether the visitor is signed in still; who is not is sent to the door."""
        identity = whose(self.hub, self.token)
        if identity is None:
            leave_for("/sign-in")
            return False
        self.identity = identity
        return True

    def moment(self, unix_time_s: float) -> str:
        """Return a time of the hall's day."""
        return figures.moment(self.local(unix_time_s), self.local(self.hub.utc()))

    def local(self, unix_time_s: float) -> dt.datetime:
        """Return the hall's local time."""
        return self.hub.local(unix_time_s)

    def chart_ms(self, unix_time_s: float) -> float:
        """Return a moment for a chart: charts are told UTC, and show the hall's time by it."""
        offset = self.local(unix_time_s).utcoffset()
        return round((unix_time_s + (0.0 if offset is None else offset.total_seconds())) * 1000.0)

    def place(self, source: str) -> str:
        """Return what people call a source: `s1 / 3`."""
        parts = source.split("/")
        return " / ".join(parts[1::2]) if len(parts) > 1 else source


def leave_for(path: str) -> None:
    """Go to an address that is none of the page's views: the browser loads it anew."""
    ui.context.client.open(path)
