"""What keeps an equalizer from going on, and is for its operator to mend."""

from schemas.settings import ConfigurationError


class DuplicateServerError(ConfigurationError):
    """A living server has this one's name."""
