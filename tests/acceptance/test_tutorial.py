"""The tutorial's hall does what the tutorial promises, with shorter times."""

import asyncio
import re
import signal
from pathlib import Path

import pytest

from schemas.messages import SetpointResult
from tests.acceptance.hall import Hall

DOCUMENT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()


@pytest.mark.broker
@pytest.mark.timeout(120)
async def test_the_tutorials_hall_is_balanced_stopped_and_left_alone(hall: Hall) -> None:
    match = re.search(r"<!-- s1.toml -->\n```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert match is not None
    (hall.folder / "s1.toml").write_text(match[1])
    equalizer = hall.equalizer()
    place = {"ZEROLOOP_BROKER_PORT": str(hall.broker.port), "ZEROLOOP_TELEMETRY_PERIOD_S": str(hall.period_s)}
    hall.spawn("station", "--config", "s1.toml", name="s1", environment=place)
    await hall.until(lambda: hall.power_w("s1", "1") > 7900.0, what="channel 1 charges with 8 kW")
    await hall.until(lambda: hall.total_w() > 7900.0)

    assert (await hall.command("equalize", "s1", "2"))[0] == 0
    await hall.until(lambda: abs(hall.total_w()) < 200.0, what="the grid sees about 0 W")
    assert (await hall.command("stop", "s1", "2"))[0] == 0
    await hall.until(lambda: hall.power_w("s1", "2") == 0.0, what="it was stopped")
    assert (await hall.command("equalize", "s1", "2"))[0] == 0
    await hall.until(lambda: abs(hall.total_w()) < 200.0, what="the grid sees about 0 W again")

    equalizer.send_signal(signal.SIGQUIT)  # Ctrl-\
    assert await asyncio.to_thread(equalizer.wait, 10.0) == -signal.SIGQUIT
    await hall.until(lambda: last_result(hall) is SetpointResult.EXPIRED and hall.power_w("s1", "2") == 0.0)
    hall.equalizer()
    await hall.until(lambda: hall.power_w("s1", "2") < -7000.0, what="it is led again")


def last_result(hall: Hall) -> SetpointResult | None:
    telemetry = hall.telemetry("s1", "2")
    if telemetry is None or telemetry.equalization is None or telemetry.equalization.last is None:
        return None
    return telemetry.equalization.last.result
