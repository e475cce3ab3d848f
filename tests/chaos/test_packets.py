"""The connection."""

import asyncio
import random
import time

import pytest

from schemas import codec, topics
from schemas.messages import ChannelCommand, ChannelTelemetry, SetpointReason, SetpointResult
from schemas.topics import ChannelTopic
from tests.chaos.arena import NEAR_W, TELEMETRY, Arena
from tests.chaos.proxy import PUBACK, Proxy
from tests.chaos.registry import Measured, fault
from tests.chaos.test_messages import COMMAND, SETPOINT, setpoint

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]


async def met(arena: Arena, load_w: float) -> float:
    """Change the load, and return after how many seconds the equipment meets it."""
    began_s = arena.load.set_power(load_w)
    await arena.until(lambda: abs(arena.equipment().power_w + load_w) < NEAR_W, arena.pace.settle_s, what="it is met")
    return time.monotonic() - began_s


@fault(
    "The connections are reset",
    "Station and equalizer connect again and publish everything anew; the lease runs on meanwhile.",
    {"back": 15.0},
)
async def test_a_reset(arena: Arena, proxy: Proxy) -> Measured:
    await arena.balanced(server_port=proxy.port, port=proxy.port)
    back_s = await arena.until_back(await proxy.reset())
    for code in ("connection_lost", "connection_back"):
        await arena.until_told(code, "eq", "station/eq")
        await arena.until_told(code, "equalizer", "server/equalizer")
    assert arena.told("lease_expired") == 0
    await arena.until_balanced()
    return {"back": back_s}


@fault(
    "Messages are delayed by up to a period, unevenly, and some by more (what TCP makes of a lost packet)",
    "The channel stays led; a new load is met after the delay against shaking as ever.",
    {"met": 30.0},
    quick=False,
)
async def test_delay_jitter_and_loss(arena: Arena, proxy: Proxy) -> Measured:
    luck = random.Random(7)  # noqa: S311 - the same at every run
    period_s = arena.pace.period_s

    def delay_s() -> float:
        return period_s * (1.4 if luck.random() < 0.05 else luck.uniform(0.05, 0.9))

    proxy.up.delay_s = proxy.down.delay_s = delay_s
    await arena.balanced(port=proxy.port)
    met_s = await met(arena, 30000.0)
    assert arena.told("lease_expired") == 0
    return {"met": met_s}


@fault(
    "A link carries a third of what the station has to say",
    "Of each channel the newest telemetry is sent and what was older is left out; no backlog is replayed when the link "
    "is well again. `age` is that of the oldest telemetry on arrival.",
    {"age": 10.0, "back": 15.0},
    quick=False,
)
async def test_a_starved_link(arena: Arena, proxy: Proxy) -> Measured:
    channels = [str(number) for number in range(1, 9)]
    arena.equalize(channels=channels, port=proxy.port)
    arena.lead()
    await arena.until(lambda: arena.is_back(float("-inf")), 30.0)
    whole = sum(len(codec.encode(arena.telemetry("eq", channel))) + len(TELEMETRY) for channel in channels)
    starved_s = time.monotonic()
    proxy.up.rate_bytes_per_s = whole / arena.pace.period_s / 3.0
    await asyncio.sleep(25.0 * arena.pace.period_s + 5.0)
    proxy.up.rate_bytes_per_s = None
    relieved_s = time.monotonic()
    await asyncio.sleep(5.0 * arena.pace.period_s)
    back_s = await arena.until_back(relieved_s)
    oldest_s, left_out = 0.0, 0
    for channel in channels:
        seen = arena.watcher.heard[topics.channel_topic("main", "eq", channel, ChannelTopic.TELEMETRY)]
        late = [one for one in seen if one.at_s > starved_s]
        # Both clocks are this computer's: what the label and the receipt differ by is the age.
        offset_s = time.time() - time.monotonic()
        oldest_s = max(oldest_s, *(one.at_s + offset_s - one.message.unix_time_s for one in late))
        seqs = [one.message.seq for one in late if isinstance(one.message, ChannelTelemetry)]
        assert seqs == sorted(seqs)
        left_out += seqs[-1] - seqs[0] + 1 - len(seqs)
    assert left_out > 5 * len(channels), "the link was not starved"
    return {"age": oldest_s, "back": back_s}


@fault(
    "Messages arrive twice, and acknowledgements never",
    "A setpoint that came before changes nothing; a command is done once and each of its copies gets the same reply.",
    {"reply": 2.0, "back": 15.0},
)
async def test_duplicates(arena: Arena, proxy: Proxy) -> Measured:
    await arena.balanced(port=proxy.port)
    proxy.up.doubled = proxy.down.doubled = True
    proxy.up.swallowed = proxy.down.swallowed = frozenset({PUBACK})
    command = ChannelCommand(id="once", action="stop")
    asked_s = time.monotonic()
    arena.publish(COMMAND, command)
    await arena.until(lambda: len(arena.replies("once")) >= 2, what="a reply to each copy")
    reply_s = time.monotonic() - asked_s
    assert len({codec.encode(reply) for reply in arena.replies("once")}) == 1
    await arena.until(lambda: "code=command_stop" in arena.log("eq"), what="the command in the log")
    await arena.until_stopped()
    arena.publish(COMMAND, ChannelCommand(id="again", action="equalize"))
    await arena.until(lambda: arena.telemetry("eq", "1").equalization is not None)
    # What nobody acknowledged is sent once more over the next connection: the copies still do nothing.
    back_s = await arena.until_back(await proxy.reset())
    await arena.until_balanced()
    assert arena.log("eq").count("code=command_stop") == 1
    assert arena.log("eq").count("code=command_equalize") == 1
    return {"reply": reply_s, "back": back_s}


@fault(
    "Messages overtake each other",
    "What is older than what was heard already counts for nothing, telemetry as well as setpoints; the loop is led on.",
    {"met": 30.0},
)
async def test_reordering(arena: Arena, proxy: Proxy) -> Measured:
    await arena.balanced(port=proxy.port)
    proxy.up.swapped = proxy.down.swapped = True
    met_s = await met(arena, 30000.0)
    seqs = [one.seq for one in arena.telemetries("eq", "1")]
    assert seqs != sorted(seqs), "nothing was overtaken"
    assert arena.told("lease_expired") == 0
    return {"met": met_s}


@fault(
    "A setpoint comes late from some queue",
    "It rests on telemetry of more than 15 s ago: refused as `stale_basis`, and nothing else changes.",
    {"refused": 5.0},
    quick=False,
)
async def test_a_late_setpoint(arena: Arena) -> Measured:
    equalizer, _ = await arena.balanced()
    equalizer.kill()
    late = setpoint(arena, 50000.0, 10**6)
    await asyncio.sleep(15.5)
    sent_s = time.monotonic()
    arena.session.publish(SETPOINT, codec.encode(late))
    await arena.until(lambda: arena.telemetry("eq", "1").equalization.last.reason is SetpointReason.STALE_BASIS)
    refused_s = time.monotonic() - sent_s
    assert arena.telemetry("eq", "1").equalization.last.result is SetpointResult.REJECTED
    await asyncio.sleep(1.0)
    assert max(power_w for at_s, power_w, _ in arena.equipment().history() if at_s > sent_s) < 1.0
    return {"refused": refused_s}


@fault(
    "A command waits in a queue while the connection breaks",
    "It is lost with the connection (nobody keeps a session) and never carried out later; the operator gets no reply.",
    {"back": 15.0},
)
async def test_a_late_command(arena: Arena, proxy: Proxy) -> Measured:
    await arena.balanced(port=proxy.port)
    proxy.down.held = True
    arena.publish(COMMAND, ChannelCommand(id="late", action="stop"))
    await asyncio.sleep(1.0)
    reset_s = await proxy.reset()
    proxy.down.held = False
    back_s = await arena.until_back(reset_s)
    await arena.always(lambda: arena.telemetry("eq", "1").equalization is not None, 2.0)
    assert arena.replies("late") == []
    return {"back": back_s}
