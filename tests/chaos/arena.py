"""A hall in which things fail: an equalizer, a station that equalizes, a load, and what the equipment truly does.

What the experiments wait for is seen from outside: through MQTT, in the logs, and at the equipment.
"""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from subprocess import Popen

from broker.run import RunningBroker, start
from schemas import topics
from schemas.messages import (
    ChannelCommand,
    LoopBalance,
    Phase,
    Reply,
    ReplyResult,
    SetpointResult,
    StationStatus,
    WorkStatus,
)
from schemas.topics import ChannelTopic, LoopTopic
from tests.acceptance.hall import BATTERY, Foreign, Hall
from tests.chaos.equipment import fault_path, record_path
from tests.chaos.registry import LOADED
from transport.session import ConnectionFailedError

REPOSITORY = Path(__file__).parents[2]
LIMIT_W = 60000.0
RAMP_W_PER_S = 20000.0
LOAD_W = 20000.0
TELEMETRY = topics.channel_topic("main", "eq", "1", ChannelTopic.TELEMETRY)
SERVER = topics.loop_topic("main", LoopTopic.SERVER)
BALANCE = topics.loop_topic("main", LoopTopic.BALANCE)
NEAR_W = 600.0
REST_W = 1.0

EQUALIZER = """
[loop]
name = "main"
server = "{server}"
[broker]
host = "{host}"
port = {port}
protocol = "{protocol}"
[control]
delay_s = {delay_s}
engage_w = 500.0
release_w = 200.0
freeze_w = {freeze_w}
[telemetry]
period_s = {period_s}
[setpoint]
ttl_s = {ttl_s}
refresh_s = {refresh_s}
[metrics]
port = {metrics_port}
[discovery]
advertise = {advertise}
[state]
dir = "{state_dir}"
{standby}
"""

STATION = """
[station]
id = "{id}"
state_dir = "{state_dir}"
on_lost = "{on_lost}"
loop = "main"
{broker}
[telemetry]
period_s = {period_s}
[driver]
type = "chaos"
station = "{equipment}"
"""

CHANNEL = """
[[channel]]
id = "{id}"
charge_limit_w = {limit_w}
discharge_limit_w = {limit_w}
ramp_w_per_s = {ramp_w_per_s}
battery = {battery}
equalize = {equalize}
program = [{program}]
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the hall lives."""

    period_s: float
    delay_s: float
    ttl_s: float
    refresh_s: float
    patience: float
    """Times every time that is waited for something: a loaded computer is slow to start processes."""

    @property
    def zero_s(self) -> float:
        """From a fault to 0 W: lease, ramp and what a loaded computer adds."""
        return self.ttl_s + LOAD_W / RAMP_W_PER_S + 2.0 * self.period_s + 4.0

    @property
    def reply_s(self) -> float:
        """From a command to its reply: what the contract promises, and what a loaded computer adds."""
        return 2.0 if self is PRODUCT else 2.0 * LOADED

    @property
    def settle_s(self) -> float:
        """From a change to a balanced loop."""
        return 2.0 * self.delay_s + 5.0 * self.period_s + 25.0


QUICK = Pace(period_s=0.5, delay_s=1.5, ttl_s=5.0, refresh_s=0.5, patience=4.0)
PRODUCT = Pace(period_s=1.0, delay_s=15.0, ttl_s=30.0, refresh_s=5.0, patience=2.0)
"""The defaults."""


class Equipment:
    """What the equipment of a channel does, by its own account."""

    def __init__(self, folder: Path, station: str, channel: str) -> None:
        self.record = record_path(folder, station, channel)
        self.fault = fault_path(folder, station, channel)

    def fail(self, fault: str) -> float:
        """Let it fail; return when."""
        aside = self.fault.with_suffix(".new")
        aside.write_text(fault)
        aside.replace(self.fault)
        return time.monotonic()

    def mend(self) -> float:
        """Take the cause away; return when."""
        self.fault.unlink()
        return time.monotonic()

    @property
    def power_w(self) -> float:
        """The true power now; not a number before there is any."""
        newest = self._newest()
        return float(newest[1]) if newest else math.nan

    @property
    def asked_s(self) -> float:
        """The time of what it was asked last; minus infinity before there is any."""
        newest = self._newest()
        return float(newest[0]) if newest else -math.inf

    def _newest(self) -> list[bytes]:
        if not self.record.exists():
            return []
        with self.record.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 200))
            # What comes behind the last end of a line is being written.
            lines = file.read().rpartition(b"\n")[0].splitlines()
            return lines[-1].split() if lines else []

    def history(self) -> list[tuple[float, float, float | None]]:
        """When, the true power, and the power that was asked for."""
        lines = [line.split() for line in self.record.read_text().rpartition("\n")[0].splitlines()]
        return [(float(at), float(power), None if asked == "-" else float(asked)) for at, power, asked in lines]

    def check(self, *, follows: bool) -> None:
        """Fail where a limit was exceeded, or power rose faster than the ramp; follows: or was asked to."""
        for (before_s, before_w, asked_before), (at_s, power_w, asked) in pairwise(self.history()):
            assert abs(power_w) <= LIMIT_W + REST_W, f"{power_w:.0f} W at {at_s:.3f} s is beyond the limit"
            reach_w = RAMP_W_PER_S * (at_s - before_s) + 0.02 * LIMIT_W
            risen = power_w != 0.0 and abs(power_w - before_w) > reach_w
            assert not risen, f"{before_w:.0f} W to {power_w:.0f} W in {at_s - before_s:.3f} s at {at_s:.3f} s"
            if follows and asked_before is not None and asked is not None and asked != 0.0:
                # After a stall, half a second of the ramp may be asked for at once.
                leap_w = max(RAMP_W_PER_S * 0.5, reach_w) + 0.02 * LIMIT_W
                assert abs(asked - asked_before) <= leap_w, f"asked {asked_before:.0f} W, then {asked:.0f} W"


class Arena(Hall):
    """A hall whose parts can be failed one by one."""

    def __init__(self, folder: Path, broker: RunningBroker, pace: Pace) -> None:
        super().__init__(folder, broker)
        self.pace = pace
        self.period_s = pace.period_s
        self.load: Foreign | None = None
        self._replaced: list[RunningBroker] = []
        self._starter = ThreadPoolExecutor(1)
        """A broker ends with the thread that started it."""
        drivers = folder / "drivers" / "zeroloop_chaos-0.dist-info"
        drivers.mkdir(parents=True)
        (drivers / "METADATA").write_text("Metadata-Version: 2.1\nName: zeroloop-chaos\nVersion: 0\n")
        (drivers / "entry_points.txt").write_text("[zeroloop.drivers]\nchaos = tests.chaos.equipment:create\n")
        self.environment = {"PYTHONPATH": f"{drivers.parent}{os.pathsep}{REPOSITORY}"}

    # ── its parts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def lead(
        self,
        name: str = "equalizer",
        *,
        server: str = "equalizer",
        host: str = "127.0.0.1",
        port: int | None = None,
        state_dir: str | None = None,
        advertise: bool = False,
        metrics: bool = True,
        standby: str = "",
        freeze_w: float = 200_000.0,
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Popen[bytes]:
        """Start an equalizer; standby: its table."""
        pace = self.pace
        text = EQUALIZER.format(
            server=server,
            host=host,
            port=self.broker.port if port is None else port,
            protocol=self.broker.protocol,
            delay_s=pace.delay_s,
            period_s=pace.period_s,
            ttl_s=pace.ttl_s,
            refresh_s=pace.refresh_s,
            metrics_port=self.metrics_port if metrics else 0,
            advertise=str(advertise).lower(),
            state_dir=f"state-{name}" if state_dir is None else state_dir,
            standby=standby,
            freeze_w=freeze_w,
        )
        return self._start("equalizer", name, text, environment, prefix)

    def equalize(
        self,
        name: str = "eq",
        channels: Sequence[str] = ("1",),
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        broker: bool = True,
        equalize: bool = True,
        state_dir: str | None = None,
        program: str = "",
        file: str | None = None,
        equipment: str | None = None,
        on_lost: str = "zero",
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Popen[bytes]:
        """Start a station, by default one that equalizes."""
        at = self.broker.port if port is None else port
        place = f'[broker]\nhost = "{host}"\nport = {at}\nprotocol = "{self.broker.protocol}"\n' if broker else ""
        text = STATION.format(
            id=name,
            equipment=name if equipment is None else equipment,
            state_dir=f"state-{name}" if state_dir is None else state_dir,
            on_lost=on_lost,
            broker=place,
            period_s=self.period_s,
        )
        for channel in channels:
            text += CHANNEL.format(
                id=channel,
                limit_w=LIMIT_W,
                ramp_w_per_s=RAMP_W_PER_S,
                battery=BATTERY,
                equalize=str(equalize).lower(),
                program=program,
            )
        return self._start("station", name if file is None else file, text, environment, prefix)

    def _start(
        self, kind: str, name: str, text: str, environment: dict[str, str] | None, prefix: Sequence[str]
    ) -> Popen[bytes]:
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        variables = {**self.environment, **(environment or {})}
        return self.spawn(kind, "--config", str(path), name=name, environment=variables, prefix=prefix)

    async def balanced(
        self, *, server_port: int | None = None, **station: int | str
    ) -> tuple[Popen[bytes], Popen[bytes]]:
        """Start equalizer, station and load; return the first two once the loop is balanced."""
        equalizer = self.lead() if server_port is None else self.lead(port=server_port)
        battery = self.equalize(**station)
        self.add_load()
        await self.until_balanced()
        return equalizer, battery

    def add_load(self) -> Foreign:
        """Have a load run."""
        self.load = Foreign(self)
        self.load.set_power(LOAD_W)
        return self.load

    async def restart_broker(self, data_dir: str, *, config: Path | None = None) -> float:
        """Start a broker on the old port; return when it was started."""
        started_s = time.monotonic()
        begin = partial(start, "mosquitto", port=self.broker.port, data_dir=self.folder / data_dir, config=config)
        self._replaced.append(await asyncio.get_running_loop().run_in_executor(self._starter, begin))
        return started_s

    def kill_broker(self) -> None:
        """Kill the broker that was started last."""
        self._replaced.pop().kill()

    async def watch(self) -> None:
        """Keep the watcher connected, quicker than anybody else: it shall hear what they say first."""
        while True:
            if not self.session.connected:
                with contextlib.suppress(ConnectionFailedError):
                    await self.session.connect_once(1.0)
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """End everything, in order."""
        if self.load is not None:
            self.load.task.cancel()
            await asyncio.gather(self.load.task, return_exceptions=True)
        await asyncio.to_thread(self.end)
        await self.session.close()
        for broker in self._replaced:
            broker.stop()
        self._starter.shutdown()

    # ── what is seen of it ────────────────────────────────────────────────────────────────────────────────────────

    def equipment(self, station: str = "eq", channel: str = "1") -> Equipment:
        """Return what a channel's equipment does."""
        return Equipment(self.folder, station, channel)

    def heard_s(self, topic: str) -> float:
        """Return when something was last heard on a topic, live; minus infinity: never."""
        seen = [one.at_s for one in self.watcher.heard.get(topic, []) if not one.retained]
        return seen[-1] if seen else float("-inf")

    def is_back(self, since_s: float) -> bool:
        """Whether all are heard since a moment: the channel, ready to be led, and an equalizer that balances."""
        telemetry, balance = self.telemetry("eq", "1"), self.balance
        recent_s = max(since_s, time.monotonic() - 3.0 * self.period_s - 4.0)
        if telemetry is None or balance is None or min(self.heard_s(TELEMETRY), self.heard_s(BALANCE)) < recent_s:
            return False
        return (
            telemetry.equalization is not None
            and balance.equalization_channels > 0
            and balance.channels_stale == 0
            and balance.phase in (Phase.BALANCING, Phase.SATURATED)
        )

    @property
    def is_led(self) -> bool:
        """Whether all are heard now, and the channel obeys a running lease."""
        telemetry = self.telemetry("eq", "1")
        last = None if telemetry is None or telemetry.equalization is None else telemetry.equalization.last
        obeyed = last is not None and last.result in (SetpointResult.APPLIED, SetpointResult.CLAMPED)
        return obeyed and (last.expires_in_s or 0.0) > 0.0 and self.is_back(float("-inf"))

    async def until(self, condition: Callable[[], object], timeout_s: float = 20.0, *, what: str = "") -> None:
        """Wait until a condition holds, patiently; fail with what the processes said."""
        await super().until(condition, self.pace.patience * timeout_s, what=what)

    async def until_back(self, since_s: float) -> float:
        """Wait until all are heard since a moment; return how many seconds after it."""
        await self.until(lambda: self.is_back(since_s), 60.0, what="everything is back")
        return time.monotonic() - since_s

    async def until_balanced(self) -> None:
        """Wait until the equipment meets the load."""
        load_w = 0.0 if self.load is None else self.load.power_w
        await self.until(
            lambda: self.is_led and abs(self.total_w()) < NEAR_W and abs(self.equipment().power_w + load_w) < NEAR_W,
            self.pace.settle_s,
            what="the loop is balanced",
        )

    async def until_zero(self, since_s: float) -> float:
        """Wait until the equipment is at 0 W; return how many seconds after a moment."""
        equipment = self.equipment()
        await self.until(lambda: abs(equipment.power_w) < REST_W, self.pace.zero_s, what="0 W")
        return time.monotonic() - since_s

    async def ask(self, action: str, *, expected: ReplyResult = ReplyResult.ACCEPTED) -> float:
        """Have an operator command the channel; return after how many seconds the reply came."""
        command = ChannelCommand(id=f"{action}-{time.monotonic()}", action=action)
        asked_s = time.monotonic()
        self.publish(topics.channel_topic("main", "eq", "1", ChannelTopic.COMMAND), command)
        await self.until(lambda: self.replies(command.id), what=f"a reply to {action}")
        assert self.replies(command.id)[0].result is expected, self.replies(command.id)[0].text
        return time.monotonic() - asked_s

    async def until_stopped(self) -> None:
        """Wait until the channel has come to rest after a stop."""
        await self.until(lambda: self.telemetry("eq", "1").work_status is WorkStatus.STOPPED, what="at rest")

    def replies(self, command_id: str) -> list[Reply]:
        """Return the channel's replies to a command."""
        told = self.watcher.all(Reply, topics.channel_topic("main", "eq", "1", ChannelTopic.REPLY))
        return [reply for reply in told if reply.id == command_id]

    def check_equipment(self) -> None:
        """Fail where any equipment went beyond its limits."""
        for record in self.folder.glob("equipment-*.txt"):
            _, station, channel = record.stem.split("-")
            self.equipment(station, channel).check(follows=station == "eq")

    def log(self, name: str) -> str:
        """Return what a process has written."""
        return (self.folder / f"{name}.log").read_text()

    def told(self, code: str, source: str = "") -> int:
        """Count the events of a code (about a source)."""
        return sum(event.code == code and source in event.source for event in self.events())

    async def until_told(self, code: str, process: str, source: str = "", *, times: int = 1) -> None:
        """Wait for an event and its log line; more of them than there should be are an error."""
        await self.until(lambda: self.told(code, source) >= times, 15.0, what=f"the event {code}")
        await self.until(lambda: self.log(process).count(code) >= times, what=f"the log line {code}")
        assert self.told(code, source) == times, f"{code} was told more than {times} times"

    def statuses(self, station: str) -> list[StationStatus]:
        """Return all that a station said of itself."""
        return self.watcher.all(StationStatus, topics.status_topic("main", station))

    def balances(self) -> list[LoopBalance]:
        """Return all that was said of the loop."""
        return self.watcher.all(LoopBalance, topics.loop_topic("main", LoopTopic.BALANCE))

    def longest_silence_s(self, topic: str, since_s: float) -> float:
        """Return the longest time without a message since a moment, up to now."""
        times_s = [since_s, *(one.at_s for one in self.watcher.heard[topic] if one.at_s > since_s), time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(times_s))
