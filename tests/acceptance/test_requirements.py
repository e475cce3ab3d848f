"""What the product is for: one test for each of the nine requirements in the README, on real processes and a broker."""

import asyncio
import json
import time
from itertools import pairwise

import pytest

from schemas import topics
from schemas.messages import ChannelPlan, Phase, Setpoint, SetpointResult, StepType, WorkStatus
from schemas.topics import ChannelTopic
from tests.acceptance.hall import BATTERY, Foreign, Hall, channel, power, rest
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


async def balanced_hall(hall: Hall, **control: float) -> None:
    """Start an equalizer and a station with two equalization channels, and wait until they are steered."""
    hall.equalizer(**control)
    hall.station("eq", [channel("1", equalize=True), channel("2", equalize=True)])
    await hall.until(lambda: hall.balance is not None and hall.balance.equalization_channels == 2)
    await hall.until(lambda: hall.balance.phase is Phase.BALANCING)


def changes(hall: Hall, station: str, name: str) -> list[tuple[float, float]]:
    """Return when each new power was sent to a channel, by the server's clock, and which."""
    sent = [(seen.message.unix_time_s, seen.message.steps[0].power_w) for seen in hall.setpoints(station, name)]
    kept = sent[:1]
    for at_unix_time_s, power_w in sent[1:]:
        if abs(power_w - kept[-1][1]) > 1.0:
            kept.append((at_unix_time_s, power_w))
    return kept


async def test_requirement_1_a_server_controls_over_the_network_on_top_of_existing_systems(
    hall: Hall, foreign: Foreign
) -> None:
    await balanced_hall(hall)
    foreign.set_power(30000.0)
    await hall.until(lambda: abs(hall.total_w()) < 500.0 and hall.balance.load_power_w > 29000.0)
    # The foreign system was only listened to; what was controlled is the equalization channels.
    assert hall.setpoints("foreign", "1") == []
    assert hall.power_w("eq", "1") + hall.power_w("eq", "2") == pytest.approx(-30000.0, abs=500.0)


async def test_requirement_2_the_total_power_of_the_loop_tends_to_zero(hall: Hall) -> None:
    hall.equalizer()
    hall.station("load", [channel("1", power(25000.0, 600.0)), channel("2", power(-9000.0, 600.0))])
    await hall.until(lambda: hall.balance is not None and hall.balance.total_power_w > 15000.0)
    hall.station("eq", [channel("1", equalize=True), channel("2", equalize=True)])
    await hall.until(lambda: abs(hall.total_w()) < 500.0)
    await hall.always(lambda: abs(hall.total_w()) < 800.0, 2.0)
    assert hall.balance.load_power_w == pytest.approx(16000.0, abs=600.0)
    assert hall.balance.energy.avoided_wh > 0.0


async def test_requirement_3_a_delay_of_10_to_20_s_against_shaking(hall: Hall, foreign: Foreign) -> None:
    await balanced_hall(hall, delay_s=10.0, ttl_s=12.0)
    stepped_s = time.time()
    foreign.set_power(20000.0)
    await hall.always(lambda: abs(hall.power_w("eq", "1")) + abs(hall.power_w("eq", "2")) < 100.0, 9.0)
    await hall.until(lambda: abs(hall.total_w()) < 500.0)
    first = min(at_s for name in "12" for at_s, power_w in changes(hall, "eq", name) if abs(power_w) > 100.0)
    assert 9.5 < first - stepped_s < 12.5

    # A load that swings faster than the delay is left alone, whatever its amplitude.
    before = sum(len(changes(hall, "eq", name)) for name in "12")
    for _ in range(3):
        foreign.set_power(35000.0)
        await asyncio.sleep(2.0)
        foreign.set_power(20000.0)
        await asyncio.sleep(2.0)
    assert sum(len(changes(hall, "eq", name)) for name in "12") == before

    for name in "12":
        times = [at_s for at_s, _ in changes(hall, "eq", name)]
        assert all(later - earlier > 9.8 for earlier, later in pairwise(times))


async def test_requirement_4_everything_runs_on_one_computer(hall: Hall) -> None:
    """The other half, several computers in a LAN, is proved in test_computers.py."""
    hall.equalizer()
    hall.station("load", [channel("1", power(12000.0, 600.0))])
    hall.station("eq", [channel("1", equalize=True)])
    await hall.until(lambda: hall.balance is not None and hall.balance.stations_online == 2)
    await hall.until(lambda: abs(hall.total_w()) < 500.0 and hall.power_w("eq", "1") < -11000.0)


async def test_requirement_5_energy_flows_both_ways_and_the_direction_changes_by_itself(
    hall: Hall, foreign: Foreign
) -> None:
    await balanced_hall(hall)
    foreign.set_power(18000.0)
    await hall.until(lambda: hall.balance.equalization_power_w < -17500.0 and abs(hall.total_w()) < 500.0)
    assert min(hall.telemetry("eq", name).current_a for name in "12") < 0.0
    foreign.set_power(-18000.0)
    await hall.until(lambda: hall.balance.equalization_power_w > 17500.0 and abs(hall.total_w()) < 500.0)
    assert max(hall.telemetry("eq", name).current_a for name in "12") > 0.0
    assert hall.balance.energy.import_wh > 0.0
    assert hall.balance.energy.export_wh > 0.0


async def test_requirement_6_every_channel_reaches_the_server_in_real_time(hall: Hall) -> None:
    hall.equalizer()
    await hall.until(lambda: hall.announcement is not None)  # the program begins with the station
    hall.station("load", [channel("1", power(15000.0, 6.0) + ", " + rest(600.0))])
    await hall.until(lambda: hall.telemetry("load", "1") is not None and hall.telemetry("load", "1").power_w > 14500.0)
    working = hall.telemetry("load", "1")
    assert working.work_status is WorkStatus.WORKING
    assert working.step_type is StepType.CP_CHG
    assert working.voltage_v * working.current_a == pytest.approx(working.power_w, rel=0.01)
    assert working.temperature_degc is not None
    assert working.soc_ratio is not None
    await hall.until(lambda: hall.telemetry("load", "1").step_type is StepType.REST)
    # The plan announced the step before the telemetry showed it.
    plans = hall.watcher.heard[topics.channel_topic("main", "load", "1", ChannelTopic.PLAN)]
    shown_s = next(
        seen.at_s
        for seen in hall.watcher.heard[topics.channel_topic("main", "load", "1", ChannelTopic.TELEMETRY)]
        if seen.message.step_type is StepType.REST
    )
    announced = [seen for seen in plans if isinstance(seen.message, ChannelPlan) and len(seen.message.segments) > 1]
    assert announced
    assert announced[0].at_s < shown_s
    await hall.until(lambda: len(hall.telemetries("load", "1")) > 25)
    # The station's own labels: a loaded computer may hand this test several messages at once.
    labels_s = [message.unix_time_s for message in hall.telemetries("load", "1")]
    gaps_s = [later - earlier for earlier, later in pairwise(labels_s)]
    assert sorted(gaps_s)[len(gaps_s) // 2] == pytest.approx(hall.period_s, abs=0.1)
    await hall.until(lambda: hall.balance is not None and hall.balance.channels == 1)


async def test_requirement_7_channels_are_set_as_equalization_channels_and_a_stop_takes_them_out(
    hall: Hall, foreign: Foreign
) -> None:
    hall.equalizer()
    hall.station("eq", [channel("1"), channel("2")])
    await hall.until(lambda: hall.telemetry("eq", "2") is not None)
    foreign.set_power(24000.0)
    for name in "12":
        code, text = await hall.command("equalize", "eq", name)
        assert code == 0, text
    await hall.until(lambda: hall.balance is not None and hall.balance.equalization_channels == 2)
    await hall.until(lambda: abs(hall.total_w()) < 500.0)
    code, text = await hall.command("stop", "eq", "1")
    assert code == 0, text
    await hall.until(lambda: hall.telemetry("eq", "1").equalization is None)
    await hall.until(lambda: abs(hall.power_w("eq", "1")) < 1.0)
    await hall.until(lambda: hall.balance.equalization_channels == 1)
    # The other one takes over, and the stopped one stays out whatever is sent to it.
    await hall.until(lambda: hall.power_w("eq", "2") == pytest.approx(-24000.0, abs=500.0))
    assert abs(hall.power_w("eq", "1")) < 1.0


async def test_requirement_8_an_equalization_channel_runs_the_step_working_condition_simulation(hall: Hall) -> None:
    empty = BATTERY.replace("connected = true", "connected = false")
    # No server at all: the loop is named, so telemetry flows as soon as the broker answers.
    hall.station("eq", [channel("1"), channel("2", battery=empty)], loop="main")
    await hall.until(lambda: hall.telemetry("eq", "1") is not None and hall.telemetry("eq", "2") is not None)
    code, text = await hall.command("equalize", "eq", "1")
    assert code == 0, text
    await hall.until(lambda: hall.telemetry("eq", "1").equalization is not None)
    started = hall.telemetry("eq", "1")
    assert started.step_type is StepType.SIM
    assert started.work_status is WorkStatus.WORKING
    assert started.power_w == pytest.approx(0.0, abs=1.0)

    code, text = await hall.command("equalize", "eq", "2")
    assert code == 1
    assert "battery_not_connected" in text
    assert hall.telemetry("eq", "2").equalization is None

    # A setpoint written from the contract alone is run as a step of that simulation, until it is stopped.
    def setpoint(seq: int, power_w: float) -> bytes:
        basis = hall.telemetry("eq", "1")
        return json.dumps(
            {
                "server": "hand",
                "epoch": 1,
                "seq": seq,
                "basis": {"boot_id": basis.boot_id, "seq": basis.seq},
                "ttl_s": 5.0,
                "steps": [{"after_s": 0.0, "power_w": power_w}],
                "unix_time_s": time.time(),
            }
        ).encode()

    topic = topics.channel_topic("main", "eq", "1", ChannelTopic.SETPOINT)
    hall.session.publish(topic, setpoint(1, 7000.0))
    await hall.until(lambda: hall.power_w("eq", "1") == pytest.approx(7000.0, abs=70.0))
    assert hall.telemetry("eq", "1").equalization.last.result is SetpointResult.APPLIED
    await hall.until(lambda: hall.telemetry("eq", "1").equalization.last.result is SetpointResult.EXPIRED)
    await hall.until(lambda: abs(hall.power_w("eq", "1")) < 1.0)
    assert hall.telemetry("eq", "1").step_type is StepType.SIM
    assert isinstance(hall.setpoints("eq", "1")[0].message, Setpoint)


async def test_requirement_9_a_station_finds_its_server_and_remembers_it(hall: Hall) -> None:
    hall.equalizer()
    await hall.until(lambda: hall.announcement is not None)
    first = hall.station("eq", [channel("1", equalize=True)])
    await hall.until(lambda: hall.status("eq") is not None)
    remembered = hall.folder / "state-eq" / "connection.json"
    await hall.until(remembered.exists)
    cached = json.loads(remembered.read_text())
    assert (cached["host"], cached["port"], cached["loop"]) == ("127.0.0.1", hall.broker.port, "main")
    first.terminate()
    await asyncio.to_thread(first.wait, PATIENCE_S)
    assert first.returncode == 0
    boot_id = hall.status("eq").boot_id
    # The next start has no broker in its configuration: only its memory.
    hall.station("eq", [channel("1", equalize=True)], configured=False)
    await hall.until(lambda: hall.status("eq").boot_id != boot_id and hall.status("eq").status == "online")
    await hall.until(lambda: hall.telemetry("eq", "1").boot_id == hall.status("eq").boot_id)
    await hall.until(lambda: hall.telemetry("eq", "1").equalization is not None)
