"""Lines that hold each other: each names the SHA-256 of the one before it, and its own. Pure.

Whoever edits, removes or inserts a line breaks the chain behind it. Whoever can rewrite the whole log and its head can
make a new chain: only a head that was noted elsewhere shows that (`Claim`).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

NO_HASH = "0" * 64
"""What the very first line names as its predecessor."""
_TAIL = b',"hash":"'
_TAIL_BYTES = len(_TAIL) + 64 + len(b'"}')


@dataclass(frozen=True, slots=True)
class Head:
    """A place in a chain: the number of a line, counted from 1, and its hash. 0: before the first."""

    seq: int = 0
    hash: str = NO_HASH


@dataclass(frozen=True, slots=True)
class Line:
    """A line whose own hash is right."""

    head: Head
    previous: str
    entry: Mapping[str, object]


def append(head: Head, entry: Mapping[str, object]) -> tuple[bytes, Head]:
    """Return the line that an entry makes behind a head, and the new head. `seq` and `previous` are the chain's own."""
    own = {"seq": head.seq + 1, "previous": head.hash}
    body = json.dumps({"seq": 0, **entry, **own}, separators=(",", ":")).encode()
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + _TAIL + digest.encode() + b'"}\n', Head(head.seq + 1, digest)


def read(line: bytes) -> Line | None:
    """Return what a line says; None where it is not what was written."""
    text = line.rstrip(b"\n")
    body, tail = text[:-_TAIL_BYTES] + b"}", text[-_TAIL_BYTES:]
    digest = hashlib.sha256(body).hexdigest().encode()
    if tail != _TAIL + digest + b'"}':
        return None
    try:
        entry = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or type(entry.get("seq")) is not int or not isinstance(entry.get("previous"), str):
        return None
    return Line(Head(entry["seq"], digest.decode()), entry["previous"], entry)


@dataclass(frozen=True, slots=True)
class Claim:
    """What is known of a log beside its lines."""

    first_seq: int = 1
    """Its oldest line; those before it were dropped for want of space."""
    head: Head = Head()
    """A line that it must have, the last one when this was written down."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a look at a log."""

    faults: tuple[str, ...]
    """One line each; none: everything is as it was written."""
    entries: int
    head: Head


def verify(lines: Iterable[bytes], claims: Iterable[Claim] = ()) -> Verdict:
    """Look through a log, the oldest line first."""
    faults: list[str] = []
    seen: dict[int, str] = {}
    head: Head | None = None
    first = None
    for number, raw in enumerate(lines, start=1):
        line = read(raw)
        if line is None:
            faults.append(f"line {number} was changed or is cut off")
            continue
        if head is not None:
            faults.extend(_joint(head, line))
        first = line if first is None else first
        head = line.head
        seen[head.seq] = head.hash
    for claim in claims:
        faults.extend(_kept(claim, first, seen, head if head is not None else Head()))
    return Verdict(tuple(faults), len(seen), head if head is not None else Head())


def _joint(head: Head, line: Line) -> Iterator[str]:
    seq = line.head.seq
    if seq > head.seq + 1:
        yield _missing(head.seq + 1, seq - 1)
    elif seq <= head.seq:
        yield f"entry {seq} stands behind entry {head.seq}"
    elif line.previous != head.hash:
        yield f"entry {seq} does not follow the entry {head.seq} that stands before it"


def _kept(claim: Claim, first: Line | None, seen: Mapping[int, str], head: Head) -> Iterator[str]:
    if first is not None and first.head.seq > claim.first_seq:
        yield f"{_missing(claim.first_seq, first.head.seq - 1)} at the beginning"
    wanted = claim.head
    if wanted.seq > head.seq:
        yield f"{_missing(head.seq + 1, wanted.seq)} at the end"
    elif wanted.seq > 0 and wanted.seq in seen and seen[wanted.seq] != wanted.hash:
        yield f"entry {wanted.seq} is not the one that was noted: this is another log, or it was written anew"


def _missing(first: int, last: int) -> str:
    return f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
