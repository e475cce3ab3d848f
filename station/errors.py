"""What a station's shell may raise. The text of each is one clear line for a person."""


class StationError(Exception):
    """The root; drivers have their own (`station.drivers.protocol`)."""


class DiscoveryError(StationError):
    """The root of what keeps a server from being found."""


class NoServerError(DiscoveryError):
    """Nobody answered so far; a later attempt may succeed."""


class SeveralLoopsError(DiscoveryError):
    """More than one loop answers: the configuration must name one. Trying again changes nothing."""

    def __init__(self, loops: tuple[str, ...]) -> None:
        self.loops = loops
        super().__init__(
            f"{len(loops)} loops answer ({', '.join(loops)}): "
            'name the one to use (`loop = "…"` in [station], or --loop)'
        )


class StateFolderError(StationError):
    """Nothing can be remembered: a restart would obey servers that were left behind."""


class DuplicateStationError(StationError):
    """A living station has this id already; starting a second one would set two drivers on one name."""
