"""The broker: Mosquitto where it is installed, else the embedded default."""

from broker.errors import BrokerDiedError, BrokerError, PortTakenError, ProgramMissingError
from broker.ports import free_port
from broker.programs import find_embedded, find_mosquitto
from broker.run import RunningBroker, start

__all__ = [
    "BrokerDiedError",
    "BrokerError",
    "PortTakenError",
    "ProgramMissingError",
    "RunningBroker",
    "find_embedded",
    "find_mosquitto",
    "free_port",
    "start",
]
