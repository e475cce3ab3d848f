"""What the page knows of a loop: fed with messages, asked by whoever draws. Pure; time is an argument."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dashboard.alarms import AlarmBook
from dashboard.energy import DayBook
from dashboard.forecast import Course, Edge, Lead, ahead, led, of_plan, of_setpoint, thinned
from dashboard.history import History, Mark
from schemas.codec import MalformedError, decode
from schemas.messages import (
    ChannelPlan,
    ChannelTelemetry,
    Event,
    LoopBalance,
    OnLost,
    Phase,
    Presence,
    ServerAnnouncement,
    Setpoint,
    SetpointResult,
    Severity,
    StationStatus,
)
from schemas.topics import (
    ChannelAddress,
    ChannelTopic,
    LoopAddress,
    LoopTopic,
    StatusAddress,
    channel_filter,
    loop_topic,
    parse,
    status_filter,
)

SILENT_PERIODS = 3
"""A channel is stale after so many periods without telemetry: the contract's own measure."""
BALANCE_SILENT_S = 4.0
"""The balance comes every second."""
_TRACE_S = 600.0
_TRACED_SAMPLES = 1_200_000
"""Of all channels together: 24 MB. Up to 2,000 channels that is one a second for ten minutes; beyond, fewer."""
_LONGEST_TRACE = 600
_EDGES_SIDE_BY_SIDE = 300
_STANDING = {"station_offline", "frozen", "saturated", "telemetry_stale"}
"""Events of what the retained messages and the balance tell better, with its end."""


class Key(NamedTuple):
    """A channel's place."""

    station: str
    channel: str

    @property
    def source(self) -> str:
        """What events and alarms call it."""
        return f"station/{self.station}/channel/{self.channel}"


@dataclass(slots=True)
class Trace:
    """The last ten minutes of one channel."""

    times: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("f"))
    """Voltage, current and power in turn."""

    def add(self, unix_time_s: float, telemetry: ChannelTelemetry, length: int) -> None:
        """Take a sample, unless it comes too early for so many samples in the time; what is too old goes."""
        if self.times and 0.0 <= unix_time_s - self.times[-1] < 0.9 * _TRACE_S / length:
            return
        self.times.append(unix_time_s)
        self.values.extend((telemetry.voltage_v, telemetry.current_a, telemetry.power_w))
        if len(self.times) > length + length // 4:
            del self.times[:-length]
            del self.values[: -3 * length]

    def samples(self) -> Iterator[tuple[float, float, float, float]]:
        """Yield time, voltage, current and power, the oldest first."""
        for index in range(len(self.times)):
            voltage_v, current_a, power_w = self.values[3 * index : 3 * index + 3]
            yield self.times[index], voltage_v, current_a, power_w


@dataclass(slots=True)
class ChannelView:
    """The last that is known of a channel."""

    key: Key
    telemetry: ChannelTelemetry
    heard_s: float | None = None
    """When it last came live (monotonic); None: only the broker's memory of it is known."""
    revision: int = 0
    plan: ChannelPlan | None = None
    plan_s: float = 0.0
    setpoint: Setpoint | None = None
    setpoint_s: float = 0.0
    trace: Trace = field(default_factory=Trace)

    @property
    def is_equalization(self) -> bool:
        """Whether it is in equalization mode."""
        return self.telemetry.equalization is not None


class Flows(NamedTuple):
    """The loop in four magnitudes and two directions; `≥ 0` but for the last two."""

    charging_w: float
    """What the test channels draw."""
    discharging_w: float
    """What the test channels give."""
    equalization_w: float
    """Positive: the equalization channels draw."""
    grid_w: float
    """Positive: the hall draws from the grid."""


class Hall:
    """One loop, as far as it has been heard of."""

    def __init__(self, loop: str, *, history: History, alarms: AlarmBook, days: DayBook, band_w: float) -> None:
        self.loop = loop
        self.history = history
        self.alarms = alarms
        self.days = days
        self._band_w = band_w
        self._place = f"loop/{loop}"
        self.announcement: ServerAnnouncement | None = None
        self.balance: LoopBalance | None = None
        self.balance_s: float | None = None
        """When it last came live; None: never."""
        self.outside_since_s: float | None = None
        """Since when the total has been outside the band; None: it is inside."""
        self.stations: dict[str, StationStatus] = {}
        self.channels: dict[Key, ChannelView] = {}
        self.revision = 0
        """Rises with every channel's message."""
        self.malformed = 0

    def filters(self) -> tuple[tuple[str, int], ...]:
        """Return what to subscribe to, each with its QoS."""
        return (
            (loop_topic(self.loop, LoopTopic.SERVER), 1),
            (loop_topic(self.loop, LoopTopic.BALANCE), 0),
            (loop_topic(self.loop, LoopTopic.EVENT), 1),
            (status_filter(self.loop), 1),
            (channel_filter(self.loop, ChannelTopic.TELEMETRY), 0),
            (channel_filter(self.loop, ChannelTopic.PLAN), 0),
            (channel_filter(self.loop, ChannelTopic.SETPOINT), 0),
        )

    def sure_filters(self) -> tuple[str, ...]:
        """Return those of them whose retained messages are said once, and must not be missed."""
        return (loop_topic(self.loop, LoopTopic.SERVER), status_filter(self.loop))

    # ── what comes in ─────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, topic: str, payload: bytes, now_s: float, unix_time_s: float, *, retained: bool) -> None:
        """Take a message up; a malformed one is counted, and changes nothing else."""
        address = parse(topic)
        try:
            match address:
                case ChannelAddress(station=station, channel=channel, leaf=leaf):
                    self._of_channel(Key(station, channel), leaf, payload, now_s, unix_time_s, retained=retained)
                case LoopAddress(leaf=LoopTopic.BALANCE):
                    self._balance(decode(LoopBalance, payload), now_s, unix_time_s, retained=retained)
                case LoopAddress(leaf=LoopTopic.SERVER):
                    self._server(decode(ServerAnnouncement, payload), unix_time_s)
                case LoopAddress(leaf=LoopTopic.EVENT):
                    self._event(decode(Event, payload), unix_time_s)
                case StatusAddress(station=station):
                    self._status(station, payload, unix_time_s)
                case _:
                    return
        except MalformedError:
            self.malformed += 1

    def _of_channel(
        self, key: Key, leaf: ChannelTopic, payload: bytes, now_s: float, unix_time_s: float, *, retained: bool
    ) -> None:
        if leaf is ChannelTopic.TELEMETRY:
            if payload:
                self._telemetry(key, decode(ChannelTelemetry, payload), now_s, unix_time_s, retained=retained)
            else:  # somebody cleared the broker's memory of it
                self._forget(key, unix_time_s)
            return
        view = self.channels.get(key)
        if view is None or retained:
            return
        if leaf is ChannelTopic.PLAN:
            view.plan, view.plan_s = decode(ChannelPlan, payload), now_s
        elif leaf is ChannelTopic.SETPOINT:
            view.setpoint, view.setpoint_s = decode(Setpoint, payload), now_s

    def _telemetry(
        self, key: Key, telemetry: ChannelTelemetry, now_s: float, unix_time_s: float, *, retained: bool
    ) -> None:
        view = self.channels.get(key)
        is_first = view is None
        if view is None:
            view = self.channels[key] = ChannelView(key, telemetry)
            before = None
        else:
            before = view.telemetry.alarm
            view.telemetry = telemetry
        self.revision += 1
        view.revision = self.revision
        alarm = telemetry.alarm
        if alarm is not before:
            if alarm is not None:
                self.alarms.open(key.source, alarm.code, alarm.text, Severity.ALARM, unix_time_s, values=alarm.values)
            self.alarms.close(key.source, unix_time_s, but=None if alarm is None else alarm.code)
        elif is_first:  # an alarm of an earlier run of the page may be over
            self.alarms.close(key.source, unix_time_s)
        if not retained:
            view.heard_s = now_s
            view.trace.add(unix_time_s, telemetry, min(_LONGEST_TRACE, 1 + _TRACED_SAMPLES // len(self.channels)))

    def _forget(self, key: Key, unix_time_s: float) -> None:
        if self.channels.pop(key, None) is not None:
            self.revision += 1
            self.alarms.close(key.source, unix_time_s)

    def _status(self, station: str, payload: bytes, unix_time_s: float) -> None:
        source = f"station/{station}"
        if not payload:
            self.stations.pop(station, None)
            self.alarms.close(source, unix_time_s)
            return
        status = decode(StationStatus, payload)
        self.stations[station] = status
        if status.status is Presence.ONLINE:
            self.alarms.close(source, unix_time_s, code="station_offline")
            for key in [key for key in self.channels if key.station == station and key.channel not in status.channels]:
                self._forget(key, unix_time_s)
            theirs = {Key(station, channel).source for channel in status.channels}
            for place in self.alarms.open_places():
                if place.startswith(f"{source}/channel/") and place not in theirs:
                    self.alarms.close(place, unix_time_s)
        else:
            self.alarms.open(source, "station_offline", "", Severity.WARNING, unix_time_s)

    def _server(self, announcement: ServerAnnouncement, unix_time_s: float) -> None:
        self.announcement = announcement
        if announcement.status is Presence.OFFLINE:
            self.alarms.open(self._place, "server_offline", announcement.server, Severity.ALARM, unix_time_s)
        else:  # this server or another one: the loop is led again
            self.alarms.close(self._place, unix_time_s, code="server_offline")

    def _event(self, event: Event, unix_time_s: float) -> None:
        if event.code == "operator" or event.code.startswith("command_"):
            self.history.mark(Mark(unix_time_s, "act", event.code, event.text, event.source, event.values))
        station = event.source.startswith("station/")
        told_by_state = event.code in _STANDING or (station and self.alarms.is_open(event.source, event.code))
        if event.severity is not Severity.INFO and not told_by_state:
            self.alarms.note(event.source, event.code, event.text, event.severity, unix_time_s, values=event.values)

    def _balance(self, balance: LoopBalance, now_s: float, unix_time_s: float, *, retained: bool) -> None:
        before, self.balance = self.balance, balance
        self.days.take(unix_time_s, balance.energy)
        if retained:
            return
        self.balance_s = now_s
        if abs(self.residual_w) <= self.band_w:
            self.outside_since_s = None
        elif self.outside_since_s is None:
            self.outside_since_s = now_s
        self._stand(balance, unix_time_s)
        if balance.phase is Phase.STARTING:  # a total of what has been heard so far is none
            return
        self.history.add(unix_time_s, balance.load_power_w, balance.equalization_power_w, balance.total_power_w)
        if before is None:
            return
        if before.phase is not balance.phase:
            self.history.mark(Mark(unix_time_s, "phase", balance.phase))
        decision = balance.last_decision
        if decision is not None and decision != before.last_decision:
            self.history.mark(Mark(unix_time_s, "decision", decision.reason))

    def _stand(self, balance: LoopBalance, unix_time_s: float) -> None:
        """Let the alarms of the loop as a whole stand for as long as the balance says so."""
        for code, severity, stands in (
            ("frozen", Severity.ALARM, balance.phase is Phase.FROZEN),
            ("saturated", Severity.WARNING, balance.phase is Phase.SATURATED),
            ("channels_silent", Severity.WARNING, balance.channels_stale > 0),
        ):
            if stands:
                self.alarms.open(self._place, code, "", severity, unix_time_s)
            else:
                self.alarms.close(self._place, unix_time_s, code=code)

    # ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def band_w(self) -> float:
        """How far the total may be from the target before something is done."""
        said = None if self.balance is None else self.balance.engage_w
        return self._band_w if said is None else said

    @property
    def residual_w(self) -> float:
        """How far the total is from the target."""
        return 0.0 if self.balance is None else self.balance.total_power_w - self.balance.target_power_w

    @property
    def is_server_online(self) -> bool:
        """Whether an equalizer has announced itself and not taken leave."""
        return self.announcement is not None and self.announcement.status is Presence.ONLINE

    def balance_age_s(self, now_s: float) -> float | None:
        """Return the seconds since the equalizer last spoke; None: it has not been heard live."""
        return None if self.balance_s is None else now_s - self.balance_s

    def is_balance_stale(self, now_s: float) -> bool:
        """Whether the balance is too old to be believed."""
        return self.balance_s is None or now_s - self.balance_s > BALANCE_SILENT_S

    @property
    def stale_after_s(self) -> float:
        """After this time without telemetry a channel is stale."""
        return SILENT_PERIODS * (1.0 if self.announcement is None else self.announcement.telemetry_period_s)

    def is_stale(self, view: ChannelView, now_s: float) -> bool:
        """Whether a channel's telemetry is too old to be believed."""
        return view.heard_s is None or now_s - view.heard_s > self.stale_after_s or self.is_offline(view.key.station)

    def is_offline(self, station: str) -> bool:
        """Whether a station has said, or its will has, that it is gone."""
        status = self.stations.get(station)
        return status is not None and status.status is Presence.OFFLINE

    def is_gone(self, station: str) -> bool:
        """Whether a station is offline and its channels with it."""
        status = self.stations.get(station)
        return status is not None and status.status is Presence.OFFLINE and status.on_lost is OnLost.ZERO

    def flows(self) -> Flows:
        """Return the loop in one picture. The equalization channels do not work against each other."""
        balance = self.balance
        if balance is None:
            return Flows(0.0, 0.0, 0.0, 0.0)
        equalization_w = balance.equalization_power_w
        charging_w = balance.charging_power_w - max(equalization_w, 0.0)
        discharging_w = -balance.discharging_power_w - max(-equalization_w, 0.0)
        return Flows(max(charging_w, 0.0), max(discharging_w, 0.0), equalization_w, balance.total_power_w)

    def counts(self) -> tuple[int, int]:
        """Return how many test channels charge, and how many discharge."""
        powers_w = [v.telemetry.power_w for v in self.channels.values() if not v.is_equalization]
        return sum(power_w > 0.0 for power_w in powers_w), sum(power_w < 0.0 for power_w in powers_w)

    def equalization_channels(self) -> list[ChannelView]:
        """Return the channels in equalization mode."""
        return sorted((v for v in self.channels.values() if v.is_equalization), key=lambda v: natural(v.key))

    def forecast(self, now_s: float, horizon_s: float) -> list[Edge]:
        """Return what is announced, what is planned and what to expect of the equalizer from now on."""
        edges = ahead((self._course(view, now_s) for view in self.channels.values()), horizon_s)
        edges = thinned(edges, horizon_s / _EDGES_SIDE_BY_SIDE)
        lead = self._lead(now_s)
        return edges if lead is None else led(edges, lead)

    def _lead(self, now_s: float) -> Lead | None:
        """Return how the equalizer will meet what is announced; None: it does not, now."""
        balance, views = self.balance, [view for view in self.channels.values() if view.is_equalization]
        if balance is None or self.announcement is None or balance.phase not in {Phase.BALANCING, Phase.SATURATED}:
            return None
        states = [s for v in views if not self.is_stale(v, now_s) and (s := v.telemetry.equalization) is not None]
        planned_s = [after_s for view in views for after_s, _ in self._course(view, now_s).steps]
        return Lead(
            target_w=balance.target_power_w,
            band_w=self.band_w,
            charge_limit_w=sum(state.charge_limit_w for state in states),
            discharge_limit_w=sum(state.discharge_limit_w for state in states),
            channels=len(states),
            delay_s=self.announcement.control.delay_s,
            planned_s=max(planned_s, default=0.0),
        )

    def _course(self, view: ChannelView, now_s: float) -> Course:
        telemetry, steps = view.telemetry, []
        power_w = 0.0 if self.is_gone(view.key.station) else telemetry.power_w
        if telemetry.equalization is not None:
            if view.setpoint is not None and view.setpoint.basis.boot_id == telemetry.boot_id:
                steps = of_setpoint(view.setpoint, now_s - view.setpoint_s)
                if is_followed(view):  # what it measures is on its way there
                    asked_w = asked_now_w(view, now_s)
                    power_w = power_w if asked_w is None else asked_w
        elif view.plan is not None and view.plan.boot_id == telemetry.boot_id:
            steps = of_plan(view.plan, now_s - view.plan_s)
        return Course(view.is_equalization, power_w, steps)


def asked_now_w(view: ChannelView, now_s: float) -> float | None:
    """Return the power that a channel's last setpoint asks for now; None: it has none, or it has run out."""
    setpoint = view.setpoint
    if setpoint is None or now_s - view.setpoint_s > setpoint.ttl_s:
        return None
    return [step.power_w for step in setpoint.steps if step.after_s <= now_s - view.setpoint_s][-1]


def is_followed(view: ChannelView) -> bool:
    """Whether a channel does as its last setpoint says, or has not answered yet and is online."""
    equalization, setpoint = view.telemetry.equalization, view.setpoint
    if equalization is None or setpoint is None:
        return False
    last = equalization.last
    if last is None or (last.epoch, last.seq) < (setpoint.epoch, setpoint.seq):
        return True
    return (last.epoch, last.seq) == (setpoint.epoch, setpoint.seq) and last.result is SetpointResult.APPLIED


def lease_left_s(view: ChannelView, now_s: float) -> float | None:
    """Return the seconds until a channel's setpoint ends; None: it has none."""
    equalization = view.telemetry.equalization
    last = None if equalization is None else equalization.last
    if last is None or last.expires_in_s is None or last.result is SetpointResult.EXPIRED:
        return None
    return max(0.0, last.expires_in_s - (0.0 if view.heard_s is None else now_s - view.heard_s))


def natural(key: Key) -> tuple[tuple[int, int | str], ...]:
    """Return what sorts `2` before `10`."""
    parts: list[tuple[int, int | str]] = []
    for name in key:
        digits = ""
        for letter in name:
            if letter.isdecimal():
                digits += letter
                continue
            if digits:
                parts.append((0, int(digits)))
                digits = ""
            parts.append((1, letter))
        if digits:
            parts.append((0, int(digits)))
        parts.append((-1, 0))
    return tuple(parts)
