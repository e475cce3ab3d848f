"""The control's memory, handed out so that a recording can be decided again from where it begins.

It is no part of the wire contract: a version of this program reads what the same version has written.
"""

import json
from dataclasses import dataclass, replace
from functools import cache

from pydantic import TypeAdapter, ValidationError

from equalizer.control.image import ChannelKey
from equalizer.control.memory import BookMemory
from equalizer.control.state import NOTHING_READ, ControlState, Hold
from equalizer.diary import Mark

FORM = 1
"""Rises when the fields below, or those of what they hold, mean something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a server's control remembers between two decisions."""

    form: int = FORM
    server: str
    epoch: int
    now_s: float
    """On the server's monotonic clock; all times in it are on the same."""
    decided_s: float
    """When it decided last."""
    due_s: float
    """When it was to decide again, at the latest."""
    mark: Mark
    """Where its diary goes on from here."""
    state: ControlState
    """Without its holds, and without what was read of the channels: that is read again."""
    holds: tuple[tuple[ChannelKey, Hold], ...]
    book: BookMemory


class UnreadableError(ValueError):
    """This program cannot go on from a memory; the text says why."""


def bare(state: ControlState) -> ControlState:
    """Return a state without what a memory keeps apart, or does not keep."""
    return replace(state, holds={}, readout=replace(NOTHING_READ, views={}))


def encode(memory: Memory) -> bytes:
    """Return a memory as JSON. Infinite times are written as `Infinity`."""
    return json.dumps(_adapter().dump_python(memory, mode="json"), separators=(",", ":")).encode()


def decode(payload: bytes) -> Memory:
    """Return a memory.

    Raises:
        UnreadableError: it is none, or another version's.
    """
    try:
        table = json.loads(payload)
    except ValueError as error:
        raise UnreadableError(f"the memory in it is no JSON: {error}") from None
    form = table.get("form") if isinstance(table, dict) else None
    if form != FORM:
        raise UnreadableError(f"the memory in it has form {form!r}, this version reads {FORM}")
    try:
        return _adapter().validate_json(payload)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UnreadableError(f"the memory in it is not this version's: {where}: {first['msg']}") from None


@cache
def _adapter() -> TypeAdapter[Memory]:
    """Made when it is first needed: a server that nobody asks has no use for it."""
    return TypeAdapter(Memory)
