"""Tries an equalizer: gives it stations of the kit's own in a loop otherwise empty, and watches."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from conform.fakes import FakeChannel, FakeHall
from conform.parts import EqualizerPart
from conform.party import Party
from conform.record import OWN_SERVERS, Record, Verdict, said_by_server
from conform.rules.equalizer import EqualizerCase, judge
from conform.wire import ConformError, Wire, new_id
from schemas.messages import (
    ChannelTelemetry,
    ControlSummary,
    LoopBalance,
    LoopCommand,
    Phase,
    Policy,
    Presence,
    ServerAnnouncement,
    Setpoint,
    SetpointSummary,
)
from schemas.settings import BrokerSettings
from schemas.topics import LoopTopic, loop_topic

LOAD, POOL = "kit-load", "kit-pool"
_SERVER_WITHIN_S = 15.0
_BALANCING_WITHIN_S = 30.0
_SETTLE_S = 8.0
_PAUSED_S = 8.0
_STALE_S = 5.0
_PLAN_SETTLE_S = 2.0
_LONGEST_S = 90.0
_ROOM = 2.0
"""The pool can take so many times the load."""
_BEYOND = 1.6
_BEFORE_EPOCH, _ECHOED_EPOCH = 40, 45
"""What a server that starts finds announced, and what its channels have obeyed."""
_HEARD_PERIODS = 3.0
"""Who is there has spoken within so many periods."""
_LISTENS_PERIODS = 2.0
"""A channel that is silent for 3 periods is stale, and no more waited for."""
_RIVAL_STEPS = 5
_RIVAL_S = 5.0
_RETURNS_WITHIN_S = 30.0
_AHEAD_S = 4.0
"""So long before its edge a change is announced."""


@dataclass(slots=True)
class EqualizerTrial:
    """What is to be tried.

    Args:
        broker: where.
        loop: a loop with the equalizer and nobody else.
        clock: monotonic seconds.
        utc: labels.
        power_w: of the kit's load; nothing of it is real.
        freeze_w: the equalizer's `control.freeze_w`.
        quick: leaves out the stale, frozen and lost load.
        party: the equalizer's program, started and ended by the kit; null: somebody else runs it.
        only: the one part to try; null: all for which there is what they need.
    """

    broker: BrokerSettings
    loop: str
    clock: Callable[[], float]
    utc: Callable[[], float]
    power_w: float = 20_000.0
    freeze_w: float = 50_000.0
    quick: bool = False
    party: Party | None = None
    only: EqualizerPart | None = None
    progress: Callable[[str], None] = lambda _text: None
    record: Record = field(default_factory=Record)
    _wire: Wire = field(init=False)
    _hall: FakeHall = field(init=False)
    _period_s: float = 1.0
    _delay_s: float = 15.0
    _ttl_s: float = 30.0

    async def run(self) -> list[Verdict]:
        """Try the equalizer, and return a verdict for every rule.

        Raises:
            ConformError: it cannot be tried now.
            ConnectionFailedError: the broker was not reached.
        """
        self._wire = Wire(self.broker, self.loop, self.record, self.clock)
        limit_w = _ROOM * self.power_w
        self._hall = FakeHall(self._wire, self.clock, self.utc, secrets.token_hex(4))
        async with self._wire.connected():
            if self.party is None:
                await self._look()
            load = self._hall.add(LOAD, "1")
            for name in ("1", "2"):
                self._hall.add(POOL, name, limit_w)
            self._wire.on_arrival = self._hall.take
            self._hall.announce(Presence.ONLINE)
            speaking = asyncio.create_task(self._speak(), name="kit stations")
            try:
                async with self._at_work(load):
                    await self._try(load)
            finally:
                speaking.cancel()
                await asyncio.gather(speaking, return_exceptions=True)
                self._hall.announce(Presence.OFFLINE)
                self._hall.forget()
        return judge(self.record, EqualizerCase(self.power_w, limit_w, 2, 3, 2))

    async def _look(self) -> None:
        self.progress(f"looking for the equalizer of loop {self.loop}")
        if not await self._wire.until(lambda: self._wire.online_server() is not None, _SERVER_WITHIN_S):
            raise ConformError(f"loop {self.loop} has no server online; start the equalizer that is to be tried")
        self._take_note()
        if {LOAD, POOL} & self._wire.statuses().keys():
            await self._wire.until(lambda: bool(self._others()), _HEARD_PERIODS * self._period_s)
            self._take_note()

    def _take_note(self) -> None:
        """Learn the server's times, and that nobody else is there."""
        others = self._others()
        if others:
            raise ConformError(
                f"loop {self.loop} has stations ({', '.join(sorted(others))}): it needs a loop of its own"
            )
        said = self._wire.online_server()
        if said is not None:
            self._period_s, self._delay_s = said.telemetry_period_s, said.control.delay_s
            self._ttl_s = said.setpoint.ttl_s

    def _others(self) -> set[str]:
        """Return the stations that are not this trial's.

        One of the kit's own names that is only kept by the broker is what a trial left that was killed.
        """
        online = {name for name, status in self._wire.statuses().items() if status.status is Presence.ONLINE}
        spoke = {
            entry.key[0]
            for entry in self.record.heard
            if entry.key is not None
            and isinstance(entry.message, ChannelTelemetry)
            and not entry.retained
            and entry.message.boot_id != self._hall.boot_id
        }
        return (online - {LOAD, POOL}) | spoke

    @contextlib.asynccontextmanager
    async def _at_work(self, load: FakeChannel) -> AsyncIterator[None]:
        """Start the equalizer beside channels that are at work already, where it is the kit's to start."""
        if self.party is None:
            yield
            return
        await asyncio.sleep(1.0)
        if self._wire.online_server() is not None:
            raise ConformError(f"loop {self.loop} has a server online; --run starts the one that is to be tried")
        try:
            await self._start(self.party, load)
            yield
        finally:
            self.progress("ending the equalizer")
            await self.party.end()

    async def _start(self, party: Party, load: FakeChannel) -> None:
        self.progress("starting the equalizer")
        if not self._does(EqualizerPart.START):
            await party.start()
            await self._look()
            return
        before = f"{OWN_SERVERS}-before"
        gone = self._announcement(before, Presence.OFFLINE, _BEFORE_EPOCH)
        self._wire.send(self._server_topic, gone, label="before", qos=1, retain=True)
        pool = self._hall.channels[POOL, "1"]
        load.power_w = 0.5 * self.power_w
        self._hall.lead(pool, -load.power_w, server=before, epoch=_ECHOED_EPOCH)
        self._hall.tick()
        load.mute = True
        await party.start()
        if not await self._wire.until(lambda: self._wire.online_server() is not None, _SERVER_WITHIN_S):
            raise ConformError(f"the equalizer did not announce itself on loop {self.loop}")
        self._wire.mark("started")
        self._take_note()
        await asyncio.sleep(_LISTENS_PERIODS * self._period_s)
        self._wire.mark("spoke")
        load.mute = False
        self._hall.speak(load)
        await self._wire.until(lambda: any(True for _ in self.record.of(Setpoint)), _BALANCING_WITHIN_S)
        await asyncio.sleep(self._delay_s + 2.0 * self._period_s)
        self._wire.mark("start_end")
        load.power_w = 0.0
        self._hall.speak(load)
        await asyncio.sleep(self._delay_s)
        await self._balanced(self._delay_s)
        await asyncio.sleep(self._delay_s)

    def _announcement(self, server: str, presence: Presence, epoch: int) -> ServerAnnouncement:
        return ServerAnnouncement(
            server=server,
            status=presence,
            epoch=epoch,
            phase=Phase.BALANCING,
            version="conform",
            started_unix_time_s=self.utc(),
            telemetry_period_s=self._period_s,
            control=ControlSummary(policy=Policy.CONFIRM, delay_s=self._delay_s),
            setpoint=SetpointSummary(ttl_s=self._ttl_s, refresh_s=self._ttl_s / 4.0),
        )

    @property
    def _server_topic(self) -> str:
        return loop_topic(self.loop, LoopTopic.SERVER)

    async def _speak(self) -> None:
        due_s = self.clock()
        while True:
            self._hall.tick()
            due_s += self._period_s
            await asyncio.sleep(max(due_s - self.clock(), 0.0))

    async def _try(self, load: FakeChannel) -> None:
        self.progress("three channels without power")
        await self._wire.until(lambda: self._phase() is Phase.BALANCING, _BALANCING_WITHIN_S)
        await asyncio.sleep(2.0)
        self._wire.mark("settled")
        await asyncio.sleep(1.5)
        if self._does(EqualizerPart.STEPS):
            for number, power_w in enumerate((self.power_w, -0.5 * self.power_w), 1):
                self.progress(f"a load of {power_w:g} W, unannounced")
                await self._step(f"step {number}", load, power_w)
        if self._does(EqualizerPart.PLAN):
            await self._announce_change(load, 0.6 * self.power_w)
        if self._does(EqualizerPart.COMMANDS):
            self.progress("pause, resume, target, and a command that does not exist")
            await self._commands()
        if self._does(EqualizerPart.LEASE):
            await self._lose_lease(load)
        if self._does(EqualizerPart.LOST) and not self.quick:
            await self._lose(load)
        self._wire.mark("done")
        await self._wire.look_anew()
        if self._does(EqualizerPart.RIVAL):
            await self._meet_rival(load)

    def _does(self, part: EqualizerPart) -> bool:
        return self.only in {None, part}

    async def _announce_change(self, load: FakeChannel, power_w: float) -> None:
        self.progress(f"a load of {power_w:g} W, announced")
        await asyncio.sleep(self._delay_s)
        self._wire.mark("plan")
        edge_s = self.clock() + _AHEAD_S
        self._hall.plan(load, (_AHEAD_S, power_w))
        await asyncio.sleep(edge_s - self.clock())
        self._wire.mark("edge")
        load.power_w = power_w
        self._hall.plan(load)
        self._hall.speak(load)
        await asyncio.sleep(self._delay_s + 2.0 * self._period_s + _PLAN_SETTLE_S)

    async def _lose_lease(self, load: FakeChannel) -> None:
        """Let no setpoint reach a channel for longer than its lease."""
        self.progress("a channel that hears nothing, until its lease has run out")
        if abs(load.power_w) < 0.1 * self.power_w:
            await self._step("before lease", load, 0.5 * self.power_w)
        working = [channel for channel in self._hall.channels.values() if channel.schedule and channel.power_w]
        if not working:
            return
        self._wire.mark("deaf")
        for channel in working:
            channel.deaf = True
        ends_s = max(channel.ends_s for channel in working)
        await self._wire.until(lambda: self.clock() > ends_s + self._period_s, _LONGEST_S)
        self._wire.mark("expired")
        for channel in working:
            channel.deaf = False
        await asyncio.sleep(self._delay_s + 2.0 * self._period_s)
        await self._balanced(2.0 * self._delay_s)
        await asyncio.sleep(1.5)
        self._wire.mark("end of expired")

    async def _meet_rival(self, load: FakeChannel) -> None:
        """Let another server announce a higher epoch, and go."""
        self.progress("another server, with a higher epoch, comes and goes")
        if abs(load.power_w) < 0.1 * self.power_w or load.mute:
            load.mute = False
            self._hall.announce(Presence.ONLINE, LOAD)
            await self._step("before rival", load, 0.5 * self.power_w)
        said = self._wire.online_server()
        epoch = _RIVAL_STEPS + (0 if said is None else said.epoch)
        rival = f"{OWN_SERVERS}-rival"
        self._wire.send(
            self._server_topic, self._announcement(rival, Presence.ONLINE, epoch), label="rival", qos=1, retain=True
        )
        await asyncio.sleep(_RIVAL_S)
        gone = self._announcement(rival, Presence.OFFLINE, epoch)
        self._wire.send(self._server_topic, gone, label="rival_gone", qos=1, retain=True)

        def leads() -> bool:
            return any(setpoint.epoch > epoch for _, setpoint in self.record.of(Setpoint))

        await self._wire.until(lambda: leads() or self._has_ended(), self._ttl_s + _RETURNS_WITHIN_S)
        await asyncio.sleep(2.0)
        if self._has_ended():
            self._wire.mark("rival_ended_it")
            return
        self._wire.mark("rival_end")
        await asyncio.sleep(self._ttl_s / 2.0 + 1.0)

    async def _step(self, label: str, load: FakeChannel, power_w: float) -> None:
        load.power_w = power_w
        self._wire.mark(label)
        self._hall.speak(load)
        await asyncio.sleep(self._delay_s + 2.0 * self._period_s)
        # Where all channels have just been changed, the rest of their delay is waited for.
        await self._balanced(self._delay_s)
        await asyncio.sleep(1.5)
        self._wire.mark(f"end of {label}")

    async def _balanced(self, within_s: float) -> None:
        """Wait until next to nothing is left over, or that and some time to settle has passed."""
        await self._wire.until(lambda: abs(self._total_w()) < 0.02 * self.power_w, within_s + _SETTLE_S)

    async def _commands(self) -> None:
        await self._ask("unknown", "dance")
        first = await self._ask("pause", "pause")
        await self._ask("pause_again", "pause", command_id=first)
        await asyncio.sleep(_PAUSED_S)
        self._wire.mark("pause_end")
        await self._ask("resume", "resume")
        await asyncio.sleep(self._delay_s)
        await self._balanced(self._delay_s)
        await asyncio.sleep(1.5)
        self._wire.mark("resume_end")
        await self._ask("target", "set_target", target_power_w=0.05 * self.power_w)
        await asyncio.sleep(2.5)
        await self._ask("target_back", "set_target", target_power_w=0.0)

    async def _lose(self, load: FakeChannel) -> None:
        stale_s = 3.0 * self._period_s + _STALE_S
        self.progress("the load falls silent")
        load.power_w = self.power_w
        self._hall.speak(load)
        await asyncio.sleep(2.0 * self._period_s)
        await self._silent(load, "mute", stale_s)
        self.progress(f"a load of {_BEYOND * self.freeze_w:g} W falls silent")
        load.power_w = _BEYOND * self.freeze_w
        self._hall.speak(load)
        await asyncio.sleep(2.0 * self._period_s)
        await self._silent(load, "frozen", stale_s)
        self.progress("its station goes offline")
        load.mute = True
        self._hall.announce(Presence.OFFLINE, LOAD)
        self._wire.mark("offline")
        await asyncio.sleep(_STALE_S)
        self._wire.mark("offline_end")

    def _has_ended(self) -> bool:
        """Tell whether the equalizer has said that it is gone, or is a program that has ended."""
        said = said_by_server(self.record)
        ended = said is not None and said.status is Presence.OFFLINE
        return ended or (self.party is not None and not self.party.runs)

    async def _silent(self, load: FakeChannel, label: str, seconds: float) -> None:
        load.mute = True
        self._wire.mark(label)
        await asyncio.sleep(seconds)
        self._wire.mark(f"{label}_end")
        load.mute = False
        self._hall.speak(load)
        await asyncio.sleep(self._period_s)

    async def _ask(
        self, label: str, action: str, *, command_id: str | None = None, target_power_w: float | None = None
    ) -> str:
        command = LoopCommand(
            id=command_id or new_id(), action=action, target_power_w=target_power_w, by="conformance kit"
        )
        before = len(self.record.heard)
        self._wire.send(loop_topic(self.loop, LoopTopic.COMMAND), command, label=label, qos=1)

        def answered() -> bool:
            return any(getattr(entry.message, "id", None) == command.id for entry in self.record.heard[before:])

        await self._wire.until(answered, 4.0)
        return command.id

    def _newest(self) -> LoopBalance | None:
        found = (e.message for e in reversed(self.record.heard) if isinstance(e.message, LoopBalance))
        return next(found, None)

    def _phase(self) -> Phase | None:
        newest = self._newest()
        return None if newest is None else newest.phase

    def _total_w(self) -> float:
        newest = self._newest()
        return float("inf") if newest is None else newest.total_power_w
