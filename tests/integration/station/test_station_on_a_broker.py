"""A whole station on a real Mosquitto: what it says, what it obeys, and how it leaves."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from broker.run import RunningBroker, start
from station.drivers.protocol import ConstantPower, DeviceFaultError, Off, TransientDriverError
from station.errors import DuplicateStationError, StateFolderError
from tests.integration.station.conftest import ANNOUNCEMENT
from tests.patience import PATIENCE_S, until
from tests.ports import free_port

pytestmark = pytest.mark.broker

Listen = Callable[[], AbstractAsyncContextManager[Any]]
StartStation = Callable[..., AbstractAsyncContextManager[Any]]

STATUS = "station/s1/status"
FIRST = "station/s1/channel/1"
PROGRAM = """program = [
  { step = "cc_chg", current_a = 10.0, until = { time_s = 3.0 } },
  { step = "rest", until = { time_s = 600.0 } },
]"""


def setpoint(telemetry: dict[str, Any], power_w: float, **other: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """A setpoint that rests on a telemetry."""
    basis = {"boot_id": telemetry["boot_id"], "seq": telemetry["seq"]}
    body = {"server": "hall-a", "epoch": 7, "seq": 1, "basis": basis, "ttl_s": 30.0, "unix_time_s": 0.0}
    return body | {"steps": [{"after_s": 0.0, "power_w": power_w}]} | other


def equalizing(telemetry: dict[str, Any]) -> bool:
    return telemetry["equalization"] is not None


def echoed(seq: int, result: str = "applied") -> Callable[[dict[str, Any]], bool]:
    def matches(telemetry: dict[str, Any]) -> bool:
        last = (telemetry["equalization"] or {}).get("last")
        return last is not None and last["seq"] == seq and last["result"] == result

    return matches


def gaps_s(heard: list[Any]) -> list[float]:
    """Return what lies between messages, by the station's own clock: on their way, several may be held up."""
    return [b.body["unix_time_s"] - a.body["unix_time_s"] for a, b in pairwise(heard)]


def remembered(tmp_path: Path) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "state" / "channels.json").read_text())["channels"])


async def test_a_station_says_who_it_is_and_every_channel_speaks_in_every_period(
    start_station: StartStation, listen: Listen
) -> None:
    async with listen() as witness, start_station(channels=3, boot_id="9f2c61d0"):
        await witness.hear(STATUS)
        for channel in "123":
            await witness.hear(f"channel/{channel}/telemetry", lambda body: body["seq"] == 11)
    status = witness.of(STATUS)[0].body
    assert (status["status"], status["boot_id"], status["channels"]) == ("online", "9f2c61d0", ["1", "2", "3"])
    for channel in "123":
        seqs = [one.body["seq"] for one in witness.of(f"channel/{channel}/telemetry")]
        assert seqs == list(range(1, len(seqs) + 1))
        assert median(gaps_s(witness.of(f"channel/{channel}/telemetry"))) == pytest.approx(0.2, abs=0.05)


async def test_status_and_telemetry_wait_retained_for_whoever_comes_later(
    start_station: StartStation, listen: Listen
) -> None:
    async with listen() as witness, start_station():
        await witness.hear(STATUS)
        await witness.hear(f"{FIRST}/plan")
        await witness.hear(f"{FIRST}/telemetry")
        async with listen() as late:
            telemetry = await late.hear(f"{FIRST}/telemetry")
            status = await late.hear(STATUS)
        assert telemetry.retained
        assert status.retained
        assert not [one for one in late.heard if one.topic.endswith("/plan") and one.retained]


async def test_with_retain_every_s_one_message_in_that_time_is_retained(
    start_station: StartStation, listen: Listen, broker: RunningBroker
) -> None:
    del broker
    tables = "[telemetry]\nperiod_s = 0.1\nretain_every_s = 30.0"
    async with start_station(tables=tables), listen() as witness:
        newer = await witness.hear(f"{FIRST}/telemetry", lambda body: body["seq"] > 8)
        async with listen() as late:
            waiting = await late.hear(f"{FIRST}/telemetry")
    assert waiting.retained
    assert waiting.body["seq"] < newer.body["seq"]


async def test_a_server_that_comes_later_hears_of_a_step_that_began_before_it(
    start_station: StartStation, listen: Listen
) -> None:
    program = PROGRAM.replace("time_s = 3.0", "time_s = 60.0")
    async with listen() as witness, start_station(more=program):
        first = await witness.hear(f"{FIRST}/plan", lambda body: body["segments"][0]["power_w"] > 0.0)
        await asyncio.sleep(1.5)
        mark = len(witness.heard)
        witness.say("server", ANNOUNCEMENT, retain=True)
        anew = await witness.hear(f"{FIRST}/plan", since=mark)
    ends_s = [one.body["segments"][1]["after_s"] for one in (first, anew)]
    passed_s = anew.body["unix_time_s"] - first.body["unix_time_s"]
    assert ends_s[0] - ends_s[1] == pytest.approx(passed_s, abs=0.5), "counted from when it is sent"


async def test_a_new_step_is_planned_before_its_telemetry_and_told_at_once(
    start_station: StartStation, listen: Listen
) -> None:
    async with (
        listen() as witness,
        start_station(more=PROGRAM, tables="[telemetry]\nperiod_s = 2.0"),
    ):
        await witness.hear(f"{FIRST}/telemetry", lambda body: body["step_type"] == "cc_chg")
        await witness.hear(f"{FIRST}/telemetry", lambda body: body["step_type"] == "rest")
    order = [one.topic.rpartition("/")[2] for one in witness.heard if one.topic.startswith(f"zeroloop/v1/main/{FIRST}")]
    told = next(
        n
        for n, one in enumerate(one for one in witness.heard if one.topic.startswith(f"zeroloop/v1/main/{FIRST}"))
        if one.topic.endswith("telemetry") and one.body["step_type"] == "rest"
    )
    assert order[told - 1] == "plan"


async def test_a_setpoint_acts_at_receipt_and_its_echo_comes_after_it_is_stored(
    start_station: StartStation, listen: Listen, tmp_path: Path
) -> None:
    async with listen() as witness, start_station(ramp_w_per_s=1e9) as station:
        await witness.hear(f"{FIRST}/telemetry")
        witness.say(f"{FIRST}/command", {"id": "c1", "action": "equalize", "by": "test"})
        reply = await witness.hear(f"{FIRST}/reply")
        assert (reply.body["id"], reply.body["result"]) == ("c1", "accepted")
        assert remembered(tmp_path)["1"]["equalizing"] is True
        telemetry = await witness.hear(f"{FIRST}/telemetry", equalizing)
        late_s = []
        for seq in range(1, 10):
            power_w = -20000.0 - seq
            witness.say(f"{FIRST}/setpoint", setpoint(telemetry.body, power_w, seq=seq), qos=0)
            telemetry = await witness.hear(f"{FIRST}/telemetry", echoed(seq))
            assert remembered(tmp_path)["1"] == {"equalizing": True, "epoch": 7, "server": "hall-a", "alarm": None}
            assert telemetry.body["equalization"]["last"]["expires_in_s"] > 15.0
            acted_s = next(at_s for at_s, demand in station.driver.demands["1"] if demand == ConstantPower(power_w))
            # The witness, in the same process, gets it from the broker with the station.
            late_s.append(acted_s - witness.of(f"{FIRST}/setpoint")[-1].at_s)
    assert median(late_s) < 0.02, "it waited for its next tick"


async def test_a_repeated_command_gets_the_same_reply_and_an_unknown_one_a_refusal(
    start_station: StartStation, listen: Listen
) -> None:
    async with listen() as witness, start_station():
        await witness.hear(f"{FIRST}/telemetry")
        for body in (
            {"id": "c1", "action": "equalize"},
            {"id": "c1", "action": "equalize"},
            {"id": "c2", "action": "x"},
        ):
            witness.say(f"{FIRST}/command", body)
        await until(lambda: len(witness.of(f"{FIRST}/reply")) == 3)
    first, again, unknown = sorted((one.body for one in witness.of(f"{FIRST}/reply")), key=lambda body: body["id"])
    assert first == again
    assert (unknown["result"], unknown["reason"]) == ("rejected", "unknown_action")


async def test_what_arrives_retained_is_dropped_and_counted(start_station: StartStation, listen: Listen) -> None:
    async with listen() as witness:
        witness.say(f"{FIRST}/command", {"id": "old", "action": "equalize"}, retain=True)
        telemetry = {"boot_id": "9f2c61d0", "seq": 1}
        witness.say(f"{FIRST}/setpoint", setpoint(telemetry, 5000.0), retain=True)
        await witness.session.flush(PATIENCE_S)
        async with start_station(boot_id="9f2c61d0") as station:
            await witness.hear(f"{FIRST}/telemetry", lambda body: body["seq"] > 5)
            await until(lambda: station.service.tally.malformed == {"unexpected_retain": 2})
    assert not witness.of(f"{FIRST}/reply")


async def test_what_is_malformed_is_counted_logged_once_and_answered_where_it_has_an_id(
    start_station: StartStation, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    async with listen() as witness, start_station() as station:
        await witness.hear(f"{FIRST}/telemetry")
        with caplog.at_level(logging.WARNING):
            for payload in (b"{", b'{"power_w": NaN}', b'{"server": 1}'):
                witness.say(f"{FIRST}/setpoint", payload)
            witness.say(f"{FIRST}/command", b"\xff\xfe")
            witness.say(f"{FIRST}/command", {"id": "half"})
            witness.say("station/s1/channel/99/command", {"id": "c9", "action": "stop"})
            reply = await witness.hear(f"{FIRST}/reply")
        assert (reply.body["id"], reply.body["reason"]) == ("half", "malformed")
        await until(lambda: station.service.tally.malformed == {"not_json": 2, "wrong_type": 1, "missing_key": 2})
        assert not station.task.done()
    assert sum("message_dropped" in line and "/setpoint" in line for line in caplog.messages) == 1


async def test_a_late_will_is_corrected(start_station: StartStation, listen: Listen) -> None:
    async with listen() as witness, start_station(boot_id="9f2c61d0"):
        status = await witness.hear(STATUS)
        await witness.hear(f"{FIRST}/telemetry")
        mark = len(witness.heard)
        witness.say(STATUS, status.body | {"status": "offline", "boot_id": "0ld"}, retain=True)
        await witness.hear(STATUS, lambda body: body["status"] == "online", since=mark)
        async with listen() as late:
            assert (await late.hear(STATUS)).body["status"] == "online"


async def test_a_clean_stop_ramps_to_zero_says_so_and_keeps_the_mode(
    start_station: StartStation, listen: Listen, tmp_path: Path
) -> None:
    async with listen() as witness:
        async with start_station(ramp_w_per_s=10000.0) as station:
            await witness.hear(f"{FIRST}/telemetry")
            witness.say(f"{FIRST}/command", {"id": "c1", "action": "equalize"})
            telemetry = await witness.hear(f"{FIRST}/telemetry", equalizing)
            witness.say(f"{FIRST}/setpoint", setpoint(telemetry.body, 10000.0), qos=0)
            await witness.hear(f"{FIRST}/telemetry", lambda body: body["power_w"] == 10000.0)
            await station.end()
            demands = [(at_s, demand.power_w) for at_s, demand in station.driver.demands["1"] if demand != Off()]
            assert not station.driver.is_open
        await witness.hear(STATUS, lambda body: body["status"] == "offline")
    falling = demands[[power_w for _, power_w in demands].index(10000.0) :]
    assert [power_w for _, power_w in falling] == sorted((power_w for _, power_w in falling), reverse=True)
    assert len(falling) > 3
    steps = [(was_w - is_w, to_s - from_s) for (from_s, was_w), (to_s, is_w) in pairwise(falling)]
    assert max(step_w for step_w, _ in steps) <= 0.5 * 10000.0, "after a hold-up no more than half a second of the ramp"
    assert median(step_w / took_s for step_w, took_s in steps) < 1.5 * 10000.0
    last_telemetry, last_status = witness.of(f"{FIRST}/telemetry")[-1], witness.of(STATUS)[-1]
    assert last_telemetry.body["power_w"] == 0.0
    assert last_status.body["status"] == "offline"
    assert witness.heard.index(last_telemetry) < witness.heard.index(last_status)
    assert sum(one.body["status"] == "offline" for one in witness.of(STATUS)) == 1
    assert remembered(tmp_path)["1"]["equalizing"] is True


async def test_the_mode_and_the_epoch_survive_a_restart_which_begins_at_zero(
    start_station: StartStation, listen: Listen
) -> None:
    async with listen() as witness:
        async with start_station() as station:
            await witness.hear(f"{FIRST}/telemetry")
            witness.say(f"{FIRST}/command", {"id": "c1", "action": "equalize"})
            telemetry = await witness.hear(f"{FIRST}/telemetry", equalizing)
            witness.say(f"{FIRST}/setpoint", setpoint(telemetry.body, 9000.0), qos=0)
            await witness.hear(f"{FIRST}/telemetry", echoed(1))
            await station.end()
        async with start_station(boot_id="second") as station:
            telemetry = await witness.hear(f"{FIRST}/telemetry", lambda body: body["boot_id"] == "second")
            assert equalizing(telemetry.body)
            assert telemetry.body["power_w"] == 0.0
            witness.say(f"{FIRST}/setpoint", setpoint(telemetry.body, 9000.0, epoch=6), qos=0)
            echo = await witness.hear(f"{FIRST}/telemetry", echoed(1, "rejected"))
            assert echo.body["equalization"]["last"]["reason"] == "stale_epoch"
            assert station.service.tally.setpoints == {"stale_epoch": 1}


async def test_an_operators_stop_forgets_the_mode(start_station: StartStation, listen: Listen, tmp_path: Path) -> None:
    async with listen() as witness, start_station(more="equalize = true"):
        await witness.hear(f"{FIRST}/telemetry", equalizing)
        witness.say(f"{FIRST}/command", {"id": "c1", "action": "stop"})
        await witness.hear(f"{FIRST}/reply")
        assert remembered(tmp_path)["1"]["equalizing"] is False


async def test_a_second_station_of_the_same_id_refuses_to_start_and_the_first_goes_on(
    start_station: StartStation, listen: Listen
) -> None:
    async with listen() as witness, start_station(boot_id="first") as first:
        await witness.hear(f"{FIRST}/telemetry")
        async with start_station(boot_id="second", folder="elsewhere") as second:
            with pytest.raises(DuplicateStationError, match=r"'s1' is running already in loop main \(boot first"):
                await asyncio.wait_for(second.task, PATIENCE_S)
            assert not second.driver.is_open
        assert not first.task.done()
        mark = len(witness.heard)
        await witness.hear(f"{FIRST}/telemetry", since=mark)
    assert {one.body["boot_id"] for one in witness.of(STATUS)} == {"first"}


async def test_a_second_process_on_the_state_folder_never_touches_the_equipment(
    start_station: StartStation,
) -> None:
    async with start_station() as first:
        await until(lambda: first.driver.is_open)
        async with start_station() as second:
            with pytest.raises(DuplicateStationError, match=r"state_dir: another station works with the folder"):
                await asyncio.wait_for(second.task, PATIENCE_S)
            assert second.driver.calls == []
        assert not first.task.done()


async def test_a_state_folder_that_cannot_be_written_to_ends_the_start_before_the_equipment_is_touched(
    start_station: StartStation, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file is in the way")
    async with start_station() as station:
        with pytest.raises(StateFolderError, match=r"state_dir: .*/state cannot be written to: ") as caught:
            await asyncio.wait_for(station.task, PATIENCE_S)
        assert station.driver.calls == []
    assert "\n" not in str(caught.value)


async def test_the_status_of_a_crashed_station_does_not_keep_its_successor_out(
    start_station: StartStation, listen: Listen
) -> None:
    async with listen() as witness:
        crashed = {"status": "online", "boot_id": "0ld", "version": "1", "driver": "x", "channels": ["1"]}
        witness.say(STATUS, crashed | {"on_lost": "continue", "unix_time_s": 0.0}, retain=True)
        await witness.session.flush(PATIENCE_S)
        async with start_station(boot_id="new"):
            await witness.hear(STATUS, lambda body: body["boot_id"] == "new")


async def test_a_station_that_vanishes_leaves_its_will(start_station: StartStation, listen: Listen) -> None:
    async with listen() as witness, start_station(boot_id="9f2c61d0") as station:
        await witness.hear(f"{FIRST}/telemetry")
        mark = len(witness.heard)
        station.service._link._session._drop("the cable was pulled")
        will = await witness.hear(STATUS, lambda body: body["status"] == "offline", since=mark)
        assert will.body["boot_id"] == "9f2c61d0"
        await witness.hear(STATUS, lambda body: body["status"] == "online", since=witness.heard.index(will))


async def test_after_the_brokers_death_everything_is_published_anew(
    start_station: StartStation, listen: Listen, broker: RunningBroker, tmp_path: Path
) -> None:
    async with start_station(channels=2, tables="[telemetry]\nperiod_s = 5.0") as station:
        async with listen() as witness:
            await witness.hear("channel/2/telemetry")
        broker.kill()
        await asyncio.sleep(0.5)
        assert not station.task.done()
        with await asyncio.to_thread(start, "mosquitto", port=broker.port, data_dir=tmp_path / "empty"):
            async with listen() as witness:
                for leaf in (STATUS, "channel/1/telemetry", "channel/2/telemetry"):
                    await witness.hear(leaf)


async def test_a_station_without_a_broker_runs_its_program_and_ends_when_told(
    start_station: StartStation, broker: RunningBroker
) -> None:
    broker.kill()
    async with start_station(more=PROGRAM) as station:
        await until(lambda: any(demand != Off() for _, demand in station.driver.demands["1"]))
        await asyncio.wait_for(station.end(), PATIENCE_S)


async def test_equipment_that_fails_trips_its_channel_and_no_other(
    start_station: StartStation, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    async with listen() as witness, start_station(channels=3) as station:
        await witness.hear("channel/3/telemetry")
        station.driver.failures["1"] = DeviceFaultError("fuse blown")
        station.driver.failures["2"] = ZeroDivisionError("a defect")
        for channel in "12":
            tripped = await witness.hear(f"channel/{channel}/telemetry", lambda body: body["work_status"] == "protect")
            assert tripped.body["alarm"]["code"] == "device_fault"
        await witness.hear("event", lambda body: body["source"] == "station/s1/channel/1")
        mark = len(witness.heard)
        healthy = await witness.hear("channel/3/telemetry", since=mark)
        assert healthy.body["alarm"] is None
        witness.say("station/s1/channel/2/command", {"id": "c", "action": "clear_alarm"})
        await witness.hear("channel/2/telemetry", lambda body: body["work_status"] == "idle", since=mark)
    assert sum("driver_defect" in line for line in caplog.messages) == 1


async def test_a_bus_that_stumbles_is_no_alarm(start_station: StartStation, listen: Listen) -> None:
    async with listen() as witness, start_station() as station:
        await witness.hear(f"{FIRST}/telemetry")
        station.driver.failures["1"] = TransientDriverError("no answer")
        await until(lambda: station.service.tally.driver_errors["transient"] >= 3)
        del station.driver.failures["1"]
        mark = len(witness.heard)
        telemetry = await witness.hear(f"{FIRST}/telemetry", since=mark)
        assert telemetry.body["alarm"] is None


async def test_a_damaged_memory_starts_safe_is_told_and_kept_aside(
    start_station: StartStation, listen: Listen, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "channels.json").write_bytes(b'{"channels": {"1": {"equali')
    async with listen() as witness, start_station():
        event = await witness.hear("event", lambda body: body["code"] == "state_lost")
        telemetry = await witness.hear(f"{FIRST}/telemetry")
    assert event.body["source"] == "station/s1"
    assert not equalizing(telemetry.body)
    assert (tmp_path / "state" / "channels.json.damaged-1").read_bytes() == b'{"channels": {"1": {"equali'


async def test_a_differing_telemetry_period_is_logged_and_kept(
    start_station: StartStation, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # whatever a test before has left
    async with listen() as witness, start_station() as station:
        await witness.hear(f"{FIRST}/telemetry")
        witness.say("server", ANNOUNCEMENT, retain=True)
        witness.say("server", ANNOUNCEMENT, retain=True)
        await witness.hear("server")
        await until(lambda: station.service._link.server_online)
        await witness.hear(f"{FIRST}/telemetry", since=len(witness.heard))
    assert sum("telemetry_period_differs own_s=0.2 server_s=1" in line for line in caplog.messages) == 1


async def test_the_metrics_are_served_while_the_station_runs(
    start_station: StartStation, listen: Listen, promtool: Callable[[str], str]
) -> None:
    port = free_port()
    tables = f"[telemetry]\nperiod_s = 0.2\n[metrics]\nport = {port}"
    async with listen() as witness, start_station(channels=2, tables=tables, more=PROGRAM):
        await witness.hear("channel/2/telemetry")
        witness.say(f"{FIRST}/setpoint", b"{", qos=0)
        witness.say(f"{FIRST}/command", {"id": "c", "action": "stop"})
        await witness.hear(f"{FIRST}/reply")
        text = await _fetch(port)
    with pytest.raises(OSError, match=str(port)):
        await _fetch(port)
    assert 'zeroloop_station_connected{loop="main",station="s1"} 1.0' in text
    assert 'zeroloop_station_channel_voltage_volts{channel="1",loop="main",station="s1"} 400.0' in text
    assert 'zeroloop_station_malformed_messages_total{loop="main",reason="not_json",station="s1"} 1.0' in text
    assert 'zeroloop_station_commands_total{loop="main",result="accepted",station="s1"} 1.0' in text
    assert 'zeroloop_station_unsent_messages_total{loop="main",station="s1"}' in text
    assert promtool(text) == ""


async def _fetch(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\nAccept: text/plain\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer.partition("\r\n\r\n")[2]


async def test_256_channels_hold_their_period_on_one_core(start_station: StartStation, listen: Listen) -> None:
    async with listen() as witness, start_station(channels=256, tables="[telemetry]\nperiod_s = 1.0"):
        await witness.hear("channel/256/telemetry")
        mark, used_s = len(witness.heard), time.process_time()

        def rounds() -> list[list[Any]]:
            """Return what each channel has said since the mark, as far as all have."""
            by_channel: dict[str, list[Any]] = {}
            for one in witness.of("/telemetry", since=mark):
                by_channel.setdefault(one.topic, []).append(one)
            said = min(map(len, by_channel.values())) if len(by_channel) == 256 else 0
            return [heard[:said] for heard in by_channel.values()]

        def is_held() -> bool:
            """Whether the newest six were said in the period; on a computer that has more to do, a while may not be."""
            newest = [gaps_s(heard[-7:]) for heard in rounds()]
            gaps = [gap_s for one in newest for gap_s in one]
            return (
                len(gaps) == 256 * 6 and median(gaps) == pytest.approx(1.0, abs=0.05) and max(map(median, newest)) < 1.5
            )

        async with asyncio.timeout(4.0 * PATIENCE_S):
            while not is_held():
                await asyncio.sleep(1.0)
        load = (time.process_time() - used_s) / len(rounds()[0])
    assert load < 0.8, "the witness that hears all of it runs in the same process"
