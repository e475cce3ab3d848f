"""dashboard.toml."""

import ipaddress
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from schemas.messages import Name
from schemas.settings import BrokerSettings, Section

Language = Literal["en", "zh"]

_MINUTES_PER_HOUR = 60
_HOURS_PER_DAY = 24


class PageSection(Section):
    """Where the page is served, and how it greets."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on. On any but a loopback address it wants at least one user who may sign in."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8465
    """The port to listen on."""
    language: Language | None = None
    """Of who has chosen none; null: the browser's, else English."""
    band_w: Annotated[float, Field(gt=0.0)] = 1000.0
    """How far from the target the total may be; only where the equalizer does not say it."""
    cert_file: str | None = None
    """A certificate; switches HTTPS on, together with `key_file`."""
    key_file: str | None = None
    """The key of `cert_file`."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or none")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this computer reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class LoopSection(Section):
    """The loop that is shown."""

    name: Name | None = None
    """Needed only where more than one loop answers."""


class Period(Section):
    """A part of the day with a price of its own, in the hall's local time; it may pass midnight."""

    begins: str
    """`HH:MM`."""
    ends: str
    """`HH:MM`; `24:00` is midnight."""
    price_per_kwh: float
    """The price in that time."""

    @field_validator("begins", "ends")
    @classmethod
    def _clock(cls, text: str) -> str:
        minute_of(text)
        return text


class TariffSection(Section):
    """What a kilowatt-hour less exchanged with the grid is worth."""

    currency: Annotated[str, Field(min_length=1, max_length=8)] = "€"
    """How it is written."""
    price_per_kwh: float = 0.0
    """0 with no period: no money is shown."""
    period: tuple[Period, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        spans = sorted(span for period in self.period for span in _spans(period))
        for (_, ends), (begins, _) in pairwise(spans):
            if begins < ends:
                raise ValueError(f"two periods share the time from {_clock_of(begins)}; each minute has one price")
        return self

    @property
    def is_set(self) -> bool:
        """Whether there is a price at all."""
        return self.price_per_kwh != 0.0 or bool(self.period)

    def price_at(self, minute: int) -> float:
        """Return the price of a kilowatt-hour at a minute of the hall's day."""
        for period in self.period:
            if any(begins <= minute < ends for begins, ends in _spans(period)):
                return period.price_per_kwh
        return self.price_per_kwh


class SignInSection(Section):
    """Who may see and who may act."""

    always: bool = False
    """Ask for a name and a password on a loopback address too."""
    session_hours: Annotated[float, Field(gt=0.0, le=744.0)] = 12.0
    """A session ends so long after its last use."""


class StateSection(Section):
    """Where history, alarms, users and sessions are kept."""

    dir: str = "state"
    """The folder, relative to this file's."""


class DashboardSettings(Section):
    """The whole file."""

    page: PageSection = PageSection()
    loop: LoopSection = LoopSection()
    broker: BrokerSettings | None = None
    """Null: found as a station finds it."""
    tariff: TariffSection = TariffSection()
    sign_in: SignInSection = SignInSection()
    state: StateSection = StateSection()


def minute_of(clock: str) -> int:
    """Return the minute of the day that `HH:MM` names; `24:00` is its end.

    Raises:
        ValueError: it names none.
    """
    hour, colon, minute = clock.partition(":")
    if not (colon and hour.isdecimal() and minute.isdecimal()):
        raise ValueError(f"{clock!r} is no time of the day; allowed is 00:00 to 24:00")
    minutes = int(hour) * _MINUTES_PER_HOUR + int(minute)
    if int(minute) >= _MINUTES_PER_HOUR or minutes > _HOURS_PER_DAY * _MINUTES_PER_HOUR:
        raise ValueError(f"{clock!r} is no time of the day; allowed is 00:00 to 24:00")
    return minutes


def _spans(period: Period) -> tuple[tuple[int, int], ...]:
    begins, ends = minute_of(period.begins), minute_of(period.ends)
    if begins < ends:
        return ((begins, ends),)
    return ((begins, _HOURS_PER_DAY * _MINUTES_PER_HOUR), (0, ends))


def _clock_of(minute: int) -> str:
    return f"{minute // _MINUTES_PER_HOUR:02}:{minute % _MINUTES_PER_HOUR:02}"
