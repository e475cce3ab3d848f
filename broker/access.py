"""What each name may read and write, as Mosquitto's access list. Who is not in it may do nothing.

Every name has lines of its own, without patterns: a pattern (`%u`) holds for everybody, so that a dashboard would be
the station of its name. A name that is revoked loses its lines, and with them every right of a connection that still
stands.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, assert_never

from schemas.topics import DOCTOR_ROOT, ROOT, ChannelTopic, LoopTopic
from transport.credentials import Role

_HEAD = """\
# Who may read and write what: the names are those of the clients' certificates. Made by `zeroloop credentials`, which
# makes it again at every change: what is written here by hand is lost.
"""


class Right(NamedTuple):
    """One line of the list."""

    way: Literal["read", "write"]
    topic: str


def access_list(names: Mapping[str, Role], loop: str | None) -> str:
    """Return the access list.

    Args:
        names: who is let in, and as what.
        loop: the only loop that they have to do with; None: any.
    """
    sections = (_section(name, rights(role, name, loop)) for name, role in sorted(names.items()))
    return "\n".join((_HEAD, *sections))


def rights(role: Role, name: str, loop: str | None) -> tuple[Right, ...]:
    """Return what a name may do in its role."""
    base = f"{ROOT}/{'+' if loop is None else loop}"
    match role:
        case "station":
            return tuple(_station(base, name))
        case "equalizer":
            return (
                Right("read", f"{base}/#"),
                *_write(base, *_SAID_BY_A_SERVER),
                _channels(base, ChannelTopic.SETPOINT),
            )
        case "operator":
            own = (LoopTopic.COMMAND, LoopTopic.EVENT)
            return (
                Right("read", f"{base}/#"),
                Right("read", "$SYS/#"),
                Right("read", f"{DOCTOR_ROOT}/#"),
                Right("write", f"{DOCTOR_ROOT}/#"),
                *_write(base, *own),
                _channels(base, ChannelTopic.COMMAND),
            )
        case "dashboard":
            return (Right("read", f"{base}/#"),)
        case "meter":
            return (Right("read", f"{base}/{LoopTopic.SERVER}"), *_write(base, LoopTopic.METER, LoopTopic.EVENT))
        case _:
            assert_never(role)


_SAID_BY_A_SERVER = (LoopTopic.SERVER, LoopTopic.BALANCE, LoopTopic.REPLY, LoopTopic.EVENT)
_SAID_BY_A_STATION = (ChannelTopic.TELEMETRY, ChannelTopic.PLAN, ChannelTopic.REPLY)
_HEARD_BY_A_STATION = (ChannelTopic.SETPOINT, ChannelTopic.COMMAND)


def _station(base: str, name: str) -> Iterator[Right]:
    """A station speaks for itself alone, and hears what is for it; and itself, to find a late will or a namesake."""
    own = f"{base}/station/{name}"
    yield Right("write", f"{own}/status")
    for leaf in _SAID_BY_A_STATION:
        yield Right("write", f"{own}/channel/+/{leaf}")
    yield from _write(base, LoopTopic.EVENT)
    yield Right("read", f"{base}/{LoopTopic.SERVER}")
    yield Right("read", f"{own}/status")
    yield Right("read", f"{own}/channel/+/{ChannelTopic.TELEMETRY}")
    for leaf in _HEARD_BY_A_STATION:
        yield Right("read", f"{own}/channel/+/{leaf}")


def _write(base: str, *leaves: LoopTopic) -> Iterator[Right]:
    return (Right("write", f"{base}/{leaf}") for leaf in leaves)


def _channels(base: str, leaf: ChannelTopic) -> Right:
    return Right("write", f"{base}/station/+/channel/+/{leaf}")


def _section(name: str, allowed: Iterable[Right]) -> str:
    return f"user {name}\n" + "".join(f"topic {right.way} {right.topic}\n" for right in allowed)
