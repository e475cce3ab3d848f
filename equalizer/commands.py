"""Operators' commands to the loop: each is answered once, and done once."""

import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from pydantic import ValidationError

from equalizer.audit.clerk import nobody
from schemas.codec import MAX_PAYLOAD_BYTES, MalformedError, decode
from schemas.messages import LoopAction, LoopCommand, Reply, ReplyReason, ReplyResult

_LOG = logging.getLogger(__name__)

REMEMBERED_REPLIES = 1000
_LONGEST_LOGGED = 64
"""Of an operator's words, in the log and in events; the audit log has them whole."""


class Operated(Protocol):
    """What operators may do to the control."""

    def pause(self, by: str | None = None) -> str:
        """Set all equalization channels to 0 W and send nothing more; return what to tell the operator."""

    def resume(self, by: str | None = None) -> str:
        """Balance again; return what to tell the operator."""

    def set_target(self, target_power_w: float, by: str | None = None) -> str:
        """Steer to another total power; return what to tell the operator.

        Raises:
            ValueError: no hall can have such a power; the text says what is allowed.
        """

    def inactive(self) -> str | None:
        """Return why commands cannot be obeyed now; None where they can."""

    def is_left_to_another(self) -> bool:
        """Tell whether another server is in charge of this loop: it answers, and a command gets but one reply."""


class CommandDesk:
    """Reads commands and returns the replies.

    Args:
        operated: what the commands act on.
        malformed: told of a command that breaks the contract.
        utc: seconds, for the replies' labels.
    """

    def __init__(
        self, operated: Operated, *, malformed: Callable[[MalformedError], None], utc: Callable[[], float]
    ) -> None:
        self._operated = operated
        self._malformed = malformed
        self._utc = utc
        self._replies: OrderedDict[str, Reply] = OrderedDict()
        self.clerk = nobody()
        """Writes down who asked what, and the reply."""

    def answer(self, payload: bytes) -> Reply | None:
        """Do what a command asks, once, and return its reply; None where nobody could tell whose it is."""
        try:
            command = decode(LoopCommand, payload)
        except MalformedError as error:
            self._malformed(error)
            self.clerk.malformed_command(str(error))
            return None if self._operated.is_left_to_another() else self._complaint(payload, error)
        if self._operated.is_left_to_another():
            return None
        known = self._replies.get(command.id)
        if known is not None:
            return known
        by = None if command.by is None else command.by[:_LONGEST_LOGGED]
        reply = self._obey(command, by)
        words = command.id[:_LONGEST_LOGGED], command.action[:_LONGEST_LOGGED]
        _LOG.info("command id=%r action=%r result=%s by=%r", *words, reply.result, by)
        self.clerk.command(command, reply)
        return self._remembered(reply)

    def _remembered(self, reply: Reply) -> Reply:
        self._replies[reply.id] = reply
        if len(self._replies) > REMEMBERED_REPLIES:
            self._replies.popitem(last=False)
        return reply

    def _obey(self, command: LoopCommand, by: str | None) -> Reply:
        if command.action not in list(LoopAction):
            known = ", ".join(LoopAction)
            return self._reply(command.id, command.action, f"known are {known}", ReplyReason.UNKNOWN_ACTION)
        why = self._operated.inactive()
        if why is not None:
            return self._reply(command.id, command.action, why, ReplyReason.NOT_ACTIVE)
        match LoopAction(command.action):
            case LoopAction.PAUSE:
                text = self._operated.pause(by)
            case LoopAction.RESUME:
                text = self._operated.resume(by)
            case LoopAction.SET_TARGET:
                if command.target_power_w is None:
                    text = "set_target needs target_power_w"
                    return self._reply(command.id, command.action, text, ReplyReason.MALFORMED)
                try:
                    text = self._operated.set_target(command.target_power_w, by)
                except ValueError as error:
                    return self._reply(command.id, command.action, str(error), ReplyReason.MALFORMED)
        return self._reply(command.id, command.action, text)

    def _complaint(self, payload: bytes, error: MalformedError) -> Reply | None:
        """Answer a command that breaks the contract but says who asks."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            return None
        try:
            asked = json.loads(payload)
            action = asked.get("action")
            named = action if isinstance(action, str) else ""
            reply = self._reply(asked["id"], named, str(error), ReplyReason.MALFORMED)
        except (ValueError, RecursionError, AttributeError, KeyError, ValidationError):
            return None
        known = self._replies.get(reply.id)
        return self._remembered(reply) if known is None else known

    def _reply(self, command_id: str, action: str, text: str, reason: ReplyReason | None = None) -> Reply:
        return Reply(
            id=command_id,
            action=action,
            result=ReplyResult.ACCEPTED if reason is None else ReplyResult.REJECTED,
            reason=reason,
            text=text,
            unix_time_s=self._utc(),
        )
