"""Where a broker may be announced: only where it can be reached."""

import asyncio
import logging

import pytest

from equalizer.advertise import Advertisement, Announce, KeepQuiet, decide
from schemas.settings import BrokerSettings
from tests.patience import until
from tests.ports import free_port

LAN = ("10.0.0.5", "192.168.1.7")


@pytest.mark.parametrize(
    ("resolved", "listening", "addresses", "interfaces"),
    [
        (("10.0.0.9",), (), ("10.0.0.9",), None),
        (("127.0.0.1",), ("192.168.1.7",), ("192.168.1.7",), None),
        (("0.0.0.0",), LAN, LAN, None),  # noqa: S104 - an address that must not be announced
        (("127.0.0.1", "10.0.0.9"), (), ("10.0.0.9",), None),
        (("127.0.0.1",), (), ("127.0.0.1",), ("127.0.0.1",)),
        (("127.0.1.1", "::1"), (), ("127.0.1.1", "::1"), ("127.0.0.1",)),
    ],
)
def test_announced_are_addresses_that_answer(
    resolved: tuple[str, ...],
    listening: tuple[str, ...],
    addresses: tuple[str, ...],
    interfaces: tuple[str, ...] | None,
) -> None:
    decision = decide(resolved, LAN, listening)
    assert isinstance(decision, Announce)
    assert (decision.addresses, decision.interfaces) == (addresses, interfaces)


@pytest.mark.parametrize("resolved", [(), ("0.0.0.0",)])  # noqa: S104 - an address that must not be announced
def test_a_broker_that_answers_nowhere_is_not_announced(resolved: tuple[str, ...]) -> None:
    decision = decide(resolved, LAN, ())
    assert isinstance(decision, KeepQuiet)


async def test_a_host_that_nobody_knows_is_not_announced_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    advertisement = Advertisement(BrokerSettings(host="no-such-host.invalid"), server="hall-a", loop="main")
    with caplog.at_level(logging.WARNING):
        await advertisement.start()
        await advertisement.stop()
    assert "dns_sd_not_announced" in caplog.text


async def test_long_names_fit_into_a_label_and_ending_early_leaves_nothing_behind() -> None:
    broker = BrokerSettings(port=free_port())
    advertisement = Advertisement(broker, server="s" * 64, loop="l" * 64, interfaces=("127.0.0.1",))
    starting = asyncio.create_task(advertisement.start())
    await asyncio.sleep(0.2)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await advertisement.stop()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
