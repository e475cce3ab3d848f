"""What a channel says of itself: telemetry and plan."""

from schemas.messages import ChannelPlan, ChannelTelemetry, Equalization, PlanSegment, SetpointEcho, StepType
from schemas.values import replace
from station.channel.lease import note_sent
from station.channel.limits import derate
from station.channel.plan import HORIZON_S, MOST_SEGMENTS, Forecast, foresee, nothing_happens, ramp_down
from station.channel.program import work_at
from station.channel.state import ChannelState
from station.channel.states import WORK_STATUS, Life
from station.drivers.protocol import Preview, Sample

OLDEST_SAMPLE_S = 3.0
"""What was measured longer ago is not told again as if it were true now: others see the channel as stale."""
UNMEASURED = Sample(0.0, 0.0, 0.0, battery_connected=False, charge_limit_w=0.0, discharge_limit_w=0.0)
"""What an alarm is told with, where the equipment has never answered: nothing was ever switched on."""
USED_PART = 0.45
"""Of the plan's certain time: the contract wants the next before half of it is used."""
SHORTEST_PLAN_PERIOD_S = 0.5
LEARNING_PERIOD_S = 10.0
"""A plan that ends before the horizon is made again after this time: the battery has shown more of itself."""
UNKNOWN_PLAN_PERIOD_S = 5.0
"""How often the equipment is asked again for a preview that it did not have."""

NO_STEP = (StepType.NONE, 0, 0)
EQUALIZATION_STEP = (StepType.SIM, 1, 1)


def telemetry(state: ChannelState, now_s: float, unix_time_s: float) -> tuple[ChannelState, ChannelTelemetry | None]:
    """Return the message of this moment, and note that it was sent; null while nothing true can be said."""
    fresh = state.sample is not None and now_s - state.sampled_s <= OLDEST_SAMPLE_S
    if not fresh and (not state.announce or (state.sample is None and state.alarm is None)):
        return state, None
    sample = state.sample if state.sample is not None else UNMEASURED
    seq = state.telemetry_seq + 1
    step_type, step_id, cycle_count = _step(state)
    own = sample.own_step if state.life is Life.PROGRAM else None
    message = ChannelTelemetry(
        boot_id=state.setup.boot_id,
        seq=seq,
        unix_time_s=unix_time_s,
        work_status=WORK_STATUS[state.life] if own is None else own.work_status,
        step_type=step_type,
        step_id=step_id,
        cycle_count=cycle_count,
        voltage_v=sample.voltage_v,
        current_a=sample.current_a,
        power_w=sample.power_w,
        temperature_degc=sample.temperature_degc,
        soc_ratio=sample.soc_ratio,
        battery_connected=sample.battery_connected,
        equalization=_equalization(state, now_s) if state.equalizing else None,
        alarm=state.alarm,
    )
    return replace(state, telemetry_seq=seq, announce=False, sent=note_sent(state.sent, seq, now_s)), message


def plan(
    state: ChannelState, preview: Preview | None, now_s: float, unix_time_s: float
) -> tuple[ChannelState, ChannelPlan | None]:
    """Return what the channel will do next; null in equalization mode, or where nothing is known.

    Args:
        state: the channel.
        preview: the driver's, for a channel with `setup.own_program`; else null.
        now_s: monotonic seconds.
        unix_time_s: the label.
    """
    forecast = _forecast(state, preview, now_s)
    if forecast is None:
        return replace(state, plan_at_s=now_s + UNKNOWN_PLAN_PERIOD_S), None
    seq = state.plan_seq + 1
    message = ChannelPlan(
        boot_id=state.setup.boot_id,
        seq=seq,
        unix_time_s=unix_time_s,
        step_id=_step(state)[1],
        until_s=forecast.until_s,
        segments=forecast.segments,
    )
    certain_s = min([forecast.until_s, *(segment.after_s for segment in forecast.segments if segment.sigma_s)])
    period_s = max(SHORTEST_PLAN_PERIOD_S, USED_PART * certain_s)
    due_s = now_s + (period_s if forecast.until_s >= HORIZON_S else min(period_s, LEARNING_PERIOD_S))
    return replace(state, plan_seq=seq, plan_at_s=due_s), message


def _forecast(state: ChannelState, preview: Preview | None, now_s: float) -> Forecast | None:
    if state.sample is None or state.trouble_since_s is not None:
        return None
    match state.life:
        case Life.EQUALIZING:
            # What it will do is the equalizer's own setpoint.
            return None
        case Life.PROGRAM if state.run is not None:
            return foresee(state.setup.program, state.run, state.sample, now_s)
        case Life.PROGRAM:
            return None if preview is None else _previewed(preview)
        case Life.STOPPING:
            return ramp_down(state.applied_w, state.setup.ramp_w_per_s)
        case Life.IDLE | Life.FINISHED | Life.STOPPED | Life.PROTECT:
            return nothing_happens()


def _previewed(preview: Preview) -> Forecast | None:
    segments: tuple[PlanSegment, ...] = preview.segments
    if not segments:
        return None
    if len(segments) <= MOST_SEGMENTS:
        return Forecast(segments, preview.until_s)
    return Forecast(segments[:MOST_SEGMENTS], segments[MOST_SEGMENTS].after_s)


def _step(state: ChannelState) -> tuple[StepType, int, int]:
    match state.life:
        case Life.PROGRAM | Life.STOPPING if state.run is not None:
            work = work_at(state.setup.program, state.run.place)
            return work.step_type, work.step_id, state.run.place.cycle_count
        case Life.PROGRAM | Life.STOPPING if state.setup.own_program:
            own = state.sample.own_step if state.sample is not None else None
            return NO_STEP if own is None else (own.step_type, own.step_id, own.cycle_count)
        case Life.EQUALIZING | Life.STOPPING:
            return EQUALIZATION_STEP
        case _:
            return NO_STEP


def _equalization(state: ChannelState, now_s: float) -> Equalization:
    limits = derate(state.setup.charge_limit_w, state.setup.discharge_limit_w, state.sample)
    return Equalization(
        charge_limit_w=limits.charge_limit_w,
        discharge_limit_w=limits.discharge_limit_w,
        ramp_w_per_s=state.setup.ramp_w_per_s,
        applied_w=state.applied_w,
        last=_echo(state, now_s),
    )


def _echo(state: ChannelState, now_s: float) -> SetpointEcho | None:
    echo = state.echo
    if echo is None:
        return None
    return SetpointEcho(
        server=echo.server,
        epoch=echo.epoch,
        seq=echo.seq,
        result=echo.result,
        reason=echo.reason,
        expires_in_s=None if state.lease is None else max(0.0, state.lease.expires_s - now_s),
    )
