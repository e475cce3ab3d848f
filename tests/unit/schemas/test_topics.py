"""Topics: whatever is built is parsed back, and nothing else is taken for one of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import (
    ChannelAddress,
    ChannelTopic,
    LoopAddress,
    LoopTopic,
    StatusAddress,
    channel_filter,
    channel_topic,
    is_name,
    loop_topic,
    parse,
    status_filter,
    status_topic,
)

names = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(loop=names, leaf=st.sampled_from(LoopTopic))
def test_a_loops_topic_is_parsed_back(loop: str, leaf: LoopTopic) -> None:
    assert parse(loop_topic(loop, leaf)) == LoopAddress(loop, leaf)


@given(loop=names, station=names)
def test_a_status_topic_is_parsed_back(loop: str, station: str) -> None:
    assert parse(status_topic(loop, station)) == StatusAddress(loop, station)


@given(loop=names, station=names, channel=names, leaf=st.sampled_from(ChannelTopic))
def test_a_channels_topic_is_parsed_back(loop: str, station: str, channel: str, leaf: ChannelTopic) -> None:
    assert parse(channel_topic(loop, station, channel, leaf)) == ChannelAddress(loop, station, channel, leaf)


@given(st.text())
def test_any_text_is_parsed_or_refused_without_an_error(topic: str) -> None:
    assert parse(topic) is None or topic.startswith("zeroloop/v1/")


@pytest.mark.parametrize(
    "topic",
    [
        "zeroloop/v2/main/server",
        "zeroloop/v1/main",
        "zeroloop/v1/main/servers",
        "zeroloop/v1//server",
        "zeroloop/v1/+/server",
        "zeroloop/v1/main/server/",
        "zeroloop/v1/main\n/server",
        f"zeroloop/v1/{'x' * 65}/server",
        "zeroloop/v1/main/station/s1/telemetry",
        "zeroloop/v1/main/station/s1/channel/1/status",
        "zeroloop/v1/main/station/s1/channel/ä/telemetry",
    ],
)
def test_what_is_none_of_the_contracts_topics_is_not_parsed(topic: str) -> None:
    assert parse(topic) is None


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "a b", "x" * 65, "a\n", "ä"])
def test_a_topic_is_never_built_from_what_is_no_name(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(ValueError, match="is no name"):
        loop_topic(name, LoopTopic.SERVER)
    with pytest.raises(ValueError, match="is no name"):
        channel_topic("main", "s1", name, ChannelTopic.SETPOINT)


def test_filters_ask_for_every_station_or_one() -> None:
    assert status_filter("main") == "zeroloop/v1/main/station/+/status"
    assert channel_filter("main", ChannelTopic.TELEMETRY) == "zeroloop/v1/main/station/+/channel/+/telemetry"
    assert channel_filter("main", ChannelTopic.COMMAND, station="s1") == "zeroloop/v1/main/station/s1/channel/+/command"
