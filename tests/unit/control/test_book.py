"""The image out of the messages: sums that hold, whatever comes in whatever order."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equalizer.control.book import LoopBook
from equalizer.control.settings import ControlSettings
from schemas.messages import (
    ChannelPlan,
    ChannelTelemetry,
    Equalization,
    OnLost,
    PlanSegment,
    Presence,
    StationStatus,
    StepType,
    WorkStatus,
)

SETTINGS = ControlSettings()


def telemetry(power_w: float, seq: int, *, boot_id: str = "a", equalizing: bool = False) -> ChannelTelemetry:
    return ChannelTelemetry.model_construct(
        boot_id=boot_id,
        seq=seq,
        unix_time_s=0.0,
        work_status=WorkStatus.WORKING,
        step_type=StepType.CP_CHG,
        step_id=1,
        cycle_count=1,
        voltage_v=360.0,
        current_a=power_w / 360.0,
        power_w=power_w,
        temperature_degc=None,
        soc_ratio=None,
        battery_connected=True,
        equalization=Equalization(charge_limit_w=1.0, discharge_limit_w=1.0, ramp_w_per_s=1.0, applied_w=0.0)
        if equalizing
        else None,
        alarm=None,
    )


def status(*channels: str, online: bool = True, boot_id: str = "a", on_lost: OnLost = OnLost.CONTINUE) -> StationStatus:
    return StationStatus(
        status=Presence.ONLINE if online else Presence.OFFLINE,
        boot_id=boot_id,
        version="0",
        driver="test",
        channels=channels,
        on_lost=on_lost,
        unix_time_s=0.0,
    )


def plan(seq: int, *segments: tuple[float, float], boot_id: str = "a", until_s: float = 100.0) -> ChannelPlan:
    return ChannelPlan(
        boot_id=boot_id,
        seq=seq,
        unix_time_s=0.0,
        step_id=1,
        until_s=until_s,
        segments=tuple(PlanSegment(after_s=after_s, power_w=power_w) for after_s, power_w in segments),
    )


def heard(*powers_w: float) -> LoopBook:
    """A book with one station whose channels said these powers at 0 s."""
    book = LoopBook(SETTINGS)
    book.status("s", status(*(str(n) for n in range(len(powers_w)))), 0.0)
    for n, power_w in enumerate(powers_w):
        book.telemetry("s", str(n), telemetry(power_w, 1), retained=False, now_s=0.0)
    return book


def test_sums() -> None:
    book = heard(100.0, -30.0, 5.5)
    book.telemetry("s", "1", telemetry(-40.0, 2, equalizing=True), retained=False, now_s=0.5)
    image = book.image(1.0)
    assert (image.total_power_w, image.load_power_w, image.equalization_power_w) == (65.5, 105.5, -40.0)
    assert (image.charging_power_w, image.discharging_power_w) == (105.5, -40.0)
    assert (image.channels, image.channels_stale, image.stations_online) == (3, 0, 1)
    assert [view.key for view in image.equalization] == [("s", "1")]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (telemetry(7.0, 1), "old_telemetry"),
        (telemetry(7.0, 0), "old_telemetry"),
        (telemetry(7.0, 9, boot_id="b"), "other_boot"),
        (telemetry(math.nan, 2), "not_finite"),
        (telemetry(math.inf, 2), "not_finite"),
        (telemetry(1.7e302, 2), "out_of_range"),
    ],
)
def test_wrong_telemetry_is_counted_and_changes_nothing(message: ChannelTelemetry, reason: str) -> None:
    book = heard(100.0)
    before = book.image(0.5)
    book.telemetry("s", "0", message, retained=False, now_s=0.5)
    assert book.image(0.5) == before
    assert book.ignored == {reason: 1}


@pytest.mark.parametrize("travel_s", [0.0, 0.3])
def test_a_plan_counts_from_when_it_was_sent(travel_s: float) -> None:
    """A station sends its plan at 1 s; it is received when it has travelled, and its edge is at 2.5 s all the same."""
    book = heard(20e3)
    book.travel_s = travel_s
    book.plan("s", "0", plan(1, (0.0, 20e3), (1.5, 5e3)), 1.0 + travel_s)
    (edge,) = book.image(2.0).edges
    assert (edge.at_s, edge.delta_w) == (pytest.approx(2.5), -15e3)
    assert book.image(2.4).announced_power_w == 20e3
    assert book.image(2.6).announced_power_w == 5e3


def test_a_forgotten_station_is_gone() -> None:
    book = heard(100.0, 50.0)
    book.telemetry("s", "1", telemetry(60.0, 2, equalizing=True), retained=False, now_s=0.5)
    book.forget("s")
    image = book.image(1.0)
    assert image.total_power_w == image.unknown_power_w == image.stations_online == image.channels == 0
    assert image.equalization == ()


def test_a_channel_that_a_restarted_station_does_not_name_is_gone() -> None:
    book = heard(100.0, 50.0)
    book.status("s", status("0", boot_id="b"), 1.0)
    assert book.image(1.0).load_power_w == 100.0


def test_a_station_back_from_zero_with_a_new_boot_is_unknown_until_it_speaks() -> None:
    book = heard(100.0)
    book.status("s", status("0", online=False, on_lost=OnLost.ZERO), 1.0)
    assert book.image(1.0).channels_stale == 0
    book.status("s", status("0", boot_id="b"), 2.0)
    assert (book.image(2.0).load_power_w, book.image(2.0).unknown_power_w) == (0.0, 100.0)
    book.telemetry("s", "0", telemetry(30.0, 1, boot_id="b"), retained=False, now_s=3.0)
    assert (book.image(3.0).load_power_w, book.image(3.0).unknown_power_w) == (30.0, 0.0)


def test_a_plan_moves_power_from_the_remainder_and_says_so() -> None:
    book = heard(100.0, 50.0)
    book.plan("s", "0", plan(1, (0.0, 100.0), (10.0, 250.0)), 0.5)
    image = book.image(0.5)
    assert (image.announced_power_w, image.remainder_power_w, image.transferred_power_w) == (100.0, 50.0, -100.0)
    ((at_s, delta_w),) = [(edge.at_s, edge.delta_w) for edge in image.edges]
    assert at_s == pytest.approx(10.5, abs=0.051)
    assert delta_w == 150.0


def test_an_edge_that_is_over_is_announced_no_more() -> None:
    book = heard(100.0)
    book.plan("s", "0", plan(1, (0.0, 100.0), (10.0, 250.0)), 0.0)
    for second in range(1, 10):
        book.telemetry("s", "0", telemetry(100.0, second + 1), retained=False, now_s=float(second))
    image = book.image(10.1)
    assert image.edges == ()
    assert image.announced_power_w == 250.0


def test_a_plan_that_came_before_the_channel_counts_when_it_is_heard() -> None:
    book = LoopBook(SETTINGS)
    book.plan("s", "0", plan(1, (0.0, 100.0)), 0.0)
    assert book.image(0.0).announced_power_w == 0.0
    book.telemetry("s", "0", telemetry(100.0, 1), retained=False, now_s=0.5)
    image = book.image(0.5)
    assert (image.announced_power_w, image.remainder_power_w, image.transferred_power_w) == (100.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("message", "reason"),
    [(plan(1, (0.0, 1.0)), "old_plan"), (plan(5, (0.0, 1.0), boot_id="b"), "other_boot")],
)
def test_wrong_plans_are_counted_and_change_nothing(message: ChannelPlan, reason: str) -> None:
    book = heard(100.0)
    book.plan("s", "0", plan(1, (0.0, 100.0), (20.0, 0.0)), 0.5)
    before = book.image(0.6)
    book.plan("s", "0", message, 0.6)
    assert book.image(0.6) == before
    assert book.ignored == {reason: 1}


channels = st.integers(0, 4)
powers_w = st.floats(-1e5, 1e5)
messages = st.one_of(
    st.tuples(st.just("telemetry"), channels, powers_w, st.booleans(), st.booleans()),
    st.tuples(st.just("plan"), channels, powers_w, st.floats(0.1, 30.0), powers_w),
    st.tuples(st.just("status"), st.booleans(), st.sampled_from(list(OnLost)), st.sampled_from("ab")),
    st.tuples(st.just("wait"), st.floats(0.0, 5.0)),
    st.tuples(st.just("forget")),
)


@settings(max_examples=300)
@given(st.lists(messages, max_size=60))
def test_the_running_sums_are_the_sums_of_the_records(history: list[tuple[object, ...]]) -> None:
    book, now_s, boot_id = LoopBook(SETTINGS), 0.0, "a"
    for seq, message in enumerate(history, start=1):
        match message:
            case ("telemetry", int(n), float(power_w), bool(retained), bool(equalizing)):
                said = telemetry(power_w, seq, boot_id=boot_id, equalizing=equalizing)
                book.telemetry("s", str(n), said, retained=retained, now_s=now_s)
            case ("plan", int(n), float(first_w), float(after_s), float(second_w)):
                said_plan = plan(seq, (0.0, first_w), (after_s, second_w), boot_id=boot_id, until_s=40.0)
                book.plan("s", str(n), said_plan, now_s)
            case ("status", bool(online), OnLost() as on_lost, str(boot_id)):
                book.status("s", status("0", "1", "2", online=online, boot_id=boot_id, on_lost=on_lost), now_s)
            case ("wait", float(seconds)):
                now_s += seconds
            case _:
                book.forget("s")
        _check(book, now_s)


def _check(book: LoopBook, now_s: float) -> None:
    image = book.image(now_s)
    records = [record for station in book._stations.values() for record in station.channels.values()]
    loads = [record for record in records if record.equalization is None]
    others = [record for record in records if record.equalization is not None]
    assert image.load_power_w == sum(record.counted_uw for record in loads) / 1e6
    assert image.equalization_power_w == sum(record.counted_uw for record in others) / 1e6
    assert image.charging_power_w == sum(max(record.counted_uw, 0) for record in records) / 1e6
    assert image.discharging_power_w == sum(min(record.counted_uw, 0) for record in records) / 1e6
    assert image.unknown_power_w == sum(record.unknown_uw for record in records) / 1e6
    assert image.remainder_power_w == sum(record.remainder_uw for record in records) / 1e6
    assert image.channels == sum(record.known for record in records)
    assert image.channels_stale == sum(record.stale for record in records)
    assert set(book._tally.fresh) == {record for record in records if record.fresh}
    assert [view.key for view in image.equalization] == sorted(record.key for record in others)
    forecast = book._announcements.forecast
    plans = [record.plan for record in records if record.plan is not None]
    assert forecast.announced_uw == sum(forecast.power_uw(plan) for plan in plans)
    last_uw = sum(plan.powers_uw[-1] for plan in plans)
    assert forecast.announced_uw + sum(forecast._deltas_uw.values()) == last_uw


def test_the_first_round_begins_when_what_comes_is_new() -> None:
    book = LoopBook(SETTINGS)
    book.status("s", status("1"), 0.0)
    book.telemetry("s", "1", telemetry(500.0, 1), retained=True, now_s=0.0)
    book.begin_round(5.0)
    assert not book.image(5.5).round_complete
    book.telemetry("s", "1", telemetry(500.0, 2), retained=False, now_s=5.6)
    assert not book.image(5.7).round_complete
    assert book.image(6.1).round_complete


def test_a_meter_that_fell_silent_is_shown_no_more() -> None:
    book = LoopBook(SETTINGS)
    book.meter(1234.0, 0.0)
    assert book.image(SETTINGS.meter_stale_s).meter_power_w == 1234.0
    assert book.image(SETTINGS.meter_stale_s + 0.1).meter_power_w is None


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=1, max_size=4), st.floats(0.0, exclude_min=True, allow_infinity=False), finite)
def test_no_finite_number_that_a_station_says_stops_the_reckoning(powers_w: list[float], huge: float, w: float) -> None:
    book = LoopBook(SETTINGS)
    for n, power_w in enumerate(powers_w):
        book.telemetry("s", str(n), telemetry(power_w, 1), retained=False, now_s=0.0)
        segments = (PlanSegment(after_s=0.0, power_w=w), PlanSegment(after_s=huge, power_w=power_w))
        book.plan(
            "s",
            str(n),
            ChannelPlan(boot_id="a", seq=1, unix_time_s=0.0, step_id=1, until_s=huge, segments=segments),
            0.0,
        )
    limits = Equalization(charge_limit_w=huge, discharge_limit_w=huge, ramp_w_per_s=huge, applied_w=w)
    message = telemetry(0.0, 1).model_copy(update={"equalization": limits})
    book.telemetry("s", "e", message, retained=False, now_s=0.0)
    image = book.image(1.0)
    assert math.isfinite(image.total_power_w + image.charging_power_w + image.discharging_power_w)
    (view,) = image.equalization
    assert math.isfinite(view.charge_limit_w + view.discharge_limit_w + view.ramp_w_per_s + view.applied_w)


def test_a_change_whose_time_is_only_expected_is_told_as_such_and_counts_in_nothing() -> None:
    book = heard(100.0)
    segments = (
        PlanSegment(after_s=0.0, power_w=100.0),
        PlanSegment(after_s=20.0, power_w=0.0, sigma_s=4.0),
        PlanSegment(after_s=30.0, power_w=50.0, sigma_s=4.0),
    )
    sent = plan(1, (0.0, 100.0)).model_copy(update={"segments": segments})
    book.plan("s", "0", sent, 0.0)
    edges = book.image(0.5).edges
    assert [(round(edge.at_s), edge.delta_w, edge.certain) for edge in edges] == [
        (20, -100.0, False),
        (30, 50.0, False),
    ]
    for second in range(1, 22):
        book.telemetry("s", "0", telemetry(100.0, second + 1), retained=False, now_s=float(second))
    image = book.image(21.0)
    assert (image.announced_power_w, image.remainder_power_w, image.edges) == (0.0, 100.0, ())


def test_a_plan_that_is_certain_for_a_moment_only_counts_if_it_tells_what_comes_about_then() -> None:
    """A pulse that its voltage may end at any moment: nothing can be sent for its end, but it is no step that stays."""
    book = heard(20e3)
    book.plan("s", "0", plan(1, (0.0, 20e3), until_s=3.0), 0.0)
    assert book.ignored["brief_plan"] == 1
    expects = plan(2, (0.0, 20e3), until_s=40.0)
    ends = PlanSegment(after_s=3.0, power_w=0.0, sigma_s=2.5)
    book.plan("s", "0", expects.model_copy(update={"segments": (*expects.segments, ends)}), 0.0)
    image = book.image(0.5)
    assert image.announced_power_w == 20e3
    assert [(round(edge.at_s, 1), edge.delta_w, edge.certain) for edge in image.edges] == [(3.0, -20e3, False)]
    assert book.ignored["brief_plan"] == 1
