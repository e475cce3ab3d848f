"""The clock and the network of a virtual hall."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from simulation.clock import BEGIN_S, Timeline, tick_from, tick_s
from simulation.network import Network
from simulation.scenario import NetworkSection


def test_events_come_in_the_order_of_their_time_and_those_of_one_time_as_they_were_asked_for() -> None:
    timeline = Timeline()
    seen: list[tuple[float, str]] = []
    for at_s, name in ((2.0, "later"), (1.0, "first"), (1.0, "second")):
        timeline.at(BEGIN_S + at_s, partial(seen.append, (at_s, name)))
    timeline.run(BEGIN_S + 10.0)
    assert seen == [(1.0, "first"), (1.0, "second"), (2.0, "later")]
    assert timeline.now_s == BEGIN_S + 10.0


def test_an_event_of_the_end_waits_for_the_next_run() -> None:
    timeline, seen = Timeline(), []
    timeline.at(BEGIN_S + 5.0, lambda: seen.append(timeline.now_s))
    timeline.run(BEGIN_S + 5.0)
    assert seen == []
    timeline.run(BEGIN_S + 5.1)
    assert seen == [BEGIN_S + 5.0]


@given(st.integers(0, 10_000_000))
def test_a_tick_is_found_again_by_its_time(number: int) -> None:
    assert tick_from(tick_s(number)) == number
    assert tick_from(tick_s(number) + 0.01) == number + 1


@given(seed=st.integers(0, 1000), jitter_s=st.floats(0.0, 0.5), loss_ratio=st.floats(0.0, 0.9))
def test_messages_of_one_topic_never_overtake_each_other_and_qos_1_is_never_lost(
    seed: int, jitter_s: float, loss_ratio: float
) -> None:
    timeline = Timeline()
    network = Network(NetworkSection(jitter_s=jitter_s, loss_ratio=loss_ratio), timeline, str(seed))
    heard: list[tuple[float, str, int]] = []

    def hear(topic: str, number: int) -> None:
        heard.append((timeline.now_s, topic, number))

    for number in range(40):
        sent_s = BEGIN_S + 0.05 * number
        network.send("sure", partial(hear, "sure", number), qos=1, sent_s=sent_s)
        network.send("fleeting", partial(hear, "fleeting", number), sent_s=sent_s)
    timeline.run(BEGIN_S + 60.0)
    sure = [number for _, topic, number in heard if topic == "sure"]
    fleeting = [number for _, topic, number in heard if topic == "fleeting"]
    assert sure == list(range(40))
    assert fleeting == sorted(fleeting)
    assert len(fleeting) + network.lost == 40
    for at_s, _, number in heard:
        assert at_s - (BEGIN_S + 0.05 * number) >= max(0.0, 0.3 - jitter_s) - 1e-9
