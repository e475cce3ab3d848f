"""What Prometheus is told: a collector over the plain numbers that the hot path keeps."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from equalizer.control.reasons import HELD_BACK, SENT
from equalizer.control.residual import Cause
from schemas.codec import MalformedReason
from schemas.messages import Phase, SetpointReason

JOULES_PER_WH = 3600.0
UNSENT = (
    "Messages not sent: outdated before they could be, or too large for the broker (dropped); or events, too many at "
    "once (withheld)."
)

_REACTION_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Reactions:
    """A histogram of the time from the telemetry that completes a decision to its publication."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_REACTION_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, reaction_s: float) -> None:
        """Count one reaction; in seconds."""
        self.counts[bisect_left(_REACTION_BOUNDS_S, reaction_s)] += 1
        self.sum_s += reaction_s

    def buckets(self) -> list[tuple[str, float]]:
        """Return upper bound and cumulated count of each bucket, the last without bound."""
        bounds = [f"{bound:g}" for bound in _REACTION_BOUNDS_S] + ["+Inf"]
        total = 0
        cumulated = []
        for bound, count in zip(bounds, self.counts, strict=True):
            total += count
            cumulated.append((bound, float(total)))
        return cumulated


@dataclass(slots=True)
class EnergyCounters:
    """Energy since the process began, J. None of them ever falls, as a Prometheus counter must not.

    What balancing avoids can be negative for a while: a load turns round, and the equalization channel follows only
    after its delay. Such energy is counted by itself, as `added`; avoided less added is the account's net.
    """

    import_j: float = 0.0
    export_j: float = 0.0
    avoided_j: float = 0.0
    added_j: float = 0.0

    def add_wh(self, *, import_wh: float, export_wh: float, avoided_wh: float) -> None:
        """Add what was exchanged in one cycle; only `avoided_wh` may be negative."""
        self.import_j += max(import_wh, 0.0) * JOULES_PER_WH
        self.export_j += max(export_wh, 0.0) * JOULES_PER_WH
        if avoided_wh >= 0.0:
            self.avoided_j += avoided_wh * JOULES_PER_WH
        else:
            self.added_j -= avoided_wh * JOULES_PER_WH


def _zeroed(labels: Iterable[StrEnum]) -> dict[str, int]:
    return {label.value: 0 for label in labels}


@dataclass(slots=True)
class Counters:
    """Everything that only counts up, since the process began."""

    telemetry: int = 0
    malformed: dict[str, int] = field(default_factory=lambda: _zeroed(MalformedReason))
    sent: dict[str, int] = field(default_factory=lambda: {"change": 0, "refresh": 0})
    refused: dict[str, int] = field(default_factory=lambda: _zeroed(SetpointReason))
    decisions: dict[str, int] = field(default_factory=lambda: _zeroed(SENT))
    suppressed: dict[str, int] = field(default_factory=lambda: _zeroed(HELD_BACK))
    residual_j: Mapping[str, float] = field(default_factory=lambda: {cause.value: 0.0 for cause in Cause})
    """What was left over, by cause, J."""
    reactions: Reactions = field(default_factory=Reactions)
    energy: EnergyCounters = field(default_factory=EnergyCounters)


@dataclass(frozen=True, slots=True)
class Gauges:
    """What holds now. Powers in W, positive drawn from the grid."""

    phase: Phase
    connected: bool
    in_charge: bool
    """Whether this server sends setpoints."""
    leader_silent_s: float | None
    """For how long the server that this one stands by for has given no sign of life; None: it stands by for none."""
    epoch: int
    total_power_w: float
    load_power_w: float
    equalization_power_w: float
    target_power_w: float
    unknown_power_w: float
    shortfall_w: float
    meter_power_w: float | None
    stations_online: int
    channels: Mapping[str, int]
    """How many channels are in each state."""
    engage_w: float = 0.0
    release_w: float = 0.0
    headroom_w: Mapping[str, float] = field(default_factory=dict)
    """By direction: how much further all equalization channels could go."""
    regret_ratio: float | None = None
    bound_w: float | None = None
    """The least mean power that the best possible controller would have left in the last quarter of an hour."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Messages that changed nothing, and plans that were dropped, by reason; counted since the process began."""
    decision_log: Mapping[str, int] = field(default_factory=dict)
    """Lines, written and lost."""


class EqualizerMetrics(Collector):
    """Turns counters and gauges into Prometheus' families, all with the label `loop`.

    Args:
        loop: the loop's name.
        counters: kept up to date by others.
        gauges: called at each scrape.
        certificates: called at each scrape; seconds until each expires, negative after it.
        audit: called at each scrape; how many entries of the audit log were written, and lost.
        unsent: called at each scrape; how many messages were not sent, by reason.
    """

    def __init__(
        self,
        loop: str,
        counters: Counters,
        gauges: Callable[[], Gauges],
        *,
        certificates: Callable[[], Mapping[str, float]] = dict,
        audit: Callable[[], Mapping[str, int]] = dict,
        unsent: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._loop = loop
        self._counters = counters
        self._gauges = gauges
        self._certificates = certificates
        self._audit = audit
        self._unsent = unsent
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Declare nothing, so that registering collects nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return every family with its values of now."""
        gauges = self._gauges()
        yield from self._now(gauges)
        yield from self._counted(gauges)

    def _now(self, gauges: Gauges) -> Iterator[Metric]:
        powers = (
            ("total", "Sum of the power of all channels, positive drawn from the grid.", gauges.total_power_w),
            ("load", "Sum of the power of the channels that run their own programs.", gauges.load_power_w),
            ("equalization", "Sum of the power of the equalization channels.", gauges.equalization_power_w),
            ("target", "What the total power is steered to.", gauges.target_power_w),
            ("unknown", "Magnitude of the power of channels whose telemetry is stale.", gauges.unknown_power_w),
            ("shortfall", "What the equalization channels lack to reach the target.", gauges.shortfall_w),
        )
        for name, text, value in powers:
            yield self._gauge(f"zeroloop_{name}_power_watts", text, value)
        yield self._gauge("zeroloop_engage_power_watts", "A correction begins above this.", gauges.engage_w)
        yield self._gauge("zeroloop_release_power_watts", "A correction ends below this.", gauges.release_w)
        if gauges.regret_ratio is not None:
            text = "What was left over in the last quarter of an hour, by what the best possible controller leaves."
            yield self._gauge("zeroloop_regret_ratio", text, gauges.regret_ratio)
        if gauges.bound_w is not None:
            text = "What the best possible controller would have left in the last quarter of an hour, in the mean."
            yield self._gauge("zeroloop_bound_power_watts", text, gauges.bound_w)
        text = "How much further the equalization channels could go, by direction."
        yield self._labelled("zeroloop_headroom_power_watts", text, "direction", gauges.headroom_w)
        if gauges.meter_power_w is not None:
            yield self._gauge("zeroloop_meter_power_watts", "What the grid meter says.", gauges.meter_power_w)
        yield self._gauge("zeroloop_connected", "1 while there is a connection to the broker.", gauges.connected)
        yield self._gauge("zeroloop_in_charge", "1 for the server that sends setpoints.", gauges.in_charge)
        if gauges.leader_silent_s is not None:
            text = "Seconds since the server in charge, which this one stands by for, has given a sign of life."
            yield self._gauge("zeroloop_leader_silent_seconds", text, gauges.leader_silent_s)
        yield self._gauge("zeroloop_epoch", "The epoch under which setpoints are sent.", gauges.epoch)
        yield self._gauge("zeroloop_stations_online", "Stations that say they are online.", gauges.stations_online)
        phases = {phase.value: float(phase is gauges.phase) for phase in Phase}
        yield self._labelled("zeroloop_phase", "1 for the phase that the equalizer is in.", "phase", phases)
        text = "Seconds until a certificate expires, negative after it; none without TLS."
        yield self._labelled("zeroloop_certificate_expiry_seconds", text, "certificate", self._certificates())
        text = "Channels by what is known of them."
        yield self._labelled("zeroloop_channels", text, "state", gauges.channels)

    def _counted(self, gauges: Gauges) -> Iterator[Metric]:
        counters = self._counters
        family = CounterMetricFamily(
            "zeroloop_telemetry_messages", "Telemetry messages received, good or bad.", labels=["loop"]
        )
        family.add_metric([self._loop], counters.telemetry)
        yield family
        energy = counters.energy
        joules = {
            "import": energy.import_j,
            "export": energy.export_j,
            "avoided": energy.avoided_j,
            "added": energy.added_j,
        }
        counted: tuple[tuple[str, str, str, Mapping[str, float]], ...] = (
            ("malformed_messages", "Messages dropped as they break the contract.", "reason", counters.malformed),
            ("setpoints_sent", "Setpoints published.", "kind", counters.sent),
            ("setpoints_refused", "Setpoints that a station rejected.", "reason", counters.refused),
            ("decisions", "Setpoints decided on, by what for.", "reason", counters.decisions),
            ("suppressed_changes", "Changes that the control held back.", "reason", counters.suppressed),
            ("energy_joules", "Energy exchanged, avoided and added by balancing, since the start.", "kind", joules),
            ("residual_energy_joules", "Energy left over, by cause, since the start.", "cause", counters.residual_j),
            ("ignored_messages", "Messages and plans that counted for nothing.", "reason", gauges.ignored),
            ("unsent_messages", UNSENT, "reason", self._unsent()),
            ("audit_entries", "Entries of the audit log.", "result", self._audit()),
            ("decision_log_lines", "Lines of the decision log.", "result", gauges.decision_log),
        )
        for name, text, label, values in counted:
            family = CounterMetricFamily(f"zeroloop_{name}", text, labels=["loop", label])
            for value, count in values.items():
                family.add_metric([self._loop, value], count)
            yield family
        reactions = HistogramMetricFamily(
            "zeroloop_reaction_seconds",
            "Time from the telemetry that completes a decision to its publication.",
            labels=["loop"],
        )
        reactions.add_metric([self._loop], counters.reactions.buckets(), counters.reactions.sum_s)
        yield reactions

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["loop"])
        family.add_metric([self._loop], value)
        return family

    def _labelled(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["loop", label])
        for value, number in values.items():
            family.add_metric([self._loop, value], number)
        return family
