"""Two equalizers on a cluster of three NATS servers: the store's lease says who is in charge."""

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.answer import answers
from broker.programs import find_embedded
from equalizer.config import EqualizerSettings
from equalizer.fencing import LARGEST_STEP
from equalizer.tenure import next_epoch
from schemas.settings import ConfigurationError
from tests.integration.equalizer.actors import (
    FakeChannel,
    FakeStation,
    Observer,
    equalizing,
    running,
    settings,
)
from tests.patience import PATIENCE_S, until
from tests.ports import free_port

LOAD_W = 20_000.0


@dataclass
class Node:
    """One server of the cluster."""

    config: Path
    nats_port: int
    mqtt_port: int
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.config.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen([str(find_embedded()), "-c", str(self.config)], stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Node]]:
    if find_embedded() is None:
        pytest.skip("nats-server is not installed")
    ports = [(free_port(), free_port(), free_port()) for _ in range(3)]
    routes = [f"nats://127.0.0.1:{route}" for _, _, route in ports]
    nodes = []
    for number, (nats_port, mqtt_port, route_port) in enumerate(ports):
        config = tmp_path / f"node-{number}.conf"
        text = {
            "server_name": f"n{number}",
            "host": "127.0.0.1",
            "port": nats_port,
            "max_payload": 70_000,
            "jetstream": {"store_dir": str(tmp_path / f"store-{number}")},
            "cluster": {"name": "hall", "host": "127.0.0.1", "port": route_port, "routes": routes},
            "mqtt": {"host": "127.0.0.1", "port": mqtt_port, "stream_replicas": 3},
        }
        config.write_text(json.dumps(text))
        nodes.append(Node(config, nats_port, mqtt_port))
    for node in nodes:
        node.start()
    deadline_s = time.monotonic() + PATIENCE_S
    while not all(answers("127.0.0.1", node.mqtt_port) for node in nodes):
        assert time.monotonic() < deadline_s, "the cluster does not answer"
        time.sleep(0.2)
    yield nodes
    for node in nodes:
        node.kill()


def stored(node: Node, cluster: list[Node], name: str) -> EqualizerSettings:
    urls = ",".join(f"nats://127.0.0.1:{one.nats_port}" for one in cluster)
    standby = f"[standby]\nenabled = true\nstore = 'nats'\nurl = '{urls}'\nlost_s = 4.0\nhandover_s = 5.0\n"
    return settings(node.mqtt_port, standby, broker_protocol="3.1.1", loop_server=name, setpoint_ttl_s="30.0")


def said(observer: Observer) -> set[tuple[str, str]]:
    return {(event["source"], event["code"]) for event in observer.said("event")}


@pytest.mark.broker
@pytest.mark.slow
async def test_a_server_of_the_cluster_dies_and_the_lease_goes_to_the_other_equalizer(
    cluster: list[Node], tmp_path: Path
) -> None:
    first, second, third = cluster
    eq = FakeStation(third.mqtt_port, "eq", {"1": FakeChannel(equalizing=True)})
    load = FakeStation(third.mqtt_port, "load", {"1": FakeChannel(power_w=LOAD_W)})
    observer = Observer(third.mqtt_port)
    for actor in (eq, load, observer):
        actor.session.broker = stored(third, cluster, "x").broker
    channel = eq.channels["1"]
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running(eq, load, observer))
        a = await stack.enter_async_context(equalizing(stored(first, cluster, "a"), tmp_path / "a"))
        await until(lambda: abs(channel.power_w + LOAD_W) < 1.0)
        epoch = channel.setpoints[-1]["epoch"]
        b = await stack.enter_async_context(equalizing(stored(second, cluster, "b"), tmp_path / "b"))
        await until(lambda: ("server/b", "standby") in said(observer))
        assert b.service.standing == "standby"
        assert {sent["server"] for sent in channel.setpoints} == {"a"}

        powers_w: list[float] = []
        killed_unix_time_s = time.time()
        first.kill()
        await until(lambda: powers_w.append(channel.power_w) or channel.setpoints[-1]["server"] == "b")
        taken = next(sent for sent in channel.setpoints if sent["server"] == "b")
        assert taken["unix_time_s"] - killed_unix_time_s < 15.0
        assert max(abs(power_w + LOAD_W) for power_w in powers_w) < 1.0
        assert channel.setpoints[-1]["epoch"] > epoch
        await until(lambda: a.service.standing == "standby")

        # The server is back; so is the equalizer beside it, and it stands by.
        first.start()
        await until(lambda: ("server/a", "standby") in said(observer))
        assert not a.task.done()
        assert {sent["server"] for sent in channel.setpoints[-2:]} == {"b"}
        # A clean stop hands over within moments, without a step.
        stopped_unix_time_s = time.time()
        ending = asyncio.create_task(b.end())
        await until(lambda: channel.setpoints[-1]["server"] == "a")
        assert channel.setpoints[-1]["unix_time_s"] - stopped_unix_time_s < 6.0
        assert channel.power_w == -LOAD_W
        await ending


async def test_without_its_package_the_store_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nats", None)
    text = "[standby]\nenabled = true\nstore = 'nats'\n"
    with pytest.raises(ConfigurationError, match=r"standby.store: nats needs the package nats-py"):
        async with equalizing(settings(free_port(), text), tmp_path) as equalizer:
            await asyncio.wait_for(equalizer.task, PATIENCE_S)


@pytest.mark.parametrize(
    ("known", "revision", "highest_seen", "epoch"),
    [(0, 0, 0, 1), (0, 0, 41, 42), (7, 3, 5, 8), (3, 9, 5, 10), (5000, 5000, 41, 41 + LARGEST_STEP)],
    ids=["first", "above the stations", "above the last tenure", "above the revision", "within what stations accept"],
)
def test_the_epoch_of_a_tenure_is_above_all_before_it(known: int, revision: int, highest_seen: int, epoch: int) -> None:
    assert next_epoch(known, revision, highest_seen) == epoch
