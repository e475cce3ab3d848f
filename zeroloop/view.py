"""Draws a hall: a live picture for a terminal, plain lines for everything else."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.messages import ChannelTelemetry, LoopBalance, Phase, Severity, WorkStatus
from zeroloop.figures import energy, plain, power, share, sparkline
from zeroloop.hall import Hall, mean_magnitude_w

_STALE_AFTER_PERIODS = 3.0
_PHASES = {
    Phase.STARTING: "yellow",
    Phase.BALANCING: "green",
    Phase.SATURATED: "red",
    Phase.FROZEN: "red",
    Phase.PAUSED: "yellow",
    Phase.STANDBY: "cyan",
}
_SEVERITIES = {Severity.INFO: "dim", Severity.WARNING: "yellow", Severity.ALARM: "bold red"}
_HEAD_LINES = 9
_EVENT_LINES = 4
_RECENT_S = 30
_SPARK_MARGIN = 38


class Picture:
    """The live picture; fits itself into the terminal that it is drawn on.

    Args:
        hall: what to draw; drawn as it is at that moment.
        now_s: the moment, monotonic.
        title: what stands in the frame.
        notes: lines below it.
    """

    def __init__(self, hall: Hall, now_s: float, *, title: str, notes: tuple[str, ...] = ()) -> None:
        self._hall = hall
        self._now_s = now_s
        self._title = title
        self._notes = notes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts; called by rich."""
        height = options.height if options.height is not None else console.height
        alarms = self._hall.alarms()
        below = min(len(alarms), _EVENT_LINES) + _EVENT_LINES + len(self._notes)
        rows = max(height - _HEAD_LINES - below - 4, 3)
        yield Panel(self._balance(options.max_width), title=self._title, title_align="left")
        yield _channels(self._hall, self._now_s, rows)
        yield Group(*self._alarms(alarms), *self._events(), *(Text(note, style="dim") for note in self._notes))

    def _balance(self, width: int) -> RenderableType:
        balance = self._hall.balance
        if balance is None:
            return Text("waiting for the equalizer …", style="yellow")
        span = max(width - _SPARK_MARGIN, 10)
        history = self._hall.recent(span)
        top = max((abs(item.without_w) for item in history), default=0.0)
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold")
        grid.add_column(justify="right")
        grid.add_column()
        with_w, without_w = ([item.with_w for item in history], [item.without_w for item in history])
        grid.add_row("without balancing", power(balance.load_power_w), Text(sparkline(without_w, span, top), "red"))
        grid.add_row("grid sees", power(balance.total_power_w), Text(sparkline(with_w, span, top), "green"))
        recent = self._hall.recent(_RECENT_S)
        now_w = mean_magnitude_w([item.with_w for item in recent])
        then_w = mean_magnitude_w([item.without_w for item in recent])
        residual = f"{plain(now_w)} of {plain(then_w)}, {share(now_w, then_w)}"
        state = Text.assemble((str(balance.phase), _PHASES[balance.phase]), _because(balance))
        account = balance.energy
        exchanged = account.import_wh + account.export_wh
        return Group(
            grid,
            Text(f"residual {residual} ({_RECENT_S} s)"),
            state,
            Text(
                f"equalization {power(balance.equalization_power_w)} on {balance.equalization_channels} channels, "
                f"{balance.setpoint_changes} changes; target {power(balance.target_power_w)}; "
                f"unknown {power(balance.unknown_power_w)}; short {power(balance.shortfall_w)}"
            ),
            Text(
                f"{balance.stations_online} stations, {balance.channels} channels ({balance.channels_stale} stale); "
                f"exchanged {energy(exchanged)}, without {energy(account.unbalanced_wh)}"
            ),
        )

    def _alarms(self, alarms: list[tuple[str, str, str]]) -> Iterator[Text]:
        for station, channel, text in alarms[:_EVENT_LINES]:
            yield Text(f"ALARM {station}/{channel} {text}", style="bold red", no_wrap=True, overflow="ellipsis")

    def _events(self) -> Iterator[Text]:
        for event in list(self._hall.events)[-_EVENT_LINES:]:
            style = _SEVERITIES[event.severity]
            yield Text(
                f"{clock(event.unix_time_s)} {event.source} {event.text}", style, no_wrap=True, overflow="ellipsis"
            )


def _because(balance: LoopBalance) -> str:
    decision = balance.last_decision
    last = "" if decision is None else f"; last change {clock(decision.unix_time_s)}: {decision.reason}"
    return last if balance.held_back is None else f"{last}; held back: {balance.held_back}"


def _channels(hall: Hall, now_s: float, rows: int) -> Table:
    table = Table(expand=True, pad_edge=False, box=None, header_style="bold")
    for name in ("channel", "status", "step"):
        table.add_column(name, no_wrap=True)
    for name in ("voltage", "current", "power", "charge", "temp."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("equalization", no_wrap=True)
    # Equalization channels first: they are what one watches.
    keys = sorted(hall.channels, key=lambda key: (hall.channels[key].telemetry.equalization is None, key))
    for key in keys[:rows]:
        telemetry = hall.channels[key].telemetry
        table.add_row(*_row(key, telemetry), style=_style(hall, key, telemetry, now_s))
    if len(keys) > rows:
        table.add_row(f"… {len(keys) - rows} more", style="dim")
    return table


def _row(key: tuple[str, str], telemetry: ChannelTelemetry) -> tuple[str, ...]:
    soc, temperature = telemetry.soc_ratio, telemetry.temperature_degc
    return (
        "/".join(key),
        str(telemetry.work_status),
        f"{telemetry.step_id} {telemetry.step_type}",
        f"{telemetry.voltage_v:.1f} V",
        f"{telemetry.current_a:+.1f} A",
        power(telemetry.power_w),
        "-" if soc is None else f"{100.0 * soc:.0f} %",
        "-" if temperature is None else f"{temperature:.0f} °C",
        _equalization(telemetry),
    )


def _equalization(telemetry: ChannelTelemetry) -> str:
    state = telemetry.equalization
    if state is None:
        return ""
    if state.last is None:
        return "waiting"
    reason = "" if state.last.reason is None else f" ({state.last.reason})"
    return f"{state.last.result}{reason} {power(state.applied_w)}"


def _style(hall: Hall, key: tuple[str, str], telemetry: ChannelTelemetry, now_s: float) -> str:
    age_s = hall.age_s(key, now_s)
    period_s = hall.announcement.telemetry_period_s if hall.announcement is not None else 1.0
    if telemetry.alarm is not None:
        return "bold red"
    if hall.is_offline(key[0]) or (age_s is not None and age_s > _STALE_AFTER_PERIODS * period_s):
        return "dim"
    if telemetry.equalization is not None:
        return "green"
    return "" if telemetry.work_status is WorkStatus.WORKING else "bright_black"


def clock(unix_time_s: float) -> str:
    """Return the time of day here."""
    return datetime.fromtimestamp(unix_time_s, UTC).astimezone().strftime("%H:%M:%S")


def balance_line(balance: LoopBalance) -> str:
    """Return the loop's state on one plain line."""
    return (
        f"{clock(balance.unix_time_s)} {balance.phase:<9} grid {power(balance.total_power_w):>10}  "
        f"without {power(balance.load_power_w):>10}  equalization {power(balance.equalization_power_w):>10}  "
        f"unknown {power(balance.unknown_power_w):>8}  channels {balance.channels} ({balance.channels_stale} stale)"
    )


def lines(hall: Hall) -> Iterator[str]:
    """Yield everything that is known, as plain lines."""
    if hall.balance is not None:
        silent = "" if hall.balance_s is not None else "  (the last that was heard; the equalizer is silent now)"
        yield balance_line(hall.balance) + silent
    for key in sorted(hall.channels):
        cells = _row(key, hall.channels[key].telemetry)
        widths = (20, 9, 12, 10, 10, 11, 6, 7, 0)
        offline = "offline" if hall.is_offline(key[0]) else ""
        yield " ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), offline]).rstrip()
    for station, channel, text in hall.alarms():
        yield f"alarm {station}/{channel} {text}"
