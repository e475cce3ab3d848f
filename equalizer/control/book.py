"""From messages to the image: running sums, so that a message costs the same in a hall of 50,000 channels as in one.

`image` walks only what has fallen silent since it was last drawn, and the equalization channels that spoke.
"""

from collections import Counter
from math import inf, isfinite

from equalizer.config import LARGEST_W
from equalizer.control.announcements import Announcements
from equalizer.control.forecast import GRID_S, MICRO, Plan, is_usable
from equalizer.control.image import ChannelKey, EqualizationView, LoopImage
from equalizer.control.memory import BookMemory, of_station, stations
from equalizer.control.plausibility import DOUBTED_AFTER, Doubt, doubt
from equalizer.control.records import ChannelRecord, StationRecord, Tally
from equalizer.control.settings import ControlSettings
from schemas.loads import Telemetry
from schemas.messages import ChannelPlan, ChannelTelemetry, Equalization, Presence, StationStatus

LOSSES_EVERY_S = 1.0


class LoopBook:
    """Accumulates what the link hears. Every method takes the monotonic time; none does I/O."""

    def __init__(self, settings: ControlSettings) -> None:
        self.ignored: Counter[str] = Counter()
        """Messages that changed nothing, and plans that were dropped, by reason."""
        self.doubts: dict[ChannelKey, Doubt] = {}
        """Channels that are not believed, and why."""
        self.travel_s = 0.0
        """How long messages are on their way at the least: a plan counts from when it was sent."""
        self._settings = settings
        self._stations: dict[str, StationRecord] = {}
        self._tally = Tally()
        self._announcements = Announcements(self._tally, self.ignored)
        self._equalizing: dict[ChannelKey, EqualizationView | None] = {}
        self._views: tuple[EqualizationView, ...] | None = ()
        self._online = 0
        self._started_s: float | None = None
        self._round_complete = False
        self._meter: tuple[float | None, float | None] = (None, None)
        self._losses = (0.0, -inf)

    def record(self, station: str, channel: str, now_s: float) -> ChannelRecord:
        """Return the record of a channel that speaks; a new one where it is not known."""
        owner = self._stations.get(station)
        if owner is None:
            owner = self._station(station, now_s)
        record = owner.channels.get(channel)
        if record is None:
            record = owner.channels[channel] = ChannelRecord(channel, owner)
            if not self._round_complete and (owner.online or not owner.said):
                owner.awaited.add(channel)
        return record

    def telemetry(self, station: str, channel: str, telemetry: Telemetry, *, retained: bool, now_s: float) -> None:
        """Take a channel's measurement. A retained one is of unknown age: it counts, and counts as unknown."""
        self.hear(self.record(station, channel, now_s), telemetry, retained=retained, now_s=now_s)

    def hear(self, record: ChannelRecord, telemetry: Telemetry, *, retained: bool, now_s: float) -> None:
        """Take the measurement of a channel whose record, not yet closed, the caller has kept."""
        if telemetry.boot_id == record.boot_id:
            if telemetry.seq <= record.seq:
                self.ignored["old_telemetry"] += 1
                return
        elif record.station.boot_id is not None and telemetry.boot_id != record.station.boot_id:
            self.ignored["other_boot"] += 1
            return
        power_w = telemetry.power_w
        if not -LARGEST_W <= power_w <= LARGEST_W:
            self.ignored["out_of_range" if isfinite(power_w) else "not_finite"] += 1
            return
        reason = doubt(power_w, telemetry.voltage_v, telemetry.current_a, self._settings.plausibility)
        if (reason is not None or record.doubted) and self._is_distrusted(record, telemetry, reason, now_s):
            return
        power_uw = round(power_w * MICRO)
        if retained and not record.known and telemetry.equalization is None:
            self._recall(record, telemetry, power_uw, now_s)
            return
        if (
            retained
            or not record.fresh
            or record.plan is not None
            or record.equalization is not None
            or telemetry.equalization is not None
            or telemetry.boot_id != record.boot_id
        ):
            self._turn(record, telemetry, power_uw, now_s, retained=retained)
            return
        # A load without a plan that spoke a moment ago: nearly every message of a large hall comes here.
        record.seq = telemetry.seq
        record.heard_s = now_s
        tally = self._tally
        tally.fresh.move_to_end(record)
        before_uw = record.counted_uw
        if power_uw != before_uw:
            record.power_uw = record.counted_uw = record.remainder_uw = power_uw
            tally.load_uw += power_uw - before_uw
            tally.remainder_uw += power_uw - before_uw
            tally.charging_uw += (max(0, power_uw)) - (max(0, before_uw))

    def begin_round(self, now_s: float) -> None:
        """Count the first round from now on: what came so far was of unknown age."""
        if self._started_s is not None:
            self._started_s = now_s

    def status(self, station: str, status: StationStatus, now_s: float) -> bool:
        """Take what a station says of itself, or its last will of it; false: a late will, which says nothing."""
        record = self._station(station, now_s)
        online = status.status is Presence.ONLINE
        if not online and record.online and status.boot_id != record.boot_id:
            self.ignored["late_will"] += 1
            return False
        was_zeroed = record.is_zeroed
        self._online += online - record.online
        record.said = True
        record.online = online
        record.on_lost = status.on_lost
        record.boot_id = status.boot_id
        if online:
            self._go_online(record, status, was_zeroed=was_zeroed)
            return True
        record.awaited.clear()
        for channel in record.channels.values():
            self._silence(channel, channel.equalization)
        return True

    def plan(self, station: str, channel: str, plan: ChannelPlan, now_s: float) -> None:
        """Take what a channel's program will do next, counted from when it was sent."""
        record = self.record(station, channel, now_s)
        boot_id = record.station.boot_id if record.station.boot_id is not None else record.boot_id
        if boot_id is not None and plan.boot_id != boot_id:
            self.ignored["other_boot"] += 1
            return
        source = record.plan_source
        if source is not None and plan.boot_id == source[0] and plan.seq <= source[1]:
            self.ignored["old_plan"] += 1
            return
        if not is_usable(plan):
            self.ignored["not_finite"] += 1
            return
        record.plan_source = (plan.boot_id, plan.seq)
        taken = Plan(plan, now_s - self.travel_s)
        if taken.end * GRID_S - now_s < self._settings.certain_s and not taken.expected:
            self.ignored["brief_plan"] += 1
            record.waiting_plan = None
            self._announcements.drop(record)
        elif not record.fresh or record.boot_id != plan.boot_id:
            record.waiting_plan = taken
        elif record.equalization is None:
            self._announcements.take(record, taken, now_s)

    def meter(self, power_w: float, now_s: float) -> None:
        """Take the grid meter's power; positive: the hall draws."""
        if isfinite(power_w):
            self._meter = (power_w, now_s)
        else:
            self.ignored["not_finite"] += 1

    def forget(self, station: str) -> None:
        """Forget a station and its channels: its retained status was cleared."""
        record = self._stations.pop(station, None)
        if record is not None:
            self._online -= record.online
            for channel in tuple(record.channels.values()):
                self._close(channel)

    @property
    def memory(self) -> BookMemory:
        """What another book needs to go on as this one."""
        return BookMemory(
            stations=tuple(map(of_station, self._stations.values())),
            planned=self._announcements.counted(),
            passed=self._announcements.forecast.passed,
            transferred_uw=self._announcements.transferred_uw,
            started_s=self._started_s,
            round_complete=self._round_complete,
            meter=self._meter,
            losses=self._losses,
            travel_s=self.travel_s,
        )

    def recall(self, memory: BookMemory) -> None:
        """Go on, in an empty book, from what another one has known, on the same clock."""
        self._stations = stations(memory, self._tally, self._announcements)
        self._online = sum(station.online for station in self._stations.values())
        for station in self._stations.values():
            for record in station.channels.values():
                self._list(record)
        self._started_s = memory.started_s
        self._round_complete = memory.round_complete
        self._meter = memory.meter
        self._losses = memory.losses
        self.travel_s = memory.travel_s

    def image(self, now_s: float) -> LoopImage:
        """Draw the loop as it is now."""
        tally, announcements = self._tally, self._announcements
        self._age(now_s)
        announcements.advance(now_s)
        if self._views is None:
            self._views = tuple(self._view(key) for key in sorted(self._equalizing))
        total_uw = tally.load_uw + tally.equalization_uw
        return LoopImage(
            total_power_w=total_uw / MICRO,
            load_power_w=tally.load_uw / MICRO,
            equalization_power_w=tally.equalization_uw / MICRO,
            charging_power_w=tally.charging_uw / MICRO,
            discharging_power_w=(total_uw - tally.charging_uw) / MICRO,
            unknown_power_w=tally.unknown_uw / MICRO,
            channels=tally.known,
            channels_fresh=self._fresh(),
            channels_stale=tally.stale,
            stations_online=self._online,
            equalization=self._views,
            announced_power_w=announcements.forecast.announced_uw / MICRO,
            remainder_power_w=tally.remainder_uw / MICRO,
            transferred_power_w=announcements.transferred_uw / MICRO,
            edges=announcements.forecast.edges(self._settings.horizon_s),
            round_complete=self._round_complete,
            meter_power_w=self._meter[0],
            meter_heard_s=self._meter[1],
            load_losses_w=self._load_losses_w(now_s) if self._settings.efficiencies.is_known else 0.0,
        )

    def _fresh(self) -> int:
        """Return how many channels were heard live within the last periods."""
        return len(self._tally.fresh)

    def _load_losses_w(self, now_s: float) -> float:
        """Return what is lost between the loads' batteries and the grid; walked no more than once a second."""
        lost_w, at_s = self._losses
        if now_s - at_s >= LOSSES_EVERY_S:
            of = self._settings.efficiencies.of
            lost_w = sum(
                of(record.key).lost_w(max(record.counted_uw, 0) / MICRO, min(record.counted_uw, 0) / MICRO)
                for station in self._stations.values()
                for record in station.channels.values()
                if record.equalization is None and record.counted_uw != 0
            )
            self._losses = (lost_w, now_s)
        return lost_w

    def _age(self, now_s: float) -> None:
        """Find what has fallen silent, and whether everybody was heard."""
        stale_s = self._settings.stale_s
        if self._meter[1] is not None and now_s - self._meter[1] > self._settings.meter_stale_s:
            self._meter = (None, None)
        fresh = self._tally.fresh
        while fresh and now_s - (oldest := next(iter(fresh))).heard_s > stale_s:
            self._silence(oldest, oldest.equalization)
        if not self._round_complete and self._started_s is not None:
            elapsed_s = now_s - self._started_s
            everybody = elapsed_s >= self._settings.period_s and not any(
                station.awaited for station in self._stations.values()
            )
            self._round_complete = everybody or elapsed_s > stale_s

    def _view(self, key: ChannelKey) -> EqualizationView:
        view = self._equalizing[key]
        record = self._stations[key[0]].channels[key[1]]
        state, telemetry = record.equalization, record.telemetry
        if view is None and state is not None and telemetry is not None:
            view = self._equalizing[key] = EqualizationView(
                key=key,
                boot_id=telemetry.boot_id,
                seq=telemetry.seq,
                heard_s=record.heard_s,
                fresh=record.fresh,
                station_online=record.station.online,
                power_w=record.counted_uw / MICRO,
                charge_limit_w=min(state.charge_limit_w, LARGEST_W),
                discharge_limit_w=min(state.discharge_limit_w, LARGEST_W),
                ramp_w_per_s=min(state.ramp_w_per_s, LARGEST_W),
                applied_w=min(max(state.applied_w, -LARGEST_W), LARGEST_W),
                last=state.last,
                soc_ratio=telemetry.soc_ratio,
                alarm=telemetry.alarm is not None,
            )
        if view is None:
            raise AssertionError(f"{key} is listed as an equalization channel, and is none")
        return view

    def _recall(self, record: ChannelRecord, telemetry: Telemetry, power_uw: int, now_s: float) -> None:
        """Count what the broker remembered of a load that has not spoken yet: as its last value, and as unknown.

        What `_silence` does, for a record of which the sums contain nothing: a hall's worth of these comes at once.
        """
        record.boot_id = telemetry.boot_id
        record.seq = telemetry.seq
        record.known = True
        record.power_uw = power_uw
        record.heard_s = now_s
        tally = self._tally
        tally.known += 1
        if record.station.is_zeroed:
            return
        record.stale = True
        tally.stale += 1
        record.counted_uw = record.remainder_uw = power_uw
        tally.load_uw += power_uw
        tally.remainder_uw += power_uw
        if power_uw > 0:
            tally.charging_uw += power_uw
            record.unknown_uw = power_uw
        else:
            record.unknown_uw = -power_uw
        tally.unknown_uw += record.unknown_uw

    def _turn(
        self, record: ChannelRecord, telemetry: Telemetry, power_uw: int, now_s: float, *, retained: bool
    ) -> None:
        """Count a measurement that changes more than a power."""
        tally, announcements = self._tally, self._announcements
        if telemetry.boot_id != record.boot_id or telemetry.equalization is not None:
            announcements.drop(record)
        before_uw = record.counted_uw
        tally.known += not record.known
        record.known = True
        record.boot_id = telemetry.boot_id
        record.seq = telemetry.seq
        record.telemetry = (
            telemetry if isinstance(telemetry, ChannelTelemetry) and telemetry.equalization is not None else None
        )
        record.power_uw = power_uw
        if retained:
            record.heard_s = now_s
            self._silence(record, telemetry.equalization)
            return
        record.heard_s = now_s
        record.station.awaited.discard(record.name)
        tally.set_age(record, fresh=True, stale=False)
        tally.count(record, power_uw, 0, telemetry.equalization)
        self._list(record)
        waiting, record.waiting_plan = record.waiting_plan, None
        if waiting is not None and telemetry.equalization is None:
            announcements.take_waiting(record, waiting, before_uw, now_s)
        elif record.plan is not None:
            announcements.compare(record, record.plan, now_s)

    def _is_distrusted(self, record: ChannelRecord, telemetry: Telemetry, reason: Doubt | None, now_s: float) -> bool:
        """Leave out a measurement that cannot be true; who goes on saying such things is of unknown power."""
        if reason is None:
            record.doubted = 0
            self.doubts.pop(record.key, None)
            return False
        self.ignored[reason.value] += 1
        record.doubted += 1
        if reason is Doubt.POWER_MISMATCH and record.doubted < DOUBTED_AFTER and record.known:
            return True
        self.doubts[record.key] = reason
        if not record.known:
            # Nothing better is known of it.
            rating_w = self._settings.plausibility.rating_w
            power_uw = round(min(max(telemetry.power_w, -rating_w), rating_w) * MICRO)
            self._turn(record, telemetry, power_uw, now_s, retained=True)
        elif record.fresh:
            self._silence(record, record.equalization)
        record.boot_id = telemetry.boot_id
        record.seq = telemetry.seq
        record.station.awaited.discard(record.name)
        return True

    def _silence(self, record: ChannelRecord, equalization: Equalization | None) -> None:
        """Take a channel as stale, or as gone where its station is gone and said that it leaves 0 W."""
        self._announcements.drop(record)
        gone = record.station.is_zeroed
        self._tally.set_age(record, fresh=False, stale=record.known and not gone)
        counted_uw = 0 if gone else record.power_uw
        self._tally.count(record, counted_uw, abs(counted_uw), equalization)
        self._list(record)

    def _list(self, record: ChannelRecord) -> None:
        """Have the view of an equalization channel drawn anew."""
        key = record.key
        if record.equalization is not None:
            self._equalizing[key] = None
            self._views = None
        elif key in self._equalizing:
            del self._equalizing[key]
            self._views = None

    def _go_online(self, record: StationRecord, status: StationStatus, *, was_zeroed: bool) -> None:
        announced = frozenset(status.channels)
        for channel in tuple(record.channels.values()):
            if channel.name not in announced:
                self._close(channel)
        if not self._round_complete:
            record.awaited |= announced
        for name, channel in record.channels.items():
            restarted = channel.boot_id != status.boot_id
            if channel.fresh and not restarted:
                record.awaited.discard(name)
                self._list(channel)
            elif channel.known:
                self._silence(channel, channel.equalization)
                if restarted and was_zeroed:
                    # The old process had ended with 0 W; what its channel said before is no measure of the new one.
                    self._tally.count(channel, 0, abs(channel.power_uw), channel.equalization)

    def _station(self, name: str, now_s: float) -> StationRecord:
        if self._started_s is None:
            self._started_s = now_s
        record = self._stations.get(name)
        if record is None:
            record = self._stations[name] = StationRecord(name)
        return record

    def _close(self, record: ChannelRecord) -> None:
        self._announcements.drop(record)
        self._tally.set_age(record, fresh=False, stale=False)
        self._tally.count(record, 0, 0, None)
        self._tally.known -= record.known
        record.closed = True
        self._list(record)
        record.station.awaited.discard(record.name)
        self.doubts.pop(record.key, None)
        del record.station.channels[record.name]
