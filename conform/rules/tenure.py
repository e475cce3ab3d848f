"""What the contract asks of an equalizer that starts beside others' work, follows plans, and meets another server."""

from collections.abc import Callable, Iterator
from math import inf

from conform.record import OWN_SERVERS, Heard, Record, Verdict, broken, judged, not_tried, said_by_server
from schemas.messages import ChannelTelemetry, LoopBalance, Phase, Presence, ServerAnnouncement, Setpoint

RULES = {
    "start.passive": "nothing is sent before one full round of telemetry is in",
    "start.takes_over": "then it takes over what the channels are doing: where that balances, nothing changes",
    "start.epoch": "its epoch is above any seen: the retained announcement's, and the stations' echoes",
    "plan.edge": "a change that a plan announces is met at its edge, without delay_s",
    "lease.lost": "a channel whose lease has run out in spite of it is led again, or replaced",
    "epoch.yields": "while another server announces a higher epoch, nothing is sent under the lower one",
    "epoch.returns": "when that server has gone, it leads again under an epoch above that server's",
}
"""Rule → the contract's words, in short."""

RUN_ONLY = "needs a server that starts while its stations are at work: only with --run"
_YIELDS_WITHIN_S = 2.0
_EDGE_S = 2.0
_EDGE_DELAYS = 0.6
"""A server that waits for `delay_s` is found although it is this much sooner than that."""


def judge_tenure(
    record: Record,
    tolerance_w: float,
    slack_s: float,
    changed_s: Callable[[tuple[str, str], float], float | None],
) -> Iterator[Verdict]:
    """Yield a verdict for every rule here that can be judged.

    Args:
        record: of the trial.
        tolerance_w: how near a sum must come.
        slack_s: what network and computers may add to a time.
        changed_s: when a channel's commanded power first changed at or after a time; null: never.
    """
    yield from _started(record, tolerance_w)
    yield from _planned(record, slack_s, changed_s)
    yield from _lost(record, tolerance_w)
    yield from _met(record, slack_s)


def _started(record: Record, tolerance_w: float) -> Iterator[Verdict]:
    started, spoke, end = record.mark("started"), record.mark("spoke"), record.mark("start_end")
    if started is None or spoke is None or end is None:
        for rule in ("start.passive", "start.takes_over", "start.epoch"):
            yield not_tried(rule, RUN_ONLY)
        return
    yield _passive(record, spoke.at_s)
    told = [entry for entry in record.heard if isinstance(entry.message, Setpoint) and entry.at_s <= end.at_s]
    found = _before_first(record, told)
    doing_w = {key: telemetry.power_w for key, telemetry in found.items()}
    moved = [
        f"{'/'.join(entry.key)}: {step.power_w:g} W, it was at {doing_w.get(entry.key, 0.0):g} W"
        for entry in told
        if entry.key is not None and isinstance(entry.message, Setpoint)
        for step in entry.message.steps
        if abs(step.power_w - doing_w.get(entry.key, 0.0)) > tolerance_w
    ]
    yield judged("start.takes_over", bool(told) and not moved, moved[0] if moved else f"{len(told)} setpoints")
    before = record.mark("before")
    highest = before.message.epoch if before is not None and isinstance(before.message, ServerAnnouncement) else 0
    echoes = (t.equalization.last for t in found.values() if t.equalization is not None)
    highest = max([highest, *(echo.epoch for echo in echoes if echo is not None)])
    epochs = sorted({entry.message.epoch for entry in told if isinstance(entry.message, Setpoint)})
    yield judged("start.epoch", bool(epochs) and epochs[0] > highest, f"{epochs}, where {highest} was seen")


def _before_first(record: Record, told: list[Heard]) -> dict[tuple[str, str] | None, ChannelTelemetry]:
    """Return what every channel said last before the first setpoint came."""
    until_s = told[0].at_s if told else inf
    return {
        entry.key: entry.message
        for entry in record.heard
        if isinstance(entry.message, ChannelTelemetry) and not entry.retained and entry.at_s < until_s
    }


def _passive(record: Record, spoke_s: float) -> Verdict:
    rule = "start.passive"
    own = (m for _, m in record.of(ServerAnnouncement) if not m.server.startswith(OWN_SERVERS))
    first = next((message for message in own if message.status is Presence.ONLINE), None)
    early = sum(1 for _ in record.of(Setpoint, until_s=spoke_s))
    if early and first is not None and first.phase is not Phase.STARTING:
        return not_tried(rule, "it announces itself only when it leads: nobody can tell for how long it has listened")
    return judged(rule, not early, f"{early} setpoints while a channel was not heard yet" if early else "it listened")


def _planned(
    record: Record, slack_s: float, changed_s: Callable[[tuple[str, str], float], float | None]
) -> Iterator[Verdict]:
    plan, edge, said = record.mark("plan"), record.mark("edge"), said_by_server(record)
    if plan is None or edge is None or said is None:
        return
    keys = {entry.key for entry in record.heard if entry.key is not None and isinstance(entry.message, Setpoint)}
    found = [at_s for key in sorted(keys) if (at_s := changed_s(key, plan.at_s)) is not None]
    if not found:
        yield broken("plan.edge", "nothing was changed")
        return
    late_s = min(found) - edge.at_s
    within_s = min(_EDGE_S + slack_s, _EDGE_DELAYS * said.control.delay_s)
    yield judged(
        "plan.edge", abs(late_s) <= within_s, f"changed {late_s:+.2f} s of the edge, delay_s {said.control.delay_s:g}"
    )


def _lost(record: Record, tolerance_w: float) -> Iterator[Verdict]:
    expired, end = record.mark("expired"), record.mark("end of expired")
    if expired is None or end is None:
        return
    last = [b for _, b in record.of(LoopBalance, until_s=end.at_s)][-1:]
    near_w = max(5.0 * tolerance_w, *(b.engage_w or 0.0 for b in last), 0.0)
    good = bool(last) and abs(last[0].total_power_w - last[0].target_power_w) <= near_w
    seen = f"{last[0].total_power_w:g} W, {end.at_s - expired.at_s:.1f} s afterwards" if last else "no balance"
    yield judged("lease.lost", good, seen)


def _met(record: Record, slack_s: float) -> Iterator[Verdict]:
    rival, gone, end = record.mark("rival"), record.mark("rival_gone"), record.mark("rival_end")
    if rival is None or gone is None or not isinstance(rival.message, ServerAnnouncement):
        return
    epoch = rival.message.epoch
    from_s = rival.at_s + _YIELDS_WITHIN_S + slack_s
    told = [s for _, s in record.of(Setpoint, since_s=from_s, until_s=gone.at_s) if s.epoch <= epoch]
    text = f"{len(told)} setpoints under epoch {told[0].epoch}, {epoch} was announced" if told else "it sent nothing"
    yield judged("epoch.yields", not told, text)
    if end is None:
        yield not_tried("epoch.returns", "it has ended where the other server began")
        return
    back = [
        message.epoch
        for _, message in record.of(ServerAnnouncement, since_s=gone.at_s, until_s=inf)
        if message.status is Presence.ONLINE and not message.server.startswith(OWN_SERVERS)
    ]
    later = [s.epoch for _, s in record.of(Setpoint, since_s=end.at_s)]
    good = bool(back) and back[-1] > epoch and bool(later) and min(later) > epoch
    text = f"announced {back[-1] if back else 'nothing'}, setpoints under {sorted(set(later))}, {epoch} was announced"
    yield judged("epoch.returns", good, text)
