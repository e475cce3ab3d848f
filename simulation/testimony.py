"""What the equalizer itself has told a recorder, and how the recorded messages fall into step with it."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from types import MappingProxyType

from equalizer import diary
from equalizer.memory import Memory, UnreadableError, decode
from recording.reader import Recording, Row
from schemas import topics
from schemas.codec import MalformedError, decode_telemetry
from schemas.codec import decode as decode_message
from schemas.loads import Telemetry
from schemas.messages import ChannelPlan
from schemas.topics import ChannelAddress, ChannelTopic, LoopAddress, LoopTopic, StatusAddress

APART_S = 0.3
"""Messages that are said to have been heard by a decision, and came so much later or earlier, were not counted as the
recorder counts: some were lost on one of both ways. Then the time alone says what it had heard."""
UNKNOWN = "what the equalizer remembered when the recording began is not in it"


class Kind(Enum):
    """What the equalizer counts."""

    LOAD = auto()
    LED = auto()
    """Telemetry of an equalization channel."""
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the control remembered."""

    at_s: float
    """When it was asked, after the beginning of the recording."""
    memory: Memory


@dataclass(frozen=True, slots=True)
class Diary:
    """When the control decided, by the number of the decision."""

    cycles: Mapping[int, tuple[float, int, int]]
    """When, and how many messages it had heard: telemetry, and others."""
    others: Mapping[int, float]
    """When the messages came that are no telemetry, by their number."""
    led: Mapping[int, float]
    """When the equalization channels' telemetry came, by its number."""


NO_DIARY = Diary(MappingProxyType({}), MappingProxyType({}), MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Testimony:
    """What the equalizer told a recorder."""

    remembered: tuple[Remembered, ...]
    diary: Diary
    why: str
    """Why it is not known what the control remembered."""


NOTHING_SAID = Testimony((), NO_DIARY, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Script:
    """What happens, and when; the times are the equalizer's."""

    before: tuple[Row, ...]
    """What had been heard when it was asked what it remembers."""
    happenings: tuple[tuple[float, Row | None], ...]
    """Messages, and (None) decisions, in their order."""
    decides_s: tuple[float, ...]
    """When it decided, as far as it has said."""


def testimony(recording: Recording) -> Testimony:
    """Return what the equalizer told the recorder."""
    found: list[Remembered] = []
    why = UNKNOWN
    for at_s, payload in recording.memories():
        try:
            found.append(Remembered(at_s, decode(payload)))
        except UnreadableError as error:
            why = str(error)
    if not found:
        return Testimony((), NO_DIARY, why)
    cycles: dict[int, tuple[float, int, int]] = {}
    others: dict[int, float] = {}
    led: dict[int, float] = {}
    for payload in recording.diaries():
        page = diary.read(payload)
        if page is not None and page.run == found[0].memory.mark.run:
            cycles.update(enumerate(page.cycles, page.first_cycle))
            others.update(enumerate(page.others, page.first_other))
            led.update(enumerate(page.led, page.first_led))
    return Testimony(tuple(found), Diary(cycles, others, led), why)


def scripted(
    rows: Sequence[Row], offset_s: float, begin_s: float, remembered: Sequence[Remembered], kept: Diary
) -> Script:
    """Bring the recorded messages into step with the decisions.

    Args:
        rows: the messages, in their order.
        offset_s: from the recorder's time to the equalizer's.
        begin_s: when the replay begins, after the recording does.
        remembered: what the control remembered; empty: nothing is known of its decisions either.
        kept: when it decided.
    """
    if not remembered:
        return Script((), tuple((offset_s + row.at_s, row) for row in rows if row.at_s >= begin_s), ())
    memory = remembered[0].memory
    first = _first_unheard(rows, memory)
    later = rows[first:]
    counts = list(_counts(later, memory))
    times_s = _times_s(later, counts, offset_s, kept)
    cycles = [kept.cycles[number] for number in sorted(kept.cycles) if number >= memory.mark.cycles]
    return Script(
        tuple(rows[:first]), tuple(_merged(later, times_s, counts, cycles)), tuple(cycle[0] for cycle in cycles)
    )


@dataclass(frozen=True, slots=True)
class _Count:
    """How many messages the equalizer has heard with one, that one included."""

    telemetry: int
    others: int
    led: int
    kind: Kind | None
    """Of that one; None: it does not count."""


def _times_s(rows: Sequence[Row], counts: Sequence[_Count], offset_s: float, kept: Diary) -> list[float]:
    """Return when the equalizer heard each message: as it has said, else as the recorder heard it, in their order."""
    times_s = [offset_s + row.at_s for row in rows]
    sure: set[int] = set()
    for number, count in enumerate(counts):
        said_s = None
        if count.kind is Kind.OTHER:
            said_s = kept.others.get(count.others - 1)
        elif count.kind is Kind.LED:
            said_s = kept.led.get(count.led - 1)
        if said_s is not None and abs(said_s - times_s[number]) <= APART_S:
            times_s[number] = said_s
            sure.add(number)
    for number in reversed(range(len(times_s) - 1)):
        if number not in sure:
            times_s[number] = min(times_s[number], times_s[number + 1])
    for number in range(1, len(times_s)):
        if number not in sure:
            times_s[number] = max(times_s[number], times_s[number - 1])
    return times_s


def _merged(
    rows: Sequence[Row],
    times_s: Sequence[float],
    counts: Sequence[_Count],
    cycles: Iterable[tuple[float, int, int]],
) -> Iterator[tuple[float, Row | None]]:
    """Yield the messages, each no later than the decision that had heard it, and the decisions."""
    telemetry, others = [count.telemetry for count in counts], [count.others for count in counts]
    at, passed_s = 0, -inf
    for decided_s, heard, beside in cycles:
        until = min(bisect_right(telemetry, heard), bisect_right(others, beside))
        if not _is_in_step(times_s, until, decided_s):
            until = bisect_right(times_s, decided_s)
        for number in range(at, until):
            passed_s = min(max(passed_s, times_s[number]), decided_s)
            yield passed_s, rows[number]
        at, passed_s = max(at, until), decided_s
        yield decided_s, None
    for number in range(at, len(rows)):
        passed_s = max(passed_s, times_s[number])
        yield passed_s, rows[number]


def _is_in_step(times_s: Sequence[float], until: int, decided_s: float) -> bool:
    """Tell whether the message before a decision came before it, and the one after it after it, as far as is known."""
    too_late = until > 0 and times_s[until - 1] > decided_s + APART_S
    too_soon = until < len(times_s) and times_s[until] < decided_s - APART_S
    return not too_late and not too_soon


def _counts(rows: Iterable[Row], memory: Memory) -> Iterator[_Count]:
    """Yield how many messages the equalizer has heard with each."""
    telemetry, others, led = memory.mark.telemetry, memory.mark.others, memory.mark.led
    for row in rows:
        kind = _kind(row)
        telemetry += kind in (Kind.LOAD, Kind.LED)
        others += kind is Kind.OTHER
        led += kind is Kind.LED
        yield _Count(telemetry, others, led, kind)


def _kind(row: Row) -> Kind | None:
    """Return what a message is that the equalizer counts; None for others, and for what the broker kept from before."""
    if row.retained:
        return None
    match topics.parse(row.topic):
        case ChannelAddress(leaf=ChannelTopic.TELEMETRY):
            said = _telemetry(row)
            return Kind.LED if said is not None and said.equalization is not None else Kind.LOAD
        case ChannelAddress(leaf=ChannelTopic.PLAN) | LoopAddress(leaf=LoopTopic.METER) | StatusAddress():
            return Kind.OTHER
        case _:
            return None


def _telemetry(row: Row) -> Telemetry | None:
    try:
        return decode_telemetry(row.payload)
    except MalformedError:
        return None


def _first_unheard(rows: Sequence[Row], memory: Memory) -> int:
    """Return the number of the first message that the equalizer had not heard when it was asked what it remembers."""
    known = {
        (station.name, channel.name): (channel.boot_id, channel.seq)
        for station in memory.book.stations
        for channel in station.channels
    }
    for number, row in enumerate(rows):
        address = topics.parse(row.topic)
        if row.retained or not isinstance(address, ChannelAddress) or address.leaf is not ChannelTopic.TELEMETRY:
            continue
        said = _telemetry(row)
        boot_id, seq = known.get((address.station, address.channel), (None, -1))
        if said is None:
            continue
        if said.boot_id != boot_id or said.seq > seq:
            return _after_the_last_heard_plan(rows, number, memory)
    return len(rows)


def _after_the_last_heard_plan(rows: Sequence[Row], number: int, memory: Memory) -> int:
    """Go back over the plans that came just before a message, as far as the equalizer had not heard them."""
    known = {
        (station.name, channel.name): channel.plan_source
        for station in memory.book.stations
        for channel in station.channels
    }
    while number > 0 and _kind(rows[number - 1]) not in (Kind.LOAD, Kind.LED):
        row = rows[number - 1]
        address = topics.parse(row.topic)
        if isinstance(address, ChannelAddress) and address.leaf is ChannelTopic.PLAN:
            try:
                plan = decode_message(ChannelPlan, row.payload)
            except MalformedError:
                plan = None
            if plan is None or (plan.boot_id, plan.seq) == known.get((address.station, address.channel)):
                break
        number -= 1
    return number
