"""What a live view knows and shows, from the messages alone; the time is the test's."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from schemas.codec import encode
from schemas.examples import EXAMPLES
from schemas.messages import PAYLOADS, Event, Message, Presence, Severity, StationStatus
from schemas.topics import ChannelTopic, LoopTopic, channel_topic, loop_topic, status_topic
from zeroloop.demo.summary import summarize
from zeroloop.figures import energy, plain, power, share, sparkline
from zeroloop.hall import HISTORY_S, Hall, Residual
from zeroloop.view import Picture, lines


def example(name: str, number: int = 0, **changes: object) -> Message:
    text = json.dumps(json.loads(EXAMPLES[name][number]) | changes)
    return PAYLOADS[name].model_validate_json(text)


class Wire:
    """Hands messages to a hall as a broker would."""

    def __init__(self) -> None:
        self.hall = Hall("main")
        self.now_s = 100.0

    def balance(self, *, retained: bool = False, **changes: object) -> None:
        self._send(loop_topic("main", LoopTopic.BALANCE), example("LoopBalance", **changes), retained=retained)

    def telemetry(self, channel: str, number: int = 0, *, retained: bool = False, **changes: object) -> None:
        topic = channel_topic("main", "s1", channel, ChannelTopic.TELEMETRY)
        self._send(topic, example("ChannelTelemetry", number, **changes), retained=retained)

    def status(self, presence: Presence) -> None:
        status = StationStatus(
            status=presence, boot_id="b", version="1", driver="simulated", channels=("1",), unix_time_s=0.0
        )
        self._send(status_topic("main", "s1"), status, retained=True)

    def event(self, text: str) -> None:
        event = Event(unix_time_s=0.0, source="here", severity=Severity.WARNING, code="c", text=text)
        self._send(loop_topic("main", LoopTopic.EVENT), event, retained=False)

    def garbage(self) -> None:
        self.hall.take(loop_topic("main", LoopTopic.BALANCE), b"{", self.now_s, retained=False)

    def _send(self, topic: str, message: Message, *, retained: bool) -> None:
        self.hall.take(topic, encode(message), self.now_s, retained=retained)


def drawn(wire: Wire, *, width: int = 120, height: int = 40) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    console.print(Picture(wire.hall, wire.now_s, title="zeroloop", notes=("a note",)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_the_broker_remembers_is_shown_but_is_no_history() -> None:
    wire = Wire()
    wire.balance(retained=True)
    assert wire.hall.balance is not None
    assert list(wire.hall.history) == []
    assert "the equalizer is silent now" in next(lines(wire.hall))


def test_the_history_holds_the_residual_with_and_without_balancing() -> None:
    wire = Wire()
    wire.balance()
    assert list(wire.hall.history) == [Residual(with_w=812.0, without_w=20789.0)]


def test_the_history_begins_once_the_equalizer_knows_the_whole_loop() -> None:
    wire = Wire()
    wire.balance(phase="starting")
    assert list(wire.hall.history) == []
    wire.balance(phase="frozen")
    assert len(wire.hall.history) == 1


def test_the_worst_gap_is_that_of_one_sender_not_between_two() -> None:
    wire = Wire()
    wire.telemetry("1", retained=True)
    wire.now_s += 50.0
    wire.telemetry("1")
    wire.now_s += 1.0
    wire.telemetry("1")
    wire.now_s += 3.0
    wire.telemetry("2")
    wire.now_s += 0.5
    wire.telemetry("1")
    assert wire.hall.worst_gap is not None
    assert (wire.hall.worst_gap.seconds, wire.hall.worst_gap.sender) == (3.5, "s1/1")


def test_a_malformed_message_is_counted_and_changes_nothing() -> None:
    wire = Wire()
    wire.balance()
    before = wire.hall.balance
    wire.garbage()
    assert wire.hall.balance is before
    assert (wire.hall.malformed, wire.hall.messages["balance"]) == (1, 1)


def test_alarms_and_stations_that_are_gone_are_seen() -> None:
    wire = Wire()
    wire.telemetry("1", 2)
    wire.status(Presence.OFFLINE)
    assert wire.hall.alarms() == [("s1", "1", "over_voltage: 421 V: above 420 V")]
    assert wire.hall.is_offline("s1")
    text = "\n".join(lines(wire.hall))
    assert "offline" in text
    assert "alarm s1/1 over_voltage" in text


def test_the_picture_shows_power_channels_alarms_and_events() -> None:
    wire = Wire()
    wire.balance()
    wire.telemetry("1")
    wire.telemetry("2", 1)
    wire.telemetry("3", 2)
    wire.event("something happened")
    text = drawn(wire)
    for part in ("+20.79 kW", "+812 W", "balancing", "s1/1", "applied -19.98 kW", "ALARM s1/3", "something happened"):
        assert part in text
    assert text.index("s1/2") < text.index("s1/1"), "equalization channels come first"


def test_the_picture_waits_for_an_equalizer() -> None:
    assert "waiting for the equalizer" in drawn(Wire())


@pytest.mark.parametrize("height", [10, 24, 50])
def test_the_picture_fits_the_terminal(height: int) -> None:
    wire = Wire()
    wire.balance()
    for number in range(100):
        wire.telemetry(str(number))
        wire.event(f"event {number}")
    shown = drawn(wire, height=height).splitlines()
    assert len(shown) <= max(height, 24)
    assert "more" in "\n".join(shown)


def test_the_summary_sets_with_beside_without() -> None:
    wire = Wire()
    for second in range(61):
        account = {
            "import_wh": 5000.0 + second,
            "export_wh": 700.0,
            "unbalanced_wh": 9000.0 + 4.0 * second,
            "avoided_wh": 0.0,
        }
        wire.balance(
            total_power_w=20000.0 if second < 20 else -400.0,
            load_power_w=20000.0,
            seq=second,
            setpoint_changes=100 + second // 10,
            energy=account,
        )
        wire.now_s += 1.0
    text = "\n".join(summarize(wire.hall, 60.0))
    assert "60 Wh with balancing, 240 Wh without (25.0 %)" in text
    assert "20.00 kW" in text
    assert "400 W (2.0 % of that)" in text
    assert "6 on 4 channels: 90 per channel and hour" in text
    assert "1.00 s (the equalizer)" in text


def test_the_summary_of_a_long_run_still_knows_how_it_began() -> None:
    wire = Wire()
    for second in range(HISTORY_S + 100):
        wire.balance(total_power_w=20000.0 if second < 20 else -400.0, load_power_w=20000.0, seq=second)
        wire.now_s += 1.0
    assert "400 W (2.0 % of that)" in "\n".join(summarize(wire.hall, HISTORY_S + 100.0))


def test_the_summary_of_a_hall_that_never_spoke() -> None:
    assert "never heard" in "\n".join(summarize(Hall("main"), 0.0))


@pytest.mark.parametrize(
    ("power_w", "text"), [(0.0, "0 W"), (-0.2, "0 W"), (812.4, "+812 W"), (-19977.0, "-19.98 kW"), (1e6, "+1000.00 kW")]
)
def test_power_as_people_read_it(power_w: float, text: str) -> None:
    assert power(power_w) == text


def test_other_figures() -> None:
    assert (plain(-812.0), energy(812.0), energy(20789.0)) == ("812 W", "812 Wh", "20.79 kWh")
    assert (share(1.0, 8.0), share(1.0, 0.0)) == ("12.5 %", "-")


@given(st.lists(st.floats(-1e6, 1e6), max_size=50), st.integers(1, 40), st.floats(0.0, 1e6))
def test_a_sparkline_is_as_wide_as_asked(values: list[float], width: int, top: float) -> None:
    assert len(sparkline(values, width, top)) == width


def test_a_sparkline_rises_with_the_magnitude() -> None:
    assert sparkline([0.0, -50.0, 100.0, 200.0], 4, 100.0) == "▁▅██"
