"""What can go wrong with a broker of our own, each with a text that says what to do."""


class BrokerError(Exception):
    """The root of what this package raises."""


class ProgramMissingError(BrokerError):
    """The broker's program is not installed."""


class PortTakenError(BrokerError):
    """Another program listens on the port."""


class BrokerDiedError(BrokerError):
    """The program ended, or never answered; the text ends with its last log lines."""


class AuthorityError(BrokerError):
    """The hall's authority cannot do what is asked of it."""
