"""What was said on a loop while a trial ran: all that the rules look at. Pure; times are monotonic seconds."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import NamedTuple, TypeVar

from schemas.codec import MalformedError, decode, encode
from schemas.messages import (
    PAYLOADS,
    ChannelPlan,
    ChannelTelemetry,
    Event,
    LoopBalance,
    Message,
    Reply,
    ServerAnnouncement,
    Setpoint,
    StationStatus,
)
from schemas.topics import Address, ChannelAddress, ChannelTopic, LoopAddress, LoopTopic, StatusAddress, parse

M = TypeVar("M", bound=Message)


class State(StrEnum):
    """What became of a rule."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_TRIED = "not_tried"


class Verdict(NamedTuple):
    """One rule, and what was seen of it."""

    rule: str
    state: State
    seen: str


def kept(rule: str, seen: str) -> Verdict:
    """Return that a rule was kept."""
    return Verdict(rule, State.KEPT, seen)


def broken(rule: str, seen: str) -> Verdict:
    """Return that a rule was broken."""
    return Verdict(rule, State.BROKEN, seen)


def not_tried(rule: str, why: str) -> Verdict:
    """Return that there was no opportunity."""
    return Verdict(rule, State.NOT_TRIED, why)


def judged(rule: str, good: bool, seen: str) -> Verdict:  # noqa: FBT001 - the verdict itself
    """Return that a rule was kept, or not."""
    return kept(rule, seen) if good else broken(rule, seen)


def in_order(rules: Iterable[str], verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return a verdict for every rule, in the rules' order."""
    found = {verdict.rule: verdict for verdict in verdicts}
    return [found.get(rule, not_tried(rule, "there was no opportunity")) for rule in rules]


@dataclass(frozen=True, slots=True)
class Heard:
    """A message that arrived."""

    at_s: float
    topic: str
    address: Address
    message: Message | None
    """None: malformed."""
    error: str
    retained: bool
    qos: int

    @property
    def key(self) -> tuple[str, str] | None:
        """Station and channel; None: it is no channel's."""
        return (self.address.station, self.address.channel) if isinstance(self.address, ChannelAddress) else None


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that the kit sent, and why; or a moment that it marked."""

    at_s: float
    label: str
    message: Message | None = None
    key: tuple[str, str] | None = None


@dataclass(slots=True)
class Record:
    """The traffic of one trial, in the order of time."""

    heard: list[Heard] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    newcomer: list[Heard] = field(default_factory=list)
    """What somebody was told who subscribed at the end."""

    def take(self, at_s: float, topic: str, payload: bytes, *, retained: bool, qos: int) -> None:
        """Take up what arrived; an empty payload clears a retained message, and says nothing."""
        entry = heard(at_s, topic, payload, retained=retained, qos=qos)
        if entry is not None:
            self.heard.append(entry)

    def of(
        self, model: type[M], key: tuple[str, str] | None = None, *, since_s: float = -inf, until_s: float = inf
    ) -> Iterator[tuple[float, M]]:
        """Yield the live messages of a kind, of one channel or of all, each with its time."""
        for entry in self.heard:
            if (
                isinstance(entry.message, model)
                and not entry.retained
                and (key is None or entry.key == key)
                and since_s <= entry.at_s <= until_s
            ):
                yield entry.at_s, entry.message

    def mark(self, label: str) -> Sent | None:
        """Return the first thing sent under a label."""
        return next((sent for sent in self.sent if sent.label == label), None)


def heard(at_s: float, topic: str, payload: bytes, *, retained: bool, qos: int) -> Heard | None:
    """Return what a packet says; None where it is not the contract's, or clears a retained message."""
    address = parse(topic)
    if address is None or not payload:
        return None
    model = _MODELS.get(address.leaf) if isinstance(address, LoopAddress | ChannelAddress) else StationStatus
    if model is None:
        return None
    try:
        return Heard(at_s, topic, address, decode(model, payload), "", retained, qos)
    except MalformedError as error:
        return Heard(at_s, topic, address, None, str(error), retained, qos)


_MODELS: dict[LoopTopic | ChannelTopic, type[Message]] = {
    LoopTopic.SERVER: ServerAnnouncement,
    LoopTopic.BALANCE: LoopBalance,
    LoopTopic.EVENT: Event,
    LoopTopic.REPLY: Reply,
    ChannelTopic.TELEMETRY: ChannelTelemetry,
    ChannelTopic.PLAN: ChannelPlan,
    ChannelTopic.SETPOINT: Setpoint,
    ChannelTopic.REPLY: Reply,
}
"""What is judged; commands are the kit's own, and another LoopTopic.REPLY than ChannelTopic.REPLY has the same form."""


OWN_SERVERS = "conform"
"""What the kit calls itself where it plays a server, or the begin of it; others must have another name."""


def said_by_server(record: Record) -> ServerAnnouncement | None:
    """Return what the loop's server, which is none of the kit's, has announced last."""
    said = (entry.message for entry in reversed(record.heard) if isinstance(entry.message, ServerAnnouncement))
    return next((one for one in said if not one.server.startswith(OWN_SERVERS)), None)


def of_station(entry: Heard, station: str) -> bool:
    """Tell whether a message is a station's own."""
    return isinstance(entry.address, StatusAddress | ChannelAddress) and entry.address.station == station


# ── as a file ────────────────────────────────────────────────────────────────────────────────────────────────────


def lines(record: Record) -> Iterator[str]:
    """Yield a record as lines of JSON, in the order of time."""
    said = [(entry.at_s, _heard_line("heard", entry)) for entry in record.heard]
    said += [(entry.at_s, _heard_line("newcomer", entry)) for entry in record.newcomer]
    said += [(sent.at_s, _sent_line(sent)) for sent in record.sent]
    for _, line in sorted(said, key=lambda pair: pair[0]):
        yield json.dumps(line, separators=(",", ":"))


def _heard_line(kind: str, entry: Heard) -> dict[str, object]:
    return {
        "kind": kind,
        "at_s": entry.at_s,
        "topic": entry.topic,
        "payload": None if entry.message is None else json.loads(encode(entry.message)),
        "error": entry.error,
        "retained": entry.retained,
        "qos": entry.qos,
    }


def _sent_line(sent: Sent) -> dict[str, object]:
    return {
        "kind": "sent",
        "at_s": sent.at_s,
        "label": sent.label,
        "model": "" if sent.message is None else type(sent.message).__name__,
        "payload": None if sent.message is None else json.loads(encode(sent.message)),
        "key": sent.key,
    }


def read(text: Iterable[str]) -> Record:
    """Return the record that `lines` wrote."""
    record = Record()
    for line in text:
        entry = json.loads(line)
        payload = None if entry["payload"] is None else json.dumps(entry["payload"]).encode()
        if entry["kind"] == "sent":
            message = None if payload is None else decode(PAYLOADS[entry["model"]], payload)
            key = None if entry["key"] is None else (entry["key"][0], entry["key"][1])
            record.sent.append(Sent(entry["at_s"], entry["label"], message, key))
            continue
        found = heard(
            entry["at_s"], entry["topic"], payload or b"malformed", retained=entry["retained"], qos=entry["qos"]
        )
        if found is not None:
            (record.heard if entry["kind"] == "heard" else record.newcomer).append(found)
    return record
