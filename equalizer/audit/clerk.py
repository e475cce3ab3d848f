"""What goes into the audit log: changes of setpoints and what became of them, commands, refusals, takeovers."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from equalizer.control.image import ChannelKey
from equalizer.control.state import Order
from schemas.codec import decode
from schemas.messages import ChannelCommand, LoopCommand, Reply, SetpointEcho, SetpointResult
from schemas.topics import ChannelTopic

K = TypeVar("K")
V = TypeVar("V")

_MOST_PENDING = 10_000
_BURST = 200.0
_PER_S = 20.0
"""What others can cause is bounded: a liar must not push the truth out of a log of limited size."""
_LONGEST_TEXT = 200


class Record(Protocol):
    """Puts one entry aside."""

    def __call__(self, kind: str, **facts: object) -> None:
        """Never blocks, never raises."""


class Clerk:
    """Writes down what happens.

    Args:
        record: puts an entry aside.
        server: this server's name.
        clock: monotonic seconds.
    """

    def __init__(self, record: Record, *, server: str, clock: Callable[[], float]) -> None:
        self._record = record
        self._server = server
        self._clock = clock
        self._asked: OrderedDict[ChannelKey, tuple[int, int]] = OrderedDict()
        self._commands: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._announced: tuple[str, int, str] | None = None
        self._tokens = _BURST
        self._refilled_s = clock()
        self._passed_over = 0

    # ── what this server does ─────────────────────────────────────────────────────────────────────────────────────

    def setpoint(self, order: Order, epoch: int, seq: int) -> None:
        """Note a change that was sent; refreshes are none."""
        if order.kind != "change":
            return
        _remember(self._asked, (order.station, order.channel), (epoch, seq))
        self._record(
            "setpoint",
            who=self._server,
            epoch=epoch,
            setpoint_seq=seq,
            station=order.station,
            channel=order.channel,
            basis={"boot_id": order.basis.boot_id, "seq": order.basis.seq},
            steps=[[round(step.after_s, 3), round(step.power_w, 1)] for step in order.steps],
            reason=order.reason,
        )

    def announced(self, status: str, epoch: int, phase: str) -> None:
        """Note what this server says of itself, where that is new."""
        if (status, epoch, phase) != self._announced:
            self._announced = (status, epoch, phase)
            self._record("server", who=self._server, epoch=epoch, status=status, phase=phase)

    def takeover(self, epoch: int) -> None:
        """Note that this server takes charge."""
        self._record("takeover", who=self._server, epoch=epoch)

    def event(self, code: str, text: str, severity: str) -> None:
        """Note what this server tells of itself: that it stepped down, and why; what an operator changed."""
        self._record("event", who=self._server, code=code, severity=severity, text=text[:_LONGEST_TEXT])

    # ── what is asked of it, and what others say ──────────────────────────────────────────────────────────────────

    def command(self, command: LoopCommand, reply: Reply) -> None:
        """Note an operator's command to the loop, and the reply."""
        asked = {} if command.target_power_w is None else {"target_power_w": command.target_power_w}
        self._by_others("command", **_asked(command), **asked, **_of(reply))

    def malformed_command(self, text: str) -> None:
        """Note a command that breaks the contract."""
        self._by_others("command", who=None, result="rejected", reason="malformed", text=text[:_LONGEST_TEXT])

    def channel_said(self, station: str, channel: str, leaf: ChannelTopic, payload: bytes) -> None:
        """Note an operator's command to a station, and the station's reply to it; other replies are nobody's.

        Raises:
            MalformedError: the payload breaks the contract; the station counts it too, and answers it.
        """
        if leaf is ChannelTopic.COMMAND:
            command = decode(ChannelCommand, payload)
            _remember(self._commands, (station, channel, command.id), None)
            self._by_others("channel_command", **_asked(command), station=station, channel=channel)
        else:
            reply = decode(Reply, payload)
            if self._commands.pop((station, channel, reply.id), self) is self:
                return
            where = {"station": station, "channel": channel, "id": _short(reply.id)}
            self._by_others("channel_reply", who=station, **where, **_of(reply))

    def echo(self, station: str, channel: str, echo: SetpointEcho) -> None:
        """Note what became of a change; and every refusal and expiry, whoever's it is."""
        asked = self._asked.get((station, channel))
        bad = echo.result in (SetpointResult.REJECTED, SetpointResult.EXPIRED)
        answers = asked is not None and (echo.epoch, echo.seq) >= asked and echo.server == self._server
        if answers:
            del self._asked[station, channel]
        if not bad and not answers:
            return
        self._by_others(
            "result",
            who=echo.server,
            epoch=echo.epoch,
            setpoint_seq=echo.seq,
            station=station,
            channel=channel,
            result=echo.result.value,
            reason=None if echo.reason is None else echo.reason.value,
        )

    def _by_others(self, kind: str, **facts: object) -> None:
        now_s = self._clock()
        self._tokens = min(_BURST, self._tokens + _PER_S * (now_s - self._refilled_s))
        self._refilled_s = now_s
        if self._tokens < 1.0:
            self._passed_over += 1
            return
        if self._passed_over:
            self._record("passed_over", entries=self._passed_over, why="more than 20 a second")
            self._passed_over = 0
        self._tokens -= 1.0
        self._record(kind, **facts)


def nobody() -> Clerk:
    """Return a clerk that writes nothing down."""
    return Clerk(_forget, server="", clock=lambda: 0.0)


def _forget(kind: str, **facts: object) -> None:
    del kind, facts


def _asked(command: LoopCommand | ChannelCommand) -> Mapping[str, object]:
    return {"who": _short(command.by), "id": _short(command.id), "action": _short(command.action)}


def _of(reply: Reply) -> Mapping[str, object]:
    return {"result": reply.result.value, "reason": None if reply.reason is None else reply.reason.value}


def _short(text: str | None) -> str | None:
    return None if text is None else text[:_LONGEST_TEXT]


def _remember(pending: OrderedDict[K, V], key: K, value: V) -> None:
    pending[key] = value
    if len(pending) > _MOST_PENDING:
        pending.popitem(last=False)
