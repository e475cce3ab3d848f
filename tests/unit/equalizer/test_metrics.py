"""What Prometheus gets: the issue's names, counters that never fall, a page that promtool accepts."""

import asyncio
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from equalizer.exposition import live_page, metrics_page, ready_page, serve
from equalizer.metrics import Counters, EnergyCounters, EqualizerMetrics, Gauges, Reactions
from schemas.messages import Phase
from schemas.settings import ConfigurationError
from tests.pages import fetched

GAUGES = Gauges(
    phase=Phase.BALANCING,
    connected=True,
    in_charge=True,
    leader_silent_s=None,
    epoch=7,
    total_power_w=812.0,
    load_power_w=20789.0,
    equalization_power_w=-19977.0,
    target_power_w=0.0,
    unknown_power_w=0.0,
    shortfall_w=0.0,
    meter_power_w=801.0,
    stations_online=4,
    channels={"fresh": 31, "stale": 1},
    engage_w=1000.0,
    release_w=300.0,
    headroom_w={"charge": 80e3, "discharge": 40e3},
    regret_ratio=1.4,
    bound_w=900.0,
    ignored={"plan_contradicted": 2},
    decision_log={"written": 3, "lost": 0},
)


def exposition(counters: Counters, gauges: Gauges = GAUGES) -> str:
    unsent = {"dropped": 8, "withheld": 9}
    return EqualizerMetrics("main", counters, lambda: gauges, unsent=lambda: unsent).exposition().decode()


def values(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for label, value in sorted(sample.labels.items()) if label != "loop")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_name_of_the_specification_is_there_with_its_loop() -> None:
    counters = Counters(telemetry=5)
    counters.malformed["not_json"] = 2
    counters.sent["refresh"] = 3
    counters.suppressed["dwell"] = 4
    counters.refused["stale_basis"] = 1
    counters.decisions["announced"] = 6
    counters.residual_j = dict(counters.residual_j) | {"ramp": 12.5}
    text = exposition(counters)
    found = values(text)
    assert found["zeroloop_total_power_watts",] == 812.0
    assert found["zeroloop_load_power_watts",] == 20789.0
    assert found["zeroloop_equalization_power_watts",] == -19977.0
    assert found["zeroloop_unknown_power_watts",] == 0.0
    assert found["zeroloop_shortfall_power_watts",] == 0.0
    assert found["zeroloop_phase", "balancing"] == 1.0
    assert found["zeroloop_phase", "frozen"] == 0.0
    assert found["zeroloop_channels", "stale"] == 1.0
    assert found["zeroloop_telemetry_messages_total",] == 5.0
    assert found["zeroloop_malformed_messages_total", "not_json"] == 2.0
    assert found["zeroloop_unsent_messages_total", "dropped"] == 8.0
    assert found["zeroloop_unsent_messages_total", "withheld"] == 9.0
    assert found["zeroloop_setpoints_sent_total", "change"] == 0.0
    assert found["zeroloop_setpoints_sent_total", "refresh"] == 3.0
    assert found["zeroloop_setpoints_refused_total", "stale_basis"] == 1.0
    assert found["zeroloop_suppressed_changes_total", "dwell"] == 4.0
    assert found["zeroloop_suppressed_changes_total", "confirming"] == 0.0
    assert found["zeroloop_decisions_total", "announced"] == 6.0
    assert found["zeroloop_residual_energy_joules_total", "ramp"] == 12.5
    assert found["zeroloop_engage_power_watts",] == 1000.0
    assert found["zeroloop_release_power_watts",] == 300.0
    assert found["zeroloop_headroom_power_watts", "discharge"] == 40e3
    assert found["zeroloop_regret_ratio",] == 1.4
    assert found["zeroloop_bound_power_watts",] == 900.0
    assert found["zeroloop_ignored_messages_total", "plan_contradicted"] == 2.0
    assert found["zeroloop_decision_log_lines_total", "lost"] == 0.0
    assert {"import", "export", "avoided"} <= {key[1] for key in found if key[0] == "zeroloop_energy_joules_total"}
    own = [line for line in text.splitlines() if line.startswith("zeroloop_")]
    assert all('loop="main"' in line for line in own)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing() -> None:
    counters = Counters()
    counters.suppressed["dwell"] = 1
    counters.reactions.observe(0.002)
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition(counters), capture_output=True, text=True, check=False
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


@given(st.lists(st.floats(min_value=0.0, max_value=10.0)))
def test_the_histogram_counts_every_reaction_once_and_only_rises(reactions_s: list[float]) -> None:
    reactions = Reactions()
    for reaction_s in reactions_s:
        reactions.observe(reaction_s)
    cumulated = [count for _, count in reactions.buckets()]
    assert cumulated == sorted(cumulated)
    assert cumulated[-1] == len(reactions_s)
    for bound, count in reactions.buckets():
        assert count == sum(reaction_s <= float(bound) for reaction_s in reactions_s)


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6)))
def test_energy_counters_never_fall_and_their_difference_is_the_net(avoided_wh: list[float]) -> None:
    counters = EnergyCounters()
    for value_wh in avoided_wh:
        before = (counters.avoided_j, counters.added_j)
        counters.add_wh(import_wh=0.0, export_wh=0.0, avoided_wh=value_wh)
        assert (counters.avoided_j, counters.added_j) >= before
        assert counters.avoided_j >= before[0]
        assert counters.added_j >= before[1]
    assert counters.avoided_j - counters.added_j == pytest.approx(sum(avoided_wh) * 3600.0, rel=1e-6, abs=1.0)


async def test_the_pages_answer_what_holds_now() -> None:
    hindrances: list[str] = ["phase frozen"]
    pages = {
        "/metrics": metrics_page(lambda: b"x 1\n"),
        "/ready": ready_page(lambda: hindrances[0] if hindrances else None, lambda: "ready"),
        "/live": live_page,
    }
    server = await serve("127.0.0.1", 0, pages)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await fetched(port, "/metrics") == (200, "x 1\n")
        assert await fetched(port, "/ready") == (503, "phase frozen\n")
        hindrances.clear()
        assert await fetched(port, "/ready?verbose") == (200, "ready\n")
        assert await fetched(port, "/live") == (200, "live\n")
        assert (await fetched(port, "/else"))[0] == 404


@pytest.mark.parametrize("request_line", [b"nonsense\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n", b"\x00\xff\r\n\r\n"])
async def test_what_is_no_get_is_answered_and_closed(request_line: bytes) -> None:
    server = await serve("127.0.0.1", 0, {"/live": live_page})
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request_line)
        answer = await asyncio.wait_for(reader.read(), 60.0)
        writer.close()
        await writer.wait_closed()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 405"))


async def test_a_taken_port_is_one_clear_line() -> None:
    async with await serve("127.0.0.1", 0, {}) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"metrics\.port: cannot listen on 127\.0\.0\.1:{port}") as caught:
            await serve("127.0.0.1", port, {})
    assert "\n" not in str(caught.value)
