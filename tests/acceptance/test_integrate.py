"""docs/integrate.md, run out of the document: watching, commands, a third-party station, a third-party controller."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas import codec, topics
from schemas.messages import Basis, LoopCommand, Setpoint, SetpointReason, SetpointResult, SetpointStep
from schemas.topics import ChannelTopic
from tests.acceptance.hall import Hall, channel, power
from tests.patience import PATIENCE_S

DOCUMENT = (Path(__file__).parents[2] / "docs" / "integrate.md").read_text()
BLOCKS = {name: (language, text) for name, language, text in re.findall(
    r"<!-- ([^>]+) -->\n```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)}  # fmt: skip
SETPOINT_TOPIC = topics.channel_topic("main", "my-station", "1", ChannelTopic.SETPOINT)


class Reader:
    """Somebody who sits before the document and a terminal."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.done: set[str] = set()
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BROKER": "127.0.0.1",
            "PORT": str(hall.broker.port),
            "METRICS_PORT": str(hall.metrics_port),
            "DELAY_S": "1.5",
        }

    async def run(self, name: str) -> str:
        """Run a block to its end and return what it says."""
        process = await asyncio.create_subprocess_exec(
            "sh", "-euc", self._text("sh", name), cwd=self.hall.folder, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), 2 * PATIENCE_S)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)  # the shell, and what it waits for
            await process.wait()
            pytest.fail(f"{name}: no end\n{self.hall.story()}")
        assert process.returncode == 0, f"{name}: {said.decode()}"
        return said.decode()

    def save(self, name: str) -> None:
        """Save a file as the document says."""
        (self.hall.folder / name).write_text(self._text("python", f"file {name}"))

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start what goes on, as the document says."""
        return self._spawn(f"exec {self._text('sh', f'start {name}')}", name)

    def python(self, name: str) -> subprocess.Popen[bytes]:
        return self._spawn(f"exec python {name}.py", name)

    def said(self, name: str) -> str:
        return (self.hall.folder / f"{name}.log").read_text()

    def _spawn(self, script: str, name: str) -> subprocess.Popen[bytes]:
        with (self.hall.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["sh", "-c", script], cwd=self.hall.folder, env=self.environment, stdout=log, stderr=log
            )
        self.hall.processes.append(process)
        return process

    def _text(self, language: str, name: str) -> str:
        self.done.add(name)
        written_in, text = BLOCKS[name]
        assert written_in == language
        return text


@pytest.mark.broker
@pytest.mark.timeout(400)
async def test_every_command_of_the_document_does_what_it_says(hall: Hall) -> None:
    reader = Reader(hall)
    equalizer = hall.equalizer(
        environment={"ZEROLOOP_HOME_ASSISTANT_ENABLED": "true", "ZEROLOOP_TELEMETRY_PERIOD_S": "1"}
    )
    hall.station("s1", [channel("1", program=power(5000.0, 600.0))])
    await hall.until(lambda: hall.balance is not None and hall.balance.channels == 1)

    # Watch.
    await reader.run("prepare")
    assert '"status":"online"' in await reader.run("announcement")
    assert "zeroloop/v1/main/" in await reader.run("watch")
    reader.save("watch.py")
    watching = reader.python("watch")

    # Command.
    replies = [json.loads(line) for line in (await reader.run("command")).splitlines()]
    assert [(reply["action"], reply["result"]) for reply in replies] == [("pause", "accepted"), ("resume", "accepted")]
    await reader.run("meter")
    await hall.until(
        lambda: hall.balance is not None and hall.balance.meter_power_w == 120.0, what="the meter is heard"
    )
    assert "homeassistant/device/zeroloop__main" in await reader.run("home-assistant")
    assert 'loop="main"' in await reader.run("metrics")

    # A station of one's own: it is balanced with, and refuses what it must.
    reader.save("my_station.py")
    station = reader.start("my_station")
    # Its status goes out once it has subscribed; its first telemetry may be sooner, and a command then find nobody.
    await hall.until(lambda: hall.status("my-station") and hall.telemetry("my-station", "1"))
    assert '"accepted"' in await reader.run("equalize")
    await hall.until(lambda: abs(hall.power_w("my-station", "1") + 5000.0) < 300.0, what="it takes the load's opposite")
    assert '"sim"' in await reader.run("look at it")
    await hall.until(lambda: "balancing: " in reader.said("watch"))
    watching.terminate()
    await refuses_an_older_server(hall)

    # The equalizer vanishes: the lease ends.
    equalizer.send_signal(signal.SIGKILL)
    await hall.until(lambda: last_result(hall) == SetpointResult.EXPIRED and hall.power_w("my-station", "1") == 0.0)

    # A controller of one's own takes its place, with a higher epoch.
    assert hall.announcement is not None
    epoch = hall.announcement.epoch
    reader.save("my_controller.py")
    controller = reader.start("my_controller")
    await hall.until(lambda: hall.announcement is not None and hall.announcement.server == "my-controller")
    await hall.until(lambda: abs(hall.power_w("my-station", "1") + 5000.0) < 300.0, what="it is led again")
    await hall.until(lambda: hall.balance is not None and abs(hall.balance.total_power_w) < 300.0)
    assert hall.announcement.epoch == epoch + 1
    replies = [json.loads(line) for line in (await reader.run("command")).splitlines()]
    assert [reply["result"] for reply in replies] == ["accepted", "accepted"]
    await hall.until(lambda: hall.power_w("my-station", "1") == 0.0, what="a pause brings it to 0 W")

    # A clean end of both.
    controller.terminate()
    assert await asyncio.to_thread(controller.wait, PATIENCE_S) == 0
    await hall.until(lambda: hall.announcement is not None and hall.announcement.status == "offline")
    station.terminate()
    assert await asyncio.to_thread(station.wait, PATIENCE_S) == 0
    await hall.until(lambda: (status := hall.status("my-station")) is not None and status.status == "offline")
    assert "Traceback" not in reader.said("my_station") + reader.said("my_controller") + reader.said("watch")
    assert reader.done == {name for name, (language, _) in BLOCKS.items() if language != "json"}, (
        "some block was not run"
    )


async def refuses_an_older_server(hall: Hall) -> None:
    """Send what it must refuse, again and again: telemetry tells of the last setpoint only, and others come between."""
    power_w = hall.power_w("my-station", "1")
    echoes = len(hall.telemetries("my-station", "1"))

    def is_refused(reason: SetpointReason, epoch: int, boot_id: str | None = None) -> bool:
        telemetry = hall.telemetry("my-station", "1")
        assert telemetry is not None
        basis = Basis(boot_id=boot_id or telemetry.boot_id, seq=telemetry.seq)
        step = SetpointStep(after_s=0.0, power_w=9000.0)
        old = Setpoint(
            server="old", epoch=epoch, seq=10**6, basis=basis, ttl_s=30.0, steps=(step,), unix_time_s=time.time()
        )
        hall.publish(SETPOINT_TOPIC, old, qos=0)
        said = hall.telemetries("my-station", "1")[echoes:]
        return reason in {one.equalization.last.reason for one in said if one.equalization and one.equalization.last}

    await hall.until(lambda: is_refused(SetpointReason.STALE_EPOCH, 0))
    await hall.until(lambda: is_refused(SetpointReason.STALE_BASIS, 10**6, "another"))
    assert abs(hall.power_w("my-station", "1") - power_w) < 300.0


def last_result(hall: Hall) -> SetpointResult | None:
    telemetry = hall.telemetry("my-station", "1")
    if telemetry is None or telemetry.equalization is None or telemetry.equalization.last is None:
        return None
    return telemetry.equalization.last.result


def test_the_node_red_flow_hangs_together_and_speaks_the_contract() -> None:
    flow = json.loads(BLOCKS["node-red"][1])
    nodes = {node["id"]: node for node in flow}
    assert len(nodes) == len(flow)
    for node in flow:
        assert {target for wire in node.get("wires", []) for target in wire} <= set(nodes)
        if node["type"].startswith("mqtt "):
            assert nodes[node["broker"]]["type"] == "mqtt-broker"
            assert topics.parse(node["topic"]) is not None, node["topic"]
        if node["type"] == "mqtt out":
            assert node["retain"] == "false", "a retained command would be dropped"
    (button,) = (node for node in flow if node["type"] == "inject")
    codec.decode(LoopCommand, button["payload"].replace('"nr-" & $millis()', '"nr-1"').encode())


def test_every_block_that_a_reader_would_run_has_a_name() -> None:
    """But for those that need root or a Grafana, and the snippet of a configuration."""
    unnamed = re.findall(r"(?<!-->\n)```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)
    assert all(language == "toml" or "sudo " in text for language, text in unnamed if text.strip())
