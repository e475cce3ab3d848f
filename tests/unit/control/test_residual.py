"""The split of what is left over: whatever the loop does, the parts are the whole."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from equalizer.control.image import EqualizationView, LoopImage
from equalizer.control.residual import Cause, ResidualBook, advance, left_over_w, split_uw
from equalizer.control.settings import ControlSettings
from equalizer.control.step import initial, pause, step
from schemas.messages import Policy

powers_w = st.floats(-1e6, 1e6)
limits_w = st.floats(0.0, 1e5)


@st.composite
def images(draw: st.DrawFn) -> LoopImage:
    views = tuple(
        EqualizationView(
            key=("s", f"e{n}"),
            boot_id="b",
            seq=draw(st.integers(1, 50)),
            heard_s=draw(st.floats(95.0, 101.0)),
            fresh=draw(st.booleans()),
            station_online=draw(st.booleans()),
            power_w=draw(powers_w),
            charge_limit_w=draw(limits_w),
            discharge_limit_w=draw(limits_w),
            ramp_w_per_s=draw(st.floats(1.0, 1e6)),
            applied_w=draw(powers_w),
            last=None,
            soc_ratio=draw(st.one_of(st.none(), st.floats(0.0, 1.0))),
            alarm=draw(st.booleans()),
        )
        for n in range(draw(st.integers(0, 3)))
    )
    announced_w, remainder_w = draw(powers_w), draw(powers_w)
    equalization_w = sum(view.power_w for view in views)
    load_w = announced_w + remainder_w
    return LoopImage(
        total_power_w=load_w + equalization_w,
        load_power_w=load_w,
        equalization_power_w=equalization_w,
        charging_power_w=0.0,
        discharging_power_w=0.0,
        unknown_power_w=draw(st.floats(0.0, 1e5)),
        channels=4,
        channels_fresh=4,
        channels_stale=draw(st.integers(0, 2)),
        stations_online=1,
        equalization=views,
        announced_power_w=announced_w,
        remainder_power_w=remainder_w,
        transferred_power_w=draw(powers_w),
        edges=(),
        round_complete=draw(st.booleans()),
        meter_power_w=None,
        meter_heard_s=None,
    )


@given(st.lists(images(), min_size=1, max_size=5), st.sampled_from(list(Policy)), st.booleans())
def test_the_parts_sum_to_the_whole_exactly(seen: list[LoopImage], policy: Policy, paused: bool) -> None:
    settings = ControlSettings(policy=policy, delay_s=3.0)
    state = pause(initial(settings)) if paused else initial(settings)
    book, now_s = ResidualBook(), 100.0
    for image in seen:
        now_s += 1.5
        state, _ = step(state, image, settings, now_s)
        whole_uw, parts_uw = split_uw(state, image, settings, now_s)
        assert whole_uw == sum(parts_uw.values())
        assert whole_uw == abs(round(left_over_w(state, image) * 1e6))
        assert all(part_uw >= 0 for part_uw in parts_uw.values())
        book = advance(book, whole_uw, parts_uw, now_s)
        assert book.whole_nj == sum(book.parts_nj.values())


def test_an_image_that_is_not_finite_leaves_nothing() -> None:
    settings = ControlSettings()
    seen = replace(_empty(), load_power_w=float("nan"))
    assert split_uw(initial(settings), seen, settings, 1.0) == (0, dict.fromkeys(Cause, 0))


def test_a_long_gap_is_not_taken_for_known() -> None:
    parts_uw = dict.fromkeys(Cause, 0) | {Cause.DWELL: 1_000_000}
    book = advance(ResidualBook(), 1_000_000, parts_uw, 0.0)
    book = advance(book, 0, dict.fromkeys(Cause, 0), 3600.0)
    assert book.joules() == {cause.value: 10.0 if cause is Cause.DWELL else 0.0 for cause in Cause}


def _empty() -> LoopImage:
    return LoopImage(
        total_power_w=0.0,
        load_power_w=0.0,
        equalization_power_w=0.0,
        charging_power_w=0.0,
        discharging_power_w=0.0,
        unknown_power_w=0.0,
        channels=0,
        channels_fresh=0,
        channels_stale=0,
        stations_online=0,
        equalization=(),
        announced_power_w=0.0,
        remainder_power_w=0.0,
        transferred_power_w=0.0,
        edges=(),
        round_complete=True,
        meter_power_w=None,
        meter_heard_s=None,
    )
