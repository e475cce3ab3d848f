"""The rules over recorded traffic: our own keep them all, and each thing that is done wrong breaks its rule."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from conform.record import Heard, Record, Sent, State, lines, read
from conform.rules import equalizer, station
from schemas.messages import (
    ChannelPlan,
    ChannelTelemetry,
    Equalization,
    Event,
    LoopBalance,
    Message,
    Phase,
    Presence,
    Reply,
    ReplyReason,
    ReplyResult,
    ServerAnnouncement,
    Setpoint,
    SetpointReason,
    SetpointResult,
    StationStatus,
    WorkStatus,
)

DATA = Path(__file__).parents[2] / "data"
STATION_CASE = station.StationCase("s1", "eq", 1.0, 1000.0)
EQUALIZER_CASE = equalizer.EqualizerCase(20_000.0, 40_000.0, 2, 3, 2)

Edit = Callable[[Record], None]


@cache
def kept_in_file(name: str) -> Record:
    return read((DATA / f"conform-{name}.jsonl").read_text(encoding="utf-8").splitlines())


def recorded(name: str) -> Record:
    """Return a record of one's own; its entries are frozen."""
    record = kept_in_file(name)
    return Record(list(record.heard), list(record.sent), list(record.newcomer))


def at_s(record: Record, label: str) -> float:
    mark = record.mark(label)
    assert mark is not None, label
    return mark.at_s


def changed(
    model: type[Message],
    change: Callable[[Message], Message],
    *,
    since: str = "",
    until: str = "",
    channel: str = "",
) -> Edit:
    """Return an edit of every message of a kind between two marks, of one channel or of all."""

    def edit(record: Record) -> None:
        begin_s = at_s(record, since) if since else float("-inf")
        end_s = at_s(record, until) if until else float("inf")
        for number, entry in enumerate(record.heard):
            mine = not channel or (entry.key is not None and entry.key[1] == channel)
            if isinstance(entry.message, model) and mine and begin_s <= entry.at_s <= end_s:
                record.heard[number] = replace(entry, message=change(entry.message))

    return edit


def said(**update: object) -> Callable[[Message], Message]:
    return lambda message: message.model_copy(update=update)


def echoing(**update: object) -> Callable[[Message], Message]:
    """Change the echo in a telemetry message, where there is one."""

    def change(message: Message) -> Message:
        assert isinstance(message, ChannelTelemetry)
        state = message.equalization
        if state is None or state.last is None:
            return message
        last = state.last.model_copy(update=update)
        return message.model_copy(update={"equalization": state.model_copy(update={"last": last})})

    return change


def state_of(**update: object) -> Callable[[Message], Message]:
    def change(message: Message) -> Message:
        assert isinstance(message, ChannelTelemetry)
        if message.equalization is None:
            return message
        return message.model_copy(update={"equalization": message.equalization.model_copy(update=update)})

    return change


def flowing(power_w: float) -> Callable[[Message], Message]:
    def change(message: Message) -> Message:
        assert isinstance(message, ChannelTelemetry)
        return message.model_copy(update={"power_w": power_w, "current_a": power_w / max(message.voltage_v, 1.0)})

    return change


def without(matches: Callable[[Record, Heard], bool]) -> Edit:
    def edit(record: Record) -> None:
        record.heard[:] = [entry for entry in record.heard if not matches(record, entry)]

    return edit


def every(edit_entry: Callable[[Heard], Heard]) -> Edit:
    def edit(record: Record) -> None:
        record.heard[:] = [edit_entry(entry) for entry in record.heard]

    return edit


def newcomer(edit_entries: Callable[[list[Heard]], list[Heard]]) -> Edit:
    def edit(record: Record) -> None:
        record.newcomer[:] = edit_entries(record.newcomer)

    return edit


def refused_otherwise(label: str) -> Edit:
    """Make the echo of one setpoint say that it was applied."""

    def edit(record: Record) -> None:
        sent = record.mark(label)
        assert sent is not None
        assert isinstance(sent.message, Setpoint)
        seq = sent.message.seq
        for number, entry in enumerate(record.heard):
            state = entry.message.equalization if isinstance(entry.message, ChannelTelemetry) else None
            if state is not None and state.last is not None and state.last.seq == seq and entry.message is not None:
                wrong = echoing(result=SetpointResult.APPLIED, reason=None)
                record.heard[number] = replace(entry, message=wrong(entry.message))

    return edit


def replies(record: Record, label: str) -> list[int]:
    sent = record.mark(label)
    assert sent is not None
    wanted = getattr(sent.message, "id", None)
    return [n for n, e in enumerate(record.heard) if isinstance(e.message, Reply) and e.message.id == wanted]


def reply_to(label: str, which: int, **update: object) -> Edit:
    def edit(record: Record) -> None:
        number = replies(record, label)[which]
        entry = record.heard[number]
        assert entry.message is not None
        record.heard[number] = replace(entry, message=entry.message.model_copy(update=update))

    return edit


def late_reply(record: Record) -> None:
    number = replies(record, "unknown")[0]
    entry = record.heard.pop(number)
    record.heard.append(replace(entry, at_s=entry.at_s + 5.0))


def plan_retained(record: Record) -> None:
    plan = next(entry for entry in record.heard if isinstance(entry.message, ChannelPlan))
    record.newcomer.append(replace(plan, retained=True))


def silent_for_three(record: Record) -> None:
    begin_s = at_s(record, "power")
    without(lambda _, e: isinstance(e.message, ChannelTelemetry) and begin_s <= e.at_s <= begin_s + 3.0)(record)


def unexpected(record: Record) -> None:
    record.heard[5] = replace(record.heard[5], message=None, error="voltage_v: Field required")


def shown_late(record: Record) -> None:
    begin_s = at_s(record, "equalize")
    for number, entry in enumerate(record.heard):
        if isinstance(entry.message, ChannelTelemetry) and begin_s <= entry.at_s <= begin_s + 2.0:
            record.heard[number] = replace(entry, message=entry.message.model_copy(update={"equalization": None}))


def turned(message: Message) -> Message:
    assert isinstance(message, ChannelTelemetry)
    return message.model_copy(update={"current_a": -message.current_a})


def otherwise_planned(message: Message) -> Message:
    assert isinstance(message, ChannelPlan)
    segments = tuple(segment.model_copy(update={"power_w": 9999.0}) for segment in message.segments)
    return message.model_copy(update={"segments": segments})


def presence_unsaid(presence: Presence, since: str, until: str = "") -> Edit:
    """Leave out what was said of the station's presence in a span."""

    def edit(record: Record) -> None:
        begin_s, end_s = at_s(record, since), at_s(record, until) if until else float("inf")
        without(
            lambda _, e: (
                isinstance(e.message, StationStatus) and e.message.status is presence and begin_s <= e.at_s <= end_s
            )
        )(record)

    return edit


def planted_setpoint_decided_on(record: Record) -> None:
    planted = record.mark("planted_setpoint_cut")
    assert planted is not None
    assert isinstance(planted.message, Setpoint)
    echo = echoing(server=planted.message.server, epoch=planted.message.epoch, seq=planted.message.seq)
    changed(ChannelTelemetry, echo, since="admitted", until="back_end", channel="eq")(record)


def planted_command_answered(record: Record) -> None:
    planted = record.mark("planted_command_killed")
    assert planted is not None
    number = replies(record, "equalize")[0]
    entry = record.heard[number]
    assert isinstance(entry.message, Reply)
    answer = entry.message.model_copy(update={"id": getattr(planted.message, "id", "")})
    record.heard.append(replace(entry, at_s=at_s(record, "restarted"), message=answer))


def same_boot(record: Record) -> None:
    boot_id = next(t.boot_id for _, t in record.of(ChannelTelemetry))
    changed(ChannelTelemetry, said(boot_id=boot_id))(record)


def tripped_in_the_mode(message: Message) -> Message:
    assert isinstance(message, ChannelTelemetry)
    state = Equalization(charge_limit_w=1.0, discharge_limit_w=1.0, ramp_w_per_s=1.0, applied_w=0.0)
    return message if message.alarm is None else message.model_copy(update={"equalization": state})


TELEMETRY = ChannelTelemetry
WRONG_STATION: dict[str, tuple[str, Edit]] = {
    "it has no status": (
        "station.status",
        newcomer(lambda told: [e for e in told if not isinstance(e.message, StationStatus)]),
    ),
    "its telemetry names another boot": ("station.boot", changed(TELEMETRY, said(boot_id="other"), since="power")),
    "a payload is malformed": ("station.malformed", unexpected),
    "telemetry goes with QoS 1": (
        "station.qos",
        every(lambda e: replace(e, qos=1) if isinstance(e.message, ChannelTelemetry) else e),
    ),
    "a plan is retained": ("station.retained", plan_retained),
    "telemetry is not retained": (
        "station.retained",
        newcomer(lambda told: [e for e in told if not isinstance(e.message, ChannelTelemetry)]),
    ),
    "it is silent for three seconds": ("station.period", silent_for_three),
    "seq stands still": ("station.seq", changed(TELEMETRY, said(seq=5), since="power", until="power_end")),
    "the mode shows late": ("station.at_once", shown_late),
    "the sign is seen from the grid": ("station.sign", changed(TELEMETRY, turned)),
    "its plan is not what it does": (
        "station.plan_honest",
        changed(ChannelPlan, otherwise_planned),
    ),
    "no plan comes": ("station.plan_valid", without(lambda _, e: isinstance(e.message, ChannelPlan))),
    "a command gets no reply": ("command.reply", lambda record: record.heard.pop(replies(record, "unknown")[0])),
    "a reply comes after five seconds": ("command.reply", late_reply),
    "the same id gets another reply": ("command.same_id", reply_to("equalize", 1, result=ReplyResult.REJECTED)),
    "an unknown action is accepted": ("command.unknown", reply_to("unknown", 0, result=ReplyResult.ACCEPTED)),
    "it begins with power": (
        "equalize.mode",
        changed(TELEMETRY, flowing(700.0), since="equalize", until="first", channel="eq"),
    ),
    "it flows on after stop": ("left_stopped", changed(TELEMETRY, flowing(700.0), since="stop", channel="eq")),
    "a malformed setpoint moves it": (
        "setpoint.1_parse",
        changed(TELEMETRY, flowing(1000.0), since="malformed", until="malformed_end", channel="eq"),
    ),
    "a setpoint moves it without the mode": (
        "setpoint.2_mode",
        changed(TELEMETRY, flowing(1000.0), since="early", until="equalize", channel="eq"),
    ),
    "it takes another boot's basis": ("setpoint.3_basis", refused_otherwise("wrong_boot")),
    "it takes an old epoch": ("setpoint.4_stale_epoch", refused_otherwise("stale_epoch")),
    "it obeys two servers": ("setpoint.4_conflict", refused_otherwise("epoch_conflict")),
    "it tells nobody of two servers": ("setpoint.4_conflict", without(lambda _, e: isinstance(e.message, Event))),
    "it jumps with the epoch": ("setpoint.4_jump", refused_otherwise("epoch_jump")),
    "a duplicate moves it": (
        "setpoint.5_seq",
        changed(TELEMETRY, flowing(-1000.0), since="duplicate", until="duplicate_end", channel="eq"),
    ),
    "it says applied and does nothing": (
        "setpoint.6_applied",
        changed(TELEMETRY, flowing(0.0), since="power", until="power_end", channel="eq"),
    ),
    "it forgets the second step": (
        "setpoint.steps",
        changed(TELEMETRY, flowing(1000.0), since="steps", until="steps_end", channel="eq"),
    ),
    "it says applied beyond its limit": ("setpoint.clamped", refused_otherwise("clamp")),
    "its lease runs for ten minutes": ("lease.longest", changed(TELEMETRY, echoing(expires_in_s=599.0), since="long")),
    "its lease never ends": (
        "lease.basis",
        changed(TELEMETRY, echoing(result=SetpointResult.APPLIED), since="short"),
    ),
    "it keeps the power after its lease": (
        "lease.basis",
        changed(TELEMETRY, flowing(1000.0), since="short", until="stop", channel="eq"),
    ),
    "a refresh moves it": (
        "lease.refresh",
        changed(TELEMETRY, flowing(0.0), since="refresh", until="refresh_end", channel="eq"),
    ),
    "it is faster than its ramp": ("ramp", changed(TELEMETRY, state_of(ramp_w_per_s=100.0))),
    "it lets a late will stand": (
        "late_will",
        changed(StationStatus, said(status=Presence.OFFLINE), since="late_will"),
    ),
    "its events go with QoS 0": (
        "station.qos",
        every(lambda e: replace(e, qos=0) if isinstance(e.message, Event) else e),
    ),
    "it leaves no will when it is cut off": ("station.will", presence_unsaid(Presence.OFFLINE, "cut", "admitted")),
    "it leaves no will when it is killed": ("station.will", presence_unsaid(Presence.OFFLINE, "killed", "restarted")),
    "its will is another boot's": (
        "station.will",
        changed(StationStatus, said(boot_id="x"), since="cut", until="admitted"),
    ),
    "it goes without a word": ("station.goodbye", presence_unsaid(Presence.OFFLINE, "ended")),
    "it comes back without a word": ("reconnect.anew", presence_unsaid(Presence.ONLINE, "admitted", "back_end")),
    "it comes back as another": (
        "reconnect.anew",
        changed(TELEMETRY, said(boot_id="x"), since="admitted", until="back_end", channel="eq"),
    ),
    "it obeys a retained setpoint": ("reconnect.retained", planted_setpoint_decided_on),
    "it obeys a retained command": ("reconnect.retained", planted_command_answered),
    "its lease goes on while it is cut off": (
        "lease.cut_off",
        changed(TELEMETRY, echoing(result=SetpointResult.APPLIED), since="admitted", until="back_end", channel="eq"),
    ),
    "its power goes on while it is cut off": (
        "lease.cut_off",
        changed(TELEMETRY, flowing(1000.0), since="admitted", until="back_end", channel="eq"),
    ),
    "its boot stays the same": ("restart.boot", same_boot),
    "it forgets the mode": (
        "restart.mode",
        changed(TELEMETRY, said(equalization=None), since="restarted", until="restarted_end", channel="eq"),
    ),
    "it goes on with the power it had": (
        "restart.mode",
        changed(TELEMETRY, flowing(1000.0), since="restarted", until="restarted_end", channel="eq"),
    ),
    "it forgets the epoch": ("restart.epoch", refused_otherwise("old_after_restart")),
    "it trips in silence": ("trip.protect", changed(TELEMETRY, said(work_status=WorkStatus.STOPPED), since="trip")),
    "it stays in the mode when it trips": ("trip.protect", changed(TELEMETRY, tripped_in_the_mode, since="trip")),
    "its alarm goes by itself": (
        "trip.protect",
        changed(TELEMETRY, said(alarm=None), since="equalize_tripped", until="clear_alarm", channel="eq"),
    ),
    "it equalizes in spite of its alarm": (
        "trip.until_cleared",
        reply_to("equalize_tripped", 0, result=ReplyResult.ACCEPTED, reason=None),
    ),
    "its alarm cannot be cleared": ("trip.until_cleared", reply_to("clear_alarm", 0, result=ReplyResult.REJECTED)),
}


def broken(verdicts: list[tuple[str, State, str]] | list[station.Verdict]) -> set[str]:
    return {verdict[0] for verdict in verdicts if verdict[1] is State.BROKEN}


def test_our_own_station_keeps_every_rule() -> None:
    verdicts = station.judge(recorded("station"), STATION_CASE)
    assert [v for v in verdicts if v.state is not State.KEPT] == []
    assert [v.rule for v in verdicts] == list(station.RULES)


@pytest.mark.parametrize("wrong", WRONG_STATION)
def test_a_station_that_does_wrong_is_caught(wrong: str) -> None:
    rule, edit = WRONG_STATION[wrong]
    record = recorded("station")
    edit(record)
    assert rule in broken(station.judge(record, STATION_CASE))


def test_every_rule_for_stations_can_be_broken() -> None:
    assert {rule for rule, _ in WRONG_STATION.values()} | {"equalize.stop"} == set(station.RULES)


def test_a_trial_that_was_broken_off_gives_no_verdict_of_what_was_not_tried() -> None:
    verdicts = station.judge(Record(), STATION_CASE)
    assert {v.state for v in verdicts if v.rule.startswith(("setpoint", "lease", "command", "equalize"))} == {
        State.NOT_TRIED
    }


def another_setpoint(after_s: float, power_w: float) -> Edit:
    """Let the channel that was changed by the first step be changed again so soon."""

    def edit(record: Record) -> None:
        first = next(
            e
            for e in record.heard
            if isinstance(e.message, Setpoint) and e.at_s > at_s(record, "step 1") and e.message.steps[0].power_w != 0.0
        )
        assert isinstance(first.message, Setpoint)
        step = first.message.steps[0].model_copy(update={"power_w": power_w})
        message = first.message.model_copy(update={"steps": (step,), "seq": first.message.seq})
        record.heard.append(replace(first, at_s=first.at_s + after_s, message=message))
        record.heard.sort(key=lambda entry: entry.at_s)

    return edit


def at_once(record: Record) -> None:
    """Answer the first step's imbalance without waiting."""
    begin_s = at_s(record, "step 1")
    number, first = next(
        (n, e)
        for n, e in enumerate(record.heard)
        if isinstance(e.message, Setpoint) and e.at_s > begin_s and e.message.steps[0].power_w != 0.0
    )
    record.heard[number] = replace(first, at_s=begin_s + 0.5)
    record.heard.sort(key=lambda entry: entry.at_s)


def opposite(record: Record) -> None:
    kinds: list[Edit] = []
    for number, power_w in enumerate((5000.0, -5000.0), 1):
        step = {"steps": tuple(_step(power_w))}
        kinds.append(changed(Setpoint, said(**step), channel=str(number)))
    for edit in kinds:
        edit(record)


def _step(power_w: float) -> list[Message]:
    from schemas.messages import SetpointStep  # noqa: PLC0415 - of this one helper

    return [SetpointStep(after_s=0.0, power_w=power_w)]


def one_lease_only(record: Record) -> None:
    """Drop every renewal, and tell the leases to be short."""
    changed(Setpoint, said(ttl_s=0.5))(record)


def sent_early(record: Record) -> None:
    """Let the first setpoint be sent before every channel has spoken."""
    number, first = next((n, e) for n, e in enumerate(record.heard) if isinstance(e.message, Setpoint))
    record.heard[number] = replace(first, at_s=at_s(record, "started") + 0.1)
    record.heard.sort(key=lambda entry: entry.at_s)


def announced_late(record: Record) -> None:
    """Let all that was sent for the announced change come as late as for one that nobody announced."""
    begin_s, edge_s = at_s(record, "plan"), at_s(record, "edge")
    late_s = 1.6 + edge_s - begin_s
    without(lambda _, e: isinstance(e.message, Setpoint) and begin_s <= e.at_s <= begin_s + late_s)(record)


def beside_the_rival(record: Record) -> None:
    """Let the setpoints from before another server came go on."""
    rival_s = at_s(record, "rival")
    before = [e for e in record.heard if isinstance(e.message, Setpoint) and e.at_s < rival_s][-1]
    record.heard.append(replace(before, at_s=rival_s + 4.0))
    record.heard.sort(key=lambda entry: entry.at_s)


WRONG_EQUALIZER: dict[str, tuple[str, Edit]] = {
    "it does not announce itself": (
        "server.announced",
        newcomer(lambda told: [e for e in told if not isinstance(e.message, ServerAnnouncement)]),
    ),
    "a payload is malformed": (
        "server.malformed",
        every(lambda e: replace(e, message=None, error="nan") if isinstance(e.message, LoopBalance) else e),
    ),
    "its setpoints go with QoS 1": (
        "server.qos",
        every(lambda e: replace(e, qos=1) if isinstance(e.message, Setpoint) else e),
    ),
    "its balance is not retained": (
        "server.retained",
        newcomer(lambda told: [e for e in told if not isinstance(e.message, LoopBalance)]),
    ),
    "its setpoints carry another epoch": ("server.epoch", changed(Setpoint, said(epoch=99))),
    "it is silent for a while": (
        "balance.period",
        without(lambda r, e: isinstance(e.message, LoopBalance) and 0.0 < e.at_s - at_s(r, "step 1") < 3.0),
    ),
    "its total is not load and equalization": ("balance.sums", changed(LoopBalance, said(load_power_w=1e5))),
    "its total is made up": (
        "balance.total",
        changed(
            LoopBalance,
            said(total_power_w=5000.0),
            since="settled",
            until="pause",
        ),
    ),
    "it does not count its stations": ("balance.counts", changed(LoopBalance, said(stations_online=1))),
    "its account stands still": (
        "balance.energy",
        lambda record: changed(
            LoopBalance,
            said(energy=next(b.energy for _, b in record.of(LoopBalance, since_s=at_s(record, "settled")))),
        )(record),
    ),
    "its seq stands still": ("setpoint.seq", changed(Setpoint, said(seq=1))),
    "its basis is of another boot": (
        "setpoint.basis",
        changed(
            Setpoint,
            lambda m: m.model_copy(update={"basis": m.basis.model_copy(update={"boot_id": "x"})}),  # type: ignore[attr-defined]  # a setpoint
        ),
    ),
    "its basis is old": (
        "setpoint.basis",
        changed(
            Setpoint,
            lambda m: m.model_copy(update={"basis": m.basis.model_copy(update={"seq": 1})}),  # type: ignore[attr-defined]  # a setpoint
        ),
    ),
    "it asks for more than the limit": ("setpoint.limits", changed(Setpoint, said(steps=tuple(_step(90_000.0))))),
    "it lets one channel charge and one discharge": ("setpoint.signs", opposite),
    "it lets a lease run out": ("setpoint.lease", one_lease_only),
    "it changes a channel again at once": ("control.delay", another_setpoint(0.8, -12_000.0)),
    "it acts at once": ("control.confirm", at_once),
    "it leaves the load alone": (
        "control.balances",
        changed(LoopBalance, said(total_power_w=15_000.0), since="step 1", until="end of step 1"),
    ),
    "it takes a silent load for nothing": (
        "stale.unknown",
        changed(LoopBalance, said(unknown_power_w=0.0), since="mute", until="mute_end"),
    ),
    "it goes on blindly": (
        "stale.frozen",
        changed(LoopBalance, said(phase=Phase.BALANCING), since="frozen", until="frozen_end"),
    ),
    "it counts a load that is gone": (
        "offline.zero",
        changed(LoopBalance, said(load_power_w=80_000.0), since="offline", until="offline_end"),
    ),
    "it sends power while paused": (
        "pause.zero",
        changed(Setpoint, said(steps=tuple(_step(5000.0))), since="pause", until="pause_end"),
    ),
    "it stays paused": ("resume", changed(LoopBalance, said(phase=Phase.PAUSED), since="resume", until="resume_end")),
    "its target does not show": ("target", changed(LoopBalance, said(target_power_w=0.0))),
    "a command gets no reply": ("command.reply", lambda record: record.heard.pop(replies(record, "resume")[0])),
    "the same id gets another reply": ("command.same_id", reply_to("pause", 1, text="again?")),
    "an unknown action is malformed": ("command.unknown", reply_to("unknown", 0, reason=ReplyReason.MALFORMED)),
    "its events go with QoS 0": (
        "server.qos",
        every(lambda e: replace(e, qos=0) if isinstance(e.message, Event) else e),
    ),
    "it sends before it has listened": ("start.passive", sent_early),
    "it begins at 0 W": (
        "start.takes_over",
        changed(Setpoint, said(steps=tuple(_step(0.0))), since="started", until="start_end"),
    ),
    "its epoch is its own": ("start.epoch", changed(Setpoint, said(epoch=45), since="started", until="start_end")),
    "it ignores plans": ("plan.edge", announced_late),
    "it gives up when a lease has run out": (
        "lease.lost",
        changed(LoopBalance, said(total_power_w=12_000.0), since="expired", until="end of expired"),
    ),
    "it goes on beside a newer server": ("epoch.yields", beside_the_rival),
    "it returns under an old epoch": ("epoch.returns", changed(Setpoint, said(epoch=46), since="rival_gone")),
    "it does not return": (
        "epoch.returns",
        without(lambda r, e: isinstance(e.message, Setpoint) and e.at_s > at_s(r, "rival_gone")),
    ),
}


def test_our_own_equalizer_keeps_every_rule() -> None:
    verdicts = equalizer.judge(recorded("equalizer"), EQUALIZER_CASE)
    assert [v for v in verdicts if v.state is not State.KEPT] == []
    assert [v.rule for v in verdicts] == list(equalizer.RULES)


@pytest.mark.parametrize("wrong", WRONG_EQUALIZER)
def test_an_equalizer_that_does_wrong_is_caught(wrong: str) -> None:
    rule, edit = WRONG_EQUALIZER[wrong]
    record = recorded("equalizer")
    edit(record)
    assert rule in broken(equalizer.judge(record, EQUALIZER_CASE))


def test_every_rule_for_equalizers_can_be_broken() -> None:
    assert {rule for rule, _ in WRONG_EQUALIZER.values()} == set(equalizer.RULES)


def test_a_refresh_is_no_change_and_an_edge_that_never_comes_is_none() -> None:
    record = recorded("equalizer")
    keys = {e.key for e in record.heard if isinstance(e.message, Setpoint) and e.key is not None}
    for key in keys:
        found = equalizer.changes(record, key)
        assert all(change.from_w != change.to_w for change in found)
        assert len(found) < sum(1 for _ in record.of(Setpoint, key)) + 1


def test_a_record_survives_its_file() -> None:
    record = recorded("station")
    record.sent.append(Sent(1e9, "mark"))
    again = read(list(lines(record)))
    assert again.heard == record.heard
    assert again.sent == record.sent
    assert SetpointReason.STALE_BASIS in {
        e.message.equalization.last.reason
        for e in again.heard
        if isinstance(e.message, ChannelTelemetry) and e.message.equalization and e.message.equalization.last
    }
