"""What the doctor makes of what it sees: each finding from what causes it, and none in a hall that is well."""

from dataclasses import replace

import pytest

from schemas.codec import encode
from schemas.messages import (
    Alarm,
    AlarmCode,
    ChannelTelemetry,
    ControlSummary,
    EnergyAccount,
    Equalization,
    LoopBalance,
    OnLost,
    Phase,
    Policy,
    Presence,
    ServerAnnouncement,
    SetpointEcho,
    SetpointResult,
    SetpointSummary,
    StationStatus,
    StepType,
    WorkStatus,
)
from schemas.settings import BrokerSettings
from station.connection import Source
from station.discovery import Found
from station.probe import Server
from zeroloop.doctor.ears import Ears
from zeroloop.doctor.findings import Look, OpenFile, Weight, judge
from zeroloop.doctor.trials import QUEUED, Trial

UTC_S = 1795412000.0
STEM = "zeroloop/v1/hall"
CHARGE_W = 5000.0


def announcement(**changed: object) -> ServerAnnouncement:
    said: dict[str, object] = {
        "server": "eq",
        "status": Presence.ONLINE,
        "epoch": 7,
        "phase": Phase.BALANCING,
        "version": "1.0",
        "started_unix_time_s": UTC_S,
        "telemetry_period_s": 1.0,
        "control": ControlSummary(policy=Policy.CONFIRM, delay_s=15.0),
        "setpoint": SetpointSummary(ttl_s=30.0, refresh_s=5.0),
    }
    return ServerAnnouncement.model_validate(said | changed)


def status(**changed: object) -> StationStatus:
    said: dict[str, object] = {
        "status": Presence.ONLINE,
        "boot_id": "b",
        "version": "1.0",
        "driver": "x",
        "channels": ("1",),
        "on_lost": OnLost.ZERO,
        "unix_time_s": UTC_S,
    }
    return StationStatus.model_validate(said | changed)


def telemetry(**changed: object) -> ChannelTelemetry:
    said: dict[str, object] = {
        "boot_id": "b",
        "seq": 1,
        "unix_time_s": UTC_S,
        "work_status": WorkStatus.WORKING,
        "step_type": StepType.CC_CHG,
        "step_id": 1,
        "cycle_count": 1,
        "voltage_v": 350.0,
        "current_a": 14.0,
        "power_w": CHARGE_W,
        "battery_connected": True,
    }
    return ChannelTelemetry.model_validate(said | changed)


def balance(**changed: object) -> LoopBalance:
    said: dict[str, object] = dict.fromkeys(
        (
            "total_power_w",
            "load_power_w",
            "equalization_power_w",
            "target_power_w",
            "charging_power_w",
            "discharging_power_w",
            "unknown_power_w",
            "shortfall_w",
        ),
        0.0,
    )
    said |= {"server": "eq", "epoch": 7, "seq": 1, "unix_time_s": UTC_S, "phase": Phase.BALANCING}
    said |= dict.fromkeys(
        ("stations_online", "channels", "channels_stale", "equalization_channels", "setpoint_changes"), 1
    )
    said["energy"] = EnergyAccount(import_wh=0.0, export_wh=0.0, unbalanced_wh=0.0, avoided_wh=0.0)
    return LoopBalance.model_validate(said | changed)


class HallSeen:
    """A hall that is well, in which things can be put wrong."""

    def __init__(self) -> None:
        self.ears = Ears("hall", 0.0)
        self.look = Look(
            where=" --host broker",
            told=True,
            place=Found(BrokerSettings(), Source.CONFIGURED, (Server("hall", announcement()),)),
            loop="hall",
            loops=("hall",),
            trial=Trial([0.002] * 20, retains=True, queued=QUEUED),
            ears=self.ears,
            listened_s=5.0,
            asked=True,
            reply_s=0.01,
            version="1.0",
        )
        self.hear("server", announcement(), retained=True)
        self.hear("balance", balance())
        self.station("s1")

    def hear(self, topic: str, message: object, *, retained: bool = False, unix_time_s: float = UTC_S) -> None:
        self.ears.take(f"{STEM}/{topic}", encode(message), 1.0, unix_time_s, retained=retained)  # type: ignore[arg-type]

    def station(self, name: str) -> None:
        self.hear(f"station/{name}/status", status(), retained=True)
        self.hear(f"station/{name}/channel/1/telemetry", telemetry(), retained=True)
        self.hear(f"station/{name}/channel/1/telemetry", telemetry(seq=2))

    def codes(self, *, notes: bool = False) -> set[str]:
        return {finding.code for finding in judge(self.look) if notes or finding.weight is not Weight.NOTE}


def test_a_hall_that_is_well_has_no_finding() -> None:
    hall = HallSeen()
    assert hall.codes(notes=True) == set()
    assert hall.ears.ghosts() == []


@pytest.mark.parametrize(("announced", "codes"), [(False, {"no_dns_sd"}), (True, set())])
def test_a_broker_that_is_remembered_may_be_announced_all_the_same(announced: bool, codes: set[str]) -> None:
    hall = HallSeen()
    hall.look.told = False
    assert hall.look.place is not None
    hall.look.place = replace(hall.look.place, source=Source.CACHED, announced=announced)
    hall.look.found = (hall.look.place,)
    assert hall.codes(notes=True) == codes


def test_a_broker_that_does_not_answer_is_the_only_finding_with_its_reason() -> None:
    gone = Found(BrokerSettings(host="b"), Source.CONFIGURED, (), "b:1883: connection refused")
    (finding,) = judge(Look(where="", told=True, found=(gone,)))
    assert finding.code == "no_broker"
    assert finding.text == "no broker answers: b:1883 (configured): connection refused"


@pytest.mark.parametrize(
    ("trial", "code"),
    [
        (Trial([0.4] * 20, retains=True, queued=QUEUED), "slow_broker"),
        (Trial([0.001] * 20, retains=False, queued=QUEUED), "nothing_retained"),
        (Trial([0.001] * 20, retains=True, queued=1020), "short_queue"),
        (Trial(may_write=False), "not_tried"),
    ],
)
def test_a_broker_that_serves_badly_is_named(trial: Trial, code: str) -> None:
    hall = HallSeen()
    hall.look.trial = trial
    assert hall.codes() == {code}


def test_a_viewer_who_may_write_nothing_is_no_fault() -> None:
    hall = HallSeen()
    hall.look.trial, hall.look.role, hall.look.reply_s = Trial(may_write=False), "dashboard", None
    assert hall.codes() == set()
    assert hall.codes(notes=True) == {"not_tried", "no_reply"}


def test_a_server_that_is_gone_silent_or_deaf_is_told_apart() -> None:
    hall = HallSeen()
    hall.hear("server", announcement(status=Presence.OFFLINE))
    assert hall.codes() == {"server_offline"}
    hall = HallSeen()
    hall.ears.balances = 0
    assert hall.codes() == {"server_silent"}
    hall = HallSeen()
    hall.look.reply_s = None
    assert hall.codes() == {"no_reply"}


def test_two_servers_and_an_epoch_from_the_past_are_seen() -> None:
    hall = HallSeen()
    hall.hear("balance", balance(server="other", epoch=9))
    assert hall.codes() == {"two_servers"}
    hall = HallSeen()
    last = SetpointEcho(server="eq", epoch=9, seq=1, result=SetpointResult.APPLIED)
    state = Equalization(charge_limit_w=1.0, discharge_limit_w=1.0, ramp_w_per_s=1.0, applied_w=0.0, last=last)
    hall.hear("station/s1/channel/1/telemetry", telemetry(equalization=state))
    assert hall.codes() == {"old_epoch"}


def test_a_station_that_is_silent_differs_from_one_that_is_offline() -> None:
    hall = HallSeen()
    hall.hear("station/s2/status", status(), retained=True)
    hall.hear("station/s2/channel/1/telemetry", telemetry(), retained=True)
    assert hall.codes(notes=True) == {"station_silent"}
    assert hall.ears.ghosts() == []  # it says that it is online: purge keeps its hands off

    hall.hear("station/s2/status", status(status=Presence.OFFLINE), retained=True)
    assert hall.codes(notes=True) == {"station_offline", "ghosts"}
    assert hall.codes() == set()
    assert [ghost.topic for ghost in hall.ears.ghosts()] == [
        f"{STEM}/station/s2/channel/1/telemetry",
        f"{STEM}/station/s2/status",
    ]

    hall.hear("station/s2/status", status(status=Presence.OFFLINE, on_lost=OnLost.CONTINUE), retained=True)
    assert hall.codes() == {"lost_power"}


def test_a_late_will_is_a_fault_and_nothing_of_its_station_is_a_ghost() -> None:
    hall = HallSeen()
    hall.hear("station/s1/status", status(status=Presence.OFFLINE))
    assert hall.codes() == {"late_will"}
    assert hall.ears.ghosts() == []


def test_what_is_kept_of_nobody_is_a_ghost() -> None:
    hall = HallSeen()
    hall.hear("station/never/channel/1/telemetry", telemetry(), retained=True)
    hall.hear("station/s1/channel/removed/telemetry", telemetry(), retained=True)
    hall.ears.take(f"{STEM}/station/s1/channel/1/command", b'{"id":"1","action":"stop"}', 1.0, UTC_S, retained=True)
    assert {ghost.topic.removeprefix(f"{STEM}/station/") for ghost in hall.ears.ghosts()} == {
        "never/channel/1/telemetry",
        "s1/channel/removed/telemetry",
        "s1/channel/1/command",
    }
    assert hall.codes() == {"ghosts"}


def test_clocks_versions_namesakes_alarms_and_malformed_messages_are_seen() -> None:
    hall = HallSeen()
    hall.station("s2")
    hall.hear("station/s2/status", status(version="0.9"))
    hall.hear("station/s2/channel/1/telemetry", telemetry(boot_id="another"))
    hall.hear("station/s1/channel/1/telemetry", telemetry(alarm=Alarm(code=AlarmCode.OVER_VOLTAGE, text="421 V")))
    hall.hear("station/s3/status", status(), retained=True)
    hall.hear("station/s3/channel/1/telemetry", telemetry(unix_time_s=UTC_S - 60.0))
    hall.ears.take(f"{STEM}/station/s1/channel/1/telemetry", b"{}", 1.0, UTC_S, retained=False)
    assert hall.codes() == {"version_differs", "station_twice", "alarm", "clock_off", "malformed"}


def test_a_secret_that_others_may_read_is_a_fault_with_its_command() -> None:
    hall = HallSeen()
    hall.look.open_files.append(OpenFile("/etc/key.pem", 0o644))
    (finding,) = judge(hall.look)
    assert (finding.code, finding.weight, finding.remedy) == ("secret_open", Weight.FAULT, "chmod 600 /etc/key.pem")
