"""A handler may publish: an answer to a QoS 1 command leaves from within the handler that got it."""

import asyncio
import time

import pytest

from broker.run import RunningBroker
from schemas.settings import BrokerSettings
from tests.patience import PATIENCE_S, settled
from transport.session import Session

pytestmark = pytest.mark.broker


async def test_a_handler_answers_a_command_at_both_qualities_of_service(broker: RunningBroker) -> None:
    settings = BrokerSettings(host=broker.host, port=broker.port)
    answers: asyncio.Queue[str] = asyncio.Queue()

    def obey(_topic: str, _payload: bytes, _retained: bool) -> None:
        servant.publish("answer/0", b"", qos=0)
        servant.publish("answer/1", b"", qos=1)

    servant = Session(settings, client_id="servant", on_message=obey, clock=time.monotonic)
    master = Session(
        settings,
        client_id="master",
        on_message=lambda topic, _payload, _retained: answers.put_nowait(topic),
        clock=time.monotonic,
    )
    try:
        await servant.connect_once(PATIENCE_S)
        servant.subscribe(("command", 1))
        await master.connect_once(PATIENCE_S)
        master.subscribe(("answer/+", 1))
        await settled(servant)
        await settled(master)

        master.publish("command", b"", qos=1)
        async with asyncio.timeout(PATIENCE_S):
            heard = {await answers.get(), await answers.get()}
        assert heard == {"answer/0", "answer/1"}
    finally:
        await servant.close()
        await master.close()
