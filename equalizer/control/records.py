"""The records behind the image, and their running sums. Powers are integers of microwatts."""

from collections import OrderedDict
from math import inf

from equalizer.control.forecast import Plan
from equalizer.control.image import ChannelKey
from schemas.messages import ChannelTelemetry, Equalization, OnLost


class StationRecord:
    """What is known of a station."""

    __slots__ = ("awaited", "boot_id", "channels", "name", "on_lost", "online", "said")

    def __init__(self, name: str) -> None:
        self.name = name
        self.boot_id: str | None = None
        self.said = False
        """Whether it has ever said that it is there, or gone."""
        self.online = False
        self.on_lost = OnLost.CONTINUE
        self.channels: dict[str, ChannelRecord] = {}
        """Those that have said or planned something."""
        self.awaited: set[str] = set()
        """Channels that have yet to speak before the first round is complete."""

    @property
    def is_zeroed(self) -> bool:
        """Whether its channels are at 0 W because it is gone."""
        return self.said and not self.online and self.on_lost is OnLost.ZERO


class ChannelRecord:
    """What is known of a channel, and what of it the sums contain."""

    __slots__ = (
        "boot_id",
        "closed",
        "counted_uw",
        "doubted",
        "equalization",
        "fresh",
        "heard_s",
        "highest_uw",
        "known",
        "name",
        "off_plan",
        "plan",
        "plan_source",
        "power_uw",
        "remainder_uw",
        "seq",
        "stale",
        "station",
        "telemetry",
        "unknown_uw",
        "waiting_plan",
    )

    def __init__(self, name: str, station: StationRecord) -> None:
        self.name = name
        self.station = station
        self.closed = False
        """Whether the book has forgotten it; whoever still holds it asks the book for a new one."""
        self.boot_id: str | None = None
        self.seq = -1
        self.heard_s = -inf
        self.known = False
        """Whether it has ever said anything that counts."""
        self.telemetry: ChannelTelemetry | None = None
        """What an equalization channel said last; of a load the sums are enough."""
        self.power_uw = 0
        """What it said last."""
        self.highest_uw = 0
        """The highest magnitude that it or its plans have said: the nearest thing to its rating."""
        self.fresh = False
        self.stale = False
        self.equalization: Equalization | None = None
        self.counted_uw = 0
        self.unknown_uw = 0
        self.remainder_uw = 0
        self.plan: Plan | None = None
        self.waiting_plan: Plan | None = None
        """A plan that came while the channel was not fresh; it counts from the next telemetry on."""
        self.plan_source: tuple[str, int] | None = None
        self.off_plan = 0
        self.doubted = 0
        """How many messages in a row could not be true."""

    @property
    def key(self) -> ChannelKey:
        """Its station's name and its own."""
        return self.station.name, self.name


class Tally:
    """The sums over all channels."""

    __slots__ = (
        "charging_uw",
        "equalization_uw",
        "fresh",
        "known",
        "load_uw",
        "remainder_uw",
        "stale",
        "unknown_uw",
    )

    def __init__(self) -> None:
        self.load_uw = 0
        self.equalization_uw = 0
        self.charging_uw = 0
        self.unknown_uw = 0
        self.remainder_uw = 0
        self.known = 0
        self.stale = 0
        self.fresh: OrderedDict[ChannelRecord, None] = OrderedDict()
        """By receipt, the oldest first."""

    def count(self, record: ChannelRecord, counted_uw: int, unknown_uw: int, equalization: Equalization | None) -> None:
        """Replace what the sums contain of a channel."""
        before_uw = record.counted_uw
        self.charging_uw += max(counted_uw, 0) - max(before_uw, 0)
        self.unknown_uw += unknown_uw - record.unknown_uw
        if record.equalization is None:
            self.load_uw -= before_uw
        else:
            self.equalization_uw -= before_uw
        if equalization is None:
            self.load_uw += counted_uw
        else:
            self.equalization_uw += counted_uw
        if record.plan is None:
            self.set_remainder(record, counted_uw if equalization is None else 0)
        record.counted_uw = counted_uw
        record.unknown_uw = unknown_uw
        record.equalization = equalization

    def set_remainder(self, record: ChannelRecord, remainder_uw: int) -> None:
        """Replace what the remainder contains of a channel."""
        self.remainder_uw += remainder_uw - record.remainder_uw
        record.remainder_uw = remainder_uw

    def set_age(self, record: ChannelRecord, *, fresh: bool, stale: bool) -> None:
        """Note whether a channel is fresh, stale, or (neither) gone."""
        self.stale += stale - record.stale
        record.fresh = fresh
        record.stale = stale
        if fresh:
            self.fresh[record] = None
            self.fresh.move_to_end(record)
        else:
            self.fresh.pop(record, None)
