"""The station's Prometheus metrics: counted where things happen, put together when somebody asks."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from station.config import MetricsSection

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Tally:
    """What the station counts. Written by the event loop alone; a scrape reads it from its own thread."""

    telemetry: int = 0
    plans: int = 0
    setpoints: Counter[str] = field(default_factory=Counter)
    """By result: `applied`, `clamped`, `expired`, `duplicate`, or the reason of a refusal."""
    commands: Counter[str] = field(default_factory=Counter)
    """By result of their reply."""
    malformed: Counter[str] = field(default_factory=Counter)
    """By reason."""
    driver_errors: Counter[str] = field(default_factory=Counter)
    """By kind: `transient`, `device_fault`, `defect`."""
    connections: int = 0
    ticks: int = 0
    tick_lag_s: float = 0.0
    """Sum over all ticks of how late each began."""
    overruns: int = 0
    """Ticks that were left out because an earlier one took too long."""


@dataclass(frozen=True, slots=True)
class ChannelReading:
    """The newest sample of a channel."""

    channel: str
    power_w: float
    voltage_v: float
    current_a: float
    soc_ratio: float | None
    equalizing: bool
    alarmed: bool


@dataclass(frozen=True, slots=True)
class StationReading:
    """What a scrape asks of the station."""

    loop: str
    """Empty until it is known."""
    connected: bool
    server_online: bool
    channels: Sequence[ChannelReading]
    certificates: Mapping[str, float] = field(default_factory=dict)
    """Seconds until each certificate expires, negative after it; empty without TLS."""
    unsent: int = 0
    """Messages that were outdated before they could be sent, or too large for the broker."""


class StationCollector(Collector):
    """Turns the tally and a reading into metric families.

    Args:
        station: the station's id, a label of every metric.
        tally: what was counted.
        read: what the station is at; called from the scrape's thread.
    """

    def __init__(self, station: str, tally: Tally, read: Callable[[], StationReading]) -> None:
        self._station = station
        self._tally = tally
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names need no check against others in a registry of our own."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return all families."""
        reading = self._read()
        place = [reading.loop, self._station]
        yield from _station_gauges(reading, place)
        yield from _channel_gauges(reading.channels, place)
        yield _certificates(reading.certificates, place)
        yield from _counters(self._tally, reading.unsent, place)


_LABELS = ["loop", "station"]


def _station_gauges(reading: StationReading, place: list[str]) -> Iterator[Metric]:
    for name, text, value in (
        ("connected", "1 while the station is connected to its broker.", reading.connected),
        ("server_online", "1 while the equalizer's announcement says online.", reading.server_online),
    ):
        gauge = GaugeMetricFamily(f"zeroloop_station_{name}", text, labels=_LABELS)
        gauge.add_metric(place, float(value))
        yield gauge


_CHANNEL_GAUGES: tuple[tuple[str, str, Callable[[ChannelReading], float | None]], ...] = (
    ("power_watts", "Power into the battery; negative: out of it.", lambda one: one.power_w),
    ("voltage_volts", "Voltage at the battery.", lambda one: one.voltage_v),
    ("current_amperes", "Current into the battery; negative: out of it.", lambda one: one.current_a),
    ("soc_ratio", "State of charge, 0 to 1, where it is known.", lambda one: one.soc_ratio),
    ("equalizing", "1 while the channel is in equalization mode.", lambda one: float(one.equalizing)),
    ("alarm", "1 while the channel has an alarm.", lambda one: float(one.alarmed)),
)


def _channel_gauges(channels: Sequence[ChannelReading], place: list[str]) -> Iterator[Metric]:
    for name, text, value_of in _CHANNEL_GAUGES:
        gauge = GaugeMetricFamily(f"zeroloop_station_channel_{name}", text, labels=[*_LABELS, "channel"])
        for channel in channels:
            value = value_of(channel)
            if value is not None:
                gauge.add_metric([*place, channel.channel], value)
        yield gauge


def _certificates(left_s: Mapping[str, float], place: list[str]) -> Metric:
    gauge = GaugeMetricFamily(
        "zeroloop_certificate_expiry_seconds",
        "Seconds until a certificate expires, negative after it; none without TLS.",
        labels=[*_LABELS, "certificate"],
    )
    for certificate, seconds in left_s.items():
        gauge.add_metric([*place, certificate], seconds)
    return gauge


def _counters(tally: Tally, unsent: int, place: list[str]) -> Iterator[Metric]:
    for name, text, count in (
        ("telemetry_messages", "Telemetry messages published.", tally.telemetry),
        ("plan_messages", "Plans published.", tally.plans),
        ("connections", "Connections made to the broker.", tally.connections),
        ("unsent_messages", "Messages outdated before they could be sent, or too large for the broker.", unsent),
        ("tick_overruns", "Control cycles left out because an earlier one took too long.", tally.overruns),
    ):
        counter = CounterMetricFamily(f"zeroloop_station_{name}", text, labels=_LABELS)
        counter.add_metric(place, count)
        yield counter
    for name, text, label, counts in (
        ("setpoints", "Setpoints received, by what became of them.", "result", tally.setpoints),
        ("commands", "Commands received, by the result of their reply.", "result", tally.commands),
        ("malformed_messages", "Messages dropped because they break the contract.", "reason", tally.malformed),
        ("driver_errors", "Exchanges with the equipment that failed.", "kind", tally.driver_errors),
    ):
        counter = CounterMetricFamily(f"zeroloop_station_{name}", text, labels=[*_LABELS, label])
        for value, count in sorted(dict(counts).items()):
            counter.add_metric([*place, value], count)
        yield counter
    lag = SummaryMetricFamily("zeroloop_station_tick_lag_seconds", "How late control cycles began.", labels=_LABELS)
    lag.add_metric(place, count_value=tally.ticks, sum_value=tally.tick_lag_s)
    yield lag


class MetricsServer:
    """Serves one collector over HTTP within a `with` block; port 0 serves nothing."""

    def __init__(self, settings: MetricsSection, collector: Collector) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._running: tuple[WSGIServer, threading.Thread] | None = None

    def __enter__(self) -> Self:
        """Listen. A port that is taken costs the metrics and a log line; batteries are more important."""
        if self._settings.port == 0:
            return self
        try:
            self._running = start_http_server(self._settings.port, self._settings.host, registry=self._registry)
        except OSError as error:
            _log.error(
                "metrics_unavailable host=%s port=%d error=%r", self._settings.host, self._settings.port, str(error)
            )
            return self
        _log.info("metrics_served url=http://%s:%d/metrics", self._settings.host, self._settings.port)
        return self

    def __exit__(self, *exception: object) -> None:
        """Let the port go and end the thread."""
        running, self._running = self._running, None
        if running is None:
            return
        server, thread = running
        server.shutdown()
        server.server_close()
        thread.join()
