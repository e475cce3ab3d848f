"""Tries an equalizer: gives it stations of the kit's own in a loop otherwise empty, and watches."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from conform.fakes import FakeChannel, FakeHall
from conform.record import Record, Verdict
from conform.rules.equalizer import EqualizerCase, judge
from conform.wire import ConformError, Wire, new_id
from schemas.messages import LoopBalance, LoopCommand, Phase, Presence
from schemas.settings import BrokerSettings
from schemas.topics import LoopTopic, loop_topic

LOAD, POOL = "kit-load", "kit-pool"
_SERVER_WITHIN_S = 15.0
_BALANCING_WITHIN_S = 30.0
_SETTLE_S = 8.0
_PAUSED_S = 8.0
_STALE_S = 5.0
_ROOM = 2.0
"""The pool can take so many times the load."""
_BEYOND = 1.6


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
    """

    broker: BrokerSettings
    loop: str
    clock: Callable[[], float]
    utc: Callable[[], float]
    power_w: float = 20_000.0
    freeze_w: float = 50_000.0
    quick: bool = False
    progress: Callable[[str], None] = lambda _text: None
    record: Record = field(default_factory=Record)
    _wire: Wire = field(init=False)
    _hall: FakeHall = field(init=False)
    _period_s: float = 1.0
    _delay_s: float = 15.0

    async def run(self) -> list[Verdict]:
        """Try the equalizer, and return a verdict for every rule.

        Raises:
            ConformError: it cannot be tried now.
            ConnectionFailedError: the broker was not reached.
        """
        self._wire = Wire(self.broker, self.loop, self.record, self.clock)
        limit_w = _ROOM * self.power_w
        async with self._wire.connected():
            await self._look()
            self._hall = FakeHall(self._wire, self.clock, self.utc, secrets.token_hex(4))
            load = self._hall.add(LOAD, "1")
            for name in ("1", "2"):
                self._hall.add(POOL, name, limit_w)
            self._wire.on_arrival = self._hall.take
            self._hall.announce(Presence.ONLINE)
            speaking = asyncio.create_task(self._speak(), name="kit stations")
            try:
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
        others = [name for name, status in self._wire.statuses().items() if status.status is Presence.ONLINE]
        if others:
            raise ConformError(
                f"loop {self.loop} has stations ({', '.join(sorted(others))}): it needs a loop of its own"
            )
        said = self._wire.online_server()
        if said is not None:
            self._period_s, self._delay_s = said.telemetry_period_s, said.control.delay_s

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
        for number, power_w in enumerate((self.power_w, -0.5 * self.power_w), 1):
            self.progress(f"a load of {power_w:g} W, unannounced")
            await self._step(f"step {number}", load, power_w)
        self.progress("pause, resume, target, and a command that does not exist")
        await self._commands()
        if not self.quick:
            await self._lose(load)
        self._wire.mark("done")
        await self._wire.look_anew()

    async def _step(self, label: str, load: FakeChannel, power_w: float) -> None:
        load.power_w = power_w
        self._wire.mark(label)
        self._hall.speak(load)
        await asyncio.sleep(self._delay_s + 2.0 * self._period_s)
        # Where all channels have just been changed, the rest of their delay is waited for.
        await self._wire.until(lambda: abs(self._total_w()) < 0.02 * self.power_w, self._delay_s + _SETTLE_S)
        await asyncio.sleep(1.5)
        self._wire.mark(f"end of {label}")

    async def _commands(self) -> None:
        await self._ask("unknown", "dance")
        first = await self._ask("pause", "pause")
        await self._ask("pause_again", "pause", command_id=first)
        await asyncio.sleep(_PAUSED_S)
        self._wire.mark("pause_end")
        await self._ask("resume", "resume")
        await asyncio.sleep(self._delay_s)
        await self._wire.until(lambda: abs(self._total_w()) < 0.02 * self.power_w, self._delay_s + _SETTLE_S)
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
