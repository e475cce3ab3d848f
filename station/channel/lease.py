"""Setpoints: decided in the contract's order, and obeyed only as long as their lease runs."""

from dataclasses import dataclass

from schemas.messages import Setpoint, SetpointReason, SetpointResult
from station.channel.outcome import Duplicate, Refused

LONGEST_LEASE_S = 60.0
OLDEST_BASIS_S = 15.0
LARGEST_EPOCH_STEP = 1000
SENT_KEPT = 256
"""Telemetry that a basis may name: 15 s of it at the shortest period, with room for what changes send."""

Sent = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Fence:
    """The newest server that was obeyed; older ones never are again."""

    epoch: int | None = None
    server: str | None = None
    seq: int | None = None
    """The last of that epoch in this boot."""


UNLED = Fence()


@dataclass(frozen=True, slots=True)
class Lease:
    """The powers of an accepted setpoint, and how long they hold."""

    server: str
    epoch: int
    seq: int
    steps: tuple[tuple[float, float], ...]
    """When (monotonic seconds) which power (W) begins."""
    expires_s: float


@dataclass(frozen=True, slots=True)
class Echo:
    """What was last decided."""

    server: str
    epoch: int
    seq: int
    result: SetpointResult
    reason: SetpointReason | None = None


def decide(
    setpoint: Setpoint, *, alarm: bool, equalizing: bool, boot_id: str, sent: Sent, fence: Fence, now_s: float
) -> Lease | Refused | Duplicate:
    """Return what becomes of a parsed setpoint: points 2 to 6 of the contract, in its order."""
    if alarm:
        return Refused(SetpointReason.ALARM)
    if not equalizing:
        return Refused(SetpointReason.NOT_EQUALIZING)
    sent_s = basis_sent_s(setpoint, boot_id, sent, now_s)
    if sent_s is None:
        return Refused(SetpointReason.STALE_BASIS)
    reason = fenced_off(fence, setpoint)
    if reason is not None:
        return Refused(reason)
    if setpoint.epoch == fence.epoch and fence.seq is not None and setpoint.seq <= fence.seq:
        return Duplicate()
    return grant(setpoint, sent_s, now_s)


def note_sent(sent: Sent, seq: int, now_s: float) -> Sent:
    """Return the recent telemetry with one more message."""
    oldest_s = now_s - OLDEST_BASIS_S
    old = next((i for i, (_, sent_s) in enumerate(sent) if sent_s >= oldest_s), len(sent))
    return (*sent[max(old, len(sent) - SENT_KEPT + 1) :], (seq, now_s))


def basis_sent_s(setpoint: Setpoint, boot_id: str, sent: Sent, now_s: float) -> float | None:
    """Return when the telemetry that a setpoint rests on was sent; null where it is not ours, or too old."""
    if setpoint.basis.boot_id != boot_id:
        return None
    sent_s = next((at_s for seq, at_s in reversed(sent) if seq == setpoint.basis.seq), None)
    return sent_s if sent_s is not None and now_s - sent_s <= OLDEST_BASIS_S else None


def fenced_off(fence: Fence, setpoint: Setpoint) -> SetpointReason | None:
    """Return why a setpoint's server may not be obeyed; null where it may."""
    if fence.epoch is None:
        # A channel that has never been led has nothing to compare with: a new station in an old hall.
        return None
    if setpoint.epoch < fence.epoch:
        return SetpointReason.STALE_EPOCH
    if setpoint.epoch == fence.epoch:
        return None if setpoint.server == fence.server else SetpointReason.EPOCH_CONFLICT
    return SetpointReason.EPOCH_JUMP if setpoint.epoch - fence.epoch > LARGEST_EPOCH_STEP else None


def grant(setpoint: Setpoint, sent_s: float, now_s: float) -> Lease:
    """Return the lease of an accepted setpoint: it runs from the telemetry it rests on, its steps from receipt."""
    return Lease(
        server=setpoint.server,
        epoch=setpoint.epoch,
        seq=setpoint.seq,
        steps=tuple((now_s + step.after_s, step.power_w) for step in setpoint.steps),
        expires_s=sent_s + min(setpoint.ttl_s, LONGEST_LEASE_S),
    )


def target_w(lease: Lease | None, now_s: float) -> float:
    """Return the power that a lease asks for now: 0 W without one, and from the moment that it ends."""
    if lease is None or now_s >= lease.expires_s:
        return 0.0
    power_w = lease.steps[0][1]
    for begin_s, step_power_w in lease.steps:
        if begin_s > now_s:
            break
        power_w = step_power_w
    return power_w


def same_powers(before: Lease | None, after: Lease, now_s: float) -> bool:
    """Tell whether a new lease asks for the powers that the old one still would."""
    if before is None or now_s >= before.expires_s:
        return False
    return _powers_left(before, now_s) == _powers_left(after, now_s)


def _powers_left(lease: Lease, now_s: float) -> list[float]:
    return [target_w(lease, now_s), *(power_w for begin_s, power_w in lease.steps if begin_s > now_s)]
