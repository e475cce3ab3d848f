"""How long a channel may be left alone: the production ticks every 0.1 s, and most of those ticks change nothing.

A channel whose demand stands and whose power does not move is ticked when it publishes, when its plan is due, and at
the first tick of the station's own grid that is not before the next thing known to happen: a step's end or a profile's
next point, a lease's next power, a recording's next edge. Near an end by voltage, current, charge or energy, on a ramp
and in trouble it is ticked as in production. What differs: a steady power's drift is seen up to 1 s late, and a
recording's telemetry is the mean since its last tick, away from its edges over up to 1 s instead of 0.1 s.
"""

from math import inf

from station.channel.lease import target_w
from station.channel.limits import clamp, derate
from station.channel.program import Run, demand_after, direction, work_at
from station.channel.state import ChannelState, Pending
from station.channel.states import Life
from station.channel.steps import Work
from station.drivers.protocol import Driver, Sample

COARSE_S = 1.0
STILL_RATIO = 2e-3
"""Of the rating: a power that moves less from one tick to the next is steady."""
NEAR_VOLTAGE_RATIO = 2e-3
NEAR_CURRENT_RATIO = 1.03
NEAR_S = 2.0
SECONDS_PER_HOUR = 3600.0


def rest_until_s(before: ChannelState, after: ChannelState, driver: Driver, now_s: float) -> float:
    """Return the time up to which nothing will happen to a channel; now where it wants every tick."""
    sample = after.sample
    if (
        sample is None
        or before.sample is None
        or after.pending is not Pending.NOTHING
        or after.trouble_since_s is not None
        or before.life is not after.life
        or before.demand != after.demand
        or _moves(before.sample, sample, after)
    ):
        return now_s
    match after.life:
        case Life.PROGRAM if after.run is not None:
            return _program_rests_until_s(after, after.run, sample, now_s)
        case Life.PROGRAM:
            return _recording_rests_until_s(after, driver, now_s)
        case Life.EQUALIZING:
            return _lease_rests_until_s(after, sample, now_s)
        case Life.STOPPING:
            return now_s
        case Life.IDLE | Life.FINISHED | Life.STOPPED | Life.PROTECT:
            return inf


def _rating_w(state: ChannelState) -> float:
    return max(state.setup.charge_limit_w, state.setup.discharge_limit_w)


def _moves(before: Sample, after: Sample, state: ChannelState) -> bool:
    if state.setup.own_program:
        return False
    return abs(after.power_w - before.power_w) > STILL_RATIO * _rating_w(state)


def _program_rests_until_s(state: ChannelState, run: Run, sample: Sample, now_s: float) -> float:
    work = work_at(state.setup.program, run.place)
    age_s = now_s - run.began_s
    if age_s < NEAR_S or _is_near_its_end(work, run, sample, age_s):
        return now_s
    until_s = run.began_s + work.ends.time_s
    if len(work.points) > 1:
        into_run_s = age_s % work.run_s
        next_s = next((after_s for after_s, _ in work.points if after_s > into_run_s), work.run_s)
        until_s = min(until_s, now_s + next_s - into_run_s)
    return until_s


def _is_near_its_end(work: Work, run: Run, sample: Sample, age_s: float) -> bool:
    ends = work.ends
    current_a = abs(sample.current_a)
    if ends.voltage_v is not None:
        sign = direction(demand_after(work, age_s))
        if sign and (ends.voltage_v - sample.voltage_v) * sign <= NEAR_VOLTAGE_RATIO * ends.voltage_v:
            return True
    if ends.current_a is not None and current_a <= NEAR_CURRENT_RATIO * ends.current_a:
        return True
    if (ends.charge_ah - run.charge_ah) * SECONDS_PER_HOUR <= NEAR_S * current_a:
        return True
    return (ends.energy_wh - run.energy_wh) * SECONDS_PER_HOUR <= NEAR_S * abs(sample.power_w)


def _recording_rests_until_s(state: ChannelState, driver: Driver, now_s: float) -> float:
    """A sample is the mean since the last one: around an edge, and where edges are dense, it must be a tick's."""
    preview = driver.preview(state.setup.channel_id, NEAR_S, now_s)
    return now_s if preview is None or len(preview.segments) > 1 else now_s + NEAR_S - COARSE_S


def _lease_rests_until_s(state: ChannelState, sample: Sample, now_s: float) -> float:
    limits = derate(state.setup.charge_limit_w, state.setup.discharge_limit_w, sample)
    lease = state.lease
    asked_w = clamp(target_w(lease, now_s), limits)
    if state.applied_w != asked_w or abs(sample.power_w - asked_w) > STILL_RATIO * _rating_w(state):
        return now_s
    if lease is None:
        return inf
    return min(lease.expires_s, *(begin_s for begin_s, _ in lease.steps if begin_s > now_s), inf)
