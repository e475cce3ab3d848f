"""What a look at a hall amounts to. Pure: facts in, findings out, each with the command that mends it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from statistics import median

from schemas.messages import OnLost, Presence
from station.connection import CachedConnection, Source
from station.discovery import Found
from zeroloop.doctor.ears import Ears
from zeroloop.doctor.trials import QUEUED, Trial

_SLOW_S = 0.25
_CLOCK_OFF_S = 5.0
_STALE_PERIODS = 3.0
_BALANCE_SILENT_S = 4.0
_SHOWN = 8


class Weight(StrEnum):
    """How bad a finding is."""

    NOTE = "note"
    """Worth knowing; nothing is wrong."""
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    code: str
    weight: Weight
    text: str
    remedy: str
    """A command, or where there is none, what to do."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file with a secret that others may read."""

    path: str
    mode: int


@dataclass(slots=True)
class Look:
    """All that was seen."""

    where: str
    """What to add to a command so that it reaches the same broker: ` --host …`, or nothing."""
    found: tuple[Found, ...] = ()
    told: bool = False
    """Whether the command line named the broker."""
    cache_path: str = ""
    cached: CachedConnection | None = None
    cache_writable: bool = True
    open_files: list[OpenFile] = field(default_factory=list)
    place: Found | None = None
    """The broker that was looked at."""
    loop: str | None = None
    loops: tuple[str, ...] = ()
    """Loops with a server, where none was chosen."""
    trial: Trial | None = None
    ears: Ears | None = None
    listened_s: float = 0.0
    reply_s: float | None = None
    """After how long the equalizer replied."""
    asked: bool = False
    role: str | None = None
    """Ours, by our credentials."""
    version: str = ""
    """Our own."""


def judge(look: Look) -> list[Finding]:
    """Return what was found, the worst first."""
    findings = chain(_discovery(look), _files(look), _broker(look), _server(look), _stations(look), _kept(look))
    order = list(Weight)[::-1]
    return sorted(findings, key=lambda finding: order.index(finding.weight))


def _note(code: str, text: str, remedy: str) -> Finding:
    return Finding(code, Weight.NOTE, text, remedy)


def _warning(code: str, text: str, remedy: str) -> Finding:
    return Finding(code, Weight.WARNING, text, remedy)


def _fault(code: str, text: str, remedy: str) -> Finding:
    return Finding(code, Weight.FAULT, text, remedy)


def nobody_answers(found: Sequence[Found]) -> str:
    """Return that no broker answers, and where they were looked for."""
    tried = "; ".join(f"{place.broker.host}:{place.broker.port} ({place.source}): {place.why}" for place in found)
    return f"no broker answers: {tried or 'nowhere to look'}"


def _discovery(look: Look) -> Iterator[Finding]:
    if look.place is None:
        yield _fault(
            "no_broker",
            nobody_answers(look.found),
            "zeroloop broker   (or say where it is: zeroloop doctor --host HOST --port PORT)",
        )
    for place in look.found:
        if place.source is Source.CACHED and place.error is not None and look.place is not None:
            yield _warning("remembered_gone", f"the remembered broker is gone: {place.error}", f"rm {look.cache_path}")
    servers = {
        (server.loop, place.broker.host, place.broker.port)
        for place in look.found
        for server in place.servers
        if server.online
    }
    # One broker is often found under several of its addresses; that alone is nothing to speak of.
    per_loop = Counter(loop for loop, _, _ in servers)
    for loop, count in per_loop.items():
        identities = {
            (server.announcement.server, server.announcement.started_unix_time_s)
            for place in look.found
            for server in place.servers
            if server.online and server.loop == loop
        }
        if count > 1 and len(identities) > 1:
            yield _fault(
                "loop_twice",
                f"loop {loop} has servers on {count} brokers: its stations may join either",
                "stop all but one of them, or give each hall a loop name of its own ([loop] name in equalizer.toml)",
            )
    if look.loop is None and len(look.loops) > 1:
        yield _fault(
            "several_loops",
            f"more than one loop answers ({', '.join(look.loops)}), and none is chosen",
            f"zeroloop doctor{look.where} --loop {look.loops[0]}",
        )
    if not look.told and look.place is not None and not any(place.announced for place in look.found):
        yield _note(
            "no_dns_sd",
            "no broker announces itself by DNS-SD: a new station needs its broker in its configuration",
            "set [discovery] advertise = true in equalizer.toml, or install deploy/avahi/*.service",
        )


def _files(look: Look) -> Iterator[Finding]:
    for file in look.open_files:
        yield _fault(
            "secret_open",
            f"{file.path} holds a secret and others may read it ({file.mode:o})",
            f"chmod 600 {file.path}",
        )
    if not look.cache_writable:
        yield _warning(
            "memory_closed",
            f"the connection cannot be remembered: {look.cache_path} cannot be written",
            f"install -d -m 700 {look.cache_path.rpartition('/')[0]}",
        )


def _broker(look: Look) -> Iterator[Finding]:
    if look.place is None:
        return
    if look.place.broker.protocol != "5":
        yield _note(
            "mqtt_3",
            "the broker speaks MQTT 3.1.1 only: refused messages cannot be told from lost ones",
            "nothing to do",
        )
    trial = look.trial
    if trial is None:
        return
    if not trial.may_write:
        if look.role is not None and look.role != "operator":
            yield _note(
                "not_tried",
                f"the broker was not tried out: credentials for a {look.role} may not write",
                "zeroloop doctor --config NAME.zeroloop   (with an operator's credentials)",
            )
        else:
            yield _warning(
                "not_tried",
                "the broker passes nothing on below zeroloop/doctor: we may not write there, or it loses QoS 1",
                "give this client the rights of an operator: zeroloop credentials operator NAME",
            )
        return
    if median(trial.exchange_s) > _SLOW_S:
        yield _warning(
            "slow_broker",
            f"a QoS 1 message to ourselves takes {1000.0 * median(trial.exchange_s):.0f} ms",
            "look at the broker's computer and the network between: ping, top",
        )
    if trial.retains is False:
        yield _fault(
            "nothing_retained",
            "the broker keeps no retained messages: nobody finds the server, and newcomers see nothing",
            "set retain_available true in mosquitto.conf and restart it: systemctl restart mosquitto",
        )
    if trial.queued is not None and trial.queued < QUEUED:
        yield _warning(
            "short_queue",
            f"a client that does not read for a moment got {trial.queued} of {QUEUED} messages",
            "set max_queued_messages 0 in mosquitto.conf (as deploy does) and restart it: systemctl restart mosquitto",
        )


def _server(look: Look) -> Iterator[Finding]:
    ears = look.ears
    if look.place is None:
        return
    if ears is None or ears.announcement is None:
        if not look.loops:
            yield _fault("no_server", "no equalizer has announced itself on this broker", "zeroloop equalizer")
        return
    announcement = ears.announcement
    if announcement.status is Presence.OFFLINE:
        yield _fault("server_offline", f"the equalizer of loop {ears.loop} is offline", "zeroloop equalizer")
    elif ears.balances == 0 and look.listened_s >= _BALANCE_SILENT_S:
        yield _fault(
            "server_silent",
            f"the equalizer says online, and nothing came from it in {look.listened_s:.0f} s",
            "systemctl restart zeroloop-equalizer   (its log: journalctl -u zeroloop-equalizer)",
        )
    elif look.asked and look.reply_s is None:
        reader = look.role is not None and look.role != "operator"
        yield (_note if reader else _warning)(
            "no_reply",
            "the equalizer does not reply to commands from here: we may not send them, or it does not hear them",
            "zeroloop doctor --config NAME.zeroloop   (with credentials made by: zeroloop credentials operator NAME)",
        )
    if len(ears.orderers) > 1:
        names = ", ".join(f"{server} (epoch {epoch})" for server, epoch in sorted(ears.orderers))
        yield _fault(
            "two_servers", f"more than one equalizer leads loop {ears.loop}: {names}", "stop all but one of them"
        )
    echo = ears.highest_echo()
    if echo is not None and echo > announcement.epoch:
        yield _fault(
            "old_epoch",
            f"channels obey epoch {echo}, and the server announces {announcement.epoch}: they refuse its setpoints",
            "systemctl restart zeroloop-equalizer   (at its start it takes one more than any epoch it sees)",
        )
    if announcement.version != look.version:
        yield _warning(
            "version_differs",
            f"the equalizer is version {announcement.version}, this command is {look.version}",
            f"pip install zeroloop=={announcement.version}",
        )


def _stations(look: Look) -> Iterator[Finding]:
    ears = look.ears
    if ears is None:
        return
    period_s = 1.0 if ears.announcement is None else ears.announcement.telemetry_period_s
    versions = {} if ears.announcement is None else {"": ears.announcement.version}
    for name, status in sorted(ears.stations.items()):
        if status.status is Presence.OFFLINE:
            yield from _offline(look, ears, name)
            continue
        yield from _silent(look, ears, name, _STALE_PERIODS * period_s)
        if versions and status.version != versions[""]:
            yield _warning(
                "version_differs",
                f"station {name} is version {status.version}, the equalizer is {versions['']}",
                f"pip install zeroloop=={versions['']}   (on the computer of {name})",
            )
    yield from _channels(look, ears)
    yield from _senders(look, ears)


def _channels(look: Look, ears: Ears) -> Iterator[Finding]:
    for (station, channel), heard in sorted(ears.channels.items()):
        if len(heard.boots) > 1:
            yield _fault(
                "station_twice",
                f"two processes speak for {station}/{channel} (boots {', '.join(sorted(heard.boots))})",
                f"stop one of them, or give it another id ([station] id) than {station}",
            )
        if heard.live and heard.telemetry is not None and heard.telemetry.alarm is not None:
            yield _warning(
                "alarm",
                f"{station}/{channel} has an alarm: {heard.telemetry.alarm.text}",
                f"zeroloop clear-alarm {station} {channel}{look.where}   (once its cause is gone)",
            )


def _senders(look: Look, ears: Ears) -> Iterator[Finding]:
    for sender, off_s in sorted(ears.clock_off_s.items()):
        if abs(off_s) > _CLOCK_OFF_S:
            yield _warning(
                "clock_off",
                f"the clock of {sender} is {abs(off_s):.0f} s {'ahead of' if off_s > 0.0 else 'behind'} ours; "
                "no decision uses it, but logs and history do",
                f"timedatectl set-ntp true   (on the computer of {sender}, or on this one)",
            )
    for topic, text in sorted(ears.malformed.items()):
        yield _warning("malformed", f"{topic}: {text}", f"zeroloop conform station --station NAME{look.where}")


def _offline(look: Look, ears: Ears, name: str) -> Iterator[Finding]:
    if ears.lives(name):
        yield _fault(
            "late_will",
            f"station {name} says offline, and its telemetry comes",
            f"systemctl restart zeroloop-station@{name}",
        )
        return
    flowing_w = sum(
        abs(heard.telemetry.power_w)
        for (station, _), heard in ears.channels.items()
        if station == name and heard.telemetry is not None
    )
    if ears.stations[name].on_lost is OnLost.CONTINUE and flowing_w > 0.0:
        yield _warning(
            "lost_power",
            f"station {name} is offline, and its channels may still carry {flowing_w:.0f} W: that power is unknown",
            f"systemctl start zeroloop-station@{name}   (gone for good: zeroloop purge{look.where})",
        )
    else:
        yield _note(
            "station_offline",
            f"station {name} is offline",
            f"systemctl start zeroloop-station@{name}   (gone for good: zeroloop purge{look.where})",
        )


def _silent(look: Look, ears: Ears, name: str, stale_s: float) -> Iterator[Finding]:
    if look.listened_s < stale_s:
        return
    silent = [
        channel
        for channel in ears.stations[name].channels
        if (heard := ears.channels.get((name, channel))) is None or not heard.live
    ]
    if not silent:
        return
    whole = len(silent) == len(ears.stations[name].channels)
    which = "all its channels" if whole else f"channel {', '.join(silent[:_SHOWN])}{' …' if silent[_SHOWN:] else ''}"
    yield _fault(
        "station_silent",
        f"station {name} is online, and nothing came of {which} in {look.listened_s:.0f} s",
        f"systemctl restart zeroloop-station@{name}   (its log: journalctl -u zeroloop-station@{name})",
    )


def _kept(look: Look) -> Iterator[Finding]:
    ears = look.ears
    if ears is None:
        return
    by_why: dict[str, list[str]] = {}
    for ghost in ears.ghosts():
        by_why.setdefault(ghost.why, []).append(ghost.topic)
    for why, topics in sorted(by_why.items()):
        offline = why == "the station is offline"
        shown = ", ".join(topics[:2]) + (" …" if topics[2:] else "")
        text = f"the broker keeps {len(topics)} message(s) of what is gone ({why}): {shown}"
        yield (_note if offline else _warning)("ghosts", text, f"zeroloop purge{look.where}")
    if ears.foreign:
        shown = ", ".join(sorted(ears.foreign)[:2])
        yield _note(
            "foreign",
            f"{len(ears.foreign)} topic(s) below the loop are not the contract's: {shown}",
            "have whoever publishes them choose another place than zeroloop/v1",
        )
