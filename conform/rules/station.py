"""What the contract asks of a station, each rule over the record of a trial."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import inf

from conform.record import Record, State, Verdict, broken, in_order, judged, kept, not_tried, of_station
from conform.rules import lifecycle
from conform.rules.case import ECHO_WITHIN_S, LEAST_W, StationCase, echo_of, was_away
from schemas.messages import (
    ChannelCommand,
    ChannelPlan,
    ChannelTelemetry,
    Equalization,
    Event,
    Presence,
    Reply,
    ReplyReason,
    ReplyResult,
    Setpoint,
    SetpointReason,
    SetpointResult,
    Severity,
    StationStatus,
    StepType,
    WorkStatus,
)
from schemas.topics import ChannelAddress, ChannelTopic, StatusAddress

RULES = {
    "station.status": "a retained status with QoS 1 says online, and names its channels and its boot",
    "station.boot": "telemetry and plans carry the boot_id of the status",
    "station.malformed": "every payload is as the contract has it",
    "station.qos": "telemetry and plans go with QoS 0, status, replies and events with QoS 1",
    "station.retained": "telemetry and status are retained; plans, replies and events are not",
    "station.period": "telemetry of every channel each telemetry_period_s",
    "station.seq": "seq counts up by one per channel and message within a boot",
    "station.at_once": "telemetry goes out at once when work status or step changes",
    "station.sign": "power is voltage times current, positive when charging",
    "station.plan_valid": "a working channel has a plan, renewed before half of its horizon is used",
    "station.plan_honest": "what a plan says is certain is what is then measured",
    "command.reply": "every command gets one reply within 2 s",
    "command.same_id": "the same id again gets the same reply and does nothing twice",
    "command.unknown": "an unknown action is rejected as unknown_action",
    "equalize.mode": "equalize enters the mode with a sim step and holds 0 W until the first setpoint",
    "equalize.stop": "stop ramps to 0 W and leaves the mode",
    "setpoint.1_parse": "a malformed setpoint is dropped, and changes nothing",
    "setpoint.2_mode": "outside the equalization mode a setpoint moves nothing",
    "setpoint.3_basis": "a basis of another boot, or older than 15 s, is rejected as stale_basis",
    "setpoint.4_stale_epoch": "an epoch below the highest accepted is rejected as stale_epoch",
    "setpoint.4_conflict": "the same epoch from another server is rejected as epoch_conflict, with an alarm Event",
    "setpoint.4_jump": "an epoch higher by more than 1000 is rejected as epoch_jump",
    "setpoint.5_seq": "a seq not above the last is ignored",
    "setpoint.6_applied": "an accepted setpoint is echoed as applied or clamped, and followed",
    "setpoint.steps": "each step of a setpoint comes at its after_s, counted from receipt",
    "setpoint.clamped": "beyond a limit it is echoed as clamped, and the limit holds",
    "lease.longest": "a lease is never longer than 60 s",
    "lease.basis": "a lease ends min(ttl_s, 60 s) after its basis was sent: expired, 0 W, still in the mode",
    "lease.refresh": "a refresh with the same powers extends the lease and moves nothing",
    "ramp": "power changes no faster than ramp_w_per_s",
    "left_stopped": "at the end the channel is stopped at 0 W",
    "late_will": "a station that sees its own status turn offline publishes it again",
} | lifecycle.RULES
"""Rule → the contract's words, in short."""

_REPLY_WITHIN_S = 2.0
_LONGEST_LEASE_S = 60.0
_EDGE_S = 0.7
_LONG_ENOUGH = 10
"""So many messages of a channel that works, and there must have been a plan."""


def judge(record: Record, case: StationCase) -> list[Verdict]:
    """Return a verdict for every rule, in the contract's order."""
    return in_order(RULES, (verdict for rule in _RULES for verdict in rule(record, case)))


# ── what it says of itself ───────────────────────────────────────────────────────────────────────────────────────


def _status(record: Record, case: StationCase) -> Iterator[Verdict]:
    said = [e for e in record.newcomer if isinstance(e.address, StatusAddress) and e.address.station == case.station]
    status = said[-1].message if said else None
    if not isinstance(status, StationStatus):
        yield broken("station.status", "a newcomer is told no status")
        return
    good = status.status is Presence.ONLINE and case.channel in status.channels and bool(status.boot_id)
    yield judged("station.status", good, f"{status.status}, {len(status.channels)} channels, boot {status.boot_id!r}")
    # A station that was started again meanwhile has had more boots than one; each of them said so.
    known = {status.boot_id} | {
        entry.message.boot_id
        for entry in record.heard
        if isinstance(entry.message, StationStatus) and of_station(entry, case.station)
    }
    boots = {
        message.boot_id
        for model in (ChannelTelemetry, ChannelPlan)
        for entry in record.heard
        if isinstance(message := entry.message, model) and not entry.retained and of_station(entry, case.station)
    }
    if boots:
        yield judged(
            "station.boot",
            boots <= known and status.boot_id in boots,
            f"boots {sorted(boots)}, statuses {sorted(known)}",
        )


def _wire(record: Record, case: StationCase) -> Iterator[Verdict]:
    own = [entry for entry in (*record.heard, *record.newcomer) if of_station(entry, case.station)]
    own = [e for e in own if not (isinstance(e.address, ChannelAddress) and e.address.leaf is ChannelTopic.SETPOINT)]
    bad = [entry for entry in own if entry.message is None]
    yield judged("station.malformed", not bad, f"{bad[0].topic}: {bad[0].error}" if bad else f"{len(own)} messages")
    events = [e for e in record.heard if isinstance(e.message, Event) and _source(e.message) == case.station]
    wrong = [e for e in own if e.message is not None and e.qos != int(isinstance(e.message, StationStatus | Reply))]
    wrong += [e for e in events if e.qos != 1]
    yield judged(
        "station.qos", not wrong, f"{wrong[0].topic} came with QoS {wrong[0].qos}" if wrong else "all as agreed"
    )
    told = [entry for entry in record.newcomer if of_station(entry, case.station)]
    told_events = [e for e in record.newcomer if isinstance(e.message, Event)]
    never = [entry.topic for entry in told_events] + [
        entry.topic for entry in told if not isinstance(entry.message, StationStatus | ChannelTelemetry)
    ]
    channels = {entry.key for entry in told if isinstance(entry.message, ChannelTelemetry)}
    live = {entry.key for entry in own if isinstance(entry.message, ChannelTelemetry) and not entry.retained}
    lacking = sorted(str(key) for key in live - channels)
    seen = (
        f"retained: {never[0]}" if never else f"no telemetry kept of {lacking[0]}" if lacking else f"{len(told)} kept"
    )
    yield judged("station.retained", not never and not lacking, seen)


def _telemetry(record: Record, case: StationCase) -> Iterator[Verdict]:
    worst_s, missing, count = 0.0, "", 0
    for key in _keys(record, case):
        series = list(record.of(ChannelTelemetry, key))
        count += len(series)
        for (earlier_s, earlier), (later_s, later) in pairwise(series):
            if was_away(record, earlier_s, later_s):
                continue  # what it said meanwhile nobody could hear
            worst_s = max(worst_s, later_s - earlier_s)
            if later.boot_id == earlier.boot_id and later.seq != earlier.seq + 1:
                missing = f"{'/'.join(key)}: {later.seq} after {earlier.seq}"
    if not count:
        yield broken("station.period", "no telemetry came")
        return
    limit_s = case.period_s + case.slack_s
    yield judged(
        "station.period", worst_s <= limit_s, f"the longest silence took {worst_s:.2f} s of {case.period_s:g} s"
    )
    yield judged("station.seq", not missing, missing or f"{count} messages in order")
    off = [
        f"{'/'.join(key)}: {t.power_w:g} W at {t.voltage_v:g} V, {t.current_a:g} A"
        for key in _keys(record, case)
        for _, t in record.of(ChannelTelemetry, key)
        if abs(t.power_w - t.voltage_v * t.current_a) > max(0.05 * abs(t.power_w), LEAST_W)
    ]
    yield judged("station.sign", not off, off[0] if off else f"{count} messages")


def _at_once(record: Record, case: StationCase) -> Iterator[Verdict]:
    command = record.mark("equalize")
    if command is None or not isinstance(command.message, ChannelCommand):
        return
    reply_s = next((at_s for at_s, r in record.of(Reply, case.key) if r.id == command.message.id), None)
    if reply_s is None:
        return
    shown_s = next(
        (at_s for at_s, t in record.of(ChannelTelemetry, case.key, since_s=command.at_s) if t.equalization is not None),
        inf,
    )
    late_s = shown_s - reply_s
    yield judged("station.at_once", late_s <= case.slack_s, f"shown {max(late_s, 0.0):.2f} s after the reply")


def _plans(record: Record, case: StationCase) -> Iterator[Verdict]:
    seen, late, samples, wrong = 0, "", 0, ""
    misses = 0
    for key in _keys(record, case):
        plans = list(record.of(ChannelPlan, key))
        seen += len(plans)
        for (at_s, plan), (next_s, _) in pairwise(plans):
            overdue = next_s - at_s > plan.until_s / 2.0 + case.slack_s and not was_away(record, at_s, next_s)
            if overdue and _works(record, key, at_s, next_s):
                late = f"{'/'.join(key)}: {next_s - at_s:.1f} s after a plan for {plan.until_s:g} s"
        for at_s, telemetry in record.of(ChannelTelemetry, key):
            promised_w = _promised_w(plans, at_s)
            if promised_w is None or telemetry.equalization is not None:
                continue
            samples += 1
            if abs(telemetry.power_w - promised_w) > max(0.05 * abs(promised_w), 2.0 * LEAST_W):
                misses += 1
                wrong = f"{'/'.join(key)}: {telemetry.power_w:g} W where {promised_w:g} W was certain"
    if not seen:
        working = [key for key in _keys(record, case) if _worked(record, key) >= _LONG_ENOUGH]
        if working:
            yield broken("station.plan_valid", f"{'/'.join(working[0])} works, and no plan came")
        else:
            yield not_tried("station.plan_valid", "no channel runs a program")
        return
    yield judged("station.plan_valid", not late, late or f"{seen} plans")
    if samples:
        yield judged(
            "station.plan_honest", misses <= 0.02 * samples, wrong if misses else f"{samples} samples as planned"
        )


def _promised_w(plans: list[tuple[float, ChannelPlan]], at_s: float) -> float | None:
    """Return the power that the newest plan is certain of, well away from its edges."""
    newest = next(((sent_s, plan) for sent_s, plan in reversed(plans) if sent_s <= at_s), None)
    if newest is None:
        return None
    into_s = at_s - newest[0]
    plan = newest[1]
    if into_s >= plan.until_s - _EDGE_S or into_s < _EDGE_S:
        return None
    if any(abs(into_s - part.after_s) < _EDGE_S for part in plan.segments[1:]):
        return None
    passed = [part for part in plan.segments if part.after_s <= into_s]
    near = any(part.sigma_s is not None and into_s > part.after_s - 4.0 * part.sigma_s for part in plan.segments)
    return None if near else passed[-1].power_w


def _worked(record: Record, key: tuple[str, str]) -> int:
    """Return how many messages say that a channel runs its own program."""
    return sum(
        t.work_status is WorkStatus.WORKING and t.equalization is None for _, t in record.of(ChannelTelemetry, key)
    )


def _works(record: Record, key: tuple[str, str], since_s: float, until_s: float) -> bool:
    series = [t for _, t in record.of(ChannelTelemetry, key, since_s=since_s, until_s=until_s)]
    return bool(series) and all(t.work_status is WorkStatus.WORKING and t.equalization is None for t in series)


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _commands(record: Record, case: StationCase) -> Iterator[Verdict]:
    sent = [s for s in record.sent if isinstance(s.message, ChannelCommand) and not s.label.startswith("planted")]
    times: dict[str, list[float]] = {}
    for one in sent:
        assert isinstance(one.message, ChannelCommand)  # noqa: S101 - selected above
        times.setdefault(one.message.id, []).append(one.at_s)
    worst_s, wrong = 0.0, ""
    for command_id, at in times.items():
        replies = [(at_s, reply) for at_s, reply in record.of(Reply, case.key) if reply.id == command_id]
        if len(replies) != len(at):
            wrong = f"{len(replies)} replies to a command that was sent {len(at)} times"
        worst_s = max([worst_s, *(back - there for there, (back, _) in zip(at, replies, strict=False))])
    good = not wrong and worst_s <= _REPLY_WITHIN_S + case.slack_s / 2.0
    if times:
        yield judged("command.reply", good, wrong or f"{len(times)} commands, the slowest reply after {worst_s:.2f} s")
    first, again = record.mark("equalize"), record.mark("equalize_again")
    if first is not None and again is not None and isinstance(first.message, ChannelCommand):
        told = [r for _, r in record.of(Reply, case.key) if r.id == first.message.id]
        same = len({(r.action, r.result, r.reason, r.text) for r in told}) == 1 and len(told) > 1
        yield judged("command.same_id", same, f"{len(told)} replies: {', '.join(str(r.result) for r in told)}")
    unknown = record.mark("unknown")
    if unknown is not None and isinstance(unknown.message, ChannelCommand):
        told = [r for _, r in record.of(Reply, case.key) if r.id == unknown.message.id]
        good = bool(told) and told[0].result is ReplyResult.REJECTED and told[0].reason is ReplyReason.UNKNOWN_ACTION
        yield judged("command.unknown", good, f"{told[0].result}, {told[0].reason}" if told else "no reply")


def _mode(record: Record, case: StationCase) -> Iterator[Verdict]:
    begun, first = record.mark("equalize"), record.mark("first")
    if begun is not None and first is not None:
        span = record.of(ChannelTelemetry, case.key, since_s=begun.at_s, until_s=first.at_s)
        inside = [t for _, t in span if t.equalization is not None]
        good = bool(inside) and all(
            t.step_type is StepType.SIM and t.work_status is WorkStatus.WORKING and abs(t.power_w) <= LEAST_W
            for t in inside
        )
        at = (
            f"{inside[-1].work_status}, {inside[-1].step_type}, {inside[-1].power_w:g} W"
            if inside
            else "never in the mode"
        )
        yield judged("equalize.mode", good, at)
    stop = record.mark("stop")
    if stop is not None:
        after = [t for _, t in record.of(ChannelTelemetry, case.key, since_s=stop.at_s)]
        left = bool(after) and after[-1].equalization is None and abs(after[-1].power_w) <= LEAST_W
        seen = f"{after[-1].work_status} at {after[-1].power_w:g} W" if after else "silent"
        yield judged("equalize.stop", left, seen)
        yield judged("left_stopped", left, seen)


# ── setpoints ────────────────────────────────────────────────────────────────────────────────────────────────────


def _early(record: Record, case: StationCase) -> Iterator[Verdict]:
    early, begun = record.mark("early"), record.mark("equalize")
    if early is None or begun is None:
        return
    moved = [
        t.power_w
        for _, t in record.of(ChannelTelemetry, case.key, since_s=early.at_s, until_s=begun.at_s)
        if abs(t.power_w) > LEAST_W
    ]
    yield judged("setpoint.2_mode", not moved, f"moved to {moved[0]:g} W" if moved else "0 W")


def _malformed(record: Record, case: StationCase) -> Iterator[Verdict]:
    first, last = record.mark("malformed"), record.mark("malformed_end")
    if first is None or last is None:
        return
    span = list(record.of(ChannelTelemetry, case.key, since_s=first.at_s, until_s=last.at_s))
    echoes = {
        (t.equalization.last.server, t.equalization.last.seq) for _, t in span if t.equalization and t.equalization.last
    }
    moved = any(abs(t.power_w) > LEAST_W for _, t in span)
    good = bool(span) and len(echoes) <= 1 and not moved
    yield judged("setpoint.1_parse", good, f"{len(span)} telemetry messages, echoes {sorted(echoes)}")


_REFUSALS = {
    "setpoint.3_basis": (("wrong_boot", "old_basis"), SetpointReason.STALE_BASIS),
    "setpoint.4_stale_epoch": (("stale_epoch",), SetpointReason.STALE_EPOCH),
    "setpoint.4_conflict": (("epoch_conflict",), SetpointReason.EPOCH_CONFLICT),
    "setpoint.4_jump": (("epoch_jump",), SetpointReason.EPOCH_JUMP),
}


def _refusals(record: Record, case: StationCase) -> Iterator[Verdict]:
    for rule, (labels, reason) in _REFUSALS.items():
        verdict = not_tried(rule, "was not sent")
        for label in labels:
            echo = echo_of(record, case, label)
            if record.mark(label) is None or verdict.state is State.BROKEN:
                continue
            if echo is None:
                verdict = broken(rule, f"no echo of it within {ECHO_WITHIN_S:g} s")
            else:
                good = echo.result is SetpointResult.REJECTED and echo.reason is reason
                verdict = judged(rule, good, f"{echo.result}, {echo.reason}")
        if verdict.state is State.KEPT and reason is SetpointReason.EPOCH_CONFLICT:
            sent = record.mark("epoch_conflict")
            alarms = [
                e for _, e in record.of(Event, since_s=sent.at_s if sent else 0.0) if e.severity is Severity.ALARM
            ]
            if not alarms:
                verdict = broken(rule, "rejected, and no alarm Event came")
        yield verdict


def _followed(record: Record, case: StationCase) -> Iterator[Verdict]:
    echo, sent = echo_of(record, case, "power"), record.mark("power")
    if sent is None:
        return
    if echo is None:
        yield broken("setpoint.6_applied", f"no echo within {ECHO_WITHIN_S:g} s")
        return
    end = record.mark("power_end")
    until_s = inf if end is None else end.at_s
    series = [t for _, t in record.of(ChannelTelemetry, case.key, since_s=sent.at_s, until_s=until_s)]
    reached = any(abs(t.power_w - case.power_w) <= case.tolerance_w for t in series)
    taken = echo.result in {SetpointResult.APPLIED, SetpointResult.CLAMPED}
    last_w = series[-1].power_w if series else 0.0
    seen = f"{echo.result}, {last_w:g} W of {case.power_w:g} W"
    yield judged("setpoint.6_applied", taken and reached, seen)


def _steps(record: Record, case: StationCase) -> Iterator[Verdict]:
    sent = record.mark("steps")
    if sent is None or not isinstance(sent.message, Setpoint):
        return
    wrong, count = "", 0
    steps = sent.message.steps
    end = record.mark("steps_end")
    until_s = inf if end is None else end.at_s
    settle_s = _EDGE_S + _ramp_s(record, case) + case.slack_s
    for at_s, t in record.of(ChannelTelemetry, case.key, since_s=sent.at_s, until_s=until_s):
        into_s = at_s - sent.at_s
        if any(0.0 <= into_s - step.after_s < settle_s or -_EDGE_S < into_s - step.after_s < 0.0 for step in steps):
            continue
        wanted_w = [step.power_w for step in steps if step.after_s <= into_s][-1]
        count += 1
        if abs(t.power_w - wanted_w) > case.tolerance_w:
            wrong = f"{t.power_w:g} W after {into_s:.1f} s, where {wanted_w:g} W was asked"
    yield judged("setpoint.steps", not wrong and count > 0, wrong or f"{count} samples as asked")


def _ramp_s(record: Record, case: StationCase) -> float:
    rates = [e.ramp_w_per_s for e in _states(record, case)]
    return 2.0 * abs(case.power_w) / min(rates) if rates else 0.0


def _states(record: Record, case: StationCase) -> list[Equalization]:
    return [t.equalization for _, t in record.of(ChannelTelemetry, case.key) if t.equalization is not None]


def _duplicate(record: Record, case: StationCase) -> Iterator[Verdict]:
    sent, end = record.mark("duplicate"), record.mark("duplicate_end")
    if sent is None or end is None:
        return
    span = [t for _, t in record.of(ChannelTelemetry, case.key, since_s=sent.at_s + _EDGE_S, until_s=end.at_s)]
    moved = [t.power_w for t in span if abs(t.power_w - case.power_w) > case.tolerance_w]
    yield judged("setpoint.5_seq", bool(span) and not moved, f"moved to {moved[0]:g} W" if moved else "nothing moved")


def _leases(record: Record, case: StationCase) -> Iterator[Verdict]:
    left = [
        e.last.expires_in_s for e in _states(record, case) if e.last is not None and e.last.expires_in_s is not None
    ]
    if record.mark("long") is not None:
        longest_s = max(left, default=0.0)
        yield judged("lease.longest", 0.0 < longest_s <= _LONGEST_LEASE_S + 0.1, f"at most {longest_s:.1f} s left")
    refresh, end = record.mark("refresh"), record.mark("refresh_end")
    if refresh is not None and end is not None:
        echo = echo_of(record, case, "refresh")
        span = [t for _, t in record.of(ChannelTelemetry, case.key, since_s=refresh.at_s, until_s=end.at_s)]
        moved = [t.power_w for t in span if abs(t.power_w - case.power_w) > case.tolerance_w]
        good = echo is not None and echo.result in {SetpointResult.APPLIED, SetpointResult.CLAMPED} and not moved
        yield judged("lease.refresh", good, f"moved to {moved[0]:g} W" if moved else f"echo {echo and echo.result}")
    short = record.mark("short")
    if short is None or not isinstance(short.message, Setpoint):
        return
    yield _expiry(record, case, short.message, short.at_s)


def _expiry(record: Record, case: StationCase, setpoint: Setpoint, sent_s: float) -> Verdict:
    basis_s = next((at_s for at_s, t in record.of(ChannelTelemetry, case.key) if t.seq == setpoint.basis.seq), sent_s)
    due_s = basis_s + min(setpoint.ttl_s, _LONGEST_LEASE_S)
    series = list(record.of(ChannelTelemetry, case.key, since_s=sent_s))
    early = [
        at_s
        for at_s, t in series
        if at_s < due_s - case.slack_s and t.equalization is not None and t.equalization.last is not None
        and t.equalization.last.seq == setpoint.seq and t.equalization.last.result is SetpointResult.EXPIRED
    ]  # fmt: skip
    ended = [
        (at_s, t)
        for at_s, t in series
        if t.equalization is not None and t.equalization.last is not None
        and t.equalization.last.result is SetpointResult.EXPIRED
    ]  # fmt: skip
    if not ended:
        return broken(
            "lease.basis", f"not expired {series[-1][0] - due_s:.1f} s after it was due" if series else "silent"
        )
    at_s = ended[0][0]
    latest_s = due_s + case.period_s + case.slack_s
    stood = abs(ended[-1][1].power_w) <= LEAST_W
    seen = f"expired {at_s - due_s:+.1f} s of when it was due, then {ended[-1][1].power_w:g} W"
    return judged("lease.basis", not early and at_s <= latest_s and stood, seen)


def _ramps(record: Record, case: StationCase) -> Iterator[Verdict]:
    worst, count = 0.0, 0
    series = [(at, t) for at, t in record.of(ChannelTelemetry, case.key) if t.equalization is not None]
    for (earlier_s, earlier), (later_s, later) in pairwise(series):
        assert later.equalization is not None  # noqa: S101 - selected above
        if was_away(record, earlier_s, later_s):
            continue
        allowed_w = later.equalization.ramp_w_per_s * (later_s - earlier_s + case.slack_s / 2.0) + case.tolerance_w
        worst = max(worst, abs(later.power_w - earlier.power_w) / allowed_w)
        count += 1
    if count:
        yield judged("ramp", worst <= 1.0, f"{worst:.0%} of what the ramp allows, at most")


def _clamped(record: Record, case: StationCase) -> Iterator[Verdict]:
    echo, sent = echo_of(record, case, "clamp"), record.mark("clamp")
    if sent is None:
        yield not_tried("setpoint.clamped", "asks for more than the channel's limit: only with --provoke")
        return
    limits_w = [max(e.charge_limit_w, e.discharge_limit_w) for e in _states(record, case)]
    beyond = [
        t.power_w
        for _, t in record.of(ChannelTelemetry, case.key, since_s=sent.at_s)
        if abs(t.power_w) > 1.02 * max(limits_w)
    ]
    good = echo is not None and echo.result is SetpointResult.CLAMPED and not beyond
    yield judged("setpoint.clamped", good, f"echo {echo and echo.result}, limit {max(limits_w):g} W")


def _late_will(record: Record, case: StationCase) -> Iterator[Verdict]:
    sent = record.mark("late_will")
    if sent is None:
        yield not_tried("late_will", "publishes an offline in the station's name: only with --provoke")
        return
    until_s = min((mark.at_s for label in ("cut", "killed", "ended") if (mark := record.mark(label))), default=inf)
    said = [
        entry.message.status
        for entry in record.heard
        if isinstance(entry.message, StationStatus)
        and of_station(entry, case.station)
        and sent.at_s <= entry.at_s < until_s
    ]
    good = bool(said) and said[-1] is Presence.ONLINE
    yield judged("late_will", good, f"afterwards its status is {said[-1] if said else 'unknown'}")


def _source(event: Event) -> str:
    """Return whose event it is; a station's name, most often."""
    parts = event.source.split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "station" else ""


def _keys(record: Record, case: StationCase) -> list[tuple[str, str]]:
    return sorted({e.key for e in record.heard if e.key is not None and e.key[0] == case.station})


_RULES: tuple[Callable[[Record, StationCase], Iterator[Verdict]], ...] = (
    _status,
    _wire,
    _telemetry,
    _at_once,
    _plans,
    _commands,
    _mode,
    _early,
    _malformed,
    _refusals,
    _followed,
    _steps,
    _duplicate,
    _leases,
    _ramps,
    _clamped,
    _late_will,
    lifecycle.judge_lifecycle,
)
__all__ = ["RULES", "StationCase", "judge", "kept"]
