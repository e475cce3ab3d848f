"""Tries a station: takes the equalizer's place in its loop, sends what a good and a bad server would, and stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from conform.parts import StationPart
from conform.party import Party
from conform.record import OWN_SERVERS, Record, Verdict
from conform.relay import Relay
from conform.rules.case import StationCase
from conform.rules.station import judge
from conform.wire import ConformError, Wire, new_id
from schemas.codec import encode
from schemas.messages import (
    Basis,
    ChannelCommand,
    ChannelTelemetry,
    ControlSummary,
    OnLost,
    Phase,
    Policy,
    Presence,
    Reply,
    ReplyResult,
    ServerAnnouncement,
    Setpoint,
    SetpointStep,
    SetpointSummary,
    StationStatus,
    WorkStatus,
)
from schemas.settings import BrokerSettings
from schemas.topics import ChannelTopic, LoopTopic, channel_topic, loop_topic, status_topic
from transport.session import Will

SERVER = OWN_SERVERS
_TTL_S = 30.0
_SHORT_TTL_S = 4.0
_LONG_TTL_S = 600.0
_SETTLE_S = 0.8
_STEP_S = 4.0
_JUMP = 5000
_OLD_BASIS_S = 17.0
_CUT_OFF_S = 1.5
"""So much longer than its lease a station is cut off."""
_BACK_WITHIN_S = 30.0
_TRIP_WITHIN_S = 60.0


@dataclass(slots=True)
class StationTrial:
    """What is to be tried.

    Args:
        broker: where.
        loop: the station's loop.
        station: its id.
        clock: monotonic seconds.
        utc: labels.
        channel: which; None: the first that is free.
        power_w: what is asked of it, either way.
        quick: leaves out what takes long.
        provoke: asks for more than the limit, and plays a late will.
        relay: stands between the station and the broker; null: its connection cannot be broken.
        party: the station's program, started, killed and ended by the kit; null: somebody else runs it.
        trip: a program that makes the channel trip, and takes the cause away again; null: it is not to trip.
        only: the one part to try; null: all for which there is what they need.
    """

    broker: BrokerSettings
    loop: str
    station: str
    clock: Callable[[], float]
    utc: Callable[[], float]
    channel: str | None = None
    power_w: float = 1000.0
    quick: bool = False
    provoke: bool = False
    relay: Relay | None = None
    party: Party | None = None
    trip: Party | None = None
    only: StationPart | None = None
    progress: Callable[[str], None] = lambda _text: None
    record: Record = field(default_factory=Record)
    _wire: Wire = field(init=False)
    _epoch: int = 0
    _seq: int = 0
    _began_unix_time_s: float = 0.0
    _period_s: float = 1.0

    async def run(self) -> list[Verdict]:
        """Try the station, and return a verdict for every rule.

        Raises:
            ConformError: it cannot be tried now; nothing was asked of it.
            ConnectionFailedError: the broker was not reached.
        """
        self._began_unix_time_s = self.utc()
        self._wire = Wire(self.broker, self.loop, self.record, self.clock)
        async with self._wire.connected(), self._let_in():
            await self._look()
            goodbye = Will(self._server_topic, encode(self._announcement(Presence.OFFLINE)))
            leading = Wire(self.broker, self.loop, Record(), self.clock, will=goodbye)
            async with leading.connected():
                leading.send(self._server_topic, self._announcement(Presence.ONLINE), qos=1, retain=True)
                try:
                    await self._try()
                finally:
                    self._uproot()
                    await self._stop()
                    await self._end()
                    leading.send(self._server_topic, self._announcement(Presence.OFFLINE), qos=1, retain=True)
        assert self.channel is not None  # noqa: S101 - chosen in `_look`
        return judge(self.record, StationCase(self.station, self.channel, self._period_s, self.power_w))

    @contextlib.asynccontextmanager
    async def _let_in(self) -> AsyncIterator[None]:
        """Open the relay and start the station, as far as they are the kit's to open and start."""
        try:
            if self.relay is not None:
                await self.relay.open()
            if self.party is not None:
                self.progress("starting the station")
                await self.party.start()
                await self._wire.until(lambda: self._speaks_since(0), _BACK_WITHIN_S)
            yield
        finally:
            if self.party is not None and self.party.runs:
                await self.party.end()
            if self.relay is not None:
                await self.relay.close()

    # ── before anything is asked ──────────────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        self.progress(f"listening to station {self.station}")
        await asyncio.sleep(1.0)
        server = self._wire.online_server()
        if server is not None:
            raise ConformError(
                f"loop {self.loop} has a server ({server.server}): two of them would fight; stop it first, or give the "
                "station a loop of its own"
            )
        if not await self._wire.until(lambda: self.station in self._wire.statuses(), 10.0):
            known = ", ".join(self._wire.statuses()) or "none"
            raise ConformError(f"no station {self.station!r} in loop {self.loop}; known are: {known}")
        said = self._wire.announcement()
        self._period_s = 1.0 if said is None else said.telemetry_period_s
        await asyncio.sleep(4.0 * self._period_s)
        self._choose()
        if said is not None:
            self._epoch = said.epoch
        echoes = [
            entry.message.equalization.last.epoch
            for entry in self.record.heard
            if isinstance(entry.message, ChannelTelemetry)
            and entry.message.equalization is not None
            and entry.message.equalization.last is not None
        ]
        self._epoch = max([self._epoch, *echoes]) + 1

    def _choose(self) -> None:
        status = self._wire.statuses()[self.station]
        names = status.channels if self.channel is None else (self.channel,)
        reasons = []
        for name in names:
            why = self._unfit(name)
            if why is None:
                self.channel = name
                return
            reasons.append(f"{name} {why}")
        raise ConformError(f"station {self.station} has no channel to try: {'; '.join(reasons)}")

    def _unfit(self, name: str) -> str | None:
        """Return why a channel cannot be tried now; None: it can."""
        telemetry = self._newest(name)
        if telemetry is None:
            return "is silent"
        if not telemetry.battery_connected:
            return "has no battery"
        if telemetry.alarm is not None:
            return f"has an alarm ({telemetry.alarm.text})"
        if telemetry.equalization is not None or telemetry.work_status in {WorkStatus.WORKING, WorkStatus.PAUSED}:
            return f"is at work ({telemetry.work_status}, {telemetry.step_type})"
        return None

    # ── the trial ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _try(self) -> None:
        self.progress("commands, and a setpoint before there is a mode")
        if self._does(StationPart.SETPOINTS):
            await self._command("dance", "unknown")
            self._setpoint("early", [(0.0, self.power_w)])
            await asyncio.sleep(self._look_s)
        enter = new_id()
        reply = await self._command("equalize", "equalize", enter)
        await self._command("equalize", "equalize_again", enter)
        if reply is None or reply.result is not ReplyResult.ACCEPTED:
            return
        await asyncio.sleep(self._look_s)
        if self._does(StationPart.SETPOINTS):
            await self._try_setpoints()
        if self._does(StationPart.RECONNECT) and self.relay is not None:
            await self._reconnect(self.relay)
        if self._does(StationPart.RESTART) and self.party is not None:
            await self._restart(self.party)
        if self._does(StationPart.TRIP) and self.trip is not None:
            await self._trip(self.trip)
        await self._wire.look_anew()

    def _does(self, part: StationPart) -> bool:
        return self.only in {None, part}

    async def _try_setpoints(self) -> None:
        power_w = self.power_w
        self._setpoint("first", [(0.0, 0.0)])
        await asyncio.sleep(self._look_s)
        self.progress("setpoints that must be refused")
        await self._bad()
        self.progress(f"{power_w:g} W")
        await self._good(power_w)
        self.progress("leases")
        await self._leases(power_w)
        if self.provoke:
            await self._provoke()

    # ── cut off, killed, tripped ──────────────────────────────────────────────────────────────────────────────────

    async def _reconnect(self, relay: Relay) -> None:
        """Break its connection for longer than its lease; what waits for it then is retained."""
        self.progress("a broken connection")
        self._setpoint("before_cut", [(0.0, self.power_w)], ttl_s=_SHORT_TTL_S)
        await self._wire.until(lambda: self._reached(self.power_w), _SHORT_TTL_S / 2.0)
        self._wire.mark("cut")
        await relay.shut()
        self._plant("cut")
        await asyncio.sleep(_SHORT_TTL_S + _CUT_OFF_S)
        self._wire.mark("admitted")
        since = len(self.record.heard)
        relay.admit()
        await self._wire.until(lambda: self._speaks_since(since), _BACK_WITHIN_S)
        self._wire.mark("back")
        await asyncio.sleep(self._look_s)
        self._wire.mark("back_end")
        self._uproot()
        await asyncio.sleep(_SETTLE_S)

    async def _restart(self, party: Party) -> None:
        """Kill it at work, and start it again."""
        self.progress("a process that is killed, and started again")
        self._setpoint("before_kill", [(0.0, self.power_w)])
        await self._wire.until(lambda: self._reached(self.power_w), 10.0)
        self._wire.mark("killed")
        await party.kill()
        self._plant("killed")
        await asyncio.sleep(1.0)
        since = len(self.record.heard)
        await party.start()
        await self._wire.until(lambda: self._speaks_since(since), _BACK_WITHIN_S)
        self._wire.mark("restarted")
        await asyncio.sleep(self._look_s)
        self._wire.mark("restarted_end")
        self._uproot()
        await self._refused("old_after_restart", epoch=self._epoch - 1)

    async def _trip(self, trip: Party) -> None:
        """Have the channel trip under power, and cleared again."""
        self.progress("make the channel trip now, and then take the cause away")
        self._setpoint("before_trip", [(0.0, self.power_w)])
        await self._wire.until(lambda: self._reached(self.power_w), 10.0)
        self._wire.mark("trip")
        await trip.start()
        due_s = self.clock() + _TRIP_WITHIN_S
        while not self._alarmed() and self.clock() < due_s:
            self._setpoint("until_trip", [(0.0, self.power_w)])
            await self._wire.until(self._alarmed, _STEP_S)
        if self._alarmed():
            self._wire.mark("tripped")
        await trip.wait(_TRIP_WITHIN_S)
        await asyncio.sleep(self._look_s)
        self._setpoint("after_trip", [(0.0, self.power_w)])
        await self._command("equalize", "equalize_tripped")
        await asyncio.sleep(self._look_s)
        await self._command("clear_alarm", "clear_alarm")
        await asyncio.sleep(self._look_s)

    def _plant(self, when: str) -> None:
        """Leave a setpoint and a command at the broker, retained, for a station that is not there."""
        setpoint = self._made([(0.0, -self.power_w)])
        topic = self._topic(ChannelTopic.SETPOINT)
        self._wire.send(topic, setpoint, label=f"planted_setpoint_{when}", key=self._key, qos=1, retain=True)
        command = ChannelCommand(id=new_id(), action="stop", by="conformance kit, retained")
        topic = self._topic(ChannelTopic.COMMAND)
        self._wire.send(topic, command, label=f"planted_command_{when}", key=self._key, qos=1, retain=True)

    def _uproot(self) -> None:
        if not any(sent.label.startswith("planted") for sent in self.record.sent):
            return
        for leaf in (ChannelTopic.SETPOINT, ChannelTopic.COMMAND):
            self._wire.session.publish(self._topic(leaf), b"", qos=1, retain=True)

    async def _end(self) -> None:
        """End the station's program, where it is the kit's."""
        if self.party is None or not self.party.runs:
            return
        self.progress("ending the station")
        self._wire.mark("ended")
        await self.party.end()
        await asyncio.sleep(_SETTLE_S)

    async def _bad(self) -> None:
        topic = self._topic(ChannelTopic.SETPOINT)
        self._wire.mark("malformed")
        good = encode(self._made([(0.0, self.power_w)]))
        for payload in (
            b"no json",
            b"[]",
            good[:-2],
            good.replace(b'"ttl_s":30.0', b'"ttl_s":NaN'),
            good.replace(b'"ttl_s":30.0', b'"ttl_s":"30"'),
            good.replace(b'"after_s":0.0', b'"after_s":1.0'),
            good.replace(b'"seq":', b'"seq":1,"seq":', 1),
        ):
            self._wire.session.publish(topic, payload)
        # A broker may end the connection of who sends so much.
        await self._wire.send_apart(topic, b" " * 66_000 + good)
        await asyncio.sleep(self._look_s)
        self._wire.mark("malformed_end")
        await self._refused("wrong_boot", boot_id="never-there")
        await self._refused("stale_epoch", epoch=self._epoch - 1)
        await self._refused("epoch_conflict", server="conform-rival")
        await self._refused("epoch_jump", epoch=self._epoch + _JUMP)
        if not self.quick:
            old = self._newest(self.channel)
            await asyncio.sleep(_OLD_BASIS_S)
            await self._refused("old_basis", basis_seq=None if old is None else old.seq)

    async def _refused(self, label: str, *, server: str = SERVER, **wrong: int | str | None) -> None:
        setpoint = self._made([(0.0, self.power_w)], server=server, wrong=wrong)
        self._wire.send(self._topic(ChannelTopic.SETPOINT), setpoint, label=label, key=self._key)
        await self._wire.until(lambda: self._decided_on(setpoint.seq), self._look_s + self._period_s)

    async def _good(self, power_w: float) -> None:
        first = self._setpoint("power", [(0.0, power_w)])
        await self._wire.until(lambda: self._reached(power_w), 10.0)
        self._wire.mark("power_end")
        same = first.model_copy(update={"steps": (SetpointStep(after_s=0.0, power_w=-power_w),)})
        same = same.model_copy(update={"basis": self._basis()})
        self._wire.send(self._topic(ChannelTopic.SETPOINT), same, label="duplicate", key=self._key)
        await asyncio.sleep(self._look_s)
        self._wire.mark("duplicate_end")
        self._setpoint("refresh", [(0.0, power_w)])
        await asyncio.sleep(self._look_s)
        self._wire.mark("refresh_end")
        self._setpoint("steps", [(0.0, power_w), (_STEP_S, -power_w)])
        await asyncio.sleep(2.0 * _STEP_S)
        self._wire.mark("steps_end")

    async def _leases(self, power_w: float) -> None:
        self._setpoint("long", [(0.0, power_w)], ttl_s=_LONG_TTL_S)
        await asyncio.sleep(self._look_s)
        self._setpoint("short", [(0.0, power_w)], ttl_s=_SHORT_TTL_S)
        await asyncio.sleep(_SHORT_TTL_S + 2.0 * self._period_s + self._look_s)

    async def _provoke(self) -> None:
        newest = self._newest(self.channel)
        if newest is not None and newest.equalization is not None:
            self.progress("twice the limit")
            self._setpoint("clamp", [(0.0, 2.0 * newest.equalization.charge_limit_w)], ttl_s=_SHORT_TTL_S)
            await asyncio.sleep(self._look_s)
        self.progress("a late will")
        status = self._wire.statuses()[self.station]
        gone = StationStatus(
            status=Presence.OFFLINE,
            boot_id=status.boot_id,
            version=status.version,
            driver=status.driver,
            channels=status.channels,
            on_lost=OnLost(status.on_lost),
            unix_time_s=self.utc(),
        )
        self._wire.send(status_topic(self.loop, self.station), gone, label="late_will", qos=1, retain=True)
        await asyncio.sleep(self._look_s)

    async def _stop(self) -> None:
        if self.record.mark("equalize") is None:
            return
        self.progress("stopping the channel")
        for _ in range(3):
            if await self._command("stop", "stop") is not None:
                break
        await self._wire.until(self._at_rest, 10.0)

    # ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _look_s(self) -> float:
        """Until what was asked shows in the telemetry, with some of it to look at."""
        return 2.0 * self._period_s + _SETTLE_S

    @property
    def _key(self) -> tuple[str, str]:
        return self.station, self.channel or ""

    @property
    def _server_topic(self) -> str:
        return loop_topic(self.loop, LoopTopic.SERVER)

    def _topic(self, leaf: ChannelTopic) -> str:
        return channel_topic(self.loop, self.station, self.channel or "", leaf)

    async def _command(self, action: str, label: str, command_id: str | None = None) -> Reply | None:
        command = ChannelCommand(id=command_id or new_id(), action=action, by="conformance kit")
        before = len(self.record.heard)
        self._wire.send(self._topic(ChannelTopic.COMMAND), command, label=label, key=self._key, qos=1)

        def replies() -> list[Reply]:
            new = (entry.message for entry in self.record.heard[before:])
            return [message for message in new if isinstance(message, Reply) and message.id == command.id]

        await self._wire.until(lambda: bool(replies()), 4.0)
        return next(iter(replies()), None)

    def _setpoint(self, label: str, steps: list[tuple[float, float]], *, ttl_s: float = _TTL_S) -> Setpoint:
        setpoint = self._made(steps, ttl_s=ttl_s)
        self._wire.send(self._topic(ChannelTopic.SETPOINT), setpoint, label=label, key=self._key)
        return setpoint

    def _made(
        self,
        steps: list[tuple[float, float]],
        *,
        ttl_s: float = _TTL_S,
        server: str = SERVER,
        wrong: Mapping[str, int | str | None] | None = None,
    ) -> Setpoint:
        """Make a setpoint for the newest telemetry; `wrong` puts `epoch`, `boot_id` or `basis_seq` in place of ours."""
        self._seq += 1
        basis = self._basis()
        said = {"epoch": self._epoch, "boot_id": basis.boot_id, "basis_seq": basis.seq}
        said |= {name: value for name, value in (wrong or {}).items() if value is not None}
        return Setpoint.model_validate(
            {
                "server": server,
                "epoch": said["epoch"],
                "seq": self._seq,
                "basis": {"boot_id": said["boot_id"], "seq": said["basis_seq"]},
                "ttl_s": ttl_s,
                "steps": tuple({"after_s": after_s, "power_w": power_w} for after_s, power_w in steps),
                "unix_time_s": self.utc(),
            }
        )

    def _basis(self) -> Basis:
        newest = self._newest(self.channel)
        if newest is None:
            raise ConformError(f"channel {'/'.join(self._key)} has fallen silent")
        return Basis(boot_id=newest.boot_id, seq=newest.seq)

    def _newest(self, channel: str | None) -> ChannelTelemetry | None:
        key = (self.station, channel or "")
        return next(
            (
                e.message
                for e in reversed(self.record.heard)
                if e.key == key and not e.retained and isinstance(e.message, ChannelTelemetry)
            ),
            None,
        )

    def _speaks_since(self, since: int) -> bool:
        """Tell whether the channel (or any, before one is chosen) was heard live behind so many messages."""
        return any(
            isinstance(entry.message, ChannelTelemetry)
            and not entry.retained
            and entry.key is not None
            and entry.key[0] == self.station
            and self.channel in {None, entry.key[1]}
            for entry in self.record.heard[since:]
        )

    def _alarmed(self) -> bool:
        newest = self._newest(self.channel)
        return newest is not None and newest.alarm is not None

    def _decided_on(self, seq: int) -> bool:
        newest = self._newest(self.channel)
        last = newest.equalization.last if newest is not None and newest.equalization is not None else None
        return last is not None and last.seq == seq

    def _reached(self, power_w: float) -> bool:
        newest = self._newest(self.channel)
        return newest is not None and abs(newest.power_w - power_w) <= max(0.05 * abs(power_w), 50.0)

    def _at_rest(self) -> bool:
        newest = self._newest(self.channel)
        return newest is not None and newest.equalization is None and abs(newest.power_w) < 50.0  # noqa: PLR2004 - noise

    def _announcement(self, presence: Presence) -> ServerAnnouncement:
        return ServerAnnouncement(
            server=SERVER,
            status=presence,
            epoch=self._epoch,
            phase=Phase.BALANCING,
            version="conform",
            started_unix_time_s=self._began_unix_time_s,
            telemetry_period_s=self._period_s,
            control=ControlSummary(policy=Policy.CONFIRM, delay_s=15.0),
            setpoint=SetpointSummary(ttl_s=_TTL_S, refresh_s=5.0),
        )
