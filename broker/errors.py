"""What can go wrong with a broker of our own, each with a text that says what to do."""


class BrokerError(Exception):
    """The root: no broker is running afterwards."""


class ProgramMissingError(BrokerError):
    """The broker's program is not installed."""


class PortTakenError(BrokerError):
    """Another program listens on the port."""


class BrokerDiedError(BrokerError):
    """The program ended, or never answered; the text ends with its last log lines."""
