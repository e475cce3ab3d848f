"""What the contract asks of a station that is cut off, killed, started again, or that trips."""

from collections.abc import Iterator
from math import inf

from conform.record import Record, Sent, Verdict, broken, judged, not_tried, of_station
from conform.rules.case import LEAST_W, StationCase, answer, echo_of
from schemas.messages import (
    ChannelCommand,
    ChannelTelemetry,
    Presence,
    Reply,
    ReplyReason,
    ReplyResult,
    Setpoint,
    SetpointReason,
    SetpointResult,
    StationStatus,
    WorkStatus,
)

RULES = {
    "station.will": "a connection that breaks, or a process that is killed, leaves an offline with its boot_id",
    "station.goodbye": "a station that is stopped cleanly publishes its own offline",
    "reconnect.anew": "connected again, it says at once that it is online, of the same boot, and its telemetry goes on",
    "reconnect.retained": "a setpoint or command that arrives with the retain flag is dropped",
    "lease.cut_off": "a lease ends although nobody can be reached: expired, 0 W, still in the mode",
    "restart.boot": "boot_id is new at every start of the process",
    "restart.mode": "the mode is remembered across a restart, which begins at 0 W again",
    "restart.epoch": "the highest epoch is remembered across a restart: below it, stale_epoch",
    "trip.protect": "a protection trip goes to 0 W, leaves the mode, and says protect and an alarm",
    "trip.until_cleared": "until clear_alarm nothing moves it and equalize is rejected as alarm; clear_alarm ends that",
}
"""Rule → the contract's words, in short."""

RELAY_ONLY = "needs a broken connection: only with --relay"
RUN_ONLY = "needs a process that may be killed: only with --run"
TRIP_ONLY = "needs a trip: only with --trip"
_WILL_WITHIN_S = 5.0
_GOODBYE_WITHIN_S = 40.0


def judge_lifecycle(record: Record, case: StationCase) -> Iterator[Verdict]:
    """Yield a verdict for every rule here that can be judged."""
    yield from _will(record, case)
    yield from _goodbye(record, case)
    yield from _reconnected(record, case)
    yield from _retained(record, case)
    yield from _restarted(record, case)
    yield from _tripped(record, case)


def _boot(record: Record, case: StationCase, until_s: float) -> str | None:
    said = [t.boot_id for _, t in record.of(ChannelTelemetry, case.key, until_s=until_s)]
    return said[-1] if said else None


def _said(record: Record, case: StationCase, since_s: float, until_s: float) -> list[StationStatus]:
    """Return what the station, or the broker in its name, said live of its presence."""
    return [
        entry.message
        for entry in record.heard
        if isinstance(entry.message, StationStatus)
        and of_station(entry, case.station)
        and not entry.retained
        and since_s <= entry.at_s <= until_s
    ]


def _will(record: Record, case: StationCase) -> Iterator[Verdict]:
    breaks = [sent for label in ("cut", "killed") if (sent := record.mark(label)) is not None]
    if not breaks:
        yield not_tried("station.will", f"{RELAY_ONLY}, or --run")
        return
    wrong = ""
    for sent in breaks:
        said = _said(record, case, sent.at_s, sent.at_s + _WILL_WITHIN_S + case.slack_s)
        wills = [status.boot_id for status in said if status.status is Presence.OFFLINE]
        boot_id = _boot(record, case, sent.at_s)
        if not wills:
            wrong = f"{sent.label}, and nobody said offline"
        elif wills[0] != boot_id:
            wrong = f"{sent.label}: the will names boot {wills[0]!r}, it was {boot_id!r}"
    yield judged("station.will", not wrong, wrong or ", ".join(sent.label for sent in breaks))


def _goodbye(record: Record, case: StationCase) -> Iterator[Verdict]:
    ended = record.mark("ended")
    if ended is None:
        yield not_tried("station.goodbye", RUN_ONLY)
        return
    said = _said(record, case, ended.at_s, ended.at_s + _GOODBYE_WITHIN_S)
    good = bool(said) and said[-1].status is Presence.OFFLINE
    good = good and said[-1].boot_id == _boot(record, case, inf)
    yield judged("station.goodbye", good, f"{said[-1].status}, boot {said[-1].boot_id}" if said else "it said nothing")


def _reconnected(record: Record, case: StationCase) -> Iterator[Verdict]:
    cut, admitted, back = record.mark("cut"), record.mark("admitted"), record.mark("back_end")
    if cut is None or admitted is None or back is None:
        yield not_tried("reconnect.anew", RELAY_ONLY)
        yield not_tried("lease.cut_off", RELAY_ONLY)
        return
    boot_id = _boot(record, case, cut.at_s)
    online = [s.boot_id for s in _said(record, case, admitted.at_s, back.at_s) if s.status is Presence.ONLINE]
    heard = [t for _, t in record.of(ChannelTelemetry, case.key, since_s=admitted.at_s, until_s=back.at_s)]
    boots = {*online, *(t.boot_id for t in heard)}
    seen = f"online {len(online)} times, {len(heard)} telemetry messages, boots {sorted(boots)}, before {boot_id!r}"
    yield judged("reconnect.anew", bool(online) and bool(heard) and boots == {boot_id}, seen)
    led = record.mark("before_cut")
    if not heard or led is None or not isinstance(led.message, Setpoint):
        yield broken("lease.cut_off", "it has not come back")
        return
    first = heard[0]
    state = first.equalization
    ended = state is not None and state.last is not None and state.last.result is SetpointResult.EXPIRED
    away_s = admitted.at_s - led.at_s
    seen = f"{first.power_w:g} W, {away_s:.1f} s after a setpoint of {led.message.ttl_s:g} s"
    yield judged("lease.cut_off", ended and abs(first.power_w) <= LEAST_W, seen)


def _retained(record: Record, case: StationCase) -> Iterator[Verdict]:
    planted = [sent for sent in record.sent if sent.label.startswith("planted")]
    if not planted:
        yield not_tried("reconnect.retained", f"{RELAY_ONLY}, or --run")
        return
    wrong = next((text for sent in planted if (text := _obeyed(record, case, sent))), "")
    yield judged("reconnect.retained", not wrong, wrong or f"{len(planted)} messages waited, none was decided on")


def _obeyed(record: Record, case: StationCase, sent: Sent) -> str:
    message = sent.message
    if isinstance(message, ChannelCommand):
        told = [r for _, r in record.of(Reply, case.key, since_s=sent.at_s) if r.id == message.id]
        return f"a retained {message.action} was {told[0].result}" if told else ""
    assert isinstance(message, Setpoint)  # noqa: S101 - the kit plants nothing else
    for _, t in record.of(ChannelTelemetry, case.key, since_s=sent.at_s):
        if (echo := answer(t, message)) is not None:
            return f"a retained setpoint was decided on: {echo.result}, {t.power_w:g} W"
    return ""


def _restarted(record: Record, case: StationCase) -> Iterator[Verdict]:
    killed, back, end = record.mark("killed"), record.mark("restarted"), record.mark("restarted_end")
    if killed is None:
        for rule in ("restart.boot", "restart.mode", "restart.epoch"):
            yield not_tried(rule, RUN_ONLY)
        return
    if back is None or end is None:
        yield broken("restart.boot", "it did not come back")
        return
    before, after = _boot(record, case, killed.at_s), _boot(record, case, end.at_s)
    yield judged("restart.boot", before != after, f"{before!r}, then {after!r}")
    span = [t for _, t in record.of(ChannelTelemetry, case.key, since_s=back.at_s, until_s=end.at_s)]
    flows_w = max((abs(t.power_w) for t in span), default=inf)
    remembered = bool(span) and span[-1].equalization is not None
    seen = f"{'in' if remembered else 'not in'} the mode, at most {flows_w:g} W"
    yield judged("restart.mode", remembered and flows_w <= LEAST_W, seen)
    echo = echo_of(record, case, "old_after_restart")
    if echo is None:
        yield broken("restart.epoch", "no echo of a setpoint with the epoch before the last")
        return
    good = echo.result is SetpointResult.REJECTED and echo.reason is SetpointReason.STALE_EPOCH
    yield judged("restart.epoch", good, f"{echo.result}, {echo.reason}")


def _tripped(record: Record, case: StationCase) -> Iterator[Verdict]:
    begun, seen, cleared = record.mark("trip"), record.mark("tripped"), record.mark("clear_alarm")
    if begun is None:
        yield not_tried("trip.protect", TRIP_ONLY)
        yield not_tried("trip.until_cleared", TRIP_ONLY)
        return
    if seen is None or cleared is None:
        yield broken("trip.protect", "no alarm came")
        return
    span = [(at_s, t) for at_s, t in record.of(ChannelTelemetry, case.key, since_s=begun.at_s, until_s=cleared.at_s)]
    tripped = [(at_s, t) for at_s, t in span if t.alarm is not None]
    wrong = [t for _, t in tripped if t.work_status is not WorkStatus.PROTECT or t.equalization is not None]
    first_s = tripped[0][0] if tripped else inf
    later = [t for at_s, t in span if at_s > first_s]
    left = [t for t in later if t.alarm is None]
    flows_w = max((abs(t.power_w) for t in later), default=inf)
    alarm = tripped[-1][1].alarm if tripped else None
    text = f"{tripped[-1][1].work_status}, {alarm and alarm.code}, at most {flows_w:g} W" if tripped else "no alarm"
    yield judged("trip.protect", bool(tripped) and not wrong and not left and flows_w <= LEAST_W, text)
    refused, freed = _reply(record, case, "equalize_tripped"), _reply(record, case, "clear_alarm")
    after = [t for _, t in record.of(ChannelTelemetry, case.key, since_s=cleared.at_s)]
    good = refused is not None and (refused.result, refused.reason) == (ReplyResult.REJECTED, ReplyReason.ALARM)
    good = good and freed is not None and freed.result is ReplyResult.ACCEPTED
    good = good and bool(after) and after[-1].alarm is None
    text = f"equalize: {_short(refused)}; clear_alarm: {_short(freed)}; {after[-1].work_status if after else 'silent'}"
    yield judged("trip.until_cleared", good, text)


def _reply(record: Record, case: StationCase, label: str) -> Reply | None:
    sent = record.mark(label)
    if sent is None or not isinstance(sent.message, ChannelCommand):
        return None
    wanted = sent.message.id
    return next((reply for _, reply in record.of(Reply, case.key) if reply.id == wanted), None)


def _short(reply: Reply | None) -> str:
    return "no reply" if reply is None else f"{reply.result} {reply.reason or ''}".strip()
