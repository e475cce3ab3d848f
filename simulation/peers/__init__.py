"""How others would control the same hall, from their published behaviour, in our own words. None of them reads plans.

Each project's docstring names it, what was taken, and what was left out. All of them meet the hall through the
contract's messages (`peer`), decide once a second on what was measured, and charge as they discharge, also where the
original only does one of both. Natively they are held back by nothing but their own rules; gated, a channel that was
changed less than `delay_s` ago keeps its power, and the others take what they can. Of one sign, none goes to the
opposite one of another's either.
"""

from collections.abc import Callable

from equalizer.config import EqualizerSettings
from simulation.peers.astrameter import AstraMeter
from simulation.peers.law import Law, Pool, Unit
from simulation.peers.literal import LiteralDelay
from simulation.peers.opendtu import OpenDtu
from simulation.peers.openems import OpenEms, PidFilter
from simulation.peers.peer import Gates, Peer
from simulation.peers.zendure import Zendure
from simulation.scenario import Controller as Kind

LAWS: dict[Kind, Callable[[EqualizerSettings], Law]] = {
    Kind.LITERAL_DELAY: lambda settings: LiteralDelay(settings.control.first_engage_w, settings.control.delay_s),
    Kind.OPENEMS: lambda settings: OpenEms(),  # noqa: ARG005 - it has none of our settings
    Kind.OPENEMS_PID: lambda settings: OpenEms(PidFilter()),  # noqa: ARG005 - the same
    Kind.OPENDTU: lambda settings: OpenDtu(settings.control.first_engage_w),
    Kind.ZENDURE: lambda settings: Zendure(),  # noqa: ARG005 - the same
    Kind.ASTRAMETER: lambda settings: AstraMeter(),  # noqa: ARG005 - the same
}

__all__ = [
    "LAWS",
    "AstraMeter",
    "Gates",
    "Law",
    "LiteralDelay",
    "OpenDtu",
    "OpenEms",
    "Peer",
    "PidFilter",
    "Pool",
    "Unit",
    "Zendure",
]
