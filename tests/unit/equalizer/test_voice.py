"""Events are said once, and not too many at a time; alarms always."""

import json
from dataclasses import dataclass, field
from typing import cast

from equalizer.config import DashboardSection, EqualizerSettings
from equalizer.voice import Voice
from schemas.codec import decode
from schemas.messages import ServerAnnouncement, Severity
from transport.session import Session


@dataclass
class Recorder:
    """Stands in for the session."""

    events: list[dict[str, object]] = field(default_factory=list)

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        assert (topic, qos, retain) == ("zeroloop/v1/main/event", 1, False)
        self.events.append(json.loads(payload))


class Bench:
    """A voice with a clock that stands where it is put."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.recorder = Recorder()
        self.voice = Voice(
            EqualizerSettings(),
            version="1",
            started_unix_time_s=0.0,
            metrics_url=None,
            clock=lambda: self.now_s,
            utc=lambda: 0.0,
        )
        self.voice.session = cast("Session", self.recorder)


def test_the_announcement_says_where_the_page_is() -> None:
    assert announced(DashboardSection()) is None
    assert announced(DashboardSection(url="http://10.0.0.5:8465/")) == "http://10.0.0.5:8465/"


def announced(dashboard: DashboardSection) -> str | None:
    settings = EqualizerSettings(dashboard=dashboard)
    voice = Voice(
        settings,
        version="1",
        started_unix_time_s=0.0,
        metrics_url=None,
        clock=lambda: 0.0,
        utc=lambda: 0.0,
    )
    return decode(ServerAnnouncement, voice.will(1).payload).dashboard_url


def test_the_same_event_of_the_same_source_is_said_once_in_ten_seconds() -> None:
    bench = Bench()
    for _ in range(5):
        bench.voice.event("saturated", "no headroom", Severity.WARNING)
        bench.voice.event("station_offline", "gone", Severity.WARNING, about="station/a")
        bench.voice.event("station_offline", "gone", Severity.WARNING, about="station/b")
    assert [event["source"] for event in bench.recorder.events] == ["server/equalizer", "station/a", "station/b"]
    bench.now_s = 10.0
    bench.voice.event("saturated", "no headroom", Severity.WARNING)
    assert len(bench.recorder.events) == 4


def test_a_hall_that_goes_dark_is_said_in_part_but_an_alarm_always() -> None:
    bench = Bench()
    for number in range(4000):
        bench.voice.event("station_offline", "gone", Severity.WARNING, about=f"station/{number}")
    assert len(bench.recorder.events) == 100
    assert bench.voice.events_withheld == 3900
    bench.voice.event("server_conflict", "another server", Severity.ALARM)
    assert bench.recorder.events[-1]["code"] == "server_conflict"
