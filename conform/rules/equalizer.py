"""What the contract asks of an equalizer, each rule over the record of a trial."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import NamedTuple

from conform.record import Record, Verdict, broken, in_order, judged, not_tried, said_by_server
from conform.rules import tenure
from schemas.messages import (
    ChannelTelemetry,
    Event,
    LoopBalance,
    LoopCommand,
    Phase,
    Policy,
    Presence,
    Reply,
    ReplyReason,
    ReplyResult,
    ServerAnnouncement,
    Setpoint,
)
from schemas.topics import ChannelAddress, ChannelTopic, LoopAddress

RULES = {
    "server.announced": "a retained announcement with QoS 1 says online on the well-known topic",
    "server.malformed": "every payload is as the contract has it",
    "server.qos": "balances and setpoints go with QoS 0, announcement, replies and events with QoS 1",
    "server.retained": "announcement and balance are retained; setpoints and replies are not",
    "server.epoch": "announcement, balance and setpoints name the same server and epoch",
    "balance.period": "a balance every second, its seq rising by one",
    "balance.sums": "total = load + equalization = charging + discharging",
    "balance.total": "the total is the sum of what the channels say",
    "balance.counts": "stations, channels and equalization channels are counted",
    "balance.energy": "the account follows the total; avoided = unbalanced - import - export; it never runs backwards",
    "setpoint.seq": "seq rises per channel within an epoch",
    "setpoint.basis": "basis names the channel's newest telemetry",
    "setpoint.limits": "no setpoint lies outside the channel's limits",
    "setpoint.signs": "no two equalization channels have opposite signs",
    "setpoint.lease": "a lease is renewed before it ends",
    "control.delay": "no channel gets two changes of power less than delay_s apart",
    "control.confirm": "an unannounced imbalance stands for delay_s before anything is sent",
    "control.balances": "after that the loop's power is brought near its target",
    "stale.unknown": "a channel silent for 3 periods is stale: its magnitude counts as unknown, its value in the total",
    "stale.frozen": "with too much unknown the phase is frozen: nothing is sent, leases run out",
    "offline.zero": "a station that is offline with on_lost zero counts as 0 W",
    "pause.zero": "pause brings every equalization channel to 0 W, and then sends nothing",
    "resume": "resume balances again",
    "target": "set_target is replied to and shows in the balance",
    "command.reply": "every command gets one reply within 2 s",
    "command.same_id": "the same id again gets the same reply",
    "command.unknown": "an unknown action is rejected as unknown_action",
} | tenure.RULES
"""Rule → the contract's words, in short."""

_REPLY_WITHIN_S = 2.0
_STALE_PERIODS = 3.0
_FEW_W = 60.0
_A_CHANGE_W = 1.0
_ZEROED_WITHIN_S = 3.0
_NOT_OFTENER_S = 0.8


class Change(NamedTuple):
    """A channel's commanded power changed."""

    at_s: float
    from_w: float
    to_w: float


@dataclass(frozen=True, slots=True)
class EqualizerCase:
    """How the equalizer was tried."""

    power_w: float
    limit_w: float
    """Of each of the kit's equalization channels, in either direction."""
    stations: int
    channels: int
    equalization_channels: int
    slack_s: float = 1.0
    """What network and computers may add to a time."""

    @property
    def tolerance_w(self) -> float:
        """How near a sum must come."""
        return max(0.02 * self.power_w, _FEW_W)


def judge(record: Record, case: EqualizerCase) -> list[Verdict]:
    """Return a verdict for every rule, in the contract's order."""
    return in_order(RULES, (verdict for rule in _RULES for verdict in rule(record, case)))


def changes(record: Record, key: tuple[str, str]) -> list[Change]:
    """Return when a channel's commanded power changed, edges within setpoints included; a refresh is no change."""
    edges: list[tuple[float, float]] = []
    setpoints = list(record.of(Setpoint, key))
    for number, (at_s, setpoint) in enumerate(setpoints):
        until_s = setpoints[number + 1][0] if number + 1 < len(setpoints) else inf
        ends_s = at_s + setpoint.ttl_s
        edges += [(at_s + s.after_s, s.power_w) for s in setpoint.steps if at_s + s.after_s < min(until_s, ends_s)]
    found, now_w = [], 0.0
    for at_s, power_w in edges:
        if abs(power_w - now_w) > _A_CHANGE_W:
            found.append(Change(at_s, now_w, power_w))
        now_w = power_w
    return found


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────


def _announced(record: Record, _case: EqualizerCase) -> Iterator[Verdict]:
    told = [entry for entry in record.newcomer if isinstance(entry.message, ServerAnnouncement)]
    said = told[-1].message if told else None
    if not isinstance(said, ServerAnnouncement):
        yield broken("server.announced", "a newcomer is told of no server")
        return
    yield judged(
        "server.announced", said.status is Presence.ONLINE and told[-1].qos == 1, f"{said.server} {said.status}"
    )
    # After another server's time, it has another epoch.
    rival = record.mark("rival")
    until_s = inf if rival is None else rival.at_s
    speakers = {(balance.server, balance.epoch) for _, balance in record.of(LoopBalance, until_s=until_s)}
    speakers |= {(setpoint.server, setpoint.epoch) for _, setpoint in record.of(Setpoint, until_s=until_s)}
    others = speakers - {(said.server, said.epoch)}
    yield judged("server.epoch", not others, f"{sorted(others)}" if others else f"{said.server}, epoch {said.epoch}")


def _wire(record: Record, _case: EqualizerCase) -> Iterator[Verdict]:
    own = [
        entry
        for entry in (*record.heard, *record.newcomer)
        if isinstance(entry.address, LoopAddress)
        or (isinstance(entry.address, ChannelAddress) and entry.address.leaf is ChannelTopic.SETPOINT)
    ]
    bad = [entry for entry in own if entry.message is None]
    yield judged("server.malformed", not bad, f"{bad[0].topic}: {bad[0].error}" if bad else f"{len(own)} messages")
    judged_kinds = (ServerAnnouncement, Reply, LoopBalance, Setpoint)
    wrong = [
        e
        for e in own
        if isinstance(e.message, judged_kinds) and e.qos != int(isinstance(e.message, ServerAnnouncement | Reply))
    ]
    wrong += [e for e in own if isinstance(e.message, Event) and e.message.source.startswith("server/") and e.qos != 1]
    yield judged(
        "server.qos", not wrong, f"{wrong[0].topic} came with QoS {wrong[0].qos}" if wrong else "all as agreed"
    )
    kinds = {type(entry.message) for entry in record.newcomer}
    good = {ServerAnnouncement, LoopBalance} <= kinds and not kinds & {Setpoint, Reply}
    yield judged("server.retained", good, ", ".join(sorted(kind.__name__ for kind in kinds)))


def _balance(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    rival = record.mark("rival")
    series = list(record.of(LoopBalance, until_s=inf if rival is None else rival.at_s))
    if not series:
        yield broken("balance.period", "no balance came")
        return
    gaps = [later_s - earlier_s for (earlier_s, _), (later_s, _) in pairwise(series)]
    skipped = [b.seq for (_, a), (_, b) in pairwise(series) if b.seq != a.seq + 1]
    mean_s = sum(gaps) / len(gaps) if gaps else inf
    good = (
        bool(gaps)
        and max(gaps) <= 1.0 + case.slack_s
        and _NOT_OFTENER_S <= mean_s <= 1.0 + 0.2 * case.slack_s
        and not skipped
    )
    worst = f"every {mean_s:.2f} s, the longest silence {max(gaps, default=inf):.2f} s"
    yield judged("balance.period", good, f"{skipped[0]} follows another seq" if skipped else worst)
    off = [
        f"total {b.total_power_w:g}, load {b.load_power_w:g}, equalization {b.equalization_power_w:g}, charging "
        f"{b.charging_power_w:g}, discharging {b.discharging_power_w:g}"
        for _, b in series
        if abs(b.total_power_w - b.load_power_w - b.equalization_power_w) > case.tolerance_w
        or abs(b.total_power_w - b.charging_power_w - b.discharging_power_w) > case.tolerance_w
    ]
    yield judged("balance.sums", not off, off[0] if off else f"{len(series)} balances")
    yield from _account(record, series, case)


def _account(record: Record, series: list[tuple[float, LoopBalance]], case: EqualizerCase) -> Iterator[Verdict]:
    begun, ended = record.mark("settled"), record.mark("done")
    if begun is None or ended is None:
        return
    span = [(at_s, b) for at_s, b in series if begun.at_s <= at_s <= ended.at_s and b.phase is not Phase.STARTING]
    if len(span) < 3:  # noqa: PLR2004 - two intervals
        return
    flown_wh = [a.total_power_w * (b_s - a_s) / 3600.0 for (a_s, a), (b_s, _) in pairwise(span)]
    drawn_wh, fed_wh = sum(e for e in flown_wh if e > 0.0), -sum(e for e in flown_wh if e < 0.0)
    first, last = span[0][1].energy, span[-1][1].energy
    import_wh, export_wh = last.import_wh - first.import_wh, last.export_wh - first.export_wh
    backwards = any(
        b.energy.import_wh < a.energy.import_wh - 1e-6 or b.energy.export_wh < a.energy.export_wh - 1e-6
        for (_, a), (_, b) in pairwise(span)
    )
    # The account runs on the equalizer's own cycles; a second's edge more or less is not its error.
    edge_wh = 0.1 * (drawn_wh + fed_wh) + 2.0 * case.slack_s * case.power_w / 3600.0
    identity_wh = last.unbalanced_wh - last.import_wh - last.export_wh - last.avoided_wh
    follows = abs(import_wh - drawn_wh) <= edge_wh and abs(export_wh - fed_wh) <= edge_wh
    yield judged(
        "balance.energy",
        not backwards and follows and abs(identity_wh) <= 1.0,
        f"counted +{import_wh:.1f} -{export_wh:.1f} Wh, flown +{drawn_wh:.1f} -{fed_wh:.1f} Wh, avoided off by "
        f"{identity_wh:.2f} Wh",
    )


def _total(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    off, count = "", 0
    steady = list(_steady(record, case))
    for begin_s, end_s, sum_w in steady:
        for _, balance in record.of(LoopBalance, since_s=begin_s + 2.0 + case.slack_s, until_s=end_s):
            count += 1
            if abs(balance.total_power_w - sum_w) > case.tolerance_w:
                off = f"{balance.total_power_w:g} W, where the channels say {sum_w:g} W"
    if count:
        yield judged("balance.total", not off, off or f"{count} balances")
    settled = record.mark("settled")
    if settled is not None:
        after = [b for _, b in record.of(LoopBalance, since_s=settled.at_s)][:1]
        wanted = (case.stations, case.channels, case.equalization_channels)
        counts = [(b.stations_online, b.channels, b.equalization_channels) for b in after]
        yield judged("balance.counts", counts == [wanted], f"{counts[:1]} of {wanted} (stations, channels, equalizing)")


def _steady(record: Record, case: EqualizerCase) -> Iterator[tuple[float, float, float]]:
    """Yield the spans in which no channel changed, each with the sum of the channels."""
    latest: dict[tuple[str, str], float] = {}
    since_s = inf
    muted = record.mark("mute") or record.mark("rival")
    for entry in record.heard:
        if not isinstance(entry.message, ChannelTelemetry) or entry.retained or entry.key is None:
            continue
        if muted is not None and entry.at_s > muted.at_s:
            break
        known_w = latest.get(entry.key)
        if known_w is not None and abs(known_w - entry.message.power_w) <= _A_CHANGE_W:
            continue
        if len(latest) == case.channels and entry.at_s > since_s:
            yield since_s, entry.at_s, sum(latest.values())
        latest[entry.key] = entry.message.power_w
        since_s = entry.at_s


# ── setpoints ────────────────────────────────────────────────────────────────────────────────────────────────────


def _setpoints(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    keys = _keys(record)
    if not keys:
        yield broken("setpoint.seq", "no setpoint came")
        return
    falling, outside, stale, count = "", "", "", 0
    for key in keys:
        series = list(record.of(Setpoint, key))
        count += len(series)
        for (_, a), (_, b) in pairwise(series):
            if b.epoch == a.epoch and b.seq <= a.seq:
                falling = f"{'/'.join(key)}: {b.seq} after {a.seq}"
        for at_s, setpoint in series:
            worst_w = max(abs(step.power_w) for step in setpoint.steps)
            if worst_w > case.limit_w + _FEW_W:
                outside = f"{'/'.join(key)}: {worst_w:g} W of {case.limit_w:g} W"
            stale = _stale_basis(record, key, at_s, setpoint, case) or stale
    yield judged("setpoint.seq", not falling, falling or f"{count} setpoints")
    yield judged("setpoint.limits", not outside, outside or f"{count} setpoints")
    yield judged("setpoint.basis", not stale, stale or f"{count} setpoints")
    signs = _opposite(record, keys)
    yield judged("setpoint.signs", not signs, signs or "never")


def _stale_basis(record: Record, key: tuple[str, str], at_s: float, setpoint: Setpoint, case: EqualizerCase) -> str:
    said = [(heard_s, t) for heard_s, t in record.of(ChannelTelemetry, key, until_s=at_s)]
    fresh = [t for heard_s, t in said if heard_s >= at_s - case.slack_s - 1.0] or [t for _, t in said][-1:]
    if setpoint.basis.boot_id != fresh[-1].boot_id:
        return f"{'/'.join(key)}: boot {setpoint.basis.boot_id}"
    if setpoint.basis.seq < fresh[0].seq or setpoint.basis.seq > fresh[-1].seq:
        return f"{'/'.join(key)}: {setpoint.basis.seq}, when {fresh[-1].seq} was out"
    return ""


def _opposite(record: Record, keys: list[tuple[str, str]]) -> str:
    # Channels are told one after the other; only what stands for a moment is opposite.
    events = sorted((c.at_s, key, c.to_w) for key in keys for c in changes(record, key))
    now_w: dict[tuple[str, str], float] = {}
    for number, (at_s, key, to_w) in enumerate(events):
        now_w[key] = to_w
        stands_s = events[number + 1][0] - at_s if number + 1 < len(events) else inf
        if stands_s > 0.5 and min(now_w.values()) < -_FEW_W and max(now_w.values()) > _FEW_W:  # noqa: PLR2004 - a moment
            return ", ".join(f"{'/'.join(name)} {power_w:g} W" for name, power_w in now_w.items())
    return ""


def _leases(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    late, count = "", 0
    away = [record.mark(label) for label in ("pause", "mute", "deaf", "rival")]
    until_s = min((mark.at_s for mark in away if mark is not None), default=inf)
    for key in _keys(record):
        for (a_s, a), (b_s, _) in pairwise(record.of(Setpoint, key, until_s=until_s)):
            count += 1
            if a.steps[-1].power_w != 0.0 and b_s - a_s >= a.ttl_s + case.slack_s:
                late = f"{'/'.join(key)}: {b_s - a_s:.1f} s after a lease of {a.ttl_s:g} s"
    if count:
        yield judged("setpoint.lease", not late, late or f"{count} renewals")


# ── control ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _delay(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    said = said_by_server(record)
    if said is None:
        return
    pause = record.mark("pause")
    hasty, count = "", 0
    for key in _keys(record):
        for earlier, later in pairwise(changes(record, key)):
            count += 1
            commanded = pause is not None and any(
                0.0 <= change.at_s - pause.at_s <= _ZEROED_WITHIN_S for change in (earlier, later)
            )
            if not commanded and later.at_s - earlier.at_s < said.control.delay_s - 0.25 * case.slack_s:
                hasty = f"{'/'.join(key)}: {later.at_s - earlier.at_s:.2f} s apart"
    yield judged("control.delay", not hasty, hasty or f"{count} pairs, delay_s {said.control.delay_s:g}")


def _steps(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    said = said_by_server(record)
    steps = [sent for sent in record.sent if sent.label.startswith("step ")]
    if said is None or not steps:
        return
    early, left = "", ""
    for step in steps:
        if said.control.policy is Policy.CONFIRM:
            due_s = step.at_s + said.control.delay_s - 0.4 * case.slack_s
            acted = [c.at_s for key in _keys(record) for c in changes(record, key) if step.at_s < c.at_s < due_s]
            if acted:
                early = f"acted {min(acted) - step.at_s:.1f} s after the step"
        end = record.mark(f"end of {step.label}")
        if end is not None:
            last = [b for _, b in record.of(LoopBalance, until_s=end.at_s)][-1:]
            near_w = max(0.1 * case.power_w, *(b.engage_w or 0.0 for b in last), _FEW_W)
            if not last or abs(last[0].total_power_w - last[0].target_power_w) > near_w:
                left = f"{last[0].total_power_w:g} W left over" if last else "no balance"
    if said.control.policy is Policy.CONFIRM:
        yield judged("control.confirm", not early, early or f"{len(steps)} steps, delay_s {said.control.delay_s:g}")
    else:
        yield not_tried("control.confirm", f"its policy is {said.control.policy}")
    yield judged("control.balances", not left, left or f"{len(steps)} steps of {case.power_w:g} W")


def _unknown(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    mute, end = record.mark("mute"), record.mark("mute_end")
    said = said_by_server(record)
    if mute is None or end is None or said is None:
        yield not_tried("stale.unknown", "not in the quick form")
    else:
        due_s = mute.at_s + _STALE_PERIODS * said.telemetry_period_s + 1.0 + case.slack_s
        span = [b for _, b in record.of(LoopBalance, since_s=due_s, until_s=end.at_s)]
        good = bool(span) and all(
            abs(b.unknown_power_w - case.power_w) <= case.tolerance_w
            and b.channels_stale == 1
            and abs(b.load_power_w - case.power_w) <= case.tolerance_w
            for b in span
        )
        seen = f"unknown {span[-1].unknown_power_w:g} W, load {span[-1].load_power_w:g} W" if span else "no balance"
        yield judged("stale.unknown", good, seen)
    frozen, thaw = record.mark("frozen"), record.mark("frozen_end")
    if frozen is None or thaw is None or said is None:
        yield not_tried("stale.frozen", "not in the quick form")
    else:
        due_s = frozen.at_s + _STALE_PERIODS * said.telemetry_period_s + 1.0 + case.slack_s
        phases = {b.phase for _, b in record.of(LoopBalance, since_s=due_s, until_s=thaw.at_s)}
        count = sum(1 for _ in record.of(Setpoint, since_s=due_s, until_s=thaw.at_s))
        yield judged(
            "stale.frozen", phases == {Phase.FROZEN} and not count, f"{', '.join(sorted(phases))}; {count} setpoints"
        )
    gone, back = record.mark("offline"), record.mark("offline_end")
    if gone is None or back is None:
        yield not_tried("offline.zero", "not in the quick form")
        return
    span = [b for _, b in record.of(LoopBalance, since_s=gone.at_s + 1.0 + case.slack_s, until_s=back.at_s)]
    good = bool(span) and all(abs(b.load_power_w) + b.unknown_power_w <= case.tolerance_w for b in span)
    yield judged("offline.zero", good, f"load {span[-1].load_power_w:g} W" if span else "no balance")


def _pause(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    pause, end = record.mark("pause"), record.mark("pause_end")
    if pause is not None and end is not None:
        span = [b for _, b in record.of(LoopBalance, since_s=end.at_s - 1.5, until_s=end.at_s)]
        phases = {b.phase for b in span}
        told = {
            key: [s for _, s in record.of(Setpoint, key, since_s=pause.at_s, until_s=end.at_s)] for key in _keys(record)
        }
        moved = [s for series in told.values() for s in series if any(step.power_w != 0.0 for step in s.steps)]
        late = sum(1 for _ in record.of(Setpoint, since_s=pause.at_s + 5.0 + case.slack_s, until_s=end.at_s))
        flows_w = span[-1].equalization_power_w if span else inf
        good = phases == {Phase.PAUSED} and not moved and not late and abs(flows_w) <= case.tolerance_w
        seen = f"{', '.join(sorted(phases))}, {flows_w:g} W, {late} setpoints afterwards"
        yield judged("pause.zero", good, seen)
    resumed, done = record.mark("resume"), record.mark("resume_end")
    if resumed is not None and done is not None:
        last = [b for _, b in record.of(LoopBalance, until_s=done.at_s)][-1:]
        good = bool(last) and last[0].phase in {Phase.BALANCING, Phase.SATURATED}
        good = good and abs(last[0].total_power_w) <= max(0.1 * case.power_w, last[0].engage_w or 0.0)
        yield judged("resume", good, f"{last[0].phase}, {last[0].total_power_w:g} W" if last else "no balance")
    aimed = record.mark("target")
    if aimed is not None and isinstance(aimed.message, LoopCommand):
        shown = [b.target_power_w for _, b in record.of(LoopBalance, since_s=aimed.at_s)]
        reply = [r for _, r in record.of(Reply) if r.id == aimed.message.id]
        good = bool(reply) and reply[0].result is ReplyResult.ACCEPTED and aimed.message.target_power_w in shown
        yield judged("target", good, f"{reply[0].result if reply else 'no reply'}, shown {sorted(set(shown))}")


def _commands(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    times: dict[str, list[float]] = {}
    for sent in record.sent:
        if isinstance(sent.message, LoopCommand):
            times.setdefault(sent.message.id, []).append(sent.at_s)
    worst_s, wrong, differing, repeated = 0.0, "", "", 0
    for command_id, at in times.items():
        replies = [(at_s, reply) for at_s, reply in record.of(Reply) if reply.id == command_id]
        if len(replies) != len(at):
            wrong = f"{len(replies)} replies to a command that was sent {len(at)} times"
        worst_s = max([worst_s, *(back - there for there, (back, _) in zip(at, replies, strict=False))])
        if len(at) > 1:
            repeated += 1
            if len({(r.action, r.result, r.reason, r.text) for _, r in replies}) != 1 or len(replies) < len(at):
                differing = ", ".join(f"{r.result} {r.text!r}" for _, r in replies) or "no reply"
    if times:
        good = not wrong and worst_s <= _REPLY_WITHIN_S + case.slack_s / 2.0
        yield judged("command.reply", good, wrong or f"{len(times)} commands, the slowest reply after {worst_s:.2f} s")
    if repeated:
        yield judged("command.same_id", not differing, differing or "the same")
    unknown = record.mark("unknown")
    if unknown is not None and isinstance(unknown.message, LoopCommand):
        told = [r for _, r in record.of(Reply) if r.id == unknown.message.id]
        good = bool(told) and told[0].result is ReplyResult.REJECTED and told[0].reason is ReplyReason.UNKNOWN_ACTION
        yield judged("command.unknown", good, f"{told[0].result}, {told[0].reason}" if told else "no reply")


def _tenure(record: Record, case: EqualizerCase) -> Iterator[Verdict]:
    def changed_s(key: tuple[str, str], since_s: float) -> float | None:
        return next((change.at_s for change in changes(record, key) if change.at_s >= since_s), None)

    yield from tenure.judge_tenure(record, case.tolerance_w, case.slack_s, changed_s)


def _keys(record: Record) -> list[tuple[str, str]]:
    return sorted({e.key for e in record.heard if e.key is not None and isinstance(e.message, Setpoint)})


_RULES: tuple[Callable[[Record, EqualizerCase], Iterator[Verdict]], ...] = (
    _announced,
    _wire,
    _balance,
    _total,
    _setpoints,
    _leases,
    _delay,
    _steps,
    _unknown,
    _pause,
    _commands,
    _tenure,
)
