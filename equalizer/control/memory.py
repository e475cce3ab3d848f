"""What a book knows, as one frozen value: from it, another book goes on as this one would."""

from dataclasses import dataclass
from typing import NamedTuple

from equalizer.control.announcements import Announcements
from equalizer.control.forecast import Plan, PlanMemory
from equalizer.control.image import ChannelKey
from equalizer.control.records import ChannelRecord, StationRecord, Tally
from schemas.messages import ChannelTelemetry, OnLost


class ChannelMemory(NamedTuple):
    """What is known of a channel; what the fields mean, `ChannelRecord` says. A tuple, as there are ten thousand."""

    name: str
    boot_id: str | None
    seq: int
    heard_s: float
    known: bool
    telemetry: ChannelTelemetry | None
    power_uw: int
    highest_uw: int
    fresh: bool
    stale: bool
    counted_uw: int
    unknown_uw: int
    remainder_uw: int
    plan: PlanMemory | None
    waiting_plan: PlanMemory | None
    plan_source: tuple[str, int] | None
    off_plan: int
    doubted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StationMemory:
    """What is known of a station; what the fields mean, `StationRecord` says."""

    name: str
    boot_id: str | None
    said: bool
    online: bool
    on_lost: OnLost
    awaited: tuple[str, ...]
    channels: tuple[ChannelMemory, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookMemory:
    """What is known of the loop."""

    stations: tuple[StationMemory, ...]
    planned: tuple[ChannelKey, ...]
    """Whose plans count, in the order in which they came."""
    passed: int
    """How far the forecast has come; on its grid."""
    transferred_uw: int
    started_s: float | None
    round_complete: bool
    meter: tuple[float | None, float | None]
    losses: tuple[float, float]
    travel_s: float


def of_station(record: StationRecord) -> StationMemory:
    """Return what is to be remembered of a station."""
    return StationMemory(
        name=record.name,
        boot_id=record.boot_id,
        said=record.said,
        online=record.online,
        on_lost=record.on_lost,
        awaited=tuple(sorted(record.awaited)),
        channels=tuple(map(_of_channel, record.channels.values())),
    )


def _of_channel(record: ChannelRecord) -> ChannelMemory:
    return ChannelMemory(
        name=record.name,
        boot_id=record.boot_id,
        seq=record.seq,
        heard_s=record.heard_s,
        known=record.known,
        telemetry=record.telemetry,
        power_uw=record.power_uw,
        highest_uw=record.highest_uw,
        fresh=record.fresh,
        stale=record.stale,
        counted_uw=record.counted_uw,
        unknown_uw=record.unknown_uw,
        remainder_uw=record.remainder_uw,
        plan=None if record.plan is None else record.plan.memory,
        waiting_plan=None if record.waiting_plan is None else record.waiting_plan.memory,
        plan_source=record.plan_source,
        off_plan=record.off_plan,
        doubted=record.doubted,
    )


def stations(memory: BookMemory, tally: Tally, announcements: Announcements) -> dict[str, StationRecord]:
    """Return the records of a book that was remembered; its sums and plans are made in empty ones."""
    found = {station.name: _station(station) for station in memory.stations}
    said = [(found[station.name], channel) for station in memory.stations for channel in station.channels]
    plans: dict[ChannelKey, tuple[ChannelRecord, PlanMemory]] = {}
    for station, channel in sorted(said, key=lambda pair: pair[1].heard_s):
        record = station.channels[channel.name]
        equalization = None if channel.telemetry is None else channel.telemetry.equalization
        tally.known += channel.known
        tally.count(record, channel.counted_uw, channel.unknown_uw, equalization)
        tally.set_remainder(record, channel.remainder_uw)
        tally.set_age(record, fresh=channel.fresh, stale=channel.stale)
        if channel.plan is not None:
            plans[record.key] = (record, channel.plan)
    announcements.forecast.recall(memory.passed)
    announcements.transferred_uw = memory.transferred_uw
    for key in memory.planned:
        record, plan = plans[key]
        announcements.recall(record, Plan.recalled(plan))
    return found


def _station(memory: StationMemory) -> StationRecord:
    record = StationRecord(memory.name)
    record.boot_id = memory.boot_id
    record.said = memory.said
    record.online = memory.online
    record.on_lost = memory.on_lost
    record.awaited = set(memory.awaited)
    record.channels = {channel.name: _channel(channel, record) for channel in memory.channels}
    return record


def _channel(memory: ChannelMemory, station: StationRecord) -> ChannelRecord:
    """Return a record that no sum contains yet."""
    record = ChannelRecord(memory.name, station)
    record.boot_id = memory.boot_id
    record.seq = memory.seq
    record.heard_s = memory.heard_s
    record.known = memory.known
    record.telemetry = memory.telemetry
    record.power_uw = memory.power_uw
    record.highest_uw = memory.highest_uw
    record.waiting_plan = None if memory.waiting_plan is None else Plan.recalled(memory.waiting_plan)
    record.plan_source = memory.plan_source
    record.off_plan = memory.off_plan
    record.doubted = memory.doubted
    return record
